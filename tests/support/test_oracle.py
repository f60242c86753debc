"""The oracle against sampling, closed forms, counting formulas and itself; and the data it is
used on.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, QhullError

from tests.support.networks import (
    DEGENERATE,
    FAMILIES,
    Case,
    case,
    cases,
    duplicate,
    forward,
    integer_cases,
    linearize,
    random_weights,
)
from tests.support.oracle import (
    Polyhedral,
    Region,
    closed_patterns,
    constant,
    cross_functionals,
    dual,
    l1_ball_halfspaces,
    naive_constant,
    operator_norm,
    regions,
    robust_radius,
    trace,
    vector_norm,
)

pytestmark = pytest.mark.unwatched  # nothing here runs the package

NORMS = ("linf", "l1", "l2")
IDENTITY = [([[1], [-1]], [0, 0]), ([[1, -1]], [0])]  # relu(x) - relu(-x)


def relaxed(max_examples: int = 100) -> settings:
    """No limits on time: a busy machine is no failure."""
    return settings(
        deadline=None, max_examples=max_examples, suppress_health_check=[HealthCheck.too_slow]
    )


every_family = pytest.mark.parametrize("family", sorted(FAMILIES))


def gates(weights, x):
    """The activation pattern at a random point x, in floating point; None if x is too near to a
    kink.

    A value of rounding size stands for zero: at a random point, that means zero on the region.
    """
    activations, pattern = np.asarray(x, dtype=float), []
    for matrix, bias in weights[:-1]:
        values = matrix @ activations + bias
        if ((np.abs(values) > 1e-12) & (np.abs(values) < 1e-9)).any():
            return None
        pattern.append(tuple((values > 1e-12).tolist()))
        activations = np.maximum(values, 0)
    return tuple(pattern)


def chain_rule(weights, pattern):
    jacobian = np.eye(np.shape(weights[0][0])[1])
    for (matrix, _), on in zip(weights, (*pattern, None), strict=True):
        jacobian = np.asarray(matrix) @ jacobian
        if on is not None:
            jacobian = np.diag(np.asarray(on, dtype=float)) @ jacobian
    return jacobian


def check_exactly(region: Region, weights):
    """The region has interior, its signs hold inside, and the network is the affine map at all
    vertices.
    """
    at_vertices = [trace(weights, vertex) for vertex in region.vertices]
    inside = trace(weights, region.point)
    for layer, on in enumerate(region.pattern):
        for neuron, gate in enumerate(on):
            values = [values[layer][neuron] for values in at_vertices]
            if gate:
                assert min(values) >= 0 < inside[layer][neuron]
            else:
                assert max(values) <= 0
                assert inside[layer][neuron] < 0 or min(values) == 0
    for vertex, values in zip(
        (*region.vertices, region.point), (*at_vertices, inside), strict=True
    ):
        affine = [
            sum(a * x for a, x in zip(row, vertex, strict=True)) + offset
            for row, offset in zip(region.jacobian, region.offset, strict=True)
        ]
        assert affine == values[-1]


def volume(region: Region) -> float:
    vertices = np.array(region.vertices, dtype=float)
    if vertices.shape[1] == 1:
        return float(np.ptp(vertices))
    try:
        return float(ConvexHull(vertices).volume)
    except QhullError:  # too thin for floating point, so of no weight in the sum
        return 0.0


# --- The regions ----------------------------------------------------------------------------------


@every_family
@pytest.mark.parametrize("seed", range(6))
def test_regions_are_exact_and_tile_the_box(family, seed):
    weights, lower, upper = case(family, seed)
    found = regions(weights, lower, upper)
    for region in found:
        check_exactly(region, weights)
        assert all(lo < x < hi for lo, x, hi in zip(lower, region.point, upper, strict=True))
    assert len({region.pattern for region in found}) == len(found)
    assert sum(map(volume, found)) == pytest.approx(np.prod(upper - lower), rel=1e-9)


@relaxed(max_examples=60)
@given(integer_cases())
def test_regions_of_integer_networks_are_exact_and_tile_the_box(drawn):
    found = regions(*drawn)
    for region in found:
        check_exactly(region, drawn.weights)
    assert len({region.pattern for region in found}) == len(found)
    assert sum(map(volume, found)) == pytest.approx(np.prod(drawn.upper - drawn.lower), rel=1e-9)


@pytest.mark.parametrize("family", ["concurrent", "bias_free", "small_integers", "border"])
def test_vertices_are_extreme_points_of_cells_that_are_not_simple(family):
    checked = 0
    for seed in range(12):
        for region in regions(*case(family, seed)):
            vertices = np.array(region.vertices, dtype=float)
            if vertices.shape[1] > 1 and volume(region) > 1e-3:
                assert len(ConvexHull(vertices).vertices) == len(vertices)
                checked += len(vertices) > 4
    assert checked


@pytest.mark.parametrize("seed", range(3))
def test_vertices_are_extreme_points_in_four_dimensions(seed):
    """Two vertices of a cone that is not simple may share three facets without being adjacent."""
    rng = np.random.default_rng(seed)
    weights = [
        (rng.integers(-1, 2, (7, 4)), np.zeros(7, dtype=int)),
        (np.ones((1, 7), dtype=int), [0]),
    ]
    for region in regions(weights, [-1] * 4, [1] * 4):
        vertices = np.array(region.vertices, dtype=float)
        assert len(ConvexHull(vertices).vertices) == len(vertices)


@every_family
def test_sampling_sees_regions_of_the_oracle_and_no_other(family):
    rng = np.random.default_rng(0)
    for seed in range(8):
        weights, lower, upper = case(family, seed)
        found = regions(weights, lower, upper)
        known = {region.pattern: region for region in found}
        seen = {gates(weights, x) for x in rng.uniform(lower, upper, (600, len(lower)))} - {None}
        assert seen <= set(known)
        for pattern in seen:
            np.testing.assert_allclose(
                chain_rule(weights, pattern), known[pattern].jacobian_float, atol=1e-12
            )
        sampled = max(np.abs(chain_rule(weights, pattern)).sum(axis=1).max() for pattern in seen)
        assert sampled <= constant(found) * (1 + 1e-12)
        large = {
            pattern
            for pattern, region in known.items()
            if volume(region) > 0.03 * np.prod(upper - lower)
        }
        assert large
        assert large <= seen
        if seen == set(known):
            assert sampled == pytest.approx(constant(found), rel=1e-12)


@every_family
@pytest.mark.parametrize("input_norm", NORMS)
def test_difference_quotients_stay_below_the_constant(family, input_norm):
    order = {"linf": np.inf, "l1": 1, "l2": 2}[input_norm]
    rng = np.random.default_rng(1)
    for seed in range(4):
        weights, lower, upper = case(family, seed)
        bound = constant(regions(weights, lower, upper), None, input_norm)
        x = rng.uniform(lower, upper, (300, len(lower)))
        y = np.clip(
            x + rng.normal(size=x.shape) * 10.0 ** rng.uniform(-3, 0, (300, 1)), lower, upper
        )
        rise = np.linalg.norm(forward(weights, x) - forward(weights, y), order, axis=1)
        assert (rise <= bound * np.linalg.norm(x - y, order, axis=1) * (1 + 1e-9) + 1e-12).all()


# --- Closed forms ---------------------------------------------------------------------------------


def test_identity_written_with_two_relus_has_constant_one():
    found = regions(IDENTITY, [-1], [1])
    assert [region.pattern for region in found] == [((True, False),), ((False, True),)]
    assert {region.jacobian for region in found} == {((1,),)}
    assert constant(found) == 1
    assert len(closed_patterns(IDENTITY, [-1], [1])) == 4
    assert naive_constant(IDENTITY, [-1], [1]) == 2


@relaxed()
@given(
    st.lists(st.tuples(*[st.integers(-6, 6)] * 3), min_size=1, max_size=8),
    st.integers(-4, 0),
    st.integers(1, 4),
)
def test_one_input_one_layer_by_sorted_breakpoints(neurons, lower, upper):
    found = regions(
        [
            ([[w] for w, _, _ in neurons], [b for _, b, _ in neurons]),
            ([[v for *_, v in neurons]], [0]),
        ],
        [lower],
        [upper],
    )
    kinks = {Fraction(-b, w) for w, b, _ in neurons if w}
    ends = sorted(
        {Fraction(lower), Fraction(upper), *(kink for kink in kinks if lower < kink < upper)}
    )
    middles = [(a + b) / 2 for a, b in itertools.pairwise(ends)]
    slopes = [sum(v * w for w, b, v in neurons if w * x + b > 0) for x in middles]
    by_position = sorted(found, key=lambda region: region.point)
    assert [region.point for region in by_position] == [(x,) for x in middles]
    assert [region.jacobian for region in by_position] == [((slope,),) for slope in slopes]
    assert constant(found) == max(map(abs, slopes))


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 3, 5, 6])
def test_hyperplanes_in_general_position_make_the_known_number_of_regions(dimension, count):
    rng = np.random.default_rng(count)
    normals, points = rng.normal(size=(2, count, dimension))
    offsets = -(normals * points).sum(axis=1)
    crossings = [
        np.linalg.solve(normals[list(chosen)], -offsets[list(chosen)])
        for chosen in itertools.combinations(range(count), dimension)
    ]
    size = 10 + max((np.abs(crossing).max() for crossing in crossings), default=0)
    weights = [(normals, offsets), (rng.normal(size=(1, count)), [0.0])]
    # With enough hyperplanes every region has a crossing as a vertex; with fewer, all regions are
    # unbounded.
    size = size if count >= dimension else 1e6
    expected = sum(math.comb(count, k) for k in range(dimension + 1))
    assert len(regions(weights, [-size] * dimension, [size] * dimension)) == expected


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_lines_through_one_point(count):
    angles = np.arange(count) + 0.5
    weights = [
        (np.column_stack([np.cos(angles), np.sin(angles)]), np.zeros(count)),
        (np.ones((1, count)), [0]),
    ]
    assert len(regions(weights, [-1, -1], [1, 1])) == 2 * count
    assert len(closed_patterns(weights, [-1, -1], [1, 1])) == 2**count


def test_a_kink_on_the_border_makes_no_region():
    weights = [([[1, 0], [0, -1], [1, 1]], [-1, 0, -2]), ([[5, 5, 5]], [0])]
    found = regions(weights, [0, 0], [1, 1])
    assert [region.pattern for region in found] == [((False, False, False),)]
    assert constant(found) == 0
    assert naive_constant(weights, [0, 0], [1, 1]) == 15
    assert constant(regions(weights, [0, 0], [Fraction(3, 2), 1])) == 15


def test_a_neuron_that_is_zero_on_a_region_is_off_there():
    # h = relu(x); z1 = h, z2 = -h, z3 = 0: all zero for x < 0.
    weights = [([[1]], [0]), ([[1], [-1], [0]], [0, 0, 0]), ([[1, 7, 7]], [0])]
    found = regions(weights, [-1], [1])
    assert {region.pattern for region in found} == {
        ((True,), (True, False, False)),
        ((False,), (False, False, False)),
    }
    assert constant(found) == 1
    assert naive_constant(weights, [-1], [1]) == 7


def test_no_hidden_layer_is_one_region():
    (region,) = regions([([[1, -2], [3, 4]], [5, 6])], [0, 0], [1, 1])
    assert region.pattern == ()
    assert region.jacobian == ((1, -2), (3, 4))
    assert region.offset == (5, 6)
    assert region.point == (Fraction(1, 2), Fraction(1, 2))


def test_regions_far_below_floating_point_resolution_are_found():
    # The tent relu(x) - 2 relu(x - t) + relu(x - 2t), for t = 2^-80, at the scale of the box [-1,
    # 1].
    t = Fraction(1, 2**80)
    weights = [([[1], [1], [1]], [0, -t, -2 * t]), ([[1, -2, 1]], [0])]
    assert len(regions(weights, [-1], [1])) == 4
    assert constant(regions(weights, [-1], [1])) == 1


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**60])
def test_scaling_the_last_layer_scales_the_constant(scale):
    weights, lower, upper = case("general", 3)
    value = constant(regions(weights, lower, upper))
    scaled = [*weights[:-1], (weights[-1][0] * scale, weights[-1][1])]
    assert constant(regions(scaled, lower, upper)) == value * scale
    rescaled = [
        (weights[0][0] * scale, weights[0][1] * scale),
        *[(w, b * scale) for w, b in weights[1:]],
    ]
    assert constant(regions(rescaled, lower, upper)) == value * scale


@relaxed(max_examples=25)
@given(cases(), st.randoms(use_true_random=False))
def test_order_of_neurons_does_not_matter_and_a_smaller_box_has_no_larger_constant(drawn, random):
    weights, lower, upper = drawn
    value = constant(regions(*drawn))
    order = list(range(len(weights[0][1])))
    random.shuffle(order)
    permuted = [
        (weights[0][0][order], weights[0][1][order]),
        (weights[1][0][:, order], weights[1][1]),
        *weights[2:],
    ]
    assert constant(regions(permuted, lower, upper)) == value
    assert constant(regions(weights, lower, (lower + upper) / 2)) <= value


@pytest.mark.parametrize("seed", range(5))
def test_rewritten_networks_keep_their_constant(seed):
    rng = np.random.default_rng(seed)
    weights = random_weights(rng, (2, 4, 3, 2))
    box = ([-1, -1], [1, 1])
    value = constant(regions(weights, *box))
    assert constant(regions(duplicate(weights, 0, 1, 5 * np.ones(3)), *box)) == pytest.approx(
        value, rel=1e-12
    )
    assert constant(regions(duplicate(weights, 1, 2, -5 * np.ones(2)), *box)) == pytest.approx(
        value, rel=1e-12
    )
    points = rng.uniform(-1, 1, (20, 2))
    plain = [
        weights[0],
        (weights[1][0][:2], weights[1][1][:2]),
        (weights[2][0][:, :2], weights[2][1]),
    ]
    pair = linearize(weights, 1, 2)
    added = (
        np.maximum(points @ weights[0][0].T + weights[0][1], 0) @ weights[1][0][2]
        + weights[1][1][2]
    )
    np.testing.assert_allclose(
        forward(pair, points),
        forward(plain, points) + added[:, None] * weights[2][0][:, 2],
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ([0.0, 0.0], [1.0, 0.0]),
        ([0.0, 2.0], [1.0, 1.0]),
        ([0.0], [1.0]),
        ([0.0, math.nan], [1.0, 1.0]),
    ],
)
def test_a_box_that_is_flat_or_of_another_dimension_is_refused(lower, upper):
    with pytest.raises(ValueError, match=r"box|shapes"):
        regions([([[1, 1]], [0]), ([[1]], [0])], lower, upper)


def test_layers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        regions([([[1, 1]], [0]), ([[1, 2]], [0])], [0, 0], [1, 1])


# --- Domains cut by half-spaces -------------------------------------------------------------------


def halfspaces_through(rng, lower, upper, count):
    """Random half-spaces that cut the box and leave its centre inside."""
    normals = rng.normal(size=(count, len(lower)))
    offsets = (
        normals @ ((lower + upper) / 2)
        + rng.uniform(0.1, 0.8, count) * (np.abs(normals) @ (upper - lower)) / 2
    )
    return list(zip(normals, offsets, strict=True))


@every_family
@pytest.mark.parametrize("seed", range(3))
def test_redundant_halfspaces_change_nothing(family, seed):
    weights, lower, upper = case(family, seed)
    signs = list(itertools.product((-1, 1), repeat=len(lower)))
    touching = [
        (a, sum(max(s * lo, s * hi) for s, lo, hi in zip(a, lower, upper, strict=True)))
        for a in signs
    ]
    facets = [(row, hi) for row, hi in zip(np.eye(len(lower)), upper, strict=True)]
    away = [(np.ones(len(lower)), 1e6), (np.zeros(len(lower)), 0)]
    plain, cut = (
        regions(weights, lower, upper),
        regions(weights, lower, upper, [*touching, *facets, *away]),
    )
    assert {(r.pattern, r.jacobian, frozenset(r.vertices)) for r in plain} == {
        (r.pattern, r.jacobian, frozenset(r.vertices)) for r in cut
    }


@every_family
@pytest.mark.parametrize("seed", range(3))
def test_a_polytope_is_tiled_and_sampling_sees_its_regions_and_no_other(family, seed):
    rng = np.random.default_rng(seed)
    weights, lower, upper = case(family, seed)
    halfspaces = halfspaces_through(rng, lower, upper, 3)
    found = regions(weights, lower, upper, halfspaces)
    for region in found:
        check_exactly(region, weights)
        for a, b in halfspaces:
            assert all(
                sum(Fraction(p) * q for p, q in zip(a.tolist(), x, strict=True)) <= b
                for x in (*region.vertices, region.point)
            )
    # Off come the parts beyond the first half-space, beyond the second but not the first, and so
    # on.
    outside = [[*halfspaces[:k], (-a, -b)] for k, (a, b) in enumerate(halfspaces)]
    removed = 0.0
    for chosen in outside:
        try:
            removed += sum(map(volume, regions(weights, lower, upper, chosen)))
        except ValueError:  # nothing is beyond it
            continue
    assert removed + sum(map(volume, found)) == pytest.approx(np.prod(upper - lower), rel=1e-9)
    points = rng.uniform(lower, upper, (1000, len(lower)))
    inside = [x for x in points if all(a @ x < b for a, b in halfspaces)]
    seen = {gates(weights, x) for x in inside} - {None}
    assert seen <= {region.pattern for region in found}
    assert {
        region.pattern for region in found if volume(region) > 0.05 * np.prod(upper - lower)
    } <= seen


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_the_l1_ball(dimension):
    center = np.random.default_rng(dimension).normal(size=dimension)
    (ball,) = regions(
        [(np.ones((1, dimension)), [0])],
        center - 1,
        center + 1,
        l1_ball_halfspaces(center, Fraction(3, 4)),
    )
    exact = tuple(map(Fraction, center.tolist()))
    corners = {
        tuple(c + (i == j) * sign * Fraction(3, 4) for i, c in enumerate(exact))
        for j in range(dimension)
        for sign in (-1, 1)
    }
    assert len(ball.vertices) == 2 * dimension
    assert set(ball.vertices) == corners
    assert ball.point == exact


def test_a_domain_cut_at_a_kink_loses_the_region_behind_it():
    # relu(x - y) + 3 relu(y - x): the kink x = y.
    weights = [([[1, -1], [-1, 1]], [0, 0]), ([[1, 3]], [0])]
    assert constant(regions(weights, [0, 0], [1, 1])) == 6
    behind = [([-1, 1], 0)]
    (region,) = regions(weights, [0, 0], [1, 1], behind)
    assert region.pattern == ((True, False),)
    assert constant([region]) == 2
    assert constant(regions(weights, [0, 0], [1, 1], [([-1, 1], 2.0**-80)])) == 6
    # Free gates still see the kink in the closed domain, and both gates on at it: 1 - 3.
    assert naive_constant(weights, [0, 0], [1, 1], halfspaces=behind) == 6
    assert len(closed_patterns(weights, [0, 0], [1, 1], behind)) == 4
    assert len(closed_patterns(weights, [0, 0], [1, 1], [([-1, 1], -0.5)])) == 1


@pytest.mark.parametrize(
    "halfspaces", [[([1, 0], -0.5)], [([1, 0], 0)], [([1, 1], 1), ([-1, -1], -1)], [([0, 0], -1)]]
)
def test_a_cut_that_leaves_no_interior_is_refused(halfspaces):
    with pytest.raises(ValueError, match="interior"):
        regions([([[1, 1]], [0])], [0, 0], [1, 1], halfspaces)


def test_a_halfspace_of_another_dimension_is_refused():
    with pytest.raises(ValueError, match="shapes"):
        regions([([[1, 1]], [0])], [0, 0], [1, 1], [([1], 1)])


# --- Norms ----------------------------------------------------------------------------------------

MATRIX = ((Fraction(1), Fraction(-2)), (Fraction(3), Fraction(4)), (Fraction(0), Fraction(-1)))


@pytest.mark.parametrize(
    ("input_norm", "output_norm", "expected"),
    [
        ("linf", "linf", 7),  # the largest row sum of sizes
        ("l1", "l1", 7),  # the largest column sum of sizes
        ("l1", "linf", 4),  # the largest size
        ("l1", "l2", math.sqrt(21)),  # the longest column
        ("l2", "linf", 5),  # the longest row
        ("linf", "l1", 9),  # (-1, -1) -> (1, -7, 1)
        ("linf", "l2", math.sqrt(51)),
        ("l2", "l2", np.linalg.norm([[1, -2], [3, 4], [0, -1]], 2)),
        ("l2", "l1", math.sqrt(2**2 + 7**2)),  # signs (1, -1, 1) give (-2, -7)
    ],
)
def test_operator_norm_of_a_small_matrix(input_norm, output_norm, expected):
    assert operator_norm(MATRIX, input_norm, output_norm) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(("input_norm", "output_norm"), list(itertools.product(NORMS, NORMS)))
@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (2, 2), (3, 2), (2, 3)])
def test_operator_norm_against_directions_and_duality(input_norm, output_norm, shape):
    order = {"linf": np.inf, "l1": 1, "l2": 2}
    dual = {"linf": "l1", "l1": "linf", "l2": "l2"}
    rng = np.random.default_rng(7)
    matrix = rng.normal(size=shape)
    exact = tuple(tuple(map(Fraction, row)) for row in matrix.tolist())
    value = operator_norm(exact, input_norm, output_norm)
    transposed = tuple(zip(*exact, strict=True))
    assert value == pytest.approx(
        operator_norm(transposed, dual[output_norm], dual[input_norm]), rel=1e-12
    )
    dense = rng.normal(size=(20_000, shape[1]))
    corners = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=shape[1]))[:-1])
    directions = np.vstack([dense, corners[np.abs(corners).sum(axis=1) > 0]])
    directions /= np.linalg.norm(directions, order[input_norm], axis=1)[:, None]
    reached = np.linalg.norm(directions @ matrix.T, order[output_norm], axis=1).max()
    assert reached <= value * (1 + 1e-12)
    assert reached == pytest.approx(value, rel=2e-3)


@pytest.mark.parametrize(("input_norm", "dual"), [("linf", 1), ("l1", np.inf), ("l2", 2)])
def test_a_functional_takes_the_dual_norm_of_the_gradient(input_norm, dual):
    weights, lower, upper = case("general", 1)
    outputs = len(weights[-1][1])
    functional = np.random.default_rng(0).normal(size=outputs)
    found = regions(weights, lower, upper)
    expected = max(np.linalg.norm(functional @ region.jacobian_float, dual) for region in found)
    assert constant(found, functional, input_norm) == pytest.approx(expected, rel=1e-12)
    composed = [*weights[:-1], (functional[None, :] @ weights[-1][0], [0.0])]
    assert constant(regions(composed, lower, upper), None, input_norm) == pytest.approx(
        expected, rel=1e-12
    )


def cube(size):
    return np.array(list(itertools.product((-1, 1), repeat=size)))


def cross(size):
    return np.vstack([np.eye(size), -np.eye(size)])


def polyhedral(size, form):
    """A random norm; some rows are redundant."""
    rows = np.random.default_rng(10 * size).normal(size=(size + 2, size))
    rows = np.vstack([rows, 0.25 * rows[0] + 0.25 * rows[-1]])
    return Polyhedral(**{form: np.vstack([rows, -rows])})


def norm_of(name, size):
    return polyhedral(size, name) if name in ("halfspaces", "vertices") else name


def lengths(vectors, norm):
    """The norm of each row, in floating point."""
    if isinstance(norm, str):
        return np.linalg.norm(vectors, {"linf": np.inf, "l1": 1, "l2": 2}[norm], axis=1)
    return (vectors @ np.array(norm.polar.corners, dtype=float).T).max(axis=1)


ALL_NORMS = (*NORMS, "halfspaces", "vertices")


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 3), (2, 4), (3, 2), (4, 1), (4, 3)])
def test_cube_and_cross_polytope_in_both_forms_are_the_named_norms(inputs, outputs):
    twins = {
        "linf": (lambda n: Polyhedral(halfspaces=cross(n)), lambda n: Polyhedral(vertices=cube(n))),
        "l1": (lambda n: Polyhedral(halfspaces=cube(n)), lambda n: Polyhedral(vertices=cross(n))),
        "l2": (lambda n: "l2",),
    }
    matrix = np.random.default_rng(inputs).normal(size=(outputs, inputs))
    exact = tuple(tuple(map(Fraction, row)) for row in matrix.tolist())
    for alpha, beta in itertools.product(NORMS, NORMS):
        expected = operator_norm(exact, alpha, beta)
        for left, right in itertools.product(twins[alpha], twins[beta]):
            value = operator_norm(exact, left(inputs), right(outputs))
            assert value == (
                pytest.approx(expected, rel=1e-14) if "l2" in (alpha, beta) else expected
            )
    for name in ("linf", "l1"):
        assert {vector_norm(exact[0], twin(inputs)) for twin in twins[name]} == {
            vector_norm(exact[0], name)
        }


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("form", ["halfspaces", "vertices"])
def test_a_polyhedral_norm_is_the_dual_of_its_dual_and_the_same_in_the_other_form(size, form):
    norm = polyhedral(size, form)
    other = (
        Polyhedral(vertices=norm.corners)
        if form == "halfspaces"
        else Polyhedral(halfspaces=norm.polar.corners)
    )
    for vector in np.random.default_rng(0).normal(size=(5, size)).tolist():
        exact = list(map(Fraction, vector))
        length = vector_norm(exact, norm)
        assert length == vector_norm(exact, other) == vector_norm(exact, dual(dual(norm)))
        assert vector_norm(exact, dual(norm)) == max(
            sum(map(Fraction.__mul__, exact, v)) for v in norm.corners
        )
        assert vector_norm([entry / length for entry in exact], norm) == 1
    assert {vector_norm(corner, norm) for corner in other.corners} <= {1} or form == "vertices"


@pytest.mark.parametrize(
    ("input_norm", "output_norm"), list(itertools.product(ALL_NORMS, ALL_NORMS))
)
@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (3, 2), (2, 3), (3, 3)])
def test_operator_norm_of_all_norms_against_directions_and_duality(input_norm, output_norm, shape):
    alpha, beta = norm_of(input_norm, shape[1]), norm_of(output_norm, shape[0])
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=shape)
    exact = tuple(tuple(map(Fraction, row)) for row in matrix.tolist())
    value = operator_norm(exact, alpha, beta)
    swapped = operator_norm(tuple(zip(*exact, strict=True)), dual(beta), dual(alpha))
    assert value == (
        pytest.approx(swapped, rel=1e-12) if "l2" in (input_norm, output_norm) else swapped
    )
    directions = rng.normal(size=(20_000, shape[1]))
    reached = (lengths(directions @ matrix.T, beta) / lengths(directions, alpha)).max()
    assert reached <= value * (1 + 1e-12)
    assert reached == pytest.approx(value, rel=3e-2)


@pytest.mark.parametrize("input_norm", ALL_NORMS)
@pytest.mark.parametrize("output_norm", ALL_NORMS)
@pytest.mark.parametrize("seed", range(2))
def test_difference_quotients_in_all_norms_stay_below_the_constant(input_norm, output_norm, seed):
    rng = np.random.default_rng(seed)
    weights = random_weights(rng, (2, 4, 3, 3))
    alpha, beta = norm_of(input_norm, 2), norm_of(output_norm, 3)
    low, high = -np.ones(2), np.ones(2)
    halfspaces = halfspaces_through(rng, low, high, 2)
    found = regions(weights, low, high, halfspaces)
    bound = constant(found, None, alpha, beta)
    assert naive_constant(weights, low, high, None, alpha, beta, halfspaces) >= bound
    x, y = rng.uniform(low, high, (2, 1000, 2))
    y[500:] = x[500:] + 1e-3 * y[500:]
    inside = np.all(
        [(z @ a < b) & (np.abs(z) < 1).all(axis=1) for a, b in halfspaces for z in (x, y)], axis=0
    )
    x, y = x[inside], y[inside]
    ratios = lengths(forward(weights, x) - forward(weights, y), beta) / lengths(x - y, alpha)
    assert ratios.max() <= bound * (1 + 1e-9)
    assert ratios.max() >= 0.5 * bound


def test_an_output_norm_defaults_to_a_polyhedral_input_norm():
    weights = [([[1, -2], [3, 4]], [0, 0])]
    found = regions(weights, [0, 0], [1, 1])
    norm = polyhedral(2, "vertices")
    assert constant(found, None, norm) == constant(found, None, norm, norm)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "either"),
        ({"halfspaces": [[1], [-1]], "vertices": [[1], [-1]]}, "either"),
        ({"halfspaces": [[1, 0], [0, 1], [-1, -1]]}, "negative"),
        ({"vertices": [[1, 2], [-1, -2]]}, "span"),
        ({"halfspaces": [[1, 2], [-1, -2], [0.5, 1], [-0.5, -1]]}, "span"),
    ],
)
def test_what_is_no_polyhedral_norm_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        Polyhedral(**arguments)


@pytest.mark.parametrize("form", ["halfspaces", "vertices"])
def test_a_polyhedral_norm_of_another_dimension_is_refused(form):
    found = regions([([[1, 2]], [0])], [0, 0], [1, 1])
    for norms in [(polyhedral(3, form), "linf"), ("linf", polyhedral(3, form))]:
        with pytest.raises(ValueError, match="dimension 3"):
            constant(found, None, *norms)


@pytest.mark.parametrize("input_norm", ALL_NORMS)
def test_several_functionals_give_the_largest_over_their_hull(input_norm):
    rng = np.random.default_rng(5)
    found = regions(random_weights(rng, (2, 5, 3)), [-1, -1], [1, 1])
    norm = norm_of(input_norm, 2)
    vectors = rng.normal(size=(4, 3))
    each = [constant(found, vector, norm) for vector in vectors]
    value = constant(found, vectors, norm)
    assert (
        value
        == max(each)
        == constant(found, [tuple(map(Fraction, v)) for v in vectors.tolist()], norm)
    )
    for shares in rng.dirichlet(np.ones(4), 5):
        assert constant(found, shares @ vectors, norm) <= value * (1 + 1e-12)


@pytest.mark.parametrize("label", [None, 0, 2])
def test_cross_functionals_are_the_pairs(label):
    vectors = cross_functionals(4, label)
    pairs = [
        (i, j) for i in range(4) for j in range(4) if (i < j if label is None else i == label != j)
    ]
    assert vectors == [list(np.eye(4)[i] - np.eye(4)[j]) for i, j in pairs]
    found = regions(random_weights(np.random.default_rng(1), (2, 5, 4)), [-1, -1], [1, 1])
    differences = [
        region.jacobian_float[i] - region.jacobian_float[j] for region in found for i, j in pairs
    ]
    assert constant(found, vectors) == pytest.approx(
        np.abs(differences).sum(axis=1).max(), rel=1e-12
    )


@pytest.mark.parametrize("functional", [[1.0], [[1.0, 2.0, 3.0]], []])
def test_a_functional_of_another_size_is_refused(functional):
    with pytest.raises(ValueError, match="functional"):
        constant(regions([([[1], [2]], [0, 0])], [0], [1]), functional)


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="unknown norm"):
        constant(regions(IDENTITY, [-1], [1]), None, "linf", "l3")


# --- Free gates at kinks --------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["general", "dead"])
@pytest.mark.parametrize("seed", range(10))
def test_free_gates_are_exact_in_general_position(family, seed):
    drawn = case(family, seed)
    found = regions(*drawn)
    assert closed_patterns(*drawn) == {region.pattern for region in found}
    assert naive_constant(*drawn) == constant(found)


@pytest.mark.parametrize("family", DEGENERATE)
def test_free_gates_overestimate_on_degenerate_families(family):
    pairs = [
        (naive_constant(*one), constant(regions(*one)))
        for one in (case(family, seed) for seed in range(20))
    ]
    assert all(naive >= value for naive, value in pairs)
    assert sum(naive > value * (1 + 1e-6) for naive, value in pairs) >= 5


@relaxed(max_examples=40)
@given(integer_cases(max_inputs=2), st.sampled_from(NORMS), st.sampled_from(NORMS))
def test_free_gates_never_underestimate(drawn: Case, input_norm, output_norm):
    found = regions(*drawn)
    assert closed_patterns(*drawn) >= {region.pattern for region in found}
    assert naive_constant(*drawn, None, input_norm, output_norm) >= constant(
        found, None, input_norm, output_norm
    )


# --- The robust radius ----------------------------------------------------------------------------


def classifier(seed, sizes):
    rng = np.random.default_rng(seed)
    weights = random_weights(rng, sizes)
    return weights, rng.uniform(-0.5, 0.5, sizes[0]), -np.ones(sizes[0]), np.ones(sizes[0])


@pytest.mark.parametrize(
    ("norm", "expected", "below"),
    [
        ("linf", Fraction(1, 2), 1),
        ("l1", 1, Fraction(5, 4)),
        ("l2", math.sqrt(0.5), math.sqrt(17) / 4),
        # Nearest are (1/3, 2/3) and (-1/4, 1).
        (
            Polyhedral(halfspaces=[[1, 0], [-1, 0], [0, 0.5], [0, -0.5]]),
            Fraction(1, 3),
            Fraction(1, 2),
        ),
    ],
)
def test_radius_where_the_rival_is_a_sum_of_relus(norm, expected, below):
    weights = [(np.eye(2), [0, 0]), ([[0, 0], [1, 1]], [1, 0])]  # 1 against relu(x) + relu(y)
    box = [-1, -1], [1, 1]
    assert robust_radius(weights, [0, 0], *box, norm) == expected
    # Domains that touch x + y = 1 from below, in an edge and in a corner.
    assert robust_radius(weights, [0, 0], *box, norm, [([1, 1], 1)]) == expected
    corner = [Fraction(1, 4), Fraction(3, 4)]
    assert robust_radius(weights, [0, 0], [-1, -1], corner, norm) == vector_norm(corner, norm)
    # Without that segment (1, -1/4) and (-1/4, 1) are nearest; in a smaller box nothing is left.
    assert robust_radius(weights, [0, 0], *box, norm, [([1, 1], 0.75)]) == below
    assert robust_radius(weights, [0, 0], [-1, -1], [0.5, 0.25], norm) == math.inf
    # Where y <= 0, only x counts; at a tie; from outside the box.
    assert robust_radius(weights, [0, -1], [-1, -1], [1, -0.5], norm) == 1
    assert robust_radius(weights, [0.75, 0.25], *box, norm) == 0
    assert robust_radius(weights, [-1, -2], [0.5, -2], [2, 0], norm) == 2


def test_a_rival_that_ties_everywhere_is_at_distance_zero_and_one_output_has_no_rival():
    assert robust_radius([([[1, 0], [1, 0]], [0, 0])], [0.5, 0], [0, -1], [1, 1]) == 0
    assert robust_radius([([[1, 0], [1, 0]], [0, 0])], [-1, 0], [0, -1], [1, 1], "l1") == 1
    assert robust_radius([([[1, 0]], [0])], [0.5, 0], [0, 0], [1, 1]) == math.inf


def test_radius_in_four_dimensions():
    x = np.array([0.5, 0.25, -0.25, 0.0])
    normal = np.array([4.0, -2.0, 1.0, 1.0])
    weights = [
        (np.vstack([normal, -normal]), [0, 0]),
        ([[1, -1], [0, 0]], [0, 0]),
    ]  # normal x against 0
    for norm, other in (("linf", 1), ("l1", np.inf), ("l2", 2)):
        expected = normal @ x / np.linalg.norm(normal, other)
        assert robust_radius(weights, x, -np.ones(4), np.ones(4), norm) == pytest.approx(
            expected, rel=1e-14
        )


def lp_radius(weights, x, lower, upper, norm, halfspaces=()):
    """The radius in linf or l1 by one linear program for each region and rival."""
    label, best = int(np.argmax(forward(weights, x))), math.inf
    for region in regions(weights, lower, upper, halfspaces):
        vertices = np.array(region.vertices, dtype=float)
        values = forward(weights, vertices)
        count, size = vertices.shape
        # Shares of the vertices, and sizes t >= |y - x|: one t, or one for each entry.
        caps = np.ones((size, 1)) if norm == "linf" else np.eye(size)
        for rival in set(range(values.shape[1])) - {label}:
            solved = linprog(
                np.concatenate([np.zeros(count), np.ones(caps.shape[1])]),
                A_ub=np.block(
                    [
                        [vertices.T, -caps],
                        [-vertices.T, -caps],
                        [(values[:, label] - values[:, rival])[None], np.zeros((1, caps.shape[1]))],
                    ]
                ),
                b_ub=np.concatenate([x, -x, [0.0]]),
                A_eq=np.concatenate([np.ones(count), np.zeros(caps.shape[1])])[None],
                b_eq=[1.0],
            )
            if solved.status == 0:
                best = min(best, solved.fun)
    return best


@pytest.mark.parametrize("norm", ["linf", "l1"])
@pytest.mark.parametrize("sizes", [(1, 5, 2), (2, 4, 3, 3), (3, 4, 2, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_radius_by_linear_programs(norm, sizes, seed):
    drawn = classifier(seed, sizes)
    halfspaces = halfspaces_through(np.random.default_rng(seed), *drawn[2:], 2)
    for domain in ((), halfspaces):
        assert robust_radius(*drawn, norm, domain) == pytest.approx(
            lp_radius(*drawn, norm, domain), rel=1e-6, abs=1e-8
        )


@pytest.mark.parametrize("norm_name", ALL_NORMS)
@pytest.mark.parametrize("sizes", [(1, 5, 2), (2, 4, 3, 3), (3, 4, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_no_sampled_point_is_nearer_than_the_radius(norm_name, sizes, seed):
    weights, x, lower, upper = classifier(seed, sizes)
    norm = norm_of(norm_name, sizes[0])
    radius = float(robust_radius(weights, x, lower, upper, norm))
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(30_000, sizes[0]))
    directions /= lengths(directions, norm)[:, None]
    spread = 1.0 if math.isinf(radius) else radius
    points = x + directions * spread * rng.uniform(0.5, 1.05, (len(directions), 1))
    points = np.vstack([points, rng.uniform(lower, upper, (30_000, sizes[0]))])
    points = points[((points >= lower) & (points <= upper)).all(axis=1)]
    values, label = forward(weights, points), int(np.argmax(forward(weights, x)))
    beaten = (np.delete(values, label, axis=1) >= values[:, [label]]).any(axis=1)
    nearest = lengths(points[beaten] - x, norm).min(initial=math.inf)
    assert nearest >= radius * (1 - 1e-9)
    assert nearest <= radius * 1.06 or sizes[0] == 3  # where a thin wedge may hold no sample


@pytest.mark.parametrize("seed", range(6))
def test_radius_in_l2_between_those_of_two_polygons(seed):
    drawn = classifier(seed, (2, 5, 4, 3))
    angles = np.arange(24) * math.pi / 24
    normals = np.column_stack([np.cos(angles), np.sin(angles)])
    inner = robust_radius(*drawn, Polyhedral(halfspaces=np.vstack([normals, -normals])))
    value = robust_radius(*drawn, "l2")
    assert inner <= value * (1 + 1e-15)
    assert value * math.cos(math.pi / 48) * (1 - 1e-15) <= inner


@relaxed(max_examples=30)
@given(integer_cases(max_inputs=2, max_neurons=5), st.sampled_from(NORMS))
def test_radius_of_integer_networks_is_never_passed_by_a_grid(drawn: Case, norm):
    x = (drawn.lower + drawn.upper) / 2
    radius = robust_radius(drawn.weights, x, drawn.lower, drawn.upper, norm)
    grid = np.stack(
        np.meshgrid(*[np.linspace(lo, hi, 25) for lo, hi in zip(*drawn[1:], strict=True)]), -1
    )
    points = grid.reshape(-1, len(x))
    values, label = forward(drawn.weights, points), int(np.argmax(forward(drawn.weights, x)))
    # One and the same rounding on both sides of a tie would be luck.
    beaten = (np.delete(values, label, axis=1) > values[:, [label]] + 1e-9).any(axis=1)
    assert lengths(points[beaten] - x, norm).min(initial=math.inf) >= radius - 1e-12
