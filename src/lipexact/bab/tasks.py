"""Parts of the search tree that other workers expand.

A task is some nodes, with the best region so far; its result is what is left of them after a while.
Between two tasks a worker keeps nothing that bounds depend on, so that any worker can do any task,
and do it again. It keeps only which bounds have been the smallest lately, which saves a fifth of
its time.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np

from lipexact.bab import constants
from lipexact.bab.expand import NodeExpander
from lipexact.bab.node import Expansion, SearchNode, merged
from lipexact.bab.propagation import Points
from lipexact.bounds.formulation import Formulation
from lipexact.numerics.arrays import Vector
from lipexact.regions.heuristics import Incumbent
from lipexact.state import Trace


@dataclass(frozen=True, eq=False)
class NodeBatch:
    """Nodes on their way to another process, with their points: indices are into `points`."""

    nodes: list[SearchNode]
    points: Vector


def pack(nodes: Sequence[SearchNode], pool: Points) -> NodeBatch:
    """Return nodes to be sent, each with the last few of its points."""
    most = max(constants.MAX_SENT_NUMBERS // pool.dim, 2)
    known = np.zeros(0, dtype=np.int32)
    if nodes:
        known = np.unique(np.concatenate([node.points[-most:] for node in nodes]))
    sent = []
    for node in nodes:
        indices = np.searchsorted(known, node.points[-most:]).astype(np.int32)
        sent.append(replace(node, points=indices))
    return NodeBatch(sent, pool.of(known))


def unpack(batch: NodeBatch, pool: Points) -> list[SearchNode]:
    """Return received nodes, with their points in this process's own pool unless it is full."""
    names = np.zeros(0, dtype=np.int32)
    if not pool.full and len(batch.points):
        names = pool.add(batch.points)
    return [
        replace(node, points=names[node.points[node.points < names.size]]) for node in batch.nodes
    ]


@dataclass(frozen=True, eq=False)
class Subtree:
    """A task.

    Attributes
    ----------
    batch
        The nodes to begin with.
    incumbent
        The best region so far.
    target
        As for :class:`.NodeExpander`.
    floor
        Nodes with bounds up to this can wait, as others elsewhere have larger ones.
    min_seconds, max_seconds
        Before the first the floor does not count, as sending nodes back would cost more; after the
        second the task ends.
    """

    batch: NodeBatch
    incumbent: Incumbent | None
    target: float
    floor: float
    min_seconds: float
    max_seconds: float


@dataclass(frozen=True, eq=False)
class SubtreeResult:
    """What became of a subtree: the nodes that are left are in `batch`, not in `expansion`."""

    expansion: Expansion
    batch: NodeBatch
    stats: dict[str, float]


@dataclass(eq=False)
class SubtreeSearch:
    """What all subtrees of one search share: arguments of :class:`.NodeExpander`."""

    formulations: Sequence[Formulation]
    keep_trace: bool
    _idle: list[NodeExpander] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def __reduce__(self) -> tuple[type[SubtreeSearch], tuple[Sequence[Formulation], bool]]:
        return SubtreeSearch, (self.formulations, self.keep_trace)

    def expand(self, task: Subtree) -> SubtreeResult:
        """Expand nodes for some time, those with the largest bounds first."""
        with self._lock:  # some workers are threads of one process
            expander = self._idle.pop() if self._idle else None
        start = time.perf_counter()
        if expander is None:
            keep_trace = self.keep_trace
            expander = NodeExpander(self.formulations, None, np.inf, keep_trace=keep_trace)
        expander.propagator.forget()
        before = expander.stats
        expander.local_search.incumbent = task.incumbent
        expander.local_search.deadline = start + task.max_seconds
        expander.target = task.target
        nodes = unpack(task.batch, expander.propagator.points)
        expansion = _expand_for_a_while(expander, nodes, task, start)
        batch = pack(expansion.children, expander.propagator.points)
        stats = {name: value - before[name] for name, value in expander.stats.items()}
        with self._lock:
            self._idle.append(expander)
        return SubtreeResult(replace(expansion, children=[]), batch, stats)


def _expand_for_a_while(
    expander: NodeExpander, nodes: list[SearchNode], task: Subtree, start: float
) -> Expansion:
    """Expand the nodes with the largest bounds until the task's time is up."""
    numbers = itertools.count()
    heap = [(-node.bound, next(numbers), node) for node in nodes]
    heapq.heapify(heap)
    closed_bound = 0.0
    traces: list[Trace] = []
    size = min(max(expander.min_batch, len(nodes)), expander.max_batch)
    spent = 0.0
    while spent <= max(task.max_seconds, 0.0):
        floor = task.floor if spent >= task.min_seconds else 0.0
        batch: list[SearchNode] = []
        while heap and -heap[0][0] > floor and len(batch) < size:
            batch.append(heapq.heappop(heap)[2])
        if not batch:
            break
        expansion = expander.expand(batch)
        for child in expansion.children:
            heapq.heappush(heap, (-child.bound, next(numbers), child))
        closed_bound = max(closed_bound, expansion.closed_bound)
        traces.append(expansion.trace)
        size = min(2 * size, expander.max_batch)
        spent = time.perf_counter() - start
    left = [node for _, _, node in heap]
    return Expansion(left, closed_bound, expander.incumbent, merged(traces))


def expand_subtree(search: SubtreeSearch, task: Subtree) -> SubtreeResult:
    """Expand a subtree in a worker, which is sent functions and not methods."""
    return search.expand(task)
