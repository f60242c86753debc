"""HiGHS: models that it refuses, and its scheduler."""

from __future__ import annotations

import pyomo.environ as pyo
import pytest

from lipexact.errors import SolverError
from lipexact.mip.solvers import highs
from lipexact.mip.solvers.base import (
    SolverSettings,
    Termination,
    solve,
)
from tests.support.mip_models import (
    check,
    knapsack,
)
from tests.support.solvers import require


def test_coefficients_that_highs_refuses():
    require("highs")
    model = pyo.ConcreteModel()
    model.x = pyo.Var(bounds=(0, 1))
    model.c = pyo.Constraint(expr=1e16 * model.x >= 1e16)
    model.cost = pyo.Objective(expr=model.x)
    with pytest.raises(SolverError, match="1e15"):  # without its rows the model has the optimum 0
        solve(model, "highs")


def test_threads_may_differ_from_what_the_caller_did_with_highs():
    require("highs")
    theirs = highs.highspy.Highs()
    theirs.setOptionValue("output_flag", False)
    theirs.setOptionValue("threads", 1)
    theirs.addVar(0.0, 1.0)
    theirs.run()
    model, optimum = knapsack()
    outcome = solve(model, "highs", SolverSettings(threads=2))
    check(model, outcome, optimum)
    assert outcome.termination is Termination.OPTIMAL
