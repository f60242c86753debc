"""The composition: names, sizes, agreement with the network, and use in a model of one's own."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

import lipexact as lx
from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.interval import gate_state
from lipexact.graph import lowering as lower
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Switch
from lipexact.graph.lowering import relu
from lipexact.graph.pattern import FREE, OFF, ON
from lipexact.mip.model import compose
from lipexact.mip.solvers.base import (
    Termination,
    solve,
)
from lipexact.network import Network, network
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Box
from lipexact.sets.norms import norm
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
from tests.support.programs import (
    MODES,
    QUESTIONS,
    TIGHT,
    WAYS,
    composed,
    question,
    stated,
    variables_of,
)


def blocks_of(model: Any) -> dict[str, Any]:
    return {
        block.local_name: block
        for block in model.component_data_objects(pyo.Block, descend_into=False)
    }


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
    # The first neuron is 10 everywhere: no derivative passes through it, but the gates above depend
    # on it.
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
    # A branch that is 10 everywhere has a layer of gates without a block; what is added to it is
    # not constant.
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
        # 784 inputs, 784 directions; per neuron z, its gate, its relu, and those of the derivative.
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
    """Check that the optimum is between the constant and that with free gates at kinks."""
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
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (family, kind)
        for (i, family), (j, kind) in itertools.product(enumerate(FAMILIES), enumerate(CUTS))
        if (i + j) % 2 == 0
    ],
)
def test_the_optimum_on_cut_domains_is_between(family, kind):
    index = list(FAMILIES).index(family) + 2 * CUTS.index(kind)
    weights, low, high = case(family, 7)
    mode, alpha = WAYS[index % 4]
    assert_between(weights, cut_domain(kind, low, high, 1), QUESTIONS[index // 2 % 4], alpha, mode)


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
