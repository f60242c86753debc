"""Each primitive of the graph as a block: its values, its relaxation, and its scales."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest
import scipy.sparse as sp
from pyomo.repn import generate_standard_repn

from lipexact.bounds.crown import bound_nodes
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Switch
from lipexact.graph.pattern import OFF, ON
from lipexact.mip.blocks import Port, emit_affine, emit_conditional, emit_input, emit_switch
from lipexact.mip.solvers.base import (
    Termination,
    solve,
)
from lipexact.sets.convex import ConvexSet, EuclideanBall, Simplex
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Ball, Box, Polytope
from tests.support.programs import (
    TIGHT,
)

ALL = np.ones(1, dtype=bool)


class Rig:
    """A conditional and a switch of one coordinate, on x in [low, high].

    The variable is x in units of `scale` around `offset`.
    """

    def __init__(
        self,
        low: float,
        high: float,
        *,
        own: bool,
        scale: float = 1.0,
        offset: float = 0.0,
        implied: bool = False,
    ) -> None:
        self.model, self.scale, self.offset = pyo.ConcreteModel(), scale, offset
        self.model.x = pyo.Var(bounds=((low - offset) / scale, (high - offset) / scale))
        x = Input(1)
        gate = Conditional(x if own else Input(1, "other"))
        bounds = np.array([low]), np.array([high])
        port = Port([self.model.x], np.full(1, scale), np.full(1, offset))
        self.model.gate, a = emit_conditional(
            gate, port, bounds, np.full(1, np.nan), ALL, implied or not own
        )
        self.model.switch, self.y = emit_switch(Switch(x, gate), port, a, bounds, ALL)
        self.a = a.entries[0]
        self.model.cost = pyo.Objective(expr=0.0 * self.model.x)

    def range(self, x: float, a: int | None) -> tuple[float, float] | None:
        """Return the least and largest y at a fixed x; None if x and the gate admit no y.

        The gate is fixed, or for None any number in [0, 1].
        """
        self.model.x.fix((x - self.offset) / self.scale)
        if a is None:
            self.a.unfix()
            self.a.domain = pyo.UnitInterval
        else:
            self.a.fix(a)
        ends = []
        for sign in (1, -1):
            self.model.del_component("cost")
            self.model.cost = pyo.Objective(expr=sign * self.y.entries[0])
            outcome = solve(self.model, "highs", TIGHT)
            if outcome.termination is Termination.INFEASIBLE:
                return None
            assert outcome.termination is Termination.OPTIMAL
            assert outcome.bound is not None
            ends.append(float(self.y.offset[0] + self.y.scale[0] * sign * outcome.bound))
        return ends[0], ends[1]


RANGES = [(-1.0, 2.0), (-3.0, 0.5), (-1e3, 1e-3)]


@pytest.mark.parametrize(("low", "high"), RANGES)
@pytest.mark.parametrize("implied", [False, True])
def test_the_switch_of_an_own_gate_is_a_relu(low, high, implied):
    rig = Rig(low, high, own=True, scale=2.0 ** round(math.log2(high - low)), implied=implied)
    room = 1e-7 * (high - low)
    for x in (low, low / 2, 0.0, high / 2, high):
        for a in (OFF, ON):
            allowed = x <= 0 if a == OFF else x >= 0
            found = rig.range(x, a)
            assert (found is not None) == allowed, (x, a)
            if found is not None:
                assert found == pytest.approx((a * x, a * x), abs=room)


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_the_relaxation_of_a_relu_is_its_convex_hull(low, high):
    rig = Rig(low, high, own=True)
    for x in np.linspace(low, high, 5).tolist():
        chord = high * (x - low) / (high - low)
        assert rig.range(x, None) == pytest.approx((max(x, 0.0), chord), abs=1e-7 * (high - low))


@pytest.mark.parametrize(("low", "high"), [*RANGES, (1.0, 3.0), (-3.0, -1.0)])
def test_the_switch_of_another_gate_is_x_or_zero(low, high):
    rig = Rig(low, high, own=False, scale=0.25, offset=max(low, 0.0) + min(high, 0.0))
    room = 1e-7 * (high - low)
    for x in (low, (low + high) / 2, high):
        for a in (OFF, ON):
            assert rig.range(x, a) == pytest.approx((a * x, a * x), abs=room)
        # The hull of {(0, x)} and {(x, x)}: from the chord of min(x, 0) to that of max(x, 0).
        least, most = min(low, 0.0), max(high, 0.0)
        above = most * (x - low) / (high - low) if low < 0 else x
        below = least * (high - x) / (high - low) if high > 0 else x
        assert rig.range(x, None) == pytest.approx((min(below, above), max(below, above)), abs=room)


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_a_conditional_alone_keeps_its_gate(low, high):
    model = pyo.ConcreteModel()
    model.x = pyo.Var(bounds=(low, high))
    x, bounds = Input(1), (np.array([low]), np.array([high]))
    node = Conditional(x)
    model.gate, port = emit_conditional(
        node, Port([model.x], np.ones(1), np.zeros(1)), bounds, np.full(1, np.nan), ALL, False
    )
    a = port.entries[0]
    assert a.is_binary()
    for value, state in itertools.product((low, low / 3, 0.0, high / 3, high), (0, 1)):
        model.x.fix(value)
        a.fix(state)
        assert feasible(model) == (value >= 0 if state else value <= 0)


def feasible(model: Any) -> bool:
    """Whether every row holds for the fixed variables."""
    for row in model.component_data_objects(pyo.Constraint, active=True):
        body = pyo.value(row.body)
        if row.lower is not None and body < pyo.value(row.lower) - 1e-12:
            return False
        if row.upper is not None and body > pyo.value(row.upper) + 1e-12:
            return False
    return True


def test_decided_gates_and_unread_entries_cost_nothing():
    model = pyo.ConcreteModel()
    model.x = pyo.Var(range(4), bounds=(-2, 2))
    x = Input(4)
    gate = Conditional(x)
    bounds = np.array([-2.0, 1.0, -2.0, -2.0]), np.array([2.0, 2.0, -1.0, 2.0])
    state, needed = np.array([np.nan, 1.0, 0.0, np.nan]), np.array([True, True, True, False])
    port = Port([model.x[i] for i in range(4)], np.ones(4), np.zeros(4))
    model.gate, gates = emit_conditional(gate, port, bounds, state, needed, False)
    model.switch, y = emit_switch(Switch(x, gate), port, gates, bounds, needed)
    assert [gates.entries[1], gates.entries[2]] == [1.0, 0.0]
    assert y.entries[1] is model.x[1]
    assert y.entries[2:] == [0.0, 0.0]
    assert len(model.gate.a) == len(model.switch.y) == 1
    rows = list(model.component_data_objects(pyo.Constraint, descend_into=True))
    assert all(row.index() == 0 for row in rows)


def test_an_affine_block_is_its_equation():
    rng = np.random.default_rng(0)
    for sparse, scale in itertools.product((False, True), (1.0, 2.0**20, 2.0**-20)):
        weight, bias = (
            rng.normal(size=(3, 4)) * (rng.random((3, 4)) < 0.7) * scale,
            rng.normal(size=3),
        )
        weight[0] = [0.0, 1.0, -2.0, 0.5]
        box = Box(-np.ones(4), np.ones(4))
        x = Input(4)
        node = Affine(((sp.csr_array(weight) if sparse else weight, x),), bias)
        model = pyo.ConcreteModel()
        model.inputs, port = emit_input(x, box)
        needed = np.array([True, False, True])
        bounds = bound_nodes(Graph((x,), (node,)), {x: box})
        model.affine, y = emit_affine(node, [port], bounds[node], needed)
        assert len(model.affine.equation) == len(model.affine.y) == 2
        assert y.entries[1] == 0.0
        point = rng.uniform(-1, 1, 4)
        for i, entry in enumerate(port.entries):
            entry.fix((point[i] - port.offset[i]) / port.scale[i])
        for i in (0, 2):
            y.entries[i].set_value(0.0)
            row = model.affine.equation[i]
            repn = generate_standard_repn(row.body)
            assert [v is y.entries[i] for v in repn.linear_vars] == [True]
            solution = (pyo.value(row.upper) - repn.constant) / repn.linear_coefs[0]
            assert pyo.value(row.upper) == pyo.value(row.lower)
            truth = weight[i] @ point + bias[i]
            assert y.offset[i] + y.scale[i] * solution == pytest.approx(truth, rel=1e-9)
            low, high = (
                y.offset[i] + y.scale[i] * pyo.value(limit) for limit in y.entries[i].bounds
            )
            assert low <= truth + 1e-9 * abs(truth)
            assert high >= truth - 1e-9 * abs(truth)


def test_coefficients_too_small_for_a_solver_cut_nothing_off():
    # Terms of 1e-9 and less next to 1: left out or not, every true point stays possible.
    rng = np.random.default_rng(0)
    box, x = Box(-np.ones(4), np.ones(4)), Input(4)
    for size in (1e-7, 1e-9, 1e-11):
        node = Affine(
            ((np.array([[1.0, -size, size, -0.7 * size], [-1.0, size, -0.3 * size, 0.5]]), x),),
            np.ones(2),
        )
        bounds = bound_nodes(Graph((x,), (node,)), {x: box})
        model = pyo.ConcreteModel()
        model.inputs, port = emit_input(x, box)
        model.affine, y = emit_affine(node, [port], bounds[node], np.ones(2, dtype=bool))
        for point in rng.uniform(-1, 1, (20, 4)):
            values = np.asarray(node.terms[0][0] @ point + node.bias)
            for which, coordinates in ((port, point), (y, values)):
                for i, entry in enumerate(which.entries):
                    entry.set_value(
                        (coordinates[i] - which.offset[i]) / which.scale[i], skip_validation=True
                    )
            assert feasible(model)
        for row in model.affine.equation.values():
            repn = generate_standard_repn(row.body)
            assert min(map(abs, repn.linear_coefs)) >= 1e-9


UNIT_BALL = Ball([0.0, 0.0], 1.0, "l1")


SETS: list[tuple[ConvexSet, Callable[[float, float], bool]]] = [
    (Box([-1.0, 0.5], [3.0, 0.75]), lambda x, y: -1 <= x <= 3 and 0.5 <= y <= 0.75),
    (Simplex(2), lambda x, y: x >= 0 and y >= 0 and x + y <= 1),
    (EuclideanBall(2), lambda x, y: x * x + y * y <= 1),
    (
        Polytope([[1, 1], [2, -1]], [1, 1], -1, 3),
        lambda x, y: min(x, y) >= -1 and x + y <= 1 and 2 * x - y <= 1,
    ),
]


LIFTED: list[tuple[Domain, Callable[[float, float], bool]]] = [
    (UNIT_BALL, lambda x, y: abs(x) + abs(y) <= 1),
    (
        Ball([0.25, 0.5], 0.75, "l1", clip=(0, 1)),
        lambda x, y: min(x, y) >= 0 and abs(x - 0.25) + abs(y - 0.5) <= 0.75,
    ),
    (
        UNIT_BALL & Polytope([[1, 1], [2, -1]], [1, 1], -1, 3),
        lambda x, y: abs(x) + abs(y) <= 1 and x + y <= 1 and 2 * x - y <= 1,
    ),
    (
        UNIT_BALL & Ball([0.5, 0.0], 0.75, "l1"),
        lambda x, y: abs(x) + abs(y) <= 1 and abs(x - 0.5) + abs(y) <= 0.75,
    ),
]


def set_point(port: Port, point: Iterable[float]) -> bool:
    """Set the entries to a point; whether it is within their bounds."""
    bounded = True
    for entry, scale, offset, value in zip(
        port.entries, port.scale, port.offset, point, strict=True
    ):
        entry.set_value((value - offset) / scale, skip_validation=True)
        bounded &= entry.lb - 1e-12 <= entry.value <= entry.ub + 1e-12
    return bounded


@pytest.mark.parametrize(("which", "holds"), SETS)
def test_an_input_block_is_its_set(which, holds):
    model = pyo.ConcreteModel()
    model.inputs, port = emit_input(Input(2), which)
    for point in itertools.product((-1.0, -0.5, 0.0, 0.3, 0.5, 0.7, 1.0, 3.0), repeat=2):
        assert (set_point(port, point) and feasible(model)) == holds(*point)


@pytest.mark.parametrize(("which", "holds"), LIFTED)
def test_the_shadow_of_an_input_block_with_balls_is_its_set(which, holds):
    model = pyo.ConcreteModel()
    model.inputs, port = emit_input(Input(2), which)
    assert len(port.entries) == 2
    model.cost = pyo.Objective(expr=0.0 * port.entries[0])
    seen = set()
    for point in itertools.product((-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0), repeat=2):
        bounded = set_point(port, point)
        found = False
        if bounded:
            for entry in port.entries:
                entry.fix()
            found = solve(model, "highs").termination is Termination.OPTIMAL
        assert found == holds(*point), point
        seen.add(found)
    assert seen == {False, True}


def test_repr_of_a_port_is_short():
    _block, port = emit_input(Input(784), Box(np.zeros(784), np.ones(784)))
    numbers = "scale=array(784,) in [0.01562, 0.01562], offset=array(784,) in [0, 0]"
    assert repr(port) == f"Port(784 variables of 784 entries, {numbers})"


@pytest.mark.parametrize("size", [1e-12, 1e-8, 1e-3, 1.0, 3.0, 1e8])
def test_variables_are_of_ordinary_size(size):
    low, high = [-size, 0.0, size, -3 * size], [size / 2, size / 3, 1.001 * size, -2 * size]
    _block, port = emit_input(Input(4), Box(low, high))
    assert all(math.log2(scale).is_integer() for scale in port.scale)
    for i, entry in enumerate(port.entries):
        assert 1 < max(abs(entry.lb), abs(entry.ub)) <= 64
        ends = [port.offset[i] + port.scale[i] * end for end in (entry.lb, entry.ub)]
        assert ends == pytest.approx([low[i], high[i]], rel=1e-14)
    # Values far from 0 that vary little are counted from their middle.
    assert max(abs(port.entries[2].lb), abs(port.entries[2].ub)) * port.scale[2] < 1e-3 * size
