"""The exact maximum by branch and bound on the network's gates.

A node of the tree is a set of linear regions: those with some gates decided. The gates of the first layer that has open
ones are decided first, so that what they read is affine, and linear programs tell which of them are open at all
(:mod:`lipexact.bab.propagation`). Bounds of the norm over many nodes come from one batch (:mod:`lipexact.bounds.crown_batched`). A
leaf is a pattern without open gates: the norm of its Jacobian is computed anew, and where it is larger than all before,
the region is decided exactly. Nothing of this needs general position, or a norm that a program can state.

Bhowmick, D'Souza and Raghavan, LipBaB (ICANN 2021), branch likewise.
"""

from __future__ import annotations

import heapq
import itertools
import pickle
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack

import numpy as np

from lipexact.bab.expand import Expansion, NodeExpander, SearchNode, Trace, merge
from lipexact.bab.tasks import Subtree, SubtreeResult, SubtreeSearch, expand_subtree, pack, unpack
from lipexact.bounds.interval import Bounds
from lipexact.errors import WorkerError
from lipexact.problem.problem import Problem
from lipexact.regions.affine import is_compact
from lipexact.regions.heuristics import Incumbent
from lipexact.state import (
    UNDECIDED,
    Progress,
    ProgressCallback,
    SearchState,
    StoppingRule,
    Termination,
)
from lipexact.workers import WorkerPool

_MOST_NUMBERS = 2**24  # coefficients of a node's bounds
_MOST_BYTES = 2**31  # of all open nodes together, about
_NODE_BYTES = 1000, 6  # of a node, and for each of its gates
_HEARTBEAT = 0.5  # seconds between two reports
_ALONE = 1.0  # seconds before other workers take part: processes take about as long to start,
_WORTH = 5.0  # and so many must be left to make that worth while
_SLICES = (
    0.1,
    2.0,
)  # seconds that a worker looks at a subtree: while others have nothing to do, and else
_HAND, _SHARE = (
    128,
    2,
)  # nodes that a worker is dealt, at most, and how many times all workers' hands there should be
_COST = 0.005  # seconds of the caller's that a task takes, about
_MARGIN = 0.2  # seconds before the deadline at which workers stop


def fits(problems: Sequence[Problem]) -> bool:
    """Whether the numbers for a single node of the tree fit into memory."""
    network = problems[0].network
    sizes = [max(node.size for node in problem.graph.nodes) for problem in problems]
    return is_compact(network) and 2 * max(sizes) ** 2 <= _MOST_NUMBERS


