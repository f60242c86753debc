"""The graph: validation, evaluation, derivatives, lowerings and folding; and `Network`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import NamedTuple

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lipexact.errors import LipExactError, ModelError
from lipexact.graph import lowering as lower
from lipexact.graph.derivative import forward, reverse
from lipexact.graph.evaluate import evaluate
from lipexact.graph.folding import fold
from lipexact.graph.ir import (
    Affine,
    Conditional,
    Graph,
    Input,
    Switch,
    Value,
    operands,
    topological,
)
from lipexact.graph.lowering import relu, scaled
from lipexact.network import Network, network
from tests.support.networks import FAMILIES, case, to_network
from tests.support.networks import forward as plain_forward


def relaxed(max_examples: int = 100) -> settings:
    """No limits on time: a busy machine is no failure."""
    return settings(
        deadline=None, max_examples=max_examples, suppress_health_check=[HealthCheck.too_slow]
    )


# --- Random programs -----------------------------------------------------------------------------

Step = Callable[[list[np.ndarray]], np.ndarray]


class Program(NamedTuple):
    """A random graph, and the same function in steps of plain numpy that read earlier results."""

    x: Input
    graph: Graph
    steps: tuple[Step, ...]
    # Weights, and so all values at integer points, are small multiples of 1/2^k: no rounding.
    exact: bool

    @property
    def output(self) -> Value:
        return self.graph.outputs[0]

    def run(self, point: np.ndarray) -> np.ndarray:
        values = [point]
        for step in self.steps:
            values.append(step(values))
        return values[-1]

    def points(self, count: int, seed: int) -> np.ndarray:
        """Points for tests, most of them on kinks if the program is exact."""
        rng = np.random.default_rng(seed)
        if self.exact:
            return rng.integers(-2, 3, (count, self.x.size)).astype(np.float64)
        return rng.normal(size=(count, self.x.size))


@st.composite
def programs(draw: st.DrawFn, exact: bool | None = None, max_steps: int = 6) -> Program:
    """Graphs of affine nodes (dense, sparse, of several terms), residual sums and all lowerings."""
    if exact is None:
        exact = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def numbers(*shape: int) -> np.ndarray:
        return rng.integers(-2, 3, shape) / 2.0 if exact else rng.normal(size=shape)

    x = Input(draw(st.integers(1, 4)))
    nodes: list[Value] = [x]
    steps: list[Step] = []

    def pick() -> int:
        return draw(st.integers(0, len(nodes) - 1))

    for _ in range(draw(st.integers(0, max_steps))):
        kind = draw(
            st.sampled_from(
                ("affine", "constant", "residual", "unary", "leaky", "binary", "reduce", "select")
            )
        )
        i = pick()
        a = nodes[i]
        node: Value
        if kind in ("affine", "constant"):
            reads = (
                [i, *(pick() for _ in range(draw(st.integers(0, 2))))] if kind == "affine" else []
            )
            rows = draw(st.integers(1, 4))
            weights = [numbers(rows, nodes[j].size) for j in reads]
            bias = numbers(rows)
            sparse = [draw(st.booleans()) for _ in reads]
            terms = [
                (sp.csr_array(w) if s else w, nodes[j])
                for w, s, j in zip(weights, sparse, reads, strict=True)
            ]
            node = Affine(tuple(terms), bias)
            steps.append(
                lambda v, reads=reads, weights=weights, bias=bias: sum(
                    (w @ v[j] for w, j in zip(weights, reads, strict=True)), bias
                )
            )
        elif kind == "residual":
            j = draw(st.sampled_from([j for j, other in enumerate(nodes) if other.size == a.size]))
            factors = numbers(a.size)
            node = lower.add(scaled(1.0, a), scaled(factors, nodes[j]))
            steps.append(lambda v, i=i, j=j, factors=factors: v[i] + factors * v[j])
        elif kind == "unary":
            function, plain = draw(
                st.sampled_from(((relu, lambda z: np.maximum(z, 0)), (lower.absolute, np.abs)))
            )
            node = function(a)
            steps.append(lambda v, i=i, plain=plain: plain(v[i]))
        elif kind == "leaky":
            slope = draw(st.sampled_from((0.0, 0.25, -0.5, 1.0, 2.0, None)))
            slopes = numbers(a.size) if slope is None else slope
            node = lower.leaky_relu(a, slopes)
            steps.append(lambda v, i=i, slopes=slopes: np.where(v[i] > 0, v[i], slopes * v[i]))
        elif kind == "binary":
            j = draw(st.sampled_from([j for j, other in enumerate(nodes) if other.size == a.size]))
            function, plain = draw(
                st.sampled_from(((lower.maximum, np.maximum), (lower.minimum, np.minimum)))
            )
            node = function(a, nodes[j])
            steps.append(lambda v, i=i, j=j, plain=plain: plain(v[i], v[j]))
        elif kind == "reduce":
            function, plain = draw(
                st.sampled_from(((lower.reduce_max, np.max), (lower.reduce_sum, np.sum)))
            )
            node = function(a)
            steps.append(lambda v, i=i, plain=plain: np.array([plain(v[i])]))
        else:
            indices = draw(st.lists(st.integers(0, a.size - 1), min_size=1, max_size=4))
            node = lower.select(indices, a)
            steps.append(lambda v, i=i, indices=indices: v[i][indices])
        nodes.append(node)
    return Program(x, Graph((x,), (nodes[-1],)), tuple(steps), exact)


def jacobians(graph: Graph, x: Input, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Jacobians at the points, by columns in forward mode and by rows in reverse mode."""
    output = graph.outputs[0]
    v, c = Input(x.size, "v"), Input(output.size, "c")
    tangent, cotangent = forward(graph, output, x, v), reverse(graph, output, x, c)
    by_column = np.empty((len(points), output.size, x.size))
    by_row = np.empty_like(by_column)
    for j, unit in enumerate(np.eye(x.size)):
        by_column[:, :, j] = evaluate(Graph((x, v), (tangent,)), {x: points, v: unit[None]})[
            tangent
        ]
    for i, unit in enumerate(np.eye(output.size)):
        by_row[:, i, :] = evaluate(Graph((x, c), (cotangent,)), {x: points, c: unit[None]})[
            cotangent
        ]
    return by_column, by_row


