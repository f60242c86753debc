"""LipLP: the linear relaxation of the mixed-integer program."""

from __future__ import annotations

from lipexact.bounds.formulation import in_mode
from lipexact.engines import find_engine
from lipexact.estimators.constants import MAX_FOLDED_FUNCTIONALS
from lipexact.estimators.registry import (
    ALL_NETWORKS,
    EstimateRequest,
    EstimatorOutput,
    estimator,
)
from lipexact.estimators.sampling import best_checked_region
from lipexact.options import Mode
from lipexact.result import EXACT_GAP, Proof
from lipexact.sets.polyhedral import Hull
from lipexact.sets.unit_balls import SymmetricSet
from lipexact.solve import prepare_options
from lipexact.state import SearchState, SearchTask


@estimator(
    "liplp",
    "upper",
    "local",
    norms="all; l2 needs a solver of quadratic programs, such as 'scip', as its squares remain",
    networks=ALL_NETWORKS,
    source="LipLP of Jordan and Dimakis, NeurIPS 2020",
    best_upper_rank=70,
)
def liplp(
    request: EstimateRequest, *, solver: str = "highs", mode: Mode = "auto"
) -> EstimatorOutput:
    """Solve the linear relaxation of the mixed-integer program, for each of few functionals.

    Parameters
    ----------
    request
        The network, the domain and the norms.
    solver
        The name of a solver, such as "highs".
    mode
        "forward", "reverse", or "auto" for the minimum of both.
    """
    seconds = request.seconds_left
    options = prepare_options(method="lp", solver=solver, mode=mode, time_limit=seconds)
    value = 0.0
    root = 0.0
    proofs = set()
    for functionals in _one_by_one(request.functionals):
        formulations = request.formulations(functionals, mode)
        state = SearchState(lower=0.0, upper=min(each.root_bound for each in formulations))
        root = max(root, state.upper)
        task = SearchTask(
            formulations=in_mode(formulations, mode), options=options, deadline=request.deadline
        )
        state = find_engine("lp").search(state, task)
        value = max(value, state.upper)
        proofs.add(state.proof)
    incumbent = best_checked_region(request)
    # A bound below a lower bound that is checked shows that the solver is wrong.
    if incumbent is not None and incumbent.norm.lower > value * (1 + EXACT_GAP):
        return EstimatorOutput(
            max(root, incumbent.norm.lower),
            {"message": f"{solver} claimed {value}, less than is attained"},
        )
    return EstimatorOutput(value, proof="solver" if Proof.SOLVER in proofs else "float")


def _one_by_one(functionals: SymmetricSet) -> list[SymmetricSet]:
    """Return a set of functionals, or one set for each vertex where they are few."""
    if functionals.vertex_count > MAX_FOLDED_FUNCTIONALS:
        return [functionals]
    return [Hull(vertex[None, :]) for part in functionals.vertices() for vertex in part]
