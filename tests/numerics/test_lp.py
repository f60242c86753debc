"""Linear programs against scipy, and what their multipliers prove."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from lipexact.numerics.lp import LinearProgram, System, largest_slack

TOLERANCE = 1e-7

seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def relaxed(max_examples: int) -> settings:
    return settings(deadline=None, max_examples=max_examples)


# --- One linear program after the other ----------------------------------------------------------


def random_system(rng: np.random.Generator) -> System:
    """A system with or without an inner point; sides may be infinite, and rows missing."""
    n, k = int(rng.integers(1, 6)), int(rng.integers(0, 8))
    whole = rng.random() < 0.5
    rows = rng.integers(-3, 4, (k, n)).astype(np.float64) if whole else rng.normal(size=(k, n))
    inner = rng.integers(-2, 3, n).astype(np.float64)
    limits = (
        rows @ inner
        + (rng.integers(0, 4, k) if whole else rng.random(k))
        - (3.0 if rng.random() < 0.15 else 0.0)
    )
    lower, upper = inner - rng.integers(0, 4, n), inner + rng.integers(0, 4, n)
    return System(
        np.where(rng.random(n) < 0.2, -np.inf, lower),
        np.where(rng.random(n) < 0.2, np.inf, upper),
        sp.csr_array(rows),
        limits,
    )


def by_scipy(system: System, weights: np.ndarray) -> float | None:
    """The maximum; None where there is none, or no end to it."""
    rows, limits = (system.rows.toarray(), system.limits) if system.limits.size else (None, None)
    bounds = np.column_stack([system.lower, system.upper])
    found = linprog(-weights, A_ub=rows, b_ub=limits, bounds=bounds, method="highs-ipm")
    return -found.fun if found.status == 0 else None


def dual_bound(system: System, weights: np.ndarray, duals: np.ndarray) -> float:
    """mu b + max over the box of (w - mu A) y: at least w y for all mu >= 0 and y in the system."""
    left = weights - duals @ system.rows.toarray()
    left = np.where(np.abs(left) <= TOLERANCE * (1 + np.abs(duals).sum()), 0.0, left)
    with np.errstate(invalid="ignore"):
        sides = np.where(left > 0, left * system.upper, left * system.lower)
    return float(duals @ system.limits + np.where(left == 0, 0.0, sides).sum())


@relaxed(80)
@given(seeds)
def test_the_maximum_is_that_of_scipy_and_its_multipliers_prove_it(rng):
    system = random_system(rng)
    program = LinearProgram(system)
    n = system.lower.size
    for weights in (
        rng.normal(size=n),
        rng.integers(-2, 3, n).astype(np.float64),
        np.zeros(n),
        rng.normal(size=n),
    ):
        known, found = by_scipy(system, weights), program.maximise(weights)
        assert (known is None) == (found is None)
        if found is None:
            continue
        point, duals = found
        assert point.shape == (n,)
        assert duals.shape == system.limits.shape
        assert weights @ point == pytest.approx(known, rel=1e-6, abs=1e-6)
        assert (point >= system.lower - TOLERANCE).all()
        assert (point <= system.upper + TOLERANCE).all()
        assert (system.rows @ point <= system.limits + 1e-6).all()
        assert (duals >= 0).all()
        assert dual_bound(system, weights, duals) == pytest.approx(known, rel=1e-6, abs=1e-6)
        # Where a row has room, its multiplier is 0.
        assert duals @ (system.limits - system.rows @ point) == pytest.approx(0, abs=1e-5)


@relaxed(40)
@given(seeds)
def test_the_order_of_the_questions_does_not_matter(rng):
    system = random_system(rng)
    program, asked = (
        LinearProgram(system),
        rng.integers(-2, 3, (6, system.lower.size)).astype(np.float64),
    )
    for weights in [*asked, *asked[::-1]]:
        again, alone = program.maximise(weights), LinearProgram(system).maximise(weights)
        assert (again is None) == (alone is None)
        if again is not None and alone is not None:
            assert weights @ again[0] == pytest.approx(weights @ alone[0], abs=1e-6)


def test_no_point_and_no_end_are_none_and_leave_the_next_question_alone():
    empty = LinearProgram(
        System(np.zeros(1), np.ones(1), sp.csr_array([[1.0], [-1.0]]), np.array([0.25, -0.75]))
    )
    assert empty.maximise(np.ones(1)) is None
    assert empty.maximise(np.zeros(1)) is None
    half = LinearProgram(
        System(np.array([0.0]), np.array([np.inf]), sp.csr_array((0, 1)), np.zeros(0))
    )
    for _ in range(2):
        assert half.maximise(np.ones(1)) is None
        assert half.maximise(-np.ones(1))[0].tolist() == [0.0]
    wedge = LinearProgram(
        System(np.full(2, -np.inf), np.full(2, np.inf), sp.csr_array([[1.0, 1.0]]), np.ones(1))
    )
    assert wedge.maximise(np.array([1.0, 0.0])) is None
    assert wedge.maximise(np.array([2.0, 2.0]))[1] == pytest.approx([2.0])


def test_a_box_without_rows_has_its_corners():
    program = LinearProgram(
        System(np.array([-1.0, 2.0]), np.array([1.0, 5.0]), sp.csr_array((0, 2)), np.zeros(0))
    )
    point, duals = program.maximise(np.array([1.0, -1.0]))
    assert point.tolist() == [1.0, 2.0]
    assert duals.shape == (0,)


@pytest.mark.parametrize("scale", [1e-12, 1e-8, 1e-4, 1.0, 1e4, 1e8, 1e12])
def test_the_size_of_the_weights_does_not_matter(scale):
    rng = np.random.default_rng(0)
    rows = np.vstack([rng.normal(size=(8, 3)), np.eye(3), -np.eye(3)])
    system = System(np.full(3, -2.0), np.full(3, 2.0), sp.csr_array(rows), np.ones(len(rows)))
    program = LinearProgram(system)
    for weights in rng.normal(size=(10, 3)):
        point, duals = program.maximise(weights * scale)
        known = by_scipy(system, weights)
        assert weights @ point == pytest.approx(known, rel=1e-6)
        assert duals @ system.limits / scale == pytest.approx(known, rel=1e-6)


def test_weights_of_integers_are_taken():
    program = LinearProgram(
        System(np.zeros(2), np.ones(2), sp.csr_array([[1.0, 1.0]]), np.array([1.5]))
    )
    assert program.maximise(np.array([2, 1]))[0].tolist() == [1.0, 0.5]


# --- The largest slack ---------------------------------------------------------------------------


def forms(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Forms with and without a point where all are positive; constant, opposite, of other sizes."""
    n, k = int(rng.integers(1, 6)), int(rng.integers(1, 8))
    linear = (
        rng.integers(-3, 4, (k, n)).astype(np.float64)
        if rng.random() < 0.5
        else rng.normal(size=(k, n))
    )
    constant = (
        rng.integers(-2, 5, k).astype(np.float64)
        if rng.random() < 0.5
        else rng.normal(size=k) + 0.5
    )
    kind = rng.choice(["plain", "constant", "opposite", "sizes"])
    if kind == "constant":
        linear[0] = 0
    elif kind == "opposite" and k > 1:
        linear[1], constant[1] = -linear[0], -constant[0]
    elif kind == "sizes":
        factors = 10.0 ** rng.uniform(-8, 8, k)
        linear, constant = linear * factors[:, None], constant * factors
    return linear, constant


