"""Expanding nodes of the search tree: bound them, fix gates, split what is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lipexact.bab import constants
from lipexact.bab.node import Expansion, SearchNode
from lipexact.bab.propagation import GatePropagator
from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.crown_batched import GateBounds, NormBounds
from lipexact.bounds.formulation import Formulation
from lipexact.bounds.portfolio import BoundPortfolio, UpperBounds
from lipexact.bounds.zonotope import zonotope_bounds
from lipexact.graph.pattern import FREE, OFF, ON, States
from lipexact.numerics.arrays import Vector
from lipexact.regions.feasibility import Empty, LinearRegion, decide_region
from lipexact.regions.heuristics import Incumbent, LocalSearch
from lipexact.regions.operator_norm import jacobian_norm
from lipexact.state import Decisions, TraceStep


class NodeExpander:
    """Expands nodes, and keeps points, linear programs, and the best region between two calls.

    Parameters
    ----------
    formulations
        The problem in one mode, or in both, with the bounds of every node of its graph.
    incumbent
        The best region so far.
    deadline
        A time of `time.perf_counter`, or infinity.
    keep_trace
        Whether to keep how nodes are split. Only zonotopes bound norms then, where there are any,
        as in certificates.

    Attributes
    ----------
    target
        Regions whose norm is at most this do not matter.
    min_batch, max_batch
        How many nodes to expand at once.
    """

    def __init__(
        self,
        formulations: Sequence[Formulation],
        incumbent: Incumbent | None,
        deadline: float,
        *,
        keep_trace: bool = False,
    ) -> None:
        self.keep_trace = keep_trace
        first = formulations[0]
        self.problem = first.problem
        network = self.problem.network
        domain = self.problem.domain
        sets = {network.input: domain}
        own = bound_nodes(network.graph, sets, shared=first.bounds, deadline=deadline)
        self.gates = GateBounds(network, domain, own)
        norms = _norm_bounds(formulations, keep_trace)
        cheap_enough = constants.COST_RATIO * min(norm.cost for norm in norms)
        quick = [norm for norm in norms if norm.cost <= cheap_enough]
        self.norms = BoundPortfolio(norms)
        self.quick = BoundPortfolio(quick)
        half = min(norm.at_once for norm in quick) // 2
        self.min_batch = constants.MIN_BATCH
        self.max_batch = int(np.clip(half, constants.MIN_BATCH, constants.MAX_BATCH))
        self.propagator = GatePropagator(network, domain, self.gates.errors)
        self.local_search = LocalSearch(
            network,
            domain,
            self.problem.functionals,
            self.problem.directions,
            deadline,
            incumbent,
            kinks=[states == FREE for states in self.gates.root],
        )
        self.target = 0.0
        self._counts: dict[str, float] = {
            "nodes": 0,
            "leaves": 0,
            "relax_seconds": 0.0,
            "sample_seconds": 0.0,
        }
        self._begin()

    def _begin(self) -> None:
        """Forget what the last call yielded."""
        self._children: list[SearchNode] = []
        self._closed_bound = 0.0
        self._steps: dict[Decisions, TraceStep] = {}

    @property
    def stats(self) -> dict[str, float]:
        """What was done so far, and the seconds of each kind of work."""
        return {
            **self._counts,
            "lps": self.propagator.programs,
            "decided": self.propagator.decided,
            "lp_seconds": self.propagator.seconds["lp"],
            "decide_seconds": self.propagator.seconds["decide"],
        }

    @property
    def incumbent(self) -> Incumbent | None:
        """The best region so far."""
        return self.local_search.incumbent

    @property
    def threshold(self) -> float:
        """The norm that regions must exceed to matter."""
        best = self.incumbent
        least = 0.0 if best is None else best.norm.lower * (1 + constants.NEGLIGIBLE)
        return max(least, self.target)

    def root(self, upper: float) -> SearchNode:
        """Return the node of all regions, whose norms are at most `upper`."""
        domain = self.problem.domain
        rng = np.random.default_rng(0)
        half = constants.FIRST_POINTS // 2
        samples = np.vstack([domain.sample(rng, half), domain.extremes(rng, half)])
        weights = [np.ones(states.size) for states in self.gates.root]
        points = self.propagator.points.add(samples)
        return SearchNode(upper, list(self.gates.root), (), points, weights)

    def expand(self, batch: Sequence[SearchNode]) -> Expansion:
        """Bound nodes, fix gates that follow, and split the nodes that are left."""
        self._begin()
        self._counts["nodes"] += len(batch)
        self._sample(batch)
        refined: list[tuple[SearchNode, int]] = []
        for node in batch:
            if node.bound <= self.threshold:
                self._close(node.bound)
                continue
            layer = self._refine(node)
            self._record_deductions(node)
            if layer is not None:
                refined.append((node, layer))
        if refined:
            self._split(refined)
        return Expansion(self._children, self._closed_bound, self.incumbent, self._steps)

    def _record(self, node: SearchNode, **changes: Any) -> None:
        """Note in the trace what became of a node."""
        if self.keep_trace:
            step = self._steps.get(node.decisions, TraceStep())
            self._steps[node.decisions] = replace(step, **changes)

    def _record_deductions(self, node: SearchNode) -> None:
        """Take over what linear programs have deduced about a node."""
        deduced = self.propagator.take_deductions()
        if self.keep_trace:
            before = self._steps.get(node.decisions, TraceStep()).deductions
            self._record(node, deductions=before + deduced)

    def _close(self, upper: float) -> None:
        """Note the bound of regions that need no further look."""
        self._closed_bound = max(self._closed_bound, upper)

    def _keep(self, node: SearchNode) -> None:
        """Keep a node for later, unless its regions do not matter."""
        if node.bound <= self.threshold:
            self._close(node.bound)
        else:
            node.points = node.points[-constants.POINTS_PER_NODE :]
            self._children.append(node)

    def _split(self, refined: list[tuple[SearchNode, int]]) -> None:
        """Split nodes by a gate of the layer beside each, if bounds do not rule them out."""
        states = self._propagate(_stacked([node for node, _ in refined]))
        upper, weights = self._bound_norms(states, self.norms)
        parents: list[tuple[SearchNode, float, int, int]] = []
        for b, (node, layer) in enumerate(refined):
            node.states[:] = [each[b] for each in states]
            free = np.flatnonzero(node.states[layer] == FREE)
            bound = min(node.bound, float(upper[b]))
            if bound <= self.threshold or not free.size:
                own = [each[b] for each in weights]
                self._keep(SearchNode(bound, node.states, node.decisions, node.points, own))
            else:
                heaviest = int(free[weights[layer][b, free].argmax()])
                parents.append((node, bound, layer, heaviest))
        if parents:
            self._branch(parents)

    def _branch(self, parents: list[tuple[SearchNode, float, int, int]]) -> None:
        """Make the two children of nodes, each given with its bound and the gate to branch on."""
        states = [np.repeat(each, 2, axis=0) for each in _stacked([each[0] for each in parents])]
        for b, (_, _, layer, i) in enumerate(parents):
            states[layer][2 * b : 2 * b + 2, i] = ON, OFF
        states = self._propagate(states)
        upper, weights = self._bound_norms(states, self.quick)
        largest = np.max([each.max(axis=1, initial=0.0) for each in weights], axis=0)
        shares = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
        for b, (node, bound, layer, i) in enumerate(parents):
            self._record(node, split=(layer, i), bound=bound)
            values = self.propagator.points.read(layer, node.points)[:, i]
            for k, state, inside in ((2 * b, ON, values > 0), (2 * b + 1, OFF, values < 0)):
                child = SearchNode(
                    min(bound, float(upper[k])),
                    [each[k] for each in states],
                    (*node.decisions, (layer, i, state)),
                    node.points[inside],
                    [np.minimum(each[k] / shares[k], 1.0).astype(np.float32) for each in weights],
                )
                self._keep(child)

    def _propagate(self, states: list[States]) -> list[States]:
        """Return the states with the gates that bounds fix, and count the seconds."""
        start = time.perf_counter()
        result = self.gates.propagate(states)
        self._counts["relax_seconds"] += time.perf_counter() - start
        return result

    def _bound_norms(
        self, states: list[States], norms: BoundPortfolio
    ) -> tuple[Vector, list[Vector]]:
        """Return bounds of norms and the gates' weights, and count the seconds."""
        start = time.perf_counter()
        result = norms.upper(states, self.threshold)
        self._counts["relax_seconds"] += time.perf_counter() - start
        return result

    def _sample(self, batch: Sequence[SearchNode]) -> None:
        """Look for better regions in the middle of the nodes, and go on from the best of them."""
        start = time.perf_counter()
        points = self.propagator.points
        middles = [points.of(node.points).mean(axis=0) for node in batch if node.points.size]
        if middles:
            self.local_search.climb(np.array(middles))
        self._counts["sample_seconds"] += time.perf_counter() - start

    def _refine(self, node: SearchNode) -> int | None:
        """Return the first layer that has free gates after linear programs have looked at it.

        None means that nothing is left to be split: the node is infeasible, or it is a leaf.
        """
        points = self.propagator.find_points(node.states, node.decisions, node.points)
        if points is None:
            return None
        node.points = points
        while True:
            layer = next((k for k, s in enumerate(node.states) if (s == FREE).any()), None)
            if layer is None:
                self._leaf(node)
                return None
            free = np.flatnonzero(node.states[layer] == FREE)
            order = np.argsort(-node.weights[layer][free], kind="stable")
            heaviest = free[order[: constants.GATES_PER_NODE]]
            node.states[layer], node.points = self.propagator.propagate(
                node.states, node.decisions, layer, node.points, heaviest
            )
            if (node.states[layer] == FREE).any():
                return layer

    def _leaf(self, node: SearchNode) -> None:
        """Take the norm of a node's only region, and decide whether the region exists."""
        self._counts["leaves"] += 1
        problem = self.problem
        pattern = tuple(node.states)
        best = self.incumbent
        norm = jacobian_norm(problem.network, problem.functionals, problem.directions, pattern)
        value = min(norm.upper, max(node.bound, norm.lower))
        if value > self.threshold or best is None:
            verdict = decide_region(problem.network, problem.domain, pattern)
            if isinstance(verdict, Empty):
                return
            better = best is None or norm.lower > best.norm.lower
            if isinstance(verdict, LinearRegion) and better:
                self.local_search.incumbent = Incumbent(norm, verdict)
        self._close(value)


def _norm_bounds(formulations: Sequence[Formulation], keep_trace: bool) -> list[UpperBounds]:
    """Return the bounds of norms that there are for a problem."""
    zonotopes = zonotope_bounds(formulations[0].problem)
    if zonotopes is None:
        return [NormBounds(each.problem, each.bounds) for each in formulations]
    if keep_trace:
        return [zonotopes]
    return [*(NormBounds(each.problem, each.bounds) for each in formulations), zonotopes]


def _stacked(nodes: Sequence[SearchNode]) -> list[States]:
    """Return the states of nodes, for each layer an array of shape (nodes, gates)."""
    return [np.stack(layers) for layers in zip(*(node.states for node in nodes), strict=True)]
