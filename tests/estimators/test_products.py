"""Products of norms and SeqLip: chains and networks with branches."""

from __future__ import annotations

import math

import numpy as np
import pytest

import lipexact as lx
import lipexact.sets.norms
from lipexact.estimators import chains
from lipexact.graph import lowering as lower
from lipexact.graph.ir import Affine, Graph, Input
from lipexact.sets.norms import Norm
from lipexact.sets.unit_balls import CrossPolytope, Cube, Stretched
from tests.support.estimators import masks
from tests.support.networks import random_weights, to_network


def numpy_norm(matrix, name):
    return np.linalg.norm(matrix, {"linf": np.inf, "l1": 1, "l2": 2}[name])


@pytest.mark.parametrize("name", ["linf", "l1", "l2"])
def test_naive_is_the_product_of_norms(name):
    weights = random_weights(np.random.default_rng(3), (4, 6, 5, 3))
    found = lx.estimate(to_network(weights), lx.Box.unit(4), "naive", input_norm=name)
    assert found.value == pytest.approx(
        math.prod(numpy_norm(weight, name) for weight, _ in weights), rel=1e-12
    )
    assert (found.guarantee, found.scope, found.details) == (
        "upper",
        "global",
        {"hidden_norm": name},
    )
    c = np.array([1.0, -2.0, 0.5])
    of_one = lx.estimate(
        to_network(weights), lx.Box.unit(4), "naive", input_norm=name, functional=c
    )
    dual = {"linf": 1, "l1": np.inf, "l2": 2}[name]
    product = np.linalg.norm(c @ weights[2][0], dual) * math.prod(
        numpy_norm(w, name) for w, _ in weights[:2]
    )
    assert of_one.value == pytest.approx(
        product, rel=1e-12
    )  # and not by the norm of c, which may be 1 where it is 2


def test_naive_between_two_norms():
    weights = random_weights(np.random.default_rng(4), (3, 5, 2))
    found = lx.estimate(
        to_network(weights), lx.Box.unit(3), "naive", input_norm="l2", output_norm="linf"
    )
    (first, _), (last, _) = weights
    by_l2 = numpy_norm(first, "l2") * max(np.linalg.norm(row) for row in last)
    by_linf = max(np.linalg.norm(row) for row in first) * numpy_norm(last, "linf")
    assert found.value == pytest.approx(min(by_l2, by_linf), rel=1e-12)


def test_naive_takes_a_norm_that_it_has_never_heard_of(monkeypatch):
    """And goes on in one whose operator norms it knows: row sums are no bound between others."""

    class Tenth(Norm):
        """A tenth of linf, under another name."""

        def ball(self, n):
            return Stretched(Cube(n), np.full(n, 10.0))

        def polar(self, n):
            return Stretched(CrossPolytope(n), np.full(n, 0.1))

    monkeypatch.setitem(lipexact.sets.norms._NORMS, "tenth", Tenth())
    net = to_network(random_weights(np.random.default_rng(4), (3, 5, 4, 2)))
    known = lx.estimate(net, lx.Box.unit(3), "naive", input_norm="linf", output_norm="linf")
    exact = lx.lipschitz(net, lx.Box.unit(3), input_norm="linf", output_norm="linf")
    for output_norm, scale in (("linf", 10), ("tenth", 1)):
        found = lx.estimate(
            net, lx.Box.unit(3), "naive", input_norm="tenth", output_norm=output_norm
        )
        assert found.details["hidden_norm"] in ("l1", "l2", "linf")
        assert scale * exact.lower <= found.value <= scale * known.value * (1 + 1e-9)


def graph_network(build, inputs: int) -> lx.Network:
    x = Input(inputs)
    value = build(x)
    from lipexact.network import network

    return network(
        Graph((x,), (value,)), input_shape=(inputs,), output_shape=(value.size,), name="graph"
    )


