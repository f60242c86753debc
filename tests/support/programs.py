"""Mixed-integer programs of small networks: their problems, and the outer approximation loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyomo.environ as pyo

from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.formulation import Formulation
from lipexact.bounds.interval import length_bound
from lipexact.mip.cut_loop import solve_by_cuts
from lipexact.mip.model import Composition, compose
from lipexact.mip.solvers.base import (
    SOLVERS,
    SolverOutcome,
    SolverSettings,
)
from lipexact.network import Network
from lipexact.options import Options
from lipexact.problem.problem import Problem, lipschitz_problem
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Box
from lipexact.sets.functionals import functional_set
from lipexact.sets.norms import norm
from lipexact.state import SearchState, SearchTask, StoppingRule
from tests.support import oracle
from tests.support.networks import (
    Layers,
    halfspaces_of,
    to_network,
)

MODES = ("forward", "reverse")
NORMS = ("linf", "l1")
WAYS = [(mode, alpha) for mode in MODES for alpha in NORMS]
# Of one functional, of the largest of two, and of the whole output in a norm.
QUESTIONS = ("functional", "two", *NORMS)
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
    """Return the problem of a functional, or for None of the whole output, from norm to norm."""
    functionals = functional_set(functional, beta, net.output.size)
    directions = norm(alpha).ball(net.input.size)
    problem = lipschitz_problem(
        net,
        domain,
        functionals,
        directions,
        mode,  # type: ignore[arg-type]
        keep_output=keep_output,
    )
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
    """Return the state after the loop on a box, from no more than a root bound, and the truth."""
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
    """Return the state after the loop on a domain, from a root bound, and the truth."""
    problem = stated(to_network(weights), domain, c, alpha, mode, beta)
    bounds = bound_nodes(problem.graph, problem.sets)
    start = SearchState(lower=lower, upper=length_bound(bounds[problem.objective]))
    formulation = Formulation(problem, bounds)
    task = SearchTask(
        formulations=[formulation],
        rule=StoppingRule(gap=gap, target=target),
        options=Options(solver=solver),
        deadline=deadline,
    )
    found = solve_by_cuts(formulation, start, task)
    cells = oracle.regions(weights, domain.lower, domain.upper, halfspaces_of(domain))
    return found, oracle.constant(cells, c, alpha, beta)


def composed(
    net: Network, domain: Domain, functional: Any, *args: str, **options: Any
) -> Composition:
    """Return the program of the problem that `stated` makes."""
    problem = stated(net, domain, functional, *args, **options)
    return compose(problem, bound_nodes(problem.graph, problem.sets))


def question(which: str, outputs: int, seed: int) -> tuple[Any, str]:
    """Return a functional, or None, and the output norm."""
    rng = np.random.default_rng(seed)
    match which:
        case "functional":
            return rng.normal(size=outputs), "linf"
        case "two":
            return rng.normal(size=(2, outputs)), "linf"
        case _:
            return None, which


def variables_of(model: Any) -> list[Any]:
    """Return all variables of a model."""
    return list(model.component_data_objects(pyo.Var, active=True, descend_into=True))
