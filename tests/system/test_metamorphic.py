"""How the constant changes with the network, the domain and the norms: relations that need no
known answer.

Where a relation shifts biases, weights are rounded to multiples of 1/64 first: the changed
network is then, in exact arithmetic, the network that the relation speaks of, coincidences of
kinks and all.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lipexact as lx
from tests.support.networks import (
    Case,
    Layers,
    cases,
    duplicate,
    integer_cases,
    linearize,
    random_weights,
    to_network,
)
from tests.support.solvers import require

pytestmark = pytest.mark.unwatched

LINEAR = ("linf", "l1")
PAIRS = tuple(itertools.product(LINEAR, LINEAR))
DUAL = {"linf": 1, "l1": np.inf}
CLOSE = 1e-9
GRID = 64.0


class Question(NamedTuple):
    """A case and what is asked about it."""

    case: Case
    keywords: dict[str, Any]


def few(examples: int) -> settings:
    return settings(
        deadline=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def networks() -> st.SearchStrategy[Case]:
    """Those of all families that take little time, and small ones with integer weights."""
    return st.one_of(cases().filter(quick), integer_cases(max_inputs=2, max_neurons=5))


def quick(network: Case) -> bool:
    return len(network.weights) < 4 and sum(len(bias) for _, bias in network.weights[:-1]) <= 7


def sizes(case: Case) -> tuple[int, int]:
    """The numbers of inputs and outputs."""
    return case.lower.size, len(case.weights[-1][1])


def box(case: Case) -> lx.Box:
    return lx.Box(case.lower, case.upper)


def solve(weights: Layers, domain: lx.Domain, **keywords: Any) -> lx.LipschitzResult:
    result = lx.lipschitz(to_network(weights), domain, **keywords)
    assert result.status is lx.Status.EXACT, (result, result.stats)
    assert result.lower <= result.upper <= result.lower * (1 + 2 * CLOSE)
    assert (result.witness is None) <= (result.value == 0)
    return result


def value(weights: Layers, domain: lx.Domain, **keywords: Any) -> float:
    return solve(weights, domain, **keywords).value


def same(number: float) -> Any:
    return pytest.approx(number, rel=CLOSE, abs=0.0)


def at_most(number: float) -> float:
    return number * (1 + CLOSE)


def rows(draw: st.DrawFn, count: int, size: int) -> np.ndarray:
    """Rows of small integers, none of them 0."""
    row = st.lists(st.integers(-3, 3), min_size=size, max_size=size).filter(any)
    return np.array(draw(st.lists(row, min_size=count, max_size=count)), dtype=np.float64)


@st.composite
def polyhedral(draw: st.DrawFn, size: int) -> lx.PolyhedralNorm:
    """Weights along the axes, and up to two more pairs of rows."""
    weights = np.array(
        draw(st.lists(st.sampled_from((0.5, 1.0, 3.0)), min_size=size, max_size=size))
    )
    half = np.vstack(
        [np.diag(weights), rows(draw, draw(st.integers(0, 2)), size).reshape(-1, size)]
    )
    return lx.PolyhedralNorm(
        **{draw(st.sampled_from(("halfspaces", "vertices"))): np.vstack([half, -half])}
    )


@st.composite
def outputs_asked(draw: st.DrawFn, size: int) -> dict[str, Any]:
    """The keywords for an output of that size."""
    kinds = [
        "norm",
        "polyhedral",
        "index",
        "vector",
        "matrix",
        *(["cross", "targeted"] if size > 1 else []),
    ]
    match draw(st.sampled_from(kinds)):
        case "norm":
            return {"output_norm": draw(st.sampled_from(LINEAR))}
        case "polyhedral":
            return {"output_norm": draw(polyhedral(size))}
        case "index":
            return {"functional": draw(st.integers(-size, size - 1))}
        case "vector":
            return {"functional": rows(draw, 1, size)[0]}
        case "matrix":
            return {"functional": rows(draw, 3, size)}
        case "cross":
            return {"functional": lx.CrossLipschitz()}
    return {"functional": lx.CrossLipschitz(draw(st.integers(0, size - 1)))}


@st.composite
def questions(draw: st.DrawFn, named: bool = False, whole: bool = False) -> Question:
    """A network and a question; `named`: only linf and l1 for its input; `whole`: only these for
    its whole output.
    """
    network = draw(networks())
    inputs, outputs = sizes(network)
    names = st.sampled_from(LINEAR)
    alpha = draw(names if named else st.one_of(names, polyhedral(inputs)))
    asked = {"output_norm": draw(names)} if whole else draw(outputs_asked(outputs))
    return Question(network, {"input_norm": alpha, **asked})


def coarse(network: Case) -> Case:
    """Its weights and biases as multiples of 1/64."""
    weights = [
        (np.round(GRID * matrix) / GRID, np.round(GRID * bias) / GRID)
        for matrix, bias in network.weights
    ]
    return Case(weights, network.lower, network.upper)


def last(weights: Layers, matrix: np.ndarray, bias: np.ndarray) -> Layers:
    return [*weights[:-1], (matrix, bias)]


def first(weights: Layers, matrix: np.ndarray, bias: np.ndarray) -> Layers:
    return [(matrix, bias), *weights[1:]]


@few(6)
@given(questions(), st.integers(-40, 40), st.sampled_from((1.0, -1.0)), st.floats(-5, 5))
def test_scaling_the_output_by_a_power_of_2_scales_the_constant_exactly(
    question: Question, exponent: int, sign: float, offset: float
) -> None:
    """The last bias does not matter."""
    network, keywords = question
    matrix, bias = network.weights[-1]
    factor = sign * 2.0**exponent
    known = value(network.weights, box(network), **keywords)
    scaled = solve(
        last(network.weights, factor * matrix, factor * bias + offset), box(network), **keywords
    )
    assert scaled.value == 2.0**exponent * known


@few(6)
@given(questions(), st.floats(1e-9, 1e9), st.sampled_from((1.0, -1.0)))
def test_scaling_the_output_scales_the_constant(
    question: Question, factor: float, sign: float
) -> None:
    network, keywords = question
    matrix, bias = network.weights[-1]
    known = value(network.weights, box(network), **keywords)
    scaled = last(network.weights, sign * factor * matrix, sign * factor * bias)
    assert value(scaled, box(network), **keywords) == same(factor * known)


@few(6)
@given(questions(), st.integers(-20, 20))
def test_scaling_the_input_and_the_domain_divides_the_constant(
    question: Question, exponent: int
) -> None:
    network, keywords = question
    matrix, bias = network.weights[0]
    factor = 2.0**exponent
    known = value(network.weights, box(network), **keywords)
    domain = lx.Box(factor * network.lower, factor * network.upper)
    assert value(first(network.weights, matrix / factor, bias), domain, **keywords) == same(
        known / factor
    )


@few(6)
@given(questions(), st.integers(-20, 20))
def test_scaling_a_hidden_layer_and_undoing_it_changes_nothing(
    question: Question, exponent: int
) -> None:
    network, keywords = question
    (matrix, bias), (above, offset), *rest = network.weights
    factor = 2.0**exponent
    scaled = [(factor * matrix, factor * bias), (above / factor, offset), *rest]
    assert value(scaled, box(network), **keywords) == same(
        value(network.weights, box(network), **keywords)
    )


@few(6)
@given(questions(), st.data())
def test_shifting_the_input_and_the_domain_changes_nothing(
    question: Question, data: st.DataObject
) -> None:
    network, keywords = coarse(question.case), question.keywords
    size = network.lower.size
    shift = (
        np.array(data.draw(st.lists(st.integers(-400, 400), min_size=size, max_size=size))) / GRID
    )
    matrix, bias = network.weights[0]
    shifted = first(network.weights, matrix, bias - matrix @ shift)
    domain = lx.Box(network.lower + shift, network.upper + shift)
    assert value(shifted, domain, **keywords) == same(
        value(network.weights, box(network), **keywords)
    )


@few(6)
@given(questions(), st.data())
def test_the_constant_does_not_grow_on_a_smaller_domain(
    question: Question, data: st.DataObject
) -> None:
    network, keywords = question
    inputs = network.lower.size
    cuts = st.lists(st.integers(0, 7), min_size=inputs, max_size=inputs)
    low, high = np.array(data.draw(cuts)) / 16, np.array(data.draw(cuts)) / 16
    width = network.upper - network.lower
    smaller = lx.Box(network.lower + low * width, network.upper - high * width)
    inner = lx.Ball(smaller.centre, float(min(smaller.upper - smaller.lower)) / 2, norm="l1")
    whole, part, ball = (
        value(network.weights, each, **keywords) for each in (box(network), smaller, inner)
    )
    assert ball <= at_most(part)
    assert part <= at_most(whole)


@few(6)
@given(questions(), st.data())
def test_the_constant_is_the_larger_one_of_the_two_parts_of_a_domain(
    question: Question, data: st.DataObject
) -> None:
    """The cut goes through a point of the middle, where kinks of many families meet."""
    network, keywords = question
    inputs = network.lower.size
    row = np.array(
        data.draw(st.lists(st.integers(-3, 3), min_size=inputs, max_size=inputs).filter(any)),
        dtype=float,
    )
    share = np.array(data.draw(st.lists(st.integers(2, 6), min_size=inputs, max_size=inputs))) / 8
    limit = float(row @ (network.lower + share * (network.upper - network.lower)))
    parts = [
        value(
            network.weights,
            lx.Polytope([sign * row], [sign * limit], network.lower, network.upper),
            **keywords,
        )
        for sign in (1.0, -1.0)
    ]
    assert max(parts) == same(value(network.weights, box(network), **keywords))


@few(6)
@given(questions(), st.randoms(use_true_random=False))
def test_permuting_neurons_changes_nothing(question: Question, random: Any) -> None:
    network, keywords = question
    weights = list(network.weights)
    for layer in range(len(weights) - 1):
        (matrix, bias), (above, offset) = weights[layer], weights[layer + 1]
        order = random.sample(range(len(bias)), len(bias))
        weights[layer], weights[layer + 1] = (matrix[order], bias[order]), (above[:, order], offset)
    assert value(weights, box(network), **keywords) == same(
        value(network.weights, box(network), **keywords)
    )


@few(6)
@given(questions(named=True, whole=True), st.randoms(use_true_random=False), st.data())
def test_signed_permutations_of_inputs_and_outputs_change_nothing(
    question: Question, random: Any, data: st.DataObject
) -> None:
    network, keywords = question
    inputs, outputs = sizes(network)
    before, after = random.sample(range(inputs), inputs), random.sample(range(outputs), outputs)
    flips = np.array(
        data.draw(st.lists(st.sampled_from((1.0, -1.0)), min_size=inputs, max_size=inputs))
    )
    signs = np.array(
        data.draw(st.lists(st.sampled_from((1.0, -1.0)), min_size=outputs, max_size=outputs))
    )
    matrix, bias = network.weights[0]
    turned = first(network.weights, matrix[:, before] * flips, bias)
    matrix, bias = turned[-1]
    turned = last(turned, signs[:, None] * matrix[after], signs * bias[after])
    corners = np.sort([flips * network.lower[before], flips * network.upper[before]], axis=0)
    known = value(network.weights, box(network), **keywords)
    assert value(turned, lx.Box(*corners), **keywords) == same(known)
    if outputs > 1:
        keywords = {"input_norm": keywords["input_norm"], "functional": lx.CrossLipschitz()}
        matrix, bias = network.weights[-1]
        known = value(network.weights, box(network), **keywords)
        assert value(last(network.weights, -matrix[after], bias), box(network), **keywords) == same(
            known
        )


def rotation(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.asarray(np.linalg.qr(rng.normal(size=(size, size)))[0])


@few(1)
@given(st.integers(0, 2**32 - 1), st.sampled_from(("l2", "linf", "l1")))
def test_rotations_of_the_input_change_nothing_in_l2(seed: int, beta: str) -> None:
    require("scip")
    rng = np.random.default_rng(seed)
    weights, turn = random_weights(rng, (2, 5, 2)), rotation(rng, 2)
    keywords = {"input_norm": "l2", "output_norm": beta, "solver": "scip"}
    matrix, bias = weights[0]
    sides = np.vstack([turn, -turn])  # of the turned box
    turned = value(first(weights, matrix @ turn, bias), lx.Polytope(sides, np.ones(4)), **keywords)
    known = value(weights, lx.Box(-np.ones(2), np.ones(2)), **keywords)
    assert turned == pytest.approx(known, rel=1e-8)  # the turned box is rounded


@few(1)
@given(st.integers(0, 2**32 - 1), st.sampled_from(("l2", "linf", "l1")))
def test_rotations_of_the_output_change_nothing_in_l2(seed: int, alpha: str) -> None:
    require("scip")
    rng = np.random.default_rng(seed)
    weights, turn = random_weights(rng, (2, 5, 3)), rotation(rng, 3)
    keywords = {"input_norm": alpha, "output_norm": "l2", "solver": "scip"}
    domain = lx.Box(-np.ones(2), np.ones(2))
    matrix, bias = weights[-1]
    turned = value(last(weights, turn @ matrix, turn @ bias), domain, **keywords)
    assert turned == same(value(weights, domain, **keywords))


@few(6)
@given(questions(), st.integers(0, 100), st.integers(0, 100))
def test_a_neuron_twice_with_half_its_weights_changes_nothing(
    question: Question, layer: int, neuron: int
) -> None:
    network, keywords = question
    layer %= len(network.weights) - 1
    neuron %= len(network.weights[layer][1])
    half = -network.weights[layer + 1][0][:, neuron] / 2
    doubled = duplicate(network.weights, layer, neuron, half)
    assert value(doubled, box(network), **keywords) == same(
        value(network.weights, box(network), **keywords)
    )


def widened(
    weights: Layers, matrix: np.ndarray, bias: np.ndarray, above: np.ndarray, offset: np.ndarray
) -> Layers:
    """With further neurons in the first layer."""
    (below, low), (high, top), *rest = weights
    wider = (
        (np.vstack([below, matrix]), np.append(low, bias)),
        (np.column_stack([high, above]), top + offset),
    )
    return [*wider, *rest]


@few(6)
@given(questions(), st.data(), st.booleans())
def test_dead_neurons_and_pairs_that_are_always_on_change_nothing(
    question: Question, data: st.DataObject, tight: bool
) -> None:
    """relu(z) + relu(c - z) = c for 0 <= z <= c; `tight`: they touch 0 in a corner of the box."""
    network, keywords = coarse(question.case), question.keywords
    size = network.lower.size
    row = np.array(
        data.draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size)), dtype=float
    )
    strong = data.draw(st.sampled_from((1.0, -8.0, 32.0)))
    room = 0.0 if tight else 1.0
    most = float(np.maximum(row * network.lower, row * network.upper).sum()) + room
    least = float(np.minimum(row * network.lower, row * network.upper).sum()) - room
    count = len(network.weights[1][1])
    above = np.full((count, 3), strong)
    changed = widened(
        network.weights,
        np.array([row, -row, row]),
        np.array([-least, most, -most]),
        above,
        np.full(count, -strong * (most - least)),
    )
    assert value(changed, box(network), **keywords) == same(
        value(network.weights, box(network), **keywords)
    )


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_weights_that_cancel_leave_a_constant_of_0(mode: str) -> None:
    """relu(z + 2) + relu(2 - z) - 4 = 0 on the box, with z read twice."""
    row = np.array([0.0, 1.0])
    weights = [
        (np.array([row, row, -row, row]), np.array([0.0, 2.0, 2.0, -2.0])),
        (np.array([[0.0, 1.0, 1.0, 1.0]]), np.array([-4.0])),
    ]
    assert value(weights, lx.Box([-1, -1], [1, 1]), mode=mode) == 0


@few(6)
@given(questions(), st.integers(0, 100), st.booleans())
def test_a_neuron_without_its_relu_written_in_two_ways(
    question: Question, neuron: int, tight: bool
) -> None:
    """z as relu(z) - relu(-z), and as relu(z + c) - c with z + c >= 0 on the box."""
    network, keywords = coarse(question.case), question.keywords
    (matrix, bias), (above, offset), *rest = network.weights
    neuron %= len(bias)
    row = matrix[neuron]
    least = float(np.minimum(row * network.lower, row * network.upper).sum()) + bias[neuron]
    constant = -least if tight else abs(least) + 1
    lifted = bias.copy()
    lifted[neuron] += constant
    straight = [(matrix, lifted), (above, offset - constant * above[:, neuron]), *rest]
    bent = linearize(network.weights, 0, neuron)
    assert value(bent, box(network), **keywords) == same(value(straight, box(network), **keywords))


@few(4)
@given(networks())
def test_inequalities_between_linf_and_l1(network: Case) -> None:
    inputs, outputs = sizes(network)
    found = {
        pair: value(network.weights, box(network), input_norm=pair[0], output_norm=pair[1])
        for pair in PAIRS
    }
    for other in LINEAR:
        assert found["l1", other] <= at_most(found["linf", other])
        assert found["linf", other] <= at_most(inputs * found["l1", other])
        assert found[other, "linf"] <= at_most(found[other, "l1"])
        assert found[other, "l1"] <= at_most(outputs * found[other, "linf"])


@few(1)
@given(st.integers(0, 2**32 - 1))
def test_l2_lies_between_linf_and_l1(seed: int) -> None:
    require("scip")
    inputs, outputs = 2, 2
    weights = random_weights(np.random.default_rng(seed), (inputs, 5, outputs))
    domain = lx.Box(-np.ones(inputs), np.ones(inputs))
    names = itertools.product(("l1", "l2", "linf"), ("l1", "l2", "linf"))
    found = {
        pair: value(weights, domain, input_norm=pair[0], output_norm=pair[1], solver="scip")
        for pair in names
    }
    for other in ("l1", "l2", "linf"):
        assert found["l1", other] <= at_most(found["l2", other])
        assert found["l2", other] <= at_most(found["linf", other])
        assert found["linf", other] <= at_most(np.sqrt(inputs) * found["l2", other])
        assert found["l2", other] <= at_most(np.sqrt(inputs) * found["l1", other])
        assert found[other, "linf"] <= at_most(found[other, "l2"])
        assert found[other, "l2"] <= at_most(found[other, "l1"])
        assert found[other, "l1"] <= at_most(np.sqrt(outputs) * found[other, "l2"])
        assert found[other, "l2"] <= at_most(np.sqrt(outputs) * found[other, "linf"])


@few(3)
@given(questions(whole=True).filter(lambda question: sizes(question.case)[1] > 1))
def test_cross_lipschitz_constants(question: Question) -> None:
    """At most twice that of the whole output in linf; the largest over the labels, and over the
    pairs.
    """
    network, keywords = question
    norm, outputs = {"input_norm": keywords["input_norm"]}, sizes(network)[1]
    cross = value(network.weights, box(network), functional=lx.CrossLipschitz(), **norm)
    labels = [
        value(network.weights, box(network), functional=lx.CrossLipschitz(label), **norm)
        for label in range(outputs)
    ]
    pairs = [
        value(
            network.weights,
            box(network),
            functional=np.eye(outputs)[i] - np.eye(outputs)[j],
            **norm,
        )
        for i, j in itertools.combinations(range(outputs), 2)
    ]
    assert max(labels) == same(cross)
    assert max(pairs) == same(cross)
    assert cross <= at_most(2 * value(network.weights, box(network), output_norm="linf", **norm))
    assert cross <= at_most(value(network.weights, box(network), output_norm="l1", **norm))


@few(6)
@given(questions(whole=True), st.data(), st.integers(-4, 4))
def test_functionals(question: Question, data: st.DataObject, factor: int) -> None:
    """Triangle inequality, homogeneity, ||c||_dual times the whole output's, and the largest of
    several.
    """
    network, keywords = question
    outputs = sizes(network)[1]
    norm = {"input_norm": keywords["input_norm"]}
    entries = st.lists(st.integers(-3, 3), min_size=outputs, max_size=outputs)
    b, c = (np.array(data.draw(entries), dtype=float) for _ in range(2))
    found = [
        value(network.weights, box(network), functional=each, **norm)
        for each in (b, c, b + c, factor * c, np.array([b, c, -b]))
    ]
    whole = value(network.weights, box(network), **keywords)
    assert found[2] <= at_most(found[0] + found[1])
    assert found[3] == same(abs(factor) * found[1])
    assert found[4] == same(max(found[:2]))
    for functional, each in zip((b, c), found, strict=False):
        assert each <= at_most(np.linalg.norm(functional, DUAL[keywords["output_norm"]]) * whole)


def matrix_norm(matrix: np.ndarray, alpha: str, beta: str) -> float:
    """max ||M v||_beta over the vertices v of alpha's ball."""
    size = matrix.shape[1]
    corners = (
        np.eye(size)
        if alpha == "l1"
        else np.array(list(itertools.product((-1.0, 1.0), repeat=size)))
    )
    images = np.abs(corners @ matrix.T)
    return float((images.max(axis=1) if beta == "linf" else images.sum(axis=1)).max())


