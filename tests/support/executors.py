"""Executors in this process, for tests of what is sent and what comes back."""

from __future__ import annotations

import itertools
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import (
    CancelledError,
    Executor,
    Future,
)
from typing import Any

import pytest

from lipexact.workers import worker


class CopyingWorkers(Executor):
    """Workers in this process that see copies alone, and each remember for themselves.

    Parameters
    ----------
    workers
        How many, which take turns.
    fault
        What becomes of a sending, by its number, in place of a result.
    refusal
        Likewise, at once.
    """

    def __init__(
        self,
        workers: int = 1,
        fault: Callable[[int], BaseException | None] = lambda _: None,
        refusal: Callable[[int], BaseException | None] = lambda _: None,
    ) -> None:
        self._max_workers, self.fault, self.refusal = workers, fault, refusal
        self.memories: list[OrderedDict[str, Any]] = [OrderedDict() for _ in range(workers)]
        self.next: Iterator[int] = itertools.cycle(range(workers))
        self.shared: list[int] = []  # bytes of what tasks share that came with each sending

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        number, future = len(self.shared), Future[Any]()
        self.shared.append(len(arguments[1] or b""))
        if (error := self.refusal(number)) is not None:
            raise error
        if (error := self.fault(number)) is None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(worker, "_contexts", self.memories[next(self.next)])
                value = function(*pickle.loads(pickle.dumps(arguments)))
            future.set_result(pickle.loads(pickle.dumps(value)))
        elif isinstance(error, CancelledError):
            future.cancel()
        else:
            future.set_exception(error)
        return future


class Held(Executor):
    """Does nothing."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        self.futures.append(Future())
        return self.futures[-1]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False, **_: Any) -> None:
        pass


class PickledTasks(Executor):
    """Tasks in this process, in the order that the test likes, of what was pickled."""

    _max_workers = 1

    def __init__(self, pick: Callable[[int], int] = lambda count: 0, hold: int = 1) -> None:
        self.pick, self.hold = pick, hold
        self.sent: list[int] = []
        self._tasks: list[tuple[Future[Any], tuple[Any, ...]]] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        packed = pickle.dumps(arguments)
        self.sent.append(len(packed))
        future: Future[Any] = Future()
        self._tasks.append((future, (function, packed)))
        while len(self._tasks) >= self.hold:
            self.do()
        return future

    def do(self) -> None:
        future, (function, packed) = self._tasks.pop(self.pick(len(self._tasks)))
        future.set_result(function(*pickle.loads(packed)))
