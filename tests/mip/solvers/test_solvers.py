"""One set of problems for every solver in the registry, one checker, and a regression test for each known trap."""

import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.common import Executable
from pyomo.contrib.solver.common.base import Availability
from pyomo.contrib.solver.solvers.gurobi.gurobi_direct import GurobiDirect

from lipexact.errors import OptionError, SolverError, SolverUnavailableError
from lipexact.mip import constants
from lipexact.mip.solvers import cbc, gurobi, highs, scip, solver_modules
from lipexact.mip.solvers.base import (
    SOLVERS,
    Solver,
    SolverOutcome,
    SolverSettings,
    Termination,
    Watch,
    available,
    quadratic_solvers,
    require_solver,
    solve,
    solver_names,
)
from lipexact.state import Progress

TOLERANCE = 1e-6
QUADRATIC = 3e-6


def need(name):
    """Skip where a solver is missing; in CI, where all are installed, fail."""
    if not available(name):
        reason = f"{name} is missing: {SOLVERS[name].remedy}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return name


@pytest.fixture(params=solver_names())
def solver(request):
    return need(request.param)


@pytest.fixture(params=quadratic_solvers())
def quadratic_solver(request):
    return need(request.param)


# Problems. Each builder returns a model and its optimum; +inf: infeasible.


def knapsack():
    weights, values = (4, 7, 5, 3, 8), (9, 11, 8, 5, 14)
    model = pyo.ConcreteModel()
    model.x = pyo.Var(range(5), domain=pyo.Binary)
    model.room = pyo.Constraint(expr=sum(w * model.x[i] for i, w in enumerate(weights)) <= 15)
    model.cost = pyo.Objective(expr=-sum(v * model.x[i] for i, v in enumerate(values)))
    return model, -28.0


def set_cover():
    model = pyo.ConcreteModel()
    model.x = pyo.Var(range(6), domain=pyo.Binary)
    model.covered = pyo.Constraint(
        range(6), rule=lambda m, i: m.x[i] + m.x[(i + 1) % 6] + m.x[(i + 3) % 6] >= 1
    )
    model.cost = pyo.Objective(expr=sum((1 + i / 10) * model.x[i] for i in range(6)) - 1.5)
    return model, min(
        sum((1 + i / 10) * x[i] for i in range(6)) - 1.5
        for x in itertools.product((0, 1), repeat=6)
        if all(x[i] + x[(i + 1) % 6] + x[(i + 3) % 6] >= 1 for i in range(6))
    )


def big_m():
    """Two ReLUs in their big-M form: the least of relu(x - y) - relu(x + y - 1) on [-2, 3] x [-1, 2] is -4."""
    model = pyo.ConcreteModel()
    model.x, model.y = pyo.Var(bounds=(-2, 3)), pyo.Var(bounds=(-1, 2))
    model.out = pyo.Var(range(2), bounds=(0, 4))
    model.on = pyo.Var(range(2), domain=pyo.Binary)
    inputs = (model.x - model.y, model.x + model.y - 1)
    model.above = pyo.Constraint(range(2), rule=lambda m, i: m.out[i] >= inputs[i])
    model.below = pyo.Constraint(
        range(2), rule=lambda m, i: m.out[i] <= inputs[i] + 4 * (1 - m.on[i])
    )
    model.off = pyo.Constraint(range(2), rule=lambda m, i: m.out[i] <= 4 * m.on[i])
    model.cost = pyo.Objective(expr=model.out[0] - model.out[1])
    return model, -3.0


def general_integers():
    model = pyo.ConcreteModel()
    model.x = pyo.Var(domain=pyo.Integers, bounds=(-5, 5))
    model.y = pyo.Var(domain=pyo.NonNegativeIntegers)
    model.z = pyo.Var()
    model.link = pyo.Constraint(expr=3 * model.x + 2 * model.y == 7)
    model.span = pyo.Constraint(expr=(-4, model.z - model.x, 4))
    model.cost = pyo.Objective(expr=model.y + model.z)
    return model, -1.0


def linear():
    model = pyo.ConcreteModel()
    model.x, model.y = pyo.Var(bounds=(0, 5)), pyo.Var(bounds=(0, 4))
    model.c = pyo.Constraint(expr=model.x + 2 * model.y >= 3)
    model.cost = pyo.Objective(expr=model.x + 3 * model.y - 10)
    return model, -7.0


