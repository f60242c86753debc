"""Whether a pattern is a region: against the oracle, down to regions that hold no float."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from lipexact.graph.pattern import FREE, OFF, ON
from lipexact.problem.homogenize import Homogenization
from lipexact.regions.affine import pattern_at
from lipexact.regions.feasibility import (
    Empty,
    LinearRegion,
    Undecided,
    decide_region,
    lifted_centre,
)
from lipexact.regions.gradients import gradients
from lipexact.sets.domains import Ball, Box, Polytope
from tests.support import oracle
from tests.support.graphs import branched
from tests.support.networks import (
    CUTS,
    FAMILIES,
    Case,
    case,
    cut_domain,
    integer_cases,
    random_weights,
    to_network,
)
from tests.support.regions import (
    Truth,
    all_gates,
    check,
    check_point,
    pattern,
    truth_of,
    truth_on,
    widths_of,
)

# --- Every pattern of small networks -------------------------------------------------------------


def small_case(family: str, start: int) -> Case:
    """One of 50 cases from this seed on: 6 neurons, or 8 in the family that has no smaller ones."""
    return min((case(family, seed) for seed in range(start, start + 50)), key=neurons_wanted)


def neurons_wanted(found: Case) -> tuple[int, int]:
    """Order by the distance from 6 neurons, then by the number of inputs, the more the better."""
    return abs(sum(widths_of(found.weights)) - 6), -len(found.lower)


@pytest.mark.unwatched
@pytest.mark.parametrize("family", FAMILIES)
def test_every_pattern_of_small_networks_is_decided_rightly(family):
    truth = truth_of(*small_case(family, 0))
    verdicts = [check(truth, gates) for gates in all_gates(widths_of(truth.weights))]
    assert any(isinstance(verdict, LinearRegion) for verdict in verdicts)


@pytest.mark.unwatched
@pytest.mark.parametrize("family", FAMILIES)
def test_every_pattern_on_all_of_space_is_decided_rightly(family):
    # Cones: what proves a pattern empty has to cancel exactly.
    weights, lower, _ = small_case(family, 50)
    far = np.full(len(lower), 1e40)
    truth, whole = truth_of(weights, -far, far), Homogenization(to_network(weights))
    for gates in all_gates(widths_of(weights)):
        verdict = decide_region(whole.network, whole.domain, pattern(gates))
        assert isinstance(verdict, LinearRegion if truth.is_real(gates) else Empty), (
            gates,
            verdict,
        )
        if isinstance(verdict, Empty):
            assert not truth.is_real(verdict.pattern)


@pytest.mark.unwatched
@pytest.mark.parametrize("family", FAMILIES)
def test_patterns_that_kinks_allow_are_decided_rightly(family):
    # What a mixed-integer program may propose: patterns that hold at some point with gates at 0
    # chosen freely.
    for seed in range(3):
        rng = np.random.default_rng(seed)
        weights, low, high = case(family, seed)
        truth = truth_of(weights, low, high)
        proposed = sorted(oracle.closed_patterns(weights, low, high))
        for index in rng.permutation(len(proposed))[:10].tolist():
            check(truth, [[int(gate) for gate in layer] for layer in proposed[index]])


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=integer_cases(max_inputs=2, max_neurons=4))
def test_every_pattern_of_integer_networks_is_decided_rightly(drawn):
    truth = truth_of(*drawn)
    for gates in all_gates(widths_of(truth.weights)):
        check(truth, gates)


def test_causes_name_few_gates():
    # z0 = x and z1 = -x - 1 are never on together; six other neurons have no part in it.
    rng = np.random.default_rng(0)
    first = np.vstack([[1.0, 0.0], [-1.0, 0.0], rng.normal(size=(3, 2))])
    weights = [
        (first, np.array([0.0, -1.0, 0.1, 0.2, 0.3])),
        (rng.random((3, 5)) - 0.3, np.full(3, 0.5)),
    ]
    weights.append((np.ones((1, 3)), np.zeros(1)))
    truth = truth_of(weights, -np.ones(2), np.ones(2))
    verdict = check(truth, [(1, 1, 0, 1, 0), (1, 1, 1)])
    assert isinstance(verdict, Empty)
    assert [layer.tolist() for layer in verdict.pattern] == [[1, 1, -1, -1, -1], [-1, -1, -1]]


def test_causes_hold_the_gates_that_a_form_depends_on():
    # The second layer sees relu(x) - 2, which is negative on [-1, 1] whatever the first gate: off,
    # or on.
    weights = [(np.eye(1), np.zeros(1)), (np.eye(1), np.full(1, -2.0)), (np.eye(1), np.zeros(1))]
    truth = truth_of(weights, [-1.0], [1.0])
    for first in (OFF, ON):
        verdict = check(truth, [(first,), (ON,)])
        assert isinstance(verdict, Empty)
        assert verdict.pattern[0].tolist() == [first]
        assert verdict.pattern[1].tolist() == [ON]


def test_a_network_without_gates_is_one_region():
    truth = truth_of([(np.ones((1, 2)), np.zeros(1))], [-1.0, 0.0], [3.0, 1.0])
    verdict = decide_region(truth.network, truth.domain, ())
    assert isinstance(verdict, LinearRegion)
    assert verdict.pattern == ()
    check_point(truth, verdict, [])


# --- Domains that are no boxes -------------------------------------------------------------------


@pytest.mark.unwatched
@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_patterns_on_cut_domains_are_decided_rightly(family, kind):
    seed = (list(FAMILIES).index(family) + CUTS.index(kind)) % 2
    rng = np.random.default_rng(seed)
    weights, low, high = small_case(family, seed)
    truth = truth_on(weights, cut_domain(kind, low, high, seed))
    for region in truth.regions:
        assert isinstance(
            check(truth, [[int(bool(gate)) for gate in layer] for layer in region]), LinearRegion
        )
    # Any others, and those of the whole box that the cuts may take away.
    whole = [
        [[int(bool(gate)) for gate in layer] for layer in region]
        for region in truth_of(weights, low, high).regions
    ]
    for gates in (list(all_gates(widths_of(weights))), whole):
        for index in rng.permutation(len(gates))[:8].tolist():
            check(truth, gates[index])


def test_the_lifted_centre_is_inside_of_the_system():
    for domain in (
        Ball([0.5, -1, 2], 1.5, norm="l1"),
        Ball([0.0, 0, 0], 1, norm="l1") & Ball([0.25, 0, 0], 1, norm="l1"),
    ):
        y, system = lifted_centre(domain), domain.system()
        assert (system.lower < y).all()
        assert (y < system.upper).all()
        assert (system.rows @ y < system.limits).all()


@pytest.mark.unwatched
@pytest.mark.parametrize("kind", CUTS)
def test_free_gates_on_cut_domains(kind):
    for family, seed in itertools.product(("general", "sign_pairs", "concurrent"), range(2)):
        rng = np.random.default_rng(seed)
        weights, low, high = case(family, seed)
        truth = truth_on(weights, cut_domain(kind, low, high, seed))
        assert isinstance(
            check(truth, [(FREE,) * width for width in widths_of(weights)]), LinearRegion
        )
        for _ in range(6):
            gates = [rng.integers(0, 2, width).tolist() for width in widths_of(weights)]
            gates[-1] = [FREE if rng.random() < 0.5 else gate for gate in gates[-1]]
            check(truth, gates)


@pytest.mark.unwatched
@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize("size", [2.0**-40, 2.0**-20, 2.0**20])
def test_the_scale_of_a_cut_domain_does_not_matter(kind, size):
    weights, low, high = small_case("general", 0)
    plain = truth_on(weights, cut_domain(kind, low, high, 1))
    scaled = [(matrix, size * bias) for matrix, bias in weights]
    other = truth_on(scaled, cut_domain(kind, size * low, size * high, 1))
    gates = list(all_gates(widths_of(weights)))
    for index in np.random.default_rng(0).permutation(len(gates))[:12].tolist():
        assert type(check(other, gates[index])) is type(check(plain, gates[index]))


@pytest.mark.parametrize("gap", [1e-3, 1e-9, 1e-12, 1e-15, 0.0, -1e-15, -1e-9])
def test_regions_at_the_corners_and_faces_of_a_ball(gap):
    # Kinks a hair inside of, on and beyond the corner (1, 0) of the ball, and its face x + y = 1.
    rows = np.array([[1.0, 0.0], [1.0, 1.0], [-1.0, 1.0]])
    weights = [
        (rows, np.array([-1.0 + gap, -1.0 + gap, -1.0 + gap])),
        (np.ones((1, 3)), np.zeros(1)),
    ]
    ball = Ball([0.0, 0.0], 1.0, "l1")
    diamond = Polytope([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.ones(4))
    for domain in (ball, diamond, ball & Box([-2.0, -2.0], [0.5, 2.0]), ball & diamond):
        truth = truth_on(weights, domain)
        verdicts = {
            gates: check(truth, [gates]) for gates in itertools.product((OFF, ON), repeat=3)
        }
        assert isinstance(verdicts[OFF, OFF, OFF], LinearRegion)
        corner = 1 - gap < 1 and domain.upper[0] > 0.75
        assert isinstance(verdicts[ON, ON, OFF], LinearRegion if corner else Empty)


@pytest.mark.parametrize("width", [1e-3, 1e-9, 1e-13])
def test_kinks_that_nearly_meet_in_a_ball(width):
    # x > 0, x < width: beside, and at, the border of balls around (1, 0).
    for radius in (0.5, 1.0, 1.0 + width / 2, 1.5):
        weights = [
            (np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([0.0, width])),
            (np.ones((1, 2)), np.zeros(1)),
        ]
        truth = truth_on(weights, Ball([1.0, 0.0], radius, "l1"))
        verdicts = {
            gates: check(truth, [gates]) for gates in itertools.product((OFF, ON), repeat=2)
        }
        assert isinstance(verdicts[ON, OFF], LinearRegion)
        assert isinstance(verdicts[ON, ON], LinearRegion if radius > 1 - width else Empty)


# --- Free gates ----------------------------------------------------------------------------------


@pytest.mark.unwatched
@pytest.mark.parametrize("family", FAMILIES)
def test_free_gates_of_the_last_layer_match_anything(family):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        truth = truth_of(*case(family, seed))
        widths = widths_of(truth.weights)
        real = [
            [[int(bool(gate)) for gate in layer] for layer in region] for region in truth.regions
        ]
        for _ in range(6):
            gates = [list(layer) for layer in real[int(rng.integers(len(real)))]]
            if rng.random() < 0.5:
                gates[0][int(rng.integers(widths[0]))] ^= 1
            gates[-1] = [FREE if rng.random() < 0.5 else gate for gate in gates[-1]]
            check(truth, gates)


def test_all_gates_free_is_any_region():
    for family in FAMILIES:
        truth = truth_of(*case(family, 1))
        assert isinstance(
            check(truth, [(FREE,) * width for width in widths_of(truth.weights)]), LinearRegion
        )


@pytest.mark.unwatched
@pytest.mark.parametrize("family", FAMILIES)
def test_free_gates_below_others_never_make_a_verdict_wrong(family):
    # A gate further up depends on what a free one does: undecided is fair then, wrong is not.
    for seed in range(3):
        rng = np.random.default_rng(seed)
        truth = truth_of(*case(family, seed))
        for _ in range(7):
            gates = [
                [int(rng.choice((FREE, OFF, ON), p=(0.4, 0.3, 0.3))) for _ in range(width)]
                for width in widths_of(truth.weights)
            ]
            verdict = decide_region(truth.network, truth.domain, pattern(gates))
            if not isinstance(verdict, Undecided):
                check(truth, gates)


def test_a_constant_neuron_may_be_free():
    # The first neuron is 10 everywhere; the derivative does not depend on its gate, the second
    # layer does.
    weights = [
        (np.array([[0.0], [1.0]]), np.array([10.0, 0.0])),
        (np.array([[1.0, 20.0]]), np.array([-5.0])),
        (np.ones((1, 1)), np.zeros(1)),
    ]
    truth = truth_of(weights, [-1.0], [1.0])
    for second in (OFF, ON):
        assert not isinstance(
            decide_region(truth.network, truth.domain, pattern([(FREE, second), (ON,)])), Empty
        )
        assert isinstance(check(truth, [(ON, second), (ON,)]), LinearRegion)
        assert not isinstance(
            decide_region(truth.network, truth.domain, pattern([(FREE, second), (OFF,)])),
            LinearRegion,
        )


def test_what_depends_on_a_free_gate_two_layers_below_is_unknown():
    # z = 10 + relu(x) with the 10 from a neuron that is free, then relu(z) - 5: on everywhere.
    weights = [
        (np.array([[0.0], [1.0]]), np.array([10.0, 0.0])),
        (np.array([[1.0, 1.0]]), np.zeros(1)),
        (np.ones((1, 1)), np.full(1, -5.0)),
        (np.ones((1, 1)), np.zeros(1)),
    ]
    truth = truth_of(weights, [-1.0], [1.0])
    for second in (OFF, ON):
        for known in (ON, FREE):
            gates = [(known, second), (ON,), (ON,)]
            assert not isinstance(decide_region(truth.network, truth.domain, pattern(gates)), Empty)
            gates = [(known, second), (ON,), (OFF,)]
            assert not isinstance(
                decide_region(truth.network, truth.domain, pattern(gates)), LinearRegion
            )


# --- Small regions, and hard numbers -------------------------------------------------------------


def hat(at: float, width: float) -> Truth:
    """relu(x - at) - relu(at + width - x), both on between the two kinks.

    The width counts from the rounded `at`.
    """
    weights = [
        (np.array([[1.0], [-1.0]]), np.array([-at, at + width])),
        (np.array([[1.0, -1.0]]), np.zeros(1)),
    ]
    return truth_of(weights, [-1.0], [1.0])


@pytest.mark.parametrize("width", [1e-3, 1e-6, 1e-9, 1e-12, 1e-15, 1e-18, 1e-21, 1e-30])
def test_kinks_that_nearly_meet_at_zero(width):
    truth = hat(0.0, width)
    verdicts = {gates: check(truth, [gates]) for gates in itertools.product((OFF, ON), repeat=2)}
    assert isinstance(verdicts[ON, ON], LinearRegion)
    assert 0 < verdicts[ON, ON].point[0] < width
    assert gradients(truth.network, np.ones((1, 1)), pattern([(ON, ON)]))[0].tolist() == [[2.0]]
    assert isinstance(verdicts[OFF, OFF], Empty)
    # The two that overlap nowhere, one kink passed the other.
    turned = hat(0.0, -width)
    assert isinstance(check(turned, [(ON, ON)]), Empty)
    assert isinstance(check(turned, [(OFF, OFF)]), LinearRegion)


@pytest.mark.parametrize("at", [0.5, 0.7, -0.3, 0.1])
@pytest.mark.parametrize("width", [1e-9, 1e-12, 1e-15])
def test_kinks_that_nearly_meet_elsewhere(at, width):
    for signed in (width, -width):
        truth = hat(at, signed)
        for gates in itertools.product((OFF, ON), repeat=2):
            check(truth, [gates])


@pytest.mark.parametrize("at", [0.5, 0.7, -0.3])
def test_a_region_that_holds_no_float(at):
    truth = hat(at, float(np.nextafter(at, 1.0) - at))
    verdict = check(truth, [(ON, ON)])
    assert isinstance(verdict, LinearRegion)
    assert verdict.point.dtype == object
    assert Fraction(at) < verdict.point[0] < Fraction(float(np.nextafter(at, 1.0)))


def test_kinks_that_meet_leave_no_region():
    for at in (0.0, 0.5, 0.7):
        truth = hat(at, 0.0)
        verdicts = [check(truth, [gates]) for gates in itertools.product((OFF, ON), repeat=2)]
        assert [type(verdict) for verdict in verdicts] == [Empty, LinearRegion, LinearRegion, Empty]


@pytest.mark.parametrize("width", [1e-6, 1e-9, 1e-12, 1e-15])
def test_small_triangles(width):
    # x > 0, y > 0, x + y < width, and its mirror image, which is empty.
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    truth = truth_of(
        [(rows, np.array([0.0, 0.0, width])), (np.ones((1, 3)), np.zeros(1))],
        -np.ones(2),
        np.ones(2),
    )
    assert isinstance(check(truth, [(ON, ON, ON)]), LinearRegion)
    for gates in itertools.product((OFF, ON), repeat=3):
        check(truth, [gates])


@pytest.mark.unwatched
@pytest.mark.parametrize("family", ["general", "concurrent", "late_coincidence"])
@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9, 1e-12])
def test_the_scale_of_the_box_does_not_matter(family, size):
    # The same network in other units: biases times `size`, box times `size`; and the other way
    # round.
    weights, low, high = small_case(family, 0)
    for factor in (2.0 ** round(np.log2(size)), 2.0 ** -round(np.log2(size))):
        scaled = truth_of(
            [(matrix, factor * bias) for matrix, bias in weights], factor * low, factor * high
        )
        plain = truth_of(weights, low, high)
        gates = list(all_gates(widths_of(weights)))
        for index in np.random.default_rng(0).permutation(len(gates))[:12].tolist():
            assert type(check(scaled, gates[index])) is type(check(plain, gates[index]))


@pytest.mark.parametrize("factor", [1e-8, 1e8, 1e-30, 1e30])
def test_the_scale_of_the_weights_does_not_matter(factor):
    for family in ("general", "sign_pairs", "border"):
        weights, low, high = small_case(family, 0)
        layers = [
            (factor * matrix, factor ** (k + 1) * bias) for k, (matrix, bias) in enumerate(weights)
        ]
        truth = truth_of(layers, low, high)
        gates = list(all_gates(widths_of(weights)))
        for index in np.random.default_rng(1).permutation(len(gates))[:16].tolist():
            check(truth, gates[index])


def test_neurons_of_very_different_scales():
    rng = np.random.default_rng(4)
    (first, bias), last = random_weights(rng, (2, 5, 1))
    sizes = np.array([1e-8, 1e8, 1.0, 1e-4, 1e4])
    truth = truth_of([(first * sizes[:, None], bias * sizes), last], -np.ones(2), np.ones(2))
    for gates in itertools.product((OFF, ON), repeat=5):
        check(truth, [gates])


@pytest.mark.parametrize("difference", [1e-3, 1e-6, 1e-9, 1e-12, 2e-16])
def test_nearly_parallel_neurons(difference):
    # Thin wedges between a row and itself turned a little, or moved a little, and opposite signs of
    # them.
    row = np.array([0.6, -0.8])
    turned = row + difference * np.array([0.8, 0.6])
    rows = np.vstack([row, turned, -row, row])
    truth = truth_of(
        [(rows, np.array([0.1, 0.1, -0.1, 0.1 + difference])), (np.ones((1, 4)), np.zeros(1))],
        -np.ones(2),
        np.ones(2),
    )
    for gates in itertools.product((OFF, ON), repeat=4):
        check(truth, [gates])


def test_regions_that_depend_on_every_bit():
    # Rows that add up to 0 but for the last bit of one entry: on together, or not, by that bit.
    row, other = np.array([0.1, 0.2]), np.array([-0.3, 0.7])
    last = -(row + other)
    for nudge in (0.0, 1e-16, -1e-16, 1e-15, -1e-15):
        rows = np.vstack([row, other, last])
        bias = np.array([nudge, 0.0, 0.0])
        truth = truth_of([(rows, bias), (np.ones((1, 3)), np.zeros(1))], -np.ones(2), np.ones(2))
        for gates in itertools.product((OFF, ON), repeat=3):
            check(truth, [gates])


def test_regions_at_the_border_of_the_box():
    # Kinks within a hair of the box's faces, inside and outside.
    for gap in (1e-9, 1e-15, -1e-15, -1e-9, 0.0):
        rows = np.array([[1.0, 0.0], [0.0, -1.0], [1.0, 1.0]])
        bias = np.array([-1.0 + gap, -1.0 + gap, -2.0 + gap])
        truth = truth_of([(rows, bias), (np.ones((1, 3)), np.zeros(1))], -np.ones(2), np.ones(2))
        for gates in itertools.product((OFF, ON), repeat=3):
            check(truth, [gates])


@pytest.mark.parametrize("ulps", [1, 2, 3])
def test_a_box_of_a_few_floats(ulps):
    # Its border is not its interior: between two neighbouring floats, the point has to be a
    # fraction.
    low = np.array([1.0, -0.3])
    high = low
    for _ in range(ulps):
        high = np.nextafter(high, 2.0)
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    for kink in (0.7, 0.5):  # within the box, and beside it
        truth = truth_of(
            [(rows, np.array([0.0, 0.0, -kink])), (np.ones((1, 3)), np.zeros(1))], low, high
        )
        for gates in itertools.product((OFF, ON), repeat=3):
            check(truth, [gates])


def test_a_neuron_without_weights_has_the_state_of_its_bias():
    rows = np.array([[0.0], [0.0], [0.0], [1.0]])
    truth = truth_of(
        [(rows, np.array([1e-30, -1e-30, 0.0, 0.0])), (np.ones((1, 4)), np.zeros(1))], [-1.0], [1.0]
    )
    real = [
        gates
        for gates in itertools.product((OFF, ON), repeat=4)
        if isinstance(check(truth, [gates]), LinearRegion)
    ]
    # On, off, either, either.
    assert real == [(ON, OFF, *rest) for rest in itertools.product((OFF, ON), repeat=2)]


def test_regions_of_a_graph_with_branches():
    # No oracle for graphs: points show real patterns, and decide must find each again, and never
    # call it empty.
    net = branched()
    box = Box(-np.ones(3), np.ones(3))
    patterns = {}
    for point in box.sample(np.random.default_rng(3), 400):
        found = pattern_at(net, point)
        if found is not None:
            patterns[tuple(np.concatenate(found).tolist())] = found
    assert len(patterns) > 20
    for found in list(patterns.values())[:40]:
        verdict = decide_region(net, box, found)
        assert isinstance(verdict, LinearRegion)
        assert all((a == b).all() for a, b in zip(verdict.pattern, found, strict=True))
    rng = np.random.default_rng(5)
    for found in list(patterns.values())[:40]:
        changed = tuple(
            np.where(rng.random(layer.size) < 0.15, 1 - layer, layer).astype(np.int8)
            for layer in found
        )
        verdict = decide_region(net, box, changed)
        assert not isinstance(verdict, Undecided)
        if isinstance(verdict, Empty):
            shared = [
                other
                for other in patterns.values()
                if all(
                    ((k == FREE) | (k == o)).all()
                    for k, o in zip(verdict.pattern, other, strict=True)
                )
            ]
            assert not shared
