"""Tasks for workers: processes of one's own, or whatever an executor has.

An executor is anything with the interface of :class:`concurrent.futures.Executor`, for one machine or a cluster: it
knows workers, queues and networks. Here is only what such executors have no word for:

* What all tasks share is sent to each worker once. A task names it; a worker that has not got it says so, and the task
  goes out again with it.
* A task is a function of what it is sent. One that is lost, with its worker or with the executor's scheduler, goes out
  again, and its answer counts once.
* A worker that dies is told apart from a task that fails. Processes of one's own are executors of one worker each, so
  it is known which task was being done; a task that ends several of them is given up, and the others go on.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import pickle
import platform
import queue
import signal
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from threadpoolctl import threadpool_limits
from typing_extensions import Self

from lipexact.errors import WorkerError
from lipexact.version import __version__

_DEATHS = 3  # of workers, by one task, after which it is given up
_LOSSES = 10  # of a task for other reasons, such as a scheduler that was restarted
_KEPT = 4  # things that tasks share, in a worker
_SHORT = 0.1  # seconds: processes that do shorter tasks are given the next one ahead of time
_UNKNOWN = 8  # workers of an executor that does not say how many it has
_ASKED = 10.0  # seconds until an executor is asked again how many it has
_SILENCE = 5.0  # seconds after which it is looked at whether an executor is still there
_PATIENCE = 10.0  # seconds that the last tasks are waited for when the work is given up

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h

_DONE, _FAILED, _MISSING, _UNFIT = "done", "failed", "missing", "unfit"


@dataclass(frozen=True)
class TaskHeader:
    """What goes with a task.

    Attributes
    ----------
    name
        Of what the tasks share.
    number
        Of this sending: executors may take tasks with equal arguments for one.
    version
        The caller's, without which pickles mean nothing.
    process
        The caller's.
    cores
        How many threads products of matrices may take.
    """

    name: str
    number: int
    version: str
    process: tuple[str, int]
    cores: int


# --- In a worker ----------------------------------------------------------------------------------------

_shared: OrderedDict[str, Any] = OrderedDict()
_lock = threading.Lock()


def perform(order: TaskHeader, shared: bytes | None, task: bytes) -> tuple[str, bytes, float]:
    """Do a task: what became of it, its pickled value, and the seconds that it took.

    Parameters
    ----------
    order
        Who asks, and for what.
    shared
        What the tasks share, pickled, or None if this worker is thought to have it.
    task
        A pickled function and its arguments after the first one, which is what is shared.
    """
    if order.version != __version__:
        return (
            _UNFIT,
            pickle.dumps(f"a worker has lipexact {__version__}, and the caller {order.version}"),
            0.0,
        )
    start = time.perf_counter()
    with _lock:
        if order.name not in _shared:
            if shared is None:
                return _MISSING, b"", 0.0
            _shared[order.name] = pickle.loads(
                shared
            )  # of the caller's, as all that an executor runs
            if (
                order.process != _process_name()
            ):  # whose threads and memory are the caller's own to limit
                threadpool_limits(order.cores, user_api="blas")
                _keep_memory()
        _shared.move_to_end(order.name)
        context = _shared[order.name]
        while len(_shared) > _KEPT:
            _shared.popitem(last=False)
    try:
        function, arguments = pickle.loads(task)
        outcome = _DONE, pickle.dumps(function(context, *arguments))
    except Exception as error:  # noqa: BLE001 - whatever it is belongs to the task
        outcome = _FAILED, _pickled(error)
    return *outcome, time.perf_counter() - start


def _keep_memory() -> None:
    """Have glibc keep what is freed, where Dask has told it not to, by a variable that processes inherit.

    Branch and bound asks for arrays of the same sizes again and again: fresh pages took as long as all the rest.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        with suppress(OSError, AttributeError):  # another C library
            adjust = ctypes.CDLL(None).mallopt
            adjust(_M_TRIM_THRESHOLD, 2**26)
            adjust(_M_MMAP_THRESHOLD, 2**25)