def no_constraints():
    model = pyo.ConcreteModel()
    model.x = pyo.Var(bounds=(1, 2))
    model.cost = pyo.Objective(expr=2 * model.x + 1)
    return model, 3.0


def nothing():
    model = pyo.ConcreteModel()
    model.cost = pyo.Objective(expr=3.0)
    return model, 3.0


def constant_objective():
    model, _ = knapsack()
    model.del_component(model.cost)
    model.cost = pyo.Objective(expr=7.5)
    return model, 7.5


def all_fixed():
    model, _ = knapsack()
    model.x.fix(0)
    model.x[0].fix(1)
    return model, -9.0


def fixed_beyond_reach():
    model, _ = knapsack()
    model.x.fix(1)
    return model, math.inf


def parity():
    """The relaxation is feasible, the program is not."""
    model = pyo.ConcreteModel()
    model.x = pyo.Var(range(3), domain=pyo.Integers, bounds=(0, 10))
    model.c = pyo.Constraint(expr=2 * model.x[0] - 2 * model.x[1] + 4 * model.x[2] == 3)
    model.cost = pyo.Objective(expr=model.x[0] + model.x[1])
    return model, math.inf


def infeasible_linear():
    model = pyo.ConcreteModel()
    model.x, model.y = pyo.Var(), pyo.Var()
    model.c = pyo.Constraint(expr=model.x + model.y >= 5.5)
    model.d = pyo.Constraint(expr=model.x + model.y <= 5.2)
    model.cost = pyo.Objective(expr=model.x + 2 * model.y)
    return model, math.inf


PROBLEMS = [
    knapsack,
    set_cover,
    big_m,
    general_integers,
    linear,
    no_constraints,
    nothing,
    constant_objective,
    all_fixed,
    fixed_beyond_reach,
    parity,
    infeasible_linear,
]


# Quadratic programs: the largest norm or coordinate of a vector that is affine in v, as the program of an l2 norm has
# it, with vectors of norm up to 64 and a weight on the objective. Optima in the objective's own units.

RADIUS, WEIGHT = 64.0, 2.0**20


def maximise(size, ball):
    """Return a model with v in the ball or the box, t as its largest, and minus t as its cost."""
    model = pyo.ConcreteModel()
    model.v = pyo.Var(range(size), bounds=(-RADIUS, RADIUS))
    if ball:
        model.ball = pyo.Constraint(expr=sum(v**2 for v in model.v.values()) <= RADIUS**2)
    model.t = pyo.Var(bounds=(-1e3, 1e3))
    model.rows = pyo.ConstraintList()
    model.cost = pyo.Objective(expr=-WEIGHT * model.t)
    return model


def rows(model, matrix):
    return [sum(float(c) * v for c, v in zip(row, model.v.values(), strict=True)) for row in matrix]


def norm_of(model, matrices, reach):
    """Let t be at most the norm of ``matrix @ v``, for the matrix that a binary chooses."""
    model.u = pyo.Var(range(len(matrices[0])), bounds=(-reach, reach))
    model.chosen = pyo.Var(range(len(matrices)), domain=pyo.Binary)
    model.rows.add(sum(model.chosen.values()) == 1)
    for matrix, chosen in zip(matrices, model.chosen.values(), strict=True):
        for u, row in zip(model.u.values(), rows(model, matrix), strict=True):
            model.rows.add(u - row <= 2 * reach * (1 - chosen))
            model.rows.add(row - u <= 2 * reach * (1 - chosen))
    model.norm = pyo.Constraint(expr=model.t * model.t <= sum(u**2 for u in model.u.values()))
    model.t.setlb(0)


def longest_in_the_ball():
    """Convex and continuous: the norm of a functional."""
    functional = np.random.default_rng(0).normal(size=6)
    model = maximise(6, ball=True)
    model.rows.add(model.t <= rows(model, [functional])[0])
    return model, -WEIGHT * RADIUS * np.linalg.norm(functional)


def longer_of_two_in_the_ball():
    """Convex with a binary: the larger norm of two functionals."""
    functionals = np.random.default_rng(1).normal(size=(2, 4))
    model = maximise(4, ball=True)
    model.second = pyo.Var(domain=pyo.Binary)
    first, second = rows(model, functionals)
    model.rows.add(model.t <= first + 2e3 * model.second)
    model.rows.add(model.t <= second + 2e3 * (1 - model.second))
    return model, -WEIGHT * RADIUS * np.linalg.norm(functionals, axis=1).max()


