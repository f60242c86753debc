"""Progress, ctrl-C, and solvers that are slow to stop."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time

import pytest

from lipexact.mip import constants
from lipexact.mip.solvers.base import (
    SolverSettings,
    Termination,
    Watch,
    solve,
)
from lipexact.state import Progress
from tests.support.mip_models import (
    LONG,
    TOLERANCE,
    check,
    check_quadratic_bracket,
    hard,
    hard_quadratic,
)
from tests.support.solvers import require


def is_bracket(moment, solver):
    """Return whether a report has both bounds; CBC's log has them together, or is silent."""
    return moment.incumbent is not None and (moment.bound is not None or solver == "cbc")


def test_progress(solver, capfd):
    news = []
    threads = set()

    def report(moment: Progress) -> bool:
        news.append(moment)
        threads.add(threading.current_thread())
        sys.stderr.write("working\n")
        return len(news) >= 3 and is_bracket(moment, solver)

    outcome = solve(hard(), solver, SolverSettings(time_limit=LONG), report)
    assert threads == {threading.current_thread()}
    assert [moment.seconds for moment in news] == sorted(moment.seconds for moment in news)
    found = [None, *(moment.incumbent for moment in news)]
    assert len(news) <= news[-1].seconds / constants.HEARTBEAT_SECONDS + sum(
        a != b for a, b in itertools.pairwise(found)
    )
    assert news[-1].incumbent >= outcome.incumbent - TOLERANCE
    if solver != "cbc":  # its log speaks now and then only
        assert news[-1].bound <= outcome.bound + TOLERANCE
        assert news[-1].nodes <= outcome.nodes
    # The display gets through, the solver does not.
    assert capfd.readouterr() == ("", "working\n" * len(news))


def test_interrupt_from_the_callback(solver):
    def report(moment: Progress) -> None:
        if is_bracket(moment, solver):
            raise KeyboardInterrupt

    model = hard()
    outcome = solve(model, solver, SolverSettings(time_limit=LONG), report)
    assert outcome.termination is Termination.INTERRUPTED
    check(model, outcome, optimum=-1587.0)
    assert outcome.bound is not None
    assert outcome.incumbent is not None


def test_stop_by_the_callback(solver):
    answers = []

    def report(moment: Progress) -> bool:
        answers.append(len(answers) >= 2 and is_bracket(moment, solver))
        return answers[-1]

    model = hard()
    outcome = solve(model, solver, SolverSettings(time_limit=LONG), report)
    assert answers.index(True) == len(answers) - 1
    assert outcome.termination is Termination.INTERRUPTED
    check(model, outcome, optimum=-1587.0)
    assert outcome.bound is not None
    assert outcome.incumbent is not None


def test_stop_of_a_quadratic_program_by_the_callback(quadratic_solver):
    def report(moment: Progress) -> bool:
        return is_bracket(moment, quadratic_solver)

    model, reached = hard_quadratic()
    outcome = solve(model, quadratic_solver, SolverSettings(time_limit=LONG), report)
    assert outcome.termination is Termination.INTERRUPTED
    assert outcome.incumbent is not None
    assert outcome.bound is not None
    check_quadratic_bracket(model, outcome, reached)


def test_a_new_incumbent_is_reported_at_once(monkeypatch):
    monkeypatch.setattr(constants, "HEARTBEAT_SECONDS", LONG)
    seen = []
    heard = threading.Event()
    stop = threading.Event()

    def report(moment):
        seen.append(moment)
        heard.set()
        return moment.incumbent == 2.0

    watch = Watch(None, report)

    def job():
        watch.record(1.0, None, None)
        heard.wait(10)
        watch.record(2.0, None, None)
        stop.wait(10)

    watch.run(job, stop.set)
    assert [moment.incumbent for moment in seen] == [1.0, 2.0]
    assert watch.cancelled
    assert watch.stop_reason is Termination.INTERRUPTED


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_ctrl_c(solver):
    timers = []

    def report(moment: Progress) -> None:
        if not timers and is_bracket(moment, solver):
            timers.append(threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)))
            timers[0].start()

    model = hard()
    outcome = solve(model, solver, SolverSettings(time_limit=LONG), report)
    timers[0].join()
    assert outcome.termination is Termination.INTERRUPTED
    assert outcome.bound is not None
    check(model, outcome, optimum=-1587.0)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_ctrl_c_after_gurobi_on_several_threads():
    # Each solve puts back the signal handler that it found: of two at a time, one may put back
    # Gurobi's own.
    require("gurobi")
    handler = signal.getsignal(signal.SIGINT)
    for _ in range(5):
        workers = [
            threading.Thread(
                target=solve, args=(hard(), "gurobi", SolverSettings(time_limit=limit))
            )
            for limit in (0.2, 0.3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    test_ctrl_c(require("highs"))
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_exception_of_the_callback_is_raised(solver):
    def report(moment: Progress) -> None:
        raise ZeroDivisionError("display broken")

    start = time.perf_counter()
    with pytest.raises(ZeroDivisionError, match="display broken"):
        solve(hard(), solver, SolverSettings(time_limit=LONG), report)
    assert time.perf_counter() - start < LONG


def test_long_overdue_is_told_to_stop(monkeypatch):
    monkeypatch.setattr(constants, "GRACE_SECONDS", 0.1)
    stop = threading.Event()
    watch = Watch(0.01, None)
    watch.run(lambda: stop.wait(10), stop.set)
    assert stop.is_set()
    assert watch.stop_reason is Termination.TIME_LIMIT


def test_second_ctrl_c_leaves_the_job(monkeypatch):
    stop = threading.Event()

    def report(moment: Progress) -> None:
        raise KeyboardInterrupt

    def cancel() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Watch(None, report).run(lambda: stop.wait(10), cancel)
    stop.set()


def test_a_cancel_that_is_refused_is_asked_again():
    # SCIP takes no interrupt between two of its stages.
    stop = threading.Event()
    asked = []

    def cancel():
        asked.append(None)
        if len(asked) < 3:
            return False
        stop.set()
        return True

    Watch(None, lambda _: True).run(lambda: stop.wait(10), cancel)
    assert stop.is_set()
    assert len(asked) == 3
