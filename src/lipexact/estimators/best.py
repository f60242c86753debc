"""The least of all upper bounds."""

from __future__ import annotations

import time

from lipexact.errors import LipExactError, UnsupportedEstimateError
from lipexact.estimators.registry import (
    ALL_NETWORKS,
    ALL_NORMS,
    EstimateRequest,
    EstimatorOutput,
    estimator,
    find,
)

# Those that are never beaten by another one of these, the cheap ones first.
_TRIED = ("linear", "naive", "zonotope", "eclipse-fast", "eclipse", "lipsdp", "liplp")


@estimator(
    "best-upper",
    "upper",
    "local",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="this package",
)
def best_upper(question: EstimateRequest) -> EstimatorOutput:
    """The least of the upper bounds of all estimators that take the question and that the time limit allows.

    The details say which one it was, what each gave in how many seconds, and why others gave nothing.
    """
    found: dict[str, float] = {}
    seconds: dict[str, float] = {}
    refused: dict[str, str] = {}
    proofs: dict[str, str] = {}
    for name in _TRIED:
        if found and question.over:
            refused[name] = "no time was left"
            continue
        start = time.perf_counter()
        try:
            answer = find(name).run(question)
        except LipExactError as error:
            refused[name] = str(error)
            continue
        found[name], seconds[name], proofs[name] = (
            answer.value,
            time.perf_counter() - start,
            answer.proof,
        )
    if not found:
        raise UnsupportedEstimateError("; ".join(f"{name}: {why}" for name, why in refused.items()))
    least = min(found, key=lambda name: found[name])
    details = {"best": least, "upper_bounds": found, "seconds_each": seconds, "refused": refused}
    return EstimatorOutput(found[least], details, proof=proofs[least])
