"""Sums of vectors with free signs: never below the best signs, and not far above."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipexact.numerics.sign_relaxation import absolute_sums, euclidean_sums
from lipexact.sets.unit_balls import Leading, Stretched
from tests.support.bodies import BODIES, body_and_forms
from tests.support.signs import best_signs

Sums = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
BOTH = {"l2": euclidean_sums, "l1": absolute_sums}
LENGTHS = {"l2": lambda v: np.linalg.norm(v, axis=-1), "l1": lambda v: np.abs(v).sum(axis=-1)}
# How far the relaxations are off at their optimum: Nesterov's pi / 2 for squares, Grothendieck's
# constant.
RATIOS = {"l2": math.sqrt(math.pi / 2), "l1": 1.7823}
shapes = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**32 - 1))
both = pytest.mark.parametrize("norm", BOTH)


def best(rows: np.ndarray, norm: str) -> float:
    """The maximum over all signs."""
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(rows))))
    return float(LENGTHS[norm](signs @ rows).max())


def drawn(shape: tuple[int, int, int]) -> np.ndarray:
    k, n, seed = shape
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(k, n)) * 10.0 ** rng.uniform(-3, 3, (k, 1)) ** rng.integers(0, 2)
    rows[rng.random(k) < 0.2] = 0.0
    return rows


@both
@settings(max_examples=150, deadline=None)
@given(shape=shapes)
def test_never_below_the_best_signs_nor_above_the_triangle(
    norm: str, shape: tuple[int, int, int]
) -> None:
    rows = drawn(shape)
    (upper,), shares = BOTH[norm](rows[None])
    assert best(rows, norm) <= upper * (1 + 1e-14)
    assert upper <= LENGTHS[norm](rows).sum() * (1 + 1e-10) + 1e-300
    assert shares.shape == (1, len(rows))
    assert (shares >= 0).all()


@both
@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 4).flatmap(
        lambda n: st.lists(
            st.lists(st.floats(-1e9, 1e9), min_size=n, max_size=n), min_size=1, max_size=5
        )
    )
)
def test_never_below_in_exact_arithmetic(norm: str, rows: list[list[float]]) -> None:
    (upper,), _ = BOTH[norm](np.array(rows)[None])
    bound = Fraction(float(upper))
    assert best_signs(np.array(rows), norm) <= (bound * bound if norm == "l2" else bound)


@both
def test_near_the_best_signs(norm: str) -> None:
    rng = np.random.default_rng(0)
    for k, n in itertools.product((2, 5, 9), (2, 5, 9)):
        stack = rng.normal(size=(20, k, n))
        upper, _ = BOTH[norm](stack)
        ratios = upper / [best(rows, norm) for rows in stack]
        assert (ratios >= 1 - 1e-14).all()
        assert ratios.max() < RATIOS[norm]
        assert ratios.mean() < 1.12


@both
def test_one_row_is_its_own_length(norm: str) -> None:
    rows = np.random.default_rng(1).normal(size=(10, 1, 6))
    upper, _ = BOTH[norm](rows)
    assert upper == pytest.approx(LENGTHS[norm](rows)[:, 0], rel=1e-10)


@both
def test_rows_at_right_angles_and_in_parallel(norm: str) -> None:
    (upper,), _ = BOTH[norm](np.diag([3.0, 4.0])[None])
    assert upper == pytest.approx({"l2": 5.0, "l1": 7.0}[norm], rel=1e-10)
    (upper,), _ = BOTH[norm](np.array([[[3.0, 4.0], [-6.0, -8.0]]]))
    assert upper == pytest.approx({"l2": 15.0, "l1": 21.0}[norm], rel=1e-10)


@both
@pytest.mark.parametrize("exponent", [-1000, -500, 500, 1000])
def test_the_scale_does_not_matter(norm: str, exponent: int) -> None:
    rows = np.random.default_rng(2).normal(size=(5, 6, 4))
    upper, _ = BOTH[norm](rows)
    scaled, _ = BOTH[norm](np.ldexp(rows, exponent))
    assert np.ldexp(scaled, -exponent) == pytest.approx(upper, rel=1e-9)


@both
def test_many_coordinates(norm: str) -> None:
    # More than the mixing method's vectors have.
    rows = np.random.default_rng(3).normal(size=(3, 8, 300))
    upper, _ = BOTH[norm](rows)
    known = np.array([best(each, norm) for each in rows])
    assert (upper >= known).all()
    assert (upper <= RATIOS[norm] * known).all()


@both
def test_nothing_at_all(norm: str) -> None:
    upper, shares = BOTH[norm](np.zeros((2, 3, 4)))
    assert (upper >= 0).all()
    assert (upper < 1e-300).all()
    assert not shares.any()


@both
def test_rows_that_are_not_finite(norm: str) -> None:
    rows = np.ones((2, 3, 4))
    rows[0, 1, 2], rows[1, 0, 0] = np.inf, np.nan
    upper, _ = BOTH[norm](rows)
    assert np.isinf(upper).all()


@both
def test_without_cholesky(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise np.linalg.LinAlgError

    monkeypatch.setattr(np.linalg, "cholesky", refuse)
    for rows in np.random.default_rng(4).normal(size=(20, 5, 3)):
        (upper,), _ = BOTH[norm](rows[None])
        assert upper >= best(rows, norm)


@both
def test_an_eigenvalue_that_is_too_small_is_noticed(
    norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = np.linalg.eigvalsh
    monkeypatch.setattr(np.linalg, "eigvalsh", lambda gram: 0.5 * original(gram))
    for rows in np.random.default_rng(5).normal(size=(20, 5, 3)):
        (upper,), _ = BOTH[norm](rows[None])
        assert upper >= best(rows, norm)


@both
@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1)),
    same=st.booleans(),
)
def test_numbers_of_all_sizes_in_exact_arithmetic(
    norm: str, shape: tuple[int, int, int], same: bool
) -> None:
    k, n, seed = shape
    rng = np.random.default_rng(seed)
    # Down to subnormal numbers in half of the draws; beside each other, or all about as large.
    most = int(rng.choice((-1060, 1010)))
    exponents = (
        rng.integers(-1074, most) + rng.integers(-2, 3, (k, n))
        if same
        else rng.integers(-1074, most, (k, n))
    )
    rows = np.ldexp(rng.choice((-1.0, 1.0), (k, n)) * rng.uniform(0.5, 1, (k, n)), exponents)
    rows[rng.random((k, n)) < 0.2] = 0.0
    (upper,), shares = BOTH[norm](rows[None])
    assert np.isfinite(upper)
    bound = Fraction(float(upper))
    assert best_signs(rows, norm) <= (bound * bound if norm == "l2" else bound)
    assert (shares >= 0).all()


@both
def test_stacks_do_not_mix(norm: str) -> None:
    rng = np.random.default_rng(6)
    stack = rng.normal(size=(12, 5, 20)) * 2.0 ** rng.integers(-600, 600, (12, 1, 1))
    stack[3] = 0.0
    upper, shares = BOTH[norm](stack)
    for k, rows in enumerate(stack):
        (alone,), own = BOTH[norm](rows[None])
        assert upper[k] == pytest.approx(alone, rel=1e-9, abs=1e-300)
        assert shares[k] == pytest.approx(own[0], rel=1e-9, abs=1e-300)


@both
@pytest.mark.parametrize("shape", [(40, 60), (40, 7), (7, 40)])
def test_many_rows_in_parallel_or_at_right_angles(norm: str, shape: tuple[int, int]) -> None:
    # There are more signs than the mixing method's vectors have entries; the maximum is known.
    rng = np.random.default_rng(7)
    factors, row = rng.normal(size=(shape[0], 1)), rng.normal(size=(1, shape[1]))
    (upper,), _ = BOTH[norm]((factors @ row)[None])
    assert upper == pytest.approx(np.abs(factors).sum() * LENGTHS[norm](row)[0], rel=1e-9)
    rows = np.zeros(shape)
    sizes = rng.uniform(0.1, 10, min(shape))
    np.fill_diagonal(rows, sizes)
    (upper,), _ = BOTH[norm](rows[None])
    assert upper == pytest.approx(LENGTHS[norm](sizes), rel=1e-9)


@both
def test_a_factor_that_is_refused_costs_accuracy_only(
    norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = np.random.default_rng(8).normal(size=(10, 6, 6))
    upper, _ = BOTH[norm](stack)

    def refuse(*_: object) -> None:
        raise np.linalg.LinAlgError

    monkeypatch.setattr(np.linalg, "cholesky", refuse)
    rough, _ = BOTH[norm](stack)
    assert (rough >= upper).all()
    assert (rough > upper * (1 + 1e-3)).any()  # it was asked


@pytest.mark.parametrize("name", BODIES)
def test_bodies_of_more_coordinates_and_other_units(name: str) -> None:
    rng = np.random.default_rng(sorted(BODIES).index(name))
    for _ in range(5):
        body, _ = body_and_forms(name, rng)
        n = body.dim
        factors = 2.0 ** rng.integers(-20, 21, n)
        rows = rng.normal(size=(4, 5, n + 2))
        plain, shares = body.zonotope_radius(rows[:, :, :n])
        leading, same = Leading(body, n + 2).zonotope_radius(rows)
        assert (leading == plain).all()  # whatever the last two coordinates
        assert (same == shares).all()
        wrapped = Leading(Stretched(body, factors), n + 2)
        upper, _ = wrapped.zonotope_radius(rows / np.append(factors, [1.0, 1.0]))
        assert upper == pytest.approx(plain, rel=1e-12)
        # Points of the body, where signs are best.
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=5)))
        for each, most in zip(rows / np.append(factors, [1.0, 1.0]), upper, strict=True):
            points = wrapped.argmax(signs @ each)
            assert not points[:, n:].any()
            assert np.abs(points @ each.T).sum(axis=1).max() <= most * (1 + 1e-12)