def singular_value():
    """Nonconvex, over the ball: the largest singular value."""
    matrix = np.random.default_rng(2).normal(size=(3, 3)) / 3
    model = maximise(3, ball=True)
    norm_of(model, [matrix], reach=RADIUS * float(np.linalg.norm(matrix, axis=1).max()))
    return model, -WEIGHT * RADIUS * np.linalg.norm(matrix, 2)


def norm_on_the_box():
    """Nonconvex with a binary, over the box: a vertex has the largest norm."""
    matrices = np.random.default_rng(3).normal(size=(2, 3, 4)) / 4
    vertices = RADIUS * np.array(list(itertools.product((-1, 1), repeat=4)))
    model = maximise(4, ball=False)
    norm_of(model, matrices, reach=RADIUS * float(np.abs(matrices).sum(axis=2).max()))
    return model, -WEIGHT * max(
        np.linalg.norm(vertices @ matrix.T, axis=1).max() for matrix in matrices
    )


def out_of_the_ball():
    model = maximise(2, ball=True)
    model.rows.add(model.v[0] + model.v[1] >= 1.5 * RADIUS)
    return model, math.inf


QUADRATIC_PROBLEMS = [
    longest_in_the_ball,
    longer_of_two_in_the_ball,
    singular_value,
    norm_on_the_box,
    out_of_the_ball,
]


def hard_quadratic():
    """No solver here closes it in a minute; the second value is no more than a bound."""
    matrix = np.random.default_rng(4).normal(size=(20, 20)) / 20
    model = maximise(20, ball=False)
    norm_of(model, [matrix], reach=RADIUS * float(np.abs(matrix).sum(axis=1).max()))
    vertices = RADIUS * np.sign(np.linalg.svd(matrix)[2])
    return model, -WEIGHT * np.linalg.norm(vertices @ matrix.T, axis=1).max()


