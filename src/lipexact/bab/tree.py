"""The exact maximum by branch and bound on the network's gates.

A node of the tree is a set of linear regions: those with some gates decided. The gates of the first layer that has open
ones are decided first, so that what they read is affine, and linear programs tell which of them are open at all
(:mod:`lipexact.bab.cells`). Bounds of the norm over many nodes come from one batch (:mod:`lipexact.bounds.batched`). A
leaf is a pattern without open gates: the norm of its Jacobian is computed anew, and where it is larger than all before,
the region is decided exactly. Nothing of this needs general position, or a norm that a program can state.

Bhowmick, D'Souza and Raghavan, LipBaB (ICANN 2021), branch likewise.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from lipexact.bab.explore import Explorer, Node, Outcome, Step, Trace
from lipexact.bounds.interval import Bounds
from lipexact.bracket import UNDECIDED, Bracket, Goal, Progress, ProgressCallback, Termination
from lipexact.primal import Found
from lipexact.problem import Problem
from lipexact.regions import has_forms

if TYPE_CHECKING:
    from lipexact.bab.workers import Workers

_MOST_NUMBERS = 2**24  # coefficients of a node's bounds
_MOST_BYTES = 2**31  # of all open nodes together, about
_NODE_BYTES = 1000, 6  # of a node, and for each of its gates
_HEARTBEAT = 0.5  # seconds between two reports
_ALONE = 1.0  # seconds before other processes are started: they take about as long to start,
_WORTH = 5.0  # and so many must be left to make that worth while


def fits(problems: Sequence[Problem]) -> bool:
    """Whether the numbers for a single node of the tree fit into memory."""
    network = problems[0].network
    sizes = [max(node.size for node in problem.graph.nodes) for problem in problems]
    return has_forms(network) and 2 * max(sizes) ** 2 <= _MOST_NUMBERS


def branch(
    problems: Sequence[Problem],
    bounds: Sequence[Bounds],
    bracket: Bracket,
    goal: Goal,
    *,
    deadline: float,
    workers: int = 1,
    on_progress: ProgressCallback | None = None,
    trace: Trace | None = None,
) -> None:
    """Narrow a bracket by branch and bound until it is closed, or as far as the time allows.

    Parameters
    ----------
    problems, bounds
        One question in one mode, or both, and bounds of every node of their graphs.
    bracket
        Valid bounds to start from; they are narrowed.
    goal
        When to stop.
    deadline
        A time of `time.perf_counter`, or infinity.
    workers
        How many processes take part, this one included. With more than one, the time that they take to start decides
        which of several equally good regions is found; the constant is the same.
    on_progress
        Called now and then with both bounds; True stops the search. So does ctrl-C.
    trace
        Filled with how the nodes were split, for a certificate.
    """
    if not fits(problems):
        bracket.termination = Termination.LIMIT.value
        bracket.stats["message"] = "the network is too large for branch and bound: the bounds are those without it"
        return
    start = time.perf_counter()
    explorer = Explorer(problems, bounds, bracket.found, deadline, traced=trace is not None)
    explorer.target = goal.target or 0.0
    with ExitStack() as stack:
        tree = _Tree(explorer, bracket, goal, {} if trace is None else trace)
        try:
            tree.push(Outcome([explorer.root(bracket.upper)], 0.0, bracket.found))
            while tree.open(deadline):
                now = time.perf_counter() - start
                if on_progress is not None and tree.reported(now, on_progress):
                    break
                late = time.perf_counter() + _WORTH > deadline
                if tree.workers is None and workers > 1 and now > _ALONE and not late:
                    from lipexact.bab.workers import Workers  # noqa: PLC0415 - loky takes its time to import

                    try:
                        others = Workers(workers - 1, problems, bounds, traced=trace is not None)
                    except (OSError, RuntimeError, MemoryError) as error:  # no processes, threads or semaphores left
                        workers, bracket.stats["message"] = 1, f"no other processes could be started: {error}"
                    else:
                        tree.workers = stack.enter_context(others)
                tree.turn(deadline)
        except KeyboardInterrupt:  # the upper bound is that before the turn that was interrupted
            bracket.termination = Termination.INTERRUPTED.value
        except MemoryError:  # likewise
            bracket.termination = Termination.LIMIT.value
            bracket.stats["message"] = "out of memory: the bounds are those before"
        tree.close()
    bracket.stats["tree_seconds"] = time.perf_counter() - start


class _Tree:
    """The nodes that are still to be looked at, and the bracket that holds while every region is in one, or passed."""

    def __init__(self, explorer: Explorer, bracket: Bracket, goal: Goal, trace: Trace) -> None:
        self.explorer, self.bracket, self.goal, self.trace = explorer, bracket, goal, trace
        self.workers: Workers | None = None
        self._heap: list[tuple[float, int, Node]] = []
        self._numbers = itertools.count()
        self._passed = 0.0  # the largest bound of what was left out, or could not be decided
        self._size = explorer.least
        self._heard = 0.0
        self._most = _MOST_BYTES // (_NODE_BYTES[0] + _NODE_BYTES[1] * explorer.problem.network.relus)

    def open(self, deadline: float) -> bool:
        """Whether there is something left to do, and time for it."""
        if not self._heap or self.goal.reached(self.bracket.lower, self.bracket.upper):
            return False
        if time.perf_counter() > deadline:
            self.bracket.termination = Termination.TIME_LIMIT.value
            return False
        return True

    def turn(self, deadline: float) -> None:
        """Look at the nodes with the largest bounds."""
        helpers = self.workers if self.workers is not None and self.workers.ready else None
        size = self._size * (1 if helpers is None else helpers.count + 1)
        batch = [heapq.heappop(self._heap)[2] for _ in range(min(size, len(self._heap)))]
        if helpers is None:
            self.push(self.explorer.explore(batch))
        else:
            self.push(helpers.explore(self.explorer, batch, deadline - time.perf_counter()))
        self._size = min(2 * self._size, self.explorer.most)

    def push(self, outcome: Outcome) -> None:
        """Take what is left of nodes, and what was found."""
        for node in outcome.children:
            heapq.heappush(self._heap, (-node.bound, next(self._numbers), node))
        for decisions, step in outcome.trace.items():
            before = self.trace.get(decisions, Step()).deductions  # of an earlier turn, which left the node whole
            self.trace[decisions] = replace(step, deductions=before + step.deductions)
        self._passed = max(self._passed, outcome.passed)
        if len(self._heap) > self._most:
            self._forget()
        bracket = self.bracket
        self._take(outcome.found)
        top = -self._heap[0][0] if self._heap else 0.0
        bracket.upper = min(bracket.upper, max(top, self._passed, bracket.lower))

    def _forget(self) -> None:
        """Give up the half with the smaller bounds, of which the largest one is then the least that can be shown."""
        self._heap.sort()
        middle = len(self._heap) // 2
        self._passed = max(self._passed, -self._heap[middle][0])
        del self._heap[middle:]

    def _take(self, found: Found | None) -> None:
        if found is not None:
            self.bracket.found = found
            self.bracket.lower = max(self.bracket.lower, found.norm.lower)

    def reported(self, now: float, on_progress: ProgressCallback) -> bool:
        """Whether the callback, which is called now and then, wants the search to end."""
        if now - self._heard <= _HEARTBEAT:
            return False
        self._heard = now
        nodes = int(self.stats["nodes"])
        if not on_progress(Progress(now, self.bracket.lower, self.bracket.upper, nodes)):
            return False
        self.bracket.termination = Termination.INTERRUPTED.value
        return True

    @property
    def stats(self) -> dict[str, float]:
        """What all processes did."""
        own, others = self.explorer.stats, {} if self.workers is None else self.workers.stats
        return {name: value + others.get(name, 0) for name, value in own.items()}

    def close(self) -> None:
        """Write down how the search ended, with what a turn had found that was interrupted."""
        bracket = self.bracket
        self._take(self.explorer.sampling.best)
        bracket.upper = max(bracket.upper, bracket.lower)
        ended = bracket.termination == Termination.OPTIMAL.value
        if ended and not self.goal.reached(bracket.lower, bracket.upper):
            bracket.termination = UNDECIDED
        bracket.stats |= self.stats
