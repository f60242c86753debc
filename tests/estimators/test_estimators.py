"""Every estimator in the registry against the enumeration oracle, and by what is known of each."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import os
import sys
import time
import warnings
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import lipexact as lx
import lipexact.estimators
import lipexact.sets.norms
from lipexact.estimators import chains, constants, norms, registry, semidefinite_programs
from lipexact.estimators.clever import weibull_end
from lipexact.estimators.lipsdp import block_sizes
from lipexact.estimators.lure import LureSystem, all_open, lure_system
from lipexact.estimators.multipliers import (
    bound_from_rho,
    least_rho,
    positive_definite,
    proven_bound,
)
from lipexact.estimators.registry import EstimateRequest, EstimatorOutput, estimator, estimators
from lipexact.graph import lowering as lower
from lipexact.graph.ir import Affine, Graph, Input
from lipexact.sets.norms import Norm, norm
from lipexact.sets.unit_balls import CrossPolytope, Cube, EuclideanUnitBall, Stretched
from tests.operators import all_examples
from tests.support import oracle
from tests.support.networks import FAMILIES, case, random_weights, to_network
from tests.support.paths import EXAMPLES, SHARED
from tests.support.soak import CLAIMED, CLOSE, PROVEN, ROUNDED, question

SHARED_CASES = SHARED / "cases"

CHEAP = {"sampling": {"samples": 100}, "clever": {"batches": 10, "samples": 50}}
# Made of others, without a guarantee, or tested elsewhere.
RARE = ("best-upper", "clever", "exact", "liplp")
PARTS = 25  # of hundreds of networks
EACH = int(os.environ.get("LIPEXACT_SEEDS", "4"))
PAIRS = [(alpha, beta) for alpha in ("linf", "l1", "l2") for beta in ("linf", "l1", "l2")]


def wrong(found: lx.Estimate, known, rounded: Fraction) -> str | None:
    """What an estimate's guarantee gets wrong; the heuristics are excluded by their label alone."""
    if math.isnan(found.value) or found.value < 0:
        return f"{found.value} is no bound"
    if found.guarantee == "heuristic":
        return None
    if math.isinf(found.value):
        return None if found.guarantee == "upper" else "a lower bound is infinite"
    value, allowed = (
        Fraction(found.value),
        rounded + (CLAIMED if found.proof == "solver" else PROVEN),
    )
    below, above = known.at_least(value / (1 + allowed)), known.at_most(value / (1 - allowed))
    if found.guarantee == "exact":
        below, above = known.at_least(value / (1 + CLOSE)), known.at_most(value / (1 - CLOSE))
    right = {"lower": below, "upper": above, "exact": below and above}[found.guarantee]
    return None if right else f"{found.guarantee} {found.value!r} against {float(known)!r}"


def asked_of_estimators(number: int):
    """The soak's question of that number, and its keywords without those of solving."""
    asked = question(number)
    kept = ("input_norm", "output_norm", "functional")
    return asked, {name: asked.keywords[name] for name in kept if name in asked.keywords}


@pytest.mark.unwatched
@pytest.mark.parametrize("part", range(PARTS))
def test_guarantees_hold(part):
    problems, answered = [], 0
    for number in range(50_000 + part, 50_000 + PARTS * EACH, PARTS):
        asked, keywords = asked_of_estimators(number)
        network, known = to_network(asked.case.weights), asked.truth()
        rounded = Fraction(0) if {type(asked.alpha), type(asked.beta)} <= {str} else ROUNDED
        for name in estimators():
            if name in RARE and number // PARTS % 5:
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", RuntimeWarning)
                    found = lx.estimate(
                        network,
                        asked.domain,
                        name,
                        time_limit=10,
                        **keywords,
                        **CHEAP.get(name, {}),
                    )
            except (lx.UnsupportedEstimateError, lx.SolverUnavailableError):
                continue
            answered += 1
            if problem := wrong(found, known, rounded):
                problems.append(f"{name}: {problem}: {asked}")
    assert not problems, "\n".join(problems)
    assert answered > 6 * EACH


def test_what_is_there():
    entries = estimators()
    assert set(entries) >= {
        "sampling", "clever", "fastlip", "recurjac", "linear", "zonotope", "liplp", "seqlip",
        "seqlip-brute-force",
        "naive", "lipsdp", "lipsdp-layer", "eclipse", "eclipse-fast", "best-upper", "exact",
    }  # fmt: skip
    assert lx.estimator_names() == list(entries)
    for entry in entries.values():
        assert entry.about.endswith(".")
        assert entry.guarantee in ("lower", "heuristic", "upper", "exact")
        assert entry.scope in ("local", "global")
        assert entry.source
        assert entry.norms
        assert entry.networks
        # An option of a name that `estimate` has itself could not be given.
        assert not set(entry.options) & set(inspect.signature(lx.estimate).parameters)


