"""ECLipsE: LipSDP's multipliers, found layer by layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lipexact.errors import UnsupportedEstimateError
from lipexact.estimators import constants, semidefinite_programs
from lipexact.estimators.chains import Chain, euclidean_factors, scaled_chains
from lipexact.estimators.lure import all_open, lure_system
from lipexact.estimators.multipliers import proven_bound
from lipexact.estimators.registry import (
    CHAINS,
    EUCLIDEAN,
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
    "eclipse-fast",
    "upper",
    "global",
    norms=EUCLIDEAN,
    networks=CHAINS,
    source="Xu and Sivaranjani, NeurIPS 2024, ECLipsE-Fast",
    best_upper_rank=40,
)
def eclipse_fast(request: EstimateRequest) -> EstimatorOutput:
    """Solve LipSDP layer by layer, with one multiplier for each layer in closed form."""

    def closed_form(k: Vector, _: Vector) -> Vector:
        return np.full(len(k), 2 / np.linalg.eigvalsh(4 * k)[-1])

    return _eclipse(request, "eclipse-fast", closed_form)


@estimator(
    "eclipse",
    "upper",
    "global",
    norms=EUCLIDEAN,
    networks=CHAINS,
    source="Xu and Sivaranjani, NeurIPS 2024, ECLipsE",
    best_upper_rank=50,
)
def eclipse(request: EstimateRequest) -> EstimatorOutput:
    """Solve LipSDP layer by layer, by a small semidefinite program for each layer."""
    return _eclipse(request, "eclipse", lambda k, after: _layer_multipliers(k, after, request))


def _eclipse(
    request: EstimateRequest, method: str, choose: Callable[[Vector, Vector], Vector]
) -> EstimatorOutput:
    """Prove bounds by multipliers that are chosen layer by layer.

    With X_0 = I, K = W_i X_(i-1)^-1 W_i^T / 4, and multipliers L_i, X_i = L_i - L_i K L_i has to be
    positive definite. Then T = rho L / 2 proves the bound for rho the largest eigenvalue of
    W X^-1 W^T, where W is the last layer's matrix and X the last X_i.

    Parameters
    ----------
    request
        The network and its norms.
    method
        The estimator, for messages.
    choose
        From K and the next layer's weights to the diagonal L_i.
    """
    bounds: list[float] = []
    lefts, right = euclidean_factors(request, method)
    # This comes first: it refuses large networks, before their weights are made dense.
    states = all_open(request.network)
    whole = lure_system(request.network, states, constants.MAX_PROOF_SIZE, method)
    for left, chain in zip(lefts, scaled_chains(request, method), strict=True):
        try:
            multipliers = _multipliers_by_layer(chain, choose)
        except np.linalg.LinAlgError:  # sizes differ by too much
            multipliers = np.full(whole.gates, np.nan)
        bounds.append(proven_bound(whole.scaled(left, right), multipliers))
    return largest_bound(request, bounds)


def _multipliers_by_layer(chain: Chain, choose: Callable[[Vector, Vector], Vector]) -> Vector:
    """Return the diagonal of T for one chain."""
    x = np.eye(chain.weights[0].shape[1])
    chosen = [np.zeros(0)]
    for weight, after in zip(chain.weights, chain.weights[1:], strict=False):
        k = weight @ np.linalg.solve(x, weight.T) / 4
        k = (k + k.T) / 2
        diagonal = choose(k, after) if k.any() else np.ones(len(k))
        chosen.append(diagonal)
        x = np.diag(diagonal) - diagonal[:, None] * k * diagonal
        x = (x + x.T) / 2
    last = chain.weights[-1]
    rho = float(np.linalg.eigvalsh(last @ np.linalg.solve(x, last.T))[-1])
    return np.concatenate(chosen) * rho / 2


def _layer_multipliers(k: Vector, after: Vector, request: EstimateRequest) -> Vector:
    """Return the multipliers that keep X above the largest multiple of W^T W.

    W are the next layer's weights. Where time is short, or the program fails, they are those of a
    closed form, all equal.
    """
    n = len(k)
    unit = float(np.linalg.eigvalsh(k)[-1])
    values, vectors = np.linalg.eigh(k / unit)
    kept = values > 1e-12
    root = vectors[:, kept] * np.sqrt(values[kept])
    closed_form = np.full(n, 0.5) / unit
    needed = estimated_seconds([n + root.shape[1]])
    if needed > constants.MAX_SDP_SECONDS:
        raise UnsupportedEstimateError(
            f"eclipse would take about {needed:.2g} s for a layer of {n} neurons; eclipse-fast "
            "takes it in closed form"
        )
    if needed > seconds_allowed(request):
        return closed_form
    cp = import_cvxpy()
    gram = after.T @ after
    gram = gram / (float(np.linalg.eigvalsh(gram)[-1]) or 1.0)
    free = cp.Variable(n, nonneg=True)
    share = cp.Variable()
    diagonal = cp.diag(free)
    block = cp.bmat(
        [[diagonal - share * gram, diagonal @ root], [root.T @ diagonal, np.eye(root.shape[1])]]
    )
    program = cp.Problem(cp.Maximize(share), [(block + block.T) / 2 >> 0])
    error = semidefinite_programs.solve_program(cp, program, request)
    if error is None and free.value is not None:
        solved = np.maximum(np.asarray(free.value, dtype=np.float64), 0.0)
        if np.linalg.eigvalsh(np.diag(solved) - solved[:, None] * (k / unit) * solved)[0] > 0:
            return solved / unit
    return closed_form
