"""What floating-point arithmetic can lose, as numbers to add.

A sum of n products computed in any order differs from the true one by at most
gamma_n * sum |a_i b_i| with gamma_n = n u / (1 - n u), u = 2^-53 (Higham, Accuracy and Stability of
Numerical Algorithms, section 3.1). Underflow can lose up to n times the smallest subnormal on top.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp

from lipexact.graph.ir import Matrix, Vector, most_terms

_UNIT = 2.0**-53
# More than n underflows lose (n * 2^-1074), for n below 10^7.
TINY = 1e-316


def gamma(n: int) -> float:
    """A bound of the relative error of n operations, with room for the error of its own use."""
    return (n + 4) * _UNIT * 1.01


def up(values: Vector, magnitude: Vector, n: int) -> Vector:
    """Upper bounds of true values, from computed ones and the sum of the absolute values behind them."""
    return values + gamma(n + 2) * magnitude


def down(values: Vector, magnitude: Vector, n: int) -> Vector:
    """Lower bounds of true values: see :func:`up`."""
    return -up(-values, magnitude, n)


_SLICES = 6  # of which each holds at least 16 bits, for rows of up to 2^20 entries
_MOST_ENTRIES = 2**21  # of a sparse matrix that is sliced at once


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
    if sp.issparse(matrix) and matrix.nnz > _MOST_ENTRIES and matrix.shape[0] > 1:  # slices take memory
        middle = int(np.clip(np.searchsorted(matrix.indptr, matrix.nnz // 2), 1, matrix.shape[0] - 1))
        halves = (twofold_product(half, high, low) for half in (matrix[:middle], matrix[middle:]))
        return tuple(np.vstack(pair) for pair in zip(*halves, strict=True))  # type: ignore[return-value]
    columns = max(most_terms(matrix), 1)
    bits = (53 - math.ceil(math.log2(columns))) // 2 - 1
    tops = _power_above(abs(matrix).max(axis=1).toarray() if sp.issparse(matrix) else np.abs(matrix).max(axis=1))
    heads = _power_above((np.abs(high) + np.abs(low)).max(axis=0))
    if sp.issparse(matrix):
        of_entries = np.repeat(tops, np.diff(matrix.indptr))
        slices = [
            sp.csr_array((part, matrix.indices, matrix.indptr), shape=matrix.shape)
            for part in _slices(matrix.data, np.zeros_like(matrix.data), of_entries, bits)
        ]
    else:
        slices = _slices(matrix, np.zeros_like(matrix), tops[:, None], bits)
    total, rest = np.zeros((matrix.shape[0], high.shape[1])), np.zeros((matrix.shape[0], high.shape[1]))
    for k, part in enumerate(_slices(high, low, heads, bits)):
        for each in slices[: _SLICES - k]:
            total, lost = _two_sum(total, each @ part)
            rest = rest + lost
    total, rest = _two_sum(total, rest)
    # What the slices leave, those pairs of them that were not multiplied, and what the sum of `rest` lost.
    unit = columns * np.outer(tops, heads)
    return total, rest, unit * (2.0 ** (6 - _SLICES * bits) + 2.0**-94) + TINY * columns


def twofold_sum(a: tuple[Vector, Vector], b: tuple[Vector, Vector]) -> tuple[Vector, Vector, Vector]:
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
