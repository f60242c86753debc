"""The conditions of a pattern, and the gates that they depend on."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from lipexact.graph.pattern import FREE, OFF, ON
from lipexact.regions.affine import affine_forms
from lipexact.regions.conditions import DOMAIN_ROWS, responsible_gates, sign_conditions
from lipexact.sets.domains import Box, Polytope
from tests.support.networks import to_network
from tests.support.regions import pattern

# z = (x_0 - 3, x_0 + x_1), then u = (relu(z_0) + 2 relu(z_1) - 1).
NET = to_network(
    [
        (np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([-3.0, 0.0])),
        (np.array([[1.0, 2.0]]), np.array([-1.0])),
        (np.eye(1), np.zeros(1)),
    ]
)


def conditions_of(gates, domain, *, exact=False):
    asked = pattern(gates)
    return sign_conditions(NET, domain.system(), affine_forms(NET, asked, exact=exact), asked)


@pytest.mark.parametrize("exact", [False, True])
def test_conditions_have_the_signs_of_the_states(exact):
    cut = Polytope([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [1.0, 0.0], [0.0, 1.0]], np.ones(5))
    found = conditions_of([[OFF, ON], [ON]], cut, exact=exact)
    assert found.origins[:3] == [(0, 0), (0, 1), (1, 0)]
    assert found.linear[:3].tolist() == [[-1, 0], [1, 1], [2, 2]]
    assert found.constant[:3].tolist() == [3, 0, -1]
    rows = [index for layer, index in found.origins if layer == DOMAIN_ROWS]
    assert rows == list(range(cut.system().limits.size))
    assert (found.linear[3:] == -cut.system().rows).all()
    assert isinstance(found.linear[0, 0], Fraction) == exact


def test_gates_above_free_ones_have_no_condition():
    box = Box([-5, -5], [5, 5])
    assert conditions_of([[OFF, FREE], [ON]], box).origins == [(0, 0)]
    assert conditions_of([[ON, OFF], [FREE]], box).origins == [(0, 0), (0, 1)]


def test_selected_conditions_keep_their_origins():
    found = conditions_of([[OFF, ON], [ON]], Box([-5, -5], [5, 5]))
    chosen = found.select(np.array([False, True, True]))
    assert chosen.origins == [(0, 1), (1, 0)]
    assert chosen.values(np.array([2.0, 1.0])).tolist() == [3, 5]


def test_responsible_gates_are_those_of_a_condition_and_those_below_it():
    box, asked = Box([-5, -5], [5, 5]), pattern([[OFF, ON], [ON]])
    found = conditions_of([[OFF, ON], [ON]], box)
    first = responsible_gates(NET, asked, found, [1])
    assert [layer.tolist() for layer in first] == [[FREE, ON], [FREE]]
    second = responsible_gates(NET, asked, found, [2])
    assert [layer.tolist() for layer in second] == [[OFF, ON], [ON]]