@few(6)
@given(questions(named=True, whole=True), st.data(), st.sampled_from(PAIRS))
def test_affine_maps_before_and_after(
    question: Question, data: st.DataObject, pair: tuple[str, str]
) -> None:
    """||B f(A x)|| has at most the constant ||B|| L ||A||, with L on the image of the domain."""
    network, keywords = question
    inputs, outputs = sizes(network)
    entries = st.integers(-2, 2)
    before = np.array(
        data.draw(st.lists(entries, min_size=2 * inputs, max_size=2 * inputs))
    ).reshape(inputs, 2)
    after = np.array(
        data.draw(st.lists(entries, min_size=2 * outputs, max_size=2 * outputs))
    ).reshape(2, outputs)
    matrix, bias = network.weights[0]
    composed = first(network.weights, matrix @ before, bias)
    matrix, bias = composed[-1]
    composed = last(composed, after @ matrix, after @ bias)
    # The image of [-1, 1]^2 lies in this box.
    reach = np.abs(before).sum(axis=1) + 1.0
    whole = value(network.weights, lx.Box(-reach, reach), **keywords)
    sides = (
        matrix_norm(before.astype(float), pair[0], keywords["input_norm"]),
        matrix_norm(after.astype(float), keywords["output_norm"], pair[1]),
    )
    found = value(composed, lx.Box([-1, -1], [1, 1]), input_norm=pair[0], output_norm=pair[1])
    assert found <= at_most(sides[0] * whole * sides[1])


