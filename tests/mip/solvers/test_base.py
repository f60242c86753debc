"""The registry, and what is refused or checked whichever the solver."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pyomo.environ as pyo
import pytest

from lipexact.errors import OptionError, SolverError, SolverUnavailableError
from lipexact.mip.solvers import cbc, gurobi, highs, scip, solver_modules
from lipexact.mip.solvers.base import (
    SOLVERS,
    Solver,
    SolverOutcome,
    SolverSettings,
    Termination,
    available,
    quadratic_solvers,
    require_solver,
    solve,
    solver_names,
)
from tests.support.mip_models import (
    QUADRATIC_PROBLEMS,
    check,
    check_bracket,
    hard,
    hard_known,
    knapsack,
)
from tests.support.solvers import require


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


@pytest.mark.slow
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
        require_solver(require(name), quadratic=True)


@pytest.mark.parametrize("name", sorted(set(solver_names()) - set(quadratic_solvers())))
def test_quadratic_program_refused(name, capfd):
    others = " or ".join(f"solver='{other}'" for other in quadratic_solvers())
    message = rf"^{name} cannot solve the quadratic program .* l2 norm .*; use {others}$"
    with pytest.raises(SolverUnavailableError, match=message):
        require_solver(name, quadratic=True)
    require(name)
    for problem in QUADRATIC_PROBLEMS:
        with pytest.raises(SolverUnavailableError, match=message):
            solve(problem()[0], name)
    assert capfd.readouterr() == ("", "")


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
