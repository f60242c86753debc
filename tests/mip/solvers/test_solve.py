"""Each registered solver on the same problems: optima, statuses, gaps, time limits, threads."""

from __future__ import annotations

import itertools
import math
import threading
import time
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest

from lipexact.errors import OptionError, SolverError
from lipexact.mip.solvers.base import (
    SolverSettings,
    Termination,
    Watch,
    solve,
)
from tests.support.mip_models import (
    PROBLEMS,
    QUADRATIC,
    QUADRATIC_PROBLEMS,
    RADIUS,
    WEIGHT,
    check,
    check_bracket,
    check_quadratic_bracket,
    fixed_beyond_reach,
    hard,
    hard_known,
    hard_quadratic,
    hard_to_satisfy,
    knapsack,
    linear,
    longest_in_the_ball,
    parity,
)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.__name__)
def test_problem(solver, problem):
    model, optimum = problem()
    start = time.perf_counter()
    outcome = solve(model, solver)
    assert 0 < outcome.seconds <= time.perf_counter() - start
    check(model, outcome, optimum)
    assert outcome.termination is (
        Termination.INFEASIBLE if optimum == math.inf else Termination.OPTIMAL
    )


@pytest.mark.parametrize("gap", [0.0, 1e-6])
@pytest.mark.parametrize("problem", QUADRATIC_PROBLEMS, ids=lambda problem: problem.__name__)
def test_quadratic_problem(quadratic_solver, problem, gap):
    model, optimum = problem()
    outcome = solve(model, quadratic_solver, SolverSettings(gap=gap))
    check(model, outcome, optimum, QUADRATIC)
    assert outcome.termination is (
        Termination.INFEASIBLE if optimum == math.inf else Termination.OPTIMAL
    )
    if optimum < math.inf:
        assert outcome.bound <= optimum * (1 - 1e-9)


def test_quadratic_time_limit_gives_a_valid_bracket(quadratic_solver):
    model, reached = hard_quadratic()
    outcome = solve(model, quadratic_solver, SolverSettings(time_limit=1.0))
    assert outcome.termination is Termination.TIME_LIMIT
    check_quadratic_bracket(model, outcome, reached)


def test_fixed_variables_in_a_quadratic_program(quadratic_solver):
    model, _ = longest_in_the_ball()
    model.v[0].fix(RADIUS)  # the ball leaves nothing to the others: 1e-3, with a tolerance of 1e-6
    outcome = solve(model, quadratic_solver)
    check(model, outcome, -WEIGHT * RADIUS * np.random.default_rng(0).normal(), tolerance=1e-3)
    assert outcome.termination is Termination.OPTIMAL
    assert model.v[0].value == RADIUS


def test_every_solver_agrees_with_enumeration_where_solutions_nearly_tie(solver):
    # CBC's default cutoff increment of 1e-5 returns solutions that are 9e-6 too high here.
    rng = np.random.default_rng(2)
    choices = np.array(list(itertools.product((0, 1), repeat=12)))
    for _ in range(6):
        covers = rng.random((10, 12)) < 0.25
        covers[np.arange(10), rng.integers(0, 12, 10)] = True
        costs = 1 + 1e-6 * rng.integers(0, 50, 12)
        optimum = float((choices[(choices @ covers.T >= 1).all(axis=1)] @ costs).min())
        model = pyo.ConcreteModel()
        model.x = pyo.Var(range(12), domain=pyo.Binary)
        model.c = pyo.Constraint(
            range(10), rule=lambda m, i, c=covers: sum(m.x[j] for j in np.flatnonzero(c[i])) >= 1
        )
        model.cost = pyo.Objective(expr=sum(float(c) * model.x[j] for j, c in enumerate(costs)))
        outcome = solve(model, solver)
        assert outcome.incumbent == pytest.approx(optimum, abs=9e-7)
        assert outcome.bound == pytest.approx(optimum, abs=9e-7)


def test_gap_is_passed_on(solver):
    model, _ = hard_known()
    outcome = solve(model, solver, SolverSettings(gap=0.2))
    check_bracket(model, outcome)
    assert outcome.termination is Termination.OPTIMAL
    assert outcome.incumbent > outcome.bound >= 1.2 * outcome.incumbent


def patiently(limit, solved, done):
    """Solve within a time limit; on a machine too slow for that, within a longer one."""
    for patience in (1, 5, 25, 125):
        outcome = solved(SolverSettings(time_limit=patience * limit))
        if done(outcome):
            break
    return outcome


@pytest.mark.parametrize("shift", [0.0, 2000.0])
def test_time_limit_gives_a_valid_bracket(solver, shift):
    model, optimum = hard_known(shift)
    outcome = patiently(
        0.5,
        lambda options: solve(model, solver, options),
        lambda outcome: None not in (outcome.bound, outcome.incumbent),
    )
    check(model, outcome, optimum)
    assert outcome.termination in {Termination.TIME_LIMIT, Termination.OPTIMAL}
    assert outcome.bound is not None
    assert outcome.incumbent is not None


