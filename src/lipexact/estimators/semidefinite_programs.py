"""Semidefinite programs by cvxpy and Clarabel: their cost, and how they are solved."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

from lipexact.errors import SolverUnavailableError
from lipexact.estimators import constants
from lipexact.estimators.naive import naive
from lipexact.estimators.registry import EstimateRequest, EstimatorOutput


def seconds_allowed(request: EstimateRequest) -> float:
    """Return how long a program may take by :func:`estimated_seconds`, which is rough."""
    return (
        constants.MAX_SDP_SECONDS
        if request.seconds_left is None
        else min(constants.MAX_SDP_SECONDS, 2 * request.seconds_left)
    )


def estimated_seconds(blocks: Iterable[int]) -> float:
    """Return about how long Clarabel takes for semidefinite blocks of these sizes.

    It takes 20 iterations, each of which factorises a matrix with size^2 / 2 rows: measured 3 s for
    a block of 85, and 33 s for one of 125. It looks at the clock between iterations only.
    """
    return sum(20 * 3.0 * (size / 85) ** 6 for size in blocks)


def largest_bound(request: EstimateRequest, bounds: list[float], **details: Any) -> EstimatorOutput:
    """Return the largest of the proven bounds as an estimator's output.

    Where a solver or rounding has left multipliers that prove nothing, it is the product of the
    layers' norms, which the best multipliers imply.
    """
    if all(map(math.isfinite, bounds)):
        return EstimatorOutput(max(bounds), details)
    details["message"] = (
        "the multipliers prove no bound: this is the product of the layers' norms, which the best "
        "multipliers imply"
    )
    return EstimatorOutput(naive(request).value, details)


def solve_program(cp: Any, program: Any, request: EstimateRequest) -> str | None:
    """Solve a program by Clarabel, and return why there is no solution; None if there is one.

    Inaccurate solutions count: each is as good as what it proves.
    """
    options: dict[str, Any] = (
        {} if request.seconds_left is None else {"time_limit": request.seconds_left}
    )
    try:
        with warnings.catch_warnings():  # cvxpy warns of inaccurate solutions
            warnings.simplefilter("ignore")
            program.solve(solver=cp.CLARABEL, **options)
    except (cp.SolverError, ValueError) as error:
        return str(error)
    return None


def import_cvxpy() -> Any:
    """Import cvxpy, which belongs to an extra of the package.

    Raises
    ------
    SolverUnavailableError
        If it, or Clarabel, is missing.
    """
    try:
        import clarabel  # noqa: F401, PLC0415 - an extra
        import cvxpy  # noqa: PLC0415
    except ImportError:
        raise SolverUnavailableError(
            "semidefinite programs need cvxpy and Clarabel: pip install 'lipexact[sdp]'"
        ) from None
    return cvxpy