def slack_by_scipy(linear: np.ndarray, constant: np.ndarray) -> float:
    """max t, each form divided by the sum of its slopes."""
    k, n = linear.shape
    size = np.abs(linear).sum(axis=1)
    flat = size == 0
    scale = np.where(flat, np.where(constant == 0, 1, np.abs(constant)), size)
    rows = np.column_stack([-linear / scale[:, None], np.ones(k)])
    bounds = [(-1, 1)] * n + [(None, 1)]
    found = linprog(
        np.append(np.zeros(n), -1),
        A_ub=rows,
        b_ub=constant / scale,
        bounds=bounds,
        method="highs-ipm",
    )
    return -found.fun


@relaxed(100)
@given(seeds)
def test_the_largest_slack_is_attained_at_its_point_and_refuted_by_its_weights(rng):
    linear, constant = forms(rng)
    found = largest_slack(sp.csr_array(linear) if rng.random() < 0.5 else linear, constant)
    assert found is not None
    size = np.abs(linear).sum(axis=1)
    scale = np.where(size == 0, np.where(constant == 0, 1, np.abs(constant)), size)
    assert (np.abs(found.point) <= 1).all()
    assert found.slack <= 1 + TOLERANCE
    assert found.slack == pytest.approx(slack_by_scipy(linear, constant), abs=1e-6)
    values = (linear @ found.point + constant) / scale
    assert (values >= found.slack - 1e-6).all()
    assert found.weights.shape == constant.shape
    assert (found.weights >= 0).all()
    # The multipliers add up to a common factor where t <= 1 does not bind; with them no point has
    # more slack.
    total = float(found.weights @ scale)
    most = float(np.abs(found.weights @ linear).sum() + found.weights @ constant)
    if found.slack < 1 - 1e-6:
        assert total > 0
        assert most / total == pytest.approx(found.slack, abs=1e-6)
    if found.slack <= 0:
        assert most <= TOLERANCE * total
    terms = found.weights @ np.abs(linear)
    assert (np.abs(found.weights @ linear)[found.cancelled] <= 2e-9 * terms[found.cancelled]).all()
    assert (np.abs(found.weights @ linear)[~found.cancelled] > 0).all()


