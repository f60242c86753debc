"""Operator norms of matrices against the oracle."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp

from lipexact.estimators import constants, norms
from lipexact.sets.norms import norm
from lipexact.sets.unit_balls import CrossPolytope, Cube, EuclideanUnitBall
from tests.support import oracle

PAIRS = [(alpha, beta) for alpha in ("linf", "l1", "l2") for beta in ("linf", "l1", "l2")]


@pytest.mark.parametrize(("alpha", "beta"), PAIRS)
def test_operator_norms_against_the_oracle(alpha, beta):
    hard = (alpha, beta) in {("linf", "l1"), ("linf", "l2"), ("l2", "l1")}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        matrix = rng.integers(-4, 5, (int(rng.integers(1, 5)), int(rng.integers(1, 5)))) / 1.0
        exact = tuple(tuple(map(Fraction, row)) for row in matrix.tolist())
        known = float(oracle.operator_norm(exact, alpha, beta))
        bodies = norm(beta).polar(len(matrix)), norm(alpha).ball(matrix.shape[1])
        for given_as in (matrix, sp.csr_array(matrix)):
            found = norms.operator_norm_upper(given_as, *bodies)
            assert known * (1 - 1e-15) <= found <= known * (1 + 1e-12) + 1e-300
            largest = norms.absolute_norm(abs(given_as), *bodies)
            assert largest >= known * (1 - 1e-15)
        # By relaxed signs, where the vertices would be too many.
        before, constants.MAX_NORM_VERTICES = constants.MAX_NORM_VERTICES, 0
        try:
            relaxed = norms.operator_norm_upper(matrix, *bodies)
        finally:
            constants.MAX_NORM_VERTICES = before
        assert known * (1 - 1e-15) <= relaxed
        if hard:
            assert relaxed <= known * 1.8 + 1e-300  # Grothendieck's constant


def test_of_absolute_values_it_is_the_norm_of_the_largest_matrix():
    rng = np.random.default_rng(0)
    for alpha, beta in PAIRS:
        matrix = rng.random((3, 4))
        bodies = norm(beta).polar(3), norm(alpha).ball(4)
        exact = tuple(tuple(map(Fraction, row)) for row in matrix.tolist())
        known = float(oracle.operator_norm(exact, alpha, beta))
        assert norms.absolute_norm(matrix, *bodies) == pytest.approx(known, rel=1e-12)


def test_reach_is_how_far_coordinates_go(monkeypatch):
    monkeypatch.setattr(constants, "MAX_DENSE_NUMBERS", 8)  # several parts
    for body in (Cube(5), CrossPolytope(5), EuclideanUnitBall(5)):
        np.testing.assert_allclose(norms.reach(body), np.ones(5))