def gate_values(graph: Graph, x: Input, points: np.ndarray) -> list[np.ndarray]:
    values = evaluate(graph, {x: points})
    return [np.broadcast_to(values[gate], (len(points), gate.size)) for gate in graph.gates]


def scale(graph: Graph, x: Input, points: np.ndarray) -> float:
    """The largest size of an intermediate value, at least 1: what rounding is relative to."""
    return max(
        1.0, *(float(np.abs(value).max()) for value in evaluate(graph, {x: points}).values())
    )


# --- Construction --------------------------------------------------------------------------------


def test_an_input_needs_an_entry():
    with pytest.raises(ModelError, match="input 'pixels' has size 0"):
        Input(0, "pixels")


@pytest.mark.parametrize(
    ("terms", "bias", "message"),
    [
        (
            lambda x: ((np.ones((2, 4)), x),),
            np.zeros(2),
            r"affine 'A': a weight of shape \(2, 4\) does not map 3",
        ),
        (lambda x: ((np.ones((1, 3)), x),), np.zeros(2), "does not map 3 entries to 2"),
        (lambda x: ((sp.csr_array((3, 3)), x),), np.zeros(2), "does not map 3 entries to 2"),
        (
            lambda x: ((np.ones((2, 3)), x), (np.ones((2, 2)), x)),
            np.zeros(2),
            "does not map 3 entries to 2",
        ),
        (lambda x: ((np.ones(3), x),), np.zeros(2), r"must be a matrix, not of shape \(3,\)"),
        (
            lambda x: ((np.ones((2, 3)), x),),
            np.zeros((2, 1)),
            "affine 'A': the bias must be a vector",
        ),
        (lambda x: ((np.ones((2, 3)), x),), np.array(0.0), "the bias must be a vector"),
        (
            lambda x: ((np.full((2, 3), np.nan), x),),
            np.zeros(2),
            "affine 'A' has weights, or products of weights, that are NaN or infinite",
        ),
        (lambda x: ((np.ones((2, 3)), x),), np.array([0.0, np.inf]), "NaN or infinite"),
        (lambda x: ((sp.csr_array([[np.nan, 0, 0]]), x),), np.zeros(1), "NaN or infinite"),
    ],
)
def test_an_affine_node_refuses_what_does_not_fit(terms, bias, message):
    with pytest.raises(ModelError, match=message) as caught:
        Affine(terms(Input(3)), bias, "A")
    assert isinstance(caught.value, LipExactError)
    assert isinstance(caught.value, ValueError)


def test_a_switch_needs_as_many_gates_as_entries():
    with pytest.raises(ModelError, match="switch 'S': 2 gates cannot switch 3 entries"):
        Switch(Input(3), Conditional(Input(2)), "S")


