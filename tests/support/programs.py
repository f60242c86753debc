"""Mixed-integer programs of small networks: their problems, and the search with solvers that are made up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.interval import length_bound
from lipexact.mip.cut_loop import solve_by_cuts
from lipexact.mip.solvers.base import (
    SOLVERS,
    SolverOutcome,
    SolverSettings,
)
from lipexact.network import Network
from lipexact.problem.problem import Problem, lipschitz_problem
from lipexact.sets.domains import Box, Domain
from lipexact.sets.functionals import functional_body
from lipexact.sets.norms import norm
from lipexact.state import SearchState, StoppingRule
from tests.support import oracle
from tests.support.networks import (
    Layers,
    halfspaces_of,
    to_network,
)

TIGHT = SolverSettings(
    extra={"mip_feasibility_tolerance": 1e-9, "primal_feasibility_tolerance": 1e-9}
)


def stated(
    net: Network,
    domain: Domain,
    functional: Any,
    alpha: str = "linf",
    mode: str = "forward",
    beta: str = "linf",
    *,
    keep_output: bool = False,
) -> Problem:
    """The problem of a functional, or with None of the whole output from one norm to another."""
    functionals, directions = (
        functional_body(functional, beta, net.output.size),
        norm(alpha).ball(net.input.size),
    )
    problem = lipschitz_problem(net, domain, functionals, directions, mode, keep_output=keep_output)  # type: ignore[arg-type]
    assert problem is not None
    return problem


Run = Callable[[Any, SolverSettings, Any], SolverOutcome]


HIGHS: Run = SOLVERS["highs"].run


def searched(
    weights: Layers,
    low: Any,
    high: Any,
    c: Any,
    **options: Any,
) -> tuple[SearchState, float]:
    """The search on a box from no more than a root bound, and the truth."""
    return searched_on(weights, Box(low, high), c, **options)


def searched_on(
    weights: Layers,
    domain: Domain,
    c: Any,
    *,
    solver: str = "highs",
    mode: str = "forward",
    alpha: str = "linf",
    beta: str = "linf",
    lower: float = 0.0,
    deadline: float = math.inf,
    gap: float = 0.0,
    target: float | None = None,
) -> tuple[SearchState, float]:
    problem = stated(to_network(weights), domain, c, alpha, mode, beta)
    bounds = bound_nodes(problem.graph, problem.sets)
    start = SearchState(lower, length_bound(bounds[problem.objective]), None)
    found = solve_by_cuts(
        problem,
        bounds,
        start,
        solver,
        SolverSettings(),
        StoppingRule(gap, target),
        deadline=deadline,
    )
    cells = oracle.regions(weights, domain.lower, domain.upper, halfspaces_of(domain))
    return found, oracle.constant(cells, c, alpha, beta)
