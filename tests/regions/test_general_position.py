"""General position: what is reported is true, by the oracle's enumeration of regions."""

from __future__ import annotations

import functools
import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings

from lipexact.api import general_position_report
from lipexact.errors import DomainError
from lipexact.graph.ir import Affine, Graph, Input
from lipexact.graph.lowering import add, relu, scaled
from lipexact.network import Network, network
from lipexact.regions.position_report import PositionReport
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Ball, Box
from tests.support import oracle
from tests.support.networks import (
    DEGENERATE,
    FAMILIES,
    Case,
    Layers,
    case,
    integer_cases,
    random_weights,
    to_network,
)

SEEDS = range(12)


def examine(example: Case) -> PositionReport:
    return general_position_report(to_network(example.weights), Box(example.lower, example.upper))


@functools.cache
def report_of(family: str, seed: int) -> PositionReport:
    return examine(case(family, seed))


def hidden_layer(rows: list[list[float]], bias: list[float]) -> Layers:
    return [(np.array(rows), np.array(bias)), (np.ones((1, len(rows))), np.zeros(1))]


def indices(neurons) -> list[tuple[int, int]]:
    return [(neuron.layer, neuron.index) for neuron in neurons]


def free_choice_is_exact(example: Case, halfspaces=()) -> bool:
    """Whether every combination of states at the kinks of the closed domain belongs to a region."""
    found = {region.pattern for region in oracle.regions(*example, halfspaces)}
    return oracle.closed_patterns(*example, halfspaces) == found


# --- Sound, on every family ----------------------------------------------------------------------


@pytest.mark.unwatched
@pytest.mark.parametrize("family", FAMILIES)
def test_reports_agree_with_the_oracle(family):
    for seed in SEEDS:
        example, report = case(family, seed), report_of(family, seed)
        check_findings(example, report)
        if report.in_general_position:
            assert oracle.naive_constant(*example) == oracle.constant(oracle.regions(*example)), (
                seed
            )
            assert free_choice_is_exact(example), seed


@pytest.mark.unwatched
@pytest.mark.parametrize("family", DEGENERATE)
def test_overestimates_never_get_true(family):
    overestimates = 0
    for seed in SEEDS:
        example = case(family, seed)
        if oracle.naive_constant(*example) > oracle.constant(oracle.regions(*example)):
            overestimates += 1
            assert report_of(family, seed).in_general_position is not True, seed
    assert overestimates


@pytest.mark.parametrize("family", ["general", "dead"])
def test_general_networks_are_never_accused(family):
    answers = {examine(case(family, seed)).in_general_position for seed in range(30)}
    assert answers == {True, None}


@pytest.mark.unwatched
@pytest.mark.parametrize("family", FAMILIES)
def test_one_hidden_layer_is_judged_right(family):
    decided = 0
    for seed in SEEDS:
        example = case(family, seed)
        # The first hidden layer on its own.
        first = Case(
            [example.weights[0], (np.ones((1, len(example.weights[0][1]))), np.zeros(1))],
            *example[1:],
        )
        report = examine(first)
        if report.in_general_position is not None:
            decided += 1
            assert report.in_general_position == free_choice_is_exact(first), (seed, str(report))
    # The others have kernels that touch the border of the box.
    assert decided == len(SEEDS) or family in ("small_integers", "bias_free", "border")


@pytest.mark.parametrize("family", ["general", "concurrent", "sign_pairs", "small_integers"])
def test_other_domains_are_judged_right(family):
    answers = set()
    for seed in SEEDS:
        weights, lower, upper = case(family, seed)
        first = Case([weights[0], (np.ones((1, len(weights[0][1]))), np.zeros(1))], lower, upper)
        center, radius = (lower + upper) / 2, float(upper[0] - lower[0]) / 2
        report = general_position_report(to_network(first.weights), Ball(center, radius, norm="l1"))
        if report.in_general_position is not None:
            halfspaces = oracle.l1_ball_halfspaces(center, radius)
            assert report.in_general_position == free_choice_is_exact(first, halfspaces), (
                seed,
                str(report),
            )
        answers.add(report.in_general_position)
    assert len(answers) > 1 or family == "general"


