"""Upper bounds of spectral norms of matrices (largest singular values), proven in floating point.

An approximate eigenvalue is not a bound. It becomes one, up to rounding that is known, where
Cholesky's method runs to its end on the matrix t I - G (Rump, BIT 46, 2006): then t is an upper
bound of the eigenvalues of G = M M^T.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.csgraph
import scipy.sparse.linalg

from lipexact.numerics import constants
from lipexact.numerics.arrays import Matrix, Vector, dense, most_terms
from lipexact.numerics.rounding import TINY, gamma


def spectral_norm(matrix: Matrix) -> float:
    """Bound the largest singular value of a matrix from above.

    For small matrices the bound is tight up to rounding; it comes from the eigenvalues of the Gram
    matrix. For large sparse matrices, such as convolutions, Lanczos' method estimates the largest
    eigenvalue from below, and Cholesky's method on a banded matrix proves that a slightly larger
    number is a bound. Where that fails, the bound is the spectral norm of the absolute values.

    Parameters
    ----------
    matrix
        Shape (m, n), dense or sparse.

    Examples
    --------
    >>> round(spectral_norm(np.array([[3.0, 0.0], [4.0, 0.0]])), 9)
    5.0
    """
    sparse = sp.issparse(matrix) and matrix.shape[0] * matrix.shape[1] > constants.MAX_DENSE_ENTRIES
    if sparse or min(matrix.shape) > constants.MAX_DENSE_GRAM_SIZE:
        return _large(sp.csr_array(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T))
    return float(spectral_norms(dense(matrix)[None, ...])[0])


# --- Stacks of dense matrices --------------------------------------------------------------------


def spectral_norms(matrices: Vector) -> Vector:
    """Bound the largest singular values of a stack of matrices, shape (b, m, n), from above."""
    if not np.isfinite(matrices).all():
        return np.full(len(matrices), np.inf)
    unit, size = scale_stacks(matrices)
    bounds = pad_scaled(weighted_norms(unit, np.ones(len(unit))) * size)
    return np.where(matrices.any(axis=(1, 2)), bounds, 0.0)


def scale_stacks(rows: Vector) -> tuple[Vector, Vector]:
    """Divide each matrix of a stack by a power of two, since squares of small numbers underflow.

    The largest entry is then at least 1/2. What still underflows, as a square or as a multiplier,
    is below 1e-150, and does not matter beside the pad that the results get for rounding.

    Returns
    -------
    scaled, size
        Shapes (b, m, n) and (b,).
    """
    largest = np.abs(rows).max(axis=(1, 2), initial=0.0)
    size = np.ldexp(1.0, np.minimum(np.frexp(largest)[1], 1023))
    return rows / size[:, None, None], size


def pad_scaled(values: Vector) -> Vector:
    """Raise bounds that have been multiplied by a power of two, which may underflow.

    The pad also covers one sum that the caller adds to.
    """
    return np.asarray(values * (1 + gamma(4)) + TINY)


def weighted_norms(scaled: Vector, weights: Vector) -> Vector:
    """Bound sqrt(weight) times the spectral norm of each matrix of a stack from above.

    An approximate largest eigenvalue `top` of the Gram matrix A is an upper bound up to rounding if
    Cholesky's method runs to its end on top I - A. The computed factor R has R^T R = top I - A + E
    with |E| <= gamma_(size + 1) |R|^T |R|; the norm of E is at most gamma_(size + 1) times the
    trace of top I - A, which is at most size * top. Two more operations are for top I - A itself.

    The entries of the Gram matrix are sums of `terms` products, whose factors have seen at most 4
    roundings each. So the Gram matrix is off by gamma_(terms + 8) times a matrix of the same trace.
    The last factor is for the roundings of `weights`, a sum or a product of two sums of
    multipliers; the root halves their relative error.

    Parameters
    ----------
    scaled, weights
        Shapes (b, m, n) and (b,).

    Examples
    --------
    The Gram matrix of (3, 4) is 25. For size 1 and 2 terms the pad is about 5 + 15 units of 2^-53:

    >>> bound = weighted_norms(np.array([[[3.0, 4.0]]]), np.ones(1))
    >>> 5.0 < float(bound[0]) < 5.0 * (1 + 1e-13)
    True
    """
    k, n = scaled.shape[1:]
    gram = scaled @ scaled.swapaxes(1, 2) if k <= n else scaled.swapaxes(1, 2) @ scaled
    size = min(k, n)
    terms = max(k, n)
    trace = np.einsum("bkk->b", gram)
    top = np.linalg.eigvalsh(gram)[:, -1] * (1 + 1e-15 * (size + 4) ** 2)
    try:
        np.linalg.cholesky((top + TINY)[:, None, None] * np.eye(size) - gram)
    except np.linalg.LinAlgError:
        top = trace
    top = top * (1 + gamma(size + 3) * size) + gamma(terms + 12) * trace
    return np.asarray(np.sqrt(top * weights) * (1 + gamma(terms + 8)) + TINY)


# --- Large sparse matrices -----------------------------------------------------------------------


def _large(matrix: Matrix) -> float:
    """Bound the spectral norm of a large sparse matrix, with at most as many rows as columns."""
    largest = float(np.abs(matrix.data).max(initial=0.0))
    if largest == 0:
        return 0.0
    if not np.isfinite(largest):
        return np.inf
    # In units of a power of two, since squares of small numbers underflow.
    unit = math.ldexp(1.0, min(math.frexp(largest)[1], 1023))
    unscaled = matrix / unit
    if min(matrix.shape) <= constants.MAX_DENSE_GRAM_SIZE:
        bound = _by_gram(unscaled)
    else:
        proven = _by_banded_cholesky(unscaled)
        bound = _by_absolute_values(abs(unscaled)) if proven is None else proven
    return bound * unit + TINY


def _by_gram(matrix: Matrix) -> float:
    """Bound the norm of a matrix of few rows by the root of its Gram matrix's eigenvalue."""
    gram, lost = _gram(matrix)
    return float(np.sqrt(spectral_norms(dense(gram)[None, ...])[0] + lost)) * (1 + gamma(4))


