"""The caller's side: a pool that hands out tasks and takes their outcomes."""

from __future__ import annotations

import itertools
import os
import pickle
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from typing_extensions import Self

from lipexact.errors import WorkerError
from lipexact.version import __version__
from lipexact.workers import constants
from lipexact.workers.worker import (
    FAILED,
    MISSING,
    UNFIT,
    TaskHeader,
    perform,
    process_name,
    start_process,
)


@dataclass(frozen=True)
class TaskOutcome:
    """The outcome of a task.

    Attributes
    ----------
    task_id
        The caller's number of the task.
    value
        What its function returned, if there is no error.
    error
        What it raised; a :class:`.WorkerError` where workers died of it.
    seconds
        The time that it took in its worker.
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
    """A task that has no outcome yet.

    Attributes
    ----------
    task_id
        The caller's number of the task.
    work
        The pickled function and its arguments.
    with_context
        True if the context must be sent along, since a worker has missed it.
    deaths
        The number of workers that died of it.
    losses
        How often it was lost for other reasons.
    """

    task_id: int
    work: bytes
    with_context: bool = False
    deaths: int = 0
    losses: int = 0


@dataclass(eq=False)
class _Slot:
    """An executor, and the tasks that it has been sent.

    Attributes
    ----------
    executor
        The executor.
    local
        True for a process that the pool has started: an executor of one worker.
    workers
        The number of its workers.
    without_context
        The number of its workers that have not got the context, as far as is known.
    counted
        When its workers were counted, in seconds of :func:`time.monotonic`.
    started
        A future that is done when a local process has started.
    sent
        The tasks that it has, in order.
    seconds
        A moving average of the time that a task takes.
    """

    executor: Executor
    local: bool
    workers: int
    without_context: int
    counted: float = 0.0
    started: Future[Any] | None = None
    sent: dict[Future[Any], _Task] = field(default_factory=dict)
    seconds: float = 1.0

    @property
    def ready(self) -> bool:
        """True if its workers can take tasks."""
        return self.started is None or (self.started.done() and self.started.exception() is None)

    @property
    def room(self) -> int:
        """The number of further tasks that it should be sent now.

        A local process that dies takes with it the tasks that wait for it, so that it has only one
        at a time unless its tasks are short.
        """
        if not self.ready:
            return 0
        ahead = 2 if not self.local or self.seconds < constants.SHORT_TASK_SECONDS else 1
        return ahead * self.workers - len(self.sent)


class WorkerPool:
    """A pool of workers that do tasks.

    A thread of its own hands out tasks and takes outcomes, so that workers do not wait for the
    caller.

    Parameters
    ----------
    context
        What all tasks share, pickled: the first argument of each.
    executor
        The executor whose workers do the tasks; None for local processes, which loky starts as new
        interpreters, without a guard in the caller's script.
    workers
        The number of local processes, or of the executor's workers; None to ask it.
    cores
        The number of cores that each worker may use.

    Raises
    ------
    OSError, RuntimeError, MemoryError
        If processes cannot be started.
    """

    def __init__(
        self,
        context: bytes,
        executor: Executor | None = None,
        workers: int | None = None,
        cores: int = 1,
    ) -> None:
        self._header = TaskHeader(uuid.uuid4().hex, 0, __version__, process_name(), cores)
        self._numbers = itertools.count()
        self._context = context
        self._fixed_workers = workers
        # To the thread: tasks, futures that are done, and None to wake it when the pool is closed.
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # To the caller: outcomes, and None when nobody is left to do tasks.
        self._outbox: queue.SimpleQueue[TaskOutcome | None] = queue.SimpleQueue()
        self._waiting: deque[_Task] = deque()
        self._slots: list[_Slot] = []
        self._has_replied = False  # whether any task has come back
        self._running = True
        self._failure: WorkerError | None = None  # why nobody is left to do tasks
        self.open = 0  # tasks that have not come back
        if executor is None:
            self._start_processes(workers or os.cpu_count() or 1)
        else:
            count = workers or worker_count(executor) or constants.UNKNOWN_WORKER_COUNT
            slot = _Slot(
                executor,
                local=False,
                workers=count,
                without_context=count,
                counted=time.monotonic(),
            )
            self._slots.append(slot)
        self._thread = threading.Thread(target=self._run, name="lipexact workers", daemon=True)
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
        """True if any worker can begin, or if none ever will, which :meth:`wait` raises."""
        return self._failure is not None or any(slot.ready for slot in self._slots)

    @property
    def workers(self) -> int:
        """The number of workers, as far as is known."""
        return sum(slot.workers for slot in self._slots)

    @property
    def room(self) -> int:
        """The number of further tasks that keep all workers busy."""
        return 2 * self.workers - self.open

    def submit(self, task_id: int, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a worker call `function(context, *arguments)`.

        Parameters
        ----------
        task_id
            The number by which the outcome is known.
        function
            A function of a module that workers can import.
        arguments
            Arguments that can be pickled.
        """
        work = pickle.dumps((function, arguments))
        self.open += 1
        self._inbox.put(_Task(task_id, work))

    def wait(self, seconds: float | None) -> list[TaskOutcome]:
        """Return new outcomes, at least one unless the time is up; None waits without limit.

        Raises
        ------
        WorkerError
            If nobody is left to do tasks; those that are open are lost.
        """
        outcomes: list[TaskOutcome] = []
        with suppress(queue.Empty):
            while self.open:
                at_once = outcomes or self._failure is not None
                outcome = self._outbox.get(timeout=0 if at_once else seconds)
                if outcome is None:
                    break
                outcomes.append(outcome)
                self.open -= 1
        if self._failure is not None and not outcomes:
            raise self._failure
        return outcomes

    def close(self) -> None:
        """Give up what is not done: local processes are ended, tasks of an executor cancelled."""
        self._running = False
        self._inbox.put(None)
        self._thread.join(constants.CLOSE_SECONDS)

    # --- The thread's own methods: no other thread calls what is below ---

    def _run(self) -> None:
        """Hand out tasks and take replies until the pool is closed."""
        try:
            while self._running:
                self._hand_out()
                try:
                    message = self._inbox.get(timeout=constants.SILENCE_SECONDS)
                except queue.Empty:
                    self._check_clients()
                    continue
                if isinstance(message, _Task):
                    self._waiting.append(message)
                elif message is not None and self._running:
                    self._take(message)
        except Exception as error:  # noqa: BLE001 - the caller must hear of it
            self._failure = (
                error
                if isinstance(error, WorkerError)
                else WorkerError(f"tasks cannot be handed out: {error}")
            )
            self._outbox.put(None)
        finally:
            for slot in self._slots:
                self._end(slot)

    def _check_clients(self) -> None:
        """Raise a WorkerError if an executor's client is closed: its futures never end then."""
        if any(_is_closed(slot.executor) for slot in self._slots):
            text = "the executor's client has lost its scheduler, and is closed"
            raise WorkerError(text) from None

    def _start_processes(self, count: int) -> None:
        """Start local processes, as many as the machine allows, at least one."""
        for _ in range(count):
            try:
                slot = _Slot(local_process(), local=True, workers=1, without_context=1)
                slot.started = slot.executor.submit(os.getpid)
            except (OSError, RuntimeError, MemoryError):
                if not self._slots:
                    raise
                return  # the others do all tasks
            slot.started.add_done_callback(self._inbox.put)
            self._slots.append(slot)

    def _hand_out(self) -> None:
        """Send waiting tasks to executors that have room for them."""
        for slot in self._slots:
            self._recount(slot)
        while self._waiting:
            slot = max(self._slots, key=lambda each: each.room)
            if slot.room <= 0:
                return
            self._send(slot, self._waiting.popleft())

    def _recount(self, slot: _Slot) -> None:
        """Ask an executor for the number of its workers, unless that was done lately."""
        if slot.local or self._fixed_workers is not None:
            return
        if time.monotonic() - slot.counted > constants.RECOUNT_SECONDS:
            before = slot.workers
            slot.counted = time.monotonic()
            slot.workers = worker_count(slot.executor) or before
            slot.without_context += max(slot.workers - before, 0)

    def _send(self, slot: _Slot, task: _Task) -> None:
        """Send a task to an executor; the context goes along where a worker may not have it."""
        context = self._context if task.with_context or slot.without_context > 0 else None
        header = replace(self._header, number=next(self._numbers))
        try:
            future = slot.executor.submit(perform, header, context, task.work)
        except BrokenExecutor:
            self._waiting.appendleft(task)
            self._replace(slot)
            return
        except Exception as error:
            raise WorkerError(
                f"the executor takes no more tasks: {type(error).__name__}: {error}"
            ) from error
        slot.without_context -= slot.without_context > 0
        slot.sent[future] = task
        future.add_done_callback(self._inbox.put)

    def _take(self, future: Future[Any]) -> None:
        """Take a future that is done: a task's reply, or the start of a local process."""
        slot = next(
            (each for each in self._slots if future in each.sent or future is each.started), None
        )
        if slot is None:  # its executor broke, and its task went out again
            return
        if future is slot.started:
            self._take_start(slot)
            return
        task = slot.sent[future]
        try:
            kind, value, seconds = future.result()
        except BrokenExecutor:
            self._replace(slot)
            return
        except CancelledError:  # not by this pool: a scheduler was restarted
            task.losses += 1
            self._retry(task, "it was cancelled again and again")
        except BaseException as error:  # noqa: BLE001 - whatever ended a worker, this thread goes on
            self._take_loss(task, error)
        else:
            self._has_replied = True
            slot.seconds = (slot.seconds + seconds) / 2
            self._take_reply(task, kind, value, seconds)
        del slot.sent[future]

    def _take_start(self, slot: _Slot) -> None:
        """Take note that a local process has started, or failed to."""
        if slot.ready:
            return
        self._slots.remove(slot)
        if not self._slots:
            raise WorkerError(
                f"no process could be started: {slot.started and slot.started.exception()}"
            )

    def _take_loss(self, task: _Task, error: BaseException) -> None:
        """Retry a task that an executor has lost, unless it cannot do any task."""
        if type(error).__name__ == "KilledWorker":  # Dask has tried it on several workers
            task.deaths = constants.MAX_DEATHS
        elif not self._has_replied:
            name = type(error).__name__
            text = f"the executor's workers cannot do lipexact's tasks: {name}: {error}"
            raise WorkerError(text) from error
        else:
            task.losses += 1
        self._retry(task, f"{type(error).__name__}: {error}")

    def _take_reply(self, task: _Task, kind: str, pickled: bytes, seconds: float) -> None:
        """Take a worker's reply: an outcome, or that it cannot do the task as it was sent."""
        if kind == UNFIT:
            raise WorkerError(pickle.loads(pickled))
        if kind == MISSING:
            task.with_context = True
            self._waiting.appendleft(task)
            return
        result = pickle.loads(pickled)
        value, error = (None, result) if kind == FAILED else (result, None)
        self._outbox.put(
            TaskOutcome(task.task_id, value, error, seconds, len(task.work), len(pickled))
        )

    def _retry(self, task: _Task, reason: str) -> None:
        """Hand a task out once more, unless that was tried often enough."""
        if task.deaths < constants.MAX_DEATHS and task.losses < constants.MAX_LOSSES:
            self._waiting.appendleft(task)
        else:
            error = WorkerError(f"the task was given up: {reason}")
            self._outbox.put(TaskOutcome(task.task_id, None, error))

    def _replace(self, slot: _Slot) -> None:
        """Start local processes in place of a broken executor, and hand its tasks out again."""
        self._slots.remove(slot)
        tasks = list(slot.sent.values())
        slot.sent.clear()
        if slot.local:
            self._end(slot)
            for task in tasks[:1]:  # the one that was being done
                task.deaths += 1
        for task in reversed(tasks):
            self._retry(task, f"workers died {task.deaths} times while they did it")
        self._start_processes(min(slot.workers, os.cpu_count() or 1))

    def _end(self, slot: _Slot) -> None:
        """End a local process, or cancel the tasks of an executor."""
        if not slot.local:
            for future in slot.sent:
                future.cancel()
        else:
            # A process that is still starting is left to end by itself: killed, it would leave
            # semaphores behind.
            slot.executor.shutdown(wait=slot.ready, kill_workers=slot.ready)  # type: ignore[call-arg]


def local_process() -> Executor:
    """Start a process of this machine: an executor of one worker."""
    from loky import ProcessPoolExecutor  # noqa: PLC0415 - its import takes time

    executor: Executor = ProcessPoolExecutor(
        max_workers=1, timeout=None, initializer=start_process, initargs=(os.getpid(),)
    )
    return executor


def worker_count(executor: Executor) -> int:
    """Return the number of workers that an executor says it has; 0 if it does not say."""
    with suppress(Exception):  # whatever it does to find out, the number is only a guess
        client = getattr(executor, "_client", None)
        if client is not None:  # an executor of dask.distributed
            return sum(client.nthreads().values())
        for name in ("num_workers", "_max_workers"):  # of mpi4py.futures; of all others
            count = getattr(executor, name, None)
            if isinstance(count, int) and count >= 1:
                return count
    return 0


def _is_closed(executor: Executor) -> bool:
    """Return True if the executor is one of Dask's, and its client is closed."""
    return getattr(getattr(executor, "_client", None), "status", None) in ("closing", "closed")
