"""Hyperplanes that meet in too high a dimension: known ones, inside, outside and on the border."""

from __future__ import annotations

import numpy as np
import pytest

from lipexact.numerics.rational import to_fractions
from lipexact.regions import constants
from lipexact.regions.crossings import find_crossings
from lipexact.regions.position_report import Neuron
from lipexact.sets.domains import Box

SQUARE = Box([-1, -1], [1, 1])


def search(rows, domain=SQUARE):
    return find_crossings(
        {Neuron(0, i, "relu"): row for i, row in enumerate(to_fractions(rows))}, domain
    )


def found_by(rows, domain=SQUARE):
    """The neurons, dimension and point of each crossing, and the undecided neurons."""
    result = search(rows, domain)
    crossings = [
        ([neuron.index for neuron in each.neurons], each.dimension, each.point)
        for each in result.crossings
    ]
    return crossings, [neuron.index for neuron in result.undecided]


def test_three_lines_through_a_point():
    lines = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 2.0, 0.5]]
    assert found_by(lines) == ([([0, 1, 2], 0, (0.0, 0.0))], [])


def test_three_lines_that_miss_each_other_by_a_little():
    assert found_by([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 2.0**-40]]) == ([], [])


def test_lines_that_meet_outside_play_no_role():
    assert found_by([[1.0, 0.0, -2.0], [0.0, 1.0, 0.5], [1.0, 1.0, -1.5]]) == ([], [])


def test_lines_that_meet_on_the_border_are_undecided():
    assert found_by([[1.0, 0.5, -1.0], [1.0, -0.5, -1.0]]) == ([], [0, 1])


def test_planes_through_a_common_line():
    planes = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
    cube = Box([-1, -1, -1], [1, 1, 1])
    assert found_by(planes, cube) == ([([0, 1, 2], 1, (0.0, 0.0, 0.0))], [])


@pytest.mark.parametrize("subsets", [0, 10**6])
def test_where_there_are_too_many_choices_a_few_points_are_tried(subsets, monkeypatch):
    monkeypatch.setattr(constants, "MAX_SUBSETS", subsets)
    point = np.array([0.25, -0.5])
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    result = search(np.column_stack([rows, -rows @ point]))
    assert result.complete == bool(subsets)
    assert [each.point for each in result.crossings] == [(0.25, -0.5)]
