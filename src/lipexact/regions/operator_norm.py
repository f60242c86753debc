"""The operator norm of the Jacobian J of one linear region: the largest c^T J v over two sets.

It is exact up to rounding where one of the sets has few enough vertices, or both are ellipsoids.
Else (for instance from linf to l2 in many dimensions, which is NP-hard) only a lower bound is
known.

For example, let J = [[1, 2], [3, -4]], from linf to l1: c and v range over the square [-1, 1]^2.
The largest value is attained at a vertex v, where max_c c^T J v is the l1 norm of J v. For
v = (1, 1) that is |3| + |-1| = 4, and for v = (1, -1) it is |-1| + |7| = 8, with c = (-1, 1). The
norm is 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipexact.graph.pattern import Pattern
from lipexact.network import Network
from lipexact.numerics.arrays import Vector, lengths, summary
from lipexact.numerics.rounding import TINY, gamma
from lipexact.numerics.spectral import spectral_norms
from lipexact.regions import constants
from lipexact.regions.gradients import gradients
from lipexact.sets.unit_balls import SymmetricSet


@dataclass(frozen=True, eq=False)
class OperatorNorm:
    """Bounds lower <= max c^T J v <= upper, and arguments that attain the lower one.

    Attributes
    ----------
    lower
        c^T J v for the two below, accurate to rounding.
    upper
        `lower` plus what rounding may have lost, where the maximum is known; infinite where it is
        not.
    functional, direction
        c and v, of shapes (m,) and (d,).
    """

    lower: float
    upper: float
    functional: Vector
    direction: Vector

    def __repr__(self) -> str:
        return (
            f"OperatorNorm(lower={self.lower!r}, upper={self.upper!r}, "
            f"functional={summary(self.functional)}, direction={summary(self.direction)})"
        )


def jacobian_norm(
    network: Network,
    functionals: SymmetricSet,
    directions: SymmetricSet,
    pattern: Pattern,
    *,
    max_vertices: float | None = None,
) -> OperatorNorm:
    """Compute the operator norm of the Jacobian under a pattern.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    functionals, directions
        The sets of c in R^m and of v in R^d.
    pattern
        The gates' states; free gates count as off.
    max_vertices
        How many vertices may be tried, `constants.MAX_VERTICES` by default.

    Returns
    -------
    OperatorNorm
    """
    limit = constants.MAX_VERTICES if max_vertices is None else max_vertices
    norm = _by_vertices(network, functionals, directions, pattern, limit, exact=False)
    if norm is not None and norm.upper - norm.lower > constants.NEGLIGIBLE_ERROR * norm.upper:
        # Much cancels.
        norm = _by_vertices(network, functionals, directions, pattern, limit, exact=True)
    if norm is not None:
        return norm
    jacobian, errors = gradients(network, np.eye(network.output.size), pattern)
    if functionals.axes is not None and directions.axes is not None:
        return _between_ellipsoids(functionals.axes, directions.axes, jacobian, errors)
    _, functional, _ = _alternate(jacobian[None, ...], functionals, directions)
    pulled, errors = gradients(network, functional, pattern)
    best = _RunningMaximum()
    best.take(*_gradient_norms(directions, pulled, errors), functional, pulled)
    return OperatorNorm(best.lower, np.inf, functional[0], directions.argmax(pulled)[0])


def _by_vertices(
    network: Network,
    functionals: SymmetricSet,
    directions: SymmetricSet,
    pattern: Pattern,
    limit: float,
    *,
    exact: bool,
) -> OperatorNorm | None:
    """Enumerate the vertices of one set; None if both have more than `limit`.

    It is the set with fewer vertices. With `exact` it is that of the functionals if possible, since
    the gradient for each functional can be made exact.
    """
    most = limit if exact else min(directions.vertex_count, limit)
    if functionals.vertex_count <= most:
        return _over_functionals(network, functionals, directions, pattern, exact=exact)
    if directions.vertex_count <= limit:
        return _over_directions(network, functionals, directions, pattern, exact=exact)
    return None


def _over_functionals(
    network: Network,
    functionals: SymmetricSet,
    directions: SymmetricSet,
    pattern: Pattern,
    *,
    exact: bool,
) -> OperatorNorm:
    """Maximise the norm of c^T J over the vertices c."""
    best = _RunningMaximum()
    for chunk in functionals.vertices():
        # The gradients are not made of J's rows, since differences of rows may cancel.
        pulled, errors = gradients(network, chunk, pattern, exact=exact)
        best.take(*_gradient_norms(directions, pulled, errors), chunk, pulled)
    direction = directions.argmax(best.image[None, :])[0]
    return OperatorNorm(best.lower, max(best.lower, best.upper), best.vertex, direction)


def _over_directions(
    network: Network,
    functionals: SymmetricSet,
    directions: SymmetricSet,
    pattern: Pattern,
    *,
    exact: bool,
) -> OperatorNorm:
    """Maximise the norm of J v over the vertices v."""
    best = _RunningMaximum()
    jacobian, errors = gradients(network, np.eye(network.output.size), pattern, exact=exact)
    for chunk in directions.vertices():
        pushed = chunk @ jacobian.T
        # The d operations of the product, and the m of the norm that follows.
        unit = gamma(sum(jacobian.shape))
        sizes = np.abs(chunk) @ (errors + unit * np.abs(jacobian)).T
        upper = functionals.support_upper(pushed) + TINY * jacobian.any()
        best.take(functionals.support(pushed), upper, functionals.support_abs(sizes), chunk, pushed)
    functional = functionals.argmax(best.image[None, :])[0]
    return OperatorNorm(best.lower, max(best.lower, best.upper), functional, best.vertex)


def _between_ellipsoids(
    functional_axes: Vector, direction_axes: Vector, jacobian: Vector, errors: Vector
) -> OperatorNorm:
    """Compute the largest singular value of the Jacobian in the coordinates of both ellipsoids."""
    axes = np.outer(functional_axes, direction_axes)
    scaled = axes * jacobian
    left, values, right = np.linalg.svd(scaled, full_matrices=False)
    # The errors of the entries, and of two products of each, by their Euclidean length: it bounds
    # the largest singular value of the matrix of errors.
    error = lengths((axes * (errors + gamma(2) * np.abs(jacobian))).reshape(1, -1))[0]
    best = _RunningMaximum()
    best.take(
        values[:1],
        spectral_norms(scaled[None, ...]),
        error,
        left.T[:1] * functional_axes,
        right[:1] * direction_axes,
    )
    return OperatorNorm(best.lower, max(best.lower, best.upper), best.vertex, best.image)


def _gradient_norms(
    directions: SymmetricSet, pulled: Vector, errors: Vector
) -> tuple[Vector, Vector, Vector]:
    """Return max_v p^T v for each gradient p, upper bounds of it, and bounds of its errors.

    Parameters
    ----------
    directions
        The set of v.
    pulled, errors
        The gradients, and what they may be off, shape (k, d) each.

    Returns
    -------
    values, upper, errors
        Shape (k,) each.
    """
    # The norm of n entries is a sum of at most n terms, each a product with an entry of a vertex or
    # of an axis.
    unit = gamma(pulled.shape[1])
    total = directions.support_abs(errors) + unit * directions.support_abs(np.abs(pulled))
    upper = directions.support_upper(pulled) + TINY * pulled.any(axis=1)
    return directions.support(pulled), upper, total


class _RunningMaximum:
    """The largest of many values.

    Attributes
    ----------
    lower
        The largest value; minus its rounding error where that matters.
    upper
        An upper bound of all values, with all rounding errors.
    vertex, image
        Where the largest value is attained: c or v, and c^T J or J v.
    """

    def __init__(self) -> None:
        self.lower = -1.0
        self.upper = 0.0
        self.vertex = np.zeros(0)
        self.image = np.zeros(0)

    def take(
        self, values: Vector, upper: Vector, errors: Vector, vertices: Vector, images: Vector
    ) -> None:
        """Count k values, with upper bounds, errors, and the arrays of shape (k, n) they are of."""
        self.upper = max(self.upper, float((upper + errors).max()) * (1 + gamma(2)))
        noisy = errors > constants.NEGLIGIBLE_ERROR * values
        values = np.maximum(values - np.where(noisy, errors, 0.0), 0.0)
        k = int(values.argmax())
        if values[k] > self.lower:
            self.lower = float(values[k])
            self.vertex = vertices[k]
            self.image = images[k]


# --- Estimates for many Jacobians ----------------------------------------------------------------


def estimate_norms(
    jacobians: Vector,
    functionals: SymmetricSet,
    directions: SymmetricSet,
    *,
    max_vertices: int | None = None,
) -> Vector:
    """Estimate the operator norms of many Jacobians.

    The estimates equal the norms, but for rounding, between two ellipsoids, and where one of the
    sets has at most `max_vertices` vertices. In other cases they are usually lower.

    Parameters
    ----------
    jacobians
        Shape (k, m, d).
    functionals, directions
        The sets of c in R^m and of v in R^d.
    max_vertices
        By default as many as there are outputs (of functionals) and inputs (of directions).

    Returns
    -------
    Vector
        Shape (k,).
    """
    count, m, d = jacobians.shape
    most_functionals = m if max_vertices is None else max_vertices
    most_directions = d if max_vertices is None else max_vertices
    if functionals.axes is not None and directions.axes is not None:
        axes = np.outer(functionals.axes, directions.axes)
        return np.asarray(np.linalg.norm(axes * jacobians, 2, axis=(1, 2)))
    few_functionals = functionals.vertex_count <= most_functionals
    if few_functionals or (np.isinf(directions.vertex_count) and directions.axes is None):
        chunks = functionals.vertices() if few_functionals else [np.eye(m)]
        rows = np.concatenate([chunk @ jacobians for chunk in chunks], axis=1)
        values = directions.support_estimate(rows.reshape(-1, d))
        return np.asarray(values.reshape(count, -1).max(axis=1))
    if directions.vertex_count <= most_directions:
        products = [jacobians @ chunk.T for chunk in directions.vertices()]
        columns = np.concatenate(products, axis=2).swapaxes(1, 2)
        values = functionals.support_estimate(columns.reshape(-1, m))
        return np.asarray(values.reshape(count, -1).max(axis=1))
    return _alternate(jacobians, functionals, directions)[0]


def _alternate(
    jacobians: Vector, functionals: SymmetricSet, directions: SymmetricSet
) -> tuple[Vector, Vector, Vector]:
    """Maximise c^T J v in c and in v by turns, from the row of J with the largest norm.

    Each turn is a support function of one of the sets, and the value never falls; it may end at a
    local maximum.

    Returns
    -------
    values, functionals, directions
        c^T J v, c and v, of shapes (k,), (k, m) and (k, d).
    """
    count, m, d = jacobians.shape
    rows = directions.support(jacobians.reshape(count * m, d)).reshape(count, m)
    v = directions.argmax(jacobians[np.arange(count), rows.argmax(axis=1)])
    values = np.full(count, -1.0)
    for _ in range(constants.MAX_ALTERNATIONS):
        pushed = np.einsum("kmd,kd->km", jacobians, v)
        c = functionals.argmax(pushed)
        pulled = np.einsum("kmd,km->kd", jacobians, c)
        v = directions.argmax(pulled)
        reached = (pulled * v).sum(axis=1)
        if (reached <= values * (1 + constants.ALTERNATION_TOLERANCE)).all():
            break
        values = reached
    return values, c, v