def multi_knapsack(columns, rows, seed):
    rng = np.random.default_rng(seed)
    weights, values = rng.integers(1, 100, (rows, columns)), rng.integers(50, 100, columns)
    model = pyo.ConcreteModel()
    model.x = pyo.Var(range(columns), domain=pyo.Binary)
    model.room = pyo.Constraint(
        range(rows),
        rule=lambda m, i: (
            sum(int(w) * m.x[j] for j, w in enumerate(weights[i])) <= int(weights[i].sum() // 3)
        ),
    )
    model.cost = pyo.Objective(expr=-sum(int(v) * model.x[j] for j, v in enumerate(values)))
    return model


def hard():
    """No solver here closes it in a minute."""
    return multi_knapsack(60, 40, seed=0)


def hard_known(shift=0.0):
    """Seconds of work; HiGHS, SCIP and Gurobi agree on the optimum."""
    model = multi_knapsack(32, 22, seed=3)
    model.cost.expr += shift
    return model, -840.0 + shift


def hard_to_satisfy():
    """A market split: it has a solution, planted, that no solver finds in seconds."""
    rng = np.random.default_rng(0)
    weights, planted = rng.integers(1, 100, (5, 50)), rng.integers(0, 2, 50)
    model = pyo.ConcreteModel()
    model.x = pyo.Var(range(50), domain=pyo.Binary)
    model.split = pyo.Constraint(
        range(5),
        rule=lambda m, i: (
            sum(int(w) * m.x[j] for j, w in enumerate(weights[i])) == int(weights[i] @ planted)
        ),
    )
    model.cost = pyo.Objective(expr=sum(model.x.values()))
    return model, float(planted.sum())


def check(model, outcome, optimum, tolerance=TOLERANCE):
    """Check an outcome of any kind against the true optimum, and the loaded solution against the model."""
    slack = tolerance * max(1.0, abs(optimum))
    if outcome.bound is not None:
        assert outcome.bound <= optimum + slack
    if outcome.incumbent is not None:
        assert outcome.bound is None or outcome.bound <= outcome.incumbent
        assert outcome.incumbent >= optimum - slack
        assert outcome.incumbent == pytest.approx(pyo.value(model.cost), abs=slack)
        for variable in model.component_data_objects(pyo.Var):
            assert not variable.is_integer() or abs(variable.value - round(variable.value)) < 1e-5
        for constraint in model.component_data_objects(pyo.Constraint):
            assert constraint.slack() > -1e-5
    if outcome.termination is Termination.OPTIMAL:
        assert outcome.bound == pytest.approx(optimum, abs=slack)
        assert outcome.incumbent == pytest.approx(optimum, abs=slack)
        assert outcome.message == ""
    elif outcome.termination is Termination.INFEASIBLE:
        assert optimum == math.inf
        assert outcome.bound == math.inf
        assert outcome.incumbent is None


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


def check_quadratic_bracket(model, outcome, reached):
    assert outcome.bound is None or outcome.bound <= reached * (1 - 1e-9)
    if outcome.incumbent is None:  # a slow machine
        assert all(variable.value is None for variable in model.component_data_objects(pyo.Var))
    else:
        assert outcome.incumbent == pytest.approx(pyo.value(model.cost))
        assert outcome.bound is None or outcome.bound <= outcome.incumbent


def test_many_quadratic_solves_in_one_process():
    # SCIP's CppAD crashes in the 64th thread that it meets.
    for _ in range(66):
        model, optimum = longest_in_the_ball()
        check(model, solve(model, need("scip")), optimum, QUADRATIC)


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


def check_bracket(model, outcome):
    _, optimum = hard_known()
    assert outcome.bound <= optimum + TOLERANCE
    assert outcome.incumbent >= optimum - TOLERANCE
    assert outcome.incumbent == pytest.approx(pyo.value(model.cost))


# Time limits.


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


def test_time_limit_counts_wall_clock_time_and_is_kept(solver):
    # Two threads spend two seconds of CPU time a second: CBC counts those by default. HiGHS may overstay, and on a slow
    # machine for long: a minute is less than the solve takes without a limit.
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


# Statuses that are no answer.


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


@pytest.fixture
def broken_cbc(tmp_path):
    """Put a shell script in the place of CBC."""
    if sys.platform == "win32":
        pytest.skip("the stand-in is a shell script")
    original = Executable("cbc").path()

    def install(script):
        program = tmp_path / "cbc"
        program.write_text(f"#!/bin/sh\n[ $# -lt 3 ] && exit 0\n{script}\n")
        program.chmod(0o755)
        Executable("cbc").set_path(str(program))

    yield install
    if original is None:
        Executable("cbc").disable()
    else:
        Executable("cbc").set_path(original)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo nonsense; exit 3", "code 3: nonsense"),
        ("kill -9 $$", "code -9: it printed nothing"),
        ("exit 0", "code 0"),
        (r"printf '\377\376'; kill -11 $$", "code -11"),
    ],
    ids=["error", "killed", "silent", "crashed"],
)
def test_cbc_that_fails(broken_cbc, script, message, capfd):
    broken_cbc(script)
    model, _ = knapsack()
    outcome = solve(model, "cbc")
    assert outcome.termination is Termination.FAILED
    assert (outcome.bound, outcome.incumbent) == (None, None)
    assert message in outcome.message
    assert model.x[0].value is None
    assert capfd.readouterr() == ("", "")


def write(text):
    return f'while [ "$1" != -solu ]; do shift; done; echo "{text}" > "$2"'


@pytest.mark.parametrize(
    "header", ["Status unknown - objective value 1", "Stopped on difficulties", "gibberish"]
)
def test_cbc_status_that_is_no_answer(broken_cbc, header):
    broken_cbc(write(header))
    assert solve(knapsack()[0], "cbc").termination is Termination.FAILED


def test_cbc_solution_that_cannot_be_read(broken_cbc, capfd):
    broken_cbc(write("Optimal - objective value 1"))
    with pytest.raises(SolverError, match="cbc failed"):
        solve(knapsack()[0], "cbc")
    assert capfd.readouterr() == ("", "")


def test_cbc_calls_infeasible_what_it_had_no_time_for(broken_cbc):
    broken_cbc("sleep 0.3; " + write("Integer infeasible - objective value 1"))
    outcome = solve(knapsack()[0], "cbc", SolverSettings(time_limit=0.2))
    assert (outcome.termination, outcome.bound) == (Termination.TIME_LIMIT, None)
    assert solve(knapsack()[0], "cbc").termination is Termination.INFEASIBLE


def test_cbc_that_does_not_stop_is_killed(broken_cbc, monkeypatch):
    monkeypatch.setattr(constants, "GRACE_SECONDS", 0.2)
    broken_cbc("trap '' INT; while true; do sleep 0.1; done")
    outcome = solve(knapsack()[0], "cbc", SolverSettings(time_limit=0.2))
    assert (outcome.termination, outcome.bound, outcome.incumbent) == (
        Termination.TIME_LIMIT,
        None,
        None,
    )