@pytest.mark.parametrize("name", ["linf", "l1", "l2"])
def test_naive_knows_the_usual_pieces_to_be_1_lipschitz(name):
    rng = np.random.default_rng(0)
    first, last = rng.normal(size=(4, 3)), rng.normal(size=(2, 4))

    def between(piece, matrix):
        def build(x):
            hidden = lower.relu(Affine(((first, x),), np.ones(4)), "first")
            return Affine(((matrix, piece(hidden)),), np.zeros(2))

        return lx.estimate(graph_network(build, 3), lx.Box.unit(3), "naive", input_norm=name).value

    product = numpy_norm(first, name) * numpy_norm(last, name)
    shifted = lambda h: Affine(((np.eye(4), h),), -np.ones(4))  # noqa: E731 - so that signs are open
    assert between(lambda h: lower.absolute(shifted(h), "abs"), last) == pytest.approx(
        product, rel=1e-12
    )
    assert between(lambda h: lower.leaky_relu(shifted(h), 0.1, "leaky"), last) <= product * (
        1 + 1e-12
    )
    # Maxima over all of them, in two rounds, and over two pairs.
    assert between(lower.reduce_max, last[:, :1]) <= (
        numpy_norm(first, name)
        * numpy_norm(last[:, :1], name)
        * (1 if name == "linf" else 2)
        * (1 + 1e-12)
    )
    pairs = last[:, :2]
    pooled = between(
        lambda h: lower.maximum(lower.select([0, 1], h), lower.select([2, 3], h), "max"), pairs
    )
    assert pooled == pytest.approx(numpy_norm(first, name) * numpy_norm(pairs, name), rel=1e-12)


def test_naive_adds_up_branches():
    matrix = np.array([[2.0, 1.0], [0.0, 1.0]])

    def build(x):
        return Affine(
            ((np.eye(2), x), (np.eye(2), lower.relu(Affine(((matrix, x),), np.zeros(2)), "r"))),
            np.zeros(2),
        )

    net = graph_network(build, 2)
    found = lx.estimate(net, lx.Box.unit(2), "naive").value
    assert lx.lipschitz(net, lx.Box([-1, -1], [1, 1])).value <= found <= 4 * (1 + 1e-12)


@pytest.mark.parametrize("name", ["linf", "l1", "l2"])
def test_naive_with_gates_that_choose(name):
    """Two gates in one row, one of which is on; maxima either argument of which may be steeper."""

    def two_in_a_row(x):
        both = lower.relu(Affine(((np.array([[1.0], [-1.0]]), x),), np.zeros(2)), "both")
        return Affine(((np.array([[0.1]]), x), (np.array([[1.0, 1.0]]), both)), np.zeros(1))

    net = graph_network(two_in_a_row, 1)
    assert lx.lipschitz(net, lx.Box([-1], [1]), input_norm=name).value == pytest.approx(1.1)
    assert lx.estimate(net, lx.Box([-1], [1]), "naive", input_norm=name).value >= 1.1

    def behind(x):  # the same of a hidden layer
        return two_in_a_row(lower.leaky_relu(Affine(((np.eye(1), x),), -np.ones(1)), 0.5, "leaky"))

    hidden = graph_network(lambda x: lower.relu(behind(x), "last"), 1)
    exact = lx.lipschitz(hidden, lx.Box([-9], [9]), input_norm=name).value
    assert lx.estimate(hidden, lx.Box([-9], [9]), "naive", input_norm=name).value >= exact * (
        1 - 1e-12
    )

    for order in ((0, 1), (1, 0)):

        def largest(x, order=order):
            steep = lower.scaled(
                np.array([5.0, 1.0]), lower.relu(Affine(((np.eye(2), x),), np.ones(2)), "first")
            )
            first = Affine((steep,), np.zeros(2))
            return lower.relu(lower.maximum(*(lower.select([k], first) for k in order)), "last")

        net = graph_network(largest, 2)
        exact = lx.lipschitz(net, lx.Box.unit(2), input_norm=name).value
        assert exact == pytest.approx(5.0)
        assert (
            5.0 * (1 - 1e-12)
            <= lx.estimate(net, lx.Box.unit(2), "naive", input_norm=name).value
            <= 5.2
        )


