"""The bodies that functionals and directions are taken from, as the checker sees them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from lipexact.certificates.checker.exact import Dyadic, number, numbers, root
from lipexact.errors import CertificateError

# Vertices, up to sign: integer multiples of them as rows, and the multiples.
Vertices: TypeAlias = tuple[Dyadic, list[int]]

_FEW, _MANY = (
    64,
    2**12,
)  # vertices that are held one by one, where gates are open, and where none is
_BASES = 2**14  # of half-spaces that may be a vertex
_SHORT = 60  # binary digits of the rows of large products
_MARGIN, _PLACES = 1e-12, 44


class RefutedError(Exception):
    """A step does not prove what it should."""


class ExactSymmetricSet:
    """{D z : z in B} for a diagonal D > 0 and a cube, cross-polytope or Euclidean ball B; or a symmetric polytope.

    Parameters
    ----------
    data
        As in the file: `kind`, and `factors` (the diagonal), `points` of which the body is the hull (up to sign), or
        `rows` h of its half-spaces -1 <= h z <= 1.
    dim
        n.
    """

    def __init__(self, data: dict[str, Any], dim: int) -> None:
        self.kind, self.dim = data["kind"], dim
        if self.kind in ("cube", "cross", "ball"):
            self.factors = numbers(data["factors"], (dim,))
            if not (self.factors > 0).all():
                raise CertificateError("the factors of a body must be positive")
            self._scale = Dyadic.of(self.factors[None, :])
        elif self.kind == "hull":
            self._points = Dyadic.of(numbers(data["points"], (-1, dim)))
            self._over = [1] * self._points.shape[0]
        elif self.kind == "halfspaces":
            self._rows = numbers(data["rows"], (-1, dim))
            self._points, self._over = _vertices(self._rows)
        else:
            raise CertificateError(f"{self.kind!r} is no kind of body")

    def units(self) -> Dyadic:
        """The unit vectors, as rows."""
        return Dyadic(np.eye(self.dim, dtype=int))

    def vertices(self, *, few: bool) -> Vertices | None:
        """The vertices; None where there are too many."""
        most = _FEW if few else _MANY
        if self.kind == "cross":
            return self.units() * self._scale, [1] * self.dim
        if self.kind == "cube" and 2 ** min(self.dim - 1, 64) <= most:
            signs = [(1, *rest) for rest in itertools.product((1, -1), repeat=self.dim - 1)]
            return Dyadic(np.array(signs)) * self._scale, [1] * len(signs)
        return None if self.kind in ("cube", "ball") else (self._points, self._over)

    def zonotope_radius(self, rows: Dyadic, multipliers: Sequence[Any] | None = None) -> Fraction:
        """At least the maximum of sum_i |m_i z| over z in the body, and over s in [-1, 1]^k that of sum_i s_i m_i z.

        With multipliers D, and E for a cube, by a quadratic form in signs instead: for rows M, s^T M M^T s <= s^T D s
        if D - M M^T is positive semidefinite, and 2 s^T M t <= s^T D s + t^T E^-1 t if D - M E M^T is.
        """
        if multipliers is None:
            return self._triangle(rows)
        if self.kind not in ("cube", "ball"):
            raise RefutedError(f"a body of kind {self.kind} takes no multipliers")
        exact = rows[np.flatnonzero(rows.signs().any(axis=1))] * self._scale
        rows = exact.rounded(_SHORT)
        off = sum(abs(exact - rows).sum(1).fractions(), Fraction(0))
        own, *others = (
            numbers(each, (size,)) for each, size in zip(multipliers, rows.shape, strict=False)
        )
        if (
            self.kind == "ball"
            and not others
            and _semidefinite(_diagonal(own) - rows @ rows.transposed())
        ):
            return root(sum(map(Fraction, own.tolist()), Fraction(0))) + off
        if self.kind == "cube" and len(others) == 1 and (others[0] > 0).all():
            weighted = rows * Dyadic.of(others[0][None, :])
            total = [
                *map(Fraction, own.tolist()),
                *(1 / Fraction(each) for each in others[0].tolist()),
            ]
            if _semidefinite(_diagonal(own) - weighted @ rows.transposed()):
                return sum(total, Fraction(0)) / 2 + off
        raise RefutedError("its multipliers do not bound the norm")

    def _triangle(self, rows: Dyadic) -> Fraction:
        """Of the triangle inequality; of one row, its norm."""
        if self.kind == "ball":
            squares = (rows * self._scale) * (rows * self._scale)
            return sum(map(root, squares.sum(1).fractions()), Fraction(0))
        if self.kind == "cube":
            return sum(abs(rows * self._scale).sum(1).fractions(), Fraction(0))
        if self.kind == "cross":
            return max(abs(rows * self._scale).sum(0).fractions())
        totals = abs(rows @ self._points.transposed()).sum(0).fractions()
        return max(total / q for total, q in zip(totals, self._over, strict=True))

    def spectral(
        self, rows: Dyadic, free: ExactSymmetricSet, multipliers: Sequence[Any] | None
    ) -> Fraction:
        """At least the norm of a matrix by its rows, from this ball to another: t, where t^2 - M M^T is definite."""
        scaled = rows * self._scale.transposed() * free._scale
        (t,) = [0.0] if multipliers is None else multipliers
        square = number(t) ** 2
        top = Dyadic.of(np.full((1, rows.shape[0]), float(t)))
        if not scaled.signs().any() or _semidefinite(
            _spread(top * top) - scaled @ scaled.transposed()
        ):
            return root(square)
        raise RefutedError("its multiplier does not bound the norm")

    def support_abs(self, sizes: list[Fraction]) -> Fraction:
        """The maximum of sum_j |z_j| n_j over z in the body, for n_j >= 0."""
        terms = [Fraction(f) * n for f, n in zip(self.factors.tolist(), sizes, strict=True)]
        return (
            root(sum((t * t for t in terms), Fraction(0)))
            if self.kind == "ball"
            else sum(terms, Fraction(0))
        )

    def gauge(self, point: Dyadic) -> Fraction:
        """At least the smallest factor by which the body must be stretched to hold a point."""
        if self.kind == "hull":
            away = abs(self._points - point), abs(self._points + point)
            if not any((each.sum(1).signs() == 0).any() for each in away):
                raise RefutedError(
                    "a functional or direction of the witness is no vertex of its body"
                )
            return Fraction(1)
        if self.kind == "halfspaces":
            return max(abs(point @ Dyadic.of(self._rows.T)).fractions())
        parts = [
            each / Fraction(f)
            for each, f in zip(abs(point).fractions(), self.factors.tolist(), strict=True)
        ]
        if self.kind == "ball":
            return root(sum((part * part for part in parts), Fraction(0)))
        return max(parts) if self.kind == "cube" else sum(parts, Fraction(0))


def _diagonal(entries: np.ndarray[Any, Any]) -> Dyadic:
    return _spread(Dyadic.of(entries[None, :]))


def _spread(entries: Dyadic) -> Dyadic:
    """A diagonal matrix."""
    return Dyadic(np.eye(entries.shape[1], dtype=int) * entries.integers, entries.exponent)


def _semidefinite(matrix: Dyadic) -> bool:
    """Whether a symmetric matrix is shown to be positive semidefinite, as L L^T and what is diagonally dominant."""
    n = matrix.shape[0]
    diagonal = np.diagonal(matrix.integers)
    if (Dyadic(diagonal).signs() <= 0).any():
        return False
    powers = np.array([each.bit_length() // 2 for each in diagonal.tolist()])
    most = int(powers.max())
    shifts = np.array([1 << int(most - power) for power in powers], dtype=object)
    scaled = matrix * Dyadic(
        shifts[:, None] * shifts[None, :], -2 * most - matrix.exponent
    )  # a diagonal near 1
    try:
        guess = np.linalg.cholesky(scaled.floats() - n * _MARGIN * np.eye(n))
        factor = Dyadic.of(np.round(np.ldexp(guess, _PLACES)))
    except np.linalg.LinAlgError:
        return False
    square = factor @ factor.transposed()
    rest = scaled - Dyadic(square.integers, square.exponent - 2 * _PLACES)
    own = Dyadic(np.diagonal(rest.integers), rest.exponent)
    return not ((own + own - abs(rest).sum(1)).signs() < 0).any()


def _vertices(rows: np.ndarray[Any, Any]) -> Vertices:
    """All vertices, up to sign, of a bounded {z : |h z| <= 1 for all rows h}, by trying every basis."""
    count, n = rows.shape
    if math.comb(count, n) * 2 ** (n - 1) > _BASES:
        raise CertificateError("a body of half-spaces has too many vertices to be checked")
    exact = [[Fraction(entry) for entry in row] for row in rows.tolist()]
    found: dict[tuple[int, ...], int] = {}
    for basis in itertools.combinations(exact, n):
        for rest in itertools.product((1, -1), repeat=n - 1):
            point = _solved(basis, (1, *rest))
            if point is None:
                break
            if all(
                -1 <= sum((a * x for a, x in zip(row, point, strict=True)), Fraction(0)) <= 1
                for row in exact
            ):
                q = math.lcm(*(each.denominator for each in point))
                found[tuple(int(each * q) for each in point)] = q
    if not found:
        raise CertificateError("a body of half-spaces has no vertices")
    return Dyadic(np.array(list(found), dtype=object)), list(found.values())


def _solved(rows: Sequence[Sequence[Fraction]], right: Sequence[int]) -> list[Fraction] | None:
    """The solution of a square system; None where it is singular."""
    table = [[*row, Fraction(value)] for row, value in zip(rows, right, strict=True)]
    for k in range(len(table)):
        pivot = next((i for i in range(k, len(table)) if table[i][k]), None)
        if pivot is None:
            return None
        table[k], table[pivot] = table[pivot], table[k]
        table[k] = [entry / table[k][k] for entry in table[k]]
        for i in range(len(table)):
            if i != k and table[i][k]:
                table[i] = [a - table[i][k] * b for a, b in zip(table[i], table[k], strict=True)]
    return [row[-1] for row in table]