def fake(monkeypatch, run, present=True):
    monkeypatch.setitem(SOLVERS, "fake", Solver("fake", "pip install fake", lambda: present, run))


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (
            SolverOutcome(Termination.OPTIMAL, None, 1.0, 0, 0.0, "fake"),
            (Termination.FAILED, None, None),
        ),
        (
            SolverOutcome(Termination.OPTIMAL, 1.0, None, 0, 0.0, "fake"),
            (Termination.FAILED, None, None),
        ),
        (
            SolverOutcome(Termination.OPTIMAL, -math.inf, 1.0, 0, 0.0, "fake"),
            (Termination.FAILED, None, None),
        ),
        (
            SolverOutcome(Termination.FAILED, 1.0, 1.0, 0, 0.0, "fake"),
            (Termination.FAILED, None, None),
        ),
        (
            SolverOutcome(Termination.TIME_LIMIT, -1e20, 1e100, 0, 0.0),
            (Termination.TIME_LIMIT, None, None),
        ),
        (
            SolverOutcome(Termination.TIME_LIMIT, math.nan, 2.0, 0, 0.0),
            (Termination.TIME_LIMIT, None, 2.0),
        ),
        (
            SolverOutcome(Termination.INFEASIBLE, None, None, 0, 0.0),
            (Termination.INFEASIBLE, math.inf, None),
        ),
        (
            SolverOutcome(Termination.OPTIMAL, 1.0 + 1e-7, 1.0, 0, 0.0),
            (Termination.OPTIMAL, 1.0, 1.0),
        ),
    ],
)
def test_claims_are_checked(monkeypatch, claim, expected):
    fake(monkeypatch, lambda model, options, watch: claim)
    outcome = solve(knapsack()[0], "fake")
    assert (outcome.termination, outcome.bound, outcome.incumbent) == expected


def test_contradiction_is_an_error(monkeypatch):
    fake(
        monkeypatch,
        lambda model, options, watch: SolverOutcome(Termination.TIME_LIMIT, 2.0, 1.0, 0, 0.0),
    )
    with pytest.raises(SolverError, match=r"contradicts itself.* 1\.0 below its bound of 2\.0"):
        solve(knapsack()[0], "fake")


def test_exceptions_of_an_interface_do_not_leak(monkeypatch):
    def run(model, options, watch):
        raise ZeroDivisionError("inside")

    fake(monkeypatch, run)
    with pytest.raises(SolverError, match="fake failed: ZeroDivisionError: inside"):
        solve(knapsack()[0], "fake")


def test_nonlinear_model(solver, capfd):
    model = pyo.ConcreteModel()
    model.x = pyo.Var(bounds=(0, 1))
    model.cost = pyo.Objective(expr=pyo.sin(model.x) * model.x)
    with pytest.raises(SolverError):
        solve(model, solver)


def test_each_module_registers_the_solver_of_its_name():
    assert set(solver_modules()) == set(solver_names())
    assert set(solver_modules()) >= {"highs", "scip", "gurobi", "cbc"}


NEW_SOLVER = """
from lipexact.mip.solvers.base import register

@register("fancy", remedy="buy it", present=lambda: False)
def solve_fancy(model, settings, watch):
    raise NotImplementedError
"""
ITS_USER = """
import sys
import lipexact.mip.solvers
lipexact.mip.solvers.__path__.append(sys.argv[1])

from lipexact.cli import main
sys.argv = ["lipexact", "solve", "--help"]
try:
    main()
except SystemExit:
    pass
assert "pyomo" not in sys.modules

import lipexact as lx
from lipexact.mip.solvers.base import require_solver, solver_names
print(solver_names())
for name in ("fancy", "none"):
    try:
        require_solver(name)
    except lx.LipExactError as error:
        print(error)
"""


def test_a_new_solver_is_one_module(tmp_path):
    (tmp_path / "fancy.py").write_text(NEW_SOLVER)
    command = [sys.executable, "-c", ITS_USER, str(tmp_path)]
    wide = os.environ | {"COLUMNS": "300"}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=wide).stdout
    text, names, missing, unknown = printed.rsplit("\n", 4)[:4]
    assert "cbc, fancy, gurobi, highs or scip." in text
    assert "'fancy'" in names
    assert missing == "the solver 'fancy' is not available here: buy it"
    assert unknown == "unknown solver 'none'; known are highs, scip, cbc, fancy, gurobi"


