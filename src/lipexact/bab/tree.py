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
from dataclasses import dataclass, field

import numpy as np

from lipexact.arrays import Vector
from lipexact.bab.cells import Cells, Decisions, Indices
from lipexact.bounds.batched import GateBounds, NormBounds
from lipexact.bounds.interval import Bounds
from lipexact.bounds.linear import bound
from lipexact.bounds.smallest import Smallest, UpperBounds
from lipexact.bounds.zonotope import zonotope_bounds
from lipexact.bracket import UNDECIDED, Bracket, Goal, Progress, ProgressCallback, Termination
from lipexact.matrix_norm import matrix_norm
from lipexact.pattern import FREE, OFF, ON, States
from lipexact.primal import Found, Sampling
from lipexact.problem import Problem
from lipexact.regions import Empty, Region, decide, has_forms

_BATCHES = 4, 64  # nodes that are taken at once: at first, and at most
_LOOKS = 8  # gates that linear programs look at, in a node
_DEAR = 4  # times as costly as the other mode, a mode's bounds wait until a node's turn
_MOST_NUMBERS = 2**24  # coefficients of a node's bounds
_STARTS = 256  # points that the tree begins with
_MOST_POINTS = 64  # that a node knows
_NEGLIGIBLE = 5e-10  # relative to the best norm: half of what EXACT leaves
_HEARTBEAT = 0.5  # seconds between two reports