@few(3)
@given(questions(), questions(), st.sampled_from(PAIRS))
def test_the_constant_of_a_sum_is_at_most_the_sum(
    one: Question, two: Question, pair: tuple[str, str]
) -> None:
    """f(x) + g(y) too, over the box of both, with linf: the sum of both constants."""
    (matrix, bias), (above, offset) = shallow(one.case)
    (below, shift), (over, rise) = shallow(two.case)
    (inputs, _), (others, _) = sizes(one.case), sizes(two.case)
    joint = [
        (
            np.block(
                [[matrix, np.zeros((len(bias), others))], [np.zeros((len(shift), inputs)), below]]
            ),
            np.append(bias, shift),
        ),
        (np.hstack([above, over]), offset + rise),
    ]
    domain = lx.Box(
        np.append(one.case.lower, two.case.lower), np.append(one.case.upper, two.case.upper)
    )
    alpha = pair[0]
    parts = [
        value(shallow(each), box(each), input_norm=alpha, output_norm="linf")
        for each in (one.case, two.case)
    ]
    found = value(joint, domain, input_norm=alpha, output_norm="linf")
    assert found == same(sum(parts) if alpha == "linf" else max(parts))


def shallow(network: Case) -> Layers:
    """Its first layer, and the first row of the second one: one hidden layer and one output."""
    (matrix, bias), (above, offset) = network.weights[:2]
    return [(matrix, bias), (above[:1], offset[:1])]


