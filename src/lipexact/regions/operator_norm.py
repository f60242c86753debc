"""The largest c^T J v over two bodies, for the Jacobian J of one linear region.

Exact up to rounding where one of the bodies has few enough vertices, or both are Euclidean balls; else (for
instance from linf to l2 in many dimensions, which is NP-hard) a lower bound only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipexact.graph.pattern import Pattern
from lipexact.network import Network
from lipexact.numerics.arrays import Vector, lengths
from lipexact.numerics.rounding import TINY, gamma
from lipexact.numerics.sign_relaxation import spectral_norms
from lipexact.regions.gradients import gradients
from lipexact.sets.unit_balls import SymmetricSet

_MOST_VERTICES = 2.0**20
_ROUNDING = 1e-10  # relative errors below are no matter
_CLIMBS = 8  # turns of the alternating maximisation


@dataclass(frozen=True, eq=False)
class OperatorNorm:
    """lower <= max c^T J v <= upper.

    Attributes
    ----------
    lower
        c^T J v for the two below, accurate to rounding.
    upper
        `lower`, and what rounding may have lost, where the maximum is known; infinite where it is not.
    functional, direction
        c and v, of shapes (m,) and (d,).
    """

    lower: float
    upper: float
    functional: Vector
    direction: Vector


def jacobian_norm(
    network: Network,
    functionals: SymmetricSet,
    directions: SymmetricSet,
    pattern: Pattern,
    *,
    most: float = _MOST_VERTICES,
) -> OperatorNorm:
    """The operator norm of the Jacobian under a pattern.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    functionals, directions
        C in R^m and V in R^d.
    pattern
        The gates' states; free gates count as off.
    most
        How many vertices may be tried.

    Returns
    -------
    MatrixNorm
    """
    norm = _enumerated(network, functionals, directions, pattern, most, exact=False)
    if norm is not None and norm.upper - norm.lower > _ROUNDING * norm.upper:  # much cancels
        norm = _enumerated(network, functionals, directions, pattern, most, exact=True)
    if norm is not None:
        return norm
    jacobian, off = gradients(network, np.eye(network.output.size), pattern)
    if functionals.axes is not None and directions.axes is not None:
        axes = np.outer(functionals.axes, directions.axes)
        left, sizes, right = np.linalg.svd(axes * jacobian, full_matrices=False)
        best = _Best()
        # How far its entries are off, and two products of each, by their Euclidean length.
        error = lengths((axes * (off + gamma(2) * np.abs(jacobian))).reshape(1, -1))[0]
        ceilings = spectral_norms((axes * jacobian)[None, ...])
        best.take(
            sizes[:1], ceilings, error, left.T[:1] * functionals.axes, right[:1] * directions.axes
        )
        return OperatorNorm(best.least, max(best.least, best.most), best.one, best.other)
    _, functional, _ = _climb(jacobian[None, ...], functionals, directions)
    pulled, off = gradients(network, functional, pattern)
    best = _Best()
    best.take(*_measured(directions, pulled, off), functional, pulled)
    return OperatorNorm(best.least, np.inf, functional[0], directions.argmax(pulled)[0])


def _enumerated(
    network: Network,
    functionals: SymmetricSet,
    directions: SymmetricSet,
    pattern: Pattern,
    most: float,
    *,
    exact: bool,
) -> OperatorNorm | None:
    """By the vertices of one body; with `exact`, of the functionals if possible, whose gradients are exact."""
    best = _Best()
    if functionals.vertex_count <= (most if exact else min(directions.vertex_count, most)):
        for chunk in functionals.vertices():
            pulled, off = gradients(
                network, chunk, pattern, exact=exact
            )  # anew: differences of rows may cancel
            best.take(*_measured(directions, pulled, off), chunk, pulled)
        return OperatorNorm(
            best.least,
            max(best.least, best.most),
            best.one,
            directions.argmax(best.other[None, :])[0],
        )
    if directions.vertex_count <= most:
        jacobian, off = gradients(network, np.eye(network.output.size), pattern, exact=exact)
        for chunk in directions.vertices():
            pushed = chunk @ jacobian.T
            # The d operations of the product, and the m of the norm that follows.
            sizes = np.abs(chunk) @ (off + gamma(sum(jacobian.shape)) * np.abs(jacobian)).T
            ceilings = functionals.support_upper(pushed) + TINY * jacobian.any()
            best.take(
                functionals.support(pushed), ceilings, functionals.support_abs(sizes), chunk, pushed
            )
        functional = functionals.argmax(best.other[None, :])[0]
        return OperatorNorm(best.least, max(best.least, best.most), functional, best.one)
    return None


def _measured(
    directions: SymmetricSet, pulled: Vector, off: Vector
) -> tuple[Vector, Vector, Vector]:
    """The norms of gradients, upper bounds of them, and what they may be off."""
    # A norm of n entries is one sum of n terms at most, each a product with a point's or an axis's entry.
    errors = directions.support_abs(off) + gamma(pulled.shape[1]) * directions.support_abs(
        np.abs(pulled)
    )
    return (
        directions.support(pulled),
        directions.support_upper(pulled) + TINY * pulled.any(axis=1),
        errors,
    )


class _Best:
    """The largest of many values, lowered where their rounding errors matter, and a bound that counts them all."""

    def __init__(self) -> None:
        self.least, self.most = -1.0, 0.0
        self.one = self.other = np.zeros(0)

    def take(
        self, values: Vector, ceilings: Vector, errors: Vector, ones: Vector, others: Vector
    ) -> None:
        self.most = max(self.most, float((ceilings + errors).max()) * (1 + gamma(2)))
        values = np.maximum(values - np.where(errors > _ROUNDING * values, errors, 0.0), 0.0)
        k = int(values.argmax())
        if values[k] > self.least:
            self.least, self.one, self.other = float(values[k]), ones[k], others[k]


def estimate_norms(
    jacobians: Vector,
    functionals: SymmetricSet,
    directions: SymmetricSet,
    *,
    most: int | None = None,
) -> Vector:
    """About the operator norms of many Jacobians, shape (k, m, d); equal to them for the easy pairs.

    Those are ellipsoids, and pairs of which one body has at most so many vertices: None for as many as there are
    outputs or inputs.
    """
    count, m, d = jacobians.shape
    rows_most, columns_most = (m, d) if most is None else (most, most)
    if functionals.axes is not None and directions.axes is not None:
        return np.asarray(
            np.linalg.norm(np.outer(functionals.axes, directions.axes) * jacobians, 2, axis=(1, 2))
        )
    if functionals.vertex_count <= rows_most or (
        np.isinf(directions.vertex_count) and directions.axes is None
    ):
        chunks = functionals.vertices() if functionals.vertex_count <= rows_most else [np.eye(m)]
        rows = np.concatenate([chunk @ jacobians for chunk in chunks], axis=1)
        return np.asarray(
            directions.support_estimate(rows.reshape(-1, d)).reshape(count, -1).max(axis=1)
        )
    if directions.vertex_count <= columns_most:
        columns = np.concatenate(
            [jacobians @ chunk.T for chunk in directions.vertices()], axis=2
        ).swapaxes(1, 2)
        return np.asarray(
            functionals.support_estimate(columns.reshape(-1, m)).reshape(count, -1).max(axis=1)
        )
    return _climb(jacobians, functionals, directions)[0]


def _climb(
    jacobians: Vector, functionals: SymmetricSet, directions: SymmetricSet
) -> tuple[Vector, Vector, Vector]:
    """c^T J v, c and v, each in turn the best answer to the other, from the best row or column."""
    count, m, d = jacobians.shape
    rows = directions.support(jacobians.reshape(count * m, d)).reshape(count, m)
    v = directions.argmax(jacobians[np.arange(count), rows.argmax(axis=1)])
    values = np.full(count, -1.0)
    for _ in range(_CLIMBS):
        u = np.einsum("kmd,kd->km", jacobians, v)
        c = functionals.argmax(u)
        pulled = np.einsum("kmd,km->kd", jacobians, c)
        v = directions.argmax(pulled)
        reached = (pulled * v).sum(axis=1)
        if (reached <= values * (1 + 1e-12)).all():
            break
        values = reached
    return values, c, v
