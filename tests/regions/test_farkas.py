"""Proofs in floating point that a pattern is infeasible: what they need, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from lipexact.graph.pattern import ON
from lipexact.numerics.lp import Slack
from lipexact.problem.homogenize import Homogenization
from lipexact.regions.affine import affine_forms
from lipexact.regions.conditions import sign_conditions
from lipexact.regions.farkas import contradicting_rows
from lipexact.regions.feasibility import Empty, LinearRegion, decide_region
from lipexact.sets.domains import Box
from tests.support.networks import random_weights, to_network
from tests.support.regions import pattern


def test_cones_in_general_position_need_no_fractions(monkeypatch):
    def refuse(*_):
        raise AssertionError("decided in fractions")

    monkeypatch.setattr("lipexact.regions.feasibility._decide_exactly", refuse)
    rng = np.random.default_rng(0)
    whole = Homogenization(to_network(random_weights(rng, [4, 10, 1])))
    verdicts = []
    for _ in range(200):
        gates = rng.integers(0, 2, 10, dtype=np.int8)
        verdicts.append(type(decide_region(whole.network, whole.domain, (gates,))))
    assert verdicts.count(Empty) > 50


@pytest.mark.parametrize(
    ("width", "empty"), [(1e-10, False), (0.0, False), (-1e-10, False), (-0.5, True)]
)
def test_slopes_that_nearly_cancel_prove_nothing(width, empty):
    # A cone so thin that multipliers of (1, 1) seem to rule it out: without any width, only
    # fractions can tell.
    net = to_network(
        [([[1.0, 1.0], [-1.0, -1.0 + width]], np.zeros(2)), ([[1.0, 1.0]], np.zeros(1))]
    )
    both, box = pattern([[ON, ON]]), Box([-1, 0], [1, 1])
    found = sign_conditions(net, box.system(), affine_forms(net, both), both)
    cancelled = np.array([True, width > -0.1])
    told = Slack(np.zeros(2), 0.0, np.ones(2), cancelled)
    assert contradicting_rows(net, box.system(), found, both, told) == ([0, 1] if empty else None)
    assert isinstance(decide_region(net, box, both), LinearRegion if width > 0 else Empty)