def _gram(matrix: Matrix) -> tuple[Matrix, float]:
    """Return W W^T, and how far its largest eigenvalue is off at most."""
    sizes = abs(matrix)
    terms = most_terms(matrix)
    lost = (
        gamma(terms + 2)
        * float((sizes @ (sizes.T @ np.ones(matrix.shape[0]))).max())
        * (1 + gamma(2 * terms))
    )
    return sp.csr_array(matrix @ matrix.T), lost + TINY * matrix.shape[1]


def _by_banded_cholesky(matrix: Matrix) -> float | None:
    """Bound the norm by Lanczos' eigenvalue, proven by a banded Cholesky factor.

    Returns
    -------
    float or None
        None where the band would take too much memory, or where no number near Lanczos' estimate
        is proven to be a bound.
    """
    gram, lost = _gram(matrix)
    order = sp.csgraph.reverse_cuthill_mckee(gram, symmetric_mode=True)
    gram = sp.coo_array(gram[order][:, order])
    n = gram.shape[0]
    below = gram.row >= gram.col
    diagonals = gram.row[below] - gram.col[below]
    columns = gram.col[below]
    values = gram.data[below]
    width = int(diagonals.max(initial=0)) + 1
    if width * n > constants.MAX_BAND_NUMBERS:
        return None
    start = np.random.default_rng(0).normal(size=n)
    try:
        (largest,) = sp.linalg.eigsh(
            sp.csr_array(gram),
            k=1,
            v0=start,
            tol=constants.LANCZOS_TOLERANCE,
            return_eigenvectors=False,
        )
    except sp.linalg.ArpackError:
        return None
    for room in constants.LANCZOS_ROOM:
        top = float(largest) * (1 + room)
        if _is_definite(top, diagonals, columns, values, (width, n)):
            return float(np.sqrt(top + lost + gamma(4) * top)) * (1 + gamma(4))
    return None


def _is_definite(
    top: float,
    diagonals: npt.NDArray[np.int32],
    columns: npt.NDArray[np.int32],
    values: Vector,
    shape: tuple[int, int],
) -> bool:
    """Return whether top I - G is shown to be positive definite, by its lower band."""
    width, n = shape
    band = np.zeros(shape)
    band[diagonals, columns] = -values
    band[0] += top
    # The factor's rounding (gamma of its length times the trace), and that of the diagonal.
    slack = gamma(width + 4) * n * top
    band[0] -= slack
    try:
        scipy.linalg.cholesky_banded(band, lower=True, overwrite_ab=True, check_finite=False)
    except np.linalg.LinAlgError:
        return False
    return True


def _by_absolute_values(sizes: Matrix) -> float:
    """Bound the spectral norm of a matrix W >= 0 by the power method on G = W^T W.

    Every x > 0 gives a bound of the largest eigenvalue: max_i (G x)_i / x_i (Collatz).
    """
    x = np.ones(sizes.shape[1])
    best = np.inf
    pad = 1 + 2 * gamma(most_terms(sizes) + most_terms(sp.csr_array(sizes.T)) + 4)
    for _ in range(constants.POWER_STEPS):
        y = sizes.T @ (sizes @ x)
        best = min(best, float((y / x).max()))
        x = np.maximum(y / y.max(), 1e-6) if y.any() else x
    return float(np.sqrt(best) * pad) + TINY