def test_a_graph_lists_the_inputs_that_it_reads():
    x, y = Input(2, "x"), Input(2, "y")
    total = lower.add(scaled(1.0, x), scaled(1.0, relu(y)))
    with pytest.raises(ModelError, match="reads input 'y'"):
        Graph((x,), (total,))
    assert Graph((x, y), (x,)).nodes == (x,)  # an input may go unread


def test_weights_of_any_number_type_become_float64():
    x = Input(2)
    for weight in (
        [[1, 2]],
        np.array([[1, 2]], dtype=np.int8),
        sp.coo_array(np.array([[1, 2]], dtype=np.float32)),
    ):
        ((stored, _),) = Affine(((weight, x),), [0]).terms
        assert stored.dtype == np.float64
        assert not sp.issparse(stored) or stored.format == "csr"


def test_a_sparse_weight_that_nobody_can_write_to_may_still_repeat_entries():
    weight = sp.csr_array((np.array([1.0, 2.0]), np.array([1, 1]), np.array([0, 2])), shape=(1, 2))
    for part in (weight.data, weight.indices, weight.indptr):
        part.setflags(write=False)
    ((stored, _),) = Affine(((weight, Input(2)),), np.zeros(1)).terms
    assert stored.has_canonical_format
    assert stored.toarray().tolist() == [[0.0, 3.0]]


def test_nodes_are_frozen_and_compared_by_identity():
    x = Input(2)
    one, other = relu(x), relu(x)
    assert one != other
    assert len({one, other, x}) == 3
    with pytest.raises(FrozenInstanceError):
        x.size = 3
    source = np.zeros(2)
    affine = Affine(((np.eye(2), x),), source)
    source[0] = 1.0
    assert affine.bias[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        affine.bias[0] = 1.0


@relaxed()
@given(programs())
def test_nodes_come_once_each_and_after_their_operands(program):
    nodes = program.graph.nodes
    position = {node: index for index, node in enumerate(nodes)}
    assert len(position) == len(nodes)
    for node in nodes:
        assert all(position[operand] < position[node] for operand in operands(node))
    assert program.graph.gates == tuple(node for node in nodes if isinstance(node, Conditional))
    assert set(topological([*reversed(nodes), *nodes])) == set(nodes)


def test_a_deep_graph_does_not_exhaust_the_stack():
    x = value = Input(1)
    for _ in range(2000):
        value = relu(lower.add(scaled(1.0, value)))
    graph = Graph((x,), (value,))
    assert len(graph.nodes) == 6001
    assert evaluate(graph, {x: np.ones((1, 1))})[value] == 1.0
    np.testing.assert_array_equal(
        jacobians(fold(graph), x, np.array([[1.0], [-1.0]])), [[[[1]], [[0]]]] * 2
    )


def test_wide_sharing_is_visited_once():
    x = value = Input(1)
    for _ in range(60):  # 2^60 paths
        value = lower.add(scaled(0.5, value), scaled(0.5, value))
    assert len(Graph((x,), (value,)).nodes) == 61


# --- Evaluation ----------------------------------------------------------------------------------


@relaxed(max_examples=200)
@given(programs(), st.integers(0, 99))
def test_evaluation_matches_a_loop_in_plain_numpy(program, seed):
    points = program.points(7, seed)
    values = np.broadcast_to(
        evaluate(program.graph, {program.x: points})[program.output], (7, program.output.size)
    )
    expected = np.array([program.run(point) for point in points])
    if program.exact:
        np.testing.assert_array_equal(values, expected)
    else:
        tolerance = 1e-12 * scale(program.graph, program.x, points)
        np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance)


def test_gates_are_one_only_where_positive():
    x = Input(4)
    gate = Conditional(x)
    values = evaluate(Graph((x,), (Switch(x, gate),)), {x: np.array([[-1.0, 0.0, -0.0, 1e-300]])})
    np.testing.assert_array_equal(values[gate], [[0, 0, 0, 1]])


def test_a_switch_may_have_the_gate_of_another_value():
    x, y = Input(3, "x"), Input(3, "y")
    node = Switch(x, Conditional(y))
    values = evaluate(
        Graph((x, y), (node,)), {x: np.array([[-5.0, 6.0, 7.0]]), y: np.array([[1.0, -1.0, 2.0]])}
    )
    np.testing.assert_array_equal(values[node], [[-5, 0, 7]])


