"""What keeps an answer right where solvers, Qhull and floats usually do no harm: each guard,
provoked on purpose.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.spatial

import lipexact as lx
from lipexact.bounds import formulation as programs
from lipexact.errors import NormError
from lipexact.numerics.lp import LinearProgram
from lipexact.regions.affine import pattern_at
from lipexact.result import LipschitzResult, Status
from lipexact.robustness import _ball, _radius_of_all, _step_into, certified_radius
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Polytope
from lipexact.sets.functionals import functional_set
from lipexact.sets.norms import norm
from lipexact.sets.polyhedral import HalfSpaces, Hull, vertices_of
from lipexact.state import StoppingRule
from tests.support.half_spaces import dot, exact, polytope, vertices
from tests.support.networks import random_weights, to_network
from tests.support.operator_norms import norm_of
from tests.support.solvers import require


class Sloppy(HalfSpaces):
    """As when the linear program stops short of its optimum."""

    def argmax(self, forms):
        return (1 - 1e-3) * super().argmax(forms)


def weighted(n):
    return Sloppy(np.eye(n))


def test_a_vertex_on_one_side_and_programs_on_the_other(monkeypatch):
    monkeypatch.setattr("lipexact.sets.constants.MAX_CHUNK_VERTICES", 1)
    monkeypatch.setattr("lipexact.sets.constants.MAX_VERTICES", 0)
    body = weighted(3)
    assert body.hull is None
    jac = np.array([[3.0, 1.0, 2.0], [1.0, 0.0, 0.5]])
    found = norm_of(jac, Hull(np.eye(2)), body)
    assert found.lower <= 6.0 <= found.upper
    found = norm_of(jac.T, body, Hull(np.eye(2)))
    assert found.lower <= 6.0 <= found.upper


def result(lower, upper, target):
    return LipschitzResult(
        lower,
        upper,
        Status.BOUNDED,
        "target",
        "float",
        None,
        target,
        "mip",
        "forward",
        "highs",
        0.0,
    )


def test_within_target_at_its_ends():
    assert result(1.0, 2.0, 1.0).within_target is None
    assert result(1.0, 2.0, 2.0).within_target is True
    assert result(1.0, 2.0, 0.5).within_target is False
    assert result(1.0, 1.0, 1.0).within_target is True


def test_goal_at_its_ends():
    goal = StoppingRule(target=1.0)
    assert not goal.target_is_decided(1.0, 2.0)
    assert goal.target_is_decided(0.0, 1.0)
    assert goal.target_is_decided(1.5, 2.0)


@pytest.mark.unwatched
def test_the_ball_of_a_search_holds_the_whole_ball():
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(1, 5))
        x, r = rng.normal(size=n) * 10.0 ** rng.uniform(-2, 2), float(10.0 ** rng.uniform(-3, 3))
        c, R = [Fraction(float(v)) for v in x], Fraction(r)
        for name in ("linf", "l2"):
            box = _ball(x, r, norm(name), None)
            assert all(
                Fraction(float(lo)) <= v - R and v + R <= Fraction(float(hi))
                for lo, v, hi in zip(box.lower, c, box.upper, strict=True)
            )
        ((_, around),) = _ball(x, r, norm("l2"), None).balls
        assert Fraction(float(around)) ** 2 >= n * R**2
        half = np.vstack([np.eye(n), rng.normal(size=(2, n))])
        which = lx.PolyhedralNorm(halfspaces=np.vstack([half, -half]))
        ball = _ball(x, r, which, None)
        for row, limit in zip(ball.rows, ball.limits, strict=True):
            assert (
                Fraction(float(limit))
                >= sum(Fraction(float(a)) * v for a, v in zip(row, c, strict=True)) + R
            )


@pytest.mark.unwatched
def test_the_radius_is_rounded_down():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        W, b, x = rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=2)
        out = [
            sum(Fraction(float(a)) * Fraction(float(v)) for a, v in zip(row, x, strict=True))
            + Fraction(float(o))
            for row, o in zip(W, b, strict=True)
        ]
        k = max(range(3), key=lambda i: out[i])
        exact = min(
            (out[k] - out[j])
            / sum(
                abs(Fraction(float(p)) - Fraction(float(q)))
                for p, q in zip(W[k], W[j], strict=True)
            )
            for j in range(3)
            if j != k
        )
        found = certified_radius(to_network([(W, b)]), x)
        assert Fraction(found.radius) <= exact, seed
        assert all(
            Fraction(float(m)) <= out[k] - out[j] for j, m in enumerate(found.margins) if j != k
        )


def test_what_a_clip_leaves_is_in_the_ball():
    rng = np.random.default_rng(1)
    for _ in range(200):
        x = rng.uniform(0, 1, 3)
        r = Fraction(_radius_of_all(x, norm("l1"), (0, 1)))
        assert r >= sum(max(Fraction(float(v)), 1 - Fraction(float(v))) for v in x)
    # max |z_i| and |z_1 - z_2|: from the middle, the corner (1, 0) is 2 away, the corner (1, 1)
    # only 1.
    half = np.array([[1.0, 0], [0, 1], [1, -1]])
    which = lx.PolyhedralNorm(halfspaces=np.vstack([half, -half]))
    assert _radius_of_all(np.zeros(2), which, (-1, 1)) >= 2.0


def test_what_a_program_attains_is_drawn_into_the_body(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(40, 12))
    body = HalfSpaces(rows)
    assert body.hull is None
    real = Domain.maximisers
    monkeypatch.setattr(Domain, "maximisers", lambda self, forms: real(self, forms) * (1 + 1e-6))
    points = body.argmax(np.random.default_rng(1).normal(size=(5, 12)))
    assert (np.abs(points @ rows.T) <= 1 + 1e-12).all()


def test_the_support_of_a_cone_in_a_wide_box():
    for seed in range(150):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(3, 2))
        recipe = polytope(
            rows, np.zeros(3) if seed % 2 else rng.uniform(0, 1e-9, 3), -np.ones(2), np.ones(2)
        )
        try:
            domain = recipe.build()
        except lx.DomainError:
            continue
        corners = vertices(recipe.halves)
        weights = rng.uniform(0, 1, (6, 3)) @ rows
        for w, value in zip(weights, domain.support(weights), strict=True):
            assert Fraction(float(value)) >= max(dot(exact(w), corner) for corner in corners)


def test_the_support_at_a_sharp_corner():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        s, t = 10.0 ** rng.uniform(-5, -2, 2)
        rows = np.array([[1.0, s - 1], [t - 1, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        apex = rng.uniform(0.5, 2, 2)
        recipe = polytope(rows, [*(rows[:2] @ apex), 0.0, 0.0])
        try:
            domain = recipe.build()
        except lx.DomainError:
            continue
        corners = vertices(recipe.halves)
        weights = np.vstack([rng.normal(size=(8, 2)), rng.uniform(0, 1, (8, 2))])
        for w, value in zip(weights, domain.support(weights), strict=True):
            assert Fraction(float(value)) >= max(dot(exact(w), corner) for corner in corners)


def test_no_point_is_inside_where_rounding_hides_a_row():
    rng = np.random.default_rng(0)
    tested = 0
    for _ in range(300):
        row, x = rng.normal(size=6), rng.uniform(-1, 1, 6)
        row[-1] = -(row[:-1] @ x[:-1]) / x[-1]  # row x is next to nothing
        true = sum(Fraction(float(a)) * Fraction(float(v)) for a, v in zip(row, x, strict=True))
        b = float(true)
        while Fraction(b) >= true:
            b = np.nextafter(b, -np.inf)
        domain = Polytope(row[None], [b], -np.full(6, 2.0), np.full(6, 2.0))
        assert not domain.margin(x[None])[0] > 0
        tested += 1
    assert tested == 300


def test_the_witness_of_a_linear_network_stays_in_its_domain():
    box = lx.Box([0.0, -1.0], [1.0, 3.0])
    witness = lx.lipschitz(to_network([(np.array([[1.0, 2.0]]), np.zeros(1))]), box).witness
    assert (witness.point - witness.radius >= box.lower).all()
    assert (witness.point + witness.radius <= box.upper).all()
    assert witness.radius > 0


def test_a_gradient_that_keeps_its_signs_in_l2():
    solver = require("scip")
    first = (np.array([[3.0, 3.0], [1.0, -1.0], [1.0, 1.0]]), np.array([100.0, 0.0, 0.0]))
    net = to_network([first, (np.ones((1, 3)), np.zeros(1))])
    for mode in ("reverse", "auto"):
        result = lx.lipschitz(
            net, lx.Box([-1, -1], [1, 1]), input_norm="l2", solver=solver, mode=mode
        )
        assert result.status is lx.Status.EXACT, result
        assert result.value == pytest.approx(math.sqrt(34), rel=1e-9)
        assert result.proof == "solver"


def test_margins_are_rounded_down():
    net = to_network([(np.array([[1.0], [0.0]]), np.array([1.0, 1e-17]))])
    found = lx.certified_radius(net, [0.0])
    assert Fraction(float(found.margins[1])) <= Fraction(1.0) - Fraction(1e-17)


@pytest.mark.unwatched
@pytest.mark.parametrize("at", [0.0, 1.0, 1e6, 1e9])
def test_the_witness_radius_is_exact(at):
    # Gates at `at` and a few floats further.
    step = float(np.nextafter(at, np.inf) - at) if at else 1e-12
    for k in (1, 2, 3, 50):
        end = at + k * step
        weights = [
            (np.array([[1.0], [1.0]]), np.array([-at, -end])),
            (np.array([[5.0, -5.0]]), np.zeros(1)),
        ]
        # written with a rotation, so that rounding matters
        first = (np.array([[0.1, 0.7], [0.1, 0.7]]), np.array([-0.8 * at, -0.8 * end]))
        for net, box in (
            (weights, lx.Box([at - 1], [at + 1])),
            (
                [first, (np.array([[5.0, -5.0]]), np.zeros(1))],
                lx.Box(np.full(2, at - 1), np.full(2, at + 1)),
            ),
        ):
            witness = lx.lipschitz(to_network(net), box).witness
            x, r = [Fraction(float(v)) for v in witness.point], Fraction(witness.radius)
            for row, bias, on in zip(*net[0], witness.pattern[0], strict=True):
                z = sum(Fraction(float(a)) * v for a, v in zip(row, x, strict=True)) + Fraction(
                    float(bias)
                )
                reach = r * sum(abs(Fraction(float(a))) for a in row)
                if r:
                    assert z >= reach if on else z <= -reach


REAL = scipy.spatial.ConvexHull


class Answer:
    def __init__(self, equations, simplices):
        self.equations, self.simplices = equations, simplices


def octagon():
    half = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.8], [0.8, -0.8]])
    return np.vstack([half, -half])


def test_vertices_that_qhull_gets_wrong_are_refused(monkeypatch):
    rows = octagon()
    assert vertices_of(rows) is not None

    def inward(points):
        found = REAL(points)
        return Answer(found.equations * np.array([1, 1, 1 + 1e-6]), found.simplices)

    def outward(points):
        found = REAL(points)
        return Answer(found.equations * np.array([1, 1, 1 - 1e-6]), found.simplices)

    def blind(points):
        keep = np.array([0, 1, 2, 4, 5, 6])
        found = REAL(points[keep])
        return Answer(found.equations, keep[found.simplices])

    for wrong in (inward, outward, blind):
        monkeypatch.setattr(scipy.spatial, "ConvexHull", wrong)
        assert vertices_of(rows) is None, wrong


def test_the_bounding_box_holds_with_multipliers_that_are_off(monkeypatch):
    real = LinearProgram.maximise
    rng = np.random.default_rng(0)

    def off(self, weights):
        found = real(self, weights)
        return found and (found[0], found[1] * (1 + 1e-5 * rng.normal(size=found[1].size)))

    monkeypatch.setattr(LinearProgram, "maximise", off)
    for seed in range(20):
        draw = np.random.default_rng(seed)
        recipe = polytope(
            np.vstack([draw.normal(size=(4, 2)), np.eye(2), -np.eye(2)]), draw.uniform(0.5, 2, 8)
        )
        domain = recipe.build()
        for corner in vertices(recipe.halves):
            assert all(
                Fraction(float(a)) <= x <= Fraction(float(b))
                for a, x, b in zip(domain.lower, corner, domain.upper, strict=True)
            )


def test_the_bounding_box_of_a_sharp_corner():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        s, t = 10.0 ** rng.uniform(-5, -2, 2)
        rows = np.array([[1.0, s - 1], [t - 1, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        recipe = polytope(rows, [*(rows[:2] @ rng.uniform(0.5, 2, 2)), 0.0, 0.0])
        try:
            domain = recipe.build()
        except lx.DomainError:
            continue
        for corner in vertices(recipe.halves):
            assert all(
                Fraction(float(a)) <= x <= Fraction(float(b))
                for a, x, b in zip(domain.lower, corner, domain.upper, strict=True)
            )


def test_a_forced_mode_keeps_the_bound_of_the_other():
    different = 0
    for seed in range(6):
        net = to_network(random_weights(np.random.default_rng(seed), (4, 8, 8, 3)))
        box = lx.Box(-np.ones(4), np.ones(4))
        measures = programs.checked_norm_sets(net, box, "linf", None, None)
        roots = [
            program.root_bound
            for program in programs.formulate(net, box, *measures, "auto", np.inf)
        ]
        different += abs(roots[0] - roots[1]) > 1e-6
        for mode in ("forward", "reverse"):
            assert lx.lipschitz(net, box, mode=mode, gap=0.999999).upper <= min(roots) * (1 + 1e-12)
    assert different


def test_the_box_around_half_spaces_holds_the_body():
    for h in (3.0, 0.1, 7.0, 49.0, 1e-3, 1e3 / 7):
        box = HalfSpaces(np.array([[h, 0], [0, 1]])).polytope
        assert Fraction(float(box.upper[0])) * Fraction(h) >= 1
        assert Fraction(float(box.lower[0])) * Fraction(h) <= -1


def test_a_gap_is_not_exact():
    net = to_network(random_weights(np.random.default_rng(0), (4, 8, 8, 3)))
    result = lx.lipschitz(net, lx.Box(-np.ones(4), np.ones(4)), gap=0.999999)
    assert result.lower < 0.99 * result.upper
    assert result.status is lx.Status.BOUNDED
    assert result.termination == "gap"


def test_the_length_may_be_the_largest_that_bounds_allow():
    # the gradient is (3, 4) everywhere
    model = lx.build(
        to_network([(np.array([[3.0, 4.0]]), np.zeros(1))]),
        lx.Box.unit(2),
        input_norm="l2",
        mode="reverse",
    )
    assert model.top >= 5.0


def test_the_model_of_a_dead_network_can_be_built():
    dead = to_network([(np.eye(2), np.full(2, -100.0)), (np.ones((1, 2)), np.zeros(1))])
    for mode in ("forward", "reverse"):
        assert lx.build(dead, lx.Box.unit(2), mode=mode).top == 0.0


def test_the_step_to_a_witness_ends_in_its_region():
    for seed in range(5):
        net = to_network(random_weights(np.random.default_rng(seed), (2, 8, 2)))
        center = np.array([0.1, -0.2])
        witness = lx.lipschitz(net, lx.Box(center - 1, center + 1)).witness
        found = pattern_at(net, center + _step_into(net, center, witness))
        assert found is not None
        assert all(np.array_equal(a, b) for a, b in zip(found, witness.pattern, strict=True))


def test_the_upper_bound_is_in_the_input_norm():
    # Slope 1 until x_1 + x_2 = 1, then 10; the margin is 1.5 at 0: nothing is certified beyond the
    # kink, or before it.
    weights = [
        (np.array([[1.0, 1.0], [1.0, 1.0]]), np.array([10.0, -1.0])),
        (np.array([[-0.25, -5.0], [0.0, 0.0]]), np.array([4.0, 0.0])),
    ]
    found = lx.certified_radius(to_network(weights), [0.0, 0.0], input_norm="l1")
    assert found.radius == pytest.approx(1.0, rel=1e-3), found
    assert found.upper >= 1.0 - 1e-9
    found = lx.certified_radius(to_network(weights), [0.0, 0.0], input_norm="linf")
    assert found.radius == pytest.approx(0.5, rel=1e-3), found
    assert found.upper >= 0.5 - 1e-9


def test_a_ball_of_functionals_is_refused():
    with pytest.raises(NormError, match="ball of functionals"):
        functional_set(lx.Ball([0.0, 0.0], 1.0, norm="l1"), "linf", 2)
