"""The mixed-integer program: one block per primitive, their composition, and a search that believes no solver."""

from __future__ import annotations

import itertools
import math
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest
import scipy.sparse as sp
from pyomo.repn import generate_standard_repn

import lipexact as lx
from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.formulation import Formulation
from lipexact.bounds.interval import gate_state, length_bound
from lipexact.errors import SolverError
from lipexact.graph import lowering as lower
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Switch
from lipexact.graph.lowering import relu
from lipexact.graph.pattern import FREE, OFF, ON, Pattern
from lipexact.mip import cut_loop as search
from lipexact.mip.blocks import Port, emit_affine, emit_conditional, emit_input, emit_switch
from lipexact.mip.cut_loop import solve_by_cuts
from lipexact.mip.model import Composition, compose
from lipexact.mip.solvers.base import (
    SOLVERS,
    Solver,
    SolverOutcome,
    SolverSettings,
    Termination,
    solve,
)
from lipexact.network import Network, network
from lipexact.options import Options
from lipexact.problem.problem import Problem, lipschitz_problem
from lipexact.regions.feasibility import Undecided
from lipexact.result import closed
from lipexact.sets.domains import Ball, Box, ConvexSet, Domain, EuclideanBall, Polytope, Simplex
from lipexact.sets.functionals import functional_body
from lipexact.sets.norms import norm
from lipexact.state import SearchState, SearchTask, StoppingRule
from tests.support import oracle
from tests.support.networks import (
    CUTS,
    FAMILIES,
    Layers,
    case,
    cut_domain,
    forward,
    halfspaces_of,
    random_weights,
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
    """The problem of a functional, or with None of the whole output from one norm to another."""
    functionals, directions = (
        functional_body(functional, beta, net.output.size),
        norm(alpha).ball(net.input.size),
    )
    problem = lipschitz_problem(net, domain, functionals, directions, mode, keep_output=keep_output)  # type: ignore[arg-type]
    assert problem is not None
    return problem


def composed(
    net: Network, domain: Domain, functional: Any, *args: str, **options: Any
) -> Composition:
    """The program of the same question as `stated` takes."""
    problem = stated(net, domain, functional, *args, **options)
    return compose(problem, bound_nodes(problem.graph, problem.sets))


def question(which: str, outputs: int, seed: int) -> tuple[Any, str]:
    """A functional, or None, and the output norm."""
    rng = np.random.default_rng(seed)
    match which:
        case "functional":
            return rng.normal(size=outputs), "linf"
        case "two":
            return rng.normal(size=(2, outputs)), "linf"
        case _:
            return None, which


def blocks_of(model: Any) -> dict[str, Any]:
    return {
        block.local_name: block
        for block in model.component_data_objects(pyo.Block, descend_into=False)
    }


# --- One primitive ---------------------------------------------------------------------------------


ALL = np.ones(1, dtype=bool)


class Rig:
    """A conditional and a switch of one coordinate on x in [low, high], x in units of `scale` around `offset`."""

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
        """The least and largest y in real units at a fixed x, and a fixed gate or any in [0, 1]; None if none."""
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


# --- Names, sizes, what costs nothing ----------------------------------------------------------------


def small_net() -> Network:
    return to_network(random_weights(np.random.default_rng(1), (2, 3, 2, 1)))


@pytest.mark.parametrize("mode", MODES)
def test_one_primitive_is_one_block(mode):
    problem = stated(small_net(), Box(-np.ones(2), np.ones(2)), np.ones(1), mode=mode)
    comp = compose(problem, bound_nodes(problem.graph, problem.sets))
    blocks = blocks_of(comp.model)
    kinds = {"equation": Affine, "a": Conditional, "below_x": Switch}
    counted = dict.fromkeys((Affine, Conditional, Switch, Input), 0)
    for block in blocks.values():
        marks = [kind for name, kind in kinds.items() if block.component(name) is not None]
        assert len(marks) <= 1
        counted[marks[0] if marks else Input] += 1
    nodes = set(problem.graph.nodes) | set(problem.graph.inputs)
    for kind, count in counted.items():
        of_kind = sum(isinstance(node, kind) for node in nodes)
        # A node that nothing reads has no block; here, all of forward mode is read.
        assert count == of_kind if mode == "forward" else 0 < count <= of_kind
    # Nothing but blocks, the objective and the list of cuts.
    own = [
        c for c in comp.model.component_objects(descend_into=False) if not isinstance(c, pyo.Block)
    ]
    assert sorted(c.local_name for c in own) == ["excluded", "objective"]


@pytest.mark.parametrize("mode", MODES)
def test_names_are_readable_and_written(mode, tmp_path):
    comp = composed(small_net(), Box(-np.ones(2), np.ones(2)), [1.0], mode=mode)
    file = tmp_path / "x.lp"
    comp.model.write(str(file), io_options={"symbolic_solver_labels": True})
    text = file.read_text()
    for name in (
        "x_y(0)",
        "affine_0_y(0)",
        "relu_0_gate_a(",
        "relu_0_y(",
        "d_affine_2_y(0)" if mode == "forward" else "sum",
    ):
        assert name in text, name
    assert ("v_y(1)" in text) == (mode == "forward")
    # Each variable of the model under its own name.
    variables = {
        v.name.replace(".", "_").replace("[", "(").replace("]", ")")
        for v in variables_of(comp.model)
    }
    assert len(variables) == comp.sizes["variables"]
    assert all(re.search(rf"(?<!\w){re.escape(name)}", text) for name in variables)


def variables_of(model: Any) -> list[Any]:
    return list(model.component_data_objects(pyo.Var, active=True, descend_into=True))


def named(*names: str) -> Network:
    """x -> affine -> relu -> affine ..., the affine nodes with these names."""
    x = value = Input(2, "x")
    rng = np.random.default_rng(0)
    for k, name in enumerate(names):
        value = relu(
            Affine(((rng.normal(size=(2, 2)), value),), rng.normal(size=2), name),
            f"{name}" if k % 2 else "relu",
        )
    output = Affine(((np.ones((1, 2)), value),), [0.0], "out")
    return network(Graph((x,), (output,)), input_shape=(2,), output_shape=(1,), name="named")


@pytest.mark.parametrize(
    "names",
    [
        ("a", "a", "a_2", "a"),
        ("a_2", "a", "a", "a_2_2"),
        ("/layer/Gemm:0", "/layer.Gemm.0", "layer Gemm 0"),
        ("objective", "excluded", "parked", "t", "t_is_norm"),
        ("", "", "affine"),
        ("x", "v", "x_2"),
        ("0", "1e5", "e9", "inf"),
        ("name", "dim", "model", "index"),
        ("clone", "write", "config", "active"),
        ("é", "重み"),
    ],
    ids="-".join,
)
@pytest.mark.parametrize("mode", MODES)
def test_any_names_will_do(names, mode, tmp_path):
    box = Box(-np.ones(2), np.ones(2))
    comp = composed(named(*names), box, [1.0], mode=mode)
    plain = composed(named(*"bcdfg"[: len(names)]), box, [1.0], mode=mode)
    assert comp.sizes == plain.sizes
    assert len(blocks_of(comp.model)) == len(blocks_of(plain.model))
    comp.model.write(str(tmp_path / "x.lp"), io_options={"symbolic_solver_labels": True})
    comp.park_region(
        (np.full(2, ON, dtype=np.int8), *(np.full(2, FREE, dtype=np.int8) for _ in names[1:])), 1.0
    )
    plain.park_region(
        (np.full(2, ON, dtype=np.int8), *(np.full(2, FREE, dtype=np.int8) for _ in names[1:])), 1.0
    )
    assert solve(comp.model, "highs").bound == pytest.approx(
        solve(plain.model, "highs").bound, rel=1e-6
    )


@pytest.mark.parametrize("mode", MODES)
def test_stable_gates_cost_no_binary(mode):
    for seed in range(8):
        weights, low, high = case("dead" if seed % 2 else "general", seed)
        c = np.random.default_rng(seed).normal(size=len(weights[-1][1]))
        problem = stated(to_network(weights), Box(low, high), c, mode=mode)
        bounds = bound_nodes(problem.graph, problem.sets)
        comp = compose(problem, bounds)
        opened = {gate: np.isnan(gate_state(gate, bounds)) for gate in problem.graph.gates}
        assert comp.sizes["binaries"] <= sum(int(mask.sum()) for mask in opened.values())
        for layer, gate in zip(comp.gates, problem.gates, strict=True):
            for i, entry in enumerate(layer):
                if gate is not None and not opened[gate][i]:
                    assert entry in (None, 0.0, 1.0)


def test_a_network_with_stable_gates_only_is_a_linear_program():
    weights = [(np.eye(2), np.array([5.0, -5.0])), (np.array([[2.0, 3.0]]), np.zeros(1))]
    for mode, alpha in WAYS:
        comp = composed(to_network(weights), Box(-np.ones(2), np.ones(2)), [1.0], alpha, mode)
        assert comp.sizes["binaries"] == 0
        outcome = solve(comp.model, "highs")
        assert outcome.bound is not None
        assert comp.to_norm(outcome.bound) == pytest.approx(2.0, rel=1e-9)


def test_gates_of_a_pattern_that_bounds_decide_are_known():
    # The first neuron is 10 everywhere: no derivative passes through it, but the gates above depend on it.
    weights = [
        (np.array([[0.0], [1.0]]), np.array([10.0, 0.0])),
        (np.array([[1.0, 20.0], [0.0, -1.0]]), np.array([-5.0, 0.3])),
        (np.array([[1.0, -7.0]]), np.zeros(1)),
    ]
    for mode in MODES:
        comp = composed(to_network(weights), Box([-1.0], [1.0]), [1.0], mode=mode)
        solve(comp.model, "highs")
        assert comp.pattern()[0][0] == ON
        assert comp.pattern()[1][0] == ON


@pytest.mark.parametrize("mode", MODES)
def test_a_layer_that_nothing_reads_has_the_states_that_bounds_decide(mode):
    # A branch that is 10 everywhere has a layer of gates of its own, without a block; what is added to it is not.
    x = Input(1)
    ten = relu(Affine(((np.zeros((1, 1)), x),), np.array([10.0])), "ten")
    minus = relu(Affine(((np.zeros((1, 1)), x),), np.array([-10.0])), "minus")
    bent = relu(x, "bent")
    one = np.ones((1, 1))
    z = Affine(((one, ten), (one, minus), (20 * one, bent)), np.array([-5.0]))
    net = network(
        Graph((x,), (Affine(((one, relu(z, "top")),), np.zeros(1)),)),
        input_shape=(1,),
        output_shape=(1,),
        name="net",
    )
    comp = composed(net, Box([-1.0], [1.0]), [1.0], mode=mode)
    assert solve(comp.model, "highs").termination is Termination.OPTIMAL
    names = [gate.name for gate in net.gates]
    states = {name: int(layer[0]) for name, layer in zip(names, comp.pattern(), strict=True)}
    assert (states["ten_gate"], states["minus_gate"], states["bent_gate"], states["top_gate"]) == (
        ON,
        OFF,
        ON,
        ON,
    )


def test_sizes_count_what_the_model_holds():
    # x in 2 variables, z in 1, its gate, its relu; v in 2, dz, its switch, the objective.
    weights = [(np.ones((1, 2)), np.zeros(1)), (np.ones((1, 1)), np.zeros(1))]
    comp = composed(to_network(weights), Box(-np.ones(2), np.ones(2)), [1.0])
    counted = {v.name for v in variables_of(comp.model)}
    assert comp.sizes["variables"] == len(counted)
    assert comp.sizes["binaries"] == 1
    rows = list(comp.model.component_data_objects(pyo.Constraint, active=True))
    assert comp.sizes["constraints"] == len(rows)
    comp.add_nogood((np.ones(1, dtype=np.int8),))
    assert comp.sizes["constraints"] == len(rows) + 1


@pytest.mark.parametrize(
    ("mode", "keep", "most"),
    [
        # 784 inputs, 784 directions; per neuron z, its gate, its relu, and the same of the derivative.
        ("forward", False, {"variables": 1900, "binaries": 60, "constraints": 560}),
        ("forward", True, {"variables": 1950, "binaries": 60, "constraints": 580}),
        # A gate, an absolute value and a bound for each of the 784 entries of the gradient.
        ("reverse", False, {"variables": 3500, "binaries": 844, "constraints": 3750}),
    ],
)
def test_a_network_of_mnist_size_makes_a_program_of_its_size(mode, keep, most):
    net = to_network(random_weights(np.random.default_rng(0), (784, 20, 20, 20, 2)))
    comp = composed(
        net, Box(np.full(784, 0.4), np.full(784, 0.6)), [1.0, -1.0], mode=mode, keep_output=keep
    )
    assert all(comp.sizes[what] <= limit for what, limit in most.items()), comp.sizes


# --- The composition is the network ----------------------------------------------------------------


@pytest.mark.parametrize("which", QUESTIONS)
@pytest.mark.parametrize(("mode", "alpha"), WAYS)
def test_a_pinned_input_gives_the_output_and_the_norm(mode, alpha, which):
    for seed in range(5 if which == "functional" else 2):
        rng = np.random.default_rng(seed)
        net = to_network(random_weights(rng, (3, 5, 4, 2)))
        functional, beta = question(which, 2, seed)
        comp = composed(
            net, Box(-np.ones(3), np.ones(3)), functional, alpha, mode, beta, keep_output=True
        )
        pin = comp.model.pin = pyo.ConstraintList()
        point = rng.uniform(-1, 1, 3)
        for variable, value in zip(comp.input, point.tolist(), strict=True):
            pin.add(variable == value)
        outcome = solve(comp.model, "highs", TIGHT)
        assert outcome.bound is not None
        jacobian = net.jacobian(point)
        if functional is None:
            truth = float(oracle.operator_norm(tuple(map(tuple, jacobian.tolist())), alpha, beta))
        else:
            truth = norm(alpha).ball(3).support(np.atleast_2d(functional) @ jacobian).max()
        assert comp.to_norm(outcome.bound) == pytest.approx(truth, rel=1e-6)
        assert pyo.value(comp.objective) == pytest.approx(truth, rel=1e-6)
        assert [pyo.value(y) for y in comp.output] == pytest.approx(
            net.evaluate(point).tolist(), rel=1e-6, abs=1e-6
        )
        found = np.concatenate(comp.pattern())
        exact = np.concatenate(
            [[z > 0 for z in layer] for layer in oracle.trace(weights_of(net), point.tolist())[:-1]]
        )
        assert ((found == FREE) | (found == exact)).all()


def weights_of(net: Network) -> Layers:
    return [
        (np.asarray(node.terms[0][0]), node.bias)
        for node in net.graph.nodes
        if isinstance(node, Affine)
    ]


@pytest.mark.parametrize("mode", MODES)
def test_a_pinned_input_of_a_graph_with_branches(mode):
    rng = np.random.default_rng(2)
    x = Input(2)
    a = Affine(((rng.normal(size=(3, 2)), x),), rng.normal(size=3))
    b = lower.add((np.eye(3), lower.leaky_relu(a, 0.1)), (rng.normal(size=(3, 2)), x))
    c = lower.maximum(lower.absolute(b), a)
    output = Affine(
        ((rng.normal(size=(2, 3)), c), (rng.normal(size=(2, 2)), relu(x, "of_x"))), np.ones(2)
    )
    net = network(Graph((x,), (output,)), input_shape=(2,), output_shape=(2,), name="branched")
    for point in rng.uniform(-1, 1, (5, 2)):
        comp = composed(net, Box(-np.ones(2), np.ones(2)), [1.0, -2.0], mode=mode, keep_output=True)
        pin = comp.model.pin = pyo.ConstraintList()
        for variable, value in zip(comp.input, point.tolist(), strict=True):
            pin.add(variable == value)
        assert solve(comp.model, "highs", TIGHT).termination is Termination.OPTIMAL
        truth = np.abs(np.array([1.0, -2.0]) @ net.jacobian(point)).sum()
        assert pyo.value(comp.objective) == pytest.approx(truth, rel=1e-6)
        assert [pyo.value(y) for y in comp.output] == pytest.approx(
            net.evaluate(point).tolist(), rel=1e-6, abs=1e-6
        )


def assert_between(weights: Layers, domain: Domain, which: str, alpha: str, mode: str) -> None:
    """The program's optimum is at least the constant, and at most that with gates chosen freely at kinks."""
    c, beta = question(which, len(weights[-1][1]), 0)
    comp = composed(to_network(weights), domain, c, alpha, mode, beta)
    outcome = solve(comp.model, "highs")
    assert outcome.bound is not None
    found = comp.to_norm(outcome.bound)
    where = weights, domain.lower, domain.upper
    exact = oracle.constant(oracle.regions(*where, halfspaces_of(domain)), c, alpha, beta)
    naive = oracle.naive_constant(*where, c, alpha, beta, halfspaces_of(domain))
    assert found >= exact * (1 - 1e-6)
    assert found <= naive * (1 + 1e-6) + 1e-6 * comp.scale


@pytest.mark.unwatched
@pytest.mark.parametrize(("mode", "alpha"), WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_optimum_is_between_the_constant_and_that_with_free_gates(family, mode, alpha):
    weights, low, high = case(family, 7)
    assert_between(weights, Box(low, high), "functional", alpha, mode)


@pytest.mark.unwatched
@pytest.mark.parametrize("which", QUESTIONS[1:])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_optimum_for_several_functionals_is_between(family, which):
    weights, low, high = case(family, 7)
    mode, alpha = WAYS[(list(FAMILIES).index(family) + QUESTIONS.index(which)) % 4]
    assert_between(weights, Box(low, high), which, alpha, mode)


@pytest.mark.unwatched
@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_optimum_on_cut_domains_is_between(family, kind):
    index = list(FAMILIES).index(family) + 2 * CUTS.index(kind)
    weights, low, high = case(family, 7)
    mode, alpha = WAYS[index % 4]
    assert_between(weights, cut_domain(kind, low, high, 1), QUESTIONS[index // 2 % 4], alpha, mode)


def patterns_of(comp: Composition) -> list[Pattern]:
    """Every pattern that the model allows, best first, by excluding one after the other."""
    found: list[Pattern] = []
    values = []
    while (outcome := solve(comp.model, "highs")).termination is Termination.OPTIMAL:
        assert outcome.incumbent is not None
        found.append(comp.pattern())
        values.append(comp.to_norm(outcome.incumbent))
        comp.add_nogood(found[-1])
        assert len(found) < 200
    assert outcome.termination is Termination.INFEASIBLE
    assert all(a >= b - 1e-5 for a, b in itertools.pairwise(values))
    return found


def key(pattern: Iterable[np.ndarray]) -> tuple[int, ...]:
    return tuple(np.concatenate(list(pattern)).tolist())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sizes", [(1, 4, 1), (2, 5, 1), (1, 3, 3, 1), (2, 3, 2, 1)])
def test_the_model_allows_the_patterns_of_the_box_and_a_nogood_cuts_one(sizes, mode):
    weights = random_weights(np.random.default_rng(3), sizes)
    low, high = -np.ones(sizes[0]), np.ones(sizes[0])
    comp = composed(to_network(weights), Box(low, high), [1.0], mode=mode)
    found = patterns_of(comp)
    assert len({key(pattern) for pattern in found}) == len(found)
    allowed = {key(map(np.array, gates)) for gates in oracle.closed_patterns(weights, low, high)}
    mask = np.array(key(found[0])) != FREE
    projected = {tuple(np.array(gates)[mask].astype(int).tolist()) for gates in allowed}
    assert {tuple(np.array(key(pattern))[mask].tolist()) for pattern in found} == projected


def test_a_nogood_of_some_gates_cuts_all_that_share_them():
    # Three kinks on a line: 4 patterns. Excluding "the second is on" leaves those below it.
    weights = [(np.ones((3, 1)), np.array([0.5, 0.0, -0.5])), (np.ones((1, 3)), np.zeros(1))]
    comp = composed(to_network(weights), Box([-1.0], [1.0]), [1.0])
    comp.add_nogood((np.array([FREE, ON, FREE], dtype=np.int8),))
    assert {key(pattern) for pattern in patterns_of(comp)} == {(0, 0, 0), (1, 0, 0)}


def test_park_region_keeps_the_model_feasible():
    weights = random_weights(np.random.default_rng(5), (2, 4, 1))
    low, high = -np.ones(2), np.ones(2)
    for mode in MODES:
        comp = composed(to_network(weights), Box(low, high), [1.0], mode=mode)
        first: float | None = None
        seen: list[tuple[int, ...]] = []
        for _ in range(30):
            outcome = solve(comp.model, "highs")
            assert outcome.termination is Termination.OPTIMAL
            assert outcome.bound is not None
            value = comp.to_norm(outcome.bound)
            if comp.is_parked:
                break
            assert key(comp.pattern()) not in seen
            seen.append(key(comp.pattern()))
            first = value if first is None else first
            assert value <= first * (1 + 1e-6)
            comp.park_region(comp.pattern(), value)
        else:
            pytest.fail("no solution was parked")
        # What remains is worth half of the first one at most; nothing better was cut off.
        assert first is not None
        assert value == pytest.approx(first / 2, rel=1e-6)
        exact = oracle.naive_constant(weights, low, high, [1.0])
        assert first == pytest.approx(exact, rel=1e-6)


def test_repr_is_short():
    comp = composed(small_net(), Box(-np.ones(2), np.ones(2)), [1.0])
    counts = ", ".join(f"{count} {what}" for what, count in comp.sizes.items())
    assert repr(comp) == f"Composition({comp.model.name!r}: {counts}, norm <= {comp.top:.6g})"
    assert len(repr(comp)) < 100


def test_a_composition_leaves_its_problem_as_it_was():
    problem = stated(small_net(), Box(-np.ones(2), np.ones(2)), np.ones(1))
    bounds = bound_nodes(problem.graph, problem.sets)
    one, other = compose(problem, bounds), compose(problem, bounds)
    one.add_nogood(tuple(np.ones(len(layer), dtype=np.int8) for layer in one.gates))
    assert other.sizes["constraints"] == one.sizes["constraints"] - 1
    assert one.model is not other.model


# --- Embedding in a user's own model ----------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", ["general", "small_integers", "relu_of_relu", "border"])
def test_the_largest_output_over_a_box_in_a_model_of_ones_own(family, mode):
    weights, low, high = case(family, 4)
    comp = lx.build(to_network(weights), lx.Box(low, high), functional=0, mode=mode)
    comp.model.objective.deactivate()
    user = pyo.ConcreteModel()
    user.net = comp.model
    user.slack = pyo.Var(bounds=(0, 1))
    user.cost = pyo.Objective(expr=-comp.output[0] - 0.5 * user.slack)
    outcome = solve(user, "highs")
    largest = max(
        sum(j * x for j, x in zip(region.jacobian[0], vertex, strict=True)) + region.offset[0]
        for region in oracle.regions(weights, low, high)
        for vertex in region.vertices
    )
    assert outcome.bound is not None
    assert -outcome.bound - 0.5 == pytest.approx(float(largest), rel=1e-6, abs=1e-6)
    point = np.array([pyo.value(x) for x in comp.input])
    assert forward(weights, point[None])[0, 0] == pytest.approx(float(largest), rel=1e-5, abs=1e-5)
    assert pyo.value(comp.output[0]) == pytest.approx(float(largest), rel=1e-5, abs=1e-5)


def test_two_networks_in_one_model():
    # The largest difference of two networks at a common input: each in a block of its own.
    pair = [random_weights(np.random.default_rng(seed), (2, 4, 1)) for seed in (1, 2)]
    box = lx.Box(-np.ones(2), np.ones(2))
    one, other = (lx.build(to_network(weights), box) for weights in pair)
    user = pyo.ConcreteModel()
    user.one, user.other = one.model, other.model
    for comp in (one, other):
        comp.model.objective.deactivate()
    user.same = pyo.ConstraintList()
    for x, y in zip(one.input, other.input, strict=True):
        user.same.add(x == y)
    user.cost = pyo.Objective(expr=other.output[0] - one.output[0])
    outcome = solve(user, "highs")
    (first, bias), (last, offset) = (
        [np.vstack([u, v]) if u.ndim > 1 else np.append(u, v) for u, v in zip(*layers, strict=True)]
        for layers in zip(*pair, strict=True)
    )
    joined = [(first, bias), (np.hstack([last[:1], -last[1:]]), offset[:1] - offset[1:])]
    largest = max(
        sum(j * x for j, x in zip(region.jacobian[0], vertex, strict=True)) + region.offset[0]
        for region in oracle.regions(joined, box.lower, box.upper)
        for vertex in region.vertices
    )
    assert outcome.bound is not None
    assert -outcome.bound == pytest.approx(float(largest), rel=1e-6)


# --- The search ------------------------------------------------------------------------------------


Run = Callable[[Any, SolverSettings, Any], SolverOutcome]
HIGHS: Run = SOLVERS["highs"].run

# The identity as relu(x) - relu(-x): at x = 0 both gates may be on, for a slope of 2.
KINK: Layers = [(np.array([[1.0], [-1.0]]), np.zeros(2)), (np.array([[1.0, -1.0]]), np.zeros(1))]


@pytest.fixture
def fake(monkeypatch):
    """Register a solver under the name "fake"."""

    def enter(run: Run) -> list[int]:
        calls = [0]

        def counted(model: Any, options: SolverSettings, watch: Any) -> SolverOutcome:
            calls[0] += 1
            if calls[0] > 300:
                pytest.fail("the search does not end")
            return run(model, options, watch)

        monkeypatch.setitem(SOLVERS, "fake", Solver("fake", "none", lambda: True, counted))
        return calls

    return enter


def searched(
    weights: Layers,
    low: Any,
    high: Any,
    c: Any,
    **options: Any,
) -> tuple[SearchState, float]:
    """The search on a box from no more than a root bound, and the truth."""
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
    problem = stated(to_network(weights), domain, c, alpha, mode, beta)
    bounds = bound_nodes(problem.graph, problem.sets)
    formulation = Formulation(problem, bounds)
    start = SearchState(lower=lower, upper=length_bound(bounds[problem.objective]))
    task = SearchTask(
        formulations=[formulation],
        rule=StoppingRule(gap, target),
        options=Options(solver=solver),
        deadline=deadline,
    )
    found = solve_by_cuts(formulation, start, task)
    cells = oracle.regions(weights, domain.lower, domain.upper, halfspaces_of(domain))
    return found, oracle.constant(cells, c, alpha, beta)


def on_kink(**options: Any) -> SearchState:
    found, truth = searched(KINK, [-1.0], [1.0], [1.0], **options)
    assert_honest(found, truth)
    return found


def assert_honest(bracket: SearchState, truth: float) -> None:
    """The bounds hold, and those that meet are the truth."""
    assert bracket.lower <= truth * (1 + 1e-9)
    assert bracket.upper >= truth * (1 - 1e-9)
    if closed(bracket.lower, bracket.upper):
        assert bracket.lower == pytest.approx(truth, rel=1e-9)


def assert_refused(ask: Callable[[], SearchState]) -> None:
    """Either an error, or bounds that stay apart and do not pass for an optimum."""
    try:
        found = ask()
    except SolverError:
        return
    assert not closed(found.lower, found.upper)
    assert found.termination != "optimal"


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
    for seed in range(3):
        weights, low, high = case(family, seed)
        c = np.random.default_rng(seed).normal(size=len(weights[-1][1]))
        found, truth = searched(weights, low, high, c, mode=mode, alpha=NORMS[seed % 2])
        assert closed(found.lower, found.upper), seed
        assert found.lower == pytest.approx(truth, rel=1e-9)
        assert found.termination == "optimal"
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
    assert found.termination == "optimal"
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
    assert found.proof == "solver"
    assert found.stats["excluded"] >= 2


def test_a_region_above_a_constant_neuron_is_not_missed():
    # The first neuron is 10 everywhere. Slope 50 between -0.5 - 1e-7 and -0.5, where the third neuron is on; else 20.
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
    # 25 (relu(x) - relu(-x)) beside five neurons that have no part in it: not a cut for each of their patterns.
    rng = np.random.default_rng(0)
    first = np.vstack([[1.0, 0.0], [-1.0, 0.0], rng.normal(size=(5, 2))])
    weights = [(first, np.append([0.0, 0.0], 0.3 * rng.normal(size=5)))]
    weights.append((np.append([25.0, -25.0], rng.normal(size=5))[None], np.zeros(1)))
    found, truth = searched(weights, -np.ones(2), np.ones(2), [1.0])
    assert_honest(found, truth)
    assert closed(found.lower, found.upper)
    assert found.stats["excluded"] <= 4


def test_no_time_leaves_the_bracket_as_it_was(fake):
    calls = fake(HIGHS)
    found = on_kink(solver="fake", deadline=0.0)
    assert calls == [0]
    assert (found.lower, found.termination, found.proof) == (0.0, "time limit", "float")


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
    assert (found.lower, found.termination, found.proof) == (1.0, "failed", "float")
    assert found.upper == pytest.approx(2.0)
    assert "infeasible, which it is not" in found.diagnostics[-1].message
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
    assert found.termination == "failed"


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
    expected = "failed" if outcome.termination is Termination.OPTIMAL else outcome.termination.value
    assert found.termination == expected
    assert calls == [1]
    if outcome.message:
        assert outcome.message in found.diagnostics[-1].message


def test_a_solver_that_crashes_is_a_solver_error(fake):
    def run(model, options, watch):
        raise RuntimeError("out of luck")

    fake(run)
    with pytest.raises(SolverError, match="fake failed: RuntimeError: out of luck"):
        on_kink(solver="fake")
    with pytest.raises(SolverError, match="out of luck"):
        narrow_all("fake")


def narrow_all(solver: str) -> None:
    weights, low, high = case("sign_pairs", 1)
    searched(weights, low, high, np.ones(len(weights[-1][1])), solver=solver)


@pytest.mark.parametrize(
    "ending", [Termination.TIME_LIMIT, Termination.INTERRUPTED, Termination.LIMIT]
)
def test_what_an_interrupted_solver_found_counts(fake, ending):
    # Both gates off are no region, x > 0 is one: its value 1 is certified, and the bound is the solver's.
    def run(model, options, watch):
        set_binaries(model, lambda k: int(k == 0))
        return SolverOutcome(ending, 0.9 * root(model), 0.5 * root(model), 7, 0.0, "stopped")

    calls = fake(run)
    found = on_kink(solver="fake")
    assert (found.lower, found.termination) == (1.0, ending.value)
    assert found.upper == pytest.approx(1.8)
    assert found.proof == "solver"
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
    for seed in range(3):
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
    assert result.termination == "failed"


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
