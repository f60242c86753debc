"""The minimum of several upper bounds."""

from __future__ import annotations

import time

from lipexact.errors import LipExactError, UnsupportedEstimateError
from lipexact.estimators.registry import (
    ALL_NETWORKS,
    ALL_NORMS,
    EstimateRequest,
    EstimatorOutput,
    estimator,
    ranked_upper_bounds,
)


@estimator(
    "best-upper",
    "upper",
    "local",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="this package",
)
def best_upper(request: EstimateRequest) -> EstimatorOutput:
    """Take the minimum of the upper bounds of all estimators that apply, as far as time allows.

    The details name the estimator that gave it, the bound and the seconds of each, and the reasons
    why others gave none.
    """
    bounds: dict[str, float] = {}
    seconds: dict[str, float] = {}
    refused: dict[str, str] = {}
    proofs: dict[str, str] = {}
    for entry in ranked_upper_bounds():
        name = entry.name
        if bounds and request.over:
            refused[name] = "no time was left"
            continue
        start = time.perf_counter()
        try:
            output = entry.run(request)
        except LipExactError as error:
            refused[name] = str(error)
            continue
        bounds[name] = output.value
        seconds[name] = time.perf_counter() - start
        proofs[name] = output.proof
    if not bounds:
        raise UnsupportedEstimateError("; ".join(f"{name}: {why}" for name, why in refused.items()))
    best = min(bounds, key=lambda name: bounds[name])
    details = {"best": best, "upper_bounds": bounds, "seconds_each": seconds, "refused": refused}
    return EstimatorOutput(bounds[best], details, proof=proofs[best])
