"""The watch over a running solver: its time limit, its progress, ctrl-C, and its thread.

Every solver runs on a thread of its own, while the calling thread reports progress and waits for
ctrl-C. HiGHS keeps a scheduler per thread, and refuses another number of threads in a thread that
has one ("global scheduler has already been initialized"): a new thread for each solve has no such
history. SCIP needs the opposite: with quadratic constraints it calls CppAD, which numbers all
threads that it ever meets, and the process dies with the 64th. So its threads are used again.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from lipexact.mip import constants
from lipexact.result import Termination
from lipexact.state import Progress, ProgressCallback


class Watch:
    """The clock of one solve: its time limit, its progress, and the ways to stop it.

    Parameters
    ----------
    time_limit : float, optional
        Wall-clock seconds from now.
    on_progress : ProgressCallback, optional
        Called on the thread that called `run`; True stops the solve.

    Attributes
    ----------
    cancelled : bool
        Whether the solver was told to stop.
    error : Exception or None
        What `on_progress` raised; the solve stops first, and then :func:`solve` raises it.
    """

    def __init__(self, time_limit: float | None, on_progress: ProgressCallback | None) -> None:
        self._start = time.perf_counter()
        self._limit = time_limit
        self._on_progress = on_progress
        self._latest: tuple[float | None, float | None, int | None] = (None, None, None)
        self._expired = False
        self.cancelled = False
        self.error: Exception | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the solve began."""
        return time.perf_counter() - self._start

    def remaining(self) -> float | None:
        """Return the seconds left, at least 0; None without a limit."""
        return None if self._limit is None else max(0.0, self._limit - self.seconds)

    @property
    def overdue(self) -> bool:
        """Whether the time limit has passed."""
        return self._limit is not None and self.seconds >= self._limit

    @property
    def stop_reason(self) -> Termination:
        """The termination of a solver that says it was interrupted."""
        return Termination.TIME_LIMIT if self._expired else Termination.INTERRUPTED

    def record(self, incumbent: float | None, bound: float | None, nodes: int | None) -> None:
        """Keep the latest incumbent, bound, and number of nodes; called on the solver's thread."""
        self._latest = (finite(incumbent), finite(bound), nodes)

    def run(
        self, job: Callable[[], object], cancel: Callable[[], object], new_thread: bool = True
    ) -> None:
        """Run a solver on another thread until it returns, and report its progress meanwhile.

        Ctrl-C, the progress callback (by True or an exception), or a time limit long overdue stop
        the solver. Another ctrl-C while the solver is slow to stop goes to the caller, and leaves
        the solver running.

        Parameters
        ----------
        job : Callable[[], object]
            The function that solves. What it raises is raised here.
        cancel : Callable[[], object]
            Called on this thread to ask the solver to stop. If it returns False, the solver has
            refused, and is asked again soon.
        new_thread : bool
            Whether the solver needs a new thread; else it may get one that an earlier job left.
        """
        failures: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                job()
            except BaseException as failure:  # noqa: BLE001 (raised below, on the caller's thread)
                failures.append(failure)
            finally:
                done.set()

        _reclaim_ctrl_c()
        _start_thread(work, new_thread)
        try:
            self._report_progress(done)
        except KeyboardInterrupt:
            pass
        except Exception as error:  # noqa: BLE001 (of the callback: raised when the solver has stopped)
            self.error = error
        while not done.is_set():
            self.cancelled = True
            refused = cancel() is False
            done.wait(constants.POLL_SECONDS if refused else constants.GRACE_SECONDS)
        _reclaim_ctrl_c()
        if failures:
            raise failures[0]

    def _report_progress(self, done: threading.Event) -> None:
        """Call `on_progress` now and then, until the solver has returned or has to be stopped."""
        incumbent = None
        due = self.seconds + constants.HEARTBEAT_SECONDS
        while not done.wait(constants.POLL_SECONDS):
            if self._limit is not None and self.seconds > self._limit + constants.GRACE_SECONDS:
                self._expired = True
                return
            latest = self._latest
            if self._on_progress is None or (latest[0] == incumbent and self.seconds < due):
                continue
            incumbent = latest[0]
            due = self.seconds + constants.HEARTBEAT_SECONDS
            if self._on_progress(Progress(self.seconds, *latest)):
                return


def finite(value: float | None) -> float | None:
    """Return a number, or None where it is not a number or stands for a solver's infinity."""
    if value is None or math.isnan(value) or abs(value) >= constants.SOLVER_INFINITY:
        return None
    return float(value)


# The inboxes of the threads that wait for another job.
_idle_threads: list[SimpleQueue[Callable[[], None]]] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle_threads.clear)  # a child process has no such threads


def _start_thread(job: Callable[[], None], new_thread: bool) -> None:
    """Run a job on a new thread that ends with it, or on one that waits for jobs."""
    if new_thread:
        threading.Thread(target=job, name="lipexact-solver", daemon=True).start()
        return
    try:
        inbox = _idle_threads.pop()
    except IndexError:
        inbox = SimpleQueue()
        threading.Thread(
            target=_run_jobs, args=(inbox,), name="lipexact-solver", daemon=True
        ).start()
    inbox.put(job)


def _run_jobs(inbox: SimpleQueue[Callable[[], None]]) -> None:
    """Run one job after the other, and be idle in between."""
    while True:
        inbox.get()()
        _idle_threads.append(inbox)


def _reclaim_ctrl_c() -> None:
    """Make ctrl-C go to Python's handler again.

    Gurobi takes the signal for as long as it runs (and then stops by itself). Two of its solves at
    the same time, on two threads, each put back the handler that they found, and may so leave
    Gurobi's handler behind for good.
    """
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGINT)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
