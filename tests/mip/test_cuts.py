"""Cuts: the patterns that a model allows, and that parked regions keep it feasible."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest

from lipexact.graph.pattern import FREE, ON, Pattern
from lipexact.mip.model import Composition
from lipexact.mip.solvers.base import (
    Termination,
    solve,
)
from lipexact.sets.domains import Box
from tests.support import oracle
from tests.support.networks import (
    random_weights,
    to_network,
)
from tests.support.programs import (
    MODES,
    composed,
)


def patterns_of(comp: Composition) -> list[Pattern]:
    """Every pattern that the model allows, best first, by excluding one after the other."""
    found: list[Pattern] = []
    values = []
    while (outcome := solve(comp.model, "highs")).termination is Termination.OPTIMAL:
        assert outcome.incumbent is not None
        found.append(comp.pattern())
        values.append(comp.to_norm(outcome.incumbent))
        comp.add_nogood(found[-1])
        assert len(found) < 200
    assert outcome.termination is Termination.INFEASIBLE
    assert all(a >= b - 1e-5 for a, b in itertools.pairwise(values))
    return found


def key(pattern: Iterable[np.ndarray]) -> tuple[int, ...]:
    return tuple(np.concatenate(list(pattern)).tolist())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sizes", [(1, 4, 1), (2, 5, 1), (1, 3, 3, 1), (2, 3, 2, 1)])
def test_the_model_allows_the_patterns_of_the_box_and_a_nogood_cuts_one(sizes, mode):
    weights = random_weights(np.random.default_rng(3), sizes)
    low, high = -np.ones(sizes[0]), np.ones(sizes[0])
    comp = composed(to_network(weights), Box(low, high), [1.0], mode=mode)
    found = patterns_of(comp)
    assert len({key(pattern) for pattern in found}) == len(found)
    allowed = {key(map(np.array, gates)) for gates in oracle.closed_patterns(weights, low, high)}
    mask = np.array(key(found[0])) != FREE
    projected = {tuple(np.array(gates)[mask].astype(int).tolist()) for gates in allowed}
    assert {tuple(np.array(key(pattern))[mask].tolist()) for pattern in found} == projected


def test_a_nogood_of_some_gates_cuts_all_that_share_them():
    # Three kinks on a line: 4 patterns. Excluding "the second is on" leaves those below it.
    weights = [(np.ones((3, 1)), np.array([0.5, 0.0, -0.5])), (np.ones((1, 3)), np.zeros(1))]
    comp = composed(to_network(weights), Box([-1.0], [1.0]), [1.0])
    comp.add_nogood((np.array([FREE, ON, FREE], dtype=np.int8),))
    assert {key(pattern) for pattern in patterns_of(comp)} == {(0, 0, 0), (1, 0, 0)}


def test_park_region_keeps_the_model_feasible():
    weights = random_weights(np.random.default_rng(5), (2, 4, 1))
    low, high = -np.ones(2), np.ones(2)
    for mode in MODES:
        comp = composed(to_network(weights), Box(low, high), [1.0], mode=mode)
        first: float | None = None
        seen: list[tuple[int, ...]] = []
        for _ in range(30):
            outcome = solve(comp.model, "highs")
            assert outcome.termination is Termination.OPTIMAL
            assert outcome.bound is not None
            value = comp.to_norm(outcome.bound)
            if comp.is_parked:
                break
            assert key(comp.pattern()) not in seen
            seen.append(key(comp.pattern()))
            first = value if first is None else first
            assert value <= first * (1 + 1e-6)
            comp.park_region(comp.pattern(), value)
        else:
            pytest.fail("no solution was parked")
        # What remains is worth half of the first one at most; nothing better was cut off.
        assert first is not None
        assert value == pytest.approx(first / 2, rel=1e-6)
        exact = oracle.naive_constant(weights, low, high, [1.0])
        assert first == pytest.approx(exact, rel=1e-6)