@pytest.mark.parametrize("weight", [np.array([[1.0, 2.0]]), sp.csr_array([[1.0, 2.0]])])
def test_a_batch_of_one_broadcasts_against_a_larger_one(weight):
    x, y = Input(2, "x"), Input(1, "y")
    node = lower.add((weight, x), scaled(1.0, y), bias=np.array([10.0]))
    graph = Graph((x, y), (node,))
    values = evaluate(graph, {x: np.array([[1.0, 1.0]]), y: np.array([[100.0], [200.0]])})
    np.testing.assert_array_equal(values[node], [[113], [213]])
    assert evaluate(graph, {x: np.empty((0, 2)), y: np.empty((0, 1))})[node].shape == (0, 1)


# --- Derivatives ---------------------------------------------------------------------------------


@relaxed(max_examples=200)
@given(programs(), st.integers(0, 99))
def test_both_modes_give_the_same_jacobian_on_kinks_too(program, seed):
    points = program.points(5, seed)
    by_column, by_row = jacobians(program.graph, program.x, points)
    if program.exact:
        np.testing.assert_array_equal(by_column, by_row)
    else:
        np.testing.assert_allclose(
            by_column, by_row, rtol=0, atol=1e-12 * max(1.0, np.abs(by_row).max())
        )


@relaxed(max_examples=200)
@given(programs(), st.integers(0, 99))
def test_derivatives_match_finite_differences_off_kinks(program, seed):
    """Where a step changes no gate, the function is affine on it, and the quotient is exact."""
    step = 2.0**-8
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(6, program.x.size))
    by_column, by_row = jacobians(program.graph, program.x, points)
    values = Network(program.graph, (program.x.size,), (program.output.size,)).evaluate
    checked = 0
    for j, unit in enumerate(np.eye(program.x.size)):
        ahead, behind = points + step * unit, points - step * unit
        same = np.ones(len(points), dtype=bool)
        for left, right in zip(
            *(gate_values(program.graph, program.x, ends) for ends in (ahead, behind)), strict=True
        ):
            same &= (left == right).all(axis=1)
        quotient = (values(ahead) - values(behind)) / (2 * step)
        tolerance = 1e-11 * scale(program.graph, program.x, points) / step
        np.testing.assert_allclose(by_column[same, :, j], quotient[same], rtol=0, atol=tolerance)
        np.testing.assert_allclose(by_row[same, :, j], quotient[same], rtol=0, atol=tolerance)
        checked += int(same.sum())
    assume(checked > 0)


@relaxed()
@given(programs(), st.integers(0, 99))
def test_derivatives_share_the_gates_and_are_linear_in_their_argument(program, seed):
    x, output = program.x, program.output
    v, c = Input(x.size, "v"), Input(output.size, "c")
    tangent, cotangent = forward(program.graph, output, x, v), reverse(program.graph, output, x, c)
    derivative = Graph((x, v, c), (tangent, cotangent))
    assert tangent.size == output.size
    assert cotangent.size == x.size
    assert set(derivative.gates) <= set(program.graph.gates)
    rng = np.random.default_rng(seed)
    points, directions, functionals = (
        rng.normal(size=(1, x.size)),
        rng.normal(size=(3, x.size)),
        rng.normal(size=(3, output.size)),
    )
    values = evaluate(derivative, {x: points, v: directions, c: functionals})
    zero = evaluate(derivative, {x: points, v: 0 * directions[:1], c: 0 * functionals[:1]})
    assert not zero[tangent].any()
    assert not zero[cotangent].any()
    # <c, J v> = <J^T c, v>
    left, right = (
        (functionals * values[tangent]).sum(axis=1),
        (values[cotangent] * directions).sum(axis=1),
    )
    np.testing.assert_allclose(
        left,
        right,
        rtol=0,
        atol=1e-11 * max(1.0, *(np.abs(value).max() for value in values.values())),
    )


def test_derivatives_with_respect_to_one_of_several_inputs():
    x, y = Input(2, "x"), Input(3, "y")
    matrix = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    output = lower.add(scaled(1.0, relu(x)), (matrix, y), bias=np.array([7.0, 8.0]))
    graph = Graph((x, y), (output,))
    point = {x: np.array([[1.0, -1.0]]), y: np.ones((1, 3))}
    v, c = Input(3, "v"), Input(2, "c")
    tangent, cotangent = forward(graph, output, y, v), reverse(graph, output, y, c)
    np.testing.assert_array_equal(
        evaluate(Graph((x, y, v), (tangent,)), {**point, v: np.array([[1.0, 0.0, -1.0]])})[tangent],
        [[-2, -2]],
    )
    np.testing.assert_array_equal(
        evaluate(Graph((x, y, c), (cotangent,)), {**point, c: np.array([[1.0, 1.0]])})[cotangent],
        [[5, 7, 9]],
    )
    cotangent = reverse(graph, output, x, c)
    np.testing.assert_array_equal(
        evaluate(Graph((x, y, c), (cotangent,)), {**point, c: np.array([[3.0, 4.0]])})[cotangent],
        [[3, 0]],
    )


