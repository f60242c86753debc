"""Exact elimination and the exact simplex method, against each other and against the definition."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from lipexact.numerics.rational import (
    hyperplane_intersections,
    kernel_vector,
    proves_infeasible,
    row_echelon,
    strictly_feasible_point,
    to_fractions,
)


def draw(rng, shape, size=3):
    return to_fractions(rng.integers(-size, size + 1, shape).astype(np.float64))


def test_fractions_have_the_values_of_floats_and_of_fractions():
    values = to_fractions([[0.1, -0.0, 5e-324], [1e308, 3.0, 2.0**-60]])
    assert values.shape == (2, 3)
    assert values.dtype == object
    assert values[0, 0] == Fraction(0.1) != Fraction(1, 10)
    third = np.array([Fraction(1, 3), 0.5], dtype=object)
    assert to_fractions(third).tolist() == [Fraction(1, 3), Fraction(1, 2)]
    assert to_fractions(np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("seed", range(20))
def test_an_echelon_form_is_reduced_and_spans_the_rows(seed):
    rng = np.random.default_rng(seed)
    rows = draw(rng, (rng.integers(1, 6), 4), size=1)
    echelon = row_echelon(rows, 4)
    assert len(echelon) == np.linalg.matrix_rank(rows.astype(float))
    for pivot, row in echelon.items():
        assert [row[other] for other in echelon] == [int(other == pivot) for other in echelon]
    for row in rows:
        combined = sum((row[pivot] * basis for pivot, basis in echelon.items()), 0 * row)
        assert (combined == row).all()


def test_the_rank_of_an_echelon_form_is_limited_and_later_columns_hold_no_pivot():
    rows = to_fractions(np.eye(3))
    assert list(row_echelon(rows, 3, max_rank=2)) == [0, 1]
    assert list(row_echelon(rows, 2)) == [0, 1]
    assert row_echelon(rows[2:], 2) == {}


@pytest.mark.parametrize("seed", range(20))
def test_kernel_vectors_solve_the_equations_and_stay_near_the_guess(seed):
    rng = np.random.default_rng(seed)
    solution = rng.integers(1, 5, 5).astype(np.float64)
    equations = draw(rng, (3, 5))
    equations[:, 0] = -(equations[:, 1:] @ to_fractions(solution[1:])) / Fraction(solution[0])
    guess = to_fractions(solution * (1 + 1e-12 * rng.normal(size=5)))
    exact = kernel_vector(equations, guess)
    assert not (equations @ exact).any()
    assert exact.astype(float) == pytest.approx(solution, rel=1e-9)
    assert (kernel_vector(equations, to_fractions(solution)) == solution).all()


def test_a_kernel_of_dimension_0_is_no_vector():
    assert kernel_vector(to_fractions([[2.0]]), to_fractions([1.0])).tolist() == [0]
    assert kernel_vector(to_fractions(np.zeros((2, 0))), to_fractions([])).size == 0


@pytest.mark.parametrize("seed", range(10))
def test_intersections_are_those_of_all_independent_choices(seed):
    rng = np.random.default_rng(seed)
    rows = draw(rng, (6, 4))
    points = set(hyperplane_intersections(list(rows), 3))
    expected = set()
    for chosen in itertools.combinations(rows, 3):
        echelon = row_echelon(chosen, 3)
        if len(echelon) == 3:
            expected.add(tuple(-echelon[j][3] for j in range(3)))
    assert points == expected
    for point in points:
        on = [row for row in rows if row[:3] @ np.array(point) + row[3] == 0]
        assert len(row_echelon(on, 3)) == 3


def test_negative_multipliers_prove_nothing():
    linear, constant = to_fractions([[1.0], [1.0]]), to_fractions([0.0, 1.0])
    box = to_fractions([0.0]), to_fractions([1.0])
    # x > 0 and x + 1 > 0 hold inside; x - (x + 1) = -1 proves nothing.
    assert not proves_infeasible(to_fractions([1.0, -1.0]), linear, constant, *box)
    assert not proves_infeasible(to_fractions([0.0, 0.0]), linear, constant, *box)


@pytest.mark.parametrize("seed", range(60))
def test_the_simplex_method_finds_a_point_or_multipliers(seed):
    rng = np.random.default_rng(seed)
    dim = int(rng.integers(1, 4))
    count = int(rng.integers(1, 9))
    linear = draw(rng, (count, dim))
    constant = draw(rng, count)
    lower = draw(rng, dim) - 1
    upper = lower + rng.integers(0, 3, dim)
    point, multipliers = strictly_feasible_point(linear, constant, lower, upper)
    assert (point is None) != (multipliers is None)
    if point is not None:
        assert (lower <= point).all()
        assert (point <= upper).all()
        assert (linear @ point + constant > 0).all()
    else:
        assert proves_infeasible(multipliers, linear, constant, lower, upper)


@pytest.mark.parametrize(("width", "feasible"), [(1, True), (0, False), (-1, False)])
def test_the_simplex_method_resolves_any_scale(width, feasible):
    # 0 < x < width * 1e-300.
    linear, constant = to_fractions([[1.0], [-1.0]]), to_fractions([0.0, width * 1e-300])
    box = to_fractions([-1.0]), to_fractions([1.0])
    point, multipliers = strictly_feasible_point(linear, constant, *box)
    assert (point is not None) == feasible
    assert (multipliers is not None) != feasible


def test_the_simplex_method_stops_after_so_many_pivots():
    linear, constant = to_fractions([[1.0, 1.0]]), to_fractions([-1.5])
    box = to_fractions([0.0, 0.0]), to_fractions([1.0, 1.0])
    assert strictly_feasible_point(linear, constant, *box, max_pivots=1) == (None, None)
    assert strictly_feasible_point(linear, constant, *box)[0] is not None
