"""The largest c^T J v over two bodies, for the Jacobian J of one linear region.

Exact up to rounding where one of the bodies has few enough vertices, or both are Euclidean balls; else (for
instance from linf to l2 in many dimensions, which is NP-hard) a lower bound only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipexact.bodies import Body
from lipexact.graph.ir import Vector
from lipexact.network import Network
from lipexact.pattern import Pattern
from lipexact.regions import gradients

_MOST_VERTICES = 2.0**20
_CLIMBS = 8  # turns of the alternating maximisation


@dataclass(frozen=True, eq=False)
class MatrixNorm:
    """lower <= max c^T J v <= upper.

    Attributes
    ----------
    lower
        c^T J v for the two below, accurate to rounding.
    upper
        `lower`, up to rounding, where the maximum is known; infinite where it is not.
    functional, direction
        c and v, of shapes (m,) and (d,).
    """

    lower: float
    upper: float
    functional: Vector
    direction: Vector


def matrix_norm(network: Network, functionals: Body, directions: Body, pattern: Pattern) -> MatrixNorm:
    """The operator norm of the Jacobian under a pattern.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    functionals, directions
        C in R^m and V in R^d.
    pattern
        The gates' states; free gates count as off.

    Returns
    -------
    MatrixNorm
    """
    least, most, found = -1.0, 0.0, (np.zeros(0), np.zeros(0))
    if functionals.vertex_count <= min(directions.vertex_count, _MOST_VERTICES):
        for chunk in functionals.vertices():
            pulled = gradients(network, chunk, pattern)  # anew for each: differences of rows may cancel
            values, most = directions.value(pulled), max(most, float(directions.ceiling(pulled).max()))
            k = int(values.argmax())
            if values[k] > least:
                least, found = float(values[k]), (chunk[k], pulled[k])
        return MatrixNorm(least, max(least, most), found[0], directions.attains(found[1][None, :])[0])
    jacobian = gradients(network, np.eye(network.output.size), pattern)
    if directions.vertex_count <= _MOST_VERTICES:
        for chunk in directions.vertices():
            pushed = chunk @ jacobian.T
            values, most = functionals.value(pushed), max(most, float(functionals.ceiling(pushed).max()))
            k = int(values.argmax())
            if values[k] > least:
                least, found = float(values[k]), (chunk[k], pushed[k])
        return MatrixNorm(least, max(least, most), functionals.attains(found[1][None, :])[0], found[0])
    if not (functionals.piecewise_linear or directions.piecewise_linear):
        left, sizes, right = np.linalg.svd(jacobian, full_matrices=False)
        return MatrixNorm(float(sizes[0]), float(sizes[0]), left[:, 0], right[0])
    value, functional, direction = _climb(jacobian[None, ...], functionals, directions)
    return MatrixNorm(float(value[0]), np.inf, functional[0], direction[0])


def estimate(jacobians: Vector, functionals: Body, directions: Body) -> Vector:
    """About the operator norms of many Jacobians, shape (k, m, d); equal to them for the easy pairs."""
    count, m, d = jacobians.shape
    if not (functionals.piecewise_linear or directions.piecewise_linear):
        return np.asarray(np.linalg.norm(jacobians, 2, axis=(1, 2)))
    if functionals.vertex_count <= m or (np.isinf(directions.vertex_count) and directions.piecewise_linear):
        chunks = functionals.vertices() if functionals.vertex_count <= m else [np.eye(m)]
        rows = np.concatenate([chunk @ jacobians for chunk in chunks], axis=1)
        return np.asarray(directions.guess(rows.reshape(-1, d)).reshape(count, -1).max(axis=1))
    if directions.vertex_count <= d:
        columns = np.concatenate([jacobians @ chunk.T for chunk in directions.vertices()], axis=2).swapaxes(1, 2)
        return np.asarray(functionals.guess(columns.reshape(-1, m)).reshape(count, -1).max(axis=1))
    return _climb(jacobians, functionals, directions)[0]


def _climb(jacobians: Vector, functionals: Body, directions: Body) -> tuple[Vector, Vector, Vector]:
    """c^T J v, c and v, each in turn the best answer to the other, from the best row or column."""
    count, m, d = jacobians.shape
    rows = directions.value(jacobians.reshape(count * m, d)).reshape(count, m)
    v = directions.attains(jacobians[np.arange(count), rows.argmax(axis=1)])
    values = np.full(count, -1.0)
    for _ in range(_CLIMBS):
        u = np.einsum("kmd,kd->km", jacobians, v)
        c = functionals.attains(u)
        pulled = np.einsum("kmd,km->kd", jacobians, c)
        v = directions.attains(pulled)
        reached = (pulled * v).sum(axis=1)
        if (reached <= values * (1 + 1e-12)).all():
            break
        values = reached
    return values, c, v