@settings(max_examples=50, deadline=None)
@given(integer_cases())
def test_integer_networks(example):
    report = examine(example)
    if report.in_general_position:
        assert free_choice_is_exact(example)
    if len(example.weights) == 2 and report.in_general_position is not None:
        assert report.in_general_position == free_choice_is_exact(example)
    check_findings(example, report)


def check_findings(example: Case, report: PositionReport) -> None:
    """Each finding against the oracle's exact evaluation, or its regions."""
    traces = [
        [oracle.trace(example.weights, vertex) for vertex in region.vertices]
        for region in oracle.regions(*example)
    ]
    every = [trace for region in traces for trace in region]
    for each in report.vanishing:
        layer, i = each.neuron.layer, each.neuron.index
        regions = [all(trace[layer][i] == 0 for trace in region) for region in traces]
        assert all(regions) if each.point is None else any(regions)
    for group in report.coinciding:
        (k, i), *others = indices(group)
        signs = {trace[k][i] > 0 for trace in every if trace[k][i]}
        assert signs == {True, False}  # it crosses
        for layer, j in others:
            assert all(bool(trace[layer][j]) == bool(trace[k][i]) for trace in every)
    for crossing in report.crowded:
        point = np.array(crossing.point)
        assert ((example.lower < point) & (point < example.upper)).all()
        normals = example.weights[0][0][[i for layer, i in indices(crossing.neurons) if layer == 0]]
        assert np.linalg.matrix_rank(normals) < len(crossing.neurons) or len(normals) < len(
            crossing.neurons
        )
        trace = oracle.trace(example.weights, crossing.point)
        assert all(abs(trace[layer][i]) < 1e-9 for layer, i in indices(crossing.neurons))


# --- What each family has, is found --------------------------------------------------------------


def test_identity_coincides():
    report = examine(
        Case(
            [(np.array([[1.0], [-1.0]]), np.zeros(2)), (np.array([[1.0, -1.0]]), np.zeros(1))],
            [-1],
            [1],
        )
    )
    assert report.in_general_position is False
    assert [indices(group) for group in report.coinciding] == [[(0, 0), (0, 1)]]
    assert not report.crowded
    assert "relu_0[0], relu_0[1]" in str(report)
    assert "LipMIP" in str(report)


def test_identity_of_two_layers_of_gates():
    x = Input(2)
    difference = add(
        scaled(1.0, relu(x, "plus")), scaled(-1.0, relu(add(scaled(-1.0, x)), "minus"))
    )
    net = network(Graph((x,), (difference,)), input_shape=(2,), output_shape=(2,), name="identity")
    report = general_position_report(net, Box([-1, -1], [1, 1]))
    assert sorted(sorted(neuron.index for neuron in group) for group in report.coinciding) == [
        [0, 0],
        [1, 1],
    ]
    assert {neuron.name for group in report.coinciding for neuron in group} == {"plus", "minus"}


def proportional_and_crossing(example: Case, first_layer: bool) -> int:
    """Pairs with proportional rows in a layer, whose kernel crosses the box."""
    every = [
        oracle.trace(example.weights, vertex)
        for region in oracle.regions(*example)
        for vertex in region.vertices
    ]
    count = 0
    for layer, (matrix, bias) in enumerate(example.weights[:-1]):
        if (layer == 0) != first_layer:
            continue
        rows = [
            [Fraction(float(x)) for x in (*row, offset)]
            for row, offset in zip(matrix, bias, strict=True)
        ]
        for i, p in enumerate(rows):
            crosses = {trace[layer][i] > 0 for trace in every if trace[layer][i]} == {True, False}
            for q in rows[:i]:
                same = all(p[a] * q[b] == p[b] * q[a] for a in range(len(p)) for b in range(a))
                count += bool(same and any(p) and any(q) and crosses)
    return count


@pytest.mark.parametrize("family", ["duplicated", "sign_pairs", "small_integers"])
def test_coinciding_rows_are_found(family):
    pairs = 0
    for seed in SEEDS:
        example, report = case(family, seed), report_of(family, seed)
        found = {indices(group)[0][0] == 0 for group in report.coinciding}
        if proportional_and_crossing(example, first_layer=True):
            assert True in found, seed
            pairs += 1
        if proportional_and_crossing(example, first_layer=False):
            doubts = [doubt for doubt in report.undecided if "same kernel" in doubt]
            assert False in found or doubts, seed
            pairs += 1
    assert pairs >= (1 if family == "small_integers" else 5)