def test_bundled_solvers_come_first(monkeypatch):
    fake(monkeypatch, lambda model, options, watch: None)
    bundled = [SOLVERS[name].bundled for name in solver_names()]
    assert bundled == sorted(bundled, reverse=True)
    assert solver_names()[:2] == ("highs", "scip")


def test_quadratic_solvers():
    assert {"scip", "gurobi"} <= set(quadratic_solvers())
    for name in quadratic_solvers():
        require_solver(need(name), quadratic=True)


@pytest.mark.parametrize("name", sorted(set(solver_names()) - set(quadratic_solvers())))
def test_quadratic_program_refused(name, capfd):
    others = " or ".join(f"solver='{other}'" for other in quadratic_solvers())
    message = rf"^{name} cannot solve the quadratic program .* l2 norm .*; use {others}$"
    with pytest.raises(SolverUnavailableError, match=message):
        require_solver(name, quadratic=True)
    need(name)
    for problem in QUADRATIC_PROBLEMS:
        with pytest.raises(SolverUnavailableError, match=message):
            solve(problem()[0], name)
    assert capfd.readouterr() == ("", "")


def test_coefficients_that_highs_refuses():
    need("highs")
    model = pyo.ConcreteModel()
    model.x = pyo.Var(bounds=(0, 1))
    model.c = pyo.Constraint(expr=1e16 * model.x >= 1e16)
    model.cost = pyo.Objective(expr=model.x)
    with pytest.raises(SolverError, match="1e15"):  # without its rows the model has the optimum 0
        solve(model, "highs")


# Arguments.


def test_objective_must_be_one_minimisation():
    for objectives in ((), (pyo.minimize, pyo.minimize), (pyo.maximize,)):
        model = pyo.ConcreteModel()
        model.x = pyo.Var(bounds=(0, 1))
        model.costs = pyo.ObjectiveList()
        for sense in objectives:
            model.costs.add(model.x, sense=sense)
        with pytest.raises(SolverError, match=r"objective|minimisation"):
            solve(model, "highs")


def test_inactive_objective_does_not_count(solver):
    model, optimum = knapsack()
    model.other = pyo.Objective(expr=model.x[0], sense=pyo.maximize)
    model.other.deactivate()
    check(model, solve(model, solver), optimum)


def test_unknown_solver():
    for ask in (available, require_solver, lambda name: solve(knapsack()[0], name)):
        with pytest.raises(
            OptionError, match=rf"unknown solver 'glop'.*{'.*'.join(solver_names())}"
        ):
            ask("glop")


def test_missing_solver(monkeypatch):
    fake(monkeypatch, lambda model, options, watch: None, present=False)
    assert not available("fake")
    for ask in (require_solver, lambda name: solve(knapsack()[0], name)):
        with pytest.raises(
            SolverUnavailableError, match=r"'fake' is not available here: pip install fake"
        ):
            ask("fake")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("highs", "pip install highspy"),
        ("scip", "pip install pyscipopt"),
        ("gurobi", r'pip install "lipexact\[gurobi\]"'),
        ("cbc", "apt-get install coinor-cbc"),
    ],
)
def test_missing_solver_says_what_to_install(name, remedy, monkeypatch):
    monkeypatch.setattr(highs, "has_highspy", False)
    monkeypatch.setattr(scip, "has_pyscipopt", False)
    monkeypatch.setattr(gurobi, "has_gurobipy", False)
    monkeypatch.setattr(cbc, "Executable", lambda program: None)
    with pytest.raises(SolverUnavailableError, match=remedy):
        solve(knapsack()[0], name)


@pytest.mark.parametrize(
    "options",
    [
        SolverSettings(time_limit=math.nan),
        SolverSettings(gap=-0.1),
        SolverSettings(gap=math.nan),
        SolverSettings(gap=math.inf),
        SolverSettings(threads=0),
    ],
)
def test_options_out_of_range(options):
    with pytest.raises(OptionError):
        solve(knapsack()[0], "highs", options)


def node_limit(solver):
    """Return the solver's own name of the option that limits the nodes."""
    names = SOLVERS[solver].option_names
    assert names is not None
    return names.node_limit


