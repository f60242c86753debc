"""What floating-point arithmetic can lose, as numbers to add.

A sum of n products computed in any order differs from the true one by at most
gamma_n * sum |a_i b_i| with gamma_n = n u / (1 - n u), u = 2^-53 (Higham, Accuracy and Stability of
Numerical Algorithms, section 3.1). Underflow can lose up to n times the smallest subnormal on top.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.numerics.arrays import Matrix, Vector, dense, most_terms

UNIT = 2.0**-53
# More than n underflows lose (n * 2^-1074), for n below 10^7.
TINY = 1e-316
# Roundings that an entry of a folded graph may be off.
FOLDED = 128
# Of smaller products underflow may lose more than rounding.
SMALLEST = 1e-290


def gamma(n: int) -> float:
    """A bound of the relative error of n operations, with room for the error of its own use.

    Such as 1 + gamma, and a product with that, and one more sum: 4 roundings. The factor is for n u / (1 - n u), and
    for sums of absolute values that are themselves rounded, as long as n u < 0.005.
    """
    return (n + 4) * UNIT * 1.01


def up(values: Vector, magnitude: Vector, n: int) -> Vector:
    """Upper bounds of true values, from computed ones and the sum of the absolute values behind them.

    No product behind them must underflow, or :data:`TINY` is to be added.
    """
    return values + gamma(n + 2) * magnitude


def down(values: Vector, magnitude: Vector, n: int) -> Vector:
    """Lower bounds of true values: see :func:`up`."""
    return -up(-values, magnitude, n)


def smallest(matrix: Matrix) -> float:
    """The smallest absolute value of an entry other than 0, or 1 if that is smaller."""
    values = np.abs(matrix.data if sp.issparse(matrix) else matrix)
    return float(values.min(initial=1.0, where=values > 0))


_SLICES = 6  # of which each holds at least 16 bits, for rows of up to 2^20 entries
_MOST_ENTRIES = 2**21  # of a sparse matrix that is sliced at once


@np.errstate(over="ignore", invalid="ignore")  # what overflows comes with an error of NaN
def twofold_product(matrix: Matrix, high: Vector, low: Vector) -> tuple[Vector, Vector, Vector]:
    """A matrix times numbers of twice the precision of floats.

    The factors are cut into slices of so few bits that products of slices, and sums of these, are exact floats (Ozaki,
    Ogita, Oishi and Rump, Numerical Algorithms 59, 2012).

    Parameters
    ----------
    matrix
        Shape (rows, columns).
    high, low
        The numbers are high + low; shape (columns, count) each.

    Returns
    -------
    high, low, error
        The product is high + low up to the error; shape (rows, count) each.
    """
    if (
        sp.issparse(matrix) and matrix.nnz > _MOST_ENTRIES and matrix.shape[0] > 1
    ):  # slices take memory
        middle = int(
            np.clip(np.searchsorted(matrix.indptr, matrix.nnz // 2), 1, matrix.shape[0] - 1)
        )
        halves = (twofold_product(half, high, low) for half in (matrix[:middle], matrix[middle:]))
        return tuple(np.vstack(pair) for pair in zip(*halves, strict=True))  # type: ignore[return-value]
    columns = max(most_terms(matrix), 1)
    bits = (53 - math.ceil(math.log2(columns))) // 2 - 1
    tops = _power_above(
        abs(matrix).max(axis=1).toarray() if sp.issparse(matrix) else np.abs(matrix).max(axis=1)
    )
    heads = _power_above((np.abs(high) + np.abs(low)).max(axis=0))
    if sp.issparse(matrix):
        of_entries = np.repeat(tops, np.diff(matrix.indptr))
        slices = [
            sp.csr_array((part, matrix.indices, matrix.indptr), shape=matrix.shape)
            for part in _slices(matrix.data, np.zeros_like(matrix.data), of_entries, bits)
        ]
    else:
        slices = _slices(matrix, np.zeros_like(matrix), tops[:, None], bits)
    total, rest = (
        np.zeros((matrix.shape[0], high.shape[1])),
        np.zeros((matrix.shape[0], high.shape[1])),
    )
    for k, part in enumerate(_slices(high, low, heads, bits)):
        for each in slices[: _SLICES - k]:
            total, lost = _two_sum(total, each @ part)
            rest = rest + lost
    total, rest = _two_sum(total, rest)
    # What the slices leave, those pairs of them that were not multiplied, and what the sum of `rest` lost.
    unit = columns * np.outer(tops, heads)
    return total, rest, unit * (2.0 ** (6 - _SLICES * bits) + 2.0**-94) + TINY * columns


def twofold_sum(
    a: tuple[Vector, Vector], b: tuple[Vector, Vector]
) -> tuple[Vector, Vector, Vector]:
    """(high, low) + (high, low), and a bound of its error."""
    high, lost = _two_sum(a[0], b[0])
    rest = lost + (a[1] + b[1])
    error = gamma(2) * (np.abs(lost) + np.abs(a[1]) + np.abs(b[1]))
    return *_two_sum(high, rest), error


def _power_above(values: Vector) -> Vector:
    """Powers of two, at least as large."""
    return np.ldexp(1.0, np.frexp(np.ravel(values))[1])


def _slices(high: Vector, low: Vector, sizes: Vector, bits: int) -> list[Vector]:
    """The leading bits of high + low, the next ones and so on, counted from `sizes` on."""
    slices = []
    for _ in range(_SLICES):
        if not (high.any() or low.any()):
            break
        shift = sizes * 2.0 ** (53 - bits)
        part = (high + shift) - shift
        slices.append(part)
        high, low = _two_sum(high - part, low)
        sizes = sizes * 2.0**-bits
    return slices


def _two_sum(a: Vector, b: Vector) -> tuple[Vector, Vector]:
    """The rounded sum, and exactly what rounding lost (Knuth)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


