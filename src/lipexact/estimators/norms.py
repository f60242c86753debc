"""Upper bounds of operator norms of matrices, between any two symmetric sets."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.csgraph
import scipy.sparse.linalg

from lipexact.estimators import constants
from lipexact.numerics.arrays import Matrix, Vector, dense, most_terms
from lipexact.numerics.rounding import TINY, gamma
from lipexact.numerics.sign_relaxation import spectral_norms
from lipexact.sets.unit_balls import SymmetricSet

_NUMBERS = 2**23  # of matrices that are made dense
_SMALL = 2048  # sizes of matrices whose Gram matrix is dense
_BAND = 2**25  # numbers of banded Gram matrices


def operator_norm_upper(
    matrix: Matrix, functionals: SymmetricSet, directions: SymmetricSet
) -> float:
    """Bound max c^T M v over two sets from above, by the minimum of several bounds.

    It is exact up to rounding where one set has few vertices, or both are ellipsoids.

    Parameters
    ----------
    matrix
        M, of shape (m, n).
    functionals, directions
        The sets C in R^m and V in R^n.
    """
    sizes = abs(matrix)
    of_absolute_values = absolute_norm(sizes, functionals, directions)
    bounds = [of_absolute_values]
    lost = gamma(sum(matrix.shape) + 4) * of_absolute_values + TINY
    max_vertices = constants.MAX_NORM_VERTICES
    if functionals.vertex_count <= max_vertices:
        products = _vertex_products(functionals, matrix)
        bounds.append(_largest(directions.support_upper, products) + lost)
    elif directions.vertex_count <= max_vertices:
        products = _vertex_products(directions, matrix.T)
        bounds.append(_largest(functionals.support_upper, products) + lost)
    elif functionals.axes is not None and directions.axes is not None:
        scaled = sp.diags_array(functionals.axes) @ matrix @ sp.diags_array(directions.axes)
        bounds.append(spectral_norm(scaled) + lost)
    elif (
        matrix.shape[0] * matrix.shape[1] <= _NUMBERS
        and max(matrix.shape) <= constants.MAX_SIGN_ROWS
    ):
        full = dense(matrix)
        rows = reach(functionals)[:, None] * full
        columns = (full * reach(directions)).T
        bounds.append(float(directions.zonotope_radius(rows[None])[0][0]) + lost)
        bounds.append(float(functionals.zonotope_radius(columns[None])[0][0]) + lost)
    return _minimum(bounds)


def absolute_norm(sizes: Matrix, functionals: SymmetricSet, directions: SymmetricSet) -> float:
    """Bound max |c|^T M |v| over two sets from above, for a matrix M >= 0.

    That bounds max c^T J v for every J whose entries are at most those of M in absolute value. For
    M = [[1, 2]], the functional 1 and the directions of linf norm 1, it is 3.
    """
    if not np.isfinite(sizes.data if sp.issparse(sizes) else sizes).all():
        return np.inf
    rounding = 1 + gamma(sum(sizes.shape) + 4)
    bounds = [
        directions.support_abs((sizes.T @ reach(functionals))[None, :])[0],
        functionals.support_abs((sizes @ reach(directions))[None, :])[0],
    ]
    if functionals.vertex_count <= constants.MAX_NORM_VERTICES:
        products = _vertex_products(functionals, sizes, absolute=True)
        bounds.append(_largest(directions.support_abs, products))
    if directions.vertex_count <= constants.MAX_NORM_VERTICES:
        products = _vertex_products(directions, sizes.T, absolute=True)
        bounds.append(_largest(functionals.support_abs, products))
    if functionals.axes is not None and directions.axes is not None:
        bounds.append(
            spectral_norm(
                sp.diags_array(functionals.axes) @ sizes @ sp.diags_array(directions.axes)
            )
        )
    return _minimum(bounds) * rounding + TINY * bool(sizes.max() > 0)


def product_upper(a: float, b: float) -> float:
    """Bound the product of two bounds, up to relative rounding: 0 only where one of them is 0."""
    return 0.0 if a == 0 or b == 0 else a * b + TINY


def _minimum(bounds: list[float]) -> float:
    """Return the smallest bound; NaN, of an overflow, is none."""
    return float(min((each for each in bounds if not np.isnan(each)), default=np.inf))


def _largest(norm: Callable[[Vector], Vector], parts: list[Vector]) -> float:
    """Return the largest norm of all rows; NaN where one of them is NaN."""
    return float(np.max([norm(part).max() for part in parts]))


def reach(symmetric_set: SymmetricSet) -> Vector:
    """Return the maximum of each coordinate over a set, shape (n,)."""
    step = max(_NUMBERS // symmetric_set.dim, 1)
    parts = []
    for start in range(0, symmetric_set.dim, step):
        units = np.eye(min(step, symmetric_set.dim - start), symmetric_set.dim, start)
        parts.append(symmetric_set.support_abs(units))
    return np.concatenate(parts)


def spectral_norm(matrix: Matrix) -> float:
    """At least the largest singular value, and hardly more, or no more than that of the absolute values.

    Of small matrices by the eigenvalues of the Gram matrix. Of large sparse ones, such as convolutions, by Lanczos'
    method, which converges from below; then Cholesky's method on the banded matrix s^2 I - W W^T proves that s, a
    little larger, is a bound (Rump, BIT 46, 2006).
    """
    sparse = sp.issparse(matrix) and matrix.shape[0] * matrix.shape[1] > _NUMBERS
    if sparse or min(matrix.shape) > _SMALL:
        return _large(sp.csr_array(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T))
    return float(spectral_norms(dense(matrix)[None, ...])[0])


def _large(matrix: Matrix) -> float:
    """Of a large sparse matrix, in units of a power of two, as its squares may underflow."""
    largest = float(np.abs(matrix.data).max(initial=0.0))
    if largest == 0:
        return 0.0
    if not np.isfinite(largest):
        return np.inf
    unit = math.ldexp(1.0, min(math.frexp(largest)[1], 1023))
    unscaled = matrix / unit
    if min(matrix.shape) <= _SMALL:
        found = _by_gram(unscaled)
    else:
        proven = _banded(unscaled)
        found = _by_absolute_values(abs(unscaled)) if proven is None else proven
    return found * unit + TINY


def _by_gram(matrix: Matrix) -> float:
    """Of a matrix of few rows and many columns: by the root of its Gram matrix's largest eigenvalue."""
    gram, lost = _gram(matrix)
    return float(np.sqrt(spectral_norms(dense(gram)[None, ...])[0] + lost)) * (1 + gamma(4))