def test_derivative_of_a_value_that_does_not_depend_on_the_input_is_zero():
    x, y = Input(2, "x"), Input(3, "y")
    for output in (
        relu(y),
        Affine((), np.ones(3)),
        Switch(y, Conditional(lower.select([0, 1, 0], x))),
    ):
        graph = Graph((x, y), (output,))
        for node, size in (
            (forward(graph, output, x, Input(2, "v")), 3),
            (reverse(graph, output, x, Input(3, "c")), 2),
        ):
            assert node.size == size
            assert not evaluate(Graph((x, y), (node,)), {})[node].any()


def test_derivative_of_an_inner_value_and_of_the_input_itself():
    x = Input(2)
    inner = Affine(((np.array([[1.0, 2.0], [3.0, 4.0]]), x),), np.ones(2))
    graph = Graph((x,), (relu(inner), lower.add(scaled(5.0, inner))))
    v, c = Input(2, "v"), Input(2, "c")
    tangent, cotangent = forward(graph, inner, x, v), reverse(graph, inner, x, c)
    values = evaluate(
        Graph((v, c), (tangent, cotangent)), {v: np.array([[1.0, 0.0]]), c: np.array([[1.0, 0.0]])}
    )
    np.testing.assert_array_equal(values[tangent], [[1, 3]])
    np.testing.assert_array_equal(values[cotangent], [[1, 2]])
    assert forward(graph, x, x, v) is v
    assert reverse(graph, x, x, c) is c


def test_a_derivative_can_be_differentiated_again():
    """J v is linear in v with Jacobian J, and J^T c in c with Jacobian J^T."""
    weights, *_ = case("general", 2)
    net = to_network(weights)
    v, c = Input(net.input.size, "v"), Input(net.output.size, "c")
    x = np.full((1, net.input.size), 0.3)
    for node, argument, expected in (
        (forward(net.graph, net.output, net.input, v), v, net.jacobian(x[0])),
        (reverse(net.graph, net.output, net.input, c), c, net.jacobian(x[0]).T),
    ):
        graph = Graph((net.input, argument), (node,))
        unit = Input(argument.size, "unit")
        again = forward(graph, node, argument, unit)
        columns = evaluate(
            Graph((net.input, argument, unit), (again,)),
            {net.input: x, unit: np.eye(argument.size)},
        )
        np.testing.assert_allclose(columns[again].T, expected, rtol=1e-12, atol=1e-12)


# --- Lowerings -----------------------------------------------------------------------------------

# Multiples of 1/4, so that both sides are exact; with ties and zeros.
entries = st.integers(-20, 20).map(lambda n: n / 4)


def run(build: Callable[..., Value], *arrays: np.ndarray) -> np.ndarray:
    inputs = [Input(len(array)) for array in arrays]
    node = build(*inputs)
    return evaluate(
        Graph(tuple(inputs), (node,)), {x: a[None] for x, a in zip(inputs, arrays, strict=True)}
    )[node][0]


def vectors(count: int = 1, min_size: int = 1) -> st.SearchStrategy[tuple[np.ndarray, ...]]:
    return st.integers(min_size, 9).flatmap(
        lambda size: st.tuples(
            *[st.lists(entries, min_size=size, max_size=size).map(np.array)] * count
        )
    )


@relaxed()
@given(vectors(), st.sampled_from((0.0, 0.01, 1.0, -0.5, 2.0)))
def test_lowerings_of_one_value(drawn, slope):
    (x,) = drawn
    np.testing.assert_array_equal(run(relu, x), np.maximum(x, 0))
    np.testing.assert_array_equal(run(lower.absolute, x), np.abs(x))
    np.testing.assert_array_equal(run(lower.reduce_sum, x), [x.sum()])
    np.testing.assert_allclose(
        run(lambda value: lower.leaky_relu(value, slope), x),
        np.where(x > 0, x, slope * x),
        rtol=1e-15,
    )
    slopes = np.linspace(-1, 1, len(x))
    np.testing.assert_allclose(
        run(lambda value: lower.leaky_relu(value, slopes), x),
        np.where(x > 0, x, slopes * x),
        rtol=1e-14,
        atol=1e-14,
    )


@relaxed()
@given(vectors(2))
def test_lowerings_of_two_values(drawn):
    x, y = drawn
    np.testing.assert_array_equal(run(lower.maximum, x, y), np.maximum(x, y))
    np.testing.assert_array_equal(run(lower.minimum, x, y), np.minimum(x, y))
    np.testing.assert_array_equal(
        run(lambda a, b: lower.add(scaled(2.0, a), scaled(y, b)), x, y), 2 * x + y * y
    )