def branch(
    problems: Sequence[Problem],
    bounds: Sequence[Bounds],
    bracket: SearchState,
    goal: StoppingRule,
    *,
    deadline: float,
    executor: Executor | None = None,
    workers: int | None = None,
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
    executor
        Whose workers look at subtrees, after a second in this process alone.
    workers
        How many it has, None to ask it; without an executor, how many processes share the tree, if more than one. The
        time that each takes decides which of several equally good regions is found; the constant is the same.
    on_progress
        Called now and then with both bounds; True stops the search. So does ctrl-C.
    trace
        Filled with how the nodes were split, for a certificate.
    """
    if not fits(problems):
        bracket.termination = Termination.LIMIT.value
        bracket.stats["message"] = (
            "the network is too large for branch and bound: the bounds are those without it"
        )
        return
    start = time.perf_counter()
    traced = trace is not None
    explorer = NodeExpander(problems, bounds, bracket.incumbent, deadline, traced=traced)
    explorer.target = goal.target or 0.0
    shared = executor is not None or (workers or 1) > 1
    with ExitStack() as stack:
        tree = _SearchTree(explorer, bracket, goal, {} if trace is None else trace)
        try:
            tree.push(Expansion([explorer.root(bracket.upper)], 0.0, bracket.incumbent))
            while tree.open(deadline):
                now = time.perf_counter() - start
                if on_progress is not None and tree.reported(now, on_progress):
                    break
                if shared and now > _ALONE and time.perf_counter() + _WORTH < deadline:
                    shared, search = False, pickle.dumps(SubtreeSearch(problems, bounds, traced))
                    try:
                        tree.crew = stack.enter_context(WorkerPool(search, executor, workers))
                    except (
                        OSError,
                        RuntimeError,
                        MemoryError,
                        AssertionError,
                    ) as error:  # none left, or none allowed
                        bracket.stats["message"] = f"no other processes could be started: {error}"
                tree.step(deadline)
        except KeyboardInterrupt:  # the upper bound is that before the turn that was interrupted
            bracket.termination = Termination.INTERRUPTED.value
        except MemoryError:  # likewise
            bracket.termination = Termination.LIMIT.value
            bracket.stats["message"] = "out of memory: the bounds are those before"
        tree.close()
    bracket.stats["tree_seconds"] = time.perf_counter() - start


class _SearchTree:
    """The nodes that are still to be looked at, and the bracket that holds while every region is in one, or passed."""

    def __init__(
        self, explorer: NodeExpander, bracket: SearchState, goal: StoppingRule, trace: Trace
    ) -> None:
        self.explorer, self.bracket, self.goal, self.trace = explorer, bracket, goal, trace
        self.crew: WorkerPool | None = None
        self._sent: dict[int, list[SearchNode]] = {}  # to the crew
        self._others: dict[str, float] = {}  # what workers did
        self._heap: list[tuple[float, int, SearchNode]] = []
        self._numbers = itertools.count()
        self._passed = 0.0  # the largest bound of what was left out, or could not be decided
        self._size = explorer.least
        self._heard = 0.0
        self._most = _MOST_BYTES // (
            _NODE_BYTES[0] + _NODE_BYTES[1] * explorer.problem.network.relus
        )

    def open(self, deadline: float) -> bool:
        """Whether there is something left to do, and time for it."""
        if not (self._heap or self._sent) or self.goal.is_met(
            self.bracket.lower, self.bracket.upper
        ):
            return False
        if time.perf_counter() > deadline:
            self.bracket.termination = Termination.TIME_LIMIT.value
            return False
        return True

    def step(self, deadline: float) -> None:
        """Look at the nodes with the largest bounds, or have others look at them."""
        if self.crew is not None and (self.crew.ready or not self._heap):
            try:
                self._hand_out(self.crew, deadline)
                self._collect(self.crew, deadline)
            except WorkerError as error:
                self.bracket.stats["message"] = f"the search went on alone: {error}"
                self.crew = None
                for nodes in self._sent.values():
                    self._keep(nodes)
                self._sent.clear()
            return
        self.push(self.explorer.expand(self._pop(self._size)))
        self._size = min(2 * self._size, self.explorer.most)

    def _pop(self, count: int) -> list[SearchNode]:
        return [heapq.heappop(self._heap)[2] for _ in range(min(count, len(self._heap)))]

    def _keep(self, nodes: Sequence[SearchNode]) -> None:
        for node in nodes:
            heapq.heappush(self._heap, (-node.bound, next(self._numbers), node))
        if len(self._heap) > self._most:
            self._forget()

    def _hand_out(self, crew: WorkerPool, deadline: float) -> None:
        """Deal out the nodes with the largest bounds; what has smaller ones than are left here shall come back."""
        best = self.explorer.sampling.best
        while self._heap and crew.room > 0:
            few = crew.open < crew.workers  # some have nothing to do: many nodes are wanted soon
            nodes = self._pop(min(max(len(self._heap) // max(_SHARE * crew.workers, 1), 1), _HAND))
            floor = -self._heap[0][0] if self._heap else 0.0
            # So that the caller can keep up with all workers' tasks.
            least = min(_COST * crew.workers, _SLICES[0] if few else np.inf)
            most = min(
                _SLICES[0] if few else max(_SLICES[1], 2 * least),
                deadline - time.perf_counter() - _MARGIN,
            )
            packet = pack(nodes, self.explorer.cells.points)
            number = next(self._numbers)
            self._sent[number] = nodes
            crew.submit(
                number,
                expand_subtree,
                Subtree(packet, best, self.explorer.target, floor, least, most),
            )

    def _collect(self, crew: WorkerPool, deadline: float) -> None:
        for told in crew.wait(min(max(deadline - time.perf_counter(), 0.0), _HEARTBEAT)):
            nodes = self._sent.pop(told.task_id)
            if not isinstance(told.value, SubtreeResult):  # it could not be done elsewhere
                self.bracket.stats["message"] = f"some nodes were looked at here: {told.error}"
                self.push(self.explorer.expand(nodes))
                continue
            answer, best = told.value, self.explorer.sampling.best
            for name, value in answer.stats.items():
                self._others[name] = self._others.get(name, 0) + value
            found = answer.outcome.incumbent
            if found is not None and (best is None or found.norm.lower > best.norm.lower):
                self.explorer.sampling.best = found
            answer.outcome.incumbent = self.explorer.sampling.best
            answer.outcome.children = unpack(answer.packet, self.explorer.cells.points)
            self.push(answer.outcome)

    def push(self, outcome: Expansion) -> None:
        """Take what is left of nodes, and what was found."""
        merge(self.trace, outcome.trace)
        self._passed = max(self._passed, outcome.passed)
        self._keep(outcome.children)
        bracket = self.bracket
        self._take(outcome.incumbent)
        top = -self._heap[0][0] if self._heap else 0.0
        away = max((node.bound for nodes in self._sent.values() for node in nodes), default=0.0)
        bracket.upper = min(bracket.upper, max(top, away, self._passed, bracket.lower))

    def _forget(self) -> None:
        """Give up the half with the smaller bounds, of which the largest one is then the least that can be shown."""
        self._heap.sort()
        middle = len(self._heap) // 2
        self._passed = max(self._passed, -self._heap[middle][0])
        del self._heap[middle:]

    def _take(self, found: Incumbent | None) -> None:
        if found is not None:
            self.bracket.incumbent = found
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
        return {
            name: value + self._others.get(name, 0) for name, value in self.explorer.stats.items()
        }

    def close(self) -> None:
        """Write down how the search ended, with what a turn had found that was interrupted."""
        bracket = self.bracket
        self._take(self.explorer.sampling.best)
        bracket.upper = max(bracket.upper, bracket.lower)
        ended = bracket.termination == Termination.OPTIMAL.value
        if ended and not self.goal.is_met(bracket.lower, bracket.upper):
            bracket.termination = UNDECIDED
        bracket.stats |= self.stats