def _gram(matrix: Matrix) -> tuple[Matrix, float]:
    """W W^T, and how far its largest eigenvalue is off at most."""
    sizes = abs(matrix)
    terms = most_terms(matrix)
    lost = (
        gamma(terms + 2)
        * float((sizes @ (sizes.T @ np.ones(matrix.shape[0]))).max())
        * (1 + gamma(2 * terms))
    )
    return sp.csr_array(matrix @ matrix.T), lost + TINY * matrix.shape[1]


def _banded(matrix: Matrix) -> float | None:
    """By a banded Cholesky factor; None where that would take too much memory, or does not succeed."""
    gram, lost = _gram(matrix)
    order = sp.csgraph.reverse_cuthill_mckee(gram, symmetric_mode=True)
    gram = sp.coo_array(gram[order][:, order])
    n, below = gram.shape[0], gram.row >= gram.col
    rows, columns, values = gram.row[below], gram.col[below], gram.data[below]
    width = int((rows - columns).max(initial=0)) + 1
    if width * n > _BAND:
        return None
    start = np.random.default_rng(0).normal(size=n)
    try:
        (largest,) = sp.linalg.eigsh(
            sp.csr_array(gram), k=1, v0=start, tol=1e-9, return_eigenvectors=False
        )
    except sp.linalg.ArpackError:
        return None
    for room in (1e-8, 1e-6, 1e-4, 1e-2):
        top = float(largest) * (1 + room)
        band = np.zeros((width, n))
        band[rows - columns, columns] = -values
        band[0] += top
        # The factor's rounding (gamma of its length times the trace), and that of the diagonal.
        slack = gamma(width + 4) * n * top
        band[0] -= slack
        try:
            scipy.linalg.cholesky_banded(band, lower=True, overwrite_ab=True, check_finite=False)
        except np.linalg.LinAlgError:
            continue
        return float(np.sqrt(top + lost + gamma(4) * top)) * (1 + gamma(4))
    return None


def _by_absolute_values(sizes: Matrix) -> float:
    """The spectral norm of a matrix >= 0 from above: max_i (G x)_i / x_i for G = W^T W and x > 0 (Collatz)."""
    x = np.ones(sizes.shape[1])
    best, many = np.inf, 1 + 2 * gamma(most_terms(sizes) + most_terms(sp.csr_array(sizes.T)) + 4)
    for _ in range(20):
        y = sizes.T @ (sizes @ x)
        best = min(best, float((y / x).max()))
        x = np.maximum(y / y.max(), 1e-6) if y.any() else x
    return float(np.sqrt(best) * many) + TINY


def _vertex_products(
    symmetric_set: SymmetricSet, matrix: Matrix, *, absolute: bool = False
) -> list[Vector]:
    """Return the vertices of a set, or their absolute values, times a matrix, in parts."""
    parts = []
    for chunk in symmetric_set.vertices():
        step = max(_NUMBERS // max(matrix.shape), 1)
        for start in range(0, len(chunk), step):
            part = chunk[start : start + step]
            # Sparse arrays multiply from the left only.
            parts.append(np.asarray((matrix.T @ (np.abs(part) if absolute else part).T).T))
    return parts
