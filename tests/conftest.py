"""What all tests share: marks, solvers that are there, and the folder of shared cases."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from lipexact.mip.solvers.base import SOLVERS, Solver, SolverOutcome, SolverSettings, solver_names
from tests.support.paths import ROOT, SHARED
from tests.support.solvers import require

TESTS = ROOT / "tests"

# A busy machine is no failure; what else hypothesis sets on CI stays. There a failure is reported
# as it is found: to shrink it may take five minutes, and with them what CI has left.
PHASES = [
    phase
    for phase in Phase
    if os.environ.get("CI") != "true" or phase not in (Phase.shrink, Phase.explain)
]
settings.register_profile(
    "any machine",
    settings(),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=PHASES,
)
settings.load_profile("any machine")


# What `nox -s quick` runs: these folders, without tests of many networks and without slow ones.
QUICK = {
    "numerics",
    "graph",
    "sets",
    "onnx",
    "problem",
    "certificates",
    "bounds",
    "regions",
    "mip",
    "bab",
    "engines",
    "cli",
}


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known."""
    for mark in (
        "quick: `nox -s quick` runs this test; given by its folder",
        "slow: takes seconds, and `nox -s quick` leaves it out",
        "unwatched: asks of many networks what others ask of a few; neither watched nor quick",
    ):
        config.addinivalue_line("markers", mark)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is quick."""
    for item in items:
        path = item.path
        if not path.is_relative_to(TESTS) or path.relative_to(TESTS).parts[0] not in QUICK:
            continue
        if not any(item.get_closest_marker(name) for name in ("slow", "unwatched")):
            item.add_marker("quick")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run what is marked as unwatched without coverage, which doubles the time of plain Python.

    These tests ask of many networks what others, which are watched, ask of a few. The mark of
    pytest-cov, no_cover, has no effect in the processes of pytest-xdist.
    """
    tracer, of_threads = sys.gettrace(), threading.gettrace()
    if item.get_closest_marker("unwatched") is None or not type(tracer).__module__.startswith(
        "coverage"
    ):
        return (yield)
    sys.settrace(None)
    threading.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)
        threading.settrace(of_threads)


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


@pytest.fixture
def fake(monkeypatch):
    """Register a solver under the name "fake"."""

    def enter(run: Callable[..., SolverOutcome]) -> list[int]:
        calls = [0]

        def counted(model: Any, options: SolverSettings, watch: Any) -> SolverOutcome:
            calls[0] += 1
            if calls[0] > 300:
                pytest.fail("the search does not end")
            return run(model, options, watch)

        monkeypatch.setitem(SOLVERS, "fake", Solver("fake", "none", lambda: True, counted))
        return calls

    return enter
