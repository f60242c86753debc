"""A turn of branch and bound: what becomes of some nodes of the tree."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from lipexact.bab.propagation import Decisions, Deduction, GatePropagator, Indices
from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.crown_batched import GateBounds, NormBounds
from lipexact.bounds.interval import Bounds
from lipexact.bounds.portfolio import BoundPortfolio, UpperBounds
from lipexact.bounds.zonotope import zonotope_bounds
from lipexact.graph.pattern import FREE, OFF, ON, States
from lipexact.numerics.arrays import Vector
from lipexact.problem.problem import Problem
from lipexact.regions.feasibility import Empty, LinearRegion, decide_region
from lipexact.regions.heuristics import Incumbent, LocalSearch
from lipexact.regions.operator_norm import jacobian_norm

_BATCHES = 4, 64  # nodes that are taken at once: at least, and at most
_LOOKS = 8  # gates that linear programs look at, in a node
_DEAR = 4  # times as costly as the cheapest, bounds wait until a node's turn
_STARTS = 256  # points that the tree begins with
_MOST_POINTS = 64  # that a node knows
_NEGLIGIBLE = 5e-10  # relative to the best norm: half of what EXACT leaves


@dataclass(eq=False)
class SearchNode:
    """Some regions: those with all gates in these states, or about to be found so.

    Attributes
    ----------
    bound
        At least the norms of their Jacobians.
    states
        Of all gates; they follow from `decisions`.
    decisions
        Which gates were chosen.
    points
        Indices of some that lie in these regions.
    weights
        How much of the bound each gate accounts for, by the most that any does.
    """

    bound: float
    states: list[States]
    decisions: Decisions
    points: Indices
    weights: list[Vector]


@dataclass(eq=False)
class Step:
    """What became of the node with some decisions, for whoever wants to prove it again.

    Attributes
    ----------
    deductions
        Gates that were settled by linear programs, in this order; the last decision's own opposite says that nothing is
        left of the node.
    split
        Layer and index of the gate that it was split by, or None.
    bound
        That of its norms, when it was split.
    """

    deductions: list[Deduction] = field(default_factory=list)
    split: tuple[int, int] | None = None
    bound: float = np.inf


# By the decisions of nodes.
Trace: TypeAlias = dict[Decisions, Step]


def merge(trace: Trace, more: Trace) -> None:
    """Add what became of nodes to what is known of them from earlier turns, which left them whole."""
    for decisions, step in more.items():
        before = trace.get(decisions, Step()).deductions
        trace[decisions] = replace(step, deductions=before + step.deductions)


@dataclass(eq=False)
class Expansion:
    """What has become of some nodes.

    Attributes
    ----------
    children
        What is left of them.
    passed
        The largest bound of what was left out, or could not be decided.
    found
        The best region so far.
    trace
        How they were split, where that is kept.
    """

    children: list[SearchNode]
    passed: float
    incumbent: Incumbent | None
    trace: Trace = field(default_factory=dict)


class NodeExpander:
    """Looks at nodes, and remembers points, linear programs, and the best region.

    Parameters
    ----------
    problems, bounds
        One question in one mode, or both, and bounds of every node of their graphs.
    found
        The best region so far.
    deadline
        A time of `time.perf_counter`, or infinity.
    traced
        Whether to keep how nodes were split. Only zonotopes bound norms then, where there are any, as certificates do.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        bounds: Sequence[Bounds],
        found: Incumbent | None,
        deadline: float,
        *,
        traced: bool = False,
    ) -> None:
        self.traced = traced
        self.problem = problem = problems[0]
        network, domain = problem.network, problem.domain
        own = bound_nodes(
            network.graph, {network.input: domain}, shared=bounds[0], deadline=deadline
        )
        self.gates = GateBounds(network, domain, own)
        zonotopes, norms = zonotope_bounds(problem), list[UpperBounds]()
        if zonotopes is None or not traced:
            norms += [NormBounds(*each) for each in zip(problems, bounds, strict=True)]
        if zonotopes is not None:
            norms.append(zonotopes)
        most = _DEAR * min(norm.cost for norm in norms)
        quick = [norm for norm in norms if norm.cost <= most]
        self.norms, self.quick = BoundPortfolio(norms), BoundPortfolio(quick)
        self.most = int(np.clip(min(norm.at_once for norm in quick) // 2, *_BATCHES))
        self.least = _BATCHES[0]
        self.cells = GatePropagator(network, domain, self.gates.errors)
        kinks = [states == FREE for states in self.gates.root]
        bodies = problem.functionals, problem.directions
        self.sampling = LocalSearch(network, domain, *bodies, deadline, found, kinks=kinks)
        self.target = 0.0
        self._outcome = Expansion([], 0.0, found)
        self._counts: dict[str, float] = {
            "nodes": 0,
            "leaves": 0,
            "relax_seconds": 0.0,
            "sample_seconds": 0.0,
        }

    @property
    def stats(self) -> dict[str, float]:
        """What was done so far, and how long each kind of work took."""
        seconds = {f"{name}_seconds": value for name, value in self.cells.seconds.items()}
        return self._counts | {"lps": self.cells.programs, "decided": self.cells.decided} | seconds

    @property
    def threshold(self) -> float:
        """What regions must exceed to matter."""
        best = self.sampling.best
        return max(0.0 if best is None else best.norm.lower * (1 + _NEGLIGIBLE), self.target)

    def root(self, upper: float) -> SearchNode:
        """All regions, of which something is known: that no norm is larger."""
        domain, rng = self.problem.domain, np.random.default_rng(0)
        samples = np.vstack([domain.sample(rng, _STARTS // 2), domain.extremes(rng, _STARTS // 2)])
        weights = [np.ones(states.size) for states in self.gates.root]
        return SearchNode(upper, list(self.gates.root), (), self.cells.points.add(samples), weights)

    def expand(self, batch: Sequence[SearchNode]) -> Expansion:
        """Look at nodes, and split those that are left."""
        self._outcome = Expansion([], 0.0, None)
        self._counts["nodes"] += len(batch)
        self._sample(batch)
        refined: list[tuple[SearchNode, int]] = []
        for node in batch:
            if node.bound <= self.threshold:
                self._pass(node.bound)
                continue
            layer = self._refine(node)
            self._trace(node).deductions += self.cells.deductions
            self.cells.deductions.clear()
            if layer is not None:
                refined.append((node, layer))
        if refined:
            self._split(refined)
        self._outcome.incumbent = self.sampling.best
        return self._outcome

    def _trace(self, node: SearchNode) -> Step:
        step = self._outcome.trace.get(node.decisions, Step())
        if self.traced:
            self._outcome.trace[node.decisions] = step
        return step

    def _pass(self, upper: float) -> None:
        self._outcome.passed = max(self._outcome.passed, upper)

    def _keep(self, node: SearchNode) -> None:
        if node.bound <= self.threshold:
            self._pass(node.bound)
        else:
            node.points = node.points[-_MOST_POINTS:]
            self._outcome.children.append(node)

    def _split(self, refined: list[tuple[SearchNode, int]]) -> None:
        """Split nodes by a gate of the layer beside each, if bounds do not rule them out."""
        states = self._propagate(
            [np.stack(layers) for layers in zip(*(node.states for node, _ in refined), strict=True)]
        )
        upper, weights = self._bound_norms(states, self.norms)
        parents: list[tuple[SearchNode, float, int, int]] = []
        for b, (node, layer) in enumerate(refined):
            node.states[:] = [each[b] for each in states]
            opened = np.flatnonzero(node.states[layer] == FREE)
            most = min(node.bound, float(upper[b]))
            if most <= self.threshold or not opened.size:
                self._keep(
                    SearchNode(
                        most,
                        node.states,
                        node.decisions,
                        node.points,
                        [each[b] for each in weights],
                    )
                )
            else:
                parents.append((node, most, layer, int(opened[weights[layer][b, opened].argmax()])))
        if parents:
            self._branch(parents)

    def _branch(self, parents: list[tuple[SearchNode, float, int, int]]) -> None:
        """Split nodes, each with a bound, by the gate of a layer."""
        states = [
            np.repeat(np.stack(layers), 2, axis=0)
            for layers in zip(*(p[0].states for p in parents), strict=True)
        ]
        for b, (_, _, layer, i) in enumerate(parents):
            states[layer][2 * b : 2 * b + 2, i] = ON, OFF
        states = self._propagate(states)
        upper, weights = self._bound_norms(states, self.quick)
        largest = np.max([each.max(axis=1, initial=0.0) for each in weights], axis=0)
        shares = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
        for b, (node, most, layer, i) in enumerate(parents):
            step = self._trace(node)
            step.split, step.bound = (layer, i), most
            values = self.cells.points.read(layer, node.points)[:, i]
            for k, state, inside in ((2 * b, ON, values > 0), (2 * b + 1, OFF, values < 0)):
                child = SearchNode(
                    min(most, float(upper[k])),
                    [each[k] for each in states],
                    (*node.decisions, (layer, i, state)),
                    node.points[inside],
                    [np.minimum(each[k] / shares[k], 1.0).astype(np.float32) for each in weights],
                )
                self._keep(child)

    def _propagate(self, states: list[States]) -> list[States]:
        start = time.perf_counter()
        result = self.gates.propagate(states)
        self._counts["relax_seconds"] += time.perf_counter() - start
        return result

    def _bound_norms(
        self, states: list[States], norms: BoundPortfolio
    ) -> tuple[Vector, list[Vector]]:
        start = time.perf_counter()
        result = norms.upper(states, self.threshold)
        self._counts["relax_seconds"] += time.perf_counter() - start
        return result

    def _sample(self, batch: Sequence[SearchNode]) -> None:
        """Look for better regions in the middle of the nodes, and from the best of these on."""
        start = time.perf_counter()
        middles = [
            self.cells.points.of(node.points).mean(axis=0) for node in batch if node.points.size
        ]
        if middles:
            self.sampling.climb(np.array(middles))
        self._counts["sample_seconds"] += time.perf_counter() - start

    def _refine(self, node: SearchNode) -> int | None:
        """The first layer with open gates, after linear programs have looked at it; None where there is none left."""
        found = self.cells.find_points(node.states, node.decisions, node.points)
        if found is None:
            return None
        node.points = found
        while True:
            layer = next(
                (k for k, states in enumerate(node.states) if (states == FREE).any()), None
            )
            if layer is None:
                self._leaf(node)
                return None
            opened = np.flatnonzero(node.states[layer] == FREE)
            heaviest = opened[np.argsort(-node.weights[layer][opened], kind="stable")[:_LOOKS]]
            settled = self.cells.propagate(
                node.states, node.decisions, layer, node.points, heaviest
            )
            node.states[layer], node.points = settled
            if (node.states[layer] == FREE).any():
                return layer

    def _leaf(self, node: SearchNode) -> None:
        self._counts["leaves"] += 1
        problem, pattern, best = self.problem, tuple(node.states), self.sampling.best
        norm = jacobian_norm(problem.network, problem.functionals, problem.directions, pattern)
        value = min(norm.upper, max(node.bound, norm.lower))
        if value > self.threshold or best is None:
            verdict = decide_region(problem.network, problem.domain, pattern)
            if isinstance(verdict, Empty):
                return
            if isinstance(verdict, LinearRegion) and (best is None or norm.lower > best.norm.lower):
                self.sampling.best = Incumbent(norm, verdict)
        self._pass(value)