# Estimators' ratios to the exact constant that public implementations and prototypes reach.
RATIOS = {
    ("linf", "linear"): (1.030, 1.089),
    ("linf", "recurjac"): (1.084, 1.165),
    ("linf", "fastlip"): (1.084, 1.490),
    ("linf", "fastlip interval"): (1.084, 1.490),
    ("linf", "liplp"): (1.035, 1.252),
    ("linf", "naive"): (1.985, 43.26),
    ("l2", "lipsdp"): (1.029, 4.347),
    ("l2", "lipsdp-layer"): (1.056, 4.984),
    ("l2", "eclipse-fast"): (1.057, 5.8),
    ("l2", "seqlip"): (1.040, 5.472),
    ("l2", "naive"): (1.134, 9.07),
    ("l1", "linear"): (1.000, 1.000),
}


@pytest.mark.parametrize("model", ["iris_4_5_5_3", "sd_10_15_10_3"])
@pytest.mark.skipif(
    not (SHARED_CASES / "expected.json").is_file(), reason="the networks of others are not here"
)
def test_published_ratios(model):
    entry = next(
        one
        for one in json.loads((SHARED_CASES / "expected.json").read_text())
        if one["model"] == f"{model}.onnx"
    )
    network = lx.load(SHARED_CASES / f"{model}.onnx")
    box = lx.Box(entry["lower"], entry["upper"])
    exact = {
        one["input_norm"]: one["value"]
        for one in entry["constants"]
        if one["input_norm"] == one["output_norm"]
    }
    for (name, words), ratios in RATIOS.items():
        method, *which = words.split()
        # The table's are global bounds; those here make use of the box unless there is none.
        domain = lx.Reals(box.dim) if method.startswith("lipsdp") else box
        found = lx.estimate(
            network,
            domain,
            method,
            input_norm=name,
            **({"preactivations": which[0]} if which else {}),
        )
        ratio = found.value / exact[name]
        assert ratio <= ratios[model.startswith("sd")] * 1.01, (name, method, ratio)
        assert ratio >= 1 - 1e-12
    sampled = lx.estimate(network, box, "sampling", samples=100_000)
    assert sampled.value / exact["linf"] >= (0.999, 0.95)[model.startswith("sd")]
    local = lx.estimate(network, box, "lipsdp", input_norm="l2")
    assert exact["l2"] * (1 - 1e-12) <= local.value <= exact["l2"] * 1.001


# --- Operator norms -------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "beta"), PAIRS)
def test_operator_norms_against_the_oracle(alpha, beta):
    hard = (alpha, beta) in {("linf", "l1"), ("linf", "l2"), ("l2", "l1")}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        matrix = rng.integers(-4, 5, (int(rng.integers(1, 5)), int(rng.integers(1, 5)))) / 1.0
        exact = tuple(tuple(map(Fraction, row)) for row in matrix.tolist())
        known = float(oracle.operator_norm(exact, alpha, beta))
        bodies = norm(beta).polar(len(matrix)), norm(alpha).ball(matrix.shape[1])
        for given_as in (matrix, sp.csr_array(matrix)):
            found = norms.operator_norm_upper(given_as, *bodies)
            assert known * (1 - 1e-15) <= found <= known * (1 + 1e-12) + 1e-300
            largest = norms.absolute_norm(abs(given_as), *bodies)
            assert largest >= known * (1 - 1e-15)
        # By relaxed signs, where the vertices would be too many.
        before, constants.MAX_NORM_VERTICES = constants.MAX_NORM_VERTICES, 0
        try:
            relaxed = norms.operator_norm_upper(matrix, *bodies)
        finally:
            constants.MAX_NORM_VERTICES = before
        assert known * (1 - 1e-15) <= relaxed
        if hard:
            assert relaxed <= known * 1.8 + 1e-300  # Grothendieck's constant


def test_of_absolute_values_it_is_the_norm_of_the_largest_matrix():
    rng = np.random.default_rng(0)
    for alpha, beta in PAIRS:
        matrix = rng.random((3, 4))
        bodies = norm(beta).polar(3), norm(alpha).ball(4)
        exact = tuple(tuple(map(Fraction, row)) for row in matrix.tolist())
        known = float(oracle.operator_norm(exact, alpha, beta))
        assert norms.absolute_norm(matrix, *bodies) == pytest.approx(known, rel=1e-12)


def test_reach_is_how_far_coordinates_go(monkeypatch):
    monkeypatch.setattr(constants, "MAX_DENSE_NUMBERS", 8)  # several parts
    for body in (Cube(5), CrossPolytope(5), EuclideanUnitBall(5)):
        np.testing.assert_allclose(norms.reach(body), np.ones(5))


# --- Products -------------------------------------------------------------------------------------


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


def masks(size):
    return np.array(np.meshgrid(*[[0.0, 1.0]] * size)).reshape(size, -1).T


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


