"""Solvers that are there."""

from __future__ import annotations

import os

import pytest

from lipexact.mip.solvers.base import available


def require(solver: str) -> str:
    """Skip where a solver is missing; on CI, which installs them all, fail."""
    if not available(solver):
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have the solver {solver}")
        pytest.skip(f"the solver {solver} is not here")
    return solver
