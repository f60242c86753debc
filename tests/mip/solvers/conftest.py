"""The solvers that take quadratic constraints."""

from __future__ import annotations

import pytest

from lipexact.mip.solvers.base import quadratic_solvers
from tests.support.solvers import require


@pytest.fixture(params=quadratic_solvers())
def quadratic_solver(request: pytest.FixtureRequest) -> str:
    """Each registered solver of quadratic programs."""
    return require(request.param)
