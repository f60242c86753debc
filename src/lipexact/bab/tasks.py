"""Parts of the tree that other workers look at.

A task is some nodes, with the best region so far; its answer is what is left of them after a while. Between two tasks a
worker keeps nothing that it would need, or that bounds depend on, so that any worker can do any task, and do it again:
only which bounds have been the smallest of late, as that saves it a fifth of its time.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np

from lipexact.bab.expand import Expansion, NodeExpander, SearchNode, merge
from lipexact.bab.propagation import Points
from lipexact.bounds.interval import Bounds
from lipexact.numerics.arrays import Vector
from lipexact.problem.problem import Problem
from lipexact.regions.heuristics import Incumbent

_MOST_NUMBERS = 2**13  # coordinates of points that go with a node


@dataclass(frozen=True, eq=False)
class NodeBatch:
    """Nodes on their way to another process, with their points: indices are into `points`."""

    nodes: list[SearchNode]
    points: Vector


def pack(nodes: Sequence[SearchNode], pool: Points) -> NodeBatch:
    """Nodes with what few of their points show."""
    most = max(_MOST_NUMBERS // pool.dim, 2)
    known = (
        np.unique(np.concatenate([node.points[-most:] for node in nodes]))
        if nodes
        else np.zeros(0, dtype=np.int32)
    )
    sent = [
        replace(each, points=np.searchsorted(known, each.points[-most:]).astype(np.int32))
        for each in nodes
    ]
    return NodeBatch(sent, pool.of(known))


def unpack(packet: NodeBatch, pool: Points) -> list[SearchNode]:
    """The nodes, with their points in this process's own pool, unless that is full."""
    names = (
        np.zeros(0, dtype=np.int32)
        if pool.full or not len(packet.points)
        else pool.add(packet.points)
    )
    return [
        replace(node, points=names[node.points[node.points < names.size]]) for node in packet.nodes
    ]


@dataclass(frozen=True, eq=False)
class Subtree:
    """A task.

    Attributes
    ----------
    packet
        The nodes to begin with.
    found
        The best region so far.
    target
        As for :class:`.NodeExpander`.
    floor
        Nodes with bounds up to this can wait, as others elsewhere have larger ones.
    least, most
        Seconds: before the first the floor is none, as sending nodes back would cost more; after the second it ends.
    """

    packet: NodeBatch
    incumbent: Incumbent | None
    target: float
    floor: float
    least: float
    most: float


@dataclass(frozen=True, eq=False)
class SubtreeResult:
    """What became of a subtree: `outcome` has no children but those in the packet."""

    outcome: Expansion
    packet: NodeBatch
    stats: dict[str, float]


@dataclass(eq=False)
class SubtreeSearch:
    """What all subtrees of one search are parts of: arguments of :class:`.NodeExpander`."""

    problems: Sequence[Problem]
    bounds: Sequence[Bounds]
    traced: bool
    _idle: list[NodeExpander] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def __reduce__(
        self,
    ) -> tuple[type[SubtreeSearch], tuple[Sequence[Problem], Sequence[Bounds], bool]]:
        return SubtreeSearch, (self.problems, self.bounds, self.traced)

    def expand(self, task: Subtree) -> SubtreeResult:
        """Look at nodes, those with the largest bounds first, for some time."""
        with self._lock:  # some workers are threads of one process
            explorer = self._idle.pop() if self._idle else None
        start = time.perf_counter()
        if explorer is None:
            explorer = NodeExpander(self.problems, self.bounds, None, np.inf, traced=self.traced)
        explorer.cells.forget()
        before, end = explorer.stats, start + task.most
        explorer.sampling.best, explorer.sampling.deadline, explorer.target = (
            task.incumbent,
            end,
            task.target,
        )
        outcome, left = _expand_for_a_while(
            explorer, unpack(task.packet, explorer.cells.points), task, start
        )
        packet = pack(left, explorer.cells.points)
        stats = {name: value - before[name] for name, value in explorer.stats.items()}
        with self._lock:
            self._idle.append(explorer)
        return SubtreeResult(outcome, packet, stats)


def _expand_for_a_while(
    explorer: NodeExpander, nodes: list[SearchNode], task: Subtree, start: float
) -> tuple[Expansion, list[SearchNode]]:
    total, numbers = Expansion([], 0.0, None), itertools.count()
    heap = [(-node.bound, next(numbers), node) for node in nodes]
    heapq.heapify(heap)
    size, spent = min(max(explorer.least, len(nodes)), explorer.most), 0.0
    while spent <= max(task.most, 0.0):
        floor, batch = task.floor if spent >= task.least else 0.0, list[SearchNode]()
        while heap and -heap[0][0] > floor and len(batch) < size:
            batch.append(heapq.heappop(heap)[2])
        if not batch:
            break
        outcome = explorer.expand(batch)
        for child in outcome.children:
            heapq.heappush(heap, (-child.bound, next(numbers), child))
        total.passed = max(total.passed, outcome.passed)
        merge(total.trace, outcome.trace)
        size, spent = min(2 * size, explorer.most), time.perf_counter() - start
    total.incumbent = explorer.sampling.best
    return total, [node for _, _, node in heap]


def expand_subtree(search: SubtreeSearch, task: Subtree) -> SubtreeResult:
    """As a function, for workers."""
    return search.expand(task)