@pytest.mark.slow
def test_time_limit_counts_wall_clock_time_and_is_kept(solver):
    # Two threads spend two seconds of CPU time a second: CBC counts those by default. HiGHS may
    # overstay, and on a slow machine for long: a minute is less than the solve takes without a
    # limit.
    model = hard()
    start = time.perf_counter()
    outcome = solve(model, solver, SolverSettings(time_limit=2.0, threads=2))
    seconds = time.perf_counter() - start
    assert outcome.termination is Termination.TIME_LIMIT
    assert outcome.message
    assert 1.8 < outcome.seconds <= seconds < 60
    check(model, outcome, optimum=-1587.0)  # not proven; every bound found so far lies below


@pytest.mark.parametrize("limit", [-1.0, 0.0, 1e-9, 1e-3, 0.01, 0.03])
def test_hardly_any_time(solver, limit):
    for shift in (0.0, 2000.0):  # a bound that was never set reads 0
        model, optimum = hard_known(shift)
        outcome = solve(model, solver, SolverSettings(time_limit=limit))
        check(model, outcome, optimum)
        assert outcome.termination is Termination.TIME_LIMIT


def test_hardly_any_time_for_a_linear_program(solver):
    rng = np.random.default_rng(0)
    model = pyo.ConcreteModel()
    model.x = pyo.Var(range(80), bounds=(0, 1))
    rows = rng.random((60, 80))
    model.c = pyo.Constraint(
        range(60), rule=lambda m, i: sum(float(a) * m.x[j] for j, a in enumerate(rows[i])) <= 9
    )
    model.cost = pyo.Objective(expr=-sum(model.x.values()))
    exact = solve(model, solver)
    assert exact.termination is Termination.OPTIMAL
    for limit in (1e-9, 1e-3, 3e-3):
        check(model, solve(model, solver, SolverSettings(time_limit=limit)), exact.bound)


def test_time_out_without_solution(solver):
    model, planted = hard_to_satisfy()
    outcome = patiently(
        0.5,
        lambda options: solve(model, solver, options),
        lambda outcome: outcome.bound is not None,
    )
    assert outcome.termination is Termination.TIME_LIMIT
    assert outcome.incumbent is None
    assert outcome.bound <= planted
    assert all(variable.value is None for variable in model.x.values())


def test_infinite_time_limit_is_none(solver):
    model, optimum = knapsack()
    check(model, solve(model, solver, SolverSettings(time_limit=math.inf)), optimum)


def test_unbounded_is_failed(solver):
    model = pyo.ConcreteModel()
    model.x, model.y = pyo.Var(), pyo.Var(domain=pyo.Integers)
    model.c = pyo.Constraint(expr=model.x + model.y <= 5)
    model.cost = pyo.Objective(expr=model.x + model.y)
    outcome = solve(model, solver)
    assert outcome.termination is Termination.FAILED
    assert (outcome.bound, outcome.incumbent) == (None, None)
    assert "nbounded" in outcome.message or "UNBOUNDED" in outcome.message


def test_a_solver_that_never_ran_is_failed(solver, monkeypatch):
    # HiGHS says "Not Set", SCIP "unknown", Gurobi "LOADED", CBC has written nothing.
    monkeypatch.setattr(Watch, "run", lambda self, job, cancel, new_thread=True: None)
    model, _ = knapsack()
    outcome = solve(model, solver)
    assert outcome.termination is Termination.FAILED
    assert (outcome.bound, outcome.incumbent) == (None, None)
    assert outcome.message
    assert model.x[0].value is None


def test_nonlinear_model(solver, capfd):
    model = pyo.ConcreteModel()
    model.x = pyo.Var(bounds=(0, 1))
    model.cost = pyo.Objective(expr=pyo.sin(model.x) * model.x)
    with pytest.raises(SolverError):
        solve(model, solver)


def test_threads_may_change_within_a_process(solver):
    for threads in (1, 2, None, 1):
        model, optimum = knapsack()
        outcome = solve(model, solver, SolverSettings(threads=threads))
        check(model, outcome, optimum)
        assert outcome.termination is Termination.OPTIMAL


def test_solves_on_several_threads(solver):
    answers = {}

    def work(threads):
        model, optimum = knapsack()
        answers[threads] = (solve(model, solver, SolverSettings(threads=threads)), optimum)

    workers = [threading.Thread(target=work, args=(threads,)) for threads in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(outcome.incumbent == pytest.approx(optimum) for outcome, optimum in answers.values())
    assert len(answers) == 2


@pytest.mark.parametrize(
    "problem", [knapsack, parity, fixed_beyond_reach, linear], ids=lambda it: it.__name__
)
def test_silence(solver, problem, capfd, caplog):
    solve(problem()[0], solver)
    solve(hard(), solver, SolverSettings(time_limit=0.2))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_no_files_and_no_threads_are_left(solver, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    solve(knapsack()[0], solver)  # SCIP keeps a thread
    before = threading.active_count()
    for problem in (knapsack, parity, linear):
        solve(problem()[0], solver)
    with pytest.raises(OptionError):
        solve(knapsack()[0], solver, SolverSettings(extra={"no_such_option": 1}))
    for _ in range(600):  # a thread that has handed over its result may take a moment to end
        if threading.active_count() <= before:
            break
        time.sleep(0.1)
    assert threading.active_count() <= before
    assert list(Path(tmp_path).iterdir()) == []
