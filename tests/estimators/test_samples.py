"""Sampling and CLEVER."""

from __future__ import annotations

import numpy as np
import pytest

import lipexact as lx
from lipexact.estimators.clever import weibull_end
from tests.support.networks import case, random_weights, to_network


def test_sampling_evaluates_jacobians_at_its_points():
    case_ = case("general", 3)
    net, box = to_network(case_.weights), lx.Box(case_.lower, case_.upper)
    found = lx.estimate(net, box, "sampling", samples=2000, input_norm="l2", functional=0)
    points = box.sample(np.random.default_rng(0), 2000)
    known = np.linalg.norm(net.jacobian(points)[:, 0, :], axis=1).max()
    assert found.value == pytest.approx(known, rel=1e-12)
    assert found.details == {"samples": 2000}
    climbed = lx.estimate(
        net, box, "sampling", samples=10, input_norm="l2", functional=0, ascent=True
    )
    exact = lx.lipschitz(net, box, input_norm="l2", functional=0).value
    assert (
        lx.estimate(net, box, "sampling", samples=10, input_norm="l2", functional=0).value
        <= climbed.value
    )
    assert climbed.value == pytest.approx(exact, rel=1e-9)


def test_sampling_where_every_point_is_near_a_kink():
    net = to_network([([[1e-300], [-1e-300]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    found = lx.estimate(net, lx.Box([-1.0], [1.0]), "sampling", samples=10)
    assert 0 <= found.value <= 1e-300


def test_the_end_of_a_weibull_distribution():
    import scipy.stats

    rng = np.random.default_rng(1)
    drawn = 10 - scipy.stats.weibull_min.rvs(3.0, scale=2.0, size=2000, random_state=rng)
    end, details = weibull_end(drawn)
    assert end == pytest.approx(10, abs=0.3)
    assert details["p_value"] > 0.01
    flat, told = weibull_end(np.full(50, 3.0))
    assert flat == 3.0
    assert told["p_value"] is None
    # Two values only, as of few linear regions: no such distribution has them.
    two, told = weibull_end(np.repeat([1.0, 2.0], 200))
    assert two == 2.0
    assert "no credible fit" in told["fit"]


def test_clever_stays_between_its_samples_and_the_certified_bound(monkeypatch):
    from lipexact.estimators import clever

    net = to_network(random_weights(np.random.default_rng(2), (3, 8, 8, 1)))
    box = lx.Box([-1.0] * 3, [1.0] * 3)
    for end, where in ((1e9, "ceiling"), (0.0, "largest_sample")):
        monkeypatch.setattr(clever, "weibull_end", lambda _, end=end: (end, {}))
        found = lx.estimate(net, box, "clever", batches=5, samples=20)
        assert found.value == found.details[where]
        assert found.guarantee == "heuristic"
    exact = lx.lipschitz(net, box).value
    assert found.details["lower"] <= exact <= found.details["ceiling"]
    assert found.details["lower"] == pytest.approx(found.details["largest_sample"], rel=1e-9)
