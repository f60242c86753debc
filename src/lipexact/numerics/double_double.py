"""Sums and products in twice the precision of floats, with bounds of their errors.

A number of twice the precision is an unevaluated sum high + low of two floats, where `low` is about
the rounding error of `high`.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.numerics import constants
from lipexact.numerics.arrays import Matrix, Vector, dense, most_terms
from lipexact.numerics.rounding import SMALLEST, TINY, UNIT, gamma, rounded, smallest

# Rows, columns and values of the entries other than 0, row by row.
_Entries: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Vector]


# --- Error-free transformations ------------------------------------------------------------------


@np.errstate(over="ignore", invalid="ignore")  # an overflow makes the error bound NaN
def twofold_product(matrix: Matrix, high: Vector, low: Vector) -> tuple[Vector, Vector, Vector]:
    """Multiply a matrix of floats by numbers of twice the precision.

    The factors are cut into slices of so few bits that products of slices, and sums of these, are
    exact in floats (Ozaki, Ogita, Oishi and Rump, Numerical Algorithms 59, 2012).

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

    Examples
    --------
    The float product 1 * 1 + 2^-60 * 1 is 1, and the rest is in `low`:

    >>> one = np.ones((2, 1))
    >>> high, low, error = twofold_product(np.array([[1.0, 2.0**-60]]), one, np.zeros((2, 1)))
    >>> (float(high[0, 0]), float(low[0, 0]) == 2.0**-60)
    (1.0, True)
    """
    if sp.issparse(matrix) and matrix.nnz > constants.MAX_SLICED_ENTRIES and matrix.shape[0] > 1:
        middle = int(
            np.clip(np.searchsorted(matrix.indptr, matrix.nnz // 2), 1, matrix.shape[0] - 1)
        )
        halves = (twofold_product(half, high, low) for half in (matrix[:middle], matrix[middle:]))
        return tuple(np.vstack(pair) for pair in zip(*halves, strict=True))  # type: ignore[return-value]
    columns = max(most_terms(matrix), 1)
    # A product of two slices has 2 * bits bits, and a sum of so many of these fits into 53.
    bits = (53 - math.ceil(math.log2(columns))) // 2 - 1
    row_sizes = _power_above(
        abs(matrix).max(axis=1).toarray() if sp.issparse(matrix) else np.abs(matrix).max(axis=1)
    )
    column_sizes = _power_above((np.abs(high) + np.abs(low)).max(axis=0))
    slices = _matrix_slices(matrix, row_sizes, bits)
    total = np.zeros((matrix.shape[0], high.shape[1]))
    rest = np.zeros((matrix.shape[0], high.shape[1]))
    for k, part in enumerate(_slices(high, low, column_sizes, bits)):
        for each in slices[: constants.PRODUCT_SLICES - k]:
            total, lost = _two_sum(total, each @ part)
            rest = rest + lost
    total, rest = _two_sum(total, rest)
    # The error: what the slices leave, those pairs of them that were not multiplied, and what the
    # sum of `rest` lost.
    unit = columns * np.outer(row_sizes, column_sizes)
    return (
        total,
        rest,
        unit * (2.0 ** (6 - constants.PRODUCT_SLICES * bits) + 2.0**-94) + TINY * columns,
    )


def twofold_sum(
    a: tuple[Vector, Vector], b: tuple[Vector, Vector]
) -> tuple[Vector, Vector, Vector]:
    """Add two numbers (high, low) of twice the precision, and bound the error.

    Returns
    -------
    high, low, error
        The sum is high + low up to the error.
    """
    high, lost = _two_sum(a[0], b[0])
    rest = lost + (a[1] + b[1])
    error = gamma(2) * (np.abs(lost) + np.abs(a[1]) + np.abs(b[1]))
    return *_two_sum(high, rest), error


def _power_above(values: Vector) -> Vector:
    """Return powers of two that are at least as large as the values."""
    return np.ldexp(1.0, np.frexp(np.ravel(values))[1])


def _matrix_slices(matrix: Matrix, sizes: Vector, bits: int) -> list[Matrix]:
    """Cut a matrix into slices, dense or sparse as it is; `sizes` bounds the entries by rows."""
    if not sp.issparse(matrix):
        return list(_slices(matrix, np.zeros_like(matrix), sizes[:, None], bits))
    of_entries = np.repeat(sizes, np.diff(matrix.indptr))
    return [
        sp.csr_array((part, matrix.indices, matrix.indptr), shape=matrix.shape)
        for part in _slices(matrix.data, np.zeros_like(matrix.data), of_entries, bits)
    ]


def _slices(high: Vector, low: Vector, sizes: Vector, bits: int) -> list[Vector]:
    """Cut high + low into slices: its leading bits, the next ones and so on, counted from `sizes`.

    Adding and subtracting a large power of two, `shift`, rounds a number to its leading bits. With
    a size of 1 and slices of 2 bits the shift is 2^51, where the spacing of floats is 1/2: the
    first slice of 0.8 is 1.0, which leaves -0.2. Then the spacing is 1/8: the next slice is -0.25.
    """
    slices = []
    for _ in range(constants.PRODUCT_SLICES):
        if not (high.any() or low.any()):
            break
        shift = sizes * 2.0 ** (53 - bits)
        part = (high + shift) - shift
        slices.append(part)
        high, low = _two_sum(high - part, low)
        sizes = sizes * 2.0**-bits
    return slices


def _two_sum(a: Vector, b: Vector) -> tuple[Vector, Vector]:
    """Return the rounded sum, and exactly what rounding lost (Knuth)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


# --- Products that are accurate entry by entry ---------------------------------------------------


