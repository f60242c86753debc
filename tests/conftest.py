"""What all tests share: solvers that are there, and the folder of shared cases beside the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lipexact.mip.solvers import available, solver_names

SHARED = Path(__file__).resolve().parents[2] / "shared"


def require(solver: str) -> str:
    """Skip where a solver is missing; on CI, which installs them all, fail."""
    if not available(solver):
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have the solver {solver}")
        pytest.skip(f"the solver {solver} is not here")
    return solver


@pytest.fixture(params=solver_names())
def solver(request: pytest.FixtureRequest) -> str:
    """Each registered solver."""
    return require(request.param)


@pytest.fixture
def shared() -> Path:
    """The folder of shared cases."""
    if not SHARED.is_dir():
        pytest.skip("the shared cases are not here")
    return SHARED
