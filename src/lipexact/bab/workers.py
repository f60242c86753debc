"""Turns of branch and bound in other processes.

Python's threads share one interpreter, and most of a turn is Python. Loky's processes need no guard in the caller's
script, unlike those of the standard library.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import numpy as np
from loky import ProcessPoolExecutor
from threadpoolctl import threadpool_limits
from typing_extensions import Self

from lipexact.arrays import Vector
from lipexact.bab.cells import Indices, Points
from lipexact.bab.explore import Explorer, Node, Outcome
from lipexact.bounds.interval import Bounds
from lipexact.primal import Found
from lipexact.problem import Problem

_GRACE = 30.0  # seconds past the deadline after which a process is given up: a turn is shorter, unless it hangs

_explorer: Explorer | None = None  # of a worker's process


@dataclass(frozen=True, eq=False)
class _Answer:
    """An outcome whose nodes have indices into the points that were sent, and then the new ones."""

    outcome: Outcome
    points: Vector
    stats: dict[str, float]


def _start(problems: Sequence[Problem], bounds: Sequence[Bounds], traced: bool, caller: int) -> None:
    """Make a process ready: ctrl-C is the caller's to handle."""
    global _explorer  # noqa: PLW0603 - a process has one
    if caller != os.getpid():
        threading.Thread(target=_end_with, args=(caller,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
    _explorer = Explorer(problems, bounds, None, np.inf, traced=traced)


def _end_with(caller: int) -> None:
    """End this process when the one that it works for has: killed, that says no word."""
    while os.getppid() == caller:
        time.sleep(1.0)
    os._exit(1)


def _explored(batch: list[Node], points: Vector, found: Found | None, target: float, seconds: float) -> _Answer:
    """A turn, in a worker's process."""
    assert _explorer is not None
    before, _explorer.target = _explorer.stats, target
    _explorer.sampling.best, _explorer.sampling.deadline = found, time.perf_counter() + seconds
    _explorer.cells.points = Points(_explorer.problem.network)
    _explorer.cells.points.add(points)
    outcome = _explorer.explore(batch)
    new = _explorer.cells.points.of(np.arange(len(points), _explorer.cells.points.count, dtype=np.int32))
    return _Answer(outcome, new, {name: value - before[name] for name, value in _explorer.stats.items()})


def _ready() -> bool:
    return _explorer is not None


class Workers:
    """Processes that explore nodes beside the caller's own explorer.

    Parameters
    ----------
    count
        How many.
    problems, bounds, traced
        As for :class:`.Explorer`.
    """

    def __init__(
        self, count: int, problems: Sequence[Problem], bounds: Sequence[Bounds], *, traced: bool = False
    ) -> None:
        self.count = count
        self.stats: dict[str, float] = {}
        self._pool = ProcessPoolExecutor(
            max_workers=count, timeout=None, initializer=_start, initargs=(problems, bounds, traced, os.getpid())
        )
        self._first = [self._pool.submit(_ready) for _ in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Who is still starting is left to end by itself: killed, it would leave semaphores behind, and a warning.
        started = all(each.done() for each in self._first)
        self._pool.shutdown(wait=started, kill_workers=started)

    @property
    def ready(self) -> bool:
        """Whether they have started; False for good once one has died."""
        return bool(self._first) and all(each.done() and each.exception() is None for each in self._first)

    def explore(self, explorer: Explorer, batch: Sequence[Node], seconds: float) -> Outcome:
        """A turn of all together: nodes are dealt out like cards, and the first hand is the explorer's own."""
        hands = [list(batch[k :: self.count + 1]) for k in range(self.count + 1)]
        pool, sent = explorer.cells.points, []
        for hand in hands[1:]:
            if hand:
                known = np.unique(np.concatenate([node.points for node in hand]))
                nodes = [replace(node, points=_positions(known, node.points)) for node in hand]
                task = nodes, pool.of(known), explorer.sampling.best, explorer.target, seconds
                sent.append((hand, known, self._sent(*task)))
        end = time.perf_counter() + max(seconds, 0.0) + _GRACE
        total = explorer.explore(hands[0])
        for hand, known, answer in sent:
            left = end - time.perf_counter()
            self._add(total, explorer, hand, known, answer, None if np.isinf(left) else max(left, 0.0))
        return total

    def _sent(self, *task: Any) -> Future[_Answer]:
        """The answer to come; where a process has died since the last turn, it is that."""
        answer: Future[_Answer] = Future()
        try:
            answer = self._pool.submit(_explored, *task)
        except Exception as error:  # noqa: BLE001 - whatever the pool has to say
            answer.set_exception(error)
        return answer

    def _add(
        self,
        total: Outcome,
        explorer: Explorer,
        hand: list[Node],
        known: Indices,
        answer: Future[_Answer],
        patience: float | None,
    ) -> None:
        try:
            told = answer.result(patience)
        except Exception:  # noqa: BLE001 - a process that has died, or hangs: its nodes are still here
            self._first = []
            outcome = explorer.explore(hand)
        else:
            outcome, pool = told.outcome, explorer.cells.points
            names = known if pool.full else np.append(known, pool.add(told.points))
            for node in outcome.children:
                node.points = names[node.points[node.points < names.size]]
            for name, value in told.stats.items():
                self.stats[name] = self.stats.get(name, 0) + value
        total.children += outcome.children
        total.trace |= outcome.trace
        total.passed = max(total.passed, outcome.passed)
        best = explorer.sampling.best
        if outcome.found is not None and (best is None or outcome.found.norm.lower > best.norm.lower):
            explorer.sampling.best = outcome.found
        total.found = explorer.sampling.best


def _positions(known: Indices, points: Indices) -> Indices:
    return np.searchsorted(known, points).astype(np.int32)