def test_solver_options_are_passed_on(solver):
    model, _ = hard_known()
    outcome = solve(model, solver, SolverSettings(extra={node_limit(solver): 1}))
    check_bracket(model, outcome)
    assert outcome.termination is Termination.LIMIT


def test_solver_options_are_refused_by_name(solver, capfd):
    for extra in ({"no_such_option": 1}, {node_limit(solver): "many"}):
        with pytest.raises(OptionError, match=next(iter(extra))):
            solve(hard(), solver, SolverSettings(time_limit=5, extra=extra))
    assert capfd.readouterr() == ("", "")


# Threads.


def test_threads_may_change_within_a_process(solver):
    for threads in (1, 2, None, 1):
        model, optimum = knapsack()
        outcome = solve(model, solver, SolverSettings(threads=threads))
        check(model, outcome, optimum)
        assert outcome.termination is Termination.OPTIMAL


def test_threads_may_differ_from_what_the_caller_did_with_highs():
    need("highs")
    theirs = highs.highspy.Highs()
    theirs.setOptionValue("output_flag", False)
    theirs.setOptionValue("threads", 1)
    theirs.addVar(0.0, 1.0)
    theirs.run()
    model, optimum = knapsack()
    outcome = solve(model, "highs", SolverSettings(threads=2))
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


# Progress and interruption.


LONG = 100.0  # a time limit, for solves that are stopped long before


def is_bracket(moment, solver):
    """Whether a report has both bounds; the log of CBC has them together, or is silent."""
    return moment.incumbent is not None and (moment.bound is not None or solver == "cbc")


def test_progress(solver, capfd):
    news, threads = [], set()

    def report(moment: Progress) -> bool:
        news.append(moment)
        threads.add(threading.current_thread())
        sys.stderr.write("working\n")
        return len(news) >= 3 and is_bracket(moment, solver)

    outcome = solve(hard(), solver, SolverSettings(time_limit=LONG), report)
    assert threads == {threading.current_thread()}
    assert [moment.seconds for moment in news] == sorted(moment.seconds for moment in news)
    found = [None, *(moment.incumbent for moment in news)]
    assert len(news) <= news[-1].seconds / constants.HEARTBEAT_SECONDS + sum(
        a != b for a, b in itertools.pairwise(found)
    )
    assert news[-1].incumbent >= outcome.incumbent - TOLERANCE
    if solver != "cbc":  # its log speaks now and then only
        assert news[-1].bound <= outcome.bound + TOLERANCE
        assert news[-1].nodes <= outcome.nodes
    assert capfd.readouterr() == (
        "",
        "working\n" * len(news),
    )  # the display gets through, the solver does not


def test_interrupt_from_the_callback(solver):
    def report(moment: Progress) -> None:
        if is_bracket(moment, solver):
            raise KeyboardInterrupt

    model = hard()
    outcome = solve(model, solver, SolverSettings(time_limit=LONG), report)
    assert outcome.termination is Termination.INTERRUPTED
    check(model, outcome, optimum=-1587.0)
    assert outcome.bound is not None
    assert outcome.incumbent is not None


def test_stop_by_the_callback(solver):
    answers = []

    def report(moment: Progress) -> bool:
        answers.append(len(answers) >= 2 and is_bracket(moment, solver))
        return answers[-1]

    model = hard()
    outcome = solve(model, solver, SolverSettings(time_limit=LONG), report)
    assert answers.index(True) == len(answers) - 1
    assert outcome.termination is Termination.INTERRUPTED
    check(model, outcome, optimum=-1587.0)
    assert outcome.bound is not None
    assert outcome.incumbent is not None


def test_stop_of_a_quadratic_program_by_the_callback(quadratic_solver):
    def report(moment: Progress) -> bool:
        return is_bracket(moment, quadratic_solver)

    model, reached = hard_quadratic()
    outcome = solve(model, quadratic_solver, SolverSettings(time_limit=LONG), report)
    assert outcome.termination is Termination.INTERRUPTED
    assert outcome.incumbent is not None
    assert outcome.bound is not None
    check_quadratic_bracket(model, outcome, reached)


