"""CBC: exit codes, statuses and files that are no answer."""

from __future__ import annotations

import sys

import pytest
from pyomo.common import Executable

from lipexact.errors import SolverError
from lipexact.mip import constants
from lipexact.mip.solvers.base import (
    SolverSettings,
    Termination,
    solve,
)
from tests.support.mip_models import (
    knapsack,
)


@pytest.fixture
def broken_cbc(tmp_path):
    """Put a shell script in the place of CBC."""
    if sys.platform == "win32":
        pytest.skip("the stand-in is a shell script")
    original = Executable("cbc").path()

    def install(script):
        program = tmp_path / "cbc"
        program.write_text(f"#!/bin/sh\n[ $# -lt 3 ] && exit 0\n{script}\n")
        program.chmod(0o755)
        Executable("cbc").set_path(str(program))

    yield install
    if original is None:
        Executable("cbc").disable()
    else:
        Executable("cbc").set_path(original)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo nonsense; exit 3", "code 3: nonsense"),
        ("kill -9 $$", "code -9: it printed nothing"),
        ("exit 0", "code 0"),
        (r"printf '\377\376'; kill -11 $$", "code -11"),
    ],
    ids=["error", "killed", "silent", "crashed"],
)
def test_cbc_that_fails(broken_cbc, script, message, capfd):
    broken_cbc(script)
    model, _ = knapsack()
    outcome = solve(model, "cbc")
    assert outcome.termination is Termination.FAILED
    assert (outcome.bound, outcome.incumbent) == (None, None)
    assert message in outcome.message
    assert model.x[0].value is None
    assert capfd.readouterr() == ("", "")


def write(text):
    return f'while [ "$1" != -solu ]; do shift; done; echo "{text}" > "$2"'


@pytest.mark.parametrize(
    "header", ["Status unknown - objective value 1", "Stopped on difficulties", "gibberish"]
)
def test_cbc_status_that_is_no_answer(broken_cbc, header):
    broken_cbc(write(header))
    assert solve(knapsack()[0], "cbc").termination is Termination.FAILED


def test_cbc_solution_that_cannot_be_read(broken_cbc, capfd):
    broken_cbc(write("Optimal - objective value 1"))
    with pytest.raises(SolverError, match="cbc failed"):
        solve(knapsack()[0], "cbc")
    assert capfd.readouterr() == ("", "")


def test_cbc_calls_infeasible_what_it_had_no_time_for(broken_cbc):
    broken_cbc("sleep 0.3; " + write("Integer infeasible - objective value 1"))
    outcome = solve(knapsack()[0], "cbc", SolverSettings(time_limit=0.2))
    assert (outcome.termination, outcome.bound) == (Termination.TIME_LIMIT, None)
    assert solve(knapsack()[0], "cbc").termination is Termination.INFEASIBLE


def test_cbc_that_does_not_stop_is_killed(broken_cbc, monkeypatch):
    monkeypatch.setattr(constants, "GRACE_SECONDS", 0.2)
    broken_cbc("trap '' INT; while true; do sleep 0.1; done")
    outcome = solve(knapsack()[0], "cbc", SolverSettings(time_limit=0.2))
    assert (outcome.termination, outcome.bound, outcome.incumbent) == (
        Termination.TIME_LIMIT,
        None,
        None,
    )