@relaxed(60)
@given(seeds)
def test_a_positive_combination_that_is_nowhere_positive_leaves_no_slack(rng):
    """Forms that a chosen combination refutes."""
    n, k = int(rng.integers(1, 5)), int(rng.integers(2, 6))
    linear, constant, weights = rng.normal(size=(k, n)), rng.normal(size=k), rng.uniform(0.1, 1, k)
    gap = float(rng.choice([0.0, 0.5]))
    last = weights[:-1] @ linear[:-1]
    linear[-1], constant[-1] = (
        -last / weights[-1],
        (-gap - weights[:-1] @ constant[:-1]) / weights[-1],
    )
    found = largest_slack(linear, constant)
    assert found.slack <= TOLERANCE - gap / (weights @ np.abs(linear).sum(axis=1)) / 2
    assert np.abs(found.weights @ linear).sum() + found.weights @ constant <= 1e-6


def test_no_forms_have_all_the_slack():
    found = largest_slack(np.zeros((0, 3)), np.zeros(0))
    assert (found.slack, found.point.tolist(), found.weights.size) == (1.0, [0.0] * 3, 0)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_a_form_and_its_opposite_have_no_slack_and_cancel(scale):
    found = largest_slack(
        np.array([[1.0, 2.0], [-1.0, -2.0]]) * scale, np.array([0.5, -0.5]) * scale
    )
    assert found.slack == pytest.approx(0, abs=TOLERANCE)
    assert found.weights[0] == pytest.approx(found.weights[1])
    assert found.weights[0] > 0
    assert found.cancelled.tolist() == [True, True]


@pytest.mark.parametrize(("constant", "slack"), [(2.0, 1.0), (0.0, 0.0), (-2.0, -1.0)])
def test_constants_decide_alone(constant, slack):
    found = largest_slack(np.zeros((1, 2)), np.array([constant]))
    assert found.slack == pytest.approx(slack)


@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=2)))
def test_the_slack_of_one_form_is_found_in_a_corner(signs):
    found = largest_slack(np.array([signs], dtype=np.float64), np.array([-1.0]))
    assert found.slack == pytest.approx(0.5)
    assert found.point == pytest.approx(signs)
    assert not found.cancelled.any()


def test_a_limit_that_overflows_is_none():
    # The second form is far above 0 in units of its coefficients.
    found = largest_slack(np.array([[1.0], [1e-317]]), np.array([0.5, 1.0]))
    assert found.slack == pytest.approx(1.0)
