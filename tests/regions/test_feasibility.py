"""Whether a pattern is a region: against the oracle, down to regions that hold no float."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from lipexact.graph.pattern import FREE, OFF, ON, Pattern
from lipexact.network import Network
from lipexact.numerics.lp import Slack
from lipexact.problem.homogenize import Homogenization
from lipexact.regions.affine import affine_forms, pattern_at
from lipexact.regions.conditions import sign_conditions
from lipexact.regions.farkas import contradicting_rows
from lipexact.regions.feasibility import (
    Empty,
    LinearRegion,
    Undecided,
    Verdict,
    decide_region,
    lifted_centre,
)
from lipexact.regions.gradients import gradients
from lipexact.sets.domains import Ball, Box, Domain, Polytope
from tests.support import oracle
from tests.support.graphs import branched
from tests.support.networks import (
    CUTS,
    FAMILIES,
    Case,
    Layers,
    case,
    cut_domain,
    halfspaces_of,
    integer_cases,
    random_weights,
    to_network,
)

Gates = tuple[tuple[bool, ...], ...]


# --- What is true, from the oracle -------------------------------------------------------------------


class Truth(NamedTuple):
    """The real patterns of a network: for each region its gates, None where the neuron is zero on all of it."""

    weights: Layers
    network: Network
    domain: Domain
    regions: list[tuple[tuple[bool | None, ...], ...]]

    def is_real(self, gates: Iterable[Iterable[int]]) -> bool:
        """Whether a region has these gates; FREE entries match anything."""
        asked = [list(layer) for layer in gates]
        return any(
            all(
                state == FREE or true is None or bool(state) == true
                for layer, truth in zip(asked, region, strict=True)
                for state, true in zip(layer, truth, strict=True)
            )
            for region in self.regions
        )


def truth_of(weights: Layers, low: Sequence[float], high: Sequence[float]) -> Truth:
    return truth_on(weights, Box(low, high))


def truth_on(weights: Layers, domain: Domain) -> Truth:
    found = []
    for region in oracle.regions(weights, domain.lower, domain.upper, halfspaces_of(domain)):
        vertices = [oracle.trace(weights, vertex)[:-1] for vertex in region.vertices]
        found.append(
            tuple(
                tuple(
                    None if all(vertex[k][i] == 0 for vertex in vertices) else gate
                    for i, gate in enumerate(layer)
                )
                for k, layer in enumerate(region.pattern)
            )
        )
    return Truth(weights, to_network(weights), domain, found)


def pattern(gates: Iterable[Iterable[int]]) -> Pattern:
    return tuple(np.array(list(layer), dtype=np.int8) for layer in gates)


def all_gates(widths: Sequence[int]) -> Iterable[list[tuple[int, ...]]]:
    for flat in itertools.product((OFF, ON), repeat=sum(widths)):
        rest = iter(flat)
        yield [tuple(itertools.islice(rest, width)) for width in widths]


def widths_of(weights: Layers) -> list[int]:
    return [len(bias) for _, bias in weights[:-1]]


def check_point(truth: Truth, region: LinearRegion, gates: Sequence[Sequence[int]]) -> None:
    """The point is inside the domain, and in rationals on the right side of every kink."""
    for low, entry, high in zip(truth.domain.lower, region.point, truth.domain.upper, strict=True):
        assert Fraction(low) < Fraction(entry) < Fraction(high)
    for row, limit in halfspaces_of(truth.domain):
        assert sum(
            Fraction(a) * Fraction(x) for a, x in zip(row, region.point, strict=True)
        ) < Fraction(limit)
    assert truth.is_real(region.pattern)
    layers = oracle.trace(truth.weights, list(region.point))[:-1]
    matching = [r for r in truth.regions if all_match(r, layers)]
    assert matching, "the point is on a kink"
    for layer, asked, states in zip(layers, gates, region.pattern, strict=True):
        for z, want, state in zip(layer, asked, states.tolist(), strict=True):
            assert state == int(z > 0)
            assert want in (FREE, state) or z == 0


def all_match(region: tuple[tuple[bool | None, ...], ...], layers: list[list[Fraction]]) -> bool:
    return all(
        (z == 0) if true is None else (z > 0 if true else z < 0)
        for truths, layer in zip(region, layers, strict=True)
        for true, z in zip(truths, layer, strict=True)
    )


def check(truth: Truth, gates: Sequence[Sequence[int]]) -> Verdict:
    """`decide` is right about these gates."""
    verdict = decide_region(truth.network, truth.domain, pattern(gates))
    match verdict:
        case LinearRegion():
            assert truth.is_real(gates)
            check_point(truth, verdict, gates)
        case Empty():
            assert not truth.is_real(gates)
            for states, layer in zip(verdict.pattern, gates, strict=True):
                assert all(
                    state in (FREE, asked)
                    for state, asked in zip(states.tolist(), layer, strict=True)
                )
            # Whatever the free gates are: no region at all shares the cause.
            assert not truth.is_real(verdict.pattern)
        case Undecided():
            pytest.fail(f"undecided: {gates}")
    return verdict


# --- Every pattern of small networks -----------------------------------------------------------------


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


def test_cones_in_general_position_need_no_fractions(monkeypatch):
    def refuse(*_):
        raise AssertionError("decided in fractions")

    monkeypatch.setattr("lipexact.regions.feasibility._decide_exactly", refuse)
    rng = np.random.default_rng(0)
    whole = Homogenization(to_network(random_weights(rng, [4, 10, 1])))
    verdicts = []
    for _ in range(200):
        gates = rng.integers(0, 2, 10, dtype=np.int8)
        verdicts.append(type(decide_region(whole.network, whole.domain, (gates,))))
    assert verdicts.count(Empty) > 50


@pytest.mark.parametrize(
    ("width", "empty"), [(1e-10, False), (0.0, False), (-1e-10, False), (-0.5, True)]
)
def test_slopes_that_nearly_cancel_prove_nothing(width, empty):
    # A cone so thin that multipliers of (1, 1) seem to rule it out: without any width, only fractions can tell.
    net = to_network(
        [([[1.0, 1.0], [-1.0, -1.0 + width]], np.zeros(2)), ([[1.0, 1.0]], np.zeros(1))]
    )
    both, box = pattern([[ON, ON]]), Box([-1, 0], [1, 1])
    found = sign_conditions(net, box.system(), affine_forms(net, both), both)
    cancelled = np.array([True, width > -0.1])
    told = Slack(np.zeros(2), 0.0, np.ones(2), cancelled)
    assert contradicting_rows(net, box.system(), found, both, told) == ([0, 1] if empty else None)
    assert isinstance(decide_region(net, box, both), LinearRegion if width > 0 else Empty)


@pytest.mark.unwatched
@pytest.mark.parametrize("family", FAMILIES)
def test_patterns_that_kinks_allow_are_decided_rightly(family):
    # What a mixed-integer program may propose: patterns that hold at some point with gates at 0 chosen freely.
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
    # The second layer sees relu(x) - 2, which is negative on [-1, 1] whatever the first gate: off, or on.
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


# --- Domains that are no boxes -----------------------------------------------------------------------


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


# --- Free gates ------------------------------------------------------------------------------------


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
    # The first neuron is 10 everywhere; the derivative does not depend on its gate, the second layer does.
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


# --- Small regions, and hard numbers ---------------------------------------------------------------


def hat(at: float, width: float) -> Truth:
    """relu(x - at) - relu(at + width - x), both on between the two kinks; `width` counts from the rounded `at`."""
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
    # The same network in other units: biases times `size`, box times `size`; and the other way round.
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
    # Thin wedges between a row and itself turned a little, or moved a little, and opposite signs of them.
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
    # Its border is not its interior: between two neighbouring floats, the point has to be a fraction.
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


# --- Patterns at points, forms and gradients -------------------------------------------------------


def test_pattern_at_refuses_kinks():
    weights = [
        (np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([-0.3, 0.0])),
        (np.ones((1, 2)), np.zeros(1)),
    ]
    net = to_network(weights)
    assert pattern_at(net, np.array([0.5, 0.5])) is None  # x = y
    assert pattern_at(net, np.array([0.1, 0.2])) is None  # 0.1 + 0.2 - 0.3 is 5e-17 in floats
    assert pattern_at(net, np.array([0.2, 0.1])) is None
    found = pattern_at(net, np.array([0.5, 0.25]))
    assert found is not None
    assert [layer.tolist() for layer in found] == [[1, 1]]
    found = pattern_at(net, np.array([-0.5, 0.25]))
    assert found is not None
    assert [layer.tolist() for layer in found] == [[0, 0]]


def test_pattern_at_refuses_what_rounding_may_hide():
    # A sum that cancels: whatever float arithmetic says, the exact sign decides.
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        row, point = rng.normal(size=6) * 10.0 ** rng.uniform(-3, 3, 6), rng.normal(size=6)
        bias = -float(row @ point) + rng.integers(-3, 4) * 1e-16
        found = pattern_at(to_network([(row[None], [bias]), (np.eye(1), np.zeros(1))]), point)
        exact = oracle.trace([(row[None], [bias])], point.tolist())[0][0]
        if found is None:
            refused += 1
        else:
            assert found[0].tolist() == [int(exact > 0)]
            assert exact != 0
    assert refused > 200


@pytest.mark.parametrize("family", FAMILIES)
def test_pattern_at_agrees_with_the_exact_signs(family):
    for seed in range(4):
        weights, low, high = case(family, seed)
        net = to_network(weights)
        for point in Box(low, high).sample(np.random.default_rng(seed), 10):
            found = pattern_at(net, point)
            exact = oracle.trace(weights, point.tolist())[:-1]
            if found is None:
                assert any(abs(z) < 1e-9 for layer in exact for z in layer)
            else:
                assert [layer.tolist() for layer in found] == [
                    [int(z > 0) for z in layer] for layer in exact
                ]


def test_affine_forms_agree_with_evaluation_and_with_exact_ones():
    net = branched()
    rng = np.random.default_rng(1)
    for point in rng.uniform(-2, 2, (20, 3)):
        found = pattern_at(net, point)
        assert found is not None
        forms, exact = affine_forms(net, found), affine_forms(net, found, exact=True)
        assert forms.keys() == exact.keys()
        linear, constant = forms[net.output]
        assert linear @ point + constant == pytest.approx(net.evaluate(point), rel=1e-12, abs=1e-12)
        assert linear == pytest.approx(net.jacobian(point), rel=1e-12, abs=1e-12)
        for node, (slopes, offsets) in exact.items():
            assert slopes.dtype == object
            assert slopes.astype(float) == pytest.approx(forms[node][0], rel=1e-12, abs=1e-12)
            assert offsets.astype(float) == pytest.approx(forms[node][1], rel=1e-12, abs=1e-12)
        functionals = rng.normal(size=(3, 2))
        assert gradients(net, functionals, found)[0] == pytest.approx(
            functionals @ linear, rel=1e-12
        )


def test_exact_forms_are_exact():
    for family in FAMILIES:
        weights, low, high = case(family, 2)
        net = to_network(weights)
        for region in oracle.regions(weights, low, high)[:4]:
            gates = pattern([[int(gate) for gate in layer] for layer in region.pattern])
            linear, constant = affine_forms(net, gates, exact=True)[net.output]
            assert tuple(map(tuple, linear.tolist())) == region.jacobian
            assert tuple(constant.tolist()) == region.offset


def test_free_gates_count_as_off_in_forms():
    net = to_network([(np.eye(2), np.ones(2)), (np.array([[1.0, 10.0]]), np.zeros(1))])
    linear, constant = affine_forms(net, pattern([(ON, FREE)]))[net.output]
    assert linear.tolist() == [[1.0, 0.0]]
    assert constant.tolist() == [1.0]


@pytest.mark.unwatched
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_finite_differences_at_the_point(family):
    # In rationals, with a step that stays within the region: no rounding, so equal.
    for seed in range(3):
        truth = truth_of(*case(family, seed))
        functionals = (
            np.random.default_rng(seed)
            .integers(-3, 4, (2, len(truth.weights[-1][1])))
            .astype(np.float64)
        )
        real = [
            [[int(bool(gate)) for gate in layer] for layer in region] for region in truth.regions
        ]
        for gates in real[:: max(1, len(real) // 4)]:
            verdict = check(truth, gates)
            assert isinstance(verdict, LinearRegion)
            start = [Fraction(entry) for entry in verdict.point]
            slopes = gradients(truth.network, functionals, verdict.pattern)[0]
            for c, row in zip(functionals, slopes.tolist(), strict=True):
                for j, slope in enumerate(row):
                    assert slope == pytest.approx(
                        float(difference(truth.weights, start, j, c)), rel=1e-9, abs=1e-9
                    )


@pytest.mark.parametrize("size", [1.0, 1e-8, 1e8])
def test_gradients_of_functionals_that_cancel(size):
    # Outputs that are equal, and nearly: differences of them are what their last bits leave.
    rng = np.random.default_rng(0)
    (first, bias), (row, _) = random_weights(rng, (3, 5, 1))
    last = size * np.vstack(
        [row, row, row * (1 + 2.0**-50), row + 1e-13 * rng.normal(size=row.shape)]
    )
    net, gates = to_network([(first, bias), (last, np.zeros(4))]), pattern([(ON, OFF, ON, ON, ON)])
    exact = affine_forms(net, gates, exact=True)[net.output][0]
    differences = [np.eye(4)[i] - np.eye(4)[j] for i, j in itertools.combinations(range(4), 2)]
    functionals = np.array([*np.eye(4), *differences, [1, 1, -1, -1], [1e8, -1e8, 1, 1]])
    truth = np.array([[float(entry) for entry in c] for c in fractions(functionals) @ exact])
    # Each alone up to its own size, the batch up to the largest of all; one after the other in any order.
    for c, expected in zip(functionals, truth, strict=True):
        alone = gradients(net, c[None, :], gates)[0]
        assert np.abs(alone[0] - expected).max() <= 1e-11 * np.abs(expected).max()
    assert not gradients(net, functionals[4:5], gates)[0].any()
    assert np.abs(truth[5:10]).max() < 1e-11 * np.abs(truth[0]).max()
    for chosen in (slice(None), slice(4, 10), slice(9, None, -2)):
        batch = gradients(net, functionals[chosen], gates)[0]
        assert batch.shape == truth[chosen].shape
        assert np.abs(batch - truth[chosen]).max() <= 1e-11 * np.abs(truth[chosen]).max()


def fractions(values: np.ndarray) -> np.ndarray:
    return np.array([[Fraction(entry) for entry in row] for row in values.tolist()], dtype=object)


def difference(weights: Layers, start: list[Fraction], j: int, c: np.ndarray) -> Fraction:
    """(f(x + h e_j) - f(x - h e_j)) / 2h for an h so small that it does not change with h."""
    signs = [[(z > 0) - (z < 0) for z in layer] for layer in oracle.trace(weights, start)[:-1]]
    step = Fraction(1, 4)
    while True:
        ends = []
        for side in (1, -1):
            moved = list(start)
            moved[j] += side * step
            layers = oracle.trace(weights, moved)
            if [[(z > 0) - (z < 0) for z in layer] for layer in layers[:-1]] == signs:
                ends.append(
                    sum(
                        (Fraction(w) * y for w, y in zip(c.tolist(), layers[-1], strict=True)),
                        Fraction(0),
                    )
                )
        if len(ends) == 2:
            return (ends[0] - ends[1]) / (2 * step)
        step /= 4


def test_regions_of_a_graph_with_branches():
    # No oracle for graphs: points show real patterns, and decide must find each again, and never call it empty.
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
