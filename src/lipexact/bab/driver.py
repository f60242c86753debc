"""Branch and bound on the gates of a network: the search tree and the loop around it.

A node of the tree is a set of linear regions: those with some gates fixed. Branching takes the
first layer that has free gates, so that what these gates read is affine, and linear programs tell
which of them are free at all (:mod:`lipexact.bab.propagation`). One batch bounds the norms of many
nodes (:mod:`lipexact.bounds.crown_batched`). A leaf is a pattern without free gates: the norm of
its Jacobian is computed anew, and where it is larger than all before, exact arithmetic decides
whether the region exists. Nothing of this needs general position, or a norm that a program can
state.

Bhowmick, D'Souza and Raghavan, LipBaB (ICANN 2021), branch likewise.
"""

from __future__ import annotations

import heapq
import itertools
import pickle
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from lipexact.bab import constants
from lipexact.bab.expand import NodeExpander
from lipexact.bab.node import Expansion, SearchNode, merged
from lipexact.bab.tasks import (
    Subtree,
    SubtreeResult,
    SubtreeSearch,
    expand_subtree,
    pack,
    unpack,
)
from lipexact.errors import WorkerError
from lipexact.problem.problem import Problem
from lipexact.regions.affine import is_compact
from lipexact.result import Proof, Termination
from lipexact.state import Progress, SearchState, SearchTask, Trace
from lipexact.workers import WorkerPool


def fits(problems: Sequence[Problem]) -> bool:
    """Return whether the numbers of a single node of the tree fit into memory."""
    network = problems[0].network
    widths = [max(node.size for node in problem.graph.nodes) for problem in problems]
    return is_compact(network) and 2 * max(widths) ** 2 <= constants.MAX_COEFFICIENTS


def branch(state: SearchState, task: SearchTask) -> SearchState:
    """Tighten both bounds by branch and bound until they meet, or as far as time allows.

    Ctrl-C ends the search, too. With several processes the time that each takes decides which of
    several equally good regions is found; the constant is the same.

    Parameters
    ----------
    state
        Valid bounds to start from.
    task
        The formulations and when to stop. An executor's workers, or `threads` processes, expand
        subtrees after a second in this process alone.

    Returns
    -------
    SearchState
    """
    if not fits([each.problem for each in task.formulations]):
        told = "the network is too large for branch and bound: the bounds are those without it"
        return state.with_diagnostic("bab", told).stopped(Termination.LIMIT)
    start = time.perf_counter()
    with ExitStack() as stack:
        tree = _SearchTree(state, task)
        tree.run(stack)
        return tree.result().with_stats(tree_seconds=time.perf_counter() - start)


