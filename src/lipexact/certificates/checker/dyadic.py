"""Exact arithmetic on arrays of dyadic rationals.

Every float is an integer times a power of two, and so are sums and products of floats: 0.75 is
3 * 2^-2, 2.5 is 5 * 2^-1, and their sum (3 + 10) * 2^-2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.numerics.arrays import Matrix

Integers: TypeAlias = npt.NDArray[Any]  # Python's own, of dtype object

# Binary digits of square roots.
_ROOT_BITS = 128

# Binary digits of the parts by which large products are computed in floats.
_PART_BITS = 20
# Multiplications up to which a loop is faster than parts.
_MAX_LOOP_PRODUCTS = 4000
# Terms of a sum, and parts of an entry, with which 2^20 2^20 2^10 2^3 = 2^53 is exact in floats.
_MAX_TERMS = 2**10
_MAX_PARTS = 2**3


class Dyadic:
    """An array of integers, all times one power of two.

    Parameters
    ----------
    integers
        Python integers in an array of dtype object.
    exponent
        The exponent of the power.
    """

    def __init__(self, integers: Any, exponent: int = 0) -> None:
        self.integers = np.asarray(integers, dtype=object)
        self.exponent = exponent

    @classmethod
    def of(cls, floats: npt.ArrayLike) -> Dyadic:
        """Return finite floats exactly: (0.75, 2.5) as the integers (3, 10) and the exponent -2."""
        mantissas, exponents = np.frexp(np.asarray(floats, dtype=np.float64))
        whole = (mantissas * 2.0**53).astype(np.int64)
        powers = exponents.astype(np.int64) - 53
        odd = whole & -whole  # the lowest binary digit that is 1; the zeros below are left out
        zeros = np.log2(np.where(odd > 0, odd, 1)).astype(np.int64)
        powers = powers + zeros
        least = int(powers[whole != 0].min()) if whole.any() else 0
        shifts = np.where(whole != 0, powers - least, 0)
        return cls((whole >> zeros).astype(object) << shifts.astype(object), least)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.integers.shape

    def __getitem__(self, index: Any) -> Dyadic:
        return Dyadic(self.integers[index], self.exponent)

    def __neg__(self) -> Dyadic:
        return Dyadic(-self.integers, self.exponent)

    def __abs__(self) -> Dyadic:
        return Dyadic(abs(self.integers), self.exponent)

    def __add__(self, other: Dyadic) -> Dyadic:
        (mine, its), exponent = _aligned(self, other)
        return Dyadic(mine + its, exponent)

    def __sub__(self, other: Dyadic) -> Dyadic:
        return self + -other

    def __mul__(self, other: Dyadic) -> Dyadic:
        return Dyadic(self.integers * other.integers, self.exponent + other.exponent)

    def __matmul__(self, other: Dyadic) -> Dyadic:
        used = np.flatnonzero((self.integers != 0).any(axis=0))
        shape = self.shape[:-1] + other.shape[1:]
        found = (
            _product(self.integers[:, used], other.integers[used])
            if used.size
            else np.zeros(shape, dtype=int)
        )
        return Dyadic(found, self.exponent + other.exponent)

    def reshaped(self, *shape: int) -> Dyadic:
        """Return the array in another shape."""
        return Dyadic(self.integers.reshape(shape), self.exponent)

    def transposed(self) -> Dyadic:
        """Return the transpose."""
        return Dyadic(self.integers.T, self.exponent)

    def positive(self) -> Dyadic:
        """Return the positive parts, max(x, 0)."""
        return Dyadic(np.maximum(self.integers, 0), self.exponent)

    def maximum(self, other: Dyadic) -> Dyadic:
        """Return the maximum of two arrays, entry by entry."""
        (mine, its), exponent = _aligned(self, other)
        return Dyadic(np.maximum(mine, its), exponent)

    def sum(self, axis: int) -> Dyadic:
        """Return the sums along an axis."""
        return Dyadic(self.integers.sum(axis=axis), self.exponent)

    def signs(self) -> npt.NDArray[np.int8]:
        """Return the signs, 1, 0 or -1."""
        return np.asarray(
            (self.integers > 0).astype(np.int8) - (self.integers < 0).astype(np.int8), dtype=np.int8
        )

    def fractions(self) -> list[Fraction]:
        """Return the entries as fractions, in one list."""
        return [_fraction(each, self.exponent) for each in self.integers.ravel().tolist()]

    def floats(self) -> npt.NDArray[np.float64]:
        """Return the entries as floats, about, and infinite where they are too large."""
        extra = np.maximum(self._lengths() - 1000, 0)
        near: Any = (self.integers >> extra.astype(object)).astype(np.float64)
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.ldexp(near, self.exponent + extra))

    def rounded(self, bits: int) -> Dyadic:
        """Return the entries to so many binary digits of the largest one, rounded down.

        Each is off by less than the largest one times 2^(1 - bits).
        """
        extra = max(int(self._lengths().max(initial=0)) - bits, 0)
        return Dyadic(self.integers >> extra, self.exponent + extra)

    def _lengths(self) -> npt.NDArray[np.int64]:
        """Return the number of binary digits of each integer."""
        lengths = [each.bit_length() for each in self.integers.ravel().tolist()]
        return np.array(lengths, dtype=np.int64).reshape(self.shape)


def stacked(parts: Sequence[Dyadic]) -> Dyadic:
    """Return the rows of several arrays, one array below the other."""
    least = min((part.exponent for part in parts), default=0)
    return Dyadic(
        np.concatenate([part.integers << (part.exponent - least) for part in parts]), least
    )


def _product(a: Integers, b: Integers) -> Integers:
    """Return a product of matrices of integers.

    Large ones are computed part by part, in the base 2^20: floats add up such integers exactly.
    """
    if a.shape[0] * b.size < _MAX_LOOP_PRODUCTS or a.shape[1] > _MAX_TERMS:
        return np.asarray(a.dot(b))
    left = _parts(a)
    right = _parts(b)
    if min(len(left), len(right)) > _MAX_PARTS:
        return np.asarray(a.dot(b))
    total = np.zeros((a.shape[0], b.shape[1]), dtype=object)
    for place in reversed(range(len(left) + len(right) - 1)):
        pairs = range(max(place - len(right) + 1, 0), min(place + 1, len(left)))
        part = np.sum([left[i] @ right[place - i] for i in pairs], axis=0)
        total = (total << _PART_BITS) + part.astype(np.int64).astype(object)
    return total


def _parts(integers: Integers) -> list[npt.NDArray[np.float64]]:
    """Return the digits of integers in the base 2^20, with their signs, the lowest first."""
    signs: npt.NDArray[np.float64] = np.where(integers < 0, -1.0, 1.0)
    rest: Any = abs(integers)
    parts: list[npt.NDArray[np.float64]] = []
    while not parts or rest.any():
        parts.append((rest & (2**_PART_BITS - 1)).astype(np.float64) * signs)
        rest = rest >> _PART_BITS
    return parts


def _aligned(a: Dyadic, b: Dyadic) -> tuple[tuple[Integers, Integers], int]:
    """Return the integers of two arrays for the smaller exponent, and that exponent."""
    least = min(a.exponent, b.exponent)
    one, other = (
        each.integers << (each.exponent - least) if each.exponent > least else each.integers
        for each in (a, b)
    )
    return (one, other), least


def _fraction(integer: int, exponent: int) -> Fraction:
    """Return an integer times a power of two."""
    return Fraction(integer << exponent) if exponent >= 0 else Fraction(integer, 1 << -exponent)


def root(square: Fraction) -> Fraction:
    """Return an upper bound of the square root, equal to it for squares of short numbers.

    sqrt(n / d) = sqrt(n d) / d, and the root of an integer is rounded up in the 128th binary digit.
    """
    if not square:
        return Fraction(0)
    scaled = square.numerator * square.denominator
    shift = max(_ROOT_BITS - scaled.bit_length() // 2, 0)
    found = math.isqrt((scaled << 2 * shift) - 1) + 1
    return Fraction(found, square.denominator << shift)


class Weight:
    """A matrix, dense or sparse, that multiplies rows from the right.

    Parameters
    ----------
    matrix
        Floats, shape (n, d).
    """

    def __init__(self, matrix: Matrix) -> None:
        self.shape = matrix.shape
        self._matrix = matrix
        self._sparse = sp.csr_array(matrix) if sp.issparse(matrix) else None
        self._entries = Dyadic.of(matrix if self._sparse is None else self._sparse.data)

    def times(self, rows: Dyadic) -> Dyadic:
        """Return rows @ W, for rows of shape (k, n)."""
        if self._sparse is None:
            return rows @ self._entries
        found = np.zeros((rows.shape[0], self.shape[1]), dtype=object)
        starts = self._sparse.indptr.tolist()
        for i in np.flatnonzero((rows.integers != 0).any(axis=0)).tolist():
            part = slice(starts[i], starts[i + 1])
            found[:, self._sparse.indices[part]] += (
                rows.integers[:, i : i + 1] * self._entries.integers[None, part]
            )
        return Dyadic(found, rows.exponent + self._entries.exponent)

    @cached_property
    def transposed(self) -> Weight:
        """The transpose."""
        return Weight(self._matrix.T)


def zeros(*shape: int) -> Dyadic:
    """Return an array of zeros."""
    return Dyadic(np.zeros(shape, dtype=object))


def whole(values: npt.NDArray[Any]) -> Dyadic:
    """Return an array of whole numbers or truth values, as integers."""
    return Dyadic(values.astype(int))


def placed(values: Dyadic, at: npt.NDArray[np.intp], size: int) -> Dyadic:
    """Return a vector of that size, with the values at some places and 0 elsewhere."""
    vector = np.zeros(size, dtype=object)
    vector[at] = values.integers
    return Dyadic(vector, values.exponent)


def added(a: Dyadic, b: Dyadic) -> Dyadic:
    """Return the sum of two matrices, where the one with fewer rows is 0 in the others."""
    rows = max(a.shape[0], b.shape[0])
    return padded(a, rows) + padded(b, rows)


def padded(a: Dyadic, rows: int) -> Dyadic:
    """Return a matrix with rows of zeros below, so that there are so many."""
    if a.shape[0] == rows:
        return a
    return stacked([a, zeros(rows - a.shape[0], *a.shape[1:])])
