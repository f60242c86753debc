"""The outer approximation loop, which believes no solver."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.repn import generate_standard_repn

import lipexact as lx
from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.formulation import Formulation
from lipexact.errors import SolverError
from lipexact.graph.pattern import OFF, ON
from lipexact.mip import cut_loop as search
from lipexact.mip.cut_loop import solve_by_cuts
from lipexact.mip.solvers.base import (
    SolverOutcome,
    Termination,
)
from lipexact.options import Options
from lipexact.regions.feasibility import Undecided
from lipexact.result import Proof, closed
from lipexact.sets.domains import Box
from lipexact.state import SearchState, SearchTask
from tests.support.networks import (
    CUTS,
    FAMILIES,
    Layers,
    case,
    cut_domain,
    to_network,
)
from tests.support.programs import (
    HIGHS,
    MODES,
    NORMS,
    QUESTIONS,
    WAYS,
    question,
    searched,
    searched_on,
    stated,
    variables_of,
)

# The identity as relu(x) - relu(-x): at x = 0 both gates may be on, for a slope of 2.
KINK: Layers = [(np.array([[1.0], [-1.0]]), np.zeros(2)), (np.array([[1.0, -1.0]]), np.zeros(1))]


def on_kink(**options: Any) -> SearchState:
    found, truth = searched(KINK, [-1.0], [1.0], [1.0], **options)
    assert_honest(found, truth)
    return found


def told(state: SearchState) -> str:
    """Return the messages of the state's diagnostics."""
    return "; ".join(diagnostic.message for diagnostic in state.diagnostics)


def assert_honest(state: SearchState, truth: float) -> None:
    """Check that the bounds hold, and that those that meet are the truth."""
    assert state.lower <= truth * (1 + 1e-9)
    assert state.upper >= truth * (1 - 1e-9)
    if closed(state.lower, state.upper):
        assert state.lower == pytest.approx(truth, rel=1e-9)


def assert_refused(ask: Callable[[], SearchState]) -> None:
    """Either an error, or bounds that stay apart and do not pass for an optimum."""
    try:
        found = ask()
    except SolverError:
        return
    assert not closed(found.lower, found.upper)
    assert found.termination is not Termination.OPTIMAL


def root(model: Any) -> float:
    """A bound that is true: the objective at the largest value that the model's norm may have."""
    objective = generate_standard_repn(next(model.component_data_objects(pyo.Objective)).expr)
    assert all(coefficient < 0 for coefficient in objective.linear_coefs)
    return sum(k * v.ub for k, v in zip(objective.linear_coefs, objective.linear_vars, strict=True))


def set_binaries(model: Any, choose: Callable[[int], int]) -> None:
    """Set the gates, and that the solution is not a parked one."""
    parked = model.component("parked")
    gates = [v for v in variables_of(model) if v.is_binary() and v is not parked]
    for k, variable in enumerate(gates):
        variable.set_value(choose(k))
    if parked is not None:
        parked.set_value(0)


@pytest.mark.unwatched
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_search_alone_finds_the_constant(family, mode):
    for seed in (MODES.index(mode), 2):
        weights, low, high = case(family, seed)
        c = np.random.default_rng(seed).normal(size=len(weights[-1][1]))
        found, truth = searched(weights, low, high, c, mode=mode, alpha=NORMS[seed % 2])
        assert closed(found.lower, found.upper), seed
        assert found.lower == pytest.approx(truth, rel=1e-9)
        assert found.termination is Termination.OPTIMAL
        assert truth == 0 or found.incumbent is not None