# --- Semidefinite ---------------------------------------------------------------------------------


def one_system(weights) -> LureSystem:
    net = to_network(weights)
    return lure_system(net, all_open(net), 1000, "test")


@given(st.integers(0, 2**32), st.sampled_from([1e-6, 1e-2, 1.0, 1e2, 1e6]))
def test_whatever_the_multipliers_a_bound_that_they_prove_is_one(seed, size):
    rng = np.random.default_rng(seed)
    weights = random_weights(rng, (2, 3, 2, 2))
    system = one_system(weights)
    multipliers = (
        rng.normal(size=system.gates) * size * 10.0 ** rng.uniform(-2, 2, system.gates) + size
    )
    found = proven_bound(system, multipliers)
    known = max(
        np.linalg.norm(
            weights[2][0] @ (b[:, None] * weights[1][0]) @ (a[:, None] * weights[0][0]), 2
        )
        for a in masks(3)
        for b in masks(2)
    )
    assert found >= known * (1 - 1e-12)


def test_what_is_less_than_the_multipliers_prove_is_not_proven():
    system = one_system(random_weights(np.random.default_rng(1), (3, 4, 3, 2)))
    multipliers = np.array([300.0, 300.0, 300.0, 300.0, 9.0, 9.0, 9.0])
    rho = least_rho(system, multipliers)
    assert rho is not None
    assert bound_from_rho(system, multipliers, rho) == pytest.approx(math.sqrt(rho), rel=1e-6)
    assert bound_from_rho(system, multipliers, 0.99 * rho) == math.inf
    assert proven_bound(system, multipliers) == pytest.approx(math.sqrt(rho), rel=1e-6)


def test_multipliers_that_prove_nothing():
    system = one_system(random_weights(np.random.default_rng(0), (2, 3, 2)))
    for multipliers in (np.zeros(3), np.full(3, np.nan), np.full(3, np.inf), -np.ones(3)):
        assert proven_bound(system, multipliers) == math.inf


def test_positive_definite_is_proven_or_not():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(5, 5))
    definite = half @ half.T + np.eye(5)
    none = np.zeros((5, 5))
    assert positive_definite(definite, none)
    assert positive_definite(1e-200 * definite, none)
    assert not positive_definite(definite, np.full((5, 5), 100.0))
    assert not positive_definite(-definite, none)
    values, vectors = np.linalg.eigh(half @ half.T)
    values[0] = -1e-13 * values[-1]
    assert not positive_definite((vectors * values) @ vectors.T, none)
    singular = np.outer(half[0], half[0])
    assert not positive_definite(singular + singular.T, none)


def test_eclipse_fast_is_its_closed_form():
    (first, _), (last, _) = weights = random_weights(np.random.default_rng(2), (3, 6, 2))
    lam = 2 / np.linalg.norm(first, 2) ** 2
    x = lam * np.eye(6) - lam**2 / 4 * first @ first.T
    known = math.sqrt(np.linalg.eigvalsh(last @ np.linalg.solve(x, last.T))[-1])
    found = lx.estimate(to_network(weights), lx.Box.unit(3), "eclipse-fast", input_norm="l2")
    assert found.value == pytest.approx(known, rel=1e-6)
    full = lx.estimate(to_network(weights), lx.Box.unit(3), "eclipse", input_norm="l2")
    layer, neuron = (
        lx.estimate(to_network(weights), lx.Reals(3), name, input_norm="l2")
        for name in ("lipsdp-layer", "lipsdp")
    )
    # With one hidden layer ECLipsE is LipSDP, and its fast form the best single multiplier.
    assert full.value == pytest.approx(neuron.value, rel=1e-4)
    assert neuron.value <= layer.value * (1 + 1e-6) <= found.value * (1 + 1e-5)


def test_lipsdp_uses_the_gates_that_the_domain_settles():
    net = to_network(random_weights(np.random.default_rng(5), (4, 8, 6, 2)))
    ball = lx.Ball([0.3] * 4, 0.05)
    everywhere, local = (
        lx.estimate(net, where, "lipsdp", input_norm="l2").value for where in (lx.Reals(4), ball)
    )
    exact = lx.lipschitz(net, ball, input_norm="l2").value
    assert exact * (1 - 1e-9) <= local < 0.9 * everywhere
    assert lx.estimate(
        net, lx.Ball([0.3] * 4, 1e-6), "lipsdp", input_norm="l2"
    ).value == pytest.approx(np.linalg.norm(net.jacobian([0.3] * 4), 2), rel=1e-9)


def test_lipsdp_of_many_inputs_is_that_of_the_few_directions_that_count():
    (first, bias), *rest = random_weights(np.random.default_rng(8), (2, 5, 2))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(30, 2)))[0].T  # orthonormal rows
    narrow = lx.estimate(to_network([(first, bias), *rest]), lx.Reals(2), "lipsdp", input_norm="l2")
    wide = lx.estimate(
        to_network([(first @ turn, bias), *rest]), lx.Reals(30), "lipsdp", input_norm="l2"
    )
    assert wide.value == pytest.approx(narrow.value, rel=1e-5)