def test_concurrent_kernels_are_found():
    for seed in SEEDS:
        example, report = case("concurrent", seed), report_of("concurrent", seed)
        kernels = [i for i, row in enumerate(example.weights[0][0]) if row.any()]
        repeated = {index for group in report.coinciding for _, index in indices(group)[1:]}
        if len(kernels) - len(repeated) > len(example.lower):
            assert report.crowded, seed


def test_bias_free_kernels_meet_at_the_origin():
    seen = 0
    for seed in range(50):
        example, report = case("bias_free", seed), report_of("bias_free", seed)
        d = len(example.lower)
        if report.layers[0].size - report.layers[0].on - report.layers[0].off > d > 1:
            seen += 1
            # Where 0 is a corner of the box, these answers are for the border.
            assert any(not any(found.point) for found in report.crowded) == bool(
                example.lower[0] < 0
            )
            assert report.crowded or report.undecided
    assert seen > 10


def test_identically_zero_neurons_are_found():
    for seed in SEEDS:
        width = len(case("identically_zero", seed).weights[0][1])
        found = [
            each.neuron
            for each in report_of("identically_zero", seed).vanishing
            if each.point is None
        ]
        assert (0, width - 1) in indices(found)


def test_repeated_relus_vanish():
    example = Case(
        [(np.eye(1), np.zeros(1)), (np.eye(1), np.zeros(1)), (np.eye(1), np.zeros(1))], [-1], [1]
    )
    (vanishing,) = examine(example).vanishing
    assert vanishing.neuron.layer == 1
    assert vanishing.point[0] < 0
    assert "relu_1[0] on a part of the domain" in str(examine(example))


def test_what_happens_on_the_border_is_left_open():
    assert all(report_of("border", seed).in_general_position is None for seed in SEEDS)
    # Two kernels that cross on a side: three regions, not four.
    report = examine(Case(hidden_layer([[1, 1], [1, -1]], [0, 0]), [0, -1], [1, 1]))
    assert report.in_general_position is None
    assert "Not decided:\n  relu_0[0], relu_0[1]: on the border of the domain" in str(report)
    # The same kernel twice, which only touches the domain.
    report = examine(Case(hidden_layer([[1, 1], [-2, -2]], [0, 0]), [0, 0], [1, 1]))
    assert report.in_general_position is None
    assert any("same kernel" in doubt for doubt in report.undecided)


def test_lines_in_space():
    # Three planes through a common line, which is more than one expects of three.
    report = examine(
        Case(hidden_layer([[1, 0, 0], [0, 1, 0], [1, 1, 0]], [0, 0, 0]), [-1] * 3, [1] * 3)
    )
    (crossing,) = report.crowded
    assert (len(crossing.neurons), crossing.dimension, crossing.point) == (3, 1, (0.0, 0.0, 0.0))
    # The same outside the domain.
    example = Case(
        hidden_layer([[1, 0, 0.1], [0, 1, 0], [1, 1, 0.1]], [0.5, -3, -2.5]), [-1] * 3, [1] * 3
    )
    assert examine(example).in_general_position is True


# --- Large and odd ones --------------------------------------------------------------------------


def test_stable_neurons_are_counted():
    report = examine(Case(hidden_layer([[1, 0], [0, 1], [1, 1]], [5, -5, 0.5]), [-1, -1], [1, 1]))
    assert [(layer.size, layer.on, layer.off) for layer in report.layers] == [(3, 1, 1)]
    assert report.in_general_position is True


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_a_wide_network(bias):
    weights = random_weights(np.random.default_rng(0), [200, 60, 60, 2])
    weights = [(matrix, bias * offset) for matrix, offset in weights]
    net = to_network(weights)
    report = general_position_report(net, Ball(np.zeros(200), 0.1))
    assert report.in_general_position is not True
    assert report.not_examined
    assert len(str(report)) < 3000


