"""The steps of the checker, by the examples in its docstrings."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import lipexact as lx
from lipexact.certificates.checker.cell import Cell
from lipexact.certificates.checker.domain import ExactDomain
from lipexact.certificates.checker.dyadic import Dyadic, zeros
from lipexact.certificates.checker.reading import multiplier_row
from lipexact.certificates.checker.refutation import RefutedError
from lipexact.certificates.checker.symmetric_sets import positive_semidefinite
from lipexact.certificates.checker.verifier import Verifier
from lipexact.graph.pattern import FREE, OFF, ON

BOX = {"lower": [-1.0], "upper": [1.0], "rows": [], "limits": [], "balls": []}
CUBE = {"kind": "cube", "factors": [1.0]}


def verifier_of(weights: list[float], biases: list[float]) -> Verifier:
    """The sum of neurons relu(w x + b) of one input in [-1, 1]."""
    net = lx.Network.from_layers(
        [([[w] for w in weights], biases), ([[1.0] * len(weights)], [0.0])]
    )
    statement: dict[str, Any] = {
        "domain": BOX,
        "functionals": CUBE,
        "directions": CUBE,
        "mode": "reverse",
    }
    return Verifier(net, statement)


def cell_of(states: list[int], lower: float = -9.0, upper: float = 9.0) -> Cell:
    size = len(states)
    bounds = [Dyadic.of(np.full(size, end)) for end in (lower, upper)]
    return Cell([np.array(states, dtype=np.int8)], [bounds[0]], [bounds[1]])


def test_farkas_multipliers_fix_a_gate() -> None:
    """z_0 = x - 1/2 is on; were z_1 = 1 - 3 x on, 3 z_0 + z_1 = -1/2 would be at least 0."""
    verifier = verifier_of([1.0, -3.0], [-0.5, 1.0])
    cell = cell_of([ON, FREE])
    with pytest.raises(RefutedError, match="may have the other state"):
        verifier.deduce(cell, 0, 1, OFF, [[0, 0, 1], [0, 1, 1]], [], [])
    with pytest.raises(RefutedError, match="may have the other state"):
        verifier.deduce(cell, 0, 1, ON, [[0, 0, 3], [0, 1, 1]], [], [])
    verifier.deduce(cell, 0, 1, OFF, [[0, 0, 3], [0, 1, 1]], [], [])
    assert cell.states[0].tolist() == [ON, OFF]


def test_a_cell_without_interior_is_empty() -> None:
    """z_0 = x and z_1 = -x are both on at x = 0 only; a neuron that is always 0 says nothing."""
    verifier_of([1.0, -1.0], [0.0, 0.0]).empty(cell_of([ON, ON]), [[0, 0, 1], [0, 1, 1]], [], [])
    with pytest.raises(RefutedError, match="do not show it to be empty"):
        verifier_of([0.0], [0.0]).empty(cell_of([ON]), [[0, 0, 1]], [], [])


def test_lines_of_an_open_gate() -> None:
    """For -1 <= z <= 3: y <= 3/4 z + 3/4, and -y <= -z."""
    cell = cell_of([FREE], -1.0, 3.0)
    rows, constants = cell.lines(0, Dyadic(np.array([[1], [-1]])))
    assert rows.fractions() == [Fraction(3, 4), -1]
    assert constants.fractions() == [Fraction(3, 4), 0]


def test_an_open_gate_makes_a_generator() -> None:
    """The interval 3 + [-1, 1] becomes 3/2 + [-1, 1] 1/2 + [-1, 1] 2."""
    zonotope = cell_of([FREE]).gates(0, Dyadic(np.array([[3], [1]])))
    assert zonotope.fractions() == [Fraction(3, 2), Fraction(1, 2), 2]


def test_weak_duality_with_a_half_space() -> None:
    """x_1 + x_2 on the unit square with x_1 + x_2 <= 1: 1 by the multiplier 1, and 2 without it."""
    square = {"lower": [0.0, 0.0], "upper": [1.0, 1.0], "rows": [[1.0, 1.0]], "limits": [1.0]}
    domain = ExactDomain({**square, "balls": []}, 2)
    forms = Dyadic(np.array([[1, 1]]))
    assert domain.support_upper(forms).fractions() == [2]
    assert domain.support_upper(forms, Dyadic([[1]]), zeros(1, 0)).fractions() == [1]


def test_a_guessed_factor_proves_semidefiniteness() -> None:
    assert positive_semidefinite(Dyadic(np.array([[2, 1], [1, 2]]), -1))
    assert not positive_semidefinite(Dyadic(np.array([[1, 2], [2, 1]]), -1))


def test_floats_are_dyadic() -> None:
    array = Dyadic.of([0.75, 2.5])
    assert (array.integers.tolist(), array.exponent) == ([3, 10], -2)
    assert multiplier_row([[2, 5]], 4).fractions() == [0, 0, 5, 0]