def test_blocks_are_pairs_of_layers_where_there_are_no_branches():
    system = one_system(random_weights(np.random.default_rng(0), (9, 4, 5, 3, 2)))
    assert block_sizes(system) == [9 + 4, 4 + 5, 5 + 3]
    net = lx.load(EXAMPLES / "digits_residual_8x8.onnx")
    whole = lure_system(net, all_open(net), 1000, "test")
    assert block_sizes(whole) == [64 + whole.gates]


def test_where_clarabel_fails_the_product_of_norms_is_left(monkeypatch):
    net = to_network(random_weights(np.random.default_rng(9), (3, 5, 2)))
    monkeypatch.setattr(semidefinite_programs, "solve_program", lambda *_: "it broke down")
    found = lx.estimate(net, lx.Reals(3), "lipsdp", input_norm="l2")
    assert found.value == lx.estimate(net, lx.Reals(3), "naive", input_norm="l2").value
    assert "no bound" in found.details["message"]
    assert found.details["solver_status"] == ["it broke down"]


# --- Propagation ----------------------------------------------------------------------------------


def test_chords_are_closer_than_constants_and_these_than_intervals():
    net = to_network(random_weights(np.random.default_rng(11), (6, 12, 12, 12, 1)))
    ball = lx.Ball([0.1] * 6, 0.1)
    exact = lx.lipschitz(net, ball).value
    linear, recurjac, fastlip = (
        lx.estimate(net, ball, name).value for name in ("linear", "recurjac", "fastlip")
    )
    assert exact * (1 - 1e-12) <= linear < 0.99 * recurjac < 0.98 * fastlip
    # Of the largest entry there is no sum that chords are joined in: what is closer are they.
    chords, constants = (
        lx.estimate(net, ball, name, input_norm="l1").value for name in ("linear", "recurjac")
    )
    assert chords < 0.995 * constants
    wide = lx.estimate(net, ball, "fastlip", preactivations="interval").value
    assert fastlip < wide


# --- Samples --------------------------------------------------------------------------------------


def test_sampling_evaluates_jacobians_at_its_points():
    case_ = case("general", 3)
    net, box = to_network(case_.weights), lx.Box(case_.lower, case_.upper)
    found = lx.estimate(net, box, "sampling", samples=2000, input_norm="l2", functional=0)
    points = box.sample(np.random.default_rng(0), 2000)
    known = np.linalg.norm(net.jacobian(points)[:, 0, :], axis=1).max()
    assert found.value == pytest.approx(known, rel=1e-12)
    assert found.details == {"samples": 2000}
    climbed = lx.estimate(
        net, box, "sampling", samples=10, input_norm="l2", functional=0, ascent=True
    )
    exact = lx.lipschitz(net, box, input_norm="l2", functional=0).value
    assert (
        lx.estimate(net, box, "sampling", samples=10, input_norm="l2", functional=0).value
        <= climbed.value
    )
    assert climbed.value == pytest.approx(exact, rel=1e-9)


