"""The package's own methods, as estimators."""

from __future__ import annotations

from lipexact.api import lipschitz
from lipexact.bounds.formulation import in_mode
from lipexact.engines import find_engine
from lipexact.estimators.registry import (
    ALL_NETWORKS,
    ALL_NORMS,
    FOLDED,
    EstimateRequest,
    EstimatorOutput,
    estimator,
)
from lipexact.estimators.samples import climb
from lipexact.options import Mode
from lipexact.result import EXACT_GAP, Proof, Status
from lipexact.sets.unit_balls import Hull, SymmetricSet
from lipexact.solve import prepare_options
from lipexact.state import SearchState, SearchTask


@estimator(
    "liplp",
    "upper",
    "local",
    norms="all; l2 needs a solver of quadratic programs, such as 'scip', as its squares remain",
    networks=ALL_NETWORKS,
    source="LipLP of Jordan and Dimakis, NeurIPS 2020",
)
def liplp(
    question: EstimateRequest, *, solver: str = "highs", mode: Mode = "auto"
) -> EstimatorOutput:
    """The linear relaxation of the mixed-integer program, in both modes; functionals one by one where they are few.

    Parameters
    ----------
    question
        What is asked.
    solver
        The name of a solver, such as "highs".
    mode
        "forward", "reverse", or "auto" for the least of both.
    """
    seconds = question.seconds_left
    options = prepare_options(method="lp", solver=solver, mode=mode, time_limit=seconds)
    value = 0.0
    root = 0.0
    proofs = set()
    for functionals in _one_by_one(question.functionals):
        formulations = question.formulations(functionals, mode)
        state = SearchState(lower=0.0, upper=min(each.root_bound for each in formulations))
        root = max(root, state.upper)
        task = SearchTask(
            formulations=in_mode(formulations, mode), options=options, deadline=question.deadline
        )
        state = find_engine("lp").search(state, task)
        value = max(value, state.upper)
        proofs.add(state.proof)
    checked = climb(question)
    if checked is not None and checked.norm.lower > value * (1 + EXACT_GAP):  # the solver is wrong
        return EstimatorOutput(
            max(root, checked.norm.lower),
            {"message": f"{solver} claimed {value}, less than is attained"},
        )
    return EstimatorOutput(value, proof="solver" if Proof.SOLVER in proofs else "float")


def _one_by_one(functionals: SymmetricSet) -> list[SymmetricSet]:
    """Return a set of functionals, or one set for each vertex where they are few."""
    if functionals.vertex_count > FOLDED:
        return [functionals]
    return [Hull(vertex[None, :]) for part in functionals.vertices() for vertex in part]


@estimator(
    "exact",
    "exact",
    "local",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="this package: lipexact.lipschitz",
)
def exact(
    question: EstimateRequest,
    *,
    solver: str = "highs",
    mode: Mode = "auto",
    threads: int | None = None,
) -> EstimatorOutput:
    """The exact constant, by branch and bound or a program; where time is up, its upper bound.

    Parameters
    ----------
    question
        What is asked.
    solver, mode, threads
        As for :func:`lipexact.lipschitz`.
    """
    result = lipschitz(
        question.network,
        question.domain,
        **question.asked,
        solver=solver,
        mode=mode,
        threads=threads,
        time_limit=question.seconds_left,
    )
    details = {
        "lower": result.lower,
        "status": result.status.value,
        "termination": result.termination,
    }
    return EstimatorOutput(
        result.value, details, "exact" if result.status is Status.EXACT else "upper", result.proof
    )