def accurate_product(left: Matrix, right: Matrix, off: float = 0.0) -> tuple[Matrix, float] | None:
    """Multiply two matrices, with every entry of the product accurate in proportion to itself.

    The product is computed in twice the precision of floats, or in floats where the matrices are
    large and sparse. Entries that cancel too much for that are computed in Fractions.

    Parameters
    ----------
    left, right
        Shapes (m, k) and (k, n).
    off
        Units of 2^-53 that entries of both factors are off together, in proportion to each entry.

    Returns
    -------
    (product, units) or None
        The product of shape (m, n), sparse where both factors are, and how many units its entries
        are off at most. None where that cannot be known, or not cheaply: where factors that are
        off cancel, and where products may underflow.

    Examples
    --------
    In floats, 0.1 * 3 - 0.3 * 1 is 5.6e-17; of the given floats it is 2.8e-17 exactly:

    >>> left = np.array([[0.1, -0.3]])
    >>> right = np.array([[3.0], [1.0]])
    >>> product, units = accurate_product(left, right)
    >>> float(product[0, 0]) == float(3 * Fraction(0.1) - Fraction(0.3))
    True
    """
    if smallest(left) * smallest(right) < SMALLEST:
        return None
    column = np.bincount(right.indices, minlength=1).max() if sp.issparse(right) else right.shape[0]
    terms = min(most_terms(left), int(column))
    if terms <= 1:
        return left @ right, 1.0 + off
    rows, columns, sizes = _stored(abs(left) @ abs(right))
    shape = (left.shape[0], right.shape[1])
    sparse = sp.issparse(left) and sp.issparse(right)
    if (
        sparse
        and max(math.prod(shape), math.prod(right.shape)) > constants.MAX_DENSE_PRODUCT_ENTRIES
    ):
        allowed = constants.MAX_SPARSE_UNITS
        values, errors = _float_entries(left, right, (rows, columns, sizes), terms)
    else:
        allowed = constants.MAX_DENSE_UNITS
        values, errors = _twofold_entries(left, right, rows, columns)
    doubtful = np.flatnonzero(~(errors <= allowed * UNIT * np.abs(values)))
    if doubtful.size * terms > constants.MAX_FRACTION_PRODUCTS:
        return None
    errors[doubtful] = 0.0
    if doubtful.size:
        values[doubtful] = _exact_entries(left, right, rows[doubtful], columns[doubtful])
        if (values[doubtful] != 0).any() and np.abs(values[values != 0]).min() < SMALLEST:
            return None
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.nan_to_num((errors / UNIT + off * sizes) / np.abs(values))
    units = float(relative.max(initial=0.0)) * 1.01 + 1.0
    if units > constants.MAX_REPORTED_UNITS:
        return None
    if sparse:
        return sp.csr_array((values, (rows, columns)), shape=shape), units
    product = np.zeros(shape)
    product[rows, columns] = values
    return product, units


def _float_entries(
    left: Matrix, right: Matrix, pattern: _Entries, terms: int
) -> tuple[Vector, Vector]:
    """Return the entries of a product in floats, and bounds of their errors.

    The pattern holds all entries that may differ from 0, with the sums of the absolute values.
    """
    rows, columns, sizes = pattern
    width = right.shape[1]
    values = np.zeros(sizes.size)
    i, j, computed = _stored(left @ right)  # without the entries that are 0 in floats
    values[np.searchsorted(rows * width + columns, i * width + j)] = computed
    return values, terms * UNIT * sizes


def _twofold_entries(
    left: Matrix, right: Matrix, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> tuple[Vector, Vector]:
    """Return entries of a product in twice the precision, rounded, and bounds of their errors."""
    zeros = np.zeros_like
    if sp.issparse(right) and not sp.issparse(left):
        parts = [part.T for part in twofold_product(sp.csr_array(right.T), left.T, zeros(left.T))]
    else:
        factor = dense(right)
        parts = list(twofold_product(left, factor, zeros(factor)))
    values, low, errors = (part[rows, columns] for part in parts)
    return values, errors + np.abs(low)


def _exact_entries(
    left: Matrix, right: Matrix, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> list[float]:
    """Return entries of a product, computed in Fractions and rounded once."""
    left_rows = _SparseRows(left)
    right_columns = _SparseRows(right.T)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [_dot(left_rows(i), right_columns(j)) for i, j in pairs]


def _stored(matrix: Matrix) -> _Entries:
    """Return rows, columns and values of the entries other than 0, row by row."""
    if not sp.issparse(matrix):
        rows, columns = matrix.nonzero()
        return rows, columns, matrix[rows, columns]
    matrix.sum_duplicates()  # which also sorts the entries of each row
    matrix.eliminate_zeros()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return rows, matrix.indices.astype(np.int64), matrix.data.copy()


def _dot(a: dict[int, float], b: dict[int, float]) -> float:
    """Return the inner product of two sparse vectors, rounded once."""
    exact = sum((Fraction(a[k]) * Fraction(b[k]) for k in a.keys() & b.keys()), Fraction(0))
    return rounded(exact)


class _SparseRows:
    """The rows of a matrix as dictionaries, made when they are first asked for."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = sp.csr_array(matrix)
        self._rows: dict[int, dict[int, float]] = {}

    def __call__(self, i: int) -> dict[int, float]:
        if i not in self._rows:
            part = slice(*self._matrix.indptr[i : i + 2].tolist())
            columns = self._matrix.indices[part].tolist()
            values = self._matrix.data[part].tolist()
            self._rows[i] = dict(zip(columns, values, strict=True))
        return self._rows[i]
