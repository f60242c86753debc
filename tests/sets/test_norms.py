"""Norms, unit balls and functionals against their definitions: linear programs and vertices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import lipexact as lx
from lipexact.graph.evaluate import evaluate
from lipexact.graph.ir import Graph, Input
from lipexact.sets.convex import ConvexSet, EuclideanBall, Simplex
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Box, Polytope
from lipexact.sets.functionals import CrossLipschitz, functional_set
from lipexact.sets.norms import PolyhedralNorm, norm, norm_names
from lipexact.sets.polyhedral import HalfSpaces, Hull
from lipexact.sets.unit_balls import (
    CrossPolytope,
    Cube,
    EuclideanUnitBall,
    Leading,
    Stretched,
    SymmetricSet,
)
from tests.support.bodies import BODIES, body_and_forms, symmetric_rows
from tests.support.networks import to_network

seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def relaxed(max_examples: int) -> settings:
    return settings(deadline=None, max_examples=max_examples)


def both_signs(rows: np.ndarray) -> np.ndarray:
    return np.vstack([rows, -rows])


# --- Definitions ---------------------------------------------------------------------------------


def most_in_halves(rows: np.ndarray, form: np.ndarray) -> float:
    """max{w z : -1 <= h z <= 1 for all rows h}, by scipy."""
    found = linprog(
        -form,
        A_ub=both_signs(rows),
        b_ub=np.ones(2 * len(rows)),
        bounds=(None, None),
        method="highs-ds",
    )
    return float(form @ found.x)


def corners_of_halves(rows: np.ndarray) -> np.ndarray:
    """The vertices of {z : -1 <= h z <= 1}: solutions of n equations that violate no inequality."""
    n, halves = rows.shape[1], both_signs(rows)
    chosen = halves[np.array(list(itertools.combinations(range(len(halves)), n)))]
    regular = np.abs(np.linalg.det(chosen)) > 1e-9 * np.prod(np.linalg.norm(chosen, axis=2), axis=1)
    found = np.linalg.solve(chosen[regular], np.ones((int(regular.sum()), n, 1)))[..., 0]
    found = found[(found @ halves.T <= 1 + 1e-9).all(axis=1)]
    return np.unique(found.round(9) + 0.0, axis=0)


def cube_corners(n: int) -> np.ndarray:
    return np.array(list(itertools.product((1.0, -1.0), repeat=n)))


def spread(form: np.ndarray) -> float:
    return max(abs(a - b) for a, b in itertools.combinations(form, 2))


DUAL: dict[str, Callable[[np.ndarray], float]] = {
    "linf": lambda w: float(sum(map(abs, w))),
    "l1": lambda w: float(max(map(abs, w))),
    "l2": lambda w: math.hypot(*w),
}
POLAR = {"linf": "l1", "l1": "linf", "l2": "l2"}


def in_body(body: SymmetricSet, point: np.ndarray) -> bool:
    """Whether a point is in it, up to rounding: a linear program for hulls."""
    match body:
        case Cube():
            return bool(np.abs(point).max() <= 1 + 1e-9)
        case CrossPolytope():
            return bool(np.abs(point).sum() <= 1 + 1e-9)
        case EuclideanUnitBall():
            return math.hypot(*point) <= 1 + 1e-9
        case HalfSpaces():
            return bool(np.abs(body.rows @ point).max() <= 1 + 1e-9)
        case Hull():
            columns = both_signs(body.points).T
            # The smallest sum of multipliers that gives the point.
            found = linprog(np.ones(columns.shape[1]), A_eq=columns, b_eq=point, method="highs-ds")
            return found.status == 0 and found.fun <= 1 + 1e-7
        case _:
            raise NotImplementedError


# --- All symmetric sets --------------------------------------------------------------------------


@pytest.mark.parametrize("name", BODIES)
@relaxed(15)
@given(rng=seeds)
def test_value_ceiling_and_attained_points_agree(name, rng):
    body, forms = body_and_forms(name, rng)
    values, points = body.support(forms), body.argmax(forms)
    assert values.shape == (len(forms),)
    assert points.shape == forms.shape
    assert (points * forms).sum(axis=1) == pytest.approx(values, rel=1e-12, abs=1e-12)
    assert (body.support_upper(forms) >= values).all()
    assert body.support_upper(forms) == pytest.approx(values, rel=1e-9, abs=1e-9)
    assert (values >= 0).all()
    assert body.support(-forms) == pytest.approx(values, rel=1e-12)
    assert body.support(3 * forms) == pytest.approx(3 * values, rel=1e-12)
    assert all(in_body(body, point) for point in points)


@pytest.mark.parametrize("name", [name for name in BODIES if name != "Euclidean"])
@relaxed(15)
@given(rng=seeds)
def test_the_vertices_are_in_the_body_and_make_its_value(name, rng):
    body, forms = body_and_forms(name, rng)
    corners = np.vstack(list(body.vertices()))
    assert body.vertex_count == len(corners)
    assert np.abs(forms @ corners.T).max(axis=1) == pytest.approx(
        body.support(forms), rel=1e-9, abs=1e-12
    )
    assert all(in_body(body, corner) for corner in corners)
    if name not in ("hull", "flat hull", "one point"):  # these keep the points that they were given
        assert len(np.unique(both_signs(corners).round(8) + 0.0, axis=0)) == 2 * len(corners)


def members(which: ConvexSet, rng: np.random.Generator) -> np.ndarray:
    """Points of the set, and its vertices where they are few."""
    n = which.dim
    match which:
        case Simplex():
            inner = rng.dirichlet(np.ones(n + 1), 20)[:, :n]
            return np.vstack([np.eye(n), np.zeros(n), inner])
        case EuclideanBall():
            directions = rng.normal(size=(3000, n))
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
            return np.vstack([directions, directions * rng.random((3000, 1))])
        case Box():
            return np.vstack(
                [
                    np.array(list(itertools.product(*zip(which.lower, which.upper, strict=True)))),
                    which.sample(rng, 20),
                ]
            )
        case Domain():
            # Of the inequalities that are tight at a vertex, the sum is largest there alone.
            normals = np.vstack([which.rows, np.eye(n), -np.eye(n)])
            sums = normals[np.array(list(itertools.combinations(range(len(normals)), n)))].sum(
                axis=1
            )
            return np.vstack([which.maximisers(sums), which.sample(rng, 20)])
        case _:
            raise NotImplementedError


@pytest.mark.parametrize("name", BODIES)
@relaxed(8)
@given(rng=seeds)
def test_the_ranged_point_ranges_over_the_body(name, rng):
    body, forms = body_and_forms(name, rng, 2, 3)
    ranged = body.as_variables("v")
    inputs = {entry: members(which, rng) for entry, which in ranged.sets.items()}
    points = evaluate(Graph(tuple(ranged.sets), (ranged.point,)), inputs)[ranged.point]
    assert points.shape[1] == body.dim == ranged.point.size
    values = body.support(forms)
    assert (np.abs(forms @ points.T).max(axis=1) <= values * (1 + 1e-6) + 1e-9).all()
    if ranged.symmetric:
        assert (forms @ points.T).max(axis=1) == pytest.approx(values, rel=0.05, abs=1e-9)
    else:  # a body stands for itself and its reflection
        assert np.abs(forms @ points.T).max(axis=1) == pytest.approx(values, rel=0.05, abs=1e-9)
    if body.axes is None:
        corners = both_signs(np.vstack(list(body.vertices())))
        reached = points if ranged.symmetric else both_signs(points)
        extreme = [v for v in corners if "hull" not in name or len(corners) <= 2 * body.dim]
        nearest = [np.abs(reached - corner).max(axis=1).min() for corner in extreme]
        size = np.abs(corners).max()
        assert max(nearest, default=0.0) <= (1e-6 if name == "half-spaces" else 1e-9) * size


@pytest.mark.parametrize("name", [*BODIES, "stretched", "leading"])
@relaxed(20)
@given(rng=seeds)
def test_sums_are_no_less_than_any_signs_make_them(name, rng):
    body, _ = body_and_forms("cube" if name in ("stretched", "leading") else name, rng)
    if name == "stretched":
        body = Stretched(EuclideanUnitBall(body.dim), rng.uniform(0.1, 10, body.dim))
    if name == "leading":
        body = Leading(Stretched(body, rng.uniform(0.1, 10, body.dim)), body.dim + 2)
    rows = rng.normal(size=(3, 4, body.dim))
    rows[0, 1:] = 0.0
    upper, shares = body.zonotope_radius(rows)
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=4)))
    known = np.array([body.support(signs @ each).max() for each in rows])
    assert (upper >= known * (1 - 1e-12)).all()
    assert upper[0] <= known[0] * (1 + 1e-9) * (1 if name != "half-spaces" else body.dim * 10)
    assert shares.shape == (3, 4)
    assert (shares >= 0).all()


def test_sums_over_many_half_spaces_are_those_of_the_box_around_them():
    rng = np.random.default_rng(0)
    body = HalfSpaces(rng.normal(size=(40, 9)))
    assert body.hull is None
    rows = rng.normal(size=(2, 3, 9))
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=3)))
    upper, _ = body.zonotope_radius(rows)
    assert (upper >= [body.support(signs @ each).max() for each in rows]).all()


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", BODIES)
@relaxed(15)
@given(rng=seeds)
def test_the_lower_graph_evaluates_to_the_value(name, symmetric, rng):
    body, forms = body_and_forms(name, rng, 2, 5)
    x = Input(body.dim)
    node = body.support_graph(x, symmetric)
    if name == "Euclidean":
        assert node is x
        return
    assert node is not None
    assert node.size == 1
    graph = Graph((x,), (node,))
    found, mirrored = (evaluate(graph, {x: sign * forms})[node][:, 0] for sign in (1, -1))
    values = body.support(forms)
    if symmetric:
        assert (np.maximum(found, mirrored)) == pytest.approx(values, rel=1e-9, abs=1e-9)
    else:
        assert found == pytest.approx(values, rel=1e-9, abs=1e-9)
        assert mirrored == pytest.approx(values, rel=1e-9, abs=1e-9)


# --- Named norms ---------------------------------------------------------------------------------


def test_every_named_norm_is_tested():
    assert sorted(DUAL) == norm_names()


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("name", norm_names())
def test_the_value_of_a_unit_ball_is_the_dual_norm_and_that_of_its_polar_the_norm(name, n):
    rng = np.random.default_rng(n)
    forms = np.vstack(
        [rng.normal(size=(20, n)), np.eye(n), np.zeros(n), rng.integers(-1, 2, (5, n))]
    )
    which = norm(name)
    assert which.name == name
    assert norm(which) is which
    dual, own = [DUAL[name](w) for w in forms], [DUAL[POLAR[name]](w) for w in forms]
    assert which.ball(n).support(forms) == pytest.approx(dual, rel=1e-12)
    assert which.polar(n).support(forms) == pytest.approx(own, rel=1e-12)
    assert which.ball(n).dim == which.polar(n).dim == n
    # |w z| <= ||w||* ||z||, attained.
    points = which.ball(n).argmax(forms)
    assert (which.polar(n).support(points) <= 1 + 1e-12).all()
    assert (points * forms).sum(axis=1) == pytest.approx(dual, rel=1e-12)


@pytest.mark.parametrize("name", norm_names())
def test_all_norms_are_one_in_one_dimension(name):
    for body in (norm(name).ball(1), norm(name).polar(1)):
        assert body.vertex_count == 1
        assert np.abs(np.vstack(list(body.vertices()))).tolist() == [[1.0]]
        assert body.support(np.array([[-2.0], [0.5]])).tolist() == [2.0, 0.5]
        assert body.axes is None


@pytest.mark.parametrize("scale", [1e-200, 1e-8, 1e8, 1e200])
@pytest.mark.parametrize("name", norm_names())
def test_norms_of_tiny_and_huge_vectors(name, scale):
    forms = np.random.default_rng(0).normal(size=(5, 3))
    for body in (norm(name).ball(3), norm(name).polar(3)):
        assert body.support(forms * scale) == pytest.approx(
            body.support(forms) * scale, rel=1e-12, abs=0
        )
        assert body.argmax(forms * scale) == pytest.approx(body.argmax(forms), rel=1e-12)


@pytest.mark.parametrize("which", [None, "l3", "", 1, [1], np.inf, {"l1": 1}])
def test_a_norm_that_is_none(which):
    with pytest.raises(
        lx.NormError, match=r"unknown norm .*; supported: l1, l2, linf, or a PolyhedralNorm"
    ):
        norm(which)


def test_a_euclidean_ball_has_no_vertices():
    assert EuclideanUnitBall(3).vertex_count == np.inf
    assert EuclideanUnitBall(3).axes is not None
    with pytest.raises(NotImplementedError, match="no vertices"):
        EuclideanUnitBall(3).vertices()


def test_the_vertices_of_a_large_cube_come_in_chunks():
    chunks = list(Cube(14).vertices())
    assert len(chunks) > 1
    corners = np.vstack(chunks)
    assert len(corners) == Cube(14).vertex_count == 2**13
    assert len(np.unique(both_signs(corners), axis=0)) == 2**14


# --- Polyhedral norms ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("form", "rows", "name"),
    [
        ("halfspaces", "unit vectors", "linf"),
        ("vertices", "cube", "linf"),
        ("halfspaces", "cube", "l1"),
        ("vertices", "unit vectors", "l1"),
    ],
)
def test_polyhedral_norms_that_have_names(form, rows, name, n):
    rows = both_signs(np.eye(n)) if rows == "unit vectors" else cube_corners(n)
    which = PolyhedralNorm(**{form: rows})
    forms = np.random.default_rng(n).normal(size=(20, n))
    for mine, named in ((which.ball(n), norm(name).ball(n)), (which.polar(n), norm(name).polar(n))):
        assert mine.support(forms) == pytest.approx(named.support(forms), rel=1e-12)
        assert mine.vertex_count == named.vertex_count
        assert (mine.support_upper(forms) >= mine.support(forms)).all()


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(3))
def test_a_skew_or_stretched_cube_has_half_spaces_and_vertices(n, seed):
    """Facets of its polar are cubes, which qhull cuts into simplices, some of them flat."""
    rng = np.random.default_rng(seed)
    skew, forms = rng.normal(size=(n, n)), rng.normal(size=(20, n))
    for matrix in (np.eye(n), np.diag(rng.uniform(0.1, 3, n)), skew, np.linalg.qr(skew)[0]):
        which = PolyhedralNorm(vertices=cube_corners(n) @ matrix)
        known = np.abs(np.linalg.solve(matrix.T, forms.T)).max(
            axis=0
        )  # of x = z M the norm |z|_inf
        assert which.polar(n).support(forms) == pytest.approx(known, rel=1e-9)
        assert which.polar(n).vertex_count == n
        assert which.ball(n).support(forms) == pytest.approx(
            np.abs(forms @ matrix.T).sum(axis=1), rel=1e-9
        )


@pytest.mark.parametrize("n", [3, 4])
def test_half_spaces_with_redundant_ones_on_edges_and_faces(n):
    grid = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=n)))
    rows = grid[grid.any(axis=1)]  # all but the corners are in faces of the polar
    body, forms = (
        PolyhedralNorm(halfspaces=rows).ball(n),
        np.random.default_rng(n).normal(size=(20, n)),
    )
    assert body.support(forms) == pytest.approx(np.abs(forms).max(axis=1), rel=1e-9)
    assert body.vertex_count == n


@pytest.mark.parametrize("size", [1e-14, 1e-12, 1e-10, 1e-8, 1e-4])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_half_spaces_that_are_nearly_the_same(n, size):
    rng = np.random.default_rng(n)
    for close in (np.vstack([np.eye(n), np.eye(n)]), cube_corners(n)[: 2 ** (n - 1)]):
        rows = close + size * rng.normal(size=close.shape)
        body, forms = HalfSpaces(rows), rng.normal(size=(10, n))
        known = [most_in_halves(rows, w) for w in forms]
        assert body.support(forms) == pytest.approx(known, rel=1e-6)
        assert np.abs(body.argmax(forms) @ rows.T).max() <= 1 + 1e-9


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e8])
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("one", [False, True])
def test_half_spaces_of_other_sizes(n, scale, one):
    rng = np.random.default_rng(n)
    rows, forms = np.vstack([np.eye(n), rng.normal(size=(n + 2, n))]), rng.normal(size=(10, n))
    factors = np.where(np.arange(n) == 0, scale, 1.0) if one else np.full(n, scale)
    known = HalfSpaces(rows).support(forms)
    which = PolyhedralNorm(halfspaces=both_signs(rows * factors))
    assert which.ball(n).support(forms * factors) == pytest.approx(known, rel=1e-9)
    assert which.polar(n).support(forms / factors) == pytest.approx(
        np.abs(forms @ rows.T).max(axis=1), rel=1e-9
    )
    ranged = which.ball(n).as_variables("v")
    (domain,) = ranged.sets.values()
    assert domain.support(forms * factors) == pytest.approx(known, rel=1e-6)


@relaxed(30)
@given(seeds, st.integers(2, 4))
def test_random_polytopes_by_half_spaces_agree_with_their_vertices(rng, n):
    rows = symmetric_rows(rng, n)
    by_halves = PolyhedralNorm(halfspaces=both_signs(rows))
    corners = corners_of_halves(rows)
    by_vertices = PolyhedralNorm(vertices=np.unique(both_signs(corners), axis=0))
    forms = rng.normal(size=(6, n))
    known = (forms @ corners.T).max(axis=1)
    assert by_halves.ball(n).support(forms) == pytest.approx(known, rel=1e-7)
    assert by_vertices.ball(n).support(forms) == pytest.approx(known, rel=1e-7)
    assert known == pytest.approx([most_in_halves(rows, form) for form in forms], rel=1e-6)
    gauge = np.abs(forms @ rows.T).max(axis=1)
    assert by_halves.polar(n).support(forms) == pytest.approx(gauge, rel=1e-12)
    assert by_vertices.polar(n).support(forms) == pytest.approx(gauge, rel=1e-6)
    # Vertices up to sign: none missing, none twice.
    hull = both_signs(np.vstack(list(by_halves.ball(n).vertices())))
    assert len(hull) == len(corners)
    assert np.abs(hull[:, None, :] - corners).max(axis=2).min(axis=1).max() < 1e-7
    assert (np.abs(hull @ rows.T) <= 1 + 1e-9).all()


@relaxed(30)
@given(seeds, st.integers(1, 3))
def test_a_polyhedral_norm_is_one(rng, n):
    which = PolyhedralNorm(halfspaces=both_signs(symmetric_rows(rng, n)))
    x, y = rng.normal(size=(2, 10, n))
    length = which.polar(n).support
    assert (length(x) > 0).all()
    assert (length(x + y) <= length(x) + length(y) + 1e-12).all()
    assert length(-2 * x) == pytest.approx(2 * length(x))
    assert (np.abs((x * y).sum(axis=1)) <= which.ball(n).support(x) * length(y) * (1 + 1e-12)).all()


def weighted(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, SymmetricSet]:
    """The ball of max |z_i| / r_i, and with it the r."""
    radii = rng.uniform(0.2, 5, n)
    rows = np.diag(1 / radii)
    return radii, rows, PolyhedralNorm(halfspaces=both_signs(rows)).ball(n)


def test_half_spaces_too_many_to_enumerate_have_their_value_by_linear_programs():
    n, rng = 30, np.random.default_rng(0)
    radii, rows, _ = weighted(rng, n)
    body = HalfSpaces(np.diag(1 / radii))
    assert body.vertex_count == np.inf
    assert body.support_graph(Input(n), symmetric=False) is None
    with pytest.raises(NotImplementedError, match="too many half-spaces"):
        body.vertices()
    forms = np.vstack([rng.normal(size=(10, n)), np.eye(n)[:3], np.zeros(n)])
    values, points = body.support(forms), body.argmax(forms)
    assert values == pytest.approx(np.abs(forms) @ radii, rel=1e-9)
    assert (body.support_upper(forms) >= values).all()
    assert body.support_upper(forms) == pytest.approx(values, rel=1e-9, abs=1e-12)
    assert (np.abs(points @ rows.T) <= 1 + 1e-12).all()
    assert (points * forms).sum(axis=1) == pytest.approx(values, rel=1e-9)
    ranged = body.as_variables("v")
    (domain,) = ranged.sets.values()
    assert domain.support(forms) == pytest.approx(values, rel=1e-9, abs=1e-9)
    assert domain.upper == pytest.approx(radii)


@pytest.mark.parametrize("seed", range(3))
def test_many_random_half_spaces_have_their_value_by_linear_programs(seed):
    rng, n = np.random.default_rng(seed), 12
    rows = rng.normal(size=(40, n))
    body, forms = HalfSpaces(rows), rng.normal(size=(5, n))
    assert body.hull is None
    values = body.support(forms)
    assert values == pytest.approx([most_in_halves(rows, form) for form in forms], rel=1e-7)
    assert (body.support_upper(forms) >= values).all()
    assert body.support_upper(forms) == pytest.approx(values, rel=1e-9)
    assert (np.abs(body.argmax(forms) @ rows.T) <= 1 + 1e-12).all()


@pytest.mark.parametrize("scale", [1e-12, 1e-8, 1e-6, 1e6, 1e12])
def test_the_value_by_linear_programs_is_right_for_forms_of_every_size(scale):
    n, rng = 30, np.random.default_rng(1)
    radii, _, body = weighted(rng, n)
    forms = rng.normal(size=(10, n))
    assert body.support(forms * scale) == pytest.approx(
        np.abs(forms) @ radii * scale, rel=1e-9, abs=0
    )
    assert body.support_upper(forms * scale) == pytest.approx(
        np.abs(forms) @ radii * scale, rel=1e-9, abs=0
    )


BAD_POLYHEDRA = {
    "both": ({"halfspaces": [[1], [-1]], "vertices": [[1], [-1]]}, "either halfspaces=H"),
    "none": ({}, "either halfspaces=H"),
    "not symmetric": (
        {"halfspaces": [[1, 0], [-1, 0], [0, 1]]},
        "halfspaces must come in pairs h and -h",
    ),
    "not symmetric vertices": (
        {"vertices": [[1, 0], [-1, 0], [0, 1], [0, -2]]},
        "vertices must come in pairs",
    ),
    "almost symmetric": ({"vertices": [[1], [-1 - 1e-15]]}, "vertices must come in pairs"),
    "unbounded": (
        {"halfspaces": [[1, 0], [-1, 0]]},
        "bounded, with interior; these halfspaces leave it unbounded",
    ),
    "unbounded slab": ({"halfspaces": [[1, 1], [-1, -1], [2, 2], [-2, -2]]}, "leave it unbounded"),
    "flat": ({"vertices": [[1, 1], [-1, -1]]}, "these vertices leave it flat"),
    "only zero": ({"vertices": [[0, 0]]}, "flat"),
    "not a number": ({"vertices": [[np.nan], [1]]}, "matrix of vertices is NaN"),
    "infinite": ({"halfspaces": [[np.inf], [-np.inf]]}, "finite matrix"),
    "a vector": (
        {"halfspaces": [1, -1]},
        "finite matrix of shape \\(k, n\\), not of shape \\(2,\\)",
    ),
    "three axes": ({"halfspaces": np.ones((2, 2, 2))}, "not of shape \\(2, 2, 2\\)"),
    "no rows": ({"vertices": np.zeros((0, 2))}, "matrix of vertices is empty"),
    "text": ({"vertices": [["a"], ["b"]]}, "not an array of numbers"),
    "ragged": ({"vertices": [[1, 0], [1]]}, "not an array of numbers"),
    "complex": ({"vertices": [[1j], [-1j]]}, "numbers"),
    "complex array": ({"vertices": np.array([[1 + 1j], [-1 - 1j]])}, "numbers"),
    "beyond the largest float": ({"vertices": [[10**400], [-(10**400)]]}, "numbers|finite"),
}


@pytest.mark.parametrize("name", BAD_POLYHEDRA)
def test_a_polyhedral_norm_that_is_none(name):
    arguments, text = BAD_POLYHEDRA[name]
    with pytest.raises(lx.NormError, match=text):
        PolyhedralNorm(**arguments)


def test_a_polyhedral_norm_measures_its_own_dimension_only():
    which = PolyhedralNorm(halfspaces=both_signs(np.eye(2)))
    assert which.dim == 2
    for body in (which.ball, which.polar):
        with pytest.raises(lx.NormError, match="of 2 dimensions does not measure 3 entries"):
            body(3)


def test_zero_rows_and_doubled_rows_do_not_count():
    which = PolyhedralNorm(
        halfspaces=[[0, 0], [1, 0], [-1, -0.0], [1, 0], [0, 2], [0, -2], [-0.0, 0]]
    )
    assert repr(which) == "PolyhedralNorm(4 half-spaces in 2 dimensions)"
    assert which.ball(2).support(np.array([[1.0, 1.0]])).tolist() == [1.5]
    assert (
        repr(PolyhedralNorm(vertices=[[1.0], [-1.0]]))
        == "PolyhedralNorm(2 vertices in 1 dimensions)"
    )


# --- Functionals ---------------------------------------------------------------------------------

FUNCTIONALS = {
    "vector": ((1, -2, 0.5), [[1, -2, 0.5]]),
    "array": (np.array([0, 0, 3], dtype=np.int8), [[0, 0, 3]]),
    "zero": ([0, 0, 0], [[0, 0, 0]]),
    "index": (1, [[0, 1, 0]]),
    "numpy's index": (np.int64(2), [[0, 0, 1]]),
    "negative index": (-1, [[0, 0, 1]]),
    "first by negative index": (-3, [[1, 0, 0]]),
    "matrix": ([[1, 0, 0], [0, 2, -1]], [[1, 0, 0], [0, 2, -1]]),
    "matrix of one row": ([[1, 2, 3]], [[1, 2, 3]]),
    "all differences": (CrossLipschitz(), [[1, -1, 0], [1, 0, -1], [0, 1, -1]]),
    "differences from one": (CrossLipschitz(label=1), [[-1, 1, 0], [0, 1, -1]]),
    "differences from the last": (CrossLipschitz(label=-1), [[-1, 0, 1], [0, -1, 1]]),
    "differences from numpy's index": (CrossLipschitz(label=np.int32(0)), [[1, -1, 0], [1, 0, -1]]),
}


@pytest.mark.parametrize("name", FUNCTIONALS)
def test_a_functional_is_the_hull_of_its_vectors(name):
    functional, vectors = FUNCTIONALS[name]
    body = functional_set(functional, "linf", 3)
    forms = np.random.default_rng(0).normal(size=(20, 3))
    assert body.support(forms) == pytest.approx(np.abs(forms @ np.array(vectors).T).max(axis=1))
    assert body.dim == 3
    assert body.vertex_count == len(vectors)
    assert np.vstack(list(body.vertices())).tolist() == np.array(vectors, dtype=np.float64).tolist()


@pytest.mark.parametrize("name", norm_names())
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_whole_output_is_the_polar_of_its_norm(name, outputs):
    forms = np.random.default_rng(0).normal(size=(20, outputs))
    body = functional_set(None, name, outputs)
    assert body.support(forms) == pytest.approx(
        [DUAL[POLAR[name]](form) for form in forms], rel=1e-12
    )


def test_the_whole_output_may_have_a_polyhedral_norm():
    which = PolyhedralNorm(vertices=both_signs(np.array([[1.0, 1.0], [1.0, -1.0]])))
    assert functional_set(None, which, 2).support(np.array([[3.0, -2.0]])) == pytest.approx([3.0])
    with pytest.raises(lx.NormError, match="2 dimensions does not measure 3"):
        functional_set(None, which, 3)
    with pytest.raises(lx.NormError, match="unknown norm"):
        functional_set(None, "l7", 3)


@relaxed(30)
@given(st.integers(2, 6), seeds)
def test_differences_have_the_largest_difference_of_any_pair(n, rng):
    forms = np.vstack([rng.normal(size=(10, n)), rng.integers(-2, 3, (5, n)), np.ones(n)])
    body = CrossLipschitz().symmetric_set(n)
    assert body.support(forms) == pytest.approx([spread(form) for form in forms], abs=1e-15)
    assert body.vertex_count == math.comb(n, 2)
    label = int(rng.integers(-n, n))
    targeted = CrossLipschitz(label).symmetric_set(n)
    known = [
        max(abs(form[label] - value) for k, value in enumerate(form) if k != label % n)
        for form in forms
    ]
    assert targeted.support(forms) == pytest.approx(known, abs=1e-15)
    assert targeted.vertex_count == n - 1


@relaxed(30)
@given(st.integers(1, 3), seeds)
def test_a_polytope_of_functionals_is_the_hull_of_its_vertices(outputs, rng):
    """A simplex or a box cut by a row, away from 0 or around it; its value is the largest |w c|."""
    rows = rng.normal(size=(2, outputs))
    inner = rng.normal(size=outputs) * rng.choice([0.1, 3.0])
    limits = rows @ inner + rng.uniform(0.1, 0.5, 2)
    polytope = Polytope(rows, limits, lower=inner - 1, upper=inner + 0.5)
    body, forms = functional_set(polytope, "linf", outputs), rng.normal(size=(6, outputs))
    sides = [
        linprog(
            sign * form, A_ub=rows, b_ub=limits, bounds=np.column_stack([inner - 1, inner + 0.5])
        ).fun
        for form in forms
        for sign in (1, -1)
    ]
    assert body.support(forms) == pytest.approx(np.abs(sides).reshape(-1, 2).max(axis=1), rel=1e-7)
    corners = np.vstack(list(body.vertices()))
    assert (corners @ rows.T <= limits + 1e-9).all()
    assert (np.abs(corners - inner + 0.25) <= 0.75 + 1e-9).all()


def test_a_polytope_of_functionals_must_fit_and_be_small():
    with pytest.raises(lx.NormError, match="in 2 dimensions does not fit 3 outputs"):
        functional_set(Polytope([[1, 1]], [1], 0, 1), "linf", 3)
    with pytest.raises(lx.NormError, match="too many vertices"):
        functional_set(Polytope(np.ones((1, 30)), [1], -1, 1), "linf", 30)


BAD_FUNCTIONALS = {
    "index too large": (3, "functional=3 names no output: the network has 3"),
    "index too small": (-4, "functional=-4 names no output"),
    "index beyond the largest float": (10**400, "names no output"),
    "too short": ([1, 2], "shape \\(2,\\) does not fit 3 outputs"),
    "too long": ([1, 2, 3, 4], "shape \\(4,\\) does not fit 3 outputs"),
    "a column": ([[1], [2], [3]], "shape \\(3, 1\\) does not fit 3 outputs"),
    "three axes": (np.ones((1, 1, 3)), "shape \\(1, 1, 3\\)"),
    "no rows": (np.zeros((0, 3)), "the functional is empty"),
    "no entries": ([], "the functional is empty"),
    "a float": (1.0, "an output's index, a vector of numbers"),
    "a truth value": (True, "an output's index, a vector of numbers"),
    "text": ("first", "an output's index, a vector of numbers"),
    "ragged": ([[1, 0, 0], [1]], "not an array of numbers"),
    "a set": ({1, 2}, "an output's index, a vector of numbers"),
    "not a number": ([1, np.nan, 0], "NaN in coordinate 1"),
    "infinite": ([1, np.inf, 0], "infinite"),
    "complex": ([1j, 0, 0], "complex"),
    "complex array": (np.array([1j, 0, 0]), "complex"),
    "beyond the largest float": ([10**400, 0, 0], "not an array of numbers"),
    "label too large": (
        CrossLipschitz(3),
        "CrossLipschitz\\(label=3\\) names no output: the network has 3",
    ),
    "label too small": (CrossLipschitz(-4), "CrossLipschitz\\(label=-4\\) names no output"),
    "label a float": (CrossLipschitz(1.0), "CrossLipschitz\\(label=1.0\\) names no output"),
    "label a truth value": (CrossLipschitz(True), "CrossLipschitz\\(label=True\\) names no output"),
    "label text": (CrossLipschitz("1"), "CrossLipschitz\\(label='1'\\) names no output"),
}


@pytest.mark.parametrize("name", BAD_FUNCTIONALS)
def test_a_functional_that_is_none(name):
    functional, text = BAD_FUNCTIONALS[name]
    with pytest.raises(lx.NormError, match=text):
        functional_set(functional, "linf", 3)


@pytest.mark.parametrize("label", [None, 0])
def test_differences_need_two_outputs(label):
    with pytest.raises(lx.NormError, match="at least two outputs"):
        functional_set(CrossLipschitz(label), "linf", 1)


def test_a_functional_does_not_follow_its_array():
    vector = np.ones(2)
    body = functional_set(vector, "linf", 2)
    vector[:] = 9
    assert body.support(np.ones((1, 2))).tolist() == [2.0]


# --- Through the front door ----------------------------------------------------------------------


@pytest.mark.parametrize("form", ["halfspaces", "vertices"])
@pytest.mark.parametrize("n", [2, 4])
def test_the_constant_of_a_linear_map_in_a_polyhedral_norm(n, form):
    """g x, whose constant is max{g z : ||z|| <= 1}."""
    rng = np.random.default_rng(1)
    rows = cube_corners(n) * rng.uniform(0.1, 3, n)
    for _ in range(5):
        g = rng.normal(size=n)
        known = most_in_halves(rows, g) if form == "halfspaces" else np.abs(rows @ g).max()
        which = PolyhedralNorm(**{form: rows})
        result = lx.lipschitz(
            to_network([(g[None, :], [0.0])]), Box.unit(n), functional=0, input_norm=which
        )
        assert result.value == pytest.approx(known, rel=1e-9)
