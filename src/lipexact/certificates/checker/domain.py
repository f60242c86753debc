"""The domain, as the checker sees it."""

from __future__ import annotations

from typing import Any

import numpy as np

from lipexact.certificates.checker.exact import Dyadic, numbers, zeros
from lipexact.errors import CertificateError


class ExactDomain:
    """X: {x : lower <= x <= upper, A x <= b, |x - c|_1 <= r for each ball}."""

    def __init__(self, data: dict[str, Any], dim: int) -> None:
        self.lower, self.upper = (
            Dyadic.of(numbers(data[side], (dim,))[None, :]) for side in ("lower", "upper")
        )
        self.rows, self.limits = (
            Dyadic.of(numbers(data["rows"], (-1, dim))),
            Dyadic.of(numbers(data["limits"], (-1,))),
        )
        if self.rows.shape[0] != self.limits.shape[0]:
            raise CertificateError("the domain has another number of rows than of limits")
        self.limits = self.limits.reshaped(1, -1)
        self.balls = [
            (Dyadic.of(numbers(ball["center"], (dim,))[None, :]), ball["radius"])
            for ball in data["balls"]
        ]
        self._radii = Dyadic.of(numbers([radius for _, radius in self.balls], (-1,))[None, :])
        self.dim = dim
        clipped = [-(-centre.maximum(self.lower)).maximum(-self.upper) for centre, _ in self.balls]
        self._corners = [self.lower, self.upper, *clipped]

    def support_upper(
        self, forms: Dyadic, mu: Dyadic | None = None, prices: Dyadic | None = None
    ) -> Dyadic:
        """At least the maxima on X of forms w, by weak duality: w x <= (w - mu A) x + mu b + sum p (r - |x - c|_1)."""
        constant = zeros(forms.shape[0])
        if mu is not None and mu.signs().any():
            forms, constant = forms - mu @ self.rows, (mu * self.limits).sum(1)
        if prices is None:
            prices = self._prices(forms)
        best: Dyadic | None = None
        for x in self._corners:  # of a concave function of each coordinate, whose kinks are these
            value = forms * x
            for k, (centre, _) in enumerate(self.balls):
                value = value - prices[:, k : k + 1] * abs(x - centre)
            best = value if best is None else best.maximum(value)
        assert best is not None
        return best.sum(1) + constant + (prices * self._radii).sum(1)

    def _prices(self, forms: Dyadic) -> Dyadic:
        """Good multipliers of the balls: where there is one, the price at which its radius is used up."""
        prices = np.zeros((forms.shape[0], len(self.balls)))
        if len(self.balls) == 1:
            centre, radius = self.balls[0]
            size, towards = (
                np.abs(forms.floats()),
                np.where(forms.signs() > 0, self.upper.floats(), self.lower.floats()),
            )
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
        """Whether a point, which is divided by a number, lies in the interior."""
        times = Dyadic(over)
        slacks = [point - self.lower * times, self.upper * times - point]
        slacks.append(self.limits * times - point @ self.rows.transposed())
        for k, (centre, _) in enumerate(self.balls):
            slacks.append(self._radii[:, k] * times - abs(point - centre * times).sum(1))
        return all((slack.signs() > 0).all() for slack in slacks)


def lifted_box(dim: int) -> dict[str, Any]:
    """-1 <= z <= 1, 0 <= t <= 1."""
    return {
        "lower": [-1.0] * dim + [0.0],
        "upper": [1.0] * (dim + 1),
        "rows": [],
        "limits": [],
        "balls": [],
    }
