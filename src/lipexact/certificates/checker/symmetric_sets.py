"""The symmetric sets over which functionals and directions range, in exact arithmetic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from lipexact.certificates.checker.dyadic import Dyadic, root
from lipexact.certificates.checker.reading import number, numbers
from lipexact.certificates.checker.refutation import RefutedError
from lipexact.errors import CertificateError

# Vertices, up to sign: integer multiples of them as rows, and the multiples.
Vertices: TypeAlias = tuple[Dyadic, list[int]]

# Vertices that are held one by one: where gates are open, each needs a zonotope of its own.
_MAX_OPEN_VERTICES = 64
_MAX_FIXED_VERTICES = 2**12
# Systems of n half-spaces that are tried for vertices.
_MAX_BASES = 2**14
# Binary digits to which rows are rounded, so that large products are short.
_ROW_BITS = 60
# Part of the identity that is left to diagonal dominance, for each row, and the binary places of
# the guessed Cholesky factor: its rounding must be less than that part.
_DOMINANCE_MARGIN = 1e-12
_FACTOR_PLACES = 44


class ExactSymmetricSet:
    """{D z : z in B} for a diagonal D > 0 and a unit ball B; or a symmetric polytope.

    B is a cube, a cross-polytope or a Euclidean ball.

    Parameters
    ----------
    data
        As in the file: `kind`, and `factors` (the diagonal of D), or `points` of which the set is
        the hull (up to sign), or `rows` h of its half-spaces -1 <= h z <= 1.
    dim
        The dimension n.

    Raises
    ------
    CertificateError
        If it is malformed, or has too many vertices to be checked.
    """

    def __init__(self, data: dict[str, Any], dim: int) -> None:
        self.kind = data["kind"]
        self.dim = dim
        if self.kind in ("cube", "cross", "ball"):
            self.factors = numbers(data["factors"], (dim,))
            if not (self.factors > 0).all():
                raise CertificateError("the factors of a symmetric set must be positive")
            self._scale = Dyadic.of(self.factors[None, :])
        elif self.kind == "hull":
            self._points = Dyadic.of(numbers(data["points"], (-1, dim)))
            self._denominators = [1] * self._points.shape[0]
        elif self.kind == "halfspaces":
            self._rows = numbers(data["rows"], (-1, dim))
            self._points, self._denominators = _vertices(self._rows)
        else:
            raise CertificateError(f"{self.kind!r} is no kind of symmetric set")

    def units(self) -> Dyadic:
        """Return the unit vectors, as rows."""
        return Dyadic(np.eye(self.dim, dtype=int))

    def vertices(self, *, few: bool) -> Vertices | None:
        """Return the vertices up to sign; None if there are too many, fewer allowed if `few`."""
        most = _MAX_OPEN_VERTICES if few else _MAX_FIXED_VERTICES
        if self.kind == "cross":
            return self.units() * self._scale, [1] * self.dim
        if self.kind == "cube" and 2 ** min(self.dim - 1, 64) <= most:
            signs = [(1, *rest) for rest in itertools.product((1, -1), repeat=self.dim - 1)]
            return Dyadic(np.array(signs)) * self._scale, [1] * len(signs)
        return None if self.kind in ("cube", "ball") else (self._points, self._denominators)

    def zonotope_radius(self, rows: Dyadic, multipliers: Sequence[Any] | None = None) -> Fraction:
        """Bound max sum_i |m_i z| over z in the set, which is the maximum of sum_i s_i m_i z.

        Here m_i are the rows of M, and s_i in [-1, 1] are free signs. With multipliers D, and E for
        a cube, the bound is by a quadratic form in signs: s^T M M^T s <= s^T D s if D - M M^T is
        positive semidefinite, and 2 s^T M t <= s^T D s + t^T E^-1 t if D - M E M^T is. Without
        them it is by the triangle inequality.

        Parameters
        ----------
        rows
            M, of shape (k, n).
        multipliers
            For a ball `[D]`, for a cube `[D, E]`, their diagonals as in the file; or None.

        Raises
        ------
        RefutedError
            If the multipliers do not bound the maximum.
        """
        if multipliers is None:
            return self._triangle(rows)
        if self.kind not in ("cube", "ball"):
            raise RefutedError(f"a symmetric set of kind {self.kind} takes no multipliers")
        exact = rows[np.flatnonzero(rows.signs().any(axis=1))] * self._scale
        rows = exact.rounded(_ROW_BITS)
        rounded_off = sum(abs(exact - rows).sum(1).fractions(), Fraction(0))
        own, *others = (
            numbers(each, (size,)) for each, size in zip(multipliers, rows.shape, strict=False)
        )
        if (
            self.kind == "ball"
            and not others
            and positive_semidefinite(_diagonal(own) - rows @ rows.transposed())
        ):
            return root(sum(map(Fraction, own.tolist()), Fraction(0))) + rounded_off
        if self.kind == "cube" and len(others) == 1 and (others[0] > 0).all():
            weighted = rows * Dyadic.of(others[0][None, :])
            total = [
                *map(Fraction, own.tolist()),
                *(1 / Fraction(each) for each in others[0].tolist()),
            ]
            if positive_semidefinite(_diagonal(own) - weighted @ rows.transposed()):
                return sum(total, Fraction(0)) / 2 + rounded_off
        raise RefutedError("its multipliers do not bound the norm")

    def _triangle(self, rows: Dyadic) -> Fraction:
        """Bound max sum_i |m_i z| by the triangle inequality; for one row it is the norm itself."""
        if self.kind == "ball":
            squares = (rows * self._scale) * (rows * self._scale)
            return sum(map(root, squares.sum(1).fractions()), Fraction(0))
        if self.kind == "cube":
            return sum(abs(rows * self._scale).sum(1).fractions(), Fraction(0))
        if self.kind == "cross":
            return max(abs(rows * self._scale).sum(0).fractions())
        totals = abs(rows @ self._points.transposed()).sum(0).fractions()
        return max(total / q for total, q in zip(totals, self._denominators, strict=True))

    def spectral(
        self, rows: Dyadic, free: ExactSymmetricSet, multipliers: Sequence[Any] | None
    ) -> Fraction:
        """Bound the norm of a matrix M between this ball and another by t.

        It holds if t^2 - M M^T is positive semidefinite, where M is scaled to unit balls.

        Raises
        ------
        RefutedError
            If the multiplier t, the only one in the list, does not bound the norm.
        """
        scaled = rows * self._scale.transposed() * free._scale
        (t,) = [0.0] if multipliers is None else multipliers
        square = number(t) ** 2
        top = Dyadic.of(np.full((1, rows.shape[0]), float(t)))
        if not scaled.signs().any() or positive_semidefinite(
            _spread(top * top) - scaled @ scaled.transposed()
        ):
            return root(square)
        raise RefutedError("its multiplier does not bound the norm")

    def support_abs(self, sizes: list[Fraction]) -> Fraction:
        """Return the maximum of sum_j |z_j| n_j over z in the set, for n_j >= 0."""
        terms = [Fraction(f) * n for f, n in zip(self.factors.tolist(), sizes, strict=True)]
        return (
            root(sum((t * t for t in terms), Fraction(0)))
            if self.kind == "ball"
            else sum(terms, Fraction(0))
        )

    def gauge(self, point: Dyadic) -> Fraction:
        """Bound the smallest factor by which the set must be stretched to hold a point.

        Raises
        ------
        RefutedError
            If the set is a hull of points, and the point none of these or their negatives.
        """
        if self.kind == "hull":
            away = abs(self._points - point), abs(self._points + point)
            if not any((each.sum(1).signs() == 0).any() for each in away):
                raise RefutedError(
                    "a functional or direction of the witness is no vertex of its set"
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
    """Return a diagonal matrix of floats."""
    return _spread(Dyadic.of(entries[None, :]))


def _spread(entries: Dyadic) -> Dyadic:
    """Return a diagonal matrix of the entries of one row."""
    return Dyadic(np.eye(entries.shape[1], dtype=int) * entries.integers, entries.exponent)


def positive_semidefinite(matrix: Dyadic) -> bool:
    """Prove that a symmetric matrix is positive semidefinite; False if that is not proven.

    The matrix P is scaled by powers of two to a diagonal near 1. A Cholesky factor of P - e I in
    floats, rounded to multiples of 2^-44, is a guess R. If in P - R R^T, computed exactly, each
    diagonal entry is at least the sum of the absolute values of the others in its row, P is the sum
    of two positive semidefinite matrices (Gershgorin), whatever R is.

    For P = [[1, 1/2], [1/2, 1]] and the guess R = [[0.9, 0], [0.5, 0.8]] it would be
    P - R R^T = [[0.19, 0.05], [0.05, 0.11]]: 0.19 >= 0.05 and 0.11 >= 0.05 prove it.
    """
    n = matrix.shape[0]
    diagonal = np.diagonal(matrix.integers)
    if (Dyadic(diagonal).signs() <= 0).any():
        return False
    powers = np.array([each.bit_length() // 2 for each in diagonal.tolist()])
    most = int(powers.max())
    shifts = np.array([1 << int(most - power) for power in powers], dtype=object)
    scale = Dyadic(shifts[:, None] * shifts[None, :], -2 * most - matrix.exponent)
    scaled = matrix * scale  # its diagonal is near 1
    try:
        guess = np.linalg.cholesky(scaled.floats() - n * _DOMINANCE_MARGIN * np.eye(n))
        factor = Dyadic.of(np.round(np.ldexp(guess, _FACTOR_PLACES)))
    except np.linalg.LinAlgError:
        return False
    square = factor @ factor.transposed()
    rest = scaled - Dyadic(square.integers, square.exponent - 2 * _FACTOR_PLACES)
    own = Dyadic(np.diagonal(rest.integers), rest.exponent)
    return not ((own + own - abs(rest).sum(1)).signs() < 0).any()


def _vertices(rows: np.ndarray[Any, Any]) -> Vertices:
    """Return the vertices of a bounded {z : |h z| <= 1 for all rows h}, by trying every basis."""
    count, n = rows.shape
    if math.comb(count, n) * 2 ** (n - 1) > _MAX_BASES:
        raise CertificateError("a set of half-spaces has too many vertices to be checked")
    exact = [[Fraction(entry) for entry in row] for row in rows.tolist()]
    vertices: dict[tuple[int, ...], int] = {}
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
                vertices[tuple(int(each * q) for each in point)] = q
    if not vertices:
        raise CertificateError("a set of half-spaces has no vertices")
    return Dyadic(np.array(list(vertices), dtype=object)), list(vertices.values())


def _solved(rows: Sequence[Sequence[Fraction]], right: Sequence[int]) -> list[Fraction] | None:
    """Solve a square system by Gauss' elimination; None if it is singular."""
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