def test_products_that_underflow_on_the_way_are_bounds_still():
    chain = [([[1e-20]], [0])] * 16 + [([[1e20]], [0])] * 15 + [([[1.0]], [0])]
    exact = lx.lipschitz(to_network(chain), lx.Box([-1], [1])).value
    for name in ("naive", "eclipse-fast", "best-upper"):
        assert lx.estimate(to_network(chain), lx.Reals(1), name, input_norm="l2").value >= exact * (
            1 - 1e-12
        )


def test_a_constant_network_has_the_constant_0():
    x = Input(2)
    value = Affine(((np.zeros((2, 2)), x),), np.ones(2))
    net = lx.Network(Graph((x,), (value,)), (2,), (2,))
    assert lx.estimate(net, lx.Box.unit(2), "zonotope").value == 0
    assert lx.estimate(net, lx.Box.unit(2)).value == 0


def test_seqlip_is_the_product_of_its_factors():
    weights = [weight for weight, _ in random_weights(np.random.default_rng(6), (3, 4, 5, 2))]
    net = to_network([(weight, np.zeros(len(weight))) for weight in weights])
    parts = [np.linalg.svd(weight, full_matrices=False) for weight in weights]
    product = 1.0
    for k in range(2):
        u, s, _ = parts[k]
        _, t, v = parts[k + 1]
        right = u * (s if k == 0 else np.sqrt(s))
        left = (t if k == 1 else np.sqrt(t))[:, None] * v
        product *= max(np.linalg.norm((left * mask) @ right, 2) for mask in masks(right.shape[0]))
    brute = lx.estimate(net, lx.Box.unit(3), "seqlip-brute-force", input_norm="l2")
    assert brute.value == pytest.approx(product, rel=1e-10)
    assert brute.value >= product * (1 - 1e-14)
    greedy = lx.estimate(net, lx.Box.unit(3), "seqlip", input_norm="l2")
    assert greedy.guarantee == "heuristic"
    assert 0.8 * product < greedy.value <= product * (1 + 1e-12)
    # No pattern of both layers exceeds what bounds them one by one.
    most = max(
        np.linalg.norm(
            weights[2] @ (second[:, None] * weights[1]) @ (first[:, None] * weights[0]), 2
        )
        for first in masks(4)
        for second in masks(5)
    )
    assert most <= brute.value
    assert lx.estimate(net, lx.Box.unit(3), "lipsdp", input_norm="l2").value <= math.prod(
        np.linalg.norm(weight, 2) for weight in weights
    )


def test_seqlip_past_the_deadline_is_a_bound_still():
    net = to_network(random_weights(np.random.default_rng(7), (3, 9, 2)))
    brute = lx.estimate(net, lx.Box.unit(3), "seqlip-brute-force", input_norm="l2")
    late = lx.estimate(net, lx.Box.unit(3), "seqlip-brute-force", input_norm="l2", time_limit=1e-9)
    assert (
        brute.value
        <= late.value
        <= lx.estimate(net, lx.Box.unit(3), "naive", input_norm="l2").value * (1 + 1e-9)
    )


def test_chains_end_and_begin_with_gates_too():
    x = Input(2)
    matrix = np.array([[1.0, 2.0], [-1.0, 1.0]])
    value = lower.relu(Affine(((matrix, lower.relu(x, "first")),), np.zeros(2)), "last")
    net = lx.Network(Graph((x,), (value,)), (2,), (2,))
    found = chains.chain_weights(net, "test")
    assert [weight.tolist() for weight in found] == [
        np.eye(2).tolist(),
        matrix.tolist(),
        np.eye(2).tolist(),
    ]