def test_sampling_where_every_point_is_near_a_kink():
    net = to_network([([[1e-300], [-1e-300]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    found = lx.estimate(net, lx.Box([-1.0], [1.0]), "sampling", samples=10)
    assert 0 <= found.value <= 1e-300


def test_the_end_of_a_weibull_distribution():
    import scipy.stats

    rng = np.random.default_rng(1)
    drawn = 10 - scipy.stats.weibull_min.rvs(3.0, scale=2.0, size=2000, random_state=rng)
    end, details = weibull_end(drawn)
    assert end == pytest.approx(10, abs=0.3)
    assert details["p_value"] > 0.01
    flat, told = weibull_end(np.full(50, 3.0))
    assert flat == 3.0
    assert told["p_value"] is None
    # Two values only, as of few linear regions: no such distribution has them.
    two, told = weibull_end(np.repeat([1.0, 2.0], 200))
    assert two == 2.0
    assert "no credible fit" in told["fit"]


def test_clever_stays_between_its_samples_and_the_certified_bound(monkeypatch):
    from lipexact.estimators import clever

    net = to_network(random_weights(np.random.default_rng(2), (3, 8, 8, 1)))
    box = lx.Box([-1.0] * 3, [1.0] * 3)
    for end, where in ((1e9, "ceiling"), (0.0, "largest_sample")):
        monkeypatch.setattr(clever, "weibull_end", lambda _, end=end: (end, {}))
        found = lx.estimate(net, box, "clever", batches=5, samples=20)
        assert found.value == found.details[where]
        assert found.guarantee == "heuristic"
    exact = lx.lipschitz(net, box).value
    assert found.details["lower"] <= exact <= found.details["ceiling"]
    assert found.details["lower"] == pytest.approx(found.details["largest_sample"], rel=1e-9)


# --- Networks beyond chains -----------------------------------------------------------------------


def test_convolutions_and_residual_connections():
    net = lx.load(EXAMPLES / "digits_residual_8x8.onnx")
    ball = lx.Ball([0.5] * 64, 0.01, clip=(0, 1))
    question = {"input_norm": "l2", "functional": [0.0, 1.0, *[0.0] * 5, -1.0, 0.0, 0.0]}
    exact = lx.estimate(net, ball, "exact", **question)
    assert exact.guarantee == "exact"
    for name, entry in estimators().items():
        if name in ("exact", "best-upper"):
            continue
        try:
            found = lx.estimate(net, ball, name, **question, **CHEAP.get(name, {}))
        except lx.UnsupportedEstimateError:
            assert entry.networks.startswith(registry.CHAINS)
            with pytest.raises(lx.UnsupportedEstimateError, match="branches"):
                lx.estimate(net, ball, name, **question)
            continue
        except lx.SolverUnavailableError:
            assert name == "liplp"
            continue
        if entry.guarantee == "lower":
            assert found.value <= exact.value * (1 + 1e-9)
        elif entry.guarantee == "upper":
            assert found.value >= exact.value * (1 - 1e-9)
    assert found.method == "zonotope"


@pytest.mark.unwatched
@pytest.mark.parametrize("start", range(8))
def test_every_operator(start):
    """The examples of all ONNX operators: branches, maxima, and networks without a gate."""
    examples = all_examples()
    for number in range(start, len(examples), 8):
        network = lx.load(examples[number].model())
        box = lx.Box(np.full(network.input.size, -1.0), np.full(network.input.size, 1.5))
        functional = np.cos(np.arange(network.output.size))
        question_ = {"input_norm": ("linf", "l2", "l1")[number % 3], "functional": functional}
        least = lx.estimate(network, box, "sampling", samples=50, ascent=True, **question_).value
        for name in (
            "naive",
            "recurjac",
            "fastlip",
            "lipsdp",
            "seqlip-brute-force",
            "eclipse-fast",
        ):
            try:
                found = lx.estimate(network, box, name, **question_)
            except lx.UnsupportedEstimateError:
                continue
            assert found.value >= least * (1 - 1e-12), (examples[number], name)


def test_groupsort_and_maxima():
    net = lx.load(EXAMPLES / "wine_groupsort_13_16_16_3.onnx")
    ball = lx.Ball([0.5] * 13, 0.05)
    exact = lx.lipschitz(net, ball, input_norm="l2", functional=[1.0, -1.0, 0.0]).value
    for name in ("naive", "lipsdp", "linear", "recurjac"):
        assert lx.estimate(
            net, ball, name, input_norm="l2", functional=[1.0, -1.0, 0.0]
        ).value >= exact * (1 - 1e-9)


# --- The call -------------------------------------------------------------------------------------

NET = to_network(random_weights(np.random.default_rng(0), (2, 4, 3)))
BOX = lx.Box.unit(2)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"method": "magic"}, lx.OptionError, "no estimator"),
        ({"method": 3}, lx.OptionError, "no estimator"),
        (
            {"method": "fastlip", "samples": 3},
            lx.OptionError,
            "no option 'samples'.*preactivations",
        ),
        ({"method": "fastlip", "preactivations": "magic"}, lx.OptionError, "none of"),
        ({"method": "sampling", "samples": 0}, lx.OptionError, "samples must be"),
        ({"method": "sampling", "samples": True}, lx.OptionError, "samples must be"),
        ({"method": "sampling", "seed": -1}, lx.OptionError, "seed must be"),
        ({"method": "sampling", "ascent": 1}, lx.OptionError, "ascent must be"),
        ({"method": "clever", "batches": 1.5}, lx.OptionError, "batches must be"),
        ({"method": "liplp", "mode": "both"}, lx.OptionError, "none of"),
        ({"method": "liplp", "solver": ["highs"]}, lx.OptionError, "must be a name"),
        (
            {"method": "fastlip", "preactivations": ["linear", "interval"]},
            lx.OptionError,
            "none of",
        ),
        ({"method": "liplp", "solver": "magic"}, lx.OptionError, "unknown solver"),
        ({"method": "linear", "time_limit": 0}, lx.OptionError, "positive number of seconds"),
        ({"method": "linear", "input_norm": "l3"}, lx.NormError, "unknown norm"),
        ({"method": "linear", "functional": 9}, lx.NormError, "names no output"),
        ({"method": "linear", "functional": 0, "output_norm": "l1"}, lx.NormError, "leave it out"),
        ({"method": "lipsdp"}, lx.UnsupportedEstimateError, "input norm must be l2"),
        (
            {"method": "eclipse", "input_norm": "l1"},
            lx.UnsupportedEstimateError,
            "input norm must be l2",
        ),
        (
            {"method": "seqlip", "input_norm": "linf", "output_norm": "l2"},
            lx.UnsupportedEstimateError,
            "l2",
        ),
        (
            {"method": "zonotope", "input_norm": "l2"},
            lx.UnsupportedEstimateError,
            "few vertices|64 vertices",
        ),
    ],
)
def test_what_is_refused(options, error, text):
    with pytest.raises(error, match=text):
        lx.estimate(NET, BOX, **options)


