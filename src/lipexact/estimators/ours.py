"""The package's own methods, as estimators."""

from __future__ import annotations

from lipexact.api import lipschitz
from lipexact.bounds.formulation import in_mode
from lipexact.estimators.registry import (
    ALL_NETWORKS,
    ALL_NORMS,
    FOLDED,
    EstimateRequest,
    EstimatorOutput,
    estimator,
)
from lipexact.estimators.samples import climb
from lipexact.result import EXACT_GAP, Status
from lipexact.sets.unit_balls import Hull, SymmetricSet
from lipexact.solve import Mode, solve_options
from lipexact.state import SearchState


@estimator(
    "liplp",
    "upper",
    "local",
    norms="all; l2 needs solver='scip' or 'gurobi', as its squares remain",
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
        "highs", "scip", "cbc" or "gurobi".
    mode
        "forward", "reverse", or "auto" for the least of both.
    """
    from lipexact.mip.cut_loop import solve_lp_relaxation  # noqa: PLC0415 - Pyomo's import is long
    from lipexact.mip.solvers.base import SolverSettings, require_solver  # noqa: PLC0415

    options = solve_options("lp", solver, question.seconds_left, 0.0, None, None, None)
    settings = SolverSettings(**vars(options))
    value, root, proofs = 0.0, 0.0, set()
    bodies: list[SymmetricSet] = [question.functionals]
    if question.functionals.vertex_count <= FOLDED:
        bodies = [
            Hull(vertex[None, :]) for part in question.functionals.vertices() for vertex in part
        ]
    for body in bodies:
        programs = question.formulations(body, mode)
        bracket = SearchState(0.0, min(program.root_bound for program in programs), None)
        root = max(root, bracket.upper)
        for program in in_mode(programs, mode):
            require_solver(solver, quadratic=program.problem.quadratic)
            solve_lp_relaxation(
                program.problem,
                program.bounds,
                bracket,
                solver,
                settings,
                deadline=question.deadline,
            )
        value = max(value, bracket.upper)
        proofs.add(bracket.proof)
    checked = climb(question)
    if checked is not None and checked.norm.lower > value * (1 + EXACT_GAP):  # the solver is wrong
        return EstimatorOutput(
            max(root, checked.norm.lower),
            {"message": f"{solver} claimed {value}, less than is attained"},
        )
    return EstimatorOutput(value, proof="solver" if "solver" in proofs else "float")


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
