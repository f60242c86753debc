"""Gurobi: its licence."""

from __future__ import annotations

import pyomo.environ as pyo
import pytest
from pyomo.contrib.solver.common.base import Availability
from pyomo.contrib.solver.solvers.gurobi.gurobi_direct import GurobiDirect

from lipexact.errors import SolverUnavailableError
from lipexact.mip.solvers.base import (
    Termination,
    solve,
)
from tests.support.mip_models import (
    maximise,
)
from tests.support.solvers import require


def require_small_licence():
    require("gurobi")
    if GurobiDirect().available() is not Availability.LimitedLicense:
        pytest.skip("the licence here covers models of any size")


def test_licence_too_small(capfd):
    require_small_licence()
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


def test_licence_too_small_for_a_quadratic_program(capfd):
    require_small_licence()
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
