"""The operator norm of a matrix, checked for what holds of every answer."""

from __future__ import annotations

import numpy as np
import pytest

from lipexact.regions.operator_norm import OperatorNorm, jacobian_norm
from lipexact.sets.unit_balls import SymmetricSet
from tests.support.networks import to_network


def norm_of(
    jacobian: np.ndarray, functionals: SymmetricSet, directions: SymmetricSet
) -> OperatorNorm:
    """`matrix_norm` of a network that is linear, checked for what holds of every answer."""
    net = to_network([(jacobian, np.ones(len(jacobian)))])
    found = jacobian_norm(net, functionals, directions, ())
    assert 0 <= found.lower <= found.upper
    assert found.functional.shape == (functionals.dim,)
    assert found.direction.shape == (directions.dim,)
    reached = found.functional @ jacobian @ found.direction
    assert reached == pytest.approx(
        found.lower, rel=1e-12, abs=1e-12 * float(np.abs(jacobian).max())
    )
    return found
