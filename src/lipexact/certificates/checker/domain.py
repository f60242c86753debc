"""The domain, in exact arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from lipexact.certificates.checker.dyadic import Dyadic, zeros
from lipexact.certificates.checker.reading import numbers
from lipexact.errors import CertificateError


class ExactDomain:
    """X: {x : lower <= x <= upper, A x <= b, |x - c|_1 <= r for each ball}."""

    def __init__(self, data: dict[str, Any], dim: int) -> None:
        self.dim = dim
        self.lower = Dyadic.of(numbers(data["lower"], (dim,))[None, :])
        self.upper = Dyadic.of(numbers(data["upper"], (dim,))[None, :])
        self.rows = Dyadic.of(numbers(data["rows"], (-1, dim)))
        self.limits = Dyadic.of(numbers(data["limits"], (-1,)))
        if self.rows.shape[0] != self.limits.shape[0]:
            raise CertificateError("the domain has another number of rows than of limits")
        self.limits = self.limits.reshaped(1, -1)
        self.balls = [
            (Dyadic.of(numbers(ball["center"], (dim,))[None, :]), ball["radius"])
            for ball in data["balls"]
        ]
        self._radii = Dyadic.of(numbers([radius for _, radius in self.balls], (-1,))[None, :])
        clipped = [-(-centre.maximum(self.lower)).maximum(-self.upper) for centre, _ in self.balls]
        self._kinks = [self.lower, self.upper, *clipped]

    def support_upper(
        self, forms: Dyadic, mu: Dyadic | None = None, prices: Dyadic | None = None
    ) -> Dyadic:
        """Bound the maxima of linear forms w on X, by weak duality.

        For multipliers mu, p >= 0, w x <= (w - mu A) x + mu b + sum p (r - |x - c|_1) on X, as what
        is added is at least 0 there. The right side is maximal over the box at an end or a kink of
        each coordinate.

        For x_1 + x_2 on the box [0, 1]^2 with x_1 + x_2 <= 1, mu = 1 gives 0 x + 1: the bound 1,
        where the box alone gives 2.

        Parameters
        ----------
        forms
            The w as rows, shape (k, d).
        mu, prices
            The multipliers of the rows A and of the balls, shapes (k, rows) and (k, balls). None
            for 0, and for good prices.
        """
        constant = zeros(forms.shape[0])
        if mu is not None and mu.signs().any():
            forms = forms - mu @ self.rows
            constant = (mu * self.limits).sum(1)
        if prices is None:
            prices = self._prices(forms)
        best: Dyadic | None = None
        for x in self._kinks:
            value = forms * x
            for k, (centre, _) in enumerate(self.balls):
                value = value - prices[:, k : k + 1] * abs(x - centre)
            best = value if best is None else best.maximum(value)
        assert best is not None
        return best.sum(1) + constant + (prices * self._radii).sum(1)

    def _prices(self, forms: Dyadic) -> Dyadic:
        """Return good multipliers: of a single ball, the price at which its radius is used up."""
        prices = np.zeros((forms.shape[0], len(self.balls)))
        if len(self.balls) == 1:
            centre, radius = self.balls[0]
            size = np.abs(forms.floats())
            towards = np.where(forms.signs() > 0, self.upper.floats(), self.lower.floats())
            order = np.argsort(-size, axis=1)
            used = np.cumsum(
                np.take_along_axis(np.abs(towards - centre.floats()), order, axis=1), axis=1
            )
            sizes = np.take_along_axis(size, order, axis=1)
            last = (used < radius).sum(axis=1)
            ends = np.minimum(last, self.dim - 1)
            prices[:, 0] = np.where(last < self.dim, sizes[np.arange(len(ends)), ends], 0.0)
        return Dyadic.of(np.where(np.isfinite(prices), prices, 0.0))

    def inside(self, point: Dyadic, over: int) -> bool:
        """Return True if a point, divided by `over`, lies in the interior."""
        times = Dyadic(over)
        slacks = [point - self.lower * times, self.upper * times - point]
        slacks.append(self.limits * times - point @ self.rows.transposed())
        for k, (centre, _) in enumerate(self.balls):
            slacks.append(self._radii[:, k] * times - abs(point - centre * times).sum(1))
        return all((slack.signs() > 0).all() for slack in slacks)


def lifted_box(dim: int) -> dict[str, Any]:
    """Return the box -1 <= z <= 1, 0 <= t <= 1 of R^(dim + 1), as in the file."""
    return {
        "lower": [-1.0] * dim + [0.0],
        "upper": [1.0] * (dim + 1),
        "rows": [],
        "limits": [],
        "balls": [],
    }