def test_sizes_that_are_refused(monkeypatch):
    wide = to_network(random_weights(np.random.default_rng(0), (2, 200, 1)))
    with pytest.raises(lx.UnsupportedEstimateError, match="200 open gates"):
        lx.estimate(wide, lx.Reals(2), "lipsdp", input_norm="l2")
    with pytest.raises(lx.UnsupportedEstimateError, match="eclipse-fast"):
        lx.estimate(wide, lx.Reals(2), "eclipse", input_norm="l2")
    some = to_network(random_weights(np.random.default_rng(0), (2, 50, 1)))
    with pytest.raises(lx.UnsupportedEstimateError, match="50 open gates, too long"):
        lx.estimate(some, lx.Reals(2), "lipsdp", input_norm="l2", time_limit=0.1)
    late = lx.estimate(some, lx.Reals(2), "eclipse", input_norm="l2", time_limit=0.1).value
    assert late == pytest.approx(
        lx.estimate(some, lx.Reals(2), "eclipse-fast", input_norm="l2").value
    )
    with pytest.raises(lx.UnsupportedEstimateError, match="all patterns of a layer"):
        lx.estimate(wide, lx.Reals(2), "seqlip-brute-force", input_norm="l2")
    monkeypatch.setattr(constants, "MAX_PROOF_SIZE", 100)
    with pytest.raises(lx.UnsupportedEstimateError, match="up to 100 together"):
        lx.estimate(wide, lx.Reals(2), "eclipse-fast", input_norm="l2")
    outputs = to_network(random_weights(np.random.default_rng(0), (2, 3, 20)))
    with pytest.raises(lx.UnsupportedEstimateError, match="at most 16"):
        lx.estimate(outputs, lx.Reals(2), "lipsdp", input_norm="l2", output_norm="linf")


@pytest.mark.parametrize(
    "sizes", [(1e160, 1.0), (1.0, 1e160), (1e-160, 1.0), (1e-160, 1e160), (1e80, 1e80)]
)
def test_squares_that_overflow_or_underflow(sizes):
    first, last = sizes
    net = to_network([([[first], [-first / 2]], [0, first / 3]), ([[last, last]], [0])])
    known = lx.lipschitz(net, lx.Box([-1], [1])).value
    for name in (
        "lipsdp",
        "lipsdp-layer",
        "eclipse",
        "eclipse-fast",
        "seqlip-brute-force",
        "naive",
        "best-upper",
    ):
        found = lx.estimate(net, lx.Box([-1], [1]), name, input_norm="l2").value
        assert known * (1 - 1e-12) <= found <= max(3 * known, 1e-157), (
            name,
            found,
        )  # the root of TINY


@pytest.mark.parametrize("size", [1e160, 1e250])
def test_numbers_that_overflow_are_no_bounds(size):
    weights = [
        (weight * size, bias)
        for weight, bias in random_weights(np.random.default_rng(0), (2, 3, 3, 2))
    ]
    net = to_network(weights)
    for pair in (("linf", "linf"), ("l2", "l2"), ("l1", "l2")):
        for name in lx.estimator_names():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", RuntimeWarning)
                    keywords = {
                        "input_norm": pair[0],
                        "output_norm": pair[1],
                        **CHEAP.get(name, {}),
                    }
                    found = lx.estimate(net, BOX, name, time_limit=5, **keywords)
            except lx.LipExactError:
                continue
            assert found.guarantee in ("lower", "heuristic") or found.value > 1e300, (name, found)


def test_many_functionals_are_bounded_by_the_entries():
    net = to_network(
        random_weights(np.random.default_rng(0), (2, 4, 9))
    )  # 256 signs for the norm l1
    exact = lx.lipschitz(net, BOX, input_norm="l1").value
    for name in ("fastlip", "recurjac", "linear"):
        found = lx.estimate(net, BOX, name, input_norm="l1").value
        assert exact * (1 - 1e-12) <= found <= 2 * exact


def test_without_cvxpy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cvxpy", None)
    with pytest.raises(lx.SolverUnavailableError, match=r"lipexact\[sdp\]"):
        lx.estimate(NET, BOX, "lipsdp", input_norm="l2")
    found = lx.estimate(NET, BOX, input_norm="l2")  # the others do
    assert "lipsdp" in found.details["refused"]


