"""Convolutions stay sparse: loading, bounding and asking for a constant without matrices as
large as the network.
"""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp

import lipexact as lx
from lipexact.bounds import constants
from lipexact.bounds.crown import bound_nodes
from lipexact.graph.evaluate import evaluate
from lipexact.graph.folding import fold
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Value
from lipexact.graph.lowering import add, relu, scaled
from lipexact.network import Network, network
from lipexact.numerics.arrays import most_terms
from lipexact.problem.problem import MODES, lipschitz_problem
from lipexact.regions.affine import pattern_at
from lipexact.regions.gradients import gradients
from lipexact.sets.functionals import functional_set
from lipexact.sets.norms import norm

Shape = tuple[int, int, int]


def convolution(
    rng: np.random.Generator, shape: Shape, out: int, stride: int = 1
) -> tuple[sp.csr_array, Shape]:
    """A 3 x 3 convolution with padding 1 as a matrix on flat images, and the shape of what comes
    out.
    """
    channels, height, width = shape
    kernel = rng.normal(size=(out, channels, 3, 3)) * np.sqrt(2 / (9 * channels))
    size = (-(-height // stride), -(-width // stride))
    o, i, y, x, dy, dx = np.ix_(*map(np.arange, (out, channels, *size, 3, 3)))
    row, column = y * stride + dy - 1, x * stride + dx - 1
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    inside, to, source, values = np.broadcast_arrays(
        inside,
        (o * size[0] + y) * size[1] + x,
        (i * height + row) * width + column,
        kernel[:, :, None, None],
    )
    matrix = sp.csr_array(
        (values[inside], (to[inside], source[inside])),
        shape=(out * size[0] * size[1], channels * height * width),
    )
    return matrix, (out, *size)


def mean_pool(shape: Shape) -> tuple[sp.csr_array, Shape]:
    """The mean over 2 x 2 pixels, likewise."""
    channels, height, width = shape
    rows = sp.kron(sp.eye_array(height // 2), np.full((1, 2), 0.5))
    columns = sp.kron(sp.eye_array(width // 2), np.full((1, 2), 0.5))
    return sp.csr_array(sp.kron(sp.eye_array(channels), sp.kron(rows, columns))), (
        channels,
        height // 2,
        width // 2,
    )


def conv_net(rng: np.random.Generator, shape: Shape, channels: int, outputs: int = 3) -> Network:
    """Two convolutions, the second with a residual connection, a mean, and a dense layer."""
    x = Input(int(np.prod(shape)))
    first, inner = convolution(rng, shape, channels)
    hidden = relu(Affine(((first, x),), 0.1 * rng.normal(size=first.shape[0])))
    second, inner = convolution(rng, inner, channels)
    conv = Affine(((second, hidden),), 0.1 * rng.normal(size=second.shape[0]))
    value: Value = relu(add(scaled(1.0, conv), scaled(1.0, hidden)))
    pool, inner = mean_pool(inner)
    value = add((pool, value))
    value = Affine(((rng.normal(size=(outputs, value.size)), value),), np.zeros(outputs))
    return network(Graph((x,), (value,)), input_shape=shape, output_shape=(outputs,), name="conv")


def peak_of(action) -> tuple[object, int]:
    tracemalloc.start()
    try:
        result = action()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def problem_of(net: Network, domain: lx.Domain, mode: str):
    linf, functional = norm("linf"), np.eye(net.output.size)[0] - np.eye(net.output.size)[1]
    bodies = functional_set(functional, linf, net.output.size), linf.ball(net.input.size)
    problem = lipschitz_problem(net, domain, *bodies, mode=mode)
    assert problem is not None
    return problem


# --- Graphs ---------------------------------------------------------------------------------------


def test_fusing_makes_no_dense_matrix_of_a_convolution():
    rng = np.random.default_rng(0)
    matrix, _ = convolution(rng, (3, 16, 16), 6)
    x = Input(matrix.shape[1])

    def fused() -> Graph:
        shifted = add(
            scaled(2.0, x), bias=rng.normal(size=x.size)
        )  # as of pixels that are normalised
        conv = Affine(((matrix, shifted),), np.ones(matrix.shape[0]))
        normal = add(scaled(rng.normal(size=conv.size), conv), bias=np.ones(conv.size))
        return fold(Graph((x,), (relu(add(scaled(1.0, normal))),)))

    graph, peak = peak_of(fused)
    (conv,) = (node for node in graph.nodes if isinstance(node, Affine))
    assert [weight.nnz for weight, _ in conv.terms] == [matrix.nnz]
    assert peak < 20 * matrix.nnz * 12 < matrix.shape[0] * matrix.shape[1] * 8


def test_a_product_with_more_entries_than_its_factors_is_not_made(monkeypatch):
    rng = np.random.default_rng(0)
    inner, shape = convolution(rng, (8, 16, 16), 8)
    outer, _ = convolution(rng, shape, 8)
    x = Input(inner.shape[1])
    made = []
    monkeypatch.setattr(
        "lipexact.graph.folding.accurate_product", lambda *factors: made.append(factors)
    )
    graph = fold(
        Graph(
            (x,),
            (Affine(((outer, Affine(((inner, x),), np.zeros(inner.shape[0]))),), np.zeros(2048)),),
        )
    )
    assert not made
    assert len([node for node in graph.nodes if isinstance(node, Affine)]) == 2


def test_sparse_products_that_cancel_are_exact():
    """Columns of the inner matrix that are nearly opposite, of which the outer one takes sums."""
    rng = np.random.default_rng(0)
    x, size = Input(6), 40
    half = rng.normal(size=(size, 6)) * (rng.random((size, 6)) < 0.4)
    inner = sp.csr_array(np.vstack([half, -half * (1 + 2.0**-48)]))
    outer = sp.csr_array(sp.hstack([sp.eye_array(size), sp.eye_array(size)]))
    bias = rng.normal(size=2 * size)
    node = Affine(((outer, Affine(((inner, x),), bias)),), np.full(size, 1e-17))
    (only,) = (node for node in fold(Graph((x,), (node,))).nodes if isinstance(node, Affine))
    ((weight, _),) = only.terms
    dense = inner.toarray()
    for i in range(size):
        exact = [
            float(Fraction(p) + Fraction(q)) for p, q in zip(dense[i], dense[i + size], strict=True)
        ]
        assert weight.toarray()[i].tolist() == exact
        true = float(Fraction(bias[i]) + Fraction(bias[i + size]) + Fraction(1e-17))
        assert only.bias[i] == pytest.approx(true, rel=1e-13)


def test_what_fusing_does_not_change_is_shared():
    net = conv_net(np.random.default_rng(0), (1, 6, 6), 2)
    assert fold(net.graph).nodes == net.graph.nodes
    box = lx.Box.unit(36)
    problems = [problem_of(net, box, mode) for mode in MODES]
    assert all(gate in problem.graph.nodes for problem in problems for gate in net.gates)
    # And bounds of one mode serve the other.
    shared = bound_nodes(problems[0].graph, problems[0].sets)
    for node, sides in bound_nodes(problems[1].graph, problems[1].sets, shared=shared).items():
        for side, alone in zip(
            sides, bound_nodes(problems[1].graph, problems[1].sets)[node], strict=True
        ):
            np.testing.assert_array_equal(side, alone)


def test_weights_of_derivatives_are_the_networks_own():
    net = conv_net(np.random.default_rng(0), (1, 6, 6), 2)
    own = {
        id(weight)
        for node in net.graph.nodes
        if isinstance(node, Affine)
        for weight, _ in node.terms
    }
    own |= {
        id(weight)
        for node in net.graph.nodes
        if isinstance(node, Affine)
        for weight in node.transposed
    }
    _, gradient = net.pullback
    pulled = [
        weight for node in gradient.nodes if isinstance(node, Affine) for weight, _ in node.terms
    ]
    convolutions = [weight for weight in pulled if sp.issparse(weight) and most_terms(weight) > 4]
    assert len(convolutions) >= 4
    assert all(id(weight) in own for weight in convolutions)
    with pytest.raises(ValueError, match="read-only"):
        convolutions[0].data[0] = 1.0


# --- Bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.05, 0.5])
@pytest.mark.parametrize("mode", MODES)
def test_bounds_in_chunks_are_those_at_once(monkeypatch, mode, radius):
    rng = np.random.default_rng(1)
    net = conv_net(rng, (2, 8, 8), 3)
    problem = problem_of(net, lx.Ball(rng.random(128), radius), mode)
    whole = bound_nodes(problem.graph, problem.sets)
    for chunk, gain in ((7, 6), (64, 1e9), (64, 0.1)):  # and products dense and sparse
        monkeypatch.setattr(constants, "MAX_ROWS", chunk)
        monkeypatch.setattr(constants, "DENSE_GAIN", gain)
        parts = bound_nodes(problem.graph, problem.sets)
        for node in problem.graph.nodes:
            for a, b in zip(whole[node], parts[node], strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * max(1.0, np.abs(a).max()))


@pytest.mark.parametrize("limits", [{}, {"work": 1e4}, {"deadline": 0.0}])
@pytest.mark.parametrize("mode", MODES)
def test_bounds_of_convolutions_contain_exact_values(monkeypatch, mode, limits):
    monkeypatch.setattr(constants, "MAX_ROWS", 16)
    rng = np.random.default_rng(2)
    net = conv_net(rng, (1, 6, 6), 2)
    domain = lx.Ball(rng.random(36), 0.2)
    problem = problem_of(net, domain, mode)
    bounds = bound_nodes(problem.graph, problem.sets, **limits)

    def fractions(values):
        exact = np.empty(values.shape, dtype=object)
        exact.flat[:] = [Fraction(value) for value in values.ravel().tolist()]
        return exact

    count = 12
    inputs = {
        node: fractions(rng.uniform(which.lower, which.upper, (count, which.dim)))
        for node, which in problem.sets.items()
    }
    for node, values in evaluate(problem.graph, inputs, fractions).items():
        lower, upper = bounds[node]
        if not isinstance(node, Conditional):
            assert (values >= fractions(lower)).all()
            assert (values <= fractions(upper)).all()


def test_bounds_within_a_budget_are_no_better_than_without():
    rng = np.random.default_rng(3)
    net = conv_net(rng, (3, 16, 16), 8)
    sets = {net.input: lx.Ball(rng.random(768), 0.1)}
    free, tight, late = (
        bound_nodes(net.graph, sets, **limits) for limits in ({}, {"work": 1e6}, {"deadline": 0.0})
    )
    for node in net.graph.nodes:
        for bounds in (tight, late):
            assert (bounds[node][0] <= free[node][0] + 1e-9).all()
            assert (bounds[node][1] >= free[node][1] - 1e-9).all()
    assert (tight[net.output][1] > free[net.output][1]).all()


def test_bounds_take_no_more_memory_than_the_weights_and_some_chunks():
    rng = np.random.default_rng(4)
    net = conv_net(rng, (3, 20, 20), 12)
    entries = sum(
        weight.size
        for node in net.graph.nodes
        if isinstance(node, Affine)
        for weight, _ in node.terms
    )
    _, peak = peak_of(lambda: bound_nodes(net.graph, {net.input: lx.Box.unit(1200)}))
    # A coefficient of each of 4800 rows, up and down, for each entry of the layer below would be
    # 369 MB.
    assert peak < 10 * 8 * entries + 100e6


# --- Networks and constants -----------------------------------------------------------------------


def test_batches_are_evaluated_in_parts(monkeypatch):
    net = conv_net(np.random.default_rng(5), (1, 8, 8), 2)
    points = np.random.default_rng(6).random((9, 64))
    values, jacobians = net.evaluate(points), net.jacobian(points)
    monkeypatch.setattr(
        "lipexact.graph.evaluate.MAX_BATCH_NUMBERS", 2 * sum(node.size for node in net.graph.nodes)
    )
    np.testing.assert_allclose(net.evaluate(points), values, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(net.jacobian(points), jacobians, rtol=1e-12, atol=1e-12)


def test_gradients_of_a_network_too_large_for_fractions_say_how_far_they_are_off(monkeypatch):
    net = conv_net(np.random.default_rng(7), (1, 6, 6), 2)
    pattern = pattern_at(net, np.random.default_rng(8).random(36))
    functionals = np.array([[1.0, -1.0, 0.0]])
    exact, _ = gradients(net, functionals, pattern, exact=True)
    monkeypatch.setattr("lipexact.regions.constants.MAX_GRADIENT_FRACTIONS", 0)
    values, errors = gradients(net, functionals, pattern)
    assert (np.abs(values - exact) <= errors * (1 + 1e-9) + 1e-16 * np.abs(exact)).all()
    assert errors.max() < 1e-9 * np.abs(exact).max()


@pytest.mark.parametrize("limit", ["forms", "coefficients"])
def test_what_is_too_large_is_left_out_and_said(monkeypatch, limit):
    """The bounds and the samples remain, with a witness that holds."""
    rng = np.random.default_rng(9)
    net, center = conv_net(rng, (1, 6, 6), 2), rng.random(36)
    exact = lx.lipschitz(net, lx.Ball(center, 0.02), functional=0)
    assert exact.status is lx.Status.EXACT
    monkeypatch.setattr("lipexact.regions.constants.MAX_FORM_NUMBERS", 0)
    if limit == "coefficients":
        monkeypatch.setattr("lipexact.mip.constants.MAX_COEFFICIENTS", 10)
    result = lx.lipschitz(net, lx.Ball(center, 0.02), functional=0)
    assert result.lower <= exact.value * (1 + 1e-9)
    assert result.upper >= exact.value * (1 - 1e-9)
    assert result.witness is not None
    assert 0 < result.witness.radius <= exact_radius(net, result.witness)
    np.testing.assert_allclose(np.abs(result.witness.jacobian[0]).sum(), result.lower, rtol=1e-9)
    if limit == "coefficients" and result.status is lx.Status.BOUNDED:
        assert result.termination == "limit"
        assert "coefficients" in result.diagnostics[-1].message


def exact_radius(net: Network, witness: lx.Witness) -> float:
    """How far the nearest kink is, by finite differences of the affine functions in the region."""
    values = evaluate(net.graph, {net.input: witness.point[None, :]})
    step = witness.radius / 2
    moved = evaluate(net.graph, {net.input: witness.point + step * np.eye(36)})
    distance = np.inf
    for gate in net.gates:
        slopes = (np.broadcast_to(moved[gate.x], (36, gate.size)) - values[gate.x]) / step
        reach = np.abs(values[gate.x][0]) / np.maximum(np.abs(slopes).sum(axis=0), 1e-300)
        distance = min(distance, float(reach.min()))
    return distance * (1 + 1e-6)


def test_many_inputs_have_a_constant():
    """The cube of directions has more vertices than floats can count."""
    rng = np.random.default_rng(10)
    net = conv_net(rng, (8, 12, 12), 1)
    result = lx.lipschitz(net, lx.Ball(rng.random(1152), 1e-6), functional=0)
    assert result.status is lx.Status.EXACT
