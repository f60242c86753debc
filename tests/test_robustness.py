"""Certified radii against the enumeration oracle, which knows the exact ones."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import lipexact as lx
from lipexact import robustness
from lipexact.errors import DomainError, ModelError, NormError, OptionError, SolverUnavailableError
from lipexact.graph.ir import Affine, Graph, Input
from lipexact.graph.lowering import relu
from lipexact.network import Network, network
from tests.support.networks import Layers, forward, random_weights, to_network
from tests.support.oracle import (
    Norm,
    Polyhedral,
    constant,
    l1_ball_halfspaces,
    regions,
    robust_radius,
    trace,
)
from tests.support.solvers import require

TOLERANCE = 1e-3
CLIP = (-0.75, 0.75)
WEIGHTED = np.array([[2.0, 0.0], [0.0, 0.5], [1.0, 0.5]])
NORMS: dict[str, tuple[str | lx.PolyhedralNorm, Norm]] = {
    "linf": ("linf", "linf"),
    "l1": ("l1", "l1"),
    **{
        form: (
            lx.PolyhedralNorm(**{form: np.vstack([WEIGHTED, -WEIGHTED])}),
            Polyhedral(**{form: np.vstack([WEIGHTED, -WEIGHTED])}),
        )
        for form in ("halfspaces", "vertices")
    },
}
# The label is 0 up to x = 1 / slope.
LINE_OFFSET = 1.0


def classifier(seed: int) -> tuple[Layers, np.ndarray]:
    """A network with 2 inputs and 2 to 4 outputs, and a point in [-0.75, 0.75]^2."""
    rng = np.random.default_rng(seed)
    hidden = ((8,), (4, 4), (10,), (3, 3, 3))[seed % 4]
    return random_weights(rng, (2, *hidden, 2 + seed % 3)), rng.uniform(-0.75, 0.75, 2)


def line(slope: float) -> Network:
    """The outputs 1 and slope x."""
    return to_network([(np.array([[0.0], [slope]]), np.array([LINE_OFFSET, 0.0]))])


def ramp(kink: float) -> Network:
    """The outputs 1 and relu(x - kink)."""
    return to_network(
        [(np.array([[1.0]]), np.array([-kink])), (np.array([[0.0], [1.0]]), np.array([1.0, 0.0]))]
    )


def margins_of(weights: Layers, x: np.ndarray) -> tuple[int, list[list[Fraction]]]:
    """The label, and f_label - f_j divided by its value at x, for every other j."""
    outputs = trace(weights, x.tolist())[-1]
    label = outputs.index(max(outputs))
    rows = []
    for j in range(len(outputs)):
        if j != label:
            margin = outputs[label] - outputs[j]
            rows.append([Fraction((k == label) - (k == j)) / margin for k in range(len(outputs))])
    return label, rows


def needed(
    weights: Layers, x: np.ndarray, radius: float, norm: Norm, clip: tuple[float, float] | None
) -> float:
    """r times the largest local constant of a margin / its value at x: certified up to 1."""
    size, center = Fraction(radius), [Fraction(entry) for entry in x.tolist()]
    reach, halfspaces = size, []
    if norm == "l1":
        halfspaces = l1_ball_halfspaces(x.tolist(), radius)
    elif isinstance(norm, Polyhedral):
        reach = size * max(abs(entry) for corner in norm.corners for entry in corner)
        facets = norm.polar.corners
        halfspaces = [
            (row, sum(a * b for a, b in zip(row, center, strict=True)) + size) for row in facets
        ]
    lower, upper = [entry - reach for entry in center], [entry + reach for entry in center]
    if clip is not None:
        lower = [max(entry, Fraction(clip[0])) for entry in lower]
        upper = [min(entry, Fraction(clip[1])) for entry in upper]
    found = regions(weights, lower, upper, halfspaces)
    return radius * constant(found, margins_of(weights, x)[1], norm)


def inside(rng: np.random.Generator, norm: Norm, count: int) -> np.ndarray:
    """Points of the open unit ball of R^2, many of them near its border."""
    if isinstance(norm, Polyhedral):
        facets = np.array(norm.polar.corners, dtype=float)
    else:
        facets = {
            "linf": np.vstack([np.eye(2), -np.eye(2)]),
            "l1": np.array(list(itertools.product((-1.0, 1.0), repeat=2))),
            "l2": np.zeros((1, 2)),
        }[norm]
    steps = rng.normal(size=(count, 2))
    lengths = np.linalg.norm(steps, axis=1) if norm == "l2" else (steps @ facets.T).max(axis=1)
    return steps / lengths[:, None] * np.sqrt(rng.uniform(0, 1, (count, 1))) * (1 - 1e-9)


def check(
    weights: Layers,
    x: np.ndarray,
    which: str | lx.PolyhedralNorm,
    norm: Norm,
    clip: Any = None,
    **options: Any,
) -> lx.CertifiedRadius:
    """A radius that is no larger than the exact one, with steps that prove it."""
    result = lx.certified_radius(
        to_network(weights), x, input_norm=which, domain_clip=clip, **options
    )
    label, _ = margins_of(weights, x)
    assert result.label == label
    assert 0 < result.radius <= result.upper
    if norm != "l2":  # else the ball is not the domain that is looked at
        assert result.radius >= (1 - TOLERANCE) * result.upper
    assert result.margins == pytest.approx(
        forward(weights, x[None, :])[0, label] - forward(weights, x[None, :])[0]
    )

    low, high = ([-64.0] * 2, [64.0] * 2) if clip is None else ([clip[0]] * 2, [clip[1]] * 2)
    exact = robust_radius(weights, x.tolist(), low, high, norm)
    assert result.radius <= exact * (1 + 1e-9)

    moved = x + min(result.radius, 100.0) * inside(np.random.default_rng(0), norm, 2000)
    if clip is not None:
        moved = moved[((moved >= clip[0]) & (moved <= clip[1])).all(axis=1)]
    assert (forward(weights, moved).argmax(axis=1) == label).all()
    certificates(result)
    json.dumps(result.to_dict())
    return result


def certificates(result: lx.CertifiedRadius) -> None:
    """Each step shows what it claims, and the radius is one that a step shows."""
    assert result.steps
    assert result.seconds >= sum(step.result.seconds for step in result.steps)
    shown = []
    for step in result.steps:
        assert step.certified is step.result.within_target
        if step.certified:
            assert step.radius * step.result.upper <= 1
        elif step.certified is False:
            assert step.radius * step.result.lower > 1 - 1e-9
            assert (
                result.upper <= max(step.radius, 1 / step.result.lower) * 1.5
            )  # l2: a ball's corners stand out
        shown.append(
            min(step.radius, 1 / step.result.upper) if step.result.upper > 0 else step.radius
        )
    if np.isfinite(result.radius):
        assert result.radius <= max(shown)


@pytest.mark.unwatched
@pytest.mark.parametrize("clip", [None, CLIP], ids=["free", "clipped"])
@pytest.mark.parametrize("name", sorted(NORMS))
def test_the_radius_is_the_largest_that_the_local_constant_certifies(
    name: str, clip: tuple[float, float]
) -> None:
    which, norm = NORMS[name]
    weights, x = classifier(sorted(NORMS).index(name) % 2 + (0 if clip is None else 2))
    result = check(weights, x, which, norm, clip)
    if np.isfinite(result.radius):
        assert needed(weights, x, result.radius, norm, clip) <= 1 + 1e-9
        assert needed(weights, x, result.upper * (1 + 1e-8), norm, clip) > 1


@pytest.mark.parametrize("clip", [None, CLIP], ids=["free", "clipped"])
def test_the_radius_in_l2(clip: tuple[float, float] | None) -> None:
    weights, x = classifier(2)
    check(weights, x, "l2", "l2", clip)


@pytest.mark.unwatched
@pytest.mark.parametrize(
    ("seed", "mode"), [(0, "forward"), (1, "reverse"), (2, "forward"), (3, "reverse")]
)
def test_both_modes_agree(seed: int, mode: str) -> None:
    weights, x = classifier(seed)
    auto = check(weights, x, "linf", "linf")
    forced = check(weights, x, "linf", "linf", mode=mode)
    assert forced.radius <= auto.upper * (1 + 1e-9)
    assert auto.radius <= forced.upper * (1 + 1e-9)


@pytest.mark.unwatched
def test_every_solver(solver: str) -> None:
    weights = random_weights(np.random.default_rng(0), (2, 5, 3))
    check(weights, np.array([0.25, -0.5]), "l1", "l1", method="mip", solver=solver)


@pytest.mark.unwatched
def test_the_relaxation_certifies_no_more() -> None:
    for seed in (1, 3):
        weights, x = classifier(seed)
        relaxed = lx.certified_radius(to_network(weights), x, method="lp")
        assert 0 < relaxed.radius <= robust_radius(weights, x.tolist(), [-64] * 2, [64] * 2)
        assert needed(weights, x, relaxed.radius, "linf", None) <= 1 + 1e-9
        certificates(relaxed)


def test_a_smaller_tolerance_closes_in_on_the_same_radius() -> None:
    weights, x = classifier(2)
    rough, fine = (
        lx.certified_radius(to_network(weights), x, tolerance=tolerance)
        for tolerance in (0.5, 1e-7)
    )
    assert fine.radius >= (1 - 1e-7) * fine.upper
    assert rough.radius <= fine.upper
    assert fine.radius <= rough.upper
    assert len(rough.steps) <= len(fine.steps)


def linear(seed: int) -> tuple[Layers, np.ndarray, np.ndarray]:
    """A linear classifier of 3 inputs, a point, and f_label - f_j as rows (gradient, value)."""
    rng = np.random.default_rng(seed)
    matrix, bias, x = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=3)
    outputs = matrix @ x + bias
    label = int(outputs.argmax())
    others = np.delete(np.arange(4), label)
    rows = np.column_stack([matrix[label] - matrix[others], outputs[label] - outputs[others]])
    return [(matrix, bias)], x, rows


@pytest.mark.parametrize("norm", ["linf", "l1", "l2", "halfspaces", "vertices"])
def test_the_radius_of_a_linear_classifier_is_the_exact_one(norm: str) -> None:
    scales = np.array([2.0, 0.5, 1.0])
    half = np.diag(scales)
    for seed in range(3):
        weights, x, rows = linear(seed)
        slopes = np.abs(rows[:, :3])
        dual = {
            "linf": slopes.sum(axis=1),
            "l1": slopes.max(axis=1),
            "l2": np.linalg.norm(slopes, axis=1),
            "halfspaces": (slopes / scales).sum(axis=1),  # the norm max |s_i z_i|
            "vertices": (slopes * scales).max(axis=1),  # the norm sum |z_i / s_i|
        }[norm]
        exact = float((rows[:, 3] / dual).min())
        which = (
            norm
            if norm not in NORMS or norm in ("linf", "l1")
            else lx.PolyhedralNorm(**{norm: np.vstack([half, -half])})
        )
        options = {"solver": require("scip")} if norm == "l2" else {}
        result = lx.certified_radius(to_network(weights), x, input_norm=which, **options)
        assert result.radius <= exact * (1 + 1e-9)
        assert result.radius == pytest.approx(exact, rel=TOLERANCE)
        assert result.upper == pytest.approx(exact, rel=1e-9)
        assert len(result.steps) <= 3


@pytest.mark.parametrize("slope", [1e-100, 1e-24, 1e-13, 1e-8, 1.0, 1e8, 1e15, 1e100])
def test_the_radius_of_a_line_of_any_slope(slope: float) -> None:
    result = lx.certified_radius(line(slope), [0.0])
    assert result.radius == pytest.approx(1 / slope, rel=1e-9)
    assert result.upper == pytest.approx(1 / slope, rel=1e-9)


def test_a_margin_of_any_size() -> None:
    weights, x = random_weights(np.random.default_rng(0), (2, 4, 2)), np.array([0.25, -0.5])
    label, _ = margins_of(weights, x)
    for margin in (1e6, 1e15):
        matrix, bias = weights[-1]
        wide = [*weights[:-1], (matrix, bias + margin * np.eye(len(bias))[label])]
        result = lx.certified_radius(to_network(wide), x)
        far = [8 * margin] * 2
        assert result.radius <= robust_radius(wide, x.tolist(), [-entry for entry in far], far) * (
            1 + 1e-9
        )
        assert result.radius >= (1 - TOLERANCE) * result.upper


def test_inputs_of_any_size() -> None:
    weights, x = classifier(0)
    matrix, bias = weights[0]
    plains = {
        name: lx.certified_radius(to_network(weights), x, input_norm=name)
        for name in ("linf", "l1")
    }
    for scale, name in ((1e-12, "linf"), (1e-6, "l1"), (1e6, "linf"), (1e12, "l1")):
        plain = plains[name]
        scaled = lx.certified_radius(
            to_network([(matrix / scale, bias), *weights[1:]]), x * scale, input_norm=name
        )
        assert scaled.radius >= (1 - TOLERANCE) * scaled.upper
        assert scaled.radius <= scale * plain.upper * (1 + 1e-9)
        assert scale * plain.radius <= scaled.upper * (1 + 1e-9)


@pytest.mark.parametrize("kink", [0.5, 1e6, 2e12, 1e30])
def test_a_kink_far_away_is_found_or_the_radius_stays_below_it(kink: float) -> None:
    """The decision changes at kink + 1; at x there is no slope at all."""
    result = lx.certified_radius(ramp(kink), [0.0])
    assert result.radius <= kink + 1


@pytest.mark.unwatched
def test_a_slope_that_is_none_does_not_make_the_radius_infinite() -> None:
    """At 0 the Jacobian with both gates off is no region's: x - relu(x) + relu(-x) = 0.

    The decision changes at 4.
    """
    x, steep = Input(1), 1e13
    hidden = relu(
        Affine(((np.array([[1.0], [-1.0], [1.0]]), x),), np.array([0.0, 0.0, -3.0])), "hidden"
    )
    skip, above = np.array([[0.0], [steep]]), np.array([[0.0, 0.0, 0.0], [-steep, steep, 1.0]])
    output = Affine(((skip, x), (above, hidden)), np.array([1.0, 0.0]))
    model = network(Graph((x,), (output,)), input_shape=(1,), output_shape=(2,), name="kink")
    assert model.evaluate([5.0]) == pytest.approx([1.0, 2.0])
    assert lx.certified_radius(model, [0.0]).radius <= 4


def test_a_decision_that_never_changes_is_certified_everywhere() -> None:
    constant_network = [(np.zeros((3, 2)), np.array([0.0, 1.0, -1.0]))]
    dead = [(np.eye(2), np.full(2, -100.0)), (np.ones((2, 2)), np.array([0.0, 1.0]))]
    parallel = [(np.array([[1.0, 2.0], [1.0, 2.0]]), np.array([0.0, 1.0]))]
    for weights in (constant_network, parallel, [*parallel, (np.eye(2), np.zeros(2))]):
        result = lx.certified_radius(to_network(weights), [0.5, 0.5], domain_clip=(0, 1))
        assert result.radius == result.upper == np.inf
        assert result.label == 1
        certificates(result)
    for which, _ in NORMS.values():
        assert (
            lx.certified_radius(
                to_network(dead), [0.5, 0.5], domain_clip=(0, 1), input_norm=which
            ).radius
            == np.inf
        )
        result = lx.certified_radius(to_network(constant_network), [0.5, 0.5], input_norm=which)
        assert result.radius == result.upper == np.inf


def test_a_clip_that_is_certified_as_a_whole_makes_the_radius_infinite() -> None:
    """The constant is 1, no pixel is farther than 0.5, and the margin is 0.75."""
    weights = [(np.array([[0.5, 0.5], [0.0, 0.0]]), np.array([0.25, 0.0]))]
    assert needed(weights, np.full(2, 0.5), 0.5, "linf", (0, 1)) < 1
    assert lx.certified_radius(to_network(weights), [0.5, 0.5], domain_clip=(0, 1)).radius == np.inf


def test_a_ball_of_a_norm_with_large_weights_does_not_cover_the_clip() -> None:
    """The norm 100 max |z_i|: the decision changes at x_1 = 0.25, 25 away from x."""
    rows = 100 * np.vstack([np.eye(2), -np.eye(2)])
    weights = [(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([0.0, 0.25]))]
    for norm in (lx.PolyhedralNorm(halfspaces=rows), lx.PolyhedralNorm(vertices=rows / 1e4)):
        for clip in (None, (0, 1)):
            result = lx.certified_radius(
                to_network(weights), [0.5, 0.5], input_norm=norm, domain_clip=clip
            )
            assert result.radius <= 25 * (1 + 1e-9)


@pytest.mark.unwatched
def test_a_point_on_the_border_of_the_clip() -> None:
    weights, _ = classifier(2)
    edge, corner = np.array([-0.75, 0.25]), np.array([0.75, 0.75])
    for x, name in ((edge, "linf"), (corner, "l1"), (edge, "halfspaces"), (corner, "linf")):
        check(weights, x, *NORMS[name], clip=CLIP)


def test_a_clip_by_arrays() -> None:
    weights, x = classifier(0)
    net = to_network(weights)
    plain = lx.certified_radius(net, x, domain_clip=CLIP)
    for side in ([0.75, 0.75], np.full((1, 2), 0.75)):
        array = lx.certified_radius(net, x[None, :], domain_clip=(-np.asarray(side), side))
        assert array.radius == plain.radius
    half = lx.certified_radius(net, x, domain_clip=(-np.inf, np.inf))
    assert half.radius == lx.certified_radius(net, x).radius


def test_the_upper_bound_in_l2_speaks_of_the_ball() -> None:
    """A kink outside of the unit circle, inside the octagon around it.

    Radius 1.03 is certified, for L = 0.5 there.
    """
    require("scip")
    corner = np.array([1.0, math.sqrt(2) - 1])
    steep = 50 * corner / np.linalg.norm(corner)
    weights = [
        (np.vstack([np.eye(2), -np.eye(2), steep]), np.array([4.0, 4.0, 0.0, 0.0, -50 * 1.04])),
        (np.array([[0.0] * 5, [0.5, 0.0, 0.0, 0.0, 1.0]]), np.array([1.0, -2.0])),
    ]
    x = np.zeros(2)
    assert robust_radius(weights, x.tolist(), [-4.0] * 2, [4.0] * 2, "l2") > 1.03
    result = check(weights, x, "l2", "l2", solver="scip")
    assert result.upper >= 1.03


def slow() -> tuple[Network, np.ndarray]:
    """A classifier that takes minutes."""
    weights = random_weights(np.random.default_rng(0), (8, 24, 24, 24, 3))
    return to_network(weights), np.zeros(8)


def test_a_time_limit_leaves_an_honest_result() -> None:
    net, x = slow()
    label = int(net.evaluate(x).argmax())
    for limit in (1e-6, 0.5, 2.0):
        result = lx.certified_radius(net, x, time_limit=limit)
        assert result.seconds < 60  # on any machine, and far from the minutes without a limit
        assert 0 <= result.radius <= result.upper
        assert result.label == label
        assert [step.certified for step in result.steps[:-1]] == [
            step.certified is True for step in result.steps[:-1]
        ]
        if result.steps:
            certificates(result)
        moved = x + result.radius * np.random.default_rng(0).uniform(-1, 1, (2000, 8))
        assert (net.evaluate(moved).argmax(axis=1) == label).all()


@pytest.mark.parametrize("limit", [0, -1.0, np.nan, "1", True])
def test_a_bad_time_limit_is_refused(limit: Any) -> None:
    with pytest.raises(OptionError, match="time_limit"):
        lx.certified_radius(line(1.0), [0.0], time_limit=limit)


@pytest.mark.parametrize("tolerance", [1e-15, 1e-16, 1e-300])
def test_a_tolerance_below_rounding_ends(tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()

    def counted(*arguments: Any, **options: Any) -> lx.LipschitzResult:
        if next(calls) > 250:
            pytest.fail("the search does not end")
        return lx.lipschitz(*arguments, **options)

    monkeypatch.setattr(robustness, "lipschitz", counted)
    for slope in (1 / 3, 0.7, np.pi, 0.1, np.e):
        result = lx.certified_radius(line(slope), [0.0], tolerance=tolerance)
        assert result.radius == pytest.approx(1 / slope, rel=1e-11)
        assert result.upper == pytest.approx(1 / slope, rel=1e-11)


def test_a_tolerance_below_rounding_ends_on_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()

    def counted(*arguments: Any, **options: Any) -> lx.LipschitzResult:
        if next(calls) > 100:
            pytest.fail("the search does not end")
        return lx.lipschitz(*arguments, **options)

    monkeypatch.setattr(robustness, "lipschitz", counted)
    net = to_network(random_weights(np.random.default_rng(0), (2, 6, 3)))
    result = lx.certified_radius(net, [0.1, 0.2], tolerance=1e-16)
    assert result.radius == pytest.approx(result.upper, rel=1e-11)


@pytest.mark.parametrize("tolerance", [0, 1, -1, 2.0, np.nan, np.inf, True, "0.1", None])
def test_a_bad_tolerance_is_refused(tolerance: Any) -> None:
    with pytest.raises(OptionError, match="tolerance"):
        lx.certified_radius(line(1.0), [0.0], tolerance=tolerance)


def test_a_tolerance_may_be_any_real_number() -> None:
    for tolerance in (np.float64(0.1), np.float32(0.1), Fraction(1, 10)):
        assert lx.certified_radius(line(1.0), [0.0], tolerance=tolerance).radius == pytest.approx(
            1.0
        )


@pytest.mark.parametrize(
    "x", [[0.5], [0.5] * 3, [], [np.nan, 0.5], [np.inf, 0.5], "ab", None, [[0.5, "a"]], [1j, 0]]
)
def test_a_bad_point_is_refused(x: Any) -> None:
    with pytest.raises(DomainError, match=r"^x "):
        lx.certified_radius(to_network(classifier(0)[0]), x)


@pytest.mark.parametrize(
    "clip",
    [
        (0.6, 1),
        (0, 0.4),
        ([0, 0.6], [1, 1]),
        (1, 0),
        (0.5, 0.5),
        (0,),
        (0, 1, 2),
        3,
        ("a", "b"),
        (np.nan, 1),
        ([0] * 3, 1),
    ],
    ids=str,
)
def test_a_bad_clip_is_refused(clip: Any) -> None:
    with pytest.raises(DomainError):
        lx.certified_radius(to_network(classifier(0)[0]), [0.5, 0.5], domain_clip=clip)


def test_no_decision_no_radius() -> None:
    one = random_weights(np.random.default_rng(0), (2, 4, 1))
    with pytest.raises(ModelError, match="at least two outputs"):
        lx.certified_radius(to_network(one), [0.5, 0.5])
    tie = [(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), np.zeros(3))]
    with pytest.raises(ModelError, match="equal"):
        lx.certified_radius(to_network(tie), [0.5, 0.5])
    assert lx.certified_radius(to_network(tie), [0.5, 0.25]).label == 0
    # A tie that does not concern the largest output is none.
    result = lx.certified_radius(to_network([(tie[0][0], np.array([0.0, 0.0, 5.0]))]), [0.5, 0.5])
    assert result.label == 2
    assert result.radius == pytest.approx(4.5)


def test_options_that_do_not_fit_are_refused() -> None:
    weights, x = classifier(0)
    net = to_network(weights)
    with pytest.raises(NormError, match="unknown norm"):
        lx.certified_radius(net, x, input_norm="l3")
    with pytest.raises(NormError, match="3 dimensions"):
        lx.certified_radius(
            net, x, input_norm=lx.PolyhedralNorm(halfspaces=np.vstack([np.eye(3), -np.eye(3)]))
        )
    with pytest.raises(OptionError, match="method"):
        lx.certified_radius(net, x, method="guess")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="mode"):
        lx.certified_radius(net, x, mode="guess")  # type: ignore[arg-type]
    with pytest.raises(SolverUnavailableError):
        lx.certified_radius(net, x, input_norm="l2", method="mip", solver="highs")


def test_results_are_plain_data() -> None:
    weights, x = classifier(3)
    result = lx.certified_radius(to_network(weights), x)
    plain = result.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["radius"] == result.radius
    assert plain["label"] == result.label
    assert [step["radius"] for step in plain["steps"]] == [step.radius for step in result.steps]
    assert plain["steps"][0]["result"]["status"] in ("EXACT", "BOUNDED")


def test_an_infinite_radius_is_valid_json() -> None:
    """RFC 8259 has no Infinity: it is a string."""
    never = to_network([(np.zeros((2, 1)), np.array([0.0, 1.0]))])
    result = lx.certified_radius(never, [0.0], domain_clip=(0, 1))
    assert result.radius == np.inf
    again = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert again["radius"] == "inf"
    assert float(again["upper"]) == np.inf


def test_an_onnx_sized_point_keeps_its_shape() -> None:
    """x may have the network's own input shape."""
    matrix = np.random.default_rng(0).normal(size=(3, 4))
    start = Input(4)
    output = Affine(((matrix, start),), np.zeros(3))
    net = network(Graph((start,), (output,)), input_shape=(2, 2), output_shape=(3,), name="square")
    x = np.arange(4.0)
    shaped = lx.certified_radius(
        net, x.reshape(2, 2), domain_clip=(np.zeros((2, 2)), np.full((2, 2), 3.0))
    )
    assert shaped.radius == lx.certified_radius(net, x, domain_clip=(0, 3)).radius