@pytest.mark.parametrize("size", range(1, 18))
def test_reduce_max_of_any_number_of_entries(size):
    for position in range(size):
        x = -np.arange(size, dtype=float)
        x[position] = 5.0
        np.testing.assert_array_equal(run(lower.reduce_max, x), [5])
    np.testing.assert_array_equal(run(lower.reduce_max, np.full(size, -3.0)), [-3])
    node = lower.reduce_max(x := Input(size))
    assert sum(gate.size for gate in Graph((x,), (node,)).gates) == size - 1


@relaxed()
@given(vectors(), st.data())
def test_select_repeats_and_reorders(drawn, data):
    (x,) = drawn
    indices = data.draw(st.lists(st.integers(0, len(x) - 1), min_size=1, max_size=12))
    np.testing.assert_array_equal(run(lambda value: lower.select(indices, value), x), x[indices])


def test_lowerings_refuse_sizes_that_differ():
    for lowering in (lower.maximum, lower.minimum):
        with pytest.raises(ModelError, match="does not map"):
            lowering(Input(2), Input(3))


def test_gates_of_the_lowerings():
    x, y = Input(3, "x"), Input(3, "y")
    assert sum(g.size for g in Graph((x,), (relu(x),)).gates) == 3
    assert sum(g.size for g in Graph((x,), (lower.leaky_relu(x, 0.1),)).gates) == 3
    assert sum(g.size for g in Graph((x,), (lower.absolute(x),)).gates) == 3
    assert sum(g.size for g in Graph((x, y), (lower.maximum(x, y),)).gates) == 3
    assert sum(g.size for g in Graph((x, y), (lower.minimum(x, y),)).gates) == 3


# --- Folding -------------------------------------------------------------------------------------


def affine_nodes(graph: Graph) -> list[Affine]:
    return [node for node in graph.nodes if isinstance(node, Affine)]


@relaxed(max_examples=200)
@given(programs(), st.integers(0, 99))
def test_fusing_keeps_values_and_derivatives(program, seed):
    fused = fold(program.graph)
    x, points = program.x, program.points(6, seed)
    assert fused.inputs == program.graph.inputs
    assert len(affine_nodes(fused)) <= len(affine_nodes(program.graph))
    # Equal ones are merged.
    assert not Counter(gate.size for gate in fused.gates) - Counter(
        gate.size for gate in program.graph.gates
    )
    shape = (len(points), program.output.size)
    before = np.broadcast_to(evaluate(program.graph, {x: points})[program.output], shape)
    after = np.broadcast_to(evaluate(fused, {x: points})[fused.outputs[0]], shape)
    if program.exact:  # so are the products of the weights: gates on kinks stay as they are
        np.testing.assert_array_equal(after, before)
        for old, new in zip(
            jacobians(program.graph, x, points), jacobians(fused, x, points), strict=True
        ):
            np.testing.assert_array_equal(new, old)
        return
    tolerance = 1e-12 * scale(program.graph, x, points)
    np.testing.assert_allclose(after, before, rtol=0, atol=tolerance)
    values = evaluate(program.graph, {x: points})
    clear = np.ones(len(points), dtype=bool)
    for gate in program.graph.gates:
        clear &= (
            np.abs(np.broadcast_to(values[gate.x], (len(points), gate.size))) > tolerance
        ).all(axis=1)
    for old, new in zip(
        jacobians(program.graph, x, points), jacobians(fused, x, points), strict=True
    ):
        np.testing.assert_allclose(
            new[clear], old[clear], rtol=0, atol=1e-12 * max(1.0, np.abs(old).max())
        )


def test_a_chain_of_affine_nodes_becomes_one():
    x = Input(2)
    first, second, third = np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([[1.0, -1.0]])
    value = Affine(((first, x),), np.array([1.0]))
    value = Affine(((second, value),), np.array([0.0, 5.0]))
    value = Affine(((third, value),), np.array([-2.0]))
    (only,) = affine_nodes(fold(Graph((x,), (value,))))
    ((weight, below),) = only.terms
    assert below is x
    np.testing.assert_array_equal(weight, [[-1, -2]])
    np.testing.assert_array_equal(only.bias, [-8])


def test_selections_of_reduce_max_fold_away():
    x = Input(3)
    scores = Affine(((np.arange(12.0).reshape(4, 3), x),), np.ones(4))
    fused = fold(Graph((x,), (lower.reduce_max(scores),)))
    # The scores, then a difference and a maximum on each of the two levels.
    assert len(affine_nodes(fused)) == 5


