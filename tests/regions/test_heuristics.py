"""The search for a good region: what it returns is a region, and its norm a lower bound."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lipexact.regions import constants
from lipexact.regions.heuristics import Incumbent, LocalSearch, best_region
from lipexact.sets.domains import Box
from lipexact.sets.norms import norm
from tests.support import oracle
from tests.support.networks import FAMILIES, case, random_weights, to_network
from tests.support.regions import truth_of


def problem(weights, low, high):
    """The network, domain and sets for the norm from linf to l1."""
    net = to_network(weights)
    sets = norm("l1").polar(net.output.size), norm("linf").ball(net.input.size)
    return net, Box(low, high), *sets


@pytest.mark.parametrize("family", FAMILIES)
def test_a_region_is_real_and_its_norm_no_larger_than_the_constant(family):
    for seed in range(3):
        weights, low, high = case(family, seed)
        truth = truth_of(weights, low, high)
        constant = oracle.constant(oracle.regions(weights, low, high), output_norm="l1")
        found = best_region(*problem(weights, low, high), deadline=time.perf_counter() + 60)
        assert found is not None
        assert truth.is_real(layer.tolist() for layer in found.region.pattern)
        assert (low < found.region.point).all()
        assert (found.region.point < high).all()
        assert found.norm.lower <= constant * (1 + 1e-12)


def test_small_networks_are_searched_to_the_end():
    for seed in range(5):
        weights = random_weights(np.random.default_rng(seed), (2, 6, 2))
        constant = oracle.constant(oracle.regions(weights, [-1, -1], [1, 1]), output_norm="l1")
        found = best_region(*problem(weights, [-1, -1], [1, 1]), deadline=np.inf, seed=seed)
        assert found is not None
        assert found.norm.lower == pytest.approx(constant, rel=1e-9)


def test_a_seed_determines_the_region():
    weights = random_weights(np.random.default_rng(0), (3, 8, 8, 2))
    asked = problem(weights, -np.ones(3), np.ones(3))
    first, second = (best_region(*asked, deadline=np.inf, seed=4) for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.region.point == second.region.point).all()
    assert first.norm.lower == second.norm.lower


def test_one_batch_is_evaluated_after_the_deadline():
    weights = random_weights(np.random.default_rng(1), (3, 8, 1))
    found = best_region(*problem(weights, -np.ones(3), np.ones(3)), deadline=0.0)
    assert found is not None


def test_a_climb_never_makes_the_incumbent_worse():
    rng = np.random.default_rng(2)
    asked = problem(random_weights(rng, (3, 8, 8, 1)), -np.ones(3), np.ones(3))
    best = best_region(*asked, deadline=np.inf)
    assert best is not None
    search = LocalSearch(*asked, np.inf, best)
    for _ in range(3):
        search.climb(rng.uniform(-1, 1, (4, 3)))
        assert search.incumbent is not None
        assert search.incumbent.norm.lower >= best.norm.lower
    # Points outside the domain and points on a kink leave it alone.
    before = search.incumbent
    search.climb(np.full((2, 3), 5.0))
    assert search.incumbent is before


def test_a_walk_reaches_the_steepest_region_through_its_neighbours():
    # A sum of hinges, each steeper than all before it: the slope grows from one end to the other.
    kinks = np.linspace(-0.8, 0.8, 9)
    weights = [(np.ones((9, 1)), -kinks), (2.0 ** np.arange(9)[None, :], np.zeros(1))]
    search = LocalSearch(*problem(weights, [-1.0], [1.0]), np.inf)
    assert search.improve(np.array([[-0.7]]))
    assert search.incumbent is not None
    assert search.incumbent.norm.lower == 1.0
    search.walk()
    assert search.incumbent.norm.lower == 2.0**9 - 1


def test_no_walk_where_the_borders_need_too_many_numbers(monkeypatch):
    monkeypatch.setattr(constants, "MAX_BORDER_NUMBERS", 0)
    weights = [(np.ones((2, 1)), np.array([0.5, -0.5])), (np.ones((1, 2)), np.zeros(1))]
    search = LocalSearch(*problem(weights, [-1.0], [1.0]), np.inf)
    assert search.improve(np.array([[-0.75]]))
    search.walk()
    assert search.incumbent is not None
    assert search.incumbent.region.point == [-0.75]


def test_regions_are_decided_exactly_where_every_point_is_near_a_kink():
    # The second layer reads 1, as a difference of numbers near 2^53: rounding hides its sign.
    weights = [
        (np.array([[1.0], [1.0]]), np.array([0.0, 0.5])),
        (np.array([[2.0**53, -(2.0**53)]]), np.array([2.0**52 + 1])),
        (np.eye(1), np.zeros(1)),
    ]
    asked = problem(weights, [0.25], [0.75])
    search = LocalSearch(*asked, np.inf)
    assert not search.improve(np.linspace(0.3, 0.7, 50)[:, None])
    found = best_region(*asked, deadline=np.inf)
    assert isinstance(found, Incumbent)


def test_reprs_are_short():
    weights = random_weights(np.random.default_rng(0), (50, 200, 40))
    found = best_region(*problem(weights, -np.ones(50), np.ones(50)), deadline=0.0)
    assert len(repr(found)) < 500
    assert " on, " in repr(found)
