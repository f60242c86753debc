"""Upper bounds of operator norms of matrices, between any two symmetric sets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from lipexact.estimators import constants
from lipexact.numerics.arrays import Matrix, Vector, dense
from lipexact.numerics.rounding import TINY, gamma
from lipexact.numerics.spectral import spectral_norm
from lipexact.sets.unit_balls import SymmetricSet


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
        matrix.shape[0] * matrix.shape[1] <= constants.MAX_DENSE_NUMBERS
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
    step = max(constants.MAX_DENSE_NUMBERS // symmetric_set.dim, 1)
    parts = []
    for start in range(0, symmetric_set.dim, step):
        units = np.eye(min(step, symmetric_set.dim - start), symmetric_set.dim, start)
        parts.append(symmetric_set.support_abs(units))
    return np.concatenate(parts)


def _vertex_products(
    symmetric_set: SymmetricSet, matrix: Matrix, *, absolute: bool = False
) -> list[Vector]:
    """Return the vertices of a set, or their absolute values, times a matrix, in parts."""
    parts = []
    for chunk in symmetric_set.vertices():
        step = max(constants.MAX_DENSE_NUMBERS // max(matrix.shape), 1)
        for start in range(0, len(chunk), step):
            part = chunk[start : start + step]
            # Sparse arrays multiply from the left only.
            parts.append(np.asarray((matrix.T @ (np.abs(part) if absolute else part).T).T))
    return parts