@pytest.mark.unwatched
@pytest.mark.parametrize("which", QUESTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_search_alone_finds_the_constant_on_cut_domains(family, which):
    index = list(FAMILIES).index(family) + QUESTIONS.index(which)
    mode, alpha = WAYS[index % 4]
    weights, low, high = case(family, index % 2)
    c, beta = question(which, len(weights[-1][1]), index)
    domain = cut_domain(CUTS[index % 6], low, high, index // 2)
    found, truth = searched_on(weights, domain, c, mode=mode, alpha=alpha, beta=beta)
    assert closed(found.lower, found.upper)
    assert found.lower == pytest.approx(truth, rel=1e-9)
    assert found.termination is Termination.OPTIMAL
    assert truth == 0 or found.incumbent is not None


def test_a_target_ends_the_search_early():
    weights, low, high = case("general", 3)
    c = np.ones(len(weights[-1][1]))
    _, known = searched(weights, low, high, c)
    for target in (known * 0.5, known * 0.999, known * 1.001, known * 1.5):
        found, truth = searched(weights, low, high, c, target=target)
        assert_honest(found, truth)
        assert found.lower > target if known > target else found.upper <= target


@pytest.mark.parametrize("mode", MODES)
def test_a_kink_is_cut_off(mode):
    found = on_kink(mode=mode)
    assert found.lower == 1.0
    assert closed(found.lower, found.upper)
    assert found.proof is Proof.SOLVER
    assert found.stats["excluded"] >= 2


def test_a_region_above_a_constant_neuron_is_not_missed():
    # The first neuron is 10 everywhere. The slope is 50 between -0.5 - 1e-7 and -0.5, where the
    # third neuron is on, and 20 elsewhere.
    width = 1e-7
    weights = [
        (np.array([[0.0], [1.0], [-1.0]]), np.array([10.0, 0.0, 0.0])),
        (
            np.array([[1.0, 20.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
            np.array([-5.0, -0.5, -0.5 - width]),
        ),
        (np.array([[1.0, 50.0, -50.0]]), np.zeros(1)),
    ]
    for mode in MODES:
        found, truth = searched(weights, [-1.0], [1.0], [1.0], mode=mode)
        assert truth == 50.0
        assert_honest(found, truth)
        assert found.lower == pytest.approx(50.0, rel=1e-9)
        result = lx.lipschitz(to_network(weights), lx.Box([-1.0], [1.0]), mode=mode)  # type: ignore[arg-type]
        assert result.lower == pytest.approx(50.0, rel=1e-9)


def test_a_pattern_that_nobody_can_decide_keeps_its_value_in_the_upper_bound(monkeypatch):
    monkeypatch.setattr(search, "decide_region", lambda *_: Undecided())
    for family in ("general", "sign_pairs"):
        weights, low, high = case(family, 1)
        c = np.ones(len(weights[-1][1]))
        found, truth = searched(weights, low, high, c)
        assert found.lower == 0.0
        assert found.upper >= truth * (1 - 1e-9)
        assert found.incumbent is None
        assert found.stats["rounds"] < 300


def test_a_kink_is_cut_off_at_once_for_all_states_of_other_neurons():
    # 25 (relu(x) - relu(-x)) beside five neurons that have no part in it: one cut serves all of
    # their patterns.
    rng = np.random.default_rng(0)
    first = np.vstack([[1.0, 0.0], [-1.0, 0.0], rng.normal(size=(5, 2))])
    weights = [(first, np.append([0.0, 0.0], 0.3 * rng.normal(size=5)))]
    weights.append((np.append([25.0, -25.0], rng.normal(size=5))[None], np.zeros(1)))
    found, truth = searched(weights, -np.ones(2), np.ones(2), [1.0])
    assert_honest(found, truth)
    assert closed(found.lower, found.upper)
    assert found.stats["excluded"] <= 4


def test_no_time_leaves_the_bounds_as_they_were(fake):
    calls = fake(HIGHS)
    found = on_kink(solver="fake", deadline=0.0)
    assert calls == [0]
    assert (found.lower, found.termination, found.proof) == (
        0.0,
        Termination.TIME_LIMIT,
        Proof.FLOAT,
    )


def test_a_gap_ends_the_search_early():
    weights, low, high = case("general", 3)
    c = np.ones(len(weights[-1][1]))
    found, truth = searched(weights, low, high, c, gap=0.5)
    assert_honest(found, truth)
    assert closed(found.lower, found.upper, 0.5)


def test_infeasible_is_a_lie(fake):
    calls = fake(
        lambda model, options, watch: SolverOutcome(Termination.INFEASIBLE, math.inf, None, 0, 0.0)
    )
    found = on_kink(solver="fake", lower=1.0)
    assert (found.lower, found.termination, found.proof) == (
        1.0,
        Termination.FAILED,
        Proof.FLOAT,
    )
    assert found.upper == pytest.approx(2.0)
    assert "infeasible, which it is not" in told(found)
    assert calls == [1]


def test_infeasible_in_a_later_round_is_a_lie(fake):
    rounds = itertools.count()

    def run(model, options, watch):
        if next(rounds) == 1:
            return SolverOutcome(Termination.INFEASIBLE, math.inf, None, 0, 0.0)
        return HIGHS(model, options, watch)

    fake(run)
    found = on_kink(solver="fake")
    assert not closed(found.lower, found.upper)
    assert found.termination is Termination.FAILED


@pytest.mark.parametrize("claim", [0.0, 0.5, 0.999])
def test_a_bound_below_an_attained_value_is_refused(fake, claim):
    def run(model, options, watch):
        return SolverOutcome(
            Termination.OPTIMAL, claim * root(model) / 2, claim * root(model) / 2, 0, 0.0
        )

    fake(run)
    assert_refused(lambda: on_kink(solver="fake", lower=1.0))


def test_a_bound_below_the_value_of_the_solvers_own_pattern_is_refused(fake):
    # The pattern x > 0 is real, with the value 1, and the claim is 0.6: whatever was known before.
    def run(model, options, watch):
        set_binaries(model, lambda k: int(k == 0))
        return SolverOutcome(Termination.OPTIMAL, 0.3 * root(model), 0.3 * root(model), 0, 0.0)

    fake(run)
    for known in (0.0, 0.5):
        assert_refused(lambda known=known: on_kink(solver="fake", lower=known))


def test_a_solver_that_was_caught_is_not_believed_later(fake):
    # Slopes 0, 1 and 3. The solver claims 0.9, shows the slope 1, and claims 0.9 of all the rest.
    weights = [(np.ones((2, 1)), np.array([0.0, -0.5])), (np.array([[1.0, 2.0]]), np.zeros(1))]
    shown = itertools.chain([(1, 0), (0, 0)], itertools.repeat((0, 1)))

    def run(model, options, watch):
        gates = next(shown)
        set_binaries(model, lambda k: gates[k])
        return SolverOutcome(Termination.OPTIMAL, 0.3 * root(model), 0.3 * root(model), 0, 0.0)

    fake(run)
    try:
        found, truth = searched(weights, [-1.0], [1.0], [1.0], solver="fake")
    except SolverError:
        return
    assert truth == 3.0
    assert_honest(found, truth)


@pytest.mark.parametrize(
    "outcome",
    [
        SolverOutcome(Termination.FAILED, None, None, None, 0.0, "broken"),
        SolverOutcome(Termination.FAILED, -0.1, -0.1, None, 0.0, "broken, and lying"),
        SolverOutcome(Termination.OPTIMAL, -1e12, None, 0, 0.0, "no incumbent"),
        SolverOutcome(Termination.OPTIMAL, None, -0.1, 0, 0.0, "no bound"),
        SolverOutcome(Termination.OPTIMAL, math.nan, math.nan, 0, 0.0, "not numbers"),
        SolverOutcome(Termination.OPTIMAL, -math.inf, -0.1, 0, 0.0, "infinite"),
        SolverOutcome(Termination.TIME_LIMIT, None, None, 0, 0.0, "nothing yet"),
        SolverOutcome(Termination.TIME_LIMIT, -1e12, None, 0, 0.0, "a bound"),
        SolverOutcome(Termination.INTERRUPTED, -1e12, None, 0, 0.0),
        SolverOutcome(Termination.LIMIT, -1e12, None, 0, 0.0, "memory"),
    ],
    ids=lambda outcome: f"{outcome.termination.value}-{outcome.message}",
)
def test_a_solver_without_an_answer_leaves_honest_bounds(fake, outcome):
    calls = fake(lambda model, options, watch: outcome)
    found = on_kink(solver="fake", lower=1.0)
    assert (found.lower, found.upper) == (1.0, pytest.approx(2.0))
    is_optimal = outcome.termination is Termination.OPTIMAL
    assert found.termination is (Termination.FAILED if is_optimal else outcome.termination)
    assert calls == [1]
    if outcome.message:
        assert outcome.message in told(found)


def test_a_solver_that_crashes_is_a_solver_error(fake):
    def run(model, options, watch):
        raise RuntimeError("out of luck")

    fake(run)
    with pytest.raises(SolverError, match="fake failed: RuntimeError: out of luck"):
        on_kink(solver="fake")
    with pytest.raises(SolverError, match="out of luck"):
        search_sign_pairs("fake")


def search_sign_pairs(solver: str) -> None:
    weights, low, high = case("sign_pairs", 1)
    searched(weights, low, high, np.ones(len(weights[-1][1])), solver=solver)


@pytest.mark.parametrize(
    "ending", [Termination.TIME_LIMIT, Termination.INTERRUPTED, Termination.LIMIT]
)
def test_what_an_interrupted_solver_found_counts(fake, ending):
    # Both gates off are no region, x > 0 is one: its value 1 is certified, and the bound is the
    # solver's.
    def run(model, options, watch):
        set_binaries(model, lambda k: int(k == 0))
        return SolverOutcome(ending, 0.9 * root(model), 0.5 * root(model), 7, 0.0, "stopped")

    calls = fake(run)
    found = on_kink(solver="fake")
    assert (found.lower, found.termination) == (1.0, ending)
    assert found.upper == pytest.approx(1.8)
    assert found.proof is Proof.SOLVER
    assert found.incumbent is not None
    assert found.stats["nodes"] == 7
    assert calls == [1]


@pytest.mark.parametrize("state", [OFF, ON])
def test_a_solver_that_returns_the_same_kink_for_ever_is_stopped(fake, state):
    def run(model, options, watch):
        set_binaries(model, lambda k: state)
        return SolverOutcome(Termination.OPTIMAL, root(model), root(model), 0, 0.0)

    fake(run)
    assert_refused(lambda: on_kink(solver="fake", lower=1.0))


def test_a_solver_that_returns_the_same_region_for_ever_is_stopped(fake):
    def run(model, options, watch):
        set_binaries(model, lambda k: int(k == 0))
        return SolverOutcome(Termination.OPTIMAL, root(model), root(model), 0, 0.0)

    fake(run)
    assert_refused(lambda: on_kink(solver="fake"))


def test_a_solver_that_loads_nothing_gives_no_more_than_it_shows(fake):
    def run(model, options, watch):
        for variable in variables_of(model):
            variable.set_value(None)
        return SolverOutcome(Termination.OPTIMAL, root(model), root(model), 0, 0.0)

    fake(run)
    assert_refused(lambda: on_kink(solver="fake"))


@pytest.mark.unwatched
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "family", ["general", "sign_pairs", "duplicated", "late_coincidence", "relu_of_relu"]
)
def test_random_patterns_never_make_a_wrong_constant(fake, family, mode):
    # Bounds that are true but loose, and patterns that are real by chance only.
    for seed in (MODES.index(mode), 2):
        rng = np.random.default_rng(seed)
        weights, low, high = case(family, seed)

        def run(model, options, watch, rng=rng):
            set_binaries(model, lambda k: int(rng.integers(2)))
            return SolverOutcome(Termination.OPTIMAL, root(model), root(model), 0, 0.0)

        fake(run)
        c = rng.normal(size=len(weights[-1][1]))
        try:
            found, truth = searched(weights, low, high, c, solver="fake", mode=mode)
        except SolverError:
            continue
        assert_honest(found, truth)


@pytest.mark.parametrize(
    "family", ["sign_pairs", "duplicated", "late_coincidence", "relu_of_relu", "bias_free"]
)
def test_a_solver_that_is_right_with_loose_bounds_never_closes_a_gap_wrongly(fake, family):
    def run(model, options, watch):
        true = HIGHS(model, options, watch)
        assert true.bound is not None
        return SolverOutcome(
            Termination.OPTIMAL, true.bound - 0.01 * abs(true.bound), true.incumbent, 0, 0.0
        )

    fake(run)
    for seed in range(2):
        weights, low, high = case(family, seed)
        c = np.random.default_rng(seed).normal(size=len(weights[-1][1]))
        found, truth = searched(weights, low, high, c, solver="fake")
        assert_honest(found, truth)
        assert found.lower == pytest.approx(truth, rel=1e-9)


def test_lies_reach_the_public_result(fake):
    box, net = lx.Box([-1.0], [1.0]), to_network(KINK)
    fake(
        lambda model, options, watch: SolverOutcome(Termination.INFEASIBLE, math.inf, None, 0, 0.0)
    )
    result = lx.lipschitz(net, box, solver="fake")
    assert result.status is lx.Status.BOUNDED
    assert result.lower == 1.0
    assert result.value == result.upper == pytest.approx(2.0)
    fake(lambda model, options, watch: SolverOutcome(Termination.OPTIMAL, -1e-9, -1e-9, 0, 0.0))
    try:
        result = lx.lipschitz(net, box, solver="fake")
    except SolverError:
        return
    assert result.status is lx.Status.BOUNDED
    assert (result.lower, result.upper) == (1.0, pytest.approx(2.0))
    assert result.termination is Termination.FAILED


def test_progress_is_reported_in_the_problems_own_units(fake):
    seen, heard = [], threading.Event()

    def run(model, options, watch):
        watch.record(0.5 * root(model), 0.75 * root(model), 3)
        watch.run(lambda: heard.wait(10), lambda: None)
        return HIGHS(model, options, watch)

    def report(moment):
        seen.append(moment)
        heard.set()

    fake(run)
    problem = stated(to_network(KINK), Box([-1.0], [1.0]), np.ones(1))
    bounds = bound_nodes(problem.graph, problem.sets)
    formulation = Formulation(problem, bounds)
    task = SearchTask(
        formulations=[formulation], options=Options(solver="fake"), on_progress=report
    )
    solve_by_cuts(formulation, SearchState(lower=0.0, upper=2.0), task)
    assert seen
    assert seen[0].incumbent == pytest.approx(1.0)
    assert seen[0].bound == pytest.approx(1.5)
    assert seen[0].nodes == 3


def test_stats_say_what_was_done():
    found = on_kink()
    assert found.stats["binaries"] == 2
    assert (
        found.stats["rounds"] == found.stats["excluded"]
        or found.stats["rounds"] == found.stats["excluded"] + 1
    )
    assert {
        "variables",
        "constraints",
        "nodes",
        "build_seconds",
        "solve_seconds",
        "certify_seconds",
    } <= found.stats.keys()


def test_a_region_whose_norm_is_not_known_keeps_the_bound_open(monkeypatch):
    jacobian_norm = search.jacobian_norm

    def half(*question):
        known = jacobian_norm(*question)
        return replace(known, lower=known.lower / 2, upper=math.inf)

    monkeypatch.setattr(search, "jacobian_norm", half)
    for family in ("general", "sign_pairs"):
        weights, low, high = case(family, 1)
        found, truth = searched(weights, low, high, np.ones(len(weights[-1][1])))
        assert found.lower <= truth / 2 * (1 + 1e-9)
        assert found.upper >= truth * (1 - 1e-9)
