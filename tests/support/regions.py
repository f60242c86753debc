"""The linear regions of a network from the oracle, and checks of verdicts against them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest

from lipexact.graph.pattern import FREE, OFF, ON, Pattern
from lipexact.network import Network
from lipexact.regions.feasibility import Empty, LinearRegion, Undecided, Verdict, decide_region
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Box
from tests.support import oracle
from tests.support.networks import Layers, halfspaces_of, to_network


class Truth(NamedTuple):
    """The real patterns of a network.

    For each region its gates; None where the neuron is zero on all of it.
    """

    weights: Layers
    network: Network
    domain: Domain
    regions: list[tuple[tuple[bool | None, ...], ...]]

    def is_real(self, gates: Iterable[Iterable[int]]) -> bool:
        """Whether a region has these gates; FREE entries match anything."""
        asked = [list(layer) for layer in gates]
        return any(
            all(
                state == FREE or true is None or bool(state) == true
                for layer, truth in zip(asked, region, strict=True)
                for state, true in zip(layer, truth, strict=True)
            )
            for region in self.regions
        )


def truth_of(weights: Layers, low: Sequence[float], high: Sequence[float]) -> Truth:
    return truth_on(weights, Box(low, high))


def truth_on(weights: Layers, domain: Domain) -> Truth:
    found = []
    for region in oracle.regions(weights, domain.lower, domain.upper, halfspaces_of(domain)):
        vertices = [oracle.trace(weights, vertex)[:-1] for vertex in region.vertices]
        found.append(
            tuple(
                tuple(
                    None if all(vertex[k][i] == 0 for vertex in vertices) else gate
                    for i, gate in enumerate(layer)
                )
                for k, layer in enumerate(region.pattern)
            )
        )
    return Truth(weights, to_network(weights), domain, found)


def pattern(gates: Iterable[Iterable[int]]) -> Pattern:
    return tuple(np.array(list(layer), dtype=np.int8) for layer in gates)


def all_gates(widths: Sequence[int]) -> Iterable[list[tuple[int, ...]]]:
    for flat in itertools.product((OFF, ON), repeat=sum(widths)):
        rest = iter(flat)
        yield [tuple(itertools.islice(rest, width)) for width in widths]


def widths_of(weights: Layers) -> list[int]:
    return [len(bias) for _, bias in weights[:-1]]


def check_point(truth: Truth, region: LinearRegion, gates: Sequence[Sequence[int]]) -> None:
    """The point is inside the domain, and in rationals on the right side of every kink."""
    for low, entry, high in zip(truth.domain.lower, region.point, truth.domain.upper, strict=True):
        assert Fraction(low) < Fraction(entry) < Fraction(high)
    for row, limit in halfspaces_of(truth.domain):
        assert sum(
            Fraction(a) * Fraction(x) for a, x in zip(row, region.point, strict=True)
        ) < Fraction(limit)
    assert truth.is_real(region.pattern)
    layers = oracle.trace(truth.weights, list(region.point))[:-1]
    matching = [r for r in truth.regions if all_match(r, layers)]
    assert matching, "the point is on a kink"
    for layer, asked, states in zip(layers, gates, region.pattern, strict=True):
        for z, want, state in zip(layer, asked, states.tolist(), strict=True):
            assert state == int(z > 0)
            assert want in (FREE, state) or z == 0


def all_match(region: tuple[tuple[bool | None, ...], ...], layers: list[list[Fraction]]) -> bool:
    return all(
        (z == 0) if true is None else (z > 0 if true else z < 0)
        for truths, layer in zip(region, layers, strict=True)
        for true, z in zip(truths, layer, strict=True)
    )


def check(truth: Truth, gates: Sequence[Sequence[int]]) -> Verdict:
    """`decide` is right about these gates."""
    verdict = decide_region(truth.network, truth.domain, pattern(gates))
    match verdict:
        case LinearRegion():
            assert truth.is_real(gates)
            check_point(truth, verdict, gates)
        case Empty():
            assert not truth.is_real(gates)
            for states, layer in zip(verdict.pattern, gates, strict=True):
                assert all(
                    state in (FREE, asked)
                    for state, asked in zip(states.tolist(), layer, strict=True)
                )
            # Whatever the free gates are: no region at all shares the cause.
            assert not truth.is_real(verdict.pattern)
        case Undecided():
            pytest.fail(f"undecided: {gates}")
    return verdict