def test_selections_scalings_and_constants_fold_into_every_reader():
    x = Input(2)
    hidden = relu(x)
    shared = lower.add(scaled(np.array([2.0, -3.0]), hidden), bias=np.array([1.0, 1.0]))
    constant = Affine((), np.array([4.0, 5.0]))
    outputs = tuple(
        lower.add((np.full((1, 2), k), shared), (np.ones((1, 2)), constant)) for k in (1.0, 2.0)
    )
    fused = fold(Graph((x,), outputs))
    assert len(affine_nodes(fused)) == 2
    (kept,) = [node for node in fused.nodes if isinstance(node, Switch)]
    for k, output in zip((1.0, 2.0), fused.outputs, strict=True):
        ((weight, below),) = output.terms
        assert below is kept
        np.testing.assert_array_equal(
            weight if not sp.issparse(weight) else weight.toarray(), [[2 * k, -3 * k]]
        )
        np.testing.assert_array_equal(output.bias, [2 * k + 9])


def test_a_dense_node_with_two_readers_is_kept():
    x = Input(2)
    shared = Affine(((np.array([[1.0, 2.0], [3.0, 4.0]]), x),), np.zeros(2))
    outputs = (
        Affine(((np.ones((1, 2)), shared),), np.zeros(1)),
        Affine(((-np.ones((1, 2)), shared),), np.zeros(1)),
    )
    assert len(affine_nodes(fold(Graph((x,), outputs)))) == 3


def test_a_node_that_is_an_output_too_is_kept():
    x = Input(2)
    inner = Affine(((np.array([[1.0, 2.0], [3.0, 4.0]]), x),), np.zeros(2))
    graph = fold(Graph((x,), (inner, Affine(((np.ones((1, 2)), inner),), np.zeros(1)))))
    values = evaluate(graph, {x: np.array([[1.0, 1.0]])})
    np.testing.assert_array_equal(values[graph.outputs[0]], [[3, 7]])
    np.testing.assert_array_equal(values[graph.outputs[1]], [[10]])
    ((_, below),) = graph.outputs[1].terms
    assert below is graph.outputs[0]


def test_gates_stay_shared_after_fusing():
    """The derivative's switches and the network's read the same gates, before and after."""
    x = Input(2)
    hidden = relu(Affine(((np.ones((3, 2)), x),), np.arange(3.0)))
    graph = Graph((x,), (lower.reduce_sum(hidden),))
    c = Input(1, "c")
    both = Graph((x, c), (*graph.outputs, reverse(graph, graph.outputs[0], x, c)))
    fused = fold(both)
    assert len(fused.gates) == len(both.gates) == 1
    assert Counter(node.gate for node in fused.nodes if isinstance(node, Switch)) == {
        fused.gates[0]: 2
    }


# --- Network -------------------------------------------------------------------------------------


@pytest.fixture
def image_network() -> Network:
    """From inputs of shape (2, 3) to outputs of shape (4, 1)."""
    rng = np.random.default_rng(0)
    x = Input(6)
    hidden = relu(Affine(((rng.normal(size=(5, 6)), x),), rng.normal(size=5)))
    output = Affine(((rng.normal(size=(4, 5)), hidden),), rng.normal(size=4))
    return network(Graph((x,), (output,)), input_shape=(2, 3), output_shape=(4, 1), name="image")


def test_evaluate_and_jacobian_take_points_and_batches_flat_or_shaped(image_network):
    batch = np.random.default_rng(1).normal(size=(7, 6))
    values, slopes = image_network.evaluate(batch), image_network.jacobian(batch)
    assert values.shape == (7, 4)
    assert slopes.shape == (7, 4, 6)
    np.testing.assert_array_equal(image_network.evaluate(batch.reshape(7, 2, 3)), values)
    np.testing.assert_array_equal(image_network.jacobian(batch.reshape(7, 2, 3)), slopes)
    for one, value, slope in zip(batch, values, slopes, strict=True):
        for point in (one, one.reshape(2, 3), one.tolist()):
            assert image_network.evaluate(point).shape == (4,)
            assert image_network.jacobian(point).shape == (4, 6)
            np.testing.assert_allclose(image_network.evaluate(point), value, rtol=1e-13)
            np.testing.assert_allclose(image_network.jacobian(point), slope, rtol=1e-13)
    assert image_network.evaluate(np.empty((0, 6))).shape == (0, 4)
    assert image_network.jacobian(np.empty((0, 6))).shape == (0, 4, 6)