def test_many_shifted_kernels_through_one_point():
    rng = np.random.default_rng(0)
    rows = rng.integers(-8, 9, (40, 4)).astype(float)
    point = np.array([0.25, -0.5, 0.125, 0.75])
    report = examine(Case(hidden_layer(rows.tolist(), (-rows @ point).tolist()), [-1] * 4, [1] * 4))
    assert report.in_general_position is False
    largest = max(report.crowded, key=lambda crossing: len(crossing.neurons))
    assert len(largest.neurons) == 40 - sum(len(group) - 1 for group in report.coinciding)
    assert np.allclose(largest.point, point)


def test_many_coinciding_neurons():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 20))
    rows = np.vstack([rows, -2 * rows[:50]])
    report = examine(
        Case(hidden_layer(rows.tolist(), [0.5] * 300 + [-1.0] * 50), [-1] * 20, [1] * 20)
    )
    assert len(report.coinciding) == 50


def test_a_network_without_neurons():
    x = Input(2)
    net = network(
        Graph((x,), (Affine(((np.eye(2), x),), np.zeros(2)),)),
        input_shape=(2,),
        output_shape=(2,),
        name="n",
    )
    assert general_position_report(net, Box([0, 0], [1, 1])).in_general_position is True


def test_plain_data():
    report = examine(case("concurrent", 0))
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["in_general_position"] is False
    assert plain["crowded"][0]["neurons"][0]["name"] == "relu_0"


def test_extreme_weights():
    for factor in (1e-200, 1e-310, 1e200):
        report = examine(Case(hidden_layer([[factor], [-factor]], [0, 0]), [-1], [1]))
        assert report.in_general_position is not True


def test_far_from_the_origin():
    # In floats the shift to the box's middle cancels all digits.
    far = 2.0**40
    rows, bias = [[1, 0], [0, 1], [1, 1]], [-far, -far, -2 * far]
    meet = Case(hidden_layer(rows, bias), [far - 1, far - 1], [far + 1, far + 2])
    assert examine(meet).in_general_position is False
    apart = Case(hidden_layer(rows, [-far, -far, -2 * far - 0.5]), *meet[1:])
    assert examine(apart).in_general_position is True


def judged_on(domain: Domain, rows: list[list[float]], bias: list[float]) -> PositionReport:
    return general_position_report(to_network(hidden_layer(rows, bias)), domain)


def test_a_domain_that_is_no_box():
    diamond = Ball([0.0, 0.0], 1.0, norm="l1")
    # A violation inside, one that only the box around sees, and kernels that only meet the border
    # there.
    assert judged_on(diamond, [[1, 1], [-1, -1]], [-0.5, 0.5]).in_general_position is False
    assert (
        judged_on(diamond, [[1, 0], [0, 1], [1, 1]], [-0.25, -0.25, -0.5]).in_general_position
        is False
    )
    assert (
        judged_on(diamond, [[1, 0], [0, 1], [1, 1]], [-0.75, -0.75, -1.5]).in_general_position
        is None
    )
    report = judged_on(diamond, [[1, 1]], [-1])
    assert report.in_general_position is None
    assert "not a box" in str(report)
    assert judged_on(diamond, [[1, 1]], [-1.5]).in_general_position is True


def test_what_cancels_in_floats_only_is_not_taken_for_affine():
    # 0.1 * 3 - 0.3 * 1 is 0 in no arithmetic but a coarse one: the second layer still reads a
    # neuron.
    x = Input(1)
    h = relu(x, "h")
    inner = Affine(((np.array([[3.0], [1.0]]), h),), np.zeros(2))
    outer = Affine(((np.array([[0.1, -(0.1 * 3.0)]]), inner), (np.eye(1), x)), np.zeros(1))
    net = Network(Graph((x,), (relu(outer, "top"),)), (1,), (1,))
    report = general_position_report(net, Box([-1], [1]))
    assert report.in_general_position is not True
    assert report.not_examined


def test_a_domain_that_does_not_fit():
    net = to_network(hidden_layer([[1.0, 1.0]], [0.0]))
    with pytest.raises(
        DomainError, match=r"the domain has 3 dimensions, the network's input 2 \(shape \(2,\)\)"
    ):
        general_position_report(net, Box.unit(3))
    with pytest.raises(DomainError, match="must be a Box"):
        general_position_report(net, ([0, 0], [1, 1]))
