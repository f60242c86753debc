"""Models for solvers, with their optima, and checks of outcomes against them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyomo.environ as pyo
import pytest

from lipexact.mip.solvers.base import (
    Termination,
)

# How far a solver's optimum may be off, relative to it if that is above 1.
TOLERANCE = 1e-6
QUADRATIC = 3e-6

# Each of these functions returns a model and its optimum; +inf: infeasible.


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
    """Two ReLUs in their big-M form: relu(x - y) - relu(x + y - 1) on [-2, 3] x [-1, 2]."""
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


# Quadratic programs: the largest norm or coordinate of a vector that is affine in v, as the program
# of an l2 norm has it, with vectors of norm up to 64 and a weight on the objective. Optima are in
# the objective's own units.

RADIUS = 64.0
WEIGHT = 2.0**20


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
    """Check an outcome against the true optimum, and the loaded solution against the model."""
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


def check_quadratic_bracket(model, outcome, reached):
    assert outcome.bound is None or outcome.bound <= reached * (1 - 1e-9)
    if outcome.incumbent is None:  # a slow machine
        assert all(variable.value is None for variable in model.component_data_objects(pyo.Var))
    else:
        assert outcome.incumbent == pytest.approx(pyo.value(model.cost))
        assert outcome.bound is None or outcome.bound <= outcome.incumbent


def check_bracket(model, outcome):
    _, optimum = hard_known()
    assert outcome.bound <= optimum + TOLERANCE
    assert outcome.incumbent >= optimum - TOLERANCE
    assert outcome.incumbent == pytest.approx(pyo.value(model.cost))


LONG = 100.0  # a time limit, for solves that are stopped long before