def test_a_new_incumbent_is_reported_at_once(monkeypatch):
    monkeypatch.setattr(constants, "HEARTBEAT_SECONDS", LONG)
    seen, heard, stop = [], threading.Event(), threading.Event()

    def report(moment):
        seen.append(moment)
        heard.set()
        return moment.incumbent == 2.0

    watch = Watch(None, report)

    def job():
        watch.record(1.0, None, None)
        heard.wait(10)
        watch.record(2.0, None, None)
        stop.wait(10)

    watch.run(job, stop.set)
    assert [moment.incumbent for moment in seen] == [1.0, 2.0]
    assert watch.cancelled
    assert watch.stop_reason is Termination.INTERRUPTED


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_ctrl_c(solver):
    timers = []

    def report(moment: Progress) -> None:
        if not timers and is_bracket(moment, solver):
            timers.append(threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)))
            timers[0].start()

    model = hard()
    outcome = solve(model, solver, SolverSettings(time_limit=LONG), report)
    timers[0].join()
    assert outcome.termination is Termination.INTERRUPTED
    assert outcome.bound is not None
    check(model, outcome, optimum=-1587.0)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_ctrl_c_after_gurobi_on_several_threads():
    # Each solve puts back the signal handler that it found: of two at a time, one may put back Gurobi's own.
    need("gurobi")
    handler = signal.getsignal(signal.SIGINT)
    for _ in range(5):
        workers = [
            threading.Thread(
                target=solve, args=(hard(), "gurobi", SolverSettings(time_limit=limit))
            )
            for limit in (0.2, 0.3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    test_ctrl_c(need("highs"))
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_exception_of_the_callback_is_raised(solver):
    def report(moment: Progress) -> None:
        raise ZeroDivisionError("display broken")

    start = time.perf_counter()
    with pytest.raises(ZeroDivisionError, match="display broken"):
        solve(hard(), solver, SolverSettings(time_limit=LONG), report)
    assert time.perf_counter() - start < LONG


def test_long_overdue_is_told_to_stop(monkeypatch):
    monkeypatch.setattr(constants, "GRACE_SECONDS", 0.1)
    stop = threading.Event()
    watch = Watch(0.01, None)
    watch.run(lambda: stop.wait(10), stop.set)
    assert stop.is_set()
    assert watch.stop_reason is Termination.TIME_LIMIT


def test_second_ctrl_c_leaves_the_job(monkeypatch):
    stop = threading.Event()

    def report(moment: Progress) -> None:
        raise KeyboardInterrupt

    def cancel() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Watch(None, report).run(lambda: stop.wait(10), cancel)
    stop.set()


def test_a_cancel_that_is_refused_is_asked_again():
    # SCIP takes no interrupt between two of its stages.
    stop, asked = threading.Event(), []

    def cancel():
        asked.append(None)
        if len(asked) < 3:
            return False
        stop.set()
        return True

    Watch(None, lambda _: True).run(lambda: stop.wait(10), cancel)
    assert stop.is_set()
    assert len(asked) == 3


# Silence, sizes, leftovers.


@pytest.mark.parametrize(
    "problem", [knapsack, parity, fixed_beyond_reach, linear], ids=lambda it: it.__name__
)
def test_silence(solver, problem, capfd, caplog):
    solve(problem()[0], solver)
    solve(hard(), solver, SolverSettings(time_limit=0.2))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def need_small_licence():
    need("gurobi")
    if GurobiDirect().available() is not Availability.LimitedLicense:
        pytest.skip("the licence here covers models of any size")


def test_gurobi_licence_too_small(capfd):
    need_small_licence()
    model = pyo.ConcreteModel()
    model.x = pyo.Var(range(2100), domain=pyo.Binary)
    model.c = pyo.Constraint(
        range(3), rule=lambda m, i: sum(m.x[j] for j in range(i, 2100, 3)) >= 5
    )
    model.cost = pyo.Objective(expr=sum(model.x.values()))
    with pytest.raises(
        SolverUnavailableError, match=r"2100 variables, 3 linear and 0 quadratic.* 2000 var"
    ):
        solve(model, "gurobi")
    assert capfd.readouterr() == ("", "")


def test_gurobi_licence_too_small_for_a_quadratic_program(capfd):
    need_small_licence()
    model = maximise(200, ball=True)
    model.rows.add(model.t <= sum(model.v.values()))
    with pytest.raises(
        SolverUnavailableError,
        match=r"201 variables, 1 linear and 1 quadratic.*\(200 with quadratic",
    ):
        solve(model, "gurobi")
    model = maximise(199, ball=True)
    model.rows.add(model.t <= sum(model.v.values()))
    assert solve(model, "gurobi").termination is Termination.OPTIMAL
    assert capfd.readouterr() == ("", "")


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
