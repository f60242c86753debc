"""A small network, and options, for tests of estimators."""

from __future__ import annotations

import numpy as np

import lipexact as lx
from tests.support.networks import random_weights, to_network

# Options with which estimators that draw samples take little time.
CHEAP = {"sampling": {"samples": 100}, "clever": {"batches": 10, "samples": 50}}

# Made of others, without a guarantee, or tested elsewhere.
RARE = ("best-upper", "clever", "exact", "liplp")

NET = to_network(random_weights(np.random.default_rng(0), (2, 4, 3)))
BOX = lx.Box.unit(2)


def masks(size: int) -> np.ndarray:
    """All patterns of so many gates, as rows of 0 and 1."""
    return np.array(np.meshgrid(*[[0.0, 1.0]] * size)).reshape(size, -1).T