def test_an_estimate_as_json():
    for name in lx.estimator_names():
        found = (
            lx.estimate(NET, BOX, name, functional=0, **CHEAP.get(name, {}))
            if name in RARE
            else None
        )
        if found is not None:
            again = json.loads(found.to_json())
            assert (again["method"], again["value"], again["guarantee"]) == (
                name,
                found.value,
                found.guarantee,
            )
    assert "value" in repr(found)


def test_the_best_upper_bound_is_the_least():
    for pair in (("linf", "linf"), ("l2", "l2")):
        keywords = {"input_norm": pair[0], "output_norm": pair[1]}
        found = lx.estimate(NET, BOX, **keywords)
        least = min(
            lx.estimate(NET, BOX, name, **keywords).value
            for name in found.details["upper_bounds"]
            if name != "liplp"
        )
        assert found.value <= least
        assert found.value == found.details["upper_bounds"][found.details["best"]]
    assert found.method == "best-upper"


def test_time_limits_are_kept():
    net = to_network(random_weights(np.random.default_rng(0), (20, 60, 60, 60, 10)))
    box = lx.Box([-1.0] * 20, [1.0] * 20)
    for name in ("best-upper", "sampling", "clever", "linear"):
        start = time.perf_counter()
        found = lx.estimate(net, box, name, time_limit=0.1)
        assert time.perf_counter() - start < 20  # a rail, not a measurement
        assert math.isfinite(found.value)
    assert lx.estimate(net, box, "exact", time_limit=0.1).guarantee == "upper"
    few = lx.estimate(net, box, "sampling", time_limit=1e-6)
    assert 0 < few.details["samples"] < 100_000


# --- Comparisons ----------------------------------------------------------------------------------


def test_a_comparison():
    seen = []
    found = lx.compare(
        NET,
        BOX,
        ["sampling", "fastlip", "lipsdp", "exact"],
        functional=0,
        options={"sampling": {"samples": 10}},
        progress=seen.append,
    )
    assert seen == ["sampling", "fastlip", "lipsdp", "exact"]
    assert found.closed
    exact = lx.lipschitz(NET, BOX, functional=0).value
    assert found.upper == pytest.approx(exact, rel=1e-9)
    for row in found.rows:
        if row.estimate is None:
            assert row.method == "lipsdp"
            assert "l2" in row.reason
            assert row.errors is None
            assert row.guarantee == "upper"
        else:
            assert row.errors[1] == pytest.approx(abs(row.estimate.value / exact - 1), abs=1e-8)
            assert row.error == row.errors[1]
    assert found["sampling"].estimate.details == {"samples": 10}
    with pytest.raises(KeyError, match="naive"):
        found["naive"]
    told = f"lower={found.lower!r}, upper={found.upper!r}"
    assert repr(found) == f"Comparison(sampling, fastlip, lipsdp, exact; {told})"
    table = found.to_markdown().splitlines()
    assert len({line.count("|") for line in table[:6]}) == 1
    assert [line.split(" | ")[0].strip("| ") for line in table[2:6]] == seen
    assert table[-1].startswith("* lipsdp: ")
    again = json.loads(found.to_json())
    assert [row["method"] for row in again["rows"]] == seen
    assert again["closed"] is True
    from rich.console import Console

    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(found.to_rich())
    text = console.export_text()
    assert all(name in text for name in seen)
    console.file.close()


def test_a_comparison_says_which_bounds_contradict_each_other(monkeypatch):
    from lipexact.estimators import compare

    honest = compare.estimate

    def lying(model, domain, method, **options):
        found = honest(model, domain, method, **options)
        return dataclasses.replace(found, value=found.value / 9) if method == "naive" else found

    assert lx.compare(NET, BOX, ["naive", "exact"]).notes == []
    monkeypatch.setattr(compare, "estimate", lying)
    (note,) = lx.compare(NET, BOX, ["naive", "exact"]).notes
    assert note.startswith("naive: below what is attained")


def test_a_comparison_without_the_exact_constant():
    found = lx.compare(
        NET,
        BOX,
        ["sampling", "naive", "seqlip"],
        input_norm="l2",
        options={"sampling": {"samples": 5}},
    )
    exact = lx.lipschitz(NET, BOX, input_norm="l2").value
    assert found.lower <= exact <= found.upper
    assert not found.closed
    assert "in [" in found.to_markdown()
    for row in found.rows:
        least, most = row.errors
        assert least <= abs(row.estimate.value / exact - 1) <= most * (1 + 1e-12)
    alone = lx.compare(NET, BOX, ["naive"])
    assert alone.rows[0].errors[1] == math.inf
    assert alone.to_dict()["rows"][0]["relative_errors"][1] == "inf"
    only_lower = lx.compare(NET, BOX, ["sampling"], options={"sampling": {"samples": 5}})
    assert only_lower.upper == math.inf
    assert only_lower.to_dict()["upper"] == "inf"


