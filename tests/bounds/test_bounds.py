"""Bounds of every node: they hold in exact arithmetic, are exact where theory says so, and do
not get worse.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lipexact.bounds.crown import SwitchLines, bound_nodes
from lipexact.bounds.interval import Bounds, gate_state, interval, length_bound, point_bounds
from lipexact.graph import lowering as lower
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch
from lipexact.graph.lowering import relu, scaled
from lipexact.network import Network, network
from lipexact.numerics.arrays import dense
from lipexact.numerics.rounding import down, gamma, up
from lipexact.onnx.reader import read_onnx
from lipexact.problem.problem import Problem, lipschitz_problem
from lipexact.sets.convex import ConvexSet, EuclideanBall, Simplex
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Box
from lipexact.sets.functionals import Functional, functional_set
from lipexact.sets.norms import norm
from tests.support import oracle
from tests.support.graphs import (
    Numbers,
    evaluate_exactly,
    gaussian,
    integers,
    random_network,
)
from tests.support.networks import (
    CUTS,
    FAMILIES,
    case,
    cut_domain,
    halfspaces_of,
    random_weights,
    to_network,
)
from tests.support.paths import EXAMPLES

MODES = ("forward", "reverse")
NORMS = ("linf", "l1")
ALL_NORMS = (*NORMS, "l2")
WAYS = [(mode, alpha) for mode in MODES for alpha in NORMS]
EXAMPLE = EXAMPLES / "wine_13_16_16_3.onnx"


def stated(
    net: Network,
    domain: Domain,
    functional: Functional,
    alpha: str,
    mode: str,
    beta: str = "linf",
    *,
    keep_output: bool = False,
) -> Problem:
    """The problem of a functional, or of the whole output from one norm to another."""
    functionals = functional_set(functional, beta, net.output.size)
    directions = norm(alpha).ball(net.input.size)
    problem = lipschitz_problem(net, domain, functionals, directions, mode, keep_output=keep_output)  # type: ignore[arg-type]
    assert problem is not None
    return problem


def upper_bound(problem: Problem) -> float:
    """What the bounds say of the constant."""
    return length_bound(bound_nodes(problem.graph, problem.sets)[problem.objective])


def states(bounds: Bounds, gate: Conditional) -> list[float | None]:
    return [None if np.isnan(state) else float(state) for state in gate_state(gate, bounds)]


# --- Random networks and their evaluation ---------------------------------------------------------


def ill_conditioned(rng: np.random.Generator) -> Numbers:
    """Sizes from 1e-8 to 1e8."""
    return lambda *shape: rng.normal(size=shape) * 10.0 ** rng.uniform(-8, 8, shape)


def cancelling(rng: np.random.Generator) -> Numbers:
    """Entries that come in pairs of opposite sign, equal but for the last bits."""

    def numbers(*shape: int) -> np.ndarray:
        entries = rng.normal(size=shape) * 1e3
        half = shape[-1] // 2
        bits = rng.integers(-2, 3, (*shape[:-1], half)) * 1e-15
        entries[..., half : 2 * half] = -entries[..., :half] * (1 + bits)
        return entries

    return numbers


KINDS = (gaussian, integers, ill_conditioned, cancelling)


def random_box(rng: np.random.Generator, inputs: int, kind: Any) -> Box:
    if kind is integers:
        low = rng.integers(-2, 2, inputs).astype(np.float64)
        return Box(low, low + rng.integers(1, 3, inputs))
    low = rng.normal(size=inputs)
    return Box(low, low + 10.0 ** rng.uniform(-6, 1, inputs))


def random_domain(rng: np.random.Generator, inputs: int, kind: Any) -> Domain:
    """A box, or one of the sets that are none, all numbers dyadic where those of the kind are
    whole.
    """
    box = random_box(rng, inputs, kind)
    if rng.random() < 0.4:
        return box
    return cut_domain(
        str(rng.choice(CUTS)),
        box.lower,
        box.upper,
        2 * int(rng.integers(1000)) + (kind is not integers),
    )


def contains(domain: Domain, point: np.ndarray) -> bool:
    """Whether a point is in the domain, in rationals."""
    x = [Fraction(entry) for entry in point.tolist()]
    corners = zip(domain.lower.tolist(), x, domain.upper.tolist(), strict=True)
    return all(low <= entry <= high for low, entry, high in corners) and all(
        sum((Fraction(a) * entry for a, entry in zip(row, x, strict=True)), Fraction(0))
        <= Fraction(limit)
        for row, limit in halfspaces_of(domain)
    )


def points_of(
    rng: np.random.Generator, which: ConvexSet, count: int, kind: Any = gaussian
) -> np.ndarray:
    """Points of a set: its corners, whole numbers if the kind is, and points in between."""
    if isinstance(which, EuclideanBall):
        steps = rng.normal(size=(count, which.dim))
        size = np.where(rng.random((count, 1)) < 0.5, 1 - 1e-15, rng.random((count, 1)))
        return steps / np.linalg.norm(steps, axis=1, keepdims=True) * size * (1 - 1e-15)
    if isinstance(which, Domain) and not which.is_box:
        inner, corners = which.sample(rng, count), which.extremes(rng, count)
        points = np.where(rng.random((count, 1)) < 0.5, corners, inner)
        if kind is integers:
            rounded = np.round(points)
            points = np.where([[contains(which, point)] for point in rounded], rounded, points)
        return points
    if isinstance(which, Domain):
        inner = which.lower + rng.random((count, which.dim)) * (which.upper - which.lower)
        inner = np.clip(inner, which.lower, which.upper)
        corners = np.where(rng.random((count, which.dim)) < 0.5, which.lower, which.upper)
        points = np.where(rng.random((count, 1)) < 0.5, corners, inner)
        return np.round(points) if kind is integers else points
    # Parts with a sum of at most 1, in dyadic numbers so that the sum is exact.
    assert isinstance(which, Simplex)
    cuts = np.sort(rng.integers(0, 1025, (count, which.dim)), axis=1) / 1024.0
    parts = np.diff(cuts, axis=1, prepend=0.0)
    return np.where(
        rng.random((count, 1)) < 0.5, parts, np.eye(which.dim)[rng.integers(which.dim, size=count)]
    )


def assert_contains(bounds: Bounds, values: Mapping[Node, list[Fraction]]) -> None:
    for node, value in values.items():
        low, high = bounds[node]
        for i, entry in enumerate(value):
            assert Fraction(low[i]) <= entry <= Fraction(high[i]), (
                node,
                i,
                low[i],
                float(entry),
                high[i],
            )


def interval_bounds(graph: Graph, sets: Mapping[Input, ConvexSet]) -> Bounds:
    bounds: Bounds = {}
    for node in graph.nodes:
        bounds[node] = (
            (sets[node].lower, sets[node].upper)
            if isinstance(node, Input)
            else interval(node, bounds)
        )
    return bounds


def both(rng: np.random.Generator, net: Network, domain: Domain) -> list[Problem]:
    """The network's problem in both modes, with f(x) among the outputs: of a functional, some,
    or a whole output.
    """
    functional = [rng.normal(size=net.output.size), rng.normal(size=(3, net.output.size)), None][
        int(rng.integers(3))
    ]
    alpha, beta = (str(name) for name in rng.choice(ALL_NORMS, 2))
    return [stated(net, domain, functional, alpha, mode, beta, keep_output=True) for mode in MODES]


def check_exactly(rng: np.random.Generator, problem: Problem, kind: Any, count: int) -> None:
    """Rational values of every node, the derivative's included, are within intervals and linear
    bounds.

    A gate at 0 may be on or off, but where the bounds decide it.
    """
    linear, coarse = (
        bound_nodes(problem.graph, problem.sets),
        interval_bounds(problem.graph, problem.sets),
    )
    drawn = {node: points_of(rng, which, count, kind) for node, which in problem.sets.items()}
    assert all(contains(problem.domain, point) for point in drawn[problem.point])
    for k in range(count):
        inputs = {node: points[k] for node, points in drawn.items()}
        for bounds in (linear, coarse):

            def gate(node: Conditional, i: int, bounds: Bounds = bounds) -> int:
                state = gate_state(node, bounds)[i]
                return int(rng.integers(2)) if np.isnan(state) else int(state)

            assert_contains(bounds, evaluate_exactly(problem.graph, inputs, gate))


def check_in_batch(rng: np.random.Generator, problem: Problem, count: int) -> int:
    """Floating-point values of every node at many points, with room for their own rounding."""
    bounds = bound_nodes(problem.graph, problem.sets)
    values: dict[Node, np.ndarray] = {
        node: points_of(rng, which, count) for node, which in problem.sets.items()
    }
    sizes = {node: np.abs(points) for node, points in values.items()}
    for node in problem.graph.nodes:
        match node:
            case Affine():
                values[node] = node.bias + sum(
                    (dense(w @ values[x].T).T for w, x in node.terms), np.zeros((count, 1))
                )
                sizes[node] = abs(node.bias) + sum(
                    (dense(abs(w) @ sizes[x].T).T for w, x in node.terms), 0.0
                )
            case Conditional():
                values[node], sizes[node] = (values[node.x] > 0) * 1.0, np.zeros(1)
            case Switch():
                values[node], sizes[node] = values[node.x] * values[node.gate], sizes[node.x]
        low, high = bounds[node]
        if isinstance(node, Conditional):
            # Rounding may turn a gate that the bounds decide; its switch is off by rounding then,
            # too.
            wrong = (values[node] < low) | (values[node] > high)
            assert (
                np.abs(values[node.x])[wrong]
                <= 1e-11 * np.broadcast_to(sizes[node.x], wrong.shape)[wrong]
            ).all()
            values[node] = np.clip(values[node], low, high)
            continue
        room = 1e-11 * sizes[node]
        assert (values[node] >= low - room).all(), node
        assert (values[node] <= high + room).all(), node
    return count


# --- Soundness ------------------------------------------------------------------------------------


@pytest.mark.unwatched
@pytest.mark.parametrize("seed", range(4))
def test_bounds_contain_thousands_of_networks_and_points(seed):
    rng = np.random.default_rng(seed)
    seen = 0
    for _ in range(45):
        net = random_network(
            rng, gaussian(rng), int(rng.integers(2, 10)), int(rng.integers(1, 5)), width=8
        )
        for problem in both(rng, net, random_domain(rng, net.input.size, gaussian)):
            seen += check_in_batch(rng, problem, 200)
    assert seen == 18_000


@pytest.mark.unwatched
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(KINDS),
    steps=st.integers(0, 9),
    inputs=st.integers(1, 4),
    width=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_bounds_contain_exact_values_with_gates_chosen_freely_at_kinks(
    kind, steps, inputs, width, seed
):
    rng = np.random.default_rng(seed)
    net = random_network(rng, kind(rng), steps, inputs, width)
    for problem in both(rng, net, random_domain(rng, inputs, kind)):
        check_exactly(rng, problem, kind, count=3)


@pytest.mark.unwatched
@pytest.mark.parametrize("family", FAMILIES)
def test_bounds_contain_exact_values_on_every_family(family):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        weights, low, high = case(family, seed)
        for domain in (Box(low, high), cut_domain(CUTS[seed], low, high, seed)):
            for problem in both(rng, to_network(weights), domain):
                check_exactly(
                    rng, problem, integers if family == "small_integers" else gaussian, count=3
                )


def test_gates_may_be_chosen_freely_where_many_kinks_meet():
    # All of 6 kinks pass through 0, so each of the 64 choices of gates is one that a program may
    # make there.
    rng = np.random.default_rng(0)
    weights = [(rng.normal(size=(6, 2)), np.zeros(6)), (rng.normal(size=(1, 6)), np.zeros(1))]
    for mode, alpha in WAYS:
        problem = stated(to_network(weights), Box(-np.ones(2), np.ones(2)), np.ones(1), alpha, mode)
        bounds = bound_nodes(problem.graph, problem.sets)
        own = problem.gates[0]
        for states in itertools.product((0, 1), repeat=6):
            inputs = {node: points_of(rng, which, 1)[0] for node, which in problem.sets.items()}
            inputs[problem.point] = np.zeros(2)
            values = evaluate_exactly(
                problem.graph, inputs, lambda node, i, s=states, g=own: s[i] if node is g else 0
            )
            assert_contains(bounds, values)


@pytest.mark.unwatched
@pytest.mark.parametrize("family", FAMILIES)
def test_the_upper_bound_is_at_least_the_exact_constant(family):
    for seed in range(8):
        weights, low, high = case(family, seed)
        functional = np.random.default_rng(seed).normal(size=len(weights[-1][1]))
        found = oracle.regions(weights, low, high)
        for mode, alpha in WAYS:
            truth = oracle.constant(found, functional, alpha)
            problem = stated(to_network(weights), Box(low, high), functional, alpha, mode)
            upper = bound_nodes(problem.graph, problem.sets)[problem.objective][1][0]
            assert upper >= np.nextafter(truth, 0.0), (seed, mode, alpha)


@pytest.mark.unwatched
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_upper_bound_is_at_least_the_exact_constant_of_the_whole_output(family, mode):
    pairs = list(itertools.product(ALL_NORMS, ALL_NORMS))
    for seed in range(3):
        weights, low, high = case(family, seed)
        for domain in (
            Box(low, high),
            cut_domain(CUTS[2 * seed + (mode == "reverse")], low, high, seed),
        ):
            found = oracle.regions(weights, domain.lower, domain.upper, halfspaces_of(domain))
            for alpha, beta in pairs[seed::2]:
                truth = oracle.constant(found, None, alpha, beta)
                problem = stated(to_network(weights), domain, None, alpha, mode, beta)
                # What l2 norms of the oracle are rounded to.
                assert upper_bound(problem) >= truth * (1 - 1e-14), (seed, alpha, beta)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
@pytest.mark.parametrize("family", ["general", "late_coincidence"])
def test_the_upper_bound_scales_with_the_weights(family, scale):
    weights, low, high = case(family, 3)
    functional = np.eye(1, len(weights[-1][1]))[0]
    for mode in MODES:
        uppers = []
        for factor in (1.0, scale):
            # Weights of every layer by the factor; a bias by all the factors up to its layer.
            layers = [
                (factor * matrix, factor ** (k + 1) * bias)
                for k, (matrix, bias) in enumerate(weights)
            ]
            problem = stated(to_network(layers), Box(low, high), functional, "linf", mode)
            uppers.append(bound_nodes(problem.graph, problem.sets)[problem.objective][1][0])
        assert uppers[1] == pytest.approx(uppers[0] * scale ** len(weights), rel=1e-9)


@pytest.mark.parametrize("scale", [2.0**-30, 2.0**30])
@pytest.mark.parametrize("kind", CUTS)
def test_the_upper_bound_on_cut_domains_has_no_units(kind, scale):
    weights, low, high = case("late_coincidence", 3)
    functional = np.eye(1, len(weights[-1][1]))[0]
    layers = [(scale * matrix, scale ** (k + 1) * bias) for k, (matrix, bias) in enumerate(weights)]
    moved = [(matrix, scale * bias) for matrix, bias in weights]
    for mode in MODES:
        plain, other, larger = (
            upper_bound(
                stated(
                    to_network(net),
                    cut_domain(kind, size * low, size * high, 1),
                    functional,
                    "linf",
                    mode,
                )
            )
            for net, size in ((weights, 1.0), (layers, 1.0), (moved, scale))
        )
        assert other == pytest.approx(
            plain * scale ** len(weights), rel=1e-9
        )  # in other units of the output
        assert larger == pytest.approx(plain, rel=1e-9)  # and of the input


# --- Rounding -------------------------------------------------------------------------------------


def exact_range(
    weight: np.ndarray, offset: list[Fraction], box: Box
) -> list[tuple[Fraction, Fraction]]:
    """The exact range over the box of each row of weight x + offset, weight in Fractions."""
    corners = [
        (Fraction(low), Fraction(high)) for low, high in zip(box.lower, box.upper, strict=True)
    ]
    ranges = []
    for row, start in zip(weight, offset, strict=True):
        ends = [sorted((w * low, w * high)) for w, (low, high) in zip(row, corners, strict=True)]
        ranges.append((start + sum(end[0] for end in ends), start + sum(end[1] for end in ends)))
    return ranges


def fractions(array: np.ndarray) -> np.ndarray:
    exact = np.empty(array.shape, dtype=object)
    exact.ravel()[:] = [Fraction(entry) for entry in array.ravel().tolist()]
    return exact


def decimal_box(rng: np.random.Generator, inputs: int) -> Box:
    """Corners that are no short binary fractions."""
    low = rng.normal(size=inputs)
    return Box(low, low + rng.random(inputs) + 0.1)


@pytest.mark.parametrize("kind", [gaussian, ill_conditioned, cancelling])
def test_sums_are_rounded_outward(kind):
    # The extreme corner of an affine node: without a term for rounding, every other sum falls
    # short.
    for seed in range(60):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(2, 12))
        box, weight, bias = decimal_box(rng, size), kind(rng)(4, size), kind(rng)(1, 4)[0]
        x = Input(size)
        node = Affine(((sp.csr_array(weight) if seed % 2 else weight, x),), bias)
        exact = exact_range(fractions(weight), [Fraction(b) for b in bias.tolist()], box)
        for bounds in (
            interval_bounds(Graph((x,), (node,)), {x: box}),
            bound_nodes(Graph((x,), (node,)), {x: box}),
        ):
            for low, high, (least, most) in zip(*bounds[node], exact, strict=True):
                assert Fraction(low) <= least
                assert most <= Fraction(high)
                room = Fraction(1, 10**12) * (
                    1 + max(abs(least), abs(most)) + int(np.abs(weight).sum() * 20)
                )
                assert Fraction(high) - most <= room


def test_large_constants_are_rounded_outward():
    # Next to the bias, what is known of the rest is too small to make up for the rounding of the
    # sum.
    for seed in range(60):
        rng = np.random.default_rng(seed)
        box, weight = decimal_box(rng, 3), rng.normal(size=(4, 3)) * 10.0 ** rng.uniform(-8, 0)
        bias = rng.normal(size=4) * 1e8
        x = Input(3)
        node = Affine(((weight, x),), bias)
        exact = exact_range(fractions(weight), list(fractions(bias)), box)
        for bounds in (
            interval_bounds(Graph((x,), (node,)), {x: box}),
            bound_nodes(Graph((x,), (node,)), {x: box}),
        ):
            for low, high, (least, most) in zip(*bounds[node], exact, strict=True):
                assert Fraction(low) <= least
                assert most <= Fraction(high)


@pytest.mark.parametrize("kind", [gaussian, ill_conditioned, cancelling])
def test_products_of_matrices_are_rounded_outward(kind):
    # f = W2 (W1 x + b1) + W3 x + b2 with W3 near -W2 W1: the coefficients are nothing but what
    # rounding left.
    for seed in range(60):
        rng = np.random.default_rng(seed)
        inputs, inner = int(rng.integers(1, 4)), int(rng.integers(2, 8))
        box = decimal_box(rng, inputs)
        first, second = kind(rng)(inner, inputs), kind(rng)(3, inner)
        back = -(second @ first)
        b1, b2 = kind(rng)(1, inner)[0], kind(rng)(1, 3)[0]
        x = Input(inputs)
        hidden = Affine(((first, x),), b1)
        node = Affine(((second, hidden), (back, x)), b2)
        graph = Graph((x,), (node,))
        weight = fractions(second) @ fractions(first) + fractions(back)
        exact = exact_range(weight, list(fractions(second) @ fractions(b1) + fractions(b2)), box)
        bounds = bound_nodes(graph, {x: box})
        for low, high, (least, most) in zip(*bounds[node], exact, strict=True):
            assert Fraction(low) <= least
            assert most <= Fraction(high)


def test_stable_switches_keep_the_error_of_what_is_behind_them():
    # The same through relus that are all on: y = W2 relu(W1 x + b1) - (W2 W1) x.
    for seed in range(60):
        rng = np.random.default_rng(seed)
        box = decimal_box(rng, 2)
        first, second = rng.normal(size=(5, 2)), rng.normal(size=(3, 5)) * 1e3
        x = Input(2)
        hidden = relu(Affine(((first, x),), np.full(5, 40.0)))
        back = -(second @ first)
        node = Affine(((second, hidden), (back, x)), -second @ np.full(5, 40.0))
        weight = fractions(second) @ fractions(first) + fractions(back)
        exact = exact_range(
            weight,
            list(fractions(second) @ fractions(np.full(5, 40.0)) + fractions(node.bias)),
            box,
        )
        for low, high, (least, most) in zip(
            *bound_nodes(Graph((x,), (node,)), {x: box})[node], exact, strict=True
        ):
            assert Fraction(low) <= least
            assert most <= Fraction(high)


def test_the_support_of_each_set_is_rounded_outward():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        weights = [(rng.normal(size=(1, 7)) * 10.0 ** rng.uniform(-8, 8, (1, 7)), np.zeros(1))]
        for alpha, mode in itertools.product(NORMS, MODES):
            dual = "l1" if alpha == "linf" else "linf"
            exact = oracle.vector_norm([Fraction(w) for w in weights[0][0][0].tolist()], dual)
            problem = stated(to_network(weights), Box.unit(7), np.ones(1), alpha, mode)
            upper = bound_nodes(problem.graph, problem.sets)[problem.objective][1][0]
            assert Fraction(upper) >= exact
            assert upper <= float(exact) * (1 + 1e-12)


@pytest.mark.parametrize("kind", CUTS)
def test_the_support_of_cut_domains_is_rounded_outward_and_tight(kind):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        size, d = 10.0 ** rng.uniform(-6, 6), 1 + seed % 3
        low = size * rng.normal(size=d)
        domain = cut_domain(kind, low, low + size * (1 + rng.random(d)), 2 * seed + 1)
        (whole,) = oracle.regions(
            [(np.eye(d), np.zeros(d))], domain.lower, domain.upper, halfspaces_of(domain)
        )
        weights = np.vstack(
            [
                rng.normal(size=(6, d)) * 10.0 ** rng.uniform(-8, 8, (6, d)),
                np.eye(d),
                -np.eye(d),
                np.zeros(d),
            ]
        )
        for form in (weights, sp.csr_array(weights)):
            for row, high in zip(fractions(weights), domain.support(form).tolist(), strict=True):
                exact = max(sum(row * np.array(vertex)) for vertex in whole.vertices)
                reach = sum(
                    abs(row) * fractions(np.maximum(np.abs(domain.lower), np.abs(domain.upper)))
                )
                assert (
                    exact <= Fraction(high) <= exact + reach * Fraction(1, 10**6) + Fraction(1e-316)
                )


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_lines_hold_in_exact_arithmetic(data):
    size = st.floats(1e-12, 1e12)
    kind = data.draw(st.sampled_from(("crossing", "positive", "negative", "touching")))
    a, b = sorted((data.draw(size), data.draw(size)))
    left = data.draw(size)
    low, high = {
        "crossing": (-left, b),
        "positive": (a, b),
        "negative": (-b, -a),
        "touching": (0.0, b),
    }[kind]
    own = data.draw(st.booleans()) and kind == "crossing"
    flat = data.draw(st.booleans())
    inputs = np.array([low]), np.array([high])
    lines = SwitchLines(inputs, (np.zeros(1), np.ones(1)), own=own, flat=flat)
    above = [Fraction(float(part[0])) for part in (lines.upper_slope, lines.upper_offset)]
    below = [Fraction(float(part[0])) for part in (lines.lower_slope, lines.lower_offset)]
    for x in (Fraction(low), Fraction(high), *([Fraction(0)] if low < 0 < high else [])):
        choices = [max(x, Fraction(0))] if own else [Fraction(0), x]
        for y in choices:
            assert below[0] * x + below[1] <= y <= above[0] * x + above[1]
    assert 0 <= above[0] <= 1
    assert 0 <= below[0] <= 1
    # Not only valid, but touching at both ends: the chords; or at one of them, and level.
    width = max(abs(low), abs(high))
    if flat and kind == "crossing" and not own:
        assert (above[0], below[0]) == (0, 0)
        assert above[1] - Fraction(high) <= Fraction(width) * Fraction(1, 10**14)
        assert Fraction(low) - below[1] <= Fraction(width) * Fraction(1, 10**14)
        return
    for x in (Fraction(low), Fraction(high)):
        assert above[0] * x + above[1] - max(x, Fraction(0)) <= Fraction(width) * Fraction(
            1, 10**14
        )
        if not own:
            assert min(x, Fraction(0)) - below[0] * x - below[1] <= Fraction(width) * Fraction(
                1, 10**14
            )


def test_a_stable_gate_has_exact_lines():
    low, high = np.array([1.0, -3.0, -1.0, -1.0]), np.array([2.0, -1.0, 2.0, 2.0])
    on = np.array([1.0, 0.0, 1.0, 0.0])
    for own in (True, False):
        lines = SwitchLines((low, high), (on, on), own=own)
        assert (lines.upper_slope == on).all()
        assert (lines.lower_slope == on).all()
        assert not lines.upper_offset.any()
        assert not lines.lower_offset.any()


def test_the_lower_line_of_a_relu_follows_the_larger_side():
    low, high = np.array([-1.0, -3.0]), np.array([3.0, 1.0])
    lines = SwitchLines((low, high), (np.zeros(2), np.ones(2)), own=True)
    assert lines.lower_slope.tolist() == [1.0, 0.0]


def test_rounding_terms():
    values, sizes = np.array([1.0, -2.0, 0.0]), np.array([1.0, 3.0, 0.0])
    high, low = up(values, sizes, 5), down(values, sizes, 5)
    assert (high[:2] > values[:2]).all()
    assert (low[:2] < values[:2]).all()
    # What is exactly 0 stays exactly 0.
    assert high[2] == low[2] == 0.0
    assert gamma(10) >= 10 * 2.0**-53 / (1 - 10 * 2.0**-53)
    # Products that underflow are not nothing.
    assert up(np.zeros(1), np.full(1, 1e-300), 1)[0] > 0


# --- Exactness ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "alpha"), WAYS)
def test_linear_networks_are_exact(mode, alpha):
    rng = np.random.default_rng(5)
    x = value = Input(4)
    total = np.eye(4)
    for rows in (6, 5, 3):
        weight = rng.normal(size=(rows, total.shape[0]))
        value, total = Affine(((weight, value),), rng.normal(size=rows)), weight @ total
    functional = rng.normal(size=3)
    truth = float(norm(alpha).ball(4).support((functional @ total)[None])[0])
    for net in (
        Network(Graph((x,), (value,)), (4,), (3,)),
        network(Graph((x,), (value,)), input_shape=(4,), output_shape=(3,), name="fused"),
    ):
        problem = stated(net, Box.unit(4), functional, alpha, mode)
        bounds = bound_nodes(problem.graph, problem.sets)
        assert bounds[problem.objective][1][0] == pytest.approx(truth, rel=1e-12)
        assert bounds[problem.objective][1][0] >= truth * (1 - 1e-15)


@pytest.mark.parametrize("alpha", ALL_NORMS)
@pytest.mark.parametrize("mode", MODES)
def test_linear_networks_with_functionals_that_decide_are_nearly_exact(mode, alpha):
    # One functional has the largest norm by far: the largest of several is no more than what bounds
    # of maxima lose.
    weight = np.array([[50.0, -60.0, 70.0], [0.5, 1.0, 0.0], [-0.5, 1.0, 1.0]])
    net = to_network([(weight, np.ones(3))])
    truth = oracle.constant(
        oracle.regions([(weight, np.ones(3))], [0] * 3, [1] * 3), None, alpha, "linf"
    )
    problem = stated(net, Box.unit(3), None, alpha, mode, "linf")
    assert truth * (1 - 1e-14) <= upper_bound(problem) <= 3.2 * truth


@pytest.mark.parametrize("alpha", NORMS)
def test_stable_networks_are_exact_in_forward_mode(alpha):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        (first, _), (second, _), last = random_weights(rng, (3, 6, 5, 2))
        on, also = rng.choice((-50.0, 50.0), 6), rng.choice((-1e4, 1e4), 5)
        weights = [(first, on), (second, also), last]
        found = oracle.regions(weights, -np.ones(3), np.ones(3))
        assert len(found) == 1
        functional = rng.normal(size=2)
        truth = oracle.constant(found, functional, alpha)
        box = Box(-np.ones(3), np.ones(3))
        problem = stated(to_network(weights), box, functional, alpha, "forward")
        bounds = bound_nodes(problem.graph, problem.sets)
        assert not any(np.isnan(gate_state(gate, bounds)).any() for gate in problem.graph.gates)
        assert bounds[problem.objective][1][0] == pytest.approx(truth, rel=1e-12, abs=1e-15)


def test_one_open_neuron_of_one_input_is_exact_in_both_modes():
    # f = 3 relu(x) on [-1, 2]: the convex hull of the one gate is all there is.
    for mode, alpha in WAYS:
        weights = [(np.ones((1, 1)), np.zeros(1)), (np.full((1, 1), 3.0), np.ones(1))]
        problem = stated(to_network(weights), Box([-1.0], [2.0]), np.ones(1), alpha, mode)
        low, high = bound_nodes(problem.graph, problem.sets)[problem.objective]
        assert high[0] == pytest.approx(3.0, rel=1e-12)
        assert low[0] <= 0.0


def test_the_chord_of_a_relu_bounds_its_output_exactly():
    # y = relu(x) - x / 3 on [-1, 2]: chord at both ends 1/3 and 4/3, at the kink 0; from below the
    # slope 0 or 1.
    x = Input(1)
    y = lower.add(scaled(1.0, relu(x)), scaled(-1.0 / 3.0, x))
    low, high = bound_nodes(Graph((x,), (y,)), {x: Box([-1.0], [2.0])})[y]
    assert high[0] == pytest.approx(4.0 / 3.0, rel=1e-12)
    assert low[0] == pytest.approx(-2.0 / 3.0, rel=1e-12)


def test_the_dual_norm_is_bounded_jointly():
    # g = (a, 1 - a) for a in [0, 1] has |g|_1 = 1, entry by entry it is 2.
    weights = [
        (np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([5.0, 5.0])),
        (np.array([[1.0, -1.0]]), np.zeros(1)),
    ]
    problem = stated(
        to_network(weights), Box(-np.ones(2), np.ones(2)), np.ones(1), "linf", "forward"
    )
    assert bound_nodes(problem.graph, problem.sets)[problem.objective][1][0] == pytest.approx(
        2.0, rel=1e-12
    )
    x, v = Input(1), Input(2, "v")
    z = Affine(((np.ones((1, 1)), x),), np.zeros(1))
    a = Switch(Affine(((np.array([[1.0, 1.0]]), v),), np.zeros(1)), Conditional(z))
    b = Affine(((np.array([[1.0, 1.0]]), v), (-np.ones((1, 1)), a)), np.zeros(1))
    total = Affine(((np.ones((1, 1)), a), (np.ones((1, 1)), b)), np.zeros(1))
    graph, sets = Graph((x, v), (total,)), {x: Box([-1.0], [1.0]), v: Box(-np.ones(2), np.ones(2))}
    assert bound_nodes(graph, sets)[total][1][0] == pytest.approx(2.0, rel=1e-12)
    assert interval_bounds(graph, sets)[total][1][0] == pytest.approx(6.0, rel=1e-12)


def test_what_an_open_gate_switches_is_sharpened_even_where_it_keeps_one_sign():
    # 2 v - v + 0.5 for v in [1, 2], from a node for 2 v and one for v.
    x, v = Input(1), Input(1, "v")
    own = relu(Affine(((np.eye(1), x),), np.zeros(1)))
    twice, once = (Affine(((np.full((1, 1), factor), v),), np.zeros(1)) for factor in (2.0, 1.0))
    difference = Affine(((np.eye(1), twice), (-np.eye(1), once)), np.array([0.5]))
    switch = Switch(difference, own.gate)
    graph = Graph((x, v), (own, switch))
    sets: dict[Input, ConvexSet] = {x: Box([-1.0], [1.0]), v: Box([1.0], [2.0])}
    assert [side[0] for side in interval_bounds(graph, sets)[difference]] == pytest.approx(
        [0.5, 3.5]
    )
    assert [side[0] for side in bound_nodes(graph, sets)[difference]] == pytest.approx([1.5, 2.5])


def test_zeros_stay_zero_so_that_gates_that_touch_are_stable():
    # x and x + y on the unit square are never negative, -x never positive; sums of zeros are 0.
    x = Input(2)
    rows = np.array([[1.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [-0.1, -0.3], [1.0, -1.0]])
    z = Affine(((rows, x),), np.zeros(5))
    y = relu(z)
    output = Affine(((np.array([[0.0, 0.0, 0.7, 0.3, 0.0]]), y),), np.zeros(1))
    graph = Graph((x,), (output,))
    bounds = bound_nodes(graph, {x: Box.unit(2)})
    assert states(bounds, graph.gates[0]) == [1.0, 1.0, 0.0, 0.0, None]
    assert bounds[output] == (0.0, 0.0)
    assert [float(side[2]) for side in bounds[y]] == [0.0, 0.0]


@pytest.mark.parametrize("mode", MODES)
def test_bias_free_networks_with_positive_weights_are_stable(mode):
    rng = np.random.default_rng(3)
    weights = [
        (rng.random((5, 3)), np.zeros(5)),
        (rng.random((4, 5)), np.zeros(4)),
        (rng.random((1, 4)), np.zeros(1)),
    ]
    problem = stated(to_network(weights), Box.unit(3), np.ones(1), "linf", mode)
    bounds = bound_nodes(problem.graph, problem.sets)
    assert all(states(bounds, gate) == [1.0] * gate.size for gate in problem.gates)
    truth = (weights[2][0] @ weights[1][0] @ weights[0][0]).sum()
    assert bounds[problem.objective][1][0] == pytest.approx(truth, rel=1e-12)


def test_a_gate_whose_input_is_identically_zero_is_decided():
    x = Input(2)
    z = Affine(((np.array([[0.0, 0.0], [1.0, 1.0]]), x),), np.zeros(2))
    y = relu(z)
    graph = Graph((x,), (y,))
    bounds = bound_nodes(graph, {x: Box(-np.ones(2), np.ones(2))})
    zero, other = states(bounds, graph.gates[0])
    assert zero in (0.0, 1.0)  # either makes no difference
    assert other is None
    assert [float(side[0]) for side in bounds[y]] == [0.0, 0.0]


@pytest.mark.parametrize("family", FAMILIES)
def test_lower_bounds_never_exceed_upper_bounds(family):
    for seed, mode in itertools.product(range(4), MODES):
        weights, low, high = case(family, seed)
        c = np.ones(len(weights[-1][1]))
        problem = stated(to_network(weights), Box(low, high), c, "linf", mode)
        for bounds in (
            bound_nodes(problem.graph, problem.sets),
            interval_bounds(problem.graph, problem.sets),
        ):
            for node, (least, most) in bounds.items():
                assert (least <= most).all(), node


def test_dead_networks_are_exactly_zero():
    weights = [(np.ones((3, 2)), np.full(3, -9.0)), (np.ones((1, 3)), np.zeros(1))]
    for mode, alpha in WAYS:
        problem = stated(to_network(weights), Box.unit(2), np.ones(1), alpha, mode)
        assert bound_nodes(problem.graph, problem.sets)[problem.objective] == (0.0, 0.0)


# --- Known bounds, intersection, quality ----------------------------------------------------------


@pytest.mark.unwatched
def test_linear_relaxation_is_never_looser_than_intervals():
    rng = np.random.default_rng(11)
    tighter = total = 0
    for _ in range(50):
        net = random_network(rng, gaussian(rng), int(rng.integers(2, 9)), int(rng.integers(1, 5)))
        for problem in both(rng, net, random_domain(rng, net.input.size, gaussian)):
            linear, coarse = (
                bound_nodes(problem.graph, problem.sets),
                interval_bounds(problem.graph, problem.sets),
            )
            for node in problem.graph.nodes:
                assert (linear[node][0] >= coarse[node][0]).all()
                assert (linear[node][1] <= coarse[node][1]).all()
                tighter += int((linear[node][1] < coarse[node][1]).sum())
                total += node.size
    assert tighter > total / 10


def bounds_and_known(seed: int) -> tuple[Problem, Bounds, np.random.Generator]:
    rng = np.random.default_rng(seed)
    net = to_network(random_weights(rng, (3, 6, 5, 2)))
    problem = stated(net, Box(-np.ones(3), np.ones(3)), rng.normal(size=2), "linf", MODES[seed % 2])
    return problem, bound_nodes(problem.graph, problem.sets), rng


@pytest.mark.parametrize("seed", range(8))
def test_known_bounds_are_intersected_with(seed):
    # As in a branch: only points with z_i >= 0, or z_i <= 0, for a chosen neuron of the first
    # layer.
    problem, free, rng = bounds_and_known(seed)
    gate = problem.gates[0]
    open_gates = np.flatnonzero(np.isnan(gate_state(gate, free)))
    neuron = int(rng.choice(open_gates))
    for side in (0, 1):
        low, high = (part.copy() for part in free[gate.x])
        (low if side else high)[neuron] = 0.0
        bounds = bound_nodes(problem.graph, problem.sets, {gate.x: (low, high)})
        assert gate_state(gate, bounds)[neuron] == side
        assert (bounds[gate.x][0] >= low).all()
        assert (bounds[gate.x][1] <= high).all()
        for node in problem.graph.nodes:
            if node in problem.gates or node is gate.x:
                assert (bounds[node][0] >= free[node][0]).all()
                assert (bounds[node][1] <= free[node][1]).all()
        kept = 0
        for _ in range(12):
            inputs = {node: points_of(rng, which, 1)[0] for node, which in problem.sets.items()}
            values = evaluate_exactly(problem.graph, inputs, lambda *_: 0)
            if (values[gate.x][neuron] > 0) == bool(side):
                kept += 1
                assert_contains(bounds, values)
        assert kept


@pytest.mark.parametrize("seed", range(8))
def test_known_gates_are_kept(seed):
    problem, free, rng = bounds_and_known(seed)
    gate = problem.gates[0]
    fixed = gate_state(gate, free)
    neuron = int(rng.choice(np.flatnonzero(np.isnan(fixed))))
    for side in (0.0, 1.0):
        least, most = (part.copy() for part in free[gate])
        least[neuron] = most[neuron] = side
        bounds = bound_nodes(problem.graph, problem.sets, {gate: (least, most)})
        assert gate_state(gate, bounds)[neuron] == side
        assert bounds[problem.objective][1][0] <= free[problem.objective][1][0] * (1 + 1e-12)
        for _ in range(12):
            inputs = {node: points_of(rng, which, 1)[0] for node, which in problem.sets.items()}
            values = evaluate_exactly(problem.graph, inputs, lambda *_: 0)
            if values[gate][neuron] == side:
                assert_contains(bounds, values)


def test_known_bounds_that_say_nothing_change_nothing():
    problem, free, _ = bounds_and_known(0)
    nothing = {
        node: (np.full(node.size, -np.inf), np.full(node.size, np.inf))
        for node in problem.graph.nodes
        if not isinstance(node, Input)
    }
    for known in (None, {}, free, nothing):
        again = bound_nodes(problem.graph, problem.sets, known)
        assert all(
            (again[node][side] == free[node][side]).all()
            for node in problem.graph.nodes
            for side in (0, 1)
        )


def test_bounds_at_a_point_enclose_it_tightly():
    rng = np.random.default_rng(2)
    for kind in KINDS:
        for _ in range(20):
            net = random_network(rng, kind(rng), 6, 3)
            point = (
                rng.integers(-2, 3, 3).astype(np.float64)
                if kind is integers
                else rng.normal(size=3)
            )
            bounds = point_bounds(net.graph.nodes, net.input, point)
            values = evaluate_exactly(net.graph, {net.input: point}, lambda *_: 0)
            for node in net.graph.nodes:
                if isinstance(node, Conditional):
                    continue
                for low, high, value in zip(*bounds[node], values[node], strict=True):
                    assert Fraction(low) <= value <= Fraction(high)
                if kind is gaussian:
                    assert (
                        bounds[node][1] - bounds[node][0] <= 1e-10 * (1 + np.abs(bounds[node][1]))
                    ).all()


def test_an_input_has_no_interval_of_its_own():
    with pytest.raises(ValueError, match="an input has the bounds of its set"):
        interval(Input(2), {})


# Root bounds of the example network on the unit box, as first measured: a change may only lower
# them.
ROOT_BOUNDS = {
    ("forward", "linf"): (62.323605463335205, 107.56520304053427, 85.00685529325425),
    ("forward", "l1"): (12.063353403363033, 20.210429553927064, 16.124624543670247),
    ("reverse", "linf"): (53.2162948706868, 96.81859958892153, 74.01906756925685),
    ("reverse", "l1"): (19.51962177017198, 29.88105551737056, 24.59592091499886),
}


@pytest.mark.parametrize(("mode", "alpha"), WAYS)
def test_root_bounds_of_the_example_do_not_get_worse(mode, alpha):
    net = read_onnx(str(EXAMPLE))
    for output, measured in enumerate(ROOT_BOUNDS[mode, alpha]):
        problem = stated(net, Box.unit(13), output, alpha, mode)
        assert bound_nodes(problem.graph, problem.sets)[problem.objective][1][0] <= measured * (
            1 + 1e-6
        )