class _SearchTree:
    """The nodes to be expanded, and a state that holds as long as each region is in one, or closed.

    Parameters
    ----------
    state, task
        As for :func:`branch`.
    """

    def __init__(self, state: SearchState, task: SearchTask) -> None:
        self.task = task
        self.state = state
        self.expander = NodeExpander(
            task.formulations, state.incumbent, task.deadline, keep_trace=task.keep_trace
        )
        self.expander.target = task.rule.target or 0.0
        self.pool: WorkerPool | None = None
        self._start = time.perf_counter()
        self._last_report = 0.0
        self._sent: dict[int, list[SearchNode]] = {}  # to the pool
        self._worker_stats: dict[str, float] = {}
        self._heap: list[tuple[float, int, SearchNode]] = []
        self._numbers = itertools.count()
        self._closed_bound = 0.0  # the largest bound of what was closed or could not be decided
        self._traces: list[Trace] = []
        self._batch_size = self.expander.min_batch
        gates = self.expander.problem.network.relus
        node_bytes = constants.BYTES_PER_NODE + constants.BYTES_PER_GATE * gates
        self._max_nodes = constants.MAX_OPEN_BYTES // node_bytes

    def run(self, stack: ExitStack) -> None:
        """Expand nodes until the rule is met, nothing is left, or the time is up.

        An interrupted step leaves the upper bound of the step before.
        """
        threads = self.task.options.threads or 1
        wants_pool = self.task.executor is not None or threads > 1
        try:
            self._push(Expansion([self.expander.root(self.state.upper)], 0.0, self.state.incumbent))
            while self._is_open():
                elapsed = time.perf_counter() - self._start
                if self._is_stopped_by_callback(elapsed):
                    self.state = self.state.stopped(Termination.INTERRUPTED)
                    break
                if wants_pool and self._pool_is_worthwhile(elapsed):
                    wants_pool = False
                    self._start_pool(stack)
                self._step()
        except KeyboardInterrupt:
            self.state = self.state.stopped(Termination.INTERRUPTED)
        except MemoryError:
            told = "out of memory: the bounds are those before"
            self.state = self.state.with_diagnostic("bab", told).stopped(Termination.LIMIT)

    def result(self) -> SearchState:
        """Return the state at the end, with the region that an interrupted step may have found."""
        state = self.state.with_incumbent(self.expander.incumbent)
        state = replace(state, upper=max(state.upper, state.lower))
        if state.termination is Termination.OPTIMAL and not state.meets(self.task.rule):
            state = state.stopped(Termination.UNDECIDED)
        if self.task.keep_trace:
            state = replace(state, trace=merged(self._traces))
        return state.with_stats(**self._stats)

    @property
    def _stats(self) -> dict[str, float]:
        """What all processes did."""
        others = self._worker_stats
        return {name: value + others.get(name, 0) for name, value in self.expander.stats.items()}

    def _is_open(self) -> bool:
        """Return whether something is left to do, and time for it."""
        if not (self._heap or self._sent) or self.state.meets(self.task.rule):
            return False
        if time.perf_counter() > self.task.deadline:
            self.state = self.state.stopped(Termination.TIME_LIMIT)
            return False
        return True

    def _is_stopped_by_callback(self, elapsed: float) -> bool:
        """Report progress now and then; return whether the callback wants the search to end."""
        on_progress = self.task.on_progress
        if on_progress is None or elapsed - self._last_report <= constants.REPORT_SECONDS:
            return False
        self._last_report = elapsed
        nodes = int(self._stats["nodes"])
        return bool(on_progress(Progress(elapsed, self.state.lower, self.state.upper, nodes)))

    def _pool_is_worthwhile(self, elapsed: float) -> bool:
        """Return whether other processes should take part by now."""
        end = time.perf_counter() + constants.WORTHWHILE_SECONDS
        return elapsed > constants.ALONE_SECONDS and end < self.task.deadline

    def _start_pool(self, stack: ExitStack) -> None:
        """Let other workers take part; without them the search goes on alone."""
        search = pickle.dumps(SubtreeSearch(self.task.formulations, self.task.keep_trace))
        executor = self.task.executor
        try:
            self.pool = stack.enter_context(WorkerPool(search, executor, self.task.options.threads))
        except (OSError, RuntimeError, MemoryError, AssertionError) as error:
            told = f"no other processes could be started: {error}"
            self.state = self.state.with_diagnostic("workers", told)

    def _step(self) -> None:
        """Expand the nodes with the largest bounds, here or elsewhere."""
        if self.pool is None or not (self.pool.ready or not self._heap):
            self._push(self.expander.expand(self._pop(self._batch_size)))
            self._batch_size = min(2 * self._batch_size, self.expander.max_batch)
            return
        try:
            self._hand_out(self.pool)
            self._collect(self.pool)
        except WorkerError as error:
            told = f"the search went on alone: {error}"
            self.state = self.state.with_diagnostic("workers", told)
            self.pool = None
            for nodes in self._sent.values():
                self._keep(nodes)
            self._sent.clear()

    def _push(self, expansion: Expansion) -> None:
        """Take the children of an expansion, its trace, and its incumbent."""
        if expansion.trace:
            self._traces.append(expansion.trace)
        self._closed_bound = max(self._closed_bound, expansion.closed_bound)
        self._keep(expansion.children)
        state = self.state.with_incumbent(expansion.incumbent)
        top = -self._heap[0][0] if self._heap else 0.0
        sent = (node.bound for nodes in self._sent.values() for node in nodes)
        upper = max(top, max(sent, default=0.0), self._closed_bound, state.lower)
        self.state = state.with_upper(upper, Proof.FLOAT)

    def _pop(self, count: int) -> list[SearchNode]:
        """Return the nodes with the largest bounds."""
        return [heapq.heappop(self._heap)[2] for _ in range(min(count, len(self._heap)))]

    def _keep(self, nodes: Sequence[SearchNode]) -> None:
        """Add nodes to the heap."""
        for node in nodes:
            heapq.heappush(self._heap, (-node.bound, next(self._numbers), node))
        if len(self._heap) > self._max_nodes:
            self._forget_half()

    def _forget_half(self) -> None:
        """Give up the nodes with the smaller bounds to save memory.

        The largest bound among them is then the least upper bound that can be shown.
        """
        self._heap.sort()
        middle = len(self._heap) // 2
        self._closed_bound = max(self._closed_bound, -self._heap[middle][0])
        del self._heap[middle:]

    def _hand_out(self, pool: WorkerPool) -> None:
        """Send nodes with the largest bounds; those with smaller bounds than stay here come back.

        A task lasts as long as the caller needs to keep up with the tasks of all workers.
        """
        while self._heap and pool.room > 0:
            some_idle = pool.open < pool.workers
            share = len(self._heap) // max(constants.HANDS_PER_WORKER * pool.workers, 1)
            nodes = self._pop(min(max(share, 1), constants.MAX_HAND))
            floor = -self._heap[0][0] if self._heap else 0.0
            short = constants.SHORT_SLICE_SECONDS
            min_seconds = min(constants.TASK_SECONDS * pool.workers, short if some_idle else np.inf)
            slice_seconds = short
            if not some_idle:
                slice_seconds = max(constants.LONG_SLICE_SECONDS, 2 * min_seconds)
            left = self.task.deadline - time.perf_counter() - constants.DEADLINE_MARGIN_SECONDS
            number = next(self._numbers)
            self._sent[number] = nodes
            subtree = Subtree(
                batch=pack(nodes, self.expander.propagator.points),
                incumbent=self.expander.incumbent,
                target=self.expander.target,
                floor=floor,
                min_seconds=min_seconds,
                max_seconds=min(slice_seconds, left),
            )
            pool.submit(number, expand_subtree, subtree)

    def _collect(self, pool: WorkerPool) -> None:
        """Take the results that have come back; what failed elsewhere is expanded here."""
        for told in pool.wait(min(self.task.seconds_left, constants.REPORT_SECONDS)):
            nodes = self._sent.pop(told.task_id)
            if not isinstance(told.value, SubtreeResult):
                message = f"some nodes were expanded here: {told.error}"
                self.state = self.state.with_diagnostic("workers", message)
                self._push(self.expander.expand(nodes))
                continue
            result = told.value
            for name, value in result.stats.items():
                self._worker_stats[name] = self._worker_stats.get(name, 0) + value
            best = self.expander.incumbent
            better = result.expansion.incumbent
            if better is not None and (best is None or better.norm.lower > best.norm.lower):
                self.expander.local_search.incumbent = better
            children = unpack(result.batch, self.expander.propagator.points)
            incumbent = self.expander.incumbent
            self._push(replace(result.expansion, children=children, incumbent=incumbent))
