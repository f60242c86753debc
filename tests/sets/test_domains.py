"""Domains against exact arithmetic: vertices by brute force in fractions, and scipy's programs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import lipexact as lx
from lipexact.sets.convex import ConvexSet, EuclideanBall, Simplex
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Ball, Box, Polytope, Reals
from tests.support.half_spaces import (
    Exact,
    Half,
    Recipe,
    between,
    dot,
    exact,
    polytope,
    vertices,
)
from tests.support.onnx_files import onnx_model


def relaxed(max_examples: int) -> settings:
    return settings(
        deadline=None, max_examples=max_examples, suppress_health_check=[HealthCheck.too_slow]
    )


# --- The same sets in exact arithmetic -----------------------------------------------------------


def box(lower: Sequence[float], upper: Sequence[float]) -> Recipe:
    return Recipe([(Box, (lower, upper))], between(lower, upper, len(lower)))


def diamond(center: Sequence[float], radius: float, clip: Any = None) -> Recipe:
    """A ball of the l1 norm: one half-space for each vector of signs."""
    d, middle = len(center), exact(center)
    halves = []
    for signs in itertools.product((Fraction(1), Fraction(-1)), repeat=d):
        offset = sum(s * c for s, c in zip(signs, middle, strict=True))
        halves.append(Half(list(signs), Fraction(float(radius)) + offset))
    if clip is not None:
        halves += between(*clip, d)
    return Recipe([(Ball, (center, radius, "l1", clip))], halves)


def exact_margin(halves: list[Half], x: Exact) -> Fraction:
    """The radius of the largest linf ball around x; negative outside."""
    return min(
        (b - dot(a, x)) / sum(map(abs, a)) if any(a) else (Fraction(10**9) if b >= 0 else b)
        for a, b in halves
    )


def holds(halves: list[Half], x: Exact) -> bool:
    return all(dot(a, x) <= b for a, b in halves)


def depth(halves: list[Half]) -> Fraction | None:
    """The radius of a ball inside, around the mean of the vertices; None or 0 without interior."""
    corners = vertices(halves)
    if not corners:
        return None
    return exact_margin(
        halves, [sum(values, Fraction(0)) / len(corners) for values in zip(*corners, strict=True)]
    )


# --- Random recipes ------------------------------------------------------------------------------

quarters = st.integers(-8, 8).map(lambda n: n / 4)
tenths = st.integers(-20, 20).map(lambda n: n / 10)
numbers = st.sampled_from([quarters, tenths, st.floats(-2, 2).map(lambda x: round(x, 6))])


@st.composite
def bounded(draw: st.DrawFn, d: int, inner: list[float] | None = None) -> Recipe:
    """A box, an l1 ball with and without a clip, or a polytope with and without a box.

    With a point `inner` it lies inside; without one the set may be empty or flat.
    """
    number = draw(numbers)
    vector = st.lists(number, min_size=d, max_size=d)
    positive = number.map(lambda x: abs(x) + 0.125)
    kind = draw(
        st.sampled_from(["box", "diamond", "clipped", "in a box", "one corner", "rows only"])
    )

    def limits(rows: list[list[float]]) -> list[float]:
        if inner is None:
            return draw(st.lists(number, min_size=len(rows), max_size=len(rows)))
        return [dot(row, inner) + draw(positive) for row in rows]

    if inner is None:
        low, high = draw(vector), draw(vector)
        low, high = np.minimum(low, high).tolist(), np.maximum(low, high).tolist()
    else:
        low, high = ([x + sign * draw(positive) for x in inner] for sign in (-1, 1))
    if kind == "box":
        return box(low, high)
    if kind in ("diamond", "clipped"):
        center = draw(vector)
        distance = 0.0 if inner is None else float(np.abs(np.subtract(center, inner)).sum())
        return diamond(
            center, distance + draw(positive), (low, high) if kind == "clipped" else None
        )
    rows = draw(st.lists(vector, min_size=1, max_size=4))
    if kind == "in a box":
        return polytope(rows, limits(rows), low, high)
    if kind == "one corner":  # x >= low, and one row that closes it
        weights = draw(st.lists(positive, min_size=d, max_size=d))
        return polytope([*rows, weights], [*limits(rows), dot(weights, high) + draw(positive)], low)
    # A parallelotope or a simplex in skew coordinates closes it.
    skew = np.eye(d) + np.triu(np.array([draw(vector) for _ in range(d)]), 1)
    closing = (
        [*skew.tolist(), *(-skew).tolist()]
        if draw(st.booleans())
        else [*skew.tolist(), (-skew.sum(axis=0)).tolist()]
    )
    room = limits(closing) if inner is not None else [draw(positive) for _ in closing]
    return polytope([*rows, *closing], [*limits(rows), *room])


@st.composite
def recipes(draw: st.DrawFn, least: int = 1, most: int = 3, inside: bool = False) -> Recipe:
    """One of them, or two or three with & between."""
    d = draw(st.integers(least, most))
    inner = draw(st.lists(quarters, min_size=d, max_size=d)) if inside else None
    recipe = draw(bounded(d, inner))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        recipe = recipe & draw(bounded(d, inner))
    return recipe


@st.composite
def built(draw: st.DrawFn, least: int = 1, most: int = 3) -> tuple[Recipe, Domain]:
    """A recipe of a domain that exists."""
    recipe = draw(recipes(least, most, inside=True))
    assume((depth(recipe.halves) or 0) > Fraction(1, 1000))
    return recipe, recipe.build()


def directions(rng: np.random.Generator, d: int, count: int = 6) -> np.ndarray:
    """Unit vectors, zeros, ties, and Gaussian ones."""
    return np.vstack(
        [
            np.eye(d),
            -np.eye(d),
            np.zeros(d),
            np.ones(d),
            rng.integers(-2, 3, (2, d)),
            rng.normal(size=(count, d)),
        ]
    )


seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def build_or_none(recipe: Recipe) -> Domain | None:
    """None where lipexact refuses it."""
    try:
        return recipe.build()
    except lx.DomainError:
        return None


# --- What is a domain, and what is none ----------------------------------------------------------


@relaxed(40)
@given(recipes())
def test_a_domain_exists_where_the_exact_set_has_an_interior_and_nowhere_else(recipe):
    room = depth(recipe.halves)
    domain = build_or_none(recipe)
    if domain is None:
        assert room is None or room < Fraction(1, 10**6)
    else:
        assert room is not None
        assert room > 0
        assert exact_margin(recipe.halves, exact(domain.centre)) > 0


@relaxed(25)
@given(built(), seeds)
def test_the_support_is_the_exact_maximum_rounded_up(pair, rng):
    recipe, domain = pair
    corners = vertices(recipe.halves)
    weights = directions(rng, domain.dim)
    reach = np.maximum(np.abs(domain.lower), np.abs(domain.upper))
    for w, value in zip(weights, domain.support(weights), strict=True):
        true = max(dot(exact(w), corner) for corner in corners)
        assert Fraction(float(value)) >= true
        assert Fraction(float(value)) <= true + Fraction(
            1e-9 * float(np.abs(w) @ reach)
        ) + Fraction(1, 10**300)


@relaxed(20)
@given(built(), seeds)
def test_sparse_and_dense_weights_have_the_same_support(pair, rng):
    _, domain = pair
    weights = directions(rng, domain.dim)
    assert domain.support(sp.csr_array(weights)) == pytest.approx(
        domain.support(weights), rel=1e-12, abs=1e-12
    )


@relaxed(25)
@given(built())
def test_the_bounding_box_holds_the_exact_set_tightly(pair):
    recipe, domain = pair
    corners = vertices(recipe.halves)
    (kind, arguments), *others = recipe.parts
    for i in range(domain.dim):
        least, most = (pick(corner[i] for corner in corners) for pick in (min, max))
        assert Fraction(float(domain.lower[i])) <= least
        assert most <= Fraction(float(domain.upper[i]))
        if (
            kind is Polytope and not others
        ):  # sides that were not given are found by linear programs
            if arguments[2] is None:
                assert float(domain.lower[i]) == pytest.approx(float(least), abs=1e-8)
            if arguments[3] is None:
                assert float(domain.upper[i]) == pytest.approx(float(most), abs=1e-8)


@relaxed(25)
@given(built(), seeds)
def test_the_margin_is_the_radius_of_a_ball_inside_rounded_down(pair, rng):
    recipe, domain = pair
    corners = np.array([[float(value) for value in vertex] for vertex in vertices(recipe.halves)])
    mixed = rng.dirichlet(np.full(len(corners), 0.3), 8) @ corners
    edges = (
        corners[rng.integers(len(corners), size=8)] + corners[rng.integers(len(corners), size=8)]
    ) / 2
    around = corners[rng.integers(len(corners), size=8)]
    points = np.vstack(
        [
            corners,
            edges,
            mixed,
            np.nextafter(around, domain.centre),
            around + 1e-9 * (domain.centre - around),
            around + rng.normal(size=around.shape) * 1e-15,
            domain.centre + 2 * (around - domain.centre),
            rng.uniform(domain.lower - 0.5, domain.upper + 0.5, (8, domain.dim)),
        ]
    )
    for point, radius in zip(points, domain.margin(points), strict=True):
        x = exact(point)
        true = exact_margin(recipe.halves, x)
        if radius > 0:
            for signs in itertools.product((0, 1, -1), repeat=domain.dim):
                moved = [
                    value + sign * Fraction(float(radius))
                    for value, sign in zip(x, signs, strict=True)
                ]
                assert holds(recipe.halves, moved)
        assert not radius > 0 or true > 0
        if true > Fraction(1, 10**6):
            # The ball of the l1 norm is divided by d as its rows are: nothing but rounding is lost.
            assert radius > 0.999 * float(true)


@relaxed(25)
@given(built(), seeds)
def test_samples_extremes_and_pulled_points_are_inside(pair, rng):
    recipe, domain = pair
    wild = np.vstack(
        [rng.normal(size=(5, domain.dim)) * 100, domain.lower, domain.upper, domain.centre]
    )
    drawn = {
        "sample": domain.sample(rng, 7),
        "extremes": domain.extremes(rng, 70),
        "pull": domain.pull(wild),
    }
    assert [len(points) for points in drawn.values()] == [7, 70, len(wild)]
    for points in drawn.values():
        assert points.shape[1] == domain.dim
        assert (domain.margin(points) > 0).all()
        assert all(exact_margin(recipe.halves, exact(point)) > 0 for point in points)


@relaxed(20)
@given(built(), seeds)
def test_points_well_inside_are_not_pulled_away(pair, rng):
    _, domain = pair
    points = domain.centre + 0.9 * (domain.sample(rng, 10) - domain.centre)
    assert domain.pull(points) == pytest.approx(points, abs=1e-12)


@relaxed(20)
@given(built(), seeds)
def test_extremes_come_near_the_vertices(pair, rng):
    recipe, domain = pair
    corners = np.array([[float(value) for value in vertex] for vertex in vertices(recipe.halves)])
    points = domain.extremes(rng, 60)
    width = float((domain.upper - domain.lower).max())
    nearest = np.abs(points[:, None, :] - corners).max(axis=2).min(axis=1)
    assert (nearest <= 3e-3 * width + 1e-6).all()
    assert len(np.unique(np.abs(points[:, None, :] - corners).max(axis=2).argmin(axis=1))) >= 2


def shadow_holds(which: ConvexSet, point: np.ndarray) -> bool:
    """Whether some (point, z) is in the system, by scipy."""
    system, n = which.system(), which.dim
    if not ((system.lower[:n] <= point) & (point <= system.upper[:n])).all():
        return False
    bounds = np.column_stack(
        [np.append(point, system.lower[n:]), np.append(point, system.upper[n:])]
    )
    rows = system.rows.toarray() if system.limits.size else None
    limits = system.limits if system.limits.size else None
    return (
        linprog(
            np.zeros(system.lower.size), A_ub=rows, b_ub=limits, bounds=bounds, method="highs"
        ).status
        == 0
    )


@relaxed(25)
@given(built(), seeds)
def test_the_shadow_of_the_system_is_the_domain(pair, rng):
    recipe, domain = pair
    for point in np.vstack(
        [
            rng.uniform(domain.lower - 0.1, domain.upper + 0.1, (6, domain.dim)),
            domain.sample(rng, 2),
        ]
    ):
        true = exact_margin(recipe.halves, exact(point))
        if abs(true) > Fraction(1, 10**6):
            assert shadow_holds(domain, point) == (true > 0)


@relaxed(20)
@given(st.data(), st.integers(1, 3))
def test_intersections_do_not_depend_on_the_order(data, d):
    inner = data.draw(st.lists(quarters, min_size=d, max_size=d))
    first, second = (data.draw(bounded(d, inner)).build() for _ in range(2))
    weights = directions(np.random.default_rng(0), first.dim)
    there, back = first & second, second & first
    assert there.support(weights) == pytest.approx(back.support(weights), rel=1e-9, abs=1e-9)
    assert (there.lower.tolist(), there.upper.tolist()) == (
        back.lower.tolist(),
        back.upper.tolist(),
    )
    assert (there & first).support(weights) == pytest.approx(
        there.support(weights), rel=1e-9, abs=1e-9
    )


# --- Scale ---------------------------------------------------------------------------------------

SCALES = (1.0, 1e-8, 1e8)
SHAPES = {
    "triangle": lambda s: polytope([[1, 1]], [s], [0, 0]),
    "triangle in a box": lambda s: polytope([[1, 1]], [s], [0, 0], [s, s]),
    "rows only": lambda s: polytope([[1, 2], [-3, 1], [0, -1]], [s, s, s]),
    "diamond": lambda s: diamond([s, 0], s / 2),
    "diamond, centre outside of the clip": lambda s: diamond(
        [1.25 * s, 0.0], s, ([-s, -s], [s, s])
    ),
    "diamond and triangle": lambda s: (
        diamond([0.0, 0.0], s) & polytope([[1, 1]], [s / 2], [-s, -s])
    ),
    "two diamonds": lambda s: diamond([0.0, 0.0], s) & diamond([s / 2, s / 4], s),
}


def tight(recipe: Recipe, domain: Domain, weights: np.ndarray) -> None:
    corners = vertices(recipe.halves)
    for w, value in zip(weights, domain.support(weights), strict=True):
        true = max(dot(exact(w), corner) for corner in corners)
        size = max(abs(dot(exact(w), corner)) for corner in corners)
        assert (
            true
            <= Fraction(float(value))
            <= true + size * Fraction(1, 10**6) + Fraction(1, 10**300)
        )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_support_is_tight_for_sets_of_every_size(shape, scale):
    recipe = SHAPES[shape](scale)
    tight(recipe, recipe.build(), directions(np.random.default_rng(0), 2))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_support_is_tight_for_weights_of_every_size(shape, scale):
    recipe = SHAPES[shape](1.0)
    tight(recipe, recipe.build(), directions(np.random.default_rng(0), 2) * scale)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("mixed", [False, True])
def test_the_support_is_tight_for_rows_of_every_size(scale, mixed):
    rows, limits = (
        np.array([[1.0, 2.0], [-3.0, 1.0], [0.5, -1.0], [1.0, 0.0]]),
        np.array([1.0, 1.0, 2.0, 0.75]),
    )
    factors = np.array([1.0, scale, 1.0, scale]) if mixed else np.full(4, scale)
    recipe = polytope((rows * factors[:, None]).tolist(), (limits * factors).tolist())
    domain = recipe.build()
    tight(recipe, domain, directions(np.random.default_rng(0), 2))
    corners = vertices(recipe.halves)
    for i in range(2):
        assert Fraction(float(domain.lower[i])) <= min(corner[i] for corner in corners)
        assert Fraction(float(domain.upper[i])) >= max(corner[i] for corner in corners)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_points_are_inside_of_sets_of_every_size(shape, scale):
    recipe, rng = SHAPES[shape](scale), np.random.default_rng(0)
    domain = recipe.build()
    points = [
        domain.centre[None, :],
        domain.sample(rng, 20),
        domain.extremes(rng, 20),
        domain.pull(rng.normal(size=(9, 2))),
    ]
    for point in np.vstack(points):
        assert domain.margin(point[None, :])[0] > 0
        assert exact_margin(recipe.halves, exact(point)) > 0


@pytest.mark.parametrize("sizes", [(1.0, 1e-8), (1e8, 1.0), (1e4, 1e-4)])
def test_coordinates_of_other_sizes_have_a_tight_support(sizes):
    long, short = sizes
    recipe = polytope(
        [[1 / long, 1 / short], [-1 / long, 1 / short]], [1.0, 1.0], [-long, -short], [long, short]
    )
    tight(
        recipe,
        recipe.build(),
        np.array([[1 / long, 0.5 / short], [0.0, 1 / short], [1 / long, 2 / short]]),
    )


@pytest.mark.parametrize("width", [10.0**-k for k in range(4, 17)])
@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_a_thin_polytope_is_refused_or_has_a_point_inside(width, offset):
    recipe = polytope([[1, -1], [-1, 1]], [offset + width, width - offset], [-1, -1], [1, 1])
    domain = build_or_none(recipe)
    if domain is None:
        assert width < 1e-6
        return
    assert exact_margin(recipe.halves, exact(domain.centre)) > 0
    corners = vertices(recipe.halves)
    for w, value in zip(np.eye(2), domain.support(np.eye(2)), strict=True):
        assert Fraction(float(value)) >= max(dot(exact(w), corner) for corner in corners)


@relaxed(20)
@given(st.integers(1, 3), seeds)
def test_rows_of_all_sizes_keep_the_bounds_on_the_safe_side(d, rng):
    rows = rng.normal(size=(d + 4, d)) * 10.0 ** rng.uniform(-8, 8, (d + 4, 1))
    limits = np.abs(rows).sum(axis=1) * rng.uniform(0.1, 1, d + 4)
    lower, upper = (-np.ones(d), np.ones(d)) if rng.random() < 0.5 else (None, None)
    recipe = polytope(rows.tolist(), limits.tolist(), lower, upper)
    domain = build_or_none(recipe)
    assume(domain is not None)  # else it is unbounded, or was not found to be bounded
    corners = vertices(recipe.halves)
    weights = rng.normal(size=(5, d)) * 10.0 ** rng.uniform(-8, 8, (5, 1))
    for w, value in zip(weights, domain.support(weights), strict=True):
        assert Fraction(float(value)) >= max(dot(exact(w), corner) for corner in corners)
    for corner in corners:
        assert all(
            Fraction(float(low)) <= x <= Fraction(float(high))
            for low, x, high in zip(domain.lower, corner, domain.upper, strict=True)
        )
    points = rng.uniform(domain.lower, domain.upper, (10, d))
    for point, radius in zip(points, domain.margin(points), strict=True):
        assert Fraction(float(radius)) <= max(exact_margin(recipe.halves, exact(point)), 0)


# --- Many dimensions -----------------------------------------------------------------------------


def scipy_support(
    rows: np.ndarray, limits: np.ndarray, lower: np.ndarray, upper: np.ndarray, w: np.ndarray
) -> float:
    return -linprog(
        -w, A_ub=rows, b_ub=limits, bounds=np.column_stack([lower, upper]), method="highs"
    ).fun


def split_l1(
    center: np.ndarray, radius: float, lower: np.ndarray, upper: np.ndarray, w: np.ndarray
) -> float:
    """max{w x} over x = center + p - q, sum(p + q) <= radius, in the box."""
    d = center.size
    identity = np.eye(d)
    rows = np.vstack(
        [np.hstack([identity, -identity]), np.hstack([-identity, identity]), np.ones((1, 2 * d))]
    )
    limits = np.concatenate([upper - center, center - lower, [radius]])
    return float(w @ center) + scipy_support(
        rows, limits, np.zeros(2 * d), np.full(2 * d, np.inf), np.append(w, -w)
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("where", ["inside", "on the border", "outside"])
def test_a_clipped_l1_ball_has_the_support_of_its_linear_program(seed, where):
    rng, d = np.random.default_rng(seed), 12
    center = rng.uniform(0, 1, d)
    if where != "inside":
        center[:3] = {"on the border": [0, 1, 1], "outside": [-0.1, 1.2, 1.05]}[where]
    radius = float(rng.choice([0.5, 2.0, 20.0]))
    domain = Ball(center, radius, "l1", clip=(0, 1))
    weights = directions(rng, d)
    low, high = np.maximum(center - radius, 0), np.minimum(center + radius, 1)
    for w, value in zip(weights, domain.support(weights), strict=True):
        true = split_l1(center, radius, low, high, w)
        assert value == pytest.approx(true, rel=1e-7, abs=1e-7)
        assert value >= true - 1e-7


@pytest.mark.parametrize("seed", range(4))
def test_a_polytope_of_many_dimensions_has_the_support_of_its_linear_program(seed):
    rng, d = np.random.default_rng(seed), 15
    rows, inner = rng.normal(size=(25, d)), rng.uniform(-0.5, 0.5, d)
    limits = rows @ inner + rng.uniform(0.1, 1, 25)
    domain = Polytope(rows, limits, lower=-1, upper=1)
    weights = directions(rng, d)
    for w, value in zip(weights, domain.support(weights), strict=True):
        true = scipy_support(rows, limits, -np.ones(d), np.ones(d), w)
        assert true - 1e-7 <= value <= true + 1e-7 * (1 + abs(true))
    ball = Ball(inner, 0.8, "l1")
    both = domain & ball & Ball(inner + 0.01, 0.7, "l1")
    assert (
        both.support(weights) <= np.minimum(domain.support(weights), ball.support(weights)) + 1e-9
    ).all()
    points = np.vstack(
        [both.sample(rng, 20), both.extremes(rng, 20), both.pull(rng.normal(size=(20, d)))]
    )
    assert (both.margin(points) > 0).all()
    assert (np.abs(points - inner).sum(axis=1) < 0.8).all()
    assert (np.abs(points - inner - 0.01).sum(axis=1) < 0.7).all()
    assert (points @ rows.T < limits).all()
    assert (points @ weights.T <= both.support(weights)).all()


def test_an_l1_ball_of_an_image_is_sampled_inside():
    rng = np.random.default_rng(0)
    center = np.where(rng.random(784) < 0.5, 0.0, rng.random(784))
    domain = Ball(center, 3.0, "l1", clip=(0, 1))
    points = np.vstack([domain.centre[None, :], domain.sample(rng, 5), domain.extremes(rng, 5)])
    assert (domain.margin(points) > 0).all()
    assert (np.abs(points - center).sum(axis=1) < 3).all()
    weights = rng.normal(size=(3, 784))
    assert (domain.support(weights) >= (weights @ points.T).max(axis=1)).all()


def test_samples_reach_the_whole_domain():
    rng = np.random.default_rng(0)
    for domain in (
        Polytope([[1, 1]], [1], lower=0),
        Ball([0, 0], 1, "l1"),
        Box([0, 0], [1, 1]) & Box([0.5, 0], [2, 1]),
    ):
        points = domain.sample(rng, 400)
        assert (points.max(axis=0) > domain.upper - 0.25 * (domain.upper - domain.lower)).all()
        assert (points.min(axis=0) < domain.lower + 0.25 * (domain.upper - domain.lower)).all()


# --- Rows that change nothing --------------------------------------------------------------------


def test_redundant_doubled_and_zero_rows_change_nothing():
    plain = Polytope([[1, 1]], [1], lower=0)
    rows = [[1, 1], [0, 0], [1, 1], [2, 2], [1, 0], [0, 0], [-1, -1]]
    busy = Polytope(rows, [1, 0, 1, 2, 7, 3, 0], lower=0)
    weights = directions(np.random.default_rng(0), 2)
    assert busy.support(weights) == pytest.approx(plain.support(weights), rel=1e-12, abs=1e-12)
    points = np.random.default_rng(1).uniform(-0.2, 1.2, (50, 2))
    assert ((busy.margin(points) > 0) == (plain.margin(points) > 0)).all()


def test_rows_of_zeros_alone_leave_a_box():
    domain = Polytope([[0, 0]], [0], lower=[0, 1], upper=[1, 3])
    assert domain.is_box
    assert (domain.lower.tolist(), domain.upper.tolist()) == ([0, 1], [1, 3])


def test_a_corner_may_be_a_number_or_half_infinite():
    one = Polytope([[1, 1]], [1], lower=0)
    other = Polytope([[1, 1]], [1], lower=[0, 0], upper=[np.inf, 0.5])
    assert one.upper == pytest.approx([1, 1])
    assert one.lower.tolist() == [0, 0]
    assert other.upper[0] == pytest.approx(1)
    assert other.upper[1] == 0.5
    assert Polytope(
        [[1, 1], [-1, 0]], [1, 1], lower=[-np.inf, 0], upper=np.inf
    ).lower == pytest.approx([-1, 0])


def test_a_domain_does_not_follow_its_arrays():
    rows, limits, center = np.array([[1.0, 1.0]]), np.array([1.0]), np.zeros(2)
    polytope_, ball = Polytope(rows, limits, lower=0), Ball(center, 1, "l1")
    rows[:], limits[:], center[:] = 9, 9, 9
    assert polytope_.support(np.ones((1, 2)))[0] == pytest.approx(1)
    assert ball.support(np.ones((1, 2)))[0] == pytest.approx(1)
    for array in (polytope_.rows, polytope_.limits, polytope_.lower, ball.center, ball.lower):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 2


# --- Boxes, and balls of linf, which are boxes ---------------------------------------------------


@relaxed(20)
@given(st.integers(1, 4), seeds)
def test_boxes_and_their_intersections_stay_boxes(d, rng):
    low = rng.integers(-4, 3, (2, d)) / 4
    high = low.max(axis=0) + rng.integers(1, 5, (2, d)) / 4
    domain = Box(low[0], high[0]) & Ball((low[1] + high[1]) / 2, (high[1] - low[1]) / 2)
    assert domain.is_box
    assert domain.lower.tolist() == low.max(axis=0).tolist()
    assert domain.upper.tolist() == high.min(axis=0).tolist()
    system = domain.system()
    assert system.rows.shape == (0, d)
    assert (system.lower.tolist(), system.upper.tolist()) == (
        domain.lower.tolist(),
        domain.upper.tolist(),
    )
    points = domain.sample(rng, 50)
    assert (domain.margin(points) > 0).all()
    assert (domain.margin(domain.extremes(rng, 50)) > 0).all()
    assert domain.pull(points) == pytest.approx(points, abs=1e-8)
    inside = (points > domain.lower) & (points < domain.upper)
    assert inside.all()


def test_the_margin_in_a_box_is_the_distance_to_its_nearest_side():
    domain = Box([0, 0], [1, 4])
    points = np.array([[0.25, 2], [0.5, 2], [0, 2], [0.5, 0.125], [-1, 2], [0.5, 4.5]])
    assert domain.margin(points) == pytest.approx([0.25, 0.5, 0, 0.125, -1, -0.5], rel=1e-12)


def test_a_ball_tells_what_it_was_made_of():
    ball = Ball([[0.5, 0.25]], 0.25, "l1", clip=(0, 1))
    assert (ball.center.tolist(), ball.radius, ball.norm) == ([0.5, 0.25], 0.25, "l1")
    assert not ball.is_box
    cube = Ball([0.5, 0.25], [0.25, 0.5])
    assert (cube.radius.tolist(), cube.norm, cube.is_box) == ([0.25, 0.5], "linf", True)
    assert (cube.lower.tolist(), cube.upper.tolist()) == ([0.25, -0.25], [0.75, 0.75])


def test_a_clip_is_an_intersection_with_a_box():
    clipped = Ball([0.25, 0.75, 1.5], 1.0, "l1", clip=([0, 0, -np.inf], 1))
    cut = Ball([0.25, 0.75, 1.5], 1.0, "l1") & Box([0, 0, -9], [1, 1, 1])
    weights = directions(np.random.default_rng(0), 3)
    assert clipped.support(weights) == pytest.approx(cut.support(weights), rel=1e-9)
    points = np.random.default_rng(1).uniform(-0.5, 1.5, (200, 3))
    assert ((clipped.margin(points) > 0) == (cut.margin(points) > 0)).all()


# --- Simplices and Euclidean balls ---------------------------------------------------------------


@relaxed(20)
@given(st.integers(1, 6), seeds)
def test_the_support_of_a_simplex_is_its_largest_vertex(n, rng):
    simplex, weights = Simplex(n), directions(rng, n)
    known = [max([0.0, *row]) for row in weights]
    assert simplex.support(weights).tolist() == known
    assert simplex.support(sp.csr_array(weights)).tolist() == known
    assert simplex.euclidean_radius is None
    for point in np.vstack(
        [np.eye(n), np.zeros(n), rng.dirichlet(np.ones(n)), np.full(n, 0.9 / n)]
    ):
        assert shadow_holds(simplex, point * (1 - 1e-9))
    for point in np.vstack([np.full(n, 1.1 / n), -0.1 * np.eye(1, n)]):
        assert not shadow_holds(simplex, point)


@relaxed(20)
@given(st.integers(1, 6), st.sampled_from([1.0, 1e-8, 1e8, 1e-200, 1e200]), seeds)
def test_the_support_of_a_euclidean_ball_is_the_length_rounded_up(n, scale, rng):
    ball, weights = EuclideanBall(n), directions(rng, n) * scale
    assert ball.euclidean_radius == 1.0
    assert (ball.lower.tolist(), ball.upper.tolist()) == ([-1.0] * n, [1.0] * n)
    for row, value in zip(weights, ball.support(weights), strict=True):
        square = sum(entry**2 for entry in exact(row))
        assert square <= Fraction(float(value)) ** 2 <= square * (1 + Fraction(1, 10**12))


def test_domains_have_no_euclidean_radius():
    assert Ball([0, 0], 1, "l1").euclidean_radius is None
    assert Box([0], [1]).euclidean_radius is None


# --- Errors --------------------------------------------------------------------------------------

TRIANGLE = ([[1, 1]], [1])
BAD_POLYTOPES = {
    "unbounded": ([[1, 1]], [1], None, None, "unbounded in coordinate 0.*lower= and upper="),
    "unbounded below": ([[1, 1], [1, -1]], [1, 1], None, 5, "unbounded"),
    "unbounded in the second coordinate": (
        [[1, 0], [-1, 0]],
        [1, 1],
        None,
        None,
        "unbounded in coordinate 1",
    ),
    "empty": ([[1, 0], [-1, 0]], [-1, -1], -5, 5, "empty"),
    "empty, without corners": (
        [[1, 0], [-1, 0], [0, 1], [0, -1]],
        [-1, -1, 1, 1],
        None,
        None,
        "empty",
    ),
    "empty by a hair": ([[1, 1], [-1, -1]], [0, -1e-9], -1, 1, "empty, flat, or too thin"),
    "flat": ([[1, 1], [-1, -1]], [0.5, -0.5], 0, 1, "flat"),
    "flat along an axis": ([[1, 0], [-1, 0]], [0.5, -0.5], 0, 1, "flat"),
    "a point": ([[1, 1]], [0], 0, 1, "flat"),
    "outside of its box": ([[-1, -1]], [-3], 0, 1, "empty"),
    "zero row below its limit": ([[0, 0], [1, 1]], [-1, 1], 0, 1, "empty: a row of A is 0"),
    "corners turned around": ([[1, 1]], [1], 1, 0, "empty"),
    "corners equal": ([[1, 1]], [1], 0, [0, 1], "flat in coordinate 0"),
    "lower corner infinite above": ([[1, 1]], [1], np.inf, None, "infinite|empty|wide"),
    "A not a number": ([[np.nan, 1]], [1], 0, 1, "A is NaN"),
    "A infinite": ([[np.inf, 1]], [1], 0, 1, "A is infinite"),
    "A text": ([["a", "b"]], [1], 0, 1, "A is not an array of numbers"),
    "A complex": ([[1j, 1]], [1], 0, 1, "A has complex numbers"),
    "A complex array": (np.array([[1j, 1]]), [1], 0, 1, "A has complex numbers"),
    "A missing": (None, [1], 0, 1, "A is"),
    "A ragged": ([[1, 1], [1]], [1, 1], 0, 1, "A is not an array of numbers"),
    "A a vector": ([1, 1], [1], 0, 1, "no system"),
    "A of three axes": (np.ones((1, 1, 2)), [1], 0, 1, "no system"),
    "A without rows": (np.zeros((0, 2)), [], 0, 1, "empty"),
    "b not a number": ([[1, 1]], [np.nan], 0, 1, "b is NaN"),
    "b infinite": ([[1, 1]], [np.inf], 0, 1, "b is infinite"),
    "b text": ([[1, 1]], ["x"], 0, 1, "b is not an array of numbers"),
    "b complex": ([[1, 1]], [1j], 0, 1, "b has complex numbers"),
    "b a number": ([[1, 1]], 1, 0, 1, "no system"),
    "b a column": ([[1, 1]], [[1]], 0, 1, "no system"),
    "b too long": ([[1, 1]], [1, 2], 0, 1, "no system"),
    "lower not a number": (*TRIANGLE, np.nan, 1, "lower corner is NaN"),
    "lower of other size": (
        *TRIANGLE,
        [0, 0, 0],
        1,
        "lower corner has 3 entries where A has 2 columns",
    ),
    "upper of other size": (
        *TRIANGLE,
        0,
        [1, 1, 1],
        "upper corner has 3 entries where A has 2 columns",
    ),
    "upper text": (*TRIANGLE, 0, "x", "upper corner is not an array of numbers"),
    "upper complex": (*TRIANGLE, 0, 1j, "upper corner has complex numbers"),
    "beyond the largest float": ([[10**400, 1]], [1], 0, 1, "A is"),
}


@pytest.mark.parametrize("name", BAD_POLYTOPES)
def test_a_polytope_that_is_none(name):
    *arguments, text = BAD_POLYTOPES[name]
    with pytest.raises(lx.DomainError, match=text):
        Polytope(*arguments)


BAD_BALLS = {
    "one radius for each coordinate": (([0, 0], [1, 1], "l1"), "2 radii do not fit"),
    "Euclidean": (([0, 0], 1, "l2"), "norm 'linf' or 'l1', not 'l2'"),
    "clip empties the box": (([5, 5], 1, "l1", (0, 1)), "empty"),
    "clip misses the ball": (([1.75, 1.75], 1, "l1", (0, 1)), "the clipped ball is empty"),
    "clip touches the ball": (([1.5, 1.5], 1, "l1", (0, 1)), "the clipped ball is empty, flat"),
    "clip not a number": (([0, 0], 1, "l1", (0, np.nan)), "clip is NaN"),
    "radius complex": (([0, 0], 1j, "l1"), "radius has complex"),
    "radius text": (([0, 0], "a", "l1"), "radius is not an array of numbers"),
    "radius infinite": (([0, 0], np.inf, "l1"), "positive and finite"),
    "radius beyond the largest float": (([0, 0], 10**400, "l1"), "radius"),
    "centre beyond the largest float": (([0, 10**400], 1, "l1"), "centre"),
}


@pytest.mark.parametrize("name", BAD_BALLS)
def test_an_l1_ball_that_is_none(name):
    arguments, text = BAD_BALLS[name]
    with pytest.raises(lx.DomainError, match=text):
        Ball(*arguments)


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        (Box([0], [1]), Box([0, 0], [1, 1]), "of 1 and 2 dimensions do not intersect"),
        (Ball([0] * 3, 1, "l1"), Polytope(*TRIANGLE, 0), "of 3 and 2 dimensions"),
        (
            Box([0, 0], [1, 1]),
            Box([2, 0], [3, 1]),
            "the intersection is empty: lower 2.0 > upper 1.0 in coordinate 0",
        ),
        (Box([0, 0], [1, 1]), Box([0, 1], [3, 2]), "the intersection is flat in coordinate 1"),
        (Ball([0, 0], 1, "l1"), Ball([1, 1], 1, "l1"), "the intersection is empty, flat"),
        (Ball([0, 0], 1, "l1"), Ball([0.9, 0.9], 0.5, "l1"), "the intersection is empty, flat"),
        (
            Polytope(*TRIANGLE, 0),
            Polytope([[-1, -1]], [-1], 0, 1),
            "the intersection is empty, flat",
        ),
        (Polytope(*TRIANGLE, 0), Ball([1, 1], 0.75, "l1"), "the intersection is empty, flat"),
    ],
)
def test_an_intersection_that_is_none(one, other, text):
    for first, second in ((one, other), (other, one)):
        with pytest.raises(lx.DomainError, match="intersect"):
            first & second
    with pytest.raises(lx.DomainError, match=text):
        one & other


@pytest.mark.parametrize("other", [3, None, "box", np.ones(2), ([0, 0], [1, 1]), Simplex(2)])
def test_a_domain_intersects_domains_only(other):
    with pytest.raises(TypeError):
        Box([0, 0], [1, 1]) & other


@pytest.mark.parametrize("shape", [(12,), (1, 2, 6), (2, 6), (1, 1, 2, 6), (2, 6, 1), (12, 1)])
def test_axes_of_the_same_order_are_flattened(shape: tuple[int, ...]) -> None:
    network = lx.load(
        onnx_model("(float[1,1,2,6] x) => (float[1,12] y) { f = Flatten (x) y = Relu (f) }")
    )
    for domain in (
        lx.Ball(np.ones(shape), 0.5),
        lx.Box(np.zeros(shape), np.ones(shape)) & lx.Box.unit(12),
    ):
        assert lx.lipschitz(network, domain, functional=0).value == 1


@pytest.mark.parametrize("shape", [(6, 2), (3, 4), (6, 2, 1), (2, 2, 3)])
def test_axes_in_another_order_are_refused(shape: tuple[int, ...]) -> None:
    """Flattened, a transposed image is another image."""
    network = lx.load(
        onnx_model("(float[1,1,2,6] x) => (float[1,12] y) { f = Flatten (x) y = Relu (f) }")
    )
    ball, box = lx.Ball(np.ones(shape), 0.5), lx.Box(np.zeros(shape), np.ones(shape))
    for domain in (ball, box, lx.Box.unit(12) & box):
        with pytest.raises(
            lx.DomainError, match=r"the network's input \(1, 2, 6\): transpose them"
        ):
            lx.lipschitz(network, domain, functional=0)
    with pytest.raises(lx.DomainError, match="have other axes"):
        lx.Box(np.zeros((2, 6)), np.ones((2, 6))) & ball
    flat = lx.load(onnx_model("(float[1,12] x) => (float[1,12] y) { y = Relu (x) }"))
    assert lx.lipschitz(flat, ball, functional=0).value == 1  # which has no axes to be mistaken


# --- Short strings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "text"),
    [
        (Box([0, 0], [1, 2]), "Box([0.0, 0.0], [1.0, 2.0])"),
        (Box.unit(784), "Box(array(784,) in [0, 0], array(784,) in [1, 1])"),
        (Ball([0, 0], 1), "Ball([0.0, 0.0], 1.0, norm='linf')"),
        (Ball([0, 0], [1, 2]), "Ball([0.0, 0.0], [1.0, 2.0], norm='linf')"),
        (Ball([0, 0], 1, "l1"), "Ball([0.0, 0.0], 1.0, norm='l1')"),
        (
            Ball(np.zeros(9), 0.1, clip=(0, 1)),
            "Ball(array(9,) in [0, 0], 0.1, norm='linf', "
            "clip=(array(9,) in [0, 0], array(9,) in [0.1, 0.1]))",
        ),
        (
            Polytope([[1, 1]], [1], 0, 1),
            "Polytope([[1.0, 1.0]], [1.0], lower=[0.0, 0.0], upper=[1.0, 1.0])",
        ),
        (Reals(3), "Reals(3)"),
        (Box([0], [1]) & Box([0.5], [2]), "Domain(lower=[0.5], upper=[1.0])"),
        (
            Polytope([[1, 1]], [1], 0, 1) & Ball([0, 0], 1, "l1"),
            "Domain(lower=[0.0, 0.0], upper=[1.0, 1.0], rows=[[1.0, 1.0]], limits=[1.0], "
            "balls=[([0.0, 0.0], 1.0)])",
        ),
    ],
)
def test_a_domain_is_a_short_string(domain, text):
    assert repr(domain) == text


def test_a_polytope_as_thin_as_a_subnormal_number_is_refused_without_a_warning():
    with pytest.raises(lx.DomainError, match="too thin"):
        Polytope([[1.0], [0.125]], [0.0, 0.125], lower=0.0)