@few(6)
@given(questions(), st.floats(0.05, 3.0))
def test_a_target_and_a_gap_agree_with_the_constant(question: Question, factor: float) -> None:
    network, keywords = question
    net, domain = to_network(network.weights), box(network)
    known = value(network.weights, domain, **keywords)
    target, gap = factor * known, min(factor / 3, 0.9)
    compared = lx.lipschitz(net, domain, target=target, **keywords)
    rough = lx.lipschitz(net, domain, gap=gap, **keywords)
    assert rough.gap <= max(gap, CLOSE)
    for result in (compared, rough):
        assert result.lower <= at_most(known)
        assert known <= at_most(result.upper)
    if abs(factor - 1) > 1e-6 and known > 0:
        assert compared.within_target is (factor > 1)


@few(6)
@given(questions())
def test_the_relaxation_is_no_smaller_in_either_mode(question: Question) -> None:
    network, keywords = question
    net, domain = to_network(network.weights), box(network)
    known = value(network.weights, domain, **keywords)
    for mode in ("forward", "reverse", "auto"):
        relaxed = lx.lipschitz(net, domain, method="lp", mode=mode, **keywords)
        assert known <= at_most(relaxed.upper)
        assert relaxed.lower <= at_most(known)


@few(8)
@given(questions())
def test_forward_and_reverse_mode_agree(question: Question) -> None:
    network, keywords = question
    forward, reverse = (
        value(network.weights, box(network), mode=mode, **keywords)
        for mode in ("forward", "reverse")
    )
    assert forward == same(reverse)
