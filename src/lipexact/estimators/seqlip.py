"""SeqLip: factors of halves of layers and the gates between, maximised over the gates."""

from __future__ import annotations

import itertools
import math
from functools import reduce

import numpy as np

from lipexact.bounds.crown_batched import slices
from lipexact.errors import UnsupportedEstimateError
from lipexact.estimators import constants
from lipexact.estimators.chains import Chain, scaled_chains
from lipexact.estimators.norms import product_upper
from lipexact.estimators.registry import (
    CHAINS,
    EUCLIDEAN,
    EstimateRequest,
    EstimatorOutput,
    estimator,
)
from lipexact.numerics.arrays import Vector
from lipexact.numerics.rounding import gamma
from lipexact.numerics.spectral import spectral_norm, spectral_norms


@estimator(
    "seqlip",
    "heuristic",
    "global",
    norms=EUCLIDEAN,
    networks=CHAINS,
    source="Scaman and Virmaux, NeurIPS 2018, Greedy SeqLip",
)
def seqlip(request: EstimateRequest) -> EstimatorOutput:
    """Split layers by their singular values, and maximise each factor by greedy flips of gates."""
    value = 0.0
    details = {}
    for chain in scaled_chains(request, "seqlip"):
        factors = [_greedy_maximum(*pair, request) for pair in _factors(chain)]
        estimate = math.prod(factors) if factors else chain.product
        if estimate >= value:
            value = estimate
            details = {"factors": factors}
    return EstimatorOutput(value, details, proof="none")


@estimator(
    "seqlip-brute-force",
    "upper",
    "global",
    norms=EUCLIDEAN,
    networks=f"{CHAINS}, of at most {constants.MAX_ENUMERATED_GATES} neurons each",
    source="Scaman and Virmaux, NeurIPS 2018, SeqLip",
)
def seqlip_brute_force(request: EstimateRequest) -> EstimatorOutput:
    """Maximise SeqLip's factors over all patterns of gates, the vertices of a cube.

    That makes their product an upper bound.
    """
    value = 0.0
    details = {}
    max_gates = constants.MAX_ENUMERATED_GATES
    for chain in scaled_chains(request, "seqlip-brute-force"):
        widest = max((weight.shape[0] for weight in chain.weights[:-1]), default=0)
        if widest > max_gates:
            raise UnsupportedEstimateError(
                f"seqlip-brute-force tries all patterns of a layer, of at most {max_gates} "
                f"neurons, not {widest}: seqlip flips them greedily, without a guarantee"
            )
        factors = [_enumerated_maximum(*pair, request) for pair in _factors(chain)]
        # What the halves of layers lose by rounding, times all other layers.
        room = (
            chain.product * sum(_halving_error(weight) for weight in chain.weights)
            if factors
            else 0.0
        )
        bound = (reduce(product_upper, factors) if factors else chain.product) * (
            1 + gamma(len(factors))
        ) + room
        if not bound < value:  # NaN included
            value = bound
            details = {"factors": factors}
    return EstimatorOutput(value, details)


def _factors(chain: Chain) -> list[tuple[Vector, Vector]]:
    """Return the matrices left and right of each layer of gates, by halves of singular values.

    With W_k = U S V^T, the first and the last layer give all of S to their one factor, the others
    the square root of S to each of their two.
    """
    last = len(chain.weights) - 1
    if last == 0:
        return []
    halves = []
    for k, weight in enumerate(chain.weights):
        left, sizes, right = _singular_triplets(weight)
        # U is orthogonal: it drops out of the last layer's norm, and V^T out of the first one's.
        up = left * (sizes if k == 0 else np.sqrt(sizes))
        down = (sizes if k == last else np.sqrt(sizes))[:, None] * right
        halves.append((up, down))
    return [(halves[k + 1][1], halves[k][0]) for k in range(last)]


def _singular_triplets(weight: Vector) -> tuple[Vector, Vector, Vector]:
    """Return U, S and V^T for the singular values that are not 0 up to rounding, at least one."""
    left, sizes, right = np.linalg.svd(weight, full_matrices=False)
    kept = (
        sizes > sizes[0] * 1e-14
        if sizes.size and sizes[0] > 0
        else np.zeros(sizes.size, dtype=bool)
    )
    kept[:1] = True
    return left[:, kept], sizes[kept], right[kept]


def _halving_error(weight: Vector) -> float:
    """Bound the distance of U S V^T from the weight, relative to the weight's spectral norm.

    It includes how far U and V are from being orthogonal.
    """
    left, sizes, right = _singular_triplets(weight)
    norm = spectral_norm(weight)
    if norm == 0:
        return 0.0
    rounding = 4 * gamma(sum(weight.shape)) * float((np.abs(left) * sizes @ np.abs(right)).sum())
    off = np.linalg.norm(weight - left * sizes @ right) + rounding
    # The orthogonal factors that were dropped may be a little longer than 1.
    skew = max(
        np.linalg.norm(left.T @ left - np.eye(sizes.size)),
        np.linalg.norm(right @ right.T - np.eye(sizes.size)),
    ) + gamma(sum(weight.shape)) * sum(weight.shape)
    return float(off / norm + 2 * skew) * (1 + 1e-6)


def _greedy_maximum(left: Vector, right: Vector, request: EstimateRequest) -> float:
    """Return |A diag(s) B|_2 for gates s that no single flip improves, from all gates on.

    It stops early at the deadline.
    """
    gates = np.ones(left.shape[1])
    current = left @ right
    best = float(np.linalg.norm(current, 2))
    for _ in range(constants.MAX_GREEDY_FLIPS):
        if request.over:
            break
        signs = 1 - 2 * gates
        norms = np.concatenate(
            [
                np.linalg.norm(
                    current
                    + signs[part, None, None] * left.T[part, :, None] * right[part, None, :],
                    2,
                    (1, 2),
                )
                for part in slices(gates.size, max(constants.MAX_MASKED_NUMBERS // current.size, 1))
            ]
        )
        k = int(norms.argmax())
        if norms[k] <= best * (1 + 1e-12):
            break
        best = float(norms[k])
        current = current + signs[k] * np.outer(left[:, k], right[k])
        gates[k] = 1 - gates[k]
    return best


def _enumerated_maximum(left: Vector, right: Vector, request: EstimateRequest) -> float:
    """Bound |A diag(s) B|_2 over s in [0, 1]^n from above.

    The norm is convex, so that a vertex attains the maximum; all of them are tried.
    """
    best = 0.0
    neurons = left.shape[1]
    patterns = itertools.product((0.0, 1.0), repeat=neurons)
    lost = gamma(neurons) * spectral_norm(np.abs(left)) * spectral_norm(np.abs(right))
    numbers_each = left.shape[0] * neurons + left.shape[0] * right.shape[1]
    step = max(constants.MAX_MASKED_NUMBERS // numbers_each, 1)
    while chunk := list(itertools.islice(patterns, step)):
        if request.over:  # what was not tried is at most the product of both halves' norms
            return spectral_norm(left) * spectral_norm(right) * (1 + gamma(2))
        best = max(best, float(spectral_norms((left * np.array(chunk)[:, None, :]) @ right).max()))
    return best + lost