def _process_name() -> tuple[str, int]:
    return platform.node(), os.getpid()


def _pickled(error: Exception) -> bytes:
    """The error, or what it says where it cannot be sent."""
    with suppress(Exception):
        sent = pickle.dumps(error)
        pickle.loads(sent)  # errors that take several arguments may fail here
        return sent
    return pickle.dumps(WorkerError(f"{type(error).__name__}: {error}"))


def _start(caller: int) -> None:
    """Make a process of one's own ready: ctrl-C is the caller's to handle, and its end is this one's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(caller,), daemon=True).start()


def _end_with(caller: int) -> None:
    """End this process when the one that it works for has: killed, that says no word."""
    while os.getppid() == caller:
        time.sleep(1.0)
    os._exit(1)


# --- In the caller --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskOutcome:
    """What became of a task.

    Attributes
    ----------
    ticket
        What the caller knows it by.
    value
        What its function returned, if there is no error.
    error
        What it raised; a :class:`.WorkerError` where workers died of it.
    seconds
        That it took in its worker.
    sent, received
        The bytes of its arguments and of its value.
    """

    task_id: int
    value: Any
    error: Exception | None
    seconds: float = 0.0
    sent: int = 0
    received: int = 0


@dataclass(eq=False)
class _Task:
    task_id: int
    work: bytes
    whole: bool = False  # whether to send what is shared along
    deaths: int = 0
    losses: int = 0


@dataclass(eq=False)
class _Slot:
    """An executor, what it is doing, in order, and how much of that it should have at most."""

    executor: Executor
    own: bool
    workers: int
    unsent: int  # of its workers, as far as is known, have not got what is shared
    asked: float = 0.0
    started: Future[Any] | None = None  # answers when a process of one's own has
    sent: dict[Future[Any], _Task] = field(default_factory=dict)
    seconds: float = 1.0  # of late, for a task

    @property
    def ready(self) -> bool:
        return self.started is None or (self.started.done() and self.started.exception() is None)

    @property
    def room(self) -> int:
        if not self.ready:
            return 0
        ahead = (
            2 if not self.own or self.seconds < _SHORT else 1
        )  # a process that dies takes with it what waits for it
        return ahead * self.workers - len(self.sent)


class WorkerPool:
    """Workers that do tasks.

    A thread of its own hands out tasks and takes answers, so that workers do not wait for the caller.

    Parameters
    ----------
    shared
        What all tasks share, pickled: the first argument of each.
    executor
        Whose workers; None for processes of one's own, which loky starts as new interpreters, without a guard in the
        caller's script.
    workers
        How many: processes, or those of the executor, None to ask it.
    cores
        How many each may use.

    Raises
    ------
    OSError, RuntimeError, MemoryError
        If processes cannot be started.
    """

    def __init__(
        self,
        shared: bytes,
        executor: Executor | None = None,
        workers: int | None = None,
        cores: int = 1,
    ) -> None:
        self._order = TaskHeader(uuid.uuid4().hex, 0, __version__, _process_name(), cores)
        self._numbers = itertools.count()
        self._shared, self._fixed = shared, workers
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[TaskOutcome | None] = queue.SimpleQueue()
        self._waiting: deque[_Task] = deque()
        self._lanes: list[_Slot] = []
        self._served = False  # whether any task has come back
        self._running = True
        self._lost: WorkerError | None = (
            None  # why nobody is left to do tasks; None in the outbox tells who waits
        )
        self.open = 0  # tasks that have not come back
        if executor is None:
            self._own(workers or os.cpu_count() or 1)
        else:
            count = workers or workers_of(executor) or _UNKNOWN
            self._lanes.append(
                _Slot(executor, own=False, workers=count, unsent=count, asked=time.monotonic())
            )
        self._thread = threading.Thread(target=self._run, name="lipexact crew", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def ready(self) -> bool:
        """Whether any worker can begin; or none ever will, as :meth:`wait` says."""
        return self._lost is not None or any(lane.ready for lane in self._lanes)

    @property
    def workers(self) -> int:
        """How many there are, as far as is known."""
        return sum(lane.workers for lane in self._lanes)

    @property
    def room(self) -> int:
        """How many more tasks keep all workers busy."""
        return 2 * self.workers - self.open

    def submit(self, ticket: int, function: Callable[..., Any], *arguments: Any) -> None:
        """Have `function(shared, *arguments)` called by a worker.

        Parameters
        ----------
        ticket
            What the outcome is known by.
        function
            Of a module that workers can import.
        arguments
            What can be pickled.
        """
        work = pickle.dumps((function, arguments))
        self.open += 1
        self._inbox.put(_Task(ticket, work))

    def wait(self, seconds: float | None) -> list[TaskOutcome]:
        """What has been done, at least one outcome unless the time is up; None waits as long as it takes.

        Raises
        ------
        WorkerError
            If there is nobody left to do tasks; those that are open are lost.
        """
        found: list[TaskOutcome] = []
        with suppress(queue.Empty):
            while self.open:
                told = self._outbox.get(timeout=0 if found or self._lost is not None else seconds)
                if told is None:
                    break
                found.append(told)
                self.open -= 1
        if self._lost is not None and not found:
            raise self._lost
        return found

    def close(self) -> None:
        """Give up what is not done: processes of one's own are ended, tasks of an executor cancelled."""
        self._running = False
        self._inbox.put(None)
        self._thread.join(_PATIENCE)

    # --- The thread's own: nothing below is called by another one ---

    def _run(self) -> None:
        try:
            while self._running:
                self._hand_out()
                try:
                    told = self._inbox.get(timeout=_SILENCE)
                except (
                    queue.Empty
                ):  # nothing is heard any more of an executor whose client has given up
                    if any(_closed(lane.executor) for lane in self._lanes):
                        raise WorkerError(
                            "the executor's client has lost its scheduler, and is closed"
                        ) from None
                    continue
                if isinstance(told, _Task):
                    self._waiting.append(told)
                elif told is not None and self._running:
                    self._take(told)
        except Exception as error:  # noqa: BLE001 - or nobody would ever hear of it
            lost = (
                error
                if isinstance(error, WorkerError)
                else WorkerError(f"tasks cannot be handed out: {error}")
            )
            self._lost = lost
            self._outbox.put(None)
        finally:
            for lane in self._lanes:
                self._end(lane)

    def _own(self, count: int) -> None:
        for _ in range(count):
            try:
                lane = _Slot(_process(), own=True, workers=1, unsent=1)
                lane.started = lane.executor.submit(os.getpid)
            except (OSError, RuntimeError, MemoryError):
                if not self._lanes:
                    raise
                return  # those that there are do it all
            lane.started.add_done_callback(self._inbox.put)
            self._lanes.append(lane)

    def _hand_out(self) -> None:
        for lane in self._lanes:
            self._ask(lane)
        while self._waiting:
            lane = max(self._lanes, key=lambda one: one.room)
            if lane.room <= 0:
                return
            self._send(lane, self._waiting.popleft())

    def _ask(self, lane: _Slot) -> None:
        """Whether an executor has more workers by now, or fewer."""
        if not lane.own and self._fixed is None and time.monotonic() - lane.asked > _ASKED:
            before, lane.asked = lane.workers, time.monotonic()
            lane.workers = workers_of(lane.executor) or before
            lane.unsent += max(lane.workers - before, 0)

    def _send(self, lane: _Slot, task: _Task) -> None:
        shared = self._shared if task.whole or lane.unsent > 0 else None
        order = replace(self._order, number=next(self._numbers))
        try:
            future = lane.executor.submit(perform, order, shared, task.work)
        except BrokenExecutor:
            self._waiting.appendleft(task)
            self._replace(lane)
            return
        except Exception as error:
            raise WorkerError(
                f"the executor takes no more tasks: {type(error).__name__}: {error}"
            ) from error
        lane.unsent -= lane.unsent > 0
        lane.sent[future] = task
        future.add_done_callback(self._inbox.put)

    def _take(self, future: Future[Any]) -> None:
        lane = next(
            (one for one in self._lanes if future in one.sent or future is one.started), None
        )
        if lane is None:  # its executor broke, and its task went out again
            return
        if future is lane.started:
            self._begun(lane)
            return
        task = lane.sent[future]
        try:
            kind, value, seconds = future.result()
        except BrokenExecutor:
            self._replace(lane)
            return
        except CancelledError:  # not by us: a scheduler was restarted
            task.losses += 1
            self._again(task, "it was cancelled again and again")
        except (
            BaseException
        ) as error:  # the task's: whatever a worker was ended by, this thread goes on
            if type(error).__name__ == "KilledWorker":  # Dask has tried it on several workers
                task.deaths = _DEATHS
            elif not self._served:
                text = f"the executor's workers cannot do lipexact's tasks: {type(error).__name__}: {error}"
                raise WorkerError(text) from error
            else:
                task.losses += 1
            self._again(task, f"{type(error).__name__}: {error}")
        else:
            self._served = True
            lane.seconds = (lane.seconds + seconds) / 2
            self._answered(task, kind, value, seconds)
        del lane.sent[future]

    def _begun(self, lane: _Slot) -> None:
        """A process of one's own has started, or failed to."""
        if lane.ready:
            return
        self._lanes.remove(lane)
        if not self._lanes:
            raise WorkerError(
                f"no process could be started: {lane.started and lane.started.exception()}"
            )

    def _answered(self, task: _Task, kind: str, pickled: bytes, seconds: float) -> None:
        if kind == _UNFIT:
            raise WorkerError(pickle.loads(pickled))
        if kind == _MISSING:
            task.whole = True
            self._waiting.appendleft(task)
            return
        told = pickle.loads(pickled)
        value, error = (None, told) if kind == _FAILED else (told, None)
        self._outbox.put(
            TaskOutcome(task.task_id, value, error, seconds, len(task.work), len(pickled))
        )

    def _again(self, task: _Task, why: str) -> None:
        """Hand a task out once more, unless that was tried often enough."""
        if task.deaths < _DEATHS and task.losses < _LOSSES:
            self._waiting.appendleft(task)
        else:
            self._outbox.put(
                TaskOutcome(task.task_id, None, WorkerError(f"the task was given up: {why}"))
            )

    def _replace(self, lane: _Slot) -> None:
        """Processes of one's own for what is broken; what it was doing goes out again."""
        self._lanes.remove(lane)
        tasks = list(lane.sent.values())
        lane.sent.clear()
        if lane.own:
            self._end(lane)
            for task in tasks[:1]:  # the one that was being done
                task.deaths += 1
        for task in reversed(tasks):
            self._again(task, f"workers died {task.deaths} times while they did it")
        self._own(min(lane.workers, os.cpu_count() or 1))

    def _end(self, lane: _Slot) -> None:
        if not lane.own:
            for future in lane.sent:
                future.cancel()
        else:
            # One that is still starting is left to end by itself: killed, it would leave semaphores behind.
            lane.executor.shutdown(wait=lane.ready, kill_workers=lane.ready)  # type: ignore[call-arg]


def _closed(executor: Executor) -> bool:
    """Whether it is one of Dask's, and its client is closed."""
    return getattr(getattr(executor, "_client", None), "status", None) in ("closing", "closed")


def _process() -> Executor:
    from loky import ProcessPoolExecutor  # noqa: PLC0415 - it takes its time to import

    pool: Executor = ProcessPoolExecutor(
        max_workers=1, timeout=None, initializer=_start, initargs=(os.getpid(),)
    )
    return pool


def workers_of(executor: Executor) -> int:
    """How many workers an executor says that it has; 0 if it does not."""
    with suppress(Exception):  # whatever it does to find out, it is only a guess
        client = getattr(executor, "_client", None)
        if client is not None:  # of dask.distributed
            return sum(client.nthreads().values())
        for name in ("num_workers", "_max_workers"):  # of mpi4py.futures; of all others
            count = getattr(executor, name, None)
            if isinstance(count, int) and count >= 1:
                return count
    return 0
