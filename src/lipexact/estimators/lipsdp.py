"""LipSDP: multipliers for the slopes of ReLUs, by one semidefinite program."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from lipexact.errors import UnsupportedEstimateError
from lipexact.estimators import constants, semidefinite_programs
from lipexact.estimators.chains import euclidean_factors
from lipexact.estimators.lure import LureSystem, all_open, lure_system
from lipexact.estimators.multipliers import proven_bound, typical_sizes
from lipexact.estimators.registry import (
    EUCLIDEAN,
    OWN_GATES,
    EstimateRequest,
    EstimatorOutput,
    estimator,
)
from lipexact.estimators.semidefinite_programs import (
    estimated_seconds,
    import_cvxpy,
    largest_bound,
    seconds_allowed,
)
from lipexact.numerics.arrays import Vector


@estimator(
    "lipsdp",
    "upper",
    "local",
    norms=EUCLIDEAN,
    networks=f"{OWN_GATES}, about a hundred of them open",
    source="Fazlyab et al., NeurIPS 2019, LipSDP-Neuron",
    best_upper_rank=60,
)
def lipsdp(request: EstimateRequest) -> EstimatorOutput:
    """Solve a semidefinite program with a multiplier for each gate that the domain leaves open."""
    return _lipsdp(request, "lipsdp", lambda system: np.eye(system.gates))


@estimator(
    "lipsdp-layer",
    "upper",
    "local",
    norms=EUCLIDEAN,
    networks=f"{OWN_GATES}, about a hundred of them open",
    source="Fazlyab et al., NeurIPS 2019, LipSDP-Layer",
)
def lipsdp_layer(request: EstimateRequest) -> EstimatorOutput:
    """Solve LipSDP's semidefinite program with one multiplier for each layer."""

    def shares(system: LureSystem) -> Vector:
        same_layer = system.layers[:, None] == np.unique(system.layers)[None, :]
        return np.asarray(same_layer, dtype=np.float64)

    return _lipsdp(request, "lipsdp-layer", shares)


def _lipsdp(
    request: EstimateRequest, method: str, shares: Callable[[LureSystem], Vector]
) -> EstimatorOutput:
    """Solve a program for each system, its multipliers combinations of the columns of `shares`."""
    bounds = []
    statuses = []
    for system in _systems(request, method):
        if system.gates:
            multipliers, status = _solved_multipliers(system, shares(system), request)
        else:
            multipliers = np.zeros(0)
            status = "no gate is open"
        bounds.append(proven_bound(system, multipliers))
        statuses.append(status)
    return largest_bound(request, bounds, solver_status=sorted(set(statuses)))


def _systems(request: EstimateRequest, method: str) -> list[LureSystem]:
    """Return the systems of which the largest constant is the one asked for.

    Their gates are fixed by the bounds on the domain, where these allow it.
    """
    lefts, right = euclidean_factors(request, method, constants.MAX_SDP_FUNCTIONALS)
    states = all_open(request.network) if request.everywhere else request.states
    whole = lure_system(request.network, states, constants.MAX_PROOF_SIZE, method)
    systems = [whole.scaled(left, right) for left in lefts]
    needed = sum(estimated_seconds(block_sizes(system)) for system in systems)
    limit = seconds_allowed(request)
    if needed > limit:
        raise UnsupportedEstimateError(
            f"{method} would take about {needed:.2g} s for {whole.gates} open gates, too long for "
            f"a limit of {limit:.2g} s; a smaller domain fixes more gates, and eclipse-fast takes "
            "larger networks"
        )
    return systems


def block_sizes(system: LureSystem) -> list[int]:
    """Return the sizes of M's blocks after chordal decomposition.

    These are pairs of layers, where each layer reads the one before alone; else M is one block.
    """
    d = min(system.inputs, system.gates + len(system.c))
    kinds, where = np.unique(system.layers, return_inverse=True)
    sizes = [d, *np.bincount(where, minlength=len(kinds)).tolist()]
    for k in range(1, len(kinds)):
        rows = system.a[where == k]
        if rows[:, : system.inputs].any() or rows[:, system.inputs :][:, where != k - 1].any():
            return [d + system.gates]
    if len(kinds) and system.c[:, system.inputs :][:, where != len(kinds) - 1].any():
        return [d + system.gates]
    return [a + b for a, b in itertools.pairwise(sizes)]


def _solved_multipliers(
    system: LureSystem, shares: Vector, request: EstimateRequest
) -> tuple[Vector, str]:
    """Return multipliers by Clarabel, each a combination of the columns of `shares`, and a status.

    The input enters by the span of the rows that read it, and the output in units of the constant's
    own size.
    """
    cp = import_cvxpy()
    a, c, sizes, unit = _scaled_system(system)
    n = system.gates
    shares = shares * sizes[:, None] ** 2
    shares = shares / shares.max(axis=0)
    rho = cp.Variable(nonneg=True)
    free = cp.Variable(shares.shape[1], nonneg=True)
    program = _program(cp, a, c, rho, cp.diag(shares @ free))
    if error := semidefinite_programs.solve_program(cp, program, request):
        return np.full(n, np.nan), error
    if free.value is None:
        return np.full(n, np.nan), str(program.status)
    return np.maximum(shares @ free.value, 0.0) * np.square(unit) / sizes**2, str(program.status)


def _scaled_system(system: LureSystem) -> tuple[Vector, Vector, Vector, float]:
    """Return A and C in fewer inputs and in units of about 1, the gates' units and the output's."""
    d = system.inputs
    n = system.gates
    reading = np.vstack([system.a[:, :d], system.c[:, :d]])
    narrow = np.asarray(np.linalg.qr(reading.T, mode="r")).T if len(reading) < d else reading
    r = narrow.shape[1]
    a = np.hstack([narrow[:n], system.a[:, d:]])
    c = np.hstack([narrow[n:], system.c[:, d:]])
    # Every gate in units of about its own size, and the constant likewise.
    sizes = typical_sizes(a, r)
    a = a / sizes[:, None]
    c = c.copy()
    a[:, r:] = a[:, r:] * sizes
    c[:, r:] = c[:, r:] * sizes
    unit = float(np.linalg.norm(c, 2)) or 1.0
    return a, c / unit, sizes, unit


def _program(cp: Any, a: Vector, c: Vector, rho: Any, diagonal: Any) -> Any:
    """Return the program: minimise rho such that M, for the diagonal T, is semidefinite."""
    n = len(a)
    r = a.shape[1] - n
    low = np.vstack([np.zeros((r, n)), np.eye(n)])
    pulled = low @ diagonal @ a
    corner = np.diag(np.r_[np.ones(r), np.zeros(n)])
    matrix = rho * corner - c.T @ c - pulled - pulled.T + 2 * low @ diagonal @ low.T
    return cp.Problem(cp.Minimize(rho), [matrix >> 0])
