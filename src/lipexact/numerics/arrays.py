"""Dense and sparse arrays: their types, the check of what users give, and small queries."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.errors import LipExactError
from lipexact.numerics import constants

Vector: TypeAlias = npt.NDArray[np.float64]
# A dense array, or a scipy.sparse.csr_array, of shape (rows, columns) and dtype float64.
Matrix: TypeAlias = Any


def floats(values: object, what: str, error: type[LipExactError]) -> npt.NDArray[np.float64]:
    """Convert numbers to a new array of float64; none may be NaN, but infinite ones pass.

    Raises
    ------
    LipExactError
        If they are no array of numbers; of the class `error`, with a text that begins with `what`.
    """
    try:
        array = np.array(values)
        if not np.iscomplexobj(array):
            array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as failure:
        raise error(f"{what} is not an array of numbers: {failure}") from None
    if np.iscomplexobj(array):
        raise error(f"{what} has complex numbers")
    if array.size == 0:
        raise error(f"{what} is empty")
    if np.isnan(array).any():
        raise error(f"{what} is NaN in coordinate {int(np.argmax(np.isnan(array)))}")
    return array


def dense(matrix: Matrix) -> Vector:
    """Return the matrix as a numpy array."""
    return np.asarray(matrix.toarray() if sp.issparse(matrix) else matrix)


def columns_read(weight: Matrix, rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the mask of the columns that have an entry other than 0 in the chosen rows."""
    if sp.issparse(weight):
        chosen = weight[np.flatnonzero(rows)]
        return np.bincount(chosen.indices[chosen.data != 0], minlength=weight.shape[1]) > 0
    return np.asarray((weight[rows] != 0).any(axis=0))


def entries(matrix: Matrix) -> int:
    """Return the number of stored entries."""
    return int(matrix.nnz) if sp.issparse(matrix) else int(matrix.size)


def most_terms(matrix: Matrix) -> int:
    """Bound the number of entries other than 0 in a row from above, over all rows."""
    return (
        int(np.diff(matrix.indptr).max(initial=0)) if sp.issparse(matrix) else int(matrix.shape[1])
    )


def lengths(forms: Vector) -> Vector:
    """Return the Euclidean length of each row, shape (k, 1), without overflow of squares."""
    scale = np.abs(forms).max(axis=1, keepdims=True)
    scale = np.where(scale > 0, scale, 1.0)
    return np.asarray(scale * np.linalg.norm(forms / scale, axis=1, keepdims=True))


def alike(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return whether arrays of two shapes have the same order of entries when flattened.

    Both arrays have the same size. Axes of length 1 do not count, and an array with at most one
    other axis fits any shape.
    """
    axes, others = ([length for length in each if length > 1] for each in (shape, other))
    return len(axes) < 2 or len(others) < 2 or axes == others


def read_only(array: Vector) -> Vector:
    """Make an array read-only, and return it."""
    array.setflags(write=False)
    return array


def summary(array: npt.ArrayLike) -> str:
    """Return the shape and range of an array as one short string, for `repr`.

    Arrays of at most 4 numbers are printed whole.

    Examples
    --------
    >>> summary([0.5, 1.0])
    '[0.5, 1.0]'
    >>> summary(np.linspace(0, 1, 784))
    'array(784,) in [0, 1]'
    >>> summary(np.zeros((2, 300)))
    'array(2, 300) in [0, 0]'
    """
    values = np.asarray(array)
    if values.size <= constants.MAX_PRINTED_NUMBERS:
        return str(values.tolist())
    shape = ", ".join(map(str, values.shape)) + ("," if values.ndim == 1 else "")
    return f"array({shape}) in [{values.min():.4g}, {values.max():.4g}]"