@dataclass(order=True)
class _Node:
    """Some regions. `states` follow from `decisions`."""

    rank: float
    number: int
    bound: float = field(compare=False)
    states: list[States] = field(compare=False)
    decisions: Decisions = field(compare=False)
    points: Indices = field(compare=False)
    weights: list[Vector] = field(compare=False)  # how much of the bound each gate accounts for


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
    on_progress: ProgressCallback | None = None,
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
    on_progress
        Called now and then with both bounds; True stops the search. So does ctrl-C.
    """
    problem = problems[0]
    network, domain = problem.network, problem.domain
    if not fits(problems):
        bracket.termination = Termination.LIMIT.value
        bracket.stats["message"] = "the network is too large for branch and bound: the bounds are those without it"
        return
    own = bound(network.graph, {network.input: domain}, shared=bounds[0], deadline=deadline)
    norms: list[UpperBounds] = [NormBounds(*each) for each in zip(problems, bounds, strict=True)]
    if (zonotopes := zonotope_bounds(problem)) is not None:
        norms.append(zonotopes)
    tree = _Tree(
        problem,
        GateBounds(network, domain, own),
        norms,
        bracket,
        Sampling(network, domain, problem.functionals, problem.directions, deadline, bracket.found),
        goal,
    )
    tree.run(deadline, on_progress)


class _Tree:
    """The nodes that are still to be looked at, and what has come of the others."""

    def __init__(
        self,
        problem: Problem,
        gates: GateBounds,
        norms: Sequence[UpperBounds],
        bracket: Bracket,
        sampling: Sampling,
        goal: Goal,
    ) -> None:
        self.problem, self.gates = problem, gates
        most = _DEAR * min(norm.cost for norm in norms)
        quick = [norm for norm in norms if norm.cost <= most]
        self.norms, self.quick = Smallest(norms), Smallest(quick)
        self.most = int(np.clip(min(norm.at_once for norm in quick) // 2, *_BATCHES))
        self.bracket, self.sampling, self.goal = bracket, sampling, goal
        self.cells = Cells(problem.network, problem.domain, gates.errors)
        self.heap: list[_Node] = []
        self.numbers = itertools.count()
        self.passed = 0.0  # the largest bound of what was left out, or could not be decided
        self.stats: dict[str, float] = {"nodes": 0, "leaves": 0, "relax_seconds": 0.0, "sample_seconds": 0.0}

    @property
    def threshold(self) -> float:
        """What regions must exceed to matter."""
        return max(self.bracket.lower * (1 + _NEGLIGIBLE), self.goal.target or 0.0)

    def run(self, deadline: float, on_progress: ProgressCallback | None) -> None:
        """Narrow the bracket until the goal is reached, the time is up, or the user stops it."""
        bracket, start = self.bracket, time.perf_counter()
        try:
            self._plant()
            self._grow(deadline, on_progress)
        except KeyboardInterrupt:  # the upper bound is that before the turn that was interrupted
            bracket.termination = Termination.INTERRUPTED.value
        bracket.upper = max(bracket.upper, bracket.lower)
        ended = bracket.termination == Termination.OPTIMAL.value
        if ended and not self.goal.reached(bracket.lower, bracket.upper):
            bracket.termination = UNDECIDED
        bracket.stats |= self.stats
        bracket.stats |= {"lps": self.cells.programs, "decided": self.cells.decided}
        bracket.stats |= {f"{name}_seconds": seconds for name, seconds in self.cells.seconds.items()}
        bracket.stats["tree_seconds"] = time.perf_counter() - start

    def _grow(self, deadline: float, on_progress: ProgressCallback | None) -> None:
        """Turn after turn; between two of them every region is in the heap, or below what has passed."""
        bracket, size = self.bracket, _BATCHES[0]
        start = reported = time.perf_counter()
        while True:
            top = -self.heap[0].rank if self.heap else 0.0
            bracket.upper = min(bracket.upper, max(top, self.passed, bracket.lower))
            if not self.heap or self.goal.reached(bracket.lower, bracket.upper):
                return
            now = time.perf_counter()
            if now > deadline:
                bracket.termination = Termination.TIME_LIMIT.value
                return
            if on_progress is not None and now - reported > _HEARTBEAT:
                reported = now
                if on_progress(Progress(now - start, bracket.lower, bracket.upper, int(self.stats["nodes"]))):
                    bracket.termination = Termination.INTERRUPTED.value
                    return
            self._turn([heapq.heappop(self.heap) for _ in range(min(size, len(self.heap)))])
            size = min(2 * size, self.most)

    def _plant(self) -> None:
        domain, rng = self.problem.domain, np.random.default_rng(0)
        samples = np.vstack([domain.sample(rng, _STARTS // 2), domain.extremes(rng, _STARTS // 2)])
        weights = [np.ones(states.size) for states in self.gates.root]
        self._push(self.bracket.upper, list(self.gates.root), (), self.cells.points.add(samples), weights)

    def _push(
        self, bound: float, states: list[States], decisions: Decisions, points: Indices, weights: list[Vector]
    ) -> None:
        if bound <= self.threshold:
            self.passed = max(self.passed, bound)
            return
        node = _Node(-bound, next(self.numbers), bound, states, decisions, points[-_MOST_POINTS:], weights)
        heapq.heappush(self.heap, node)

    def _turn(self, batch: list[_Node]) -> None:
        """Look at nodes, and put their children into the heap."""
        self.stats["nodes"] += len(batch)
        self._sample(batch)
        refined: list[tuple[_Node, int]] = []
        for node in batch:
            if node.bound <= self.threshold:
                self.passed = max(self.passed, node.bound)
            elif (layer := self._refine(node)) is not None:
                refined.append((node, layer))
        if not refined:
            return
        states = self._settled([np.stack(layers) for layers in zip(*(node.states for node, _ in refined), strict=True)])
        upper, weights = self._bounded(states, self.norms)
        parents: list[tuple[_Node, float, int, int]] = []
        for b, (node, layer) in enumerate(refined):
            node.states[:] = [each[b] for each in states]
            opened = np.flatnonzero(node.states[layer] == FREE)
            most = min(node.bound, float(upper[b]))
            if most <= self.threshold or not opened.size:
                self._push(most, node.states, node.decisions, node.points, [each[b] for each in weights])
            else:
                parents.append((node, most, layer, int(opened[weights[layer][b, opened].argmax()])))
        if parents:
            self._branch(parents)

    def _branch(self, parents: list[tuple[_Node, float, int, int]]) -> None:
        """Split nodes, each with a bound, by the gate of a layer."""
        states = [
            np.repeat(np.stack(layers), 2, axis=0) for layers in zip(*(p[0].states for p in parents), strict=True)
        ]
        for b, (_, _, layer, i) in enumerate(parents):
            states[layer][2 * b : 2 * b + 2, i] = ON, OFF
        states = self._settled(states)
        upper, weights = self._bounded(states, self.quick)
        for b, (node, most, layer, i) in enumerate(parents):
            values = self.cells.points.read(layer, node.points)[:, i]
            for k, state, inside in ((2 * b, ON, values > 0), (2 * b + 1, OFF, values < 0)):
                self._push(
                    min(most, float(upper[k])),
                    [each[k] for each in states],
                    (*node.decisions, (layer, i, state)),
                    node.points[inside],
                    [each[k].astype(np.float32) for each in weights],
                )

    def _settled(self, states: list[States]) -> list[States]:
        start = time.perf_counter()
        result = self.gates.settled(states)
        self.stats["relax_seconds"] += time.perf_counter() - start
        return result

    def _bounded(self, states: list[States], norms: Smallest) -> tuple[Vector, list[Vector]]:
        start = time.perf_counter()
        result = norms.upper(states, self.threshold)
        self.stats["relax_seconds"] += time.perf_counter() - start
        return result

    def _sample(self, batch: list[_Node]) -> None:
        """Look for better regions in the middle of the nodes."""
        start = time.perf_counter()
        middles = [self.cells.points.of(node.points).mean(axis=0) for node in batch if node.points.size]
        if middles and self.sampling.improve(np.array(middles)):
            self._found(self.sampling.best)
        self.stats["sample_seconds"] += time.perf_counter() - start

    def _found(self, found: Found | None) -> None:
        if found is not None and (self.bracket.found is None or found.norm.lower > self.bracket.lower):
            self.sampling.best = self.bracket.found = found
            self.bracket.lower = max(found.norm.lower, self.bracket.lower)

    def _refine(self, node: _Node) -> int | None:
        """The first layer with open gates, after linear programs have looked at it; None where there is none left."""
        found = self.cells.entered(node.states, node.decisions, node.points)
        if found is None:
            return None
        node.points = found
        while True:
            layer = next((k for k, states in enumerate(node.states) if (states == FREE).any()), None)
            if layer is None:
                self._leaf(node)
                return None
            opened = np.flatnonzero(node.states[layer] == FREE)
            heaviest = opened[np.argsort(-node.weights[layer][opened], kind="stable")[:_LOOKS]]
            settled = self.cells.settled(node.states, node.decisions, layer, node.points, heaviest)
            node.states[layer], node.points = settled
            if (node.states[layer] == FREE).any():
                return layer

    def _leaf(self, node: _Node) -> None:
        self.stats["leaves"] += 1
        problem, pattern = self.problem, tuple(node.states)
        norm = matrix_norm(problem.network, problem.functionals, problem.directions, pattern)
        value = min(norm.upper, max(node.bound, norm.lower))
        if value > self.threshold or self.bracket.found is None:
            verdict = decide(problem.network, problem.domain, pattern)
            if isinstance(verdict, Empty):
                return
            if isinstance(verdict, Region):
                self._found(Found(norm, verdict))
        self.passed = max(self.passed, value)
