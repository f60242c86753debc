"""Every engine keeps the protocol: the tests walk the registry, so that a new one is tested,
too.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

import lipexact as lx
from lipexact.bounds.formulation import Formulation, formulate, norm_sets
from lipexact.engines import engine_names, find_engine
from lipexact.options import Options
from lipexact.result import Proof, Termination
from lipexact.solve import Clock, bound, find_incumbent
from lipexact.state import ENGINES, SearchState, SearchTask, StoppingRule, engine
from tests.support.networks import case, random_weights, to_network
from tests.support.oracle import constant, regions

# What an engine may leave open: the relaxation is not exact by its nature.
RELAXES = {"lp"}


@pytest.fixture(scope="module", params=["general", "sign_pairs", "late_coincidence"])
def known(request: pytest.FixtureRequest) -> tuple[list[Formulation], SearchState, float]:
    """Formulations of a small network, a state without an incumbent, and the constant."""
    weights, low, high = case(request.param, 1)
    network = to_network(weights)
    sets = norm_sets(network, "linf", "linf", None)
    formulations = formulate(network, lx.Box(low, high), *sets, "auto", np.inf)
    start = SearchState(lower=0.0, upper=min(each.root_bound for each in formulations))
    return formulations, start, float(constant(regions(weights, low, high), None, "linf", "linf"))


def tasks_of(formulations: list[Formulation], name: str, **changes: object) -> SearchTask:
    return replace(SearchTask(formulations=formulations, options=Options(method=name)), **changes)


def values(state: SearchState) -> dict[str, object]:
    return {each.name: getattr(state, each.name) for each in fields(state)}


def check_bounds(before: SearchState, after: SearchState, truth: float) -> None:
    """The bounds hold, and are at least as tight as before."""
    assert after.lower <= truth * (1 + 1e-9)
    assert after.upper >= truth * (1 - 1e-9)
    assert after.lower >= before.lower
    assert after.upper <= before.upper
    assert (after.lower > 0) == (after.incumbent is not None) or after.lower == before.lower


def test_there_are_engines() -> None:
    assert set(engine_names()) >= {"auto", "bab", "mip", "lp"}
    for name in engine_names():
        assert ENGINES[name] is find_engine(name) if name in ENGINES else find_engine(name)


@pytest.mark.parametrize("name", engine_names())
def test_an_engine_tightens_the_bounds_and_changes_nothing(
    name: str, known: tuple[list[Formulation], SearchState, float]
) -> None:
    formulations, start, truth = known
    task = tasks_of(formulations, name)
    before = values(start)
    bounds = pickle.dumps([each.bounds for each in formulations])
    end = find_engine(name).search(start, task)
    check_bounds(start, end, truth)
    assert values(start) == before
    assert pickle.dumps([each.bounds for each in formulations]) == bounds
    if name in RELAXES:
        assert end.termination in (Termination.RELAXATION, Termination.OPTIMAL)
    else:
        assert end.meets(StoppingRule())
        assert end.incumbent is not None
    assert end.engine in engine_names()
    assert (end.mode is None) == (end.solver is None)
    assert end.proof in (Proof.FLOAT, Proof.SOLVER)


@pytest.mark.parametrize("name", engine_names())
def test_an_engine_stops_at_a_deadline_that_is_past(
    name: str, known: tuple[list[Formulation], SearchState, float]
) -> None:
    formulations, start, truth = known
    end = find_engine(name).search(start, tasks_of(formulations, name, deadline=0.0))
    check_bounds(start, end, truth)
    if not end.meets(StoppingRule()):
        assert end.termination in (Termination.TIME_LIMIT, Termination.RELAXATION)


@pytest.mark.parametrize("share", [0.5, 2.0])
@pytest.mark.parametrize("name", sorted(set(engine_names()) - RELAXES))
def test_an_engine_decides_a_target(
    name: str, share: float, known: tuple[list[Formulation], SearchState, float]
) -> None:
    formulations, start, truth = known
    rule = StoppingRule(target=share * truth)
    end = find_engine(name).search(start, tasks_of(formulations, name, rule=rule))
    check_bounds(start, end, truth)
    assert end.meets(rule)
    assert (end.upper <= share * truth) == (share > 1)


@pytest.mark.parametrize("name", engine_names())
def test_ctrl_c_leaves_bounds_that_hold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random_weights(np.random.default_rng(3), (4, 12, 10, 2))
    network = to_network(weights)
    box = lx.Box(-np.ones(4), np.ones(4))
    sets = norm_sets(network, "linf", None, 0)
    formulations = formulate(network, box, *sets, "auto", np.inf)
    start = find_incumbent(bound(formulations, Clock(None)), formulations, np.inf)
    monkeypatch.setattr("lipexact.bab.constants.REPORT_SECONDS", -1.0)

    def interrupt(_: object) -> bool:
        raise KeyboardInterrupt

    end = find_engine(name).search(start, tasks_of(formulations, name, on_progress=interrupt))
    exact = lx.lipschitz(network, box, functional=0)
    check_bounds(start, end, exact.value)
    if not end.meets(StoppingRule()):
        assert end.termination in (Termination.INTERRUPTED, Termination.RELAXATION)


def test_engines_refuse_what_they_cannot_use() -> None:
    with pytest.raises(lx.OptionError, match="HiGHS"):
        find_engine("bab").prepare(Options(method="bab", solver="scip"))
    with pytest.raises(lx.OptionError, match="HiGHS"):
        find_engine("bab").prepare(Options(method="bab", solver_options={"presolve": "on"}))
    with ThreadPoolExecutor(1) as executor:
        for name in ("mip", "lp"):
            with pytest.raises(lx.OptionError, match="one solver"):
                find_engine(name).prepare(Options(method=name), executor)
        find_engine("bab").prepare(Options(method="bab"), executor)
    with pytest.raises(lx.OptionError, match="'bab'"):
        find_engine("oracle")


@pytest.fixture
def midpoint() -> Iterator[str]:
    """An engine of somebody else's: it knows the constant of the identity."""

    @engine("midpoint")
    class Midpoint:
        """Claims the lower bound."""

        def prepare(self, options: Options, executor: Executor | None = None) -> None:
            assert options.method == "midpoint"
            assert executor is None

        def search(self, state: SearchState, task: SearchTask) -> SearchState:
            assert task.formulations
            return replace(state.with_upper(state.lower, Proof.FLOAT), engine="midpoint")

    yield "midpoint"
    del ENGINES["midpoint"]


def test_an_engine_of_ones_own_is_found_by_its_name(midpoint: str) -> None:
    identity = lx.Network.from_layers([([[1.0], [-1.0]], [0, 0]), ([[1.0, -1.0]], [0])])
    result = lx.lipschitz(identity, lx.Box([-1.0], [1.0]), method=midpoint)
    assert (result.method, result.value, result.status) == (midpoint, 1.0, lx.Status.EXACT)


def test_states_and_tasks_are_frozen() -> None:
    state = SearchState(lower=0.0, upper=1.0)
    with pytest.raises(FrozenInstanceError):
        state.upper = 0.5  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        SearchTask(formulations=[]).deadline = 0.0  # type: ignore[misc]
    assert state.with_upper(2.0, Proof.SOLVER) is state
    assert state.with_upper(0.5, Proof.SOLVER).proof is Proof.SOLVER
    noted = state.with_diagnostic("bab", "one").with_diagnostic("mip", "two")
    assert [str(each) for each in noted.diagnostics] == ["bab: one", "mip: two"]
    assert state.diagnostics == ()
