"""Gradients under a pattern: against finite differences, and where much cancels."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from lipexact.graph.pattern import OFF, ON
from lipexact.regions.affine import affine_forms
from lipexact.regions.feasibility import LinearRegion
from lipexact.regions.gradients import gradients
from tests.support import oracle
from tests.support.networks import FAMILIES, Layers, case, random_weights, to_network
from tests.support.regions import check, pattern, truth_of


@pytest.mark.unwatched
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_finite_differences_at_the_point(family):
    # In rationals, with a step that stays within the region: no rounding, so equal.
    for seed in range(3):
        truth = truth_of(*case(family, seed))
        functionals = (
            np.random.default_rng(seed)
            .integers(-3, 4, (2, len(truth.weights[-1][1])))
            .astype(np.float64)
        )
        real = [
            [[int(bool(gate)) for gate in layer] for layer in region] for region in truth.regions
        ]
        for gates in real[:: max(1, len(real) // 4)]:
            verdict = check(truth, gates)
            assert isinstance(verdict, LinearRegion)
            start = [Fraction(entry) for entry in verdict.point]
            slopes = gradients(truth.network, functionals, verdict.pattern)[0]
            for c, row in zip(functionals, slopes.tolist(), strict=True):
                for j, slope in enumerate(row):
                    assert slope == pytest.approx(
                        float(difference(truth.weights, start, j, c)), rel=1e-9, abs=1e-9
                    )


@pytest.mark.parametrize("size", [1.0, 1e-8, 1e8])
def test_gradients_of_functionals_that_cancel(size):
    # Outputs that are equal, and nearly: differences of them are what their last bits leave.
    rng = np.random.default_rng(0)
    (first, bias), (row, _) = random_weights(rng, (3, 5, 1))
    last = size * np.vstack(
        [row, row, row * (1 + 2.0**-50), row + 1e-13 * rng.normal(size=row.shape)]
    )
    net, gates = to_network([(first, bias), (last, np.zeros(4))]), pattern([(ON, OFF, ON, ON, ON)])
    exact = affine_forms(net, gates, exact=True)[net.output][0]
    differences = [np.eye(4)[i] - np.eye(4)[j] for i, j in itertools.combinations(range(4), 2)]
    functionals = np.array([*np.eye(4), *differences, [1, 1, -1, -1], [1e8, -1e8, 1, 1]])
    truth = np.array([[float(entry) for entry in c] for c in fractions(functionals) @ exact])
    # Each alone up to its own size, the batch up to the largest of all; one after the other in any
    # order.
    for c, expected in zip(functionals, truth, strict=True):
        alone = gradients(net, c[None, :], gates)[0]
        assert np.abs(alone[0] - expected).max() <= 1e-11 * np.abs(expected).max()
    assert not gradients(net, functionals[4:5], gates)[0].any()
    assert np.abs(truth[5:10]).max() < 1e-11 * np.abs(truth[0]).max()
    for chosen in (slice(None), slice(4, 10), slice(9, None, -2)):
        batch = gradients(net, functionals[chosen], gates)[0]
        assert batch.shape == truth[chosen].shape
        assert np.abs(batch - truth[chosen]).max() <= 1e-11 * np.abs(truth[chosen]).max()


def fractions(values: np.ndarray) -> np.ndarray:
    return np.array([[Fraction(entry) for entry in row] for row in values.tolist()], dtype=object)


def difference(weights: Layers, start: list[Fraction], j: int, c: np.ndarray) -> Fraction:
    """(f(x + h e_j) - f(x - h e_j)) / 2h for an h so small that it does not change with h."""
    signs = [[(z > 0) - (z < 0) for z in layer] for layer in oracle.trace(weights, start)[:-1]]
    step = Fraction(1, 4)
    while True:
        ends = []
        for side in (1, -1):
            moved = list(start)
            moved[j] += side * step
            layers = oracle.trace(weights, moved)
            if [[(z > 0) - (z < 0) for z in layer] for layer in layers[:-1]] == signs:
                ends.append(
                    sum(
                        (Fraction(w) * y for w, y in zip(c.tolist(), layers[-1], strict=True)),
                        Fraction(0),
                    )
                )
        if len(ends) == 2:
            return (ends[0] - ends[1]) / (2 * step)
        step /= 4