_ROUGH = 64.0  # units that entries of products of large sparse matrices may be off
_MOST_DENSE = 2**22  # entries of sparse matrices that are made dense
_MOST_FRACTIONS = 2e6  # multiplications of Fractions, about a second


def accurate_product(left: Matrix, right: Matrix, off: float = 0.0) -> tuple[Matrix, float] | None:
    """The product of two matrices, every entry accurate in proportion to itself.

    In twice the precision of floats, or in floats where large sparse matrices do not cancel much; what cancels more, in
    Fractions.

    Parameters
    ----------
    left, right
        Shapes (m, k) and (k, n).
    off
        How far the factors are off, together: each entry by so many units of 2^-53, in proportion to it.

    Returns
    -------
    product, units
        Of shape (m, n), sparse where both factors are, and off by at most so many units. None where that cannot be
        known, or not cheaply: where factors that are off cancel, where products may underflow.
    """
    if smallest(left) * smallest(right) < SMALLEST:
        return None
    column = np.bincount(right.indices, minlength=1).max() if sp.issparse(right) else right.shape[0]
    terms = min(most_terms(left), int(column))
    if terms <= 1:
        return left @ right, 1.0 + off
    rows, columns, sizes = _stored(abs(left) @ abs(right))
    shape, sparse = (left.shape[0], right.shape[1]), sp.issparse(left) and sp.issparse(right)
    if sparse and max(math.prod(shape), math.prod(right.shape)) > _MOST_DENSE:
        values, allowed = np.zeros(sizes.size), _ROUGH
        i, j, found = _stored(left @ right)  # without what is 0 in floats
        values[np.searchsorted(rows * shape[1] + columns, i * shape[1] + j)] = found
        errors = terms * UNIT * sizes
    else:
        allowed = 2.0
        zeros = np.zeros_like
        if sp.issparse(right) and not sp.issparse(left):
            both = (
                part.T for part in twofold_product(sp.csr_array(right.T), left.T, zeros(left.T))
            )
        else:
            factor = dense(right)
            both = (part for part in twofold_product(left, factor, zeros(factor)))
        values, low, errors = (part[rows, columns] for part in both)
        errors = errors + np.abs(low)
    doubtful = np.flatnonzero(~(errors <= allowed * UNIT * np.abs(values)))
    if doubtful.size * terms > _MOST_FRACTIONS:
        return None
    errors[doubtful] = 0.0
    if doubtful.size:
        along, across = _SparseRows(left), _SparseRows(right.T)
        pairs = zip(rows[doubtful].tolist(), columns[doubtful].tolist(), strict=True)
        values[doubtful] = [_dot(along(i), across(j)) for i, j in pairs]
        if (values[doubtful] != 0).any() and np.abs(values[values != 0]).min() < SMALLEST:
            return None
    with np.errstate(divide="ignore", invalid="ignore"):
        units = (
            float(np.nan_to_num((errors / UNIT + off * sizes) / np.abs(values)).max(initial=0.0))
            * 1.01
            + 1.0
        )
    if units > 1e15:
        return None
    if sparse:
        return sp.csr_array((values, (rows, columns)), shape=shape), units
    product = np.zeros(shape)
    product[rows, columns] = values
    return product, units


def _stored(matrix: Matrix) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Vector]:
    """Rows, columns and values of the entries other than 0, row by row."""
    if not sp.issparse(matrix):
        rows, columns = matrix.nonzero()
        return rows, columns, matrix[rows, columns]
    matrix.sum_duplicates()  # and sorts them
    matrix.eliminate_zeros()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return rows, matrix.indices.astype(np.int64), matrix.data.copy()


def _dot(a: dict[int, float], b: dict[int, float]) -> float:
    exact = sum((Fraction(a[k]) * Fraction(b[k]) for k in a.keys() & b.keys()), Fraction(0))
    return rounded(exact)


def rounded(exact: Fraction) -> float:
    """The float next to a fraction; infinite where it is too large."""
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


class _SparseRows:
    """The rows of a matrix as dictionaries."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix, self._made = sp.csr_array(matrix), dict[int, dict[int, float]]()

    def __call__(self, i: int) -> dict[int, float]:
        if i not in self._made:
            part = slice(*self._matrix.indptr[i : i + 2].tolist())
            columns, values = self._matrix.indices[part].tolist(), self._matrix.data[part].tolist()
            self._made[i] = dict(zip(columns, values, strict=True))
        return self._made[i]