@pytest.mark.parametrize("form", ["halfspaces", "vertices"])
def test_the_balls_of_weighted_norms_are_taken_as_they_are(form: str) -> None:
    """Not the box around them, which certifies less."""
    rows = np.diag([2.0, 0.5])
    which = lx.PolyhedralNorm(**{form: np.vstack([rows, -rows])})
    for seed in range(4):
        weights = random_weights(np.random.default_rng(seed), (2, 8, 3))
        result = lx.certified_radius(to_network(weights), [0.1, 0.2], input_norm=which)
        assert result.radius >= (1 - TOLERANCE) * result.upper


def test_a_point_must_lie_in_the_clip_and_have_the_networks_axes() -> None:
    matrix = np.random.default_rng(0).normal(size=(3, 6))
    start = Input(6)
    output = Affine(((matrix, start),), np.zeros(3))
    net = network(Graph((start,), (output,)), input_shape=(2, 3), output_shape=(3,), name="wide")
    with pytest.raises(lx.DomainError, match="x lies outside of domain_clip"):
        lx.certified_radius(net, np.full(6, 2.0), domain_clip=(0, 1))
    with pytest.raises(lx.DomainError, match=r"the network's input \(2, 3\): transpose them"):
        lx.certified_radius(net, np.full((3, 2), 0.5), domain_clip=(0, 1))
    with pytest.raises(lx.DomainError, match="flat"):
        lx.certified_radius(net, np.full(6, 0.5), domain_clip=(0.5, 0.5))
