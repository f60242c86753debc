"""Affine maps of regions, and patterns at points: against exact evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from lipexact.graph.pattern import FREE, ON
from lipexact.regions.affine import affine_forms, pattern_at
from lipexact.regions.gradients import gradients
from lipexact.sets.domains import Box
from tests.support import oracle
from tests.support.graphs import branched
from tests.support.networks import FAMILIES, case, to_network
from tests.support.regions import pattern


def test_pattern_at_refuses_kinks():
    weights = [
        (np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([-0.3, 0.0])),
        (np.ones((1, 2)), np.zeros(1)),
    ]
    net = to_network(weights)
    assert pattern_at(net, np.array([0.5, 0.5])) is None  # x = y
    assert pattern_at(net, np.array([0.1, 0.2])) is None  # 0.1 + 0.2 - 0.3 is 5e-17 in floats
    assert pattern_at(net, np.array([0.2, 0.1])) is None
    found = pattern_at(net, np.array([0.5, 0.25]))
    assert found is not None
    assert [layer.tolist() for layer in found] == [[1, 1]]
    found = pattern_at(net, np.array([-0.5, 0.25]))
    assert found is not None
    assert [layer.tolist() for layer in found] == [[0, 0]]


def test_pattern_at_refuses_what_rounding_may_hide():
    # A sum that cancels: whatever float arithmetic says, the exact sign decides.
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        row, point = rng.normal(size=6) * 10.0 ** rng.uniform(-3, 3, 6), rng.normal(size=6)
        bias = -float(row @ point) + rng.integers(-3, 4) * 1e-16
        found = pattern_at(to_network([(row[None], [bias]), (np.eye(1), np.zeros(1))]), point)
        exact = oracle.trace([(row[None], [bias])], point.tolist())[0][0]
        if found is None:
            refused += 1
        else:
            assert found[0].tolist() == [int(exact > 0)]
            assert exact != 0
    assert refused > 200


@pytest.mark.parametrize("family", FAMILIES)
def test_pattern_at_agrees_with_the_exact_signs(family):
    for seed in range(4):
        weights, low, high = case(family, seed)
        net = to_network(weights)
        for point in Box(low, high).sample(np.random.default_rng(seed), 10):
            found = pattern_at(net, point)
            exact = oracle.trace(weights, point.tolist())[:-1]
            if found is None:
                assert any(abs(z) < 1e-9 for layer in exact for z in layer)
            else:
                assert [layer.tolist() for layer in found] == [
                    [int(z > 0) for z in layer] for layer in exact
                ]


def test_affine_forms_agree_with_evaluation_and_with_exact_ones():
    net = branched()
    rng = np.random.default_rng(1)
    for point in rng.uniform(-2, 2, (20, 3)):
        found = pattern_at(net, point)
        assert found is not None
        forms, exact = affine_forms(net, found), affine_forms(net, found, exact=True)
        assert forms.keys() == exact.keys()
        linear, constant = forms[net.output]
        assert linear @ point + constant == pytest.approx(net.evaluate(point), rel=1e-12, abs=1e-12)
        assert linear == pytest.approx(net.jacobian(point), rel=1e-12, abs=1e-12)
        for node, (slopes, offsets) in exact.items():
            assert slopes.dtype == object
            assert slopes.astype(float) == pytest.approx(forms[node][0], rel=1e-12, abs=1e-12)
            assert offsets.astype(float) == pytest.approx(forms[node][1], rel=1e-12, abs=1e-12)
        functionals = rng.normal(size=(3, 2))
        assert gradients(net, functionals, found)[0] == pytest.approx(
            functionals @ linear, rel=1e-12
        )


def test_exact_forms_are_exact():
    for family in FAMILIES:
        weights, low, high = case(family, 2)
        net = to_network(weights)
        for region in oracle.regions(weights, low, high)[:4]:
            gates = pattern([[int(gate) for gate in layer] for layer in region.pattern])
            linear, constant = affine_forms(net, gates, exact=True)[net.output]
            assert tuple(map(tuple, linear.tolist())) == region.jacobian
            assert tuple(constant.tolist()) == region.offset


def test_free_gates_count_as_off_in_forms():
    net = to_network([(np.eye(2), np.ones(2)), (np.array([[1.0, 10.0]]), np.zeros(1))])
    linear, constant = affine_forms(net, pattern([(ON, FREE)]))[net.output]
    assert linear.tolist() == [[1.0, 0.0]]
    assert constant.tolist() == [1.0]
