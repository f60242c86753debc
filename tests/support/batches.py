"""A batch of small domains, and its constants one by one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

import lipexact as lx
from tests.support.networks import random_weights, to_network

COUNT = 12


@cache
def network() -> lx.Network:
    return to_network(random_weights(np.random.default_rng(0), (3, 6, 5, 2)))


@cache
def balls(count: int = COUNT) -> list[lx.Domain]:
    rng = np.random.default_rng(1)
    return [lx.Ball(rng.normal(size=3), 0.5) for _ in range(count)]


@cache
def alone() -> list[float]:
    return [lx.lipschitz(network(), ball, functional=0).value for ball in balls()]


def values(results: Iterator[lx.BatchResult]) -> list[float]:
    found = {one.index: one.result for one in results}
    assert sorted(found) == list(range(len(found)))
    return [found[k].value for k in range(len(found))]  # type: ignore[union-attr]


def hard() -> tuple[lx.Network, lx.Domain]:
    """Some hundred nodes."""
    net = to_network(random_weights(np.random.default_rng(3), (3, 8, 8, 2)))
    return net, lx.Box(-np.ones(3), np.ones(3))
