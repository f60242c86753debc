"""The exact constant, as an estimator."""

from __future__ import annotations

from lipexact.api import lipschitz
from lipexact.estimators.registry import (
    ALL_NETWORKS,
    ALL_NORMS,
    EstimateRequest,
    EstimatorOutput,
    estimator,
)
from lipexact.options import Mode
from lipexact.result import Status


@estimator(
    "exact",
    "exact",
    "local",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="this package: lipexact.lipschitz",
)
def exact(
    request: EstimateRequest,
    *,
    solver: str = "highs",
    mode: Mode = "auto",
    threads: int | None = None,
) -> EstimatorOutput:
    """Compute the exact constant by a search; at the time limit, its upper bound.

    Parameters
    ----------
    request
        The network, the domain and the norms.
    solver, mode, threads
        As for :func:`lipexact.lipschitz`.
    """
    result = lipschitz(
        request.network,
        request.domain,
        **request.asked,
        solver=solver,
        mode=mode,
        threads=threads,
        time_limit=request.seconds_left,
    )
    details = {
        "lower": result.lower,
        "status": result.status.value,
        "termination": result.termination,
    }
    return EstimatorOutput(
        result.value, details, "exact" if result.status is Status.EXACT else "upper", result.proof
    )
