"""Exact arithmetic on arrays: every float is an integer times a power of two, and so are sums and products of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.errors import CertificateError
from lipexact.numerics.arrays import Matrix

Integers: TypeAlias = npt.NDArray[Any]  # Python's own, of dtype object

_PRECISION = 128  # binary digits of square roots
_BITS = 20
_SMALL = 4000  # multiplications that are not worth more than a loop


class Dyadic:
    """An array of integers, all times one power of two.

    Parameters
    ----------
    integers
        Python integers in an array of dtype object.
    exponent
        Of the power.
    """

    def __init__(self, integers: Any, exponent: int = 0) -> None:
        self.integers, self.exponent = np.asarray(integers, dtype=object), exponent

    @classmethod
    def of(cls, floats: npt.ArrayLike) -> Dyadic:
        """Finite floats, as they are."""
        mantissas, exponents = np.frexp(np.asarray(floats, dtype=np.float64))
        whole, powers = (mantissas * 2.0**53).astype(np.int64), exponents.astype(np.int64) - 53
        odd = whole & -whole  # the lowest binary digit, whose zeros are left out
        zeros = np.log2(np.where(odd > 0, odd, 1)).astype(np.int64)
        powers = powers + zeros
        least = int(powers[whole != 0].min()) if whole.any() else 0
        shifts = np.where(whole != 0, powers - least, 0)
        return cls((whole >> zeros).astype(object) << shifts.astype(object), least)

    @property
    def shape(self) -> tuple[int, ...]:
        """As of any array."""
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
        """As of any array."""
        return Dyadic(self.integers.reshape(shape), self.exponent)

    def transposed(self) -> Dyadic:
        """As of any matrix."""
        return Dyadic(self.integers.T, self.exponent)

    def positive(self) -> Dyadic:
        """The positive parts."""
        return Dyadic(np.maximum(self.integers, 0), self.exponent)

    def maximum(self, other: Dyadic) -> Dyadic:
        """Entry by entry."""
        (mine, its), exponent = _aligned(self, other)
        return Dyadic(np.maximum(mine, its), exponent)

    def sum(self, axis: int) -> Dyadic:
        """Along an axis."""
        return Dyadic(self.integers.sum(axis=axis), self.exponent)

    def signs(self) -> npt.NDArray[np.int8]:
        """1, 0 or -1."""
        return np.asarray(
            (self.integers > 0).astype(np.int8) - (self.integers < 0).astype(np.int8), dtype=np.int8
        )

    def fractions(self) -> list[Fraction]:
        """The entries of a vector."""
        return [_fraction(each, self.exponent) for each in self.integers.ravel().tolist()]

    def floats(self) -> npt.NDArray[np.float64]:
        """About the entries, infinite where they are too large."""
        extra = np.maximum(self._lengths() - 1000, 0)
        near: Any = (self.integers >> extra.astype(object)).astype(np.float64)
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.ldexp(near, self.exponent + extra))

    def rounded(self, bits: int) -> Dyadic:
        """The entries, off by less than the largest one divided by a power of two."""
        extra = max(int(self._lengths().max(initial=0)) - bits, 0)
        return Dyadic(self.integers >> extra, self.exponent + extra)

    def _lengths(self) -> npt.NDArray[np.int64]:
        lengths = [each.bit_length() for each in self.integers.ravel().tolist()]
        return np.array(lengths, dtype=np.int64).reshape(self.shape)


def stacked(parts: Sequence[Dyadic]) -> Dyadic:
    """Rows below each other."""
    least = min((part.exponent for part in parts), default=0)
    return Dyadic(
        np.concatenate([part.integers << (part.exponent - least) for part in parts]), least
    )


def _product(a: Integers, b: Integers) -> Integers:
    """A product of matrices; of large ones digit by digit, as floats add up such integers exactly."""
    if a.shape[0] * b.size < _SMALL or a.shape[1] > 2**10:
        return np.asarray(a.dot(b))
    left, right = _digits(a), _digits(b)
    if min(len(left), len(right)) > 2**3:  # 2^20 2^20 2^10 2^3 = 2^53
        return np.asarray(a.dot(b))
    total = np.zeros((a.shape[0], b.shape[1]), dtype=object)
    for place in reversed(range(len(left) + len(right) - 1)):
        pairs = range(max(place - len(right) + 1, 0), min(place + 1, len(left)))
        part = np.sum([left[i] @ right[place - i] for i in pairs], axis=0)
        total = (total << _BITS) + part.astype(np.int64).astype(object)
    return total


def _digits(integers: Integers) -> list[npt.NDArray[np.float64]]:
    """Of integers in the base 2^20, with their signs, the lowest first."""
    signs: npt.NDArray[np.float64] = np.where(integers < 0, -1.0, 1.0)
    rest: Any = abs(integers)
    found: list[npt.NDArray[np.float64]] = []
    while not found or rest.any():
        found.append((rest & (2**_BITS - 1)).astype(np.float64) * signs)
        rest = rest >> _BITS
    return found


def _aligned(a: Dyadic, b: Dyadic) -> tuple[tuple[Integers, Integers], int]:
    least = min(a.exponent, b.exponent)
    one, other = (
        each.integers << (each.exponent - least) if each.exponent > least else each.integers
        for each in (a, b)
    )
    return (one, other), least


def _fraction(integer: int, exponent: int) -> Fraction:
    return Fraction(integer << exponent) if exponent >= 0 else Fraction(integer, 1 << -exponent)


def root(square: Fraction) -> Fraction:
    """At least the square root, and equal to it for squares of short numbers."""
    if not square:
        return Fraction(0)
    # n / d = n d / d^2
    scaled = square.numerator * square.denominator
    shift = max(_PRECISION - scaled.bit_length() // 2, 0)
    found = math.isqrt((scaled << 2 * shift) - 1) + 1
    return Fraction(found, square.denominator << shift)


class Weight:
    """A matrix, dense or sparse, by which rows are multiplied from the right.

    Parameters
    ----------
    matrix
        Of floats, shape (n, d).
    """

    def __init__(self, matrix: Matrix) -> None:
        self.shape, self._matrix = matrix.shape, matrix
        self._sparse = sp.csr_array(matrix) if sp.issparse(matrix) else None
        self._entries = Dyadic.of(matrix if self._sparse is None else self._sparse.data)

    def times(self, rows: Dyadic) -> Dyadic:
        """Rows @ W, for rows of shape (k, n)."""
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
    """Nothing but 0."""
    return Dyadic(np.zeros(shape, dtype=object))


def number(value: object) -> Fraction:
    """A finite number of a file.

    Raises
    ------
    CertificateError
        If it is none.
    """
    if isinstance(value, bool) or not (
        isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    ):
        raise CertificateError(f"{value!r} is no number")
    return Fraction(value)


def numbers(values: object, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Floats of a file, as an array of that shape, where -1 is any length.

    Raises
    ------
    CertificateError
        If they are none, or of another shape.
    """
    try:
        found = np.array(values)
        short = found.dtype.kind == "f" or np.abs(found).max(initial=0) <= 2**53
        found = found.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        short = False
    if not short:
        raise CertificateError("an array has something else than floats")
    found = found.reshape(0, *shape[1:]) if found.size == 0 and shape[:1] == (-1,) else found
    fits = found.ndim == len(shape) and all(
        want in (-1, have) for want, have in zip(shape, found.shape, strict=True)
    )
    if not fits or not np.isfinite(found).all():
        raise CertificateError(
            f"an array of shape {found.shape} is none of finite numbers, of shape {shape}"
        )
    return found