@pytest.mark.parametrize("shape", [(), (5,), (3, 2), (7, 5), (7, 3, 2), (1, 7, 6), (1, 1, 2, 3)])
def test_other_shapes_are_refused(image_network, shape):
    for ask in (image_network.evaluate, image_network.jacobian):
        with pytest.raises(ModelError, match="expected a point of shape"):
            ask(np.zeros(shape))


def test_a_network_has_one_input_and_one_output_of_the_stated_shapes():
    x, y = Input(2, "x"), Input(2, "y")
    total = lower.add(scaled(1.0, x), scaled(1.0, y))
    with pytest.raises(ModelError, match="one input and one output, not 2 and 1"):
        Network(Graph((x, y), (total,)), (2,), (2,))
    with pytest.raises(ModelError, match="one input and one output, not 1 and 2"):
        Network(Graph((x,), (x, x)), (2,), (2,))
    with pytest.raises(ModelError, match=r"the input shape \(3,\) does not hold 2 entries"):
        Network(Graph((x,), (relu(x),)), (3,), (2,))
    with pytest.raises(ModelError, match=r"the output shape \(2, 2\) does not hold 2 entries"):
        Network(Graph((x,), (relu(x),)), (1, 2), (2, 2))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_networks_of_plain_weights(family):
    rng = np.random.default_rng(3)
    for seed in range(3):
        weights, lower_corner, upper_corner = case(family, seed)
        net = to_network(weights, family)
        assert net.name == family
        assert net.relus == sum(len(bias) for _, bias in weights[:-1])
        assert [gate.size for gate in net.gates] == [len(bias) for _, bias in weights[:-1]]
        points = rng.uniform(lower_corner, upper_corner, (20, len(lower_corner)))
        np.testing.assert_allclose(
            net.evaluate(points), plain_forward(weights, points), rtol=1e-12, atol=1e-12
        )


def test_a_constant_network_and_the_identity():
    x = Input(3)
    still = Network(Graph((x,), (Affine((), np.array([1.0, 2.0])),)), (3,), (2,))
    np.testing.assert_array_equal(still.evaluate(np.zeros((4, 3))), [[1, 2]] * 4)
    np.testing.assert_array_equal(still.jacobian(np.zeros((4, 3))), np.zeros((4, 2, 3)))
    same = Network(Graph((x,), (x,)), (3,), (3,))
    np.testing.assert_array_equal(same.evaluate([1, 2, 3]), [1, 2, 3])
    np.testing.assert_array_equal(same.jacobian([1, 2, 3]), np.eye(3))


def test_the_jacobian_on_a_kink_has_the_gates_off():
    net = to_network(
        [(np.array([[1.0], [-1.0]]), np.zeros(2)), (np.array([[1.0, -1.0]]), np.zeros(1))]
    )
    np.testing.assert_array_equal(net.jacobian([0.0]), [[0]])
    np.testing.assert_array_equal(net.jacobian([[-1.0], [1.0]]), [[[1]], [[1]]])


def test_equal_nodes_are_merged() -> None:
    """Max and min of the same two vectors share their gates; those of others do not."""
    x = Input(6)
    left, right = lower.select([0, 2, 4], x), lower.select([1, 3, 5], x)
    twice, once = lower.maximum(left, right), lower.minimum(left, right)
    other = lower.minimum(right, left)
    graph = Graph((x,), (lower.add((np.eye(3), twice), (2 * np.eye(3), once)), other))
    fused = fold(graph)
    assert [gate.size for gate in graph.gates] == [3, 3, 3]
    assert [gate.size for gate in fused.gates] == [3, 3]
    points = np.random.default_rng(0).normal(size=(20, 6))
    before, after = (evaluate(each, {x: points}) for each in (graph, fused))
    for old, new in zip(graph.outputs, fused.outputs, strict=True):
        np.testing.assert_allclose(after[new], before[old], atol=1e-14)


@pytest.mark.parametrize("change", ["bias", "weight", "kind"])
def test_nodes_that_differ_are_not_merged(change: str) -> None:
    x = Input(3)
    weight, bias = np.arange(9.0).reshape(3, 3), np.ones(3)
    other = Affine(
        (
            (
                (weight if change != "weight" else weight + np.eye(3)[::-1])
                if change != "kind"
                else sp.csr_array(weight + 1),
                x,
            ),
        ),
        bias if change != "bias" else -bias,
    )
    graph = Graph((x,), (lower.relu(Affine(((weight, x),), bias)), lower.relu(other)))
    assert len(fold(graph).gates) == 2
