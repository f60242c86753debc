"""Bounds by multipliers for the slopes of ReLUs, each proven by Cholesky's method.

With w = (x, h), h the outputs of the gates that are open, every pre-activation is A w and the
output C w, up to constants. For differences of two points, h_i (A w - h)_i >= 0: a ReLU's slope is
in [0, 1]. So for every diagonal T >= 0, |C w|^2 <= rho |x|^2 follows from

    M = [[rho I - Cx^T Cx,  -Ax^T T - Cx^T Ch],
         [.,                2 T - T Ah - Ah^T T - Ch^T Ch]]  positive semidefinite

(Fazlyab et al., NeurIPS 2019; Theorem 2 with alpha = 0, beta = 1; Pauli et al., 2022, for the
diagonal T). Whatever a solver says, rho is then computed from T, and Cholesky's method on M proves
it, with room for rounding.

For one neuron, 3 relu(2 x): A = [2, 0] and C = [0, 3], so M = [[rho, -2 t], [-2 t, 2 t - 9]]. It is
positive semidefinite for 2 t > 9 and rho >= 4 t^2 / (2 t - 9), which is least for t = 9: rho = 36,
and the bound is 6, the constant itself.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg

from lipexact.estimators.constants import BOUND_INCREASES, MULTIPLIER_INCREASES
from lipexact.estimators.lure import LureSystem
from lipexact.numerics.arrays import Vector
from lipexact.numerics.rounding import TINY, gamma
from lipexact.numerics.spectral import spectral_norm


def proven_bound(system: LureSystem, multipliers: Vector) -> float:
    """Return a proven upper bound of the Euclidean constant; infinity if they prove none.

    Parameters
    ----------
    system
        The network.
    multipliers
        The diagonal of T, shape (n,); negative entries count as 0.
    """
    if not system.gates or not system.sizes[1].any():
        return spectral_norm(system.c) + gamma(system.operations) * spectral_norm(system.sizes[1])
    if not np.isfinite(multipliers).all():
        return math.inf
    multipliers = np.maximum(multipliers, 0.0)
    units = typical_sizes(system.a, system.inputs) ** 2
    largest = float((multipliers * units).max())
    for increase in MULTIPLIER_INCREASES:
        raised = multipliers * (1 + increase) + increase * largest / units
        rho = least_rho(system, raised)
        bound = math.inf if rho is None else bound_from_rho(system, raised, rho)
        if math.isfinite(bound):
            return bound
    return math.inf


def least_rho(system: LureSystem, multipliers: Vector) -> float | None:
    """Return about the least rho for some multipliers, by Schur's complement; None if none exists.

    With M = [[rho I - P, Q], [Q^T, R]], R positive definite, it is the largest eigenvalue of
    P + Q R^-1 Q^T.
    """
    d = system.inputs
    matrix = _matrix(system, multipliers, system.a, system.c)
    inner = matrix[d:, d:]
    size = np.sqrt(np.maximum(np.diag(inner), 0.0))
    if not (size > 0).all():
        return None
    try:
        factor = np.linalg.cholesky(inner / np.outer(size, size))
    except np.linalg.LinAlgError:
        return None
    half = scipy.linalg.solve_triangular(factor, matrix[d:, :d] / size[:, None], lower=True)
    return float(np.square(np.linalg.norm(np.vstack([system.c[:, :d], half]), 2)))


def bound_from_rho(system: LureSystem, multipliers: Vector, rho: float) -> float:
    """Return the root of a rho' >= rho for which M is proven positive definite; else infinity.

    It is the first of a few increases of rho, by 1e-11 to 1e-3 of it.
    """
    d = system.inputs
    matrix = _matrix(system, multipliers, system.a, system.c)
    off = (
        gamma(2 * system.operations + sum(system.c.shape) + 8)
        * _matrix(system, multipliers, *system.sizes, absolute=True)
        + TINY
    )
    for increase in BOUND_INCREASES:
        top = rho * (1 + increase) + TINY
        full = matrix.copy()
        lost = off + gamma(2) * np.diag(np.r_[np.full(d, top), np.zeros(system.gates)])
        full[np.arange(d), np.arange(d)] += top
        if positive_definite(full, lost):
            return math.sqrt(top) * (1 + gamma(4))
    return math.inf


def _matrix(
    system: LureSystem, multipliers: Vector, a: Vector, c: Vector, *, absolute: bool = False
) -> Vector:
    """Return M without rho; if `absolute`, a bound of the absolute values behind its entries."""
    d = system.inputs
    n = system.gates
    sign = 1.0 if absolute else -1.0
    matrix = sign * (c.T @ c)
    pulled = multipliers[:, None] * a
    matrix[d:] += sign * pulled
    matrix[:, d:] += sign * pulled.T
    matrix[d + np.arange(n), d + np.arange(n)] += 2 * multipliers
    return matrix


def positive_definite(matrix: Vector, off: Vector) -> bool:
    """Prove that a symmetric matrix is positive definite; False if that is not proven.

    The matrix is scaled to a diagonal near 1, by powers of two, so that the scaling S is exact. If
    Cholesky's method runs to its end on S M S - c I, with c at least what rounding and `off` can
    do, M is positive definite (Rump, BIT 46, 2006).

    Parameters
    ----------
    matrix
        M, shape (n, n).
    off
        Upper bounds of how far each entry is off, shape (n, n).
    """
    diagonal = np.diag(matrix)
    if not (diagonal > 0).all() or not np.isfinite(matrix).all():
        return False
    scale = np.ldexp(1.0, -(np.frexp(diagonal)[1] // 2))
    scaled = matrix * scale[:, None] * scale
    n = len(matrix)
    errors = float((off * scale[:, None] * scale).sum(axis=1).max()) * (1 + gamma(n))
    slack = (errors + gamma(n + 4) * float(np.trace(scaled))) * (1 + gamma(n + 4)) + TINY * n
    if not np.isfinite(slack):
        return False
    scaled[np.arange(n), np.arange(n)] -= slack
    try:
        np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        return False
    return True


def typical_sizes(a: Vector, inputs: int) -> Vector:
    """Return about how large each gate's input is for inputs of length 1, as powers of two."""
    sizes = np.ones(len(a))
    for k, row in enumerate(a):
        length = math.sqrt(
            float((row[:inputs] ** 2).sum() + ((row[inputs:] * sizes)[:k] ** 2).sum())
        )
        power = math.ldexp(1.0, min(math.frexp(length)[1], 1023)) if 0 < length < math.inf else 1.0
        sizes[k] = power
    return sizes