def test_a_plot_of_a_comparison():
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    ax = lx.compare(NET, BOX, ["fastlip", "naive", "exact"]).plot()
    assert "relative error" in ax.get_ylabel()
    plt.close(ax.figure)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"methods": "fastlip"}, "list of estimators"),
        ({"methods": 3}, "list of estimators"),
        ({"methods": []}, "at least one"),
        ({"methods": ["magic"]}, "no estimator"),
        ({"methods": ["fastlip"], "options": {"naive": {}}}, "not among the methods"),
        ({"methods": ["fastlip"], "options": {"fastlip": {"magic": 1}}}, "no option"),
        ({"methods": ["fastlip"], "progress": True}, "must be a function"),
        ({"methods": [["fastlip"]]}, "no estimator"),
        ({"methods": ["fastlip"], "options": [1]}, "dictionary of dictionaries"),
        ({"methods": ["fastlip"], "options": {"fastlip": 5}}, "dictionary of dictionaries"),
        ({"methods": ["fastlip"], "options": {"fastlip": {"input_norm": "l1"}}}, "no option"),
        ({"methods": ["fastlip"], "options": {"fastlip": {3: 3}}}, "no option"),
        ({"methods": ["fastlip"], "time_limit": -1}, "positive number"),
    ],
)
def test_comparisons_that_are_refused(options, text):
    with pytest.raises(lx.OptionError, match=text):
        lx.compare(NET, BOX, **options)


def test_a_comparison_refuses_a_wrong_question_at_once():
    with pytest.raises(lx.DomainError):
        lx.compare(NET, lx.Box.unit(3), ["fastlip"])
    with pytest.raises(lx.NormError):
        lx.compare(NET, BOX, ["fastlip"], input_norm="l3")


def test_requests_and_outputs_are_plain():
    assert EstimatorOutput(1.0).proof == "float"
    request = EstimateRequest(NET, BOX, Cube(3), Cube(2), {})
    assert request.seconds_left is None
    assert not request.over
    assert sorted(FAMILIES)  # the soak's families stand behind the numbers above


def test_an_entry_must_say_what_it_promises(monkeypatch):
    facts = {"norms": "all", "networks": "all", "source": "here"}
    for promise in (("above", "local"), ("upper", "everywhere")):
        with pytest.raises(lx.OptionError, match="of the estimator 'odd' is none of"):
            estimator("odd", *promise, **facts)
    with pytest.raises(lx.OptionError, match="best_upper_rank must be an upper bound"):
        estimator("odd", "lower", "local", best_upper_rank=1, **facts)
    assert "odd" not in lx.estimator_names()
    monkeypatch.setitem(
        registry._ESTIMATORS,
        "number",
        dataclasses.replace(registry.find("naive"), run=lambda _: 3.0),
    )
    with pytest.raises(lx.OptionError, match=r"must return an EstimatorOutput, not 3\.0"):
        lx.estimate(to_network([(np.eye(2), np.zeros(2))]), lx.Box.unit(2), "number")


NEW_FILE = """
from lipexact.estimators.registry import (
    ALL_NETWORKS, ALL_NORMS, EstimateRequest, EstimatorOutput, estimator
)

@estimator(
    "nothing-is-smaller", "upper", "global", norms=ALL_NORMS, networks=ALL_NETWORKS, source="here",
    best_upper_rank=1,
)
def nothing_is_smaller(request: EstimateRequest) -> EstimatorOutput:
    "Say 2e-9."
    return EstimatorOutput(2e-9)
"""


def test_a_new_estimator_is_one_new_file(tmp_path, monkeypatch):
    """It is found without a list, and "best-upper" tries it in its place."""
    (tmp_path / "new_file.py").write_text(NEW_FILE)
    monkeypatch.setattr(registry, "_ESTIMATORS", dict(registry._ESTIMATORS))
    monkeypatch.setattr(
        lipexact.estimators, "__path__", [*lipexact.estimators.__path__, str(tmp_path)]
    )
    lipexact.estimators.discover()
    try:
        assert "nothing-is-smaller" in lx.estimator_names()
        names = [entry.name for entry in registry.ranked_upper_bounds()]
        assert names[:2] == ["nothing-is-smaller", "linear"]
        best = lx.estimate(NET, BOX)
        assert (best.value, best.details["best"]) == (2e-9, "nothing-is-smaller")
    finally:
        sys.modules.pop("lipexact.estimators.new_file", None)


@pytest.mark.parametrize(
    ("old", "new"), [("Question", EstimateRequest), ("Answer", EstimatorOutput)]
)
def test_former_names_are_deprecated(old, new):
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new.__name__}"):
        assert getattr(registry, old) is new
    with pytest.raises(AttributeError, match="Anything"):
        registry.Anything  # noqa: B018
