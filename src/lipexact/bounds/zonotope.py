"""Bounds of a derivative's norm by zonotopes, for many choices of a network's gates at once.

With c held, y = a x for an open gate a lies within x / 2 + [-1, 1] |x| / 2, whatever the gate. So
J^T c lies in a zonotope, with a generator for each open gate, and so does J v with v held. How far
it reaches in a norm is a question of signs (:mod:`lipexact.numerics.sign_relaxation`), whose answer
holds for all coordinates together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lipexact.bounds import constants
from lipexact.bounds.crown_batched import rounding_pads, slices
from lipexact.bounds.substitution import substitute_back
from lipexact.graph.derivative import forward, reverse
from lipexact.graph.folding import fold_mapped
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch, Value, operands
from lipexact.graph.pattern import FREE, ON, States
from lipexact.network import Network
from lipexact.numerics.arrays import Vector
from lipexact.numerics.rounding import TINY
from lipexact.problem.problem import DerivativeMode, Problem
from lipexact.sets.unit_balls import SymmetricSet

Indices: TypeAlias = npt.NDArray[np.intp]


class ZonotopeBounds:
    """Upper bounds of max c^T J v over the regions that have some choice of gates.

    Parameters
    ----------
    network
        f.
    held
        The set, with few vertices, that c is from in reverse mode, v in forward mode.
    other
        The other set.
    mode
        Which set is which.
    """

    def __init__(
        self, network: Network, held: SymmetricSet, other: SymmetricSet, mode: DerivativeMode
    ) -> None:
        self._other = other
        self._vertices = np.vstack(list(held.vertices()))
        free = Input(held.dim, "held")
        derivative = reverse if mode == "reverse" else forward
        value = derivative(network.graph, network.output, network.input, free)
        graph, renamed, roundings = fold_mapped(Graph((network.input, free), (value,)))
        layers = {renamed[gate]: k for k, gate in enumerate(network.gates) if gate in renamed}
        depends: set[Node] = {free}
        for node in graph.nodes:
            if not isinstance(node, Conditional) and not depends.isdisjoint(operands(node)):
                depends.add(node)
        self._objective = graph.outputs[0]
        self._nodes = tuple(node for node in graph.nodes if node in depends)
        self._switches = {
            node: layers[node.gate] for node in self._nodes if isinstance(node, Switch)
        }
        # Centres and radii are sums over paths, too, which may start anew in an open gate, to find
        # its radius. Half of the sizes go either way there, so that all absolute values together
        # are at most those with all gates on.
        reach = {free: np.abs(self._vertices).max(axis=0)}
        pad = rounding_pads(self._nodes, reach, roundings)[self._objective]
        # Products with the set's points may underflow.
        self._pad = float(other.support_abs(pad[None, :])[0]) + TINY
        self.at_once = self._choices_at_once()
        self.cost = self._numbers_of_one_choice()

    def _choices_at_once(self) -> int:
        """Return how many choices of gates fit into one part of a batch."""
        widest = max(node.size for node in self._nodes)
        gates = sum(node.size for node in self._switches)
        rows = len(self._vertices) * (gates + 1) * self._objective.size
        return max(constants.ARRAY_NUMBERS // max(widest**2, rows), 1)

    def _numbers_of_one_choice(self) -> float:
        """Return about how many numbers one choice of gates takes to bound."""
        gates = sum(node.size for node in self._switches)
        below = 0
        cost = 0.0
        for node in self._nodes:
            below += node.size
            if isinstance(node, Switch):
                cost += node.size * below
        return cost + self._objective.size * below + len(self._vertices) * gates**2

    def upper(self, states: Sequence[States]) -> tuple[Vector, list[Vector]]:
        """Return upper bounds, and each gate's share in them: see :meth:`.NormBounds.upper`."""
        count = len(states[0])
        upper = np.zeros(count)
        weights = [np.zeros(layer.shape) for layer in states]
        for part in slices(count, self.at_once):
            chosen = [layer[part] for layer in states]
            upper[part] = self._bound_part(chosen, [layer[part] for layer in weights])
        return upper, weights

    def _bound_part(self, states: list[States], weights: list[Vector]) -> Vector:
        """Return the upper bounds of one part of a batch; add the gates' shares to the weights."""
        rules = _HalvedRules(self._vertices, self._nodes, len(states[0]))
        radii: dict[Switch, Vector] = {}  # of gates open somewhere, shape (b, vertices, these)
        for switch, layer in self._switches.items():
            free = states[layer] == FREE
            rules.open(switch, free, states[layer] == ON)
            opened = rules.opened[switch]
            if opened.size:
                centre, parts = rules.pull(switch.x, opened)
                reach = np.abs(centre)
                for above, part in parts.items():
                    reach += radii[above] @ np.abs(part)
                radii[switch] = reach * (free[:, None, opened] / 2)
        everything = np.arange(self._objective.size)
        centre, parts = rules.pull(self._objective, everything)
        blocks = [centre[:, :, None, :]]
        for above, part in parts.items():
            blocks.append(radii[above][:, :, :, None] * part[:, None, :, :])
        return self._reach(np.concatenate(blocks, axis=2), parts, rules.opened, weights)

    def _reach(
        self,
        rows: Vector,
        parts: dict[Switch, Vector],
        opened: dict[Switch, Indices],
        weights: list[Vector],
    ) -> Vector:
        """Return how far zonotopes reach in the other set's norm, by centre and generators."""
        count, many = rows.shape[:2]
        flat = rows.reshape(count * many, *rows.shape[2:])
        found, shares = self._other.zonotope_radius(flat)
        found = found.reshape(count, many)
        best = found.argmax(axis=1)
        shares = shares.reshape(count, many, -1)[np.arange(count), best]
        start = 1  # after the centre
        for above in parts:
            end = start + opened[above].size
            weights[self._switches[above]][:, opened[above]] += shares[:, start:end]
            start = end
        upper = found.max(axis=1) + self._pad
        return np.where(np.isnan(upper), np.inf, upper)


class _HalvedRules:
    """Back-substitution with half of each open gate; coefficients have the shape (size, b, rows).

    Parameters
    ----------
    vertices
        Of the set that is held.
    nodes
        All nodes below the objective, operands first.
    count
        Choices of gates.

    Attributes
    ----------
    opened
        The gates of each switch that are open in any choice.
    """

    def __init__(self, vertices: Vector, nodes: Sequence[Node], count: int) -> None:
        self.vertices = vertices
        self.nodes = nodes
        self.count = count
        self.opened: dict[Switch, Indices] = {}
        self._slopes: dict[Switch, Vector] = {}

    def open(self, switch: Switch, free: npt.NDArray[np.bool_], on: npt.NDArray[np.bool_]) -> None:
        """Set which gates of a switch are open and on, each of shape (b, size)."""
        self.opened[switch] = np.flatnonzero(free.any(axis=0))
        self._slopes[switch] = np.where(free, 0.5, on).T[:, :, None]

    def pull(self, target: Value, rows: Indices) -> tuple[Vector, dict[Switch, Vector]]:
        """Return some rows of a node at the vertices, and their coefficients in open gates.

        Returns
        -------
        centre
            Shape (b, vertices, rows).
        parts
            For each switch with open gates, shape (b, these, rows).
        """
        self._shape = (self.count, rows.size)
        self._centre = np.zeros((self.count, len(self.vertices), rows.size))
        self._parts: dict[Switch, Vector] = {}
        start = np.zeros((target.size, *self._shape))
        start[rows, :, np.arange(rows.size)] = 1.0
        substitute_back(self.nodes, target, start, self)
        return self._centre, self._parts

    def close(self, node: Input, part: Vector) -> None:
        """Take the forms at the vertices."""
        flat = self.vertices @ part.reshape(node.size, -1)
        self._centre = flat.reshape(-1, *self._shape).swapaxes(0, 1)

    def through_affine(self, node: Affine, part: Vector) -> Iterator[tuple[Value, Vector]]:
        """Yield the products with the weights; a derivative has no bias."""
        flat = part.reshape(node.size, -1)
        for weight, x in node.terms:
            yield x, (weight.T @ flat).reshape(x.size, *self._shape)

    def through_switch(self, node: Switch, part: Vector) -> Vector:
        """Keep the coefficients of open gates, and return half of them."""
        if self.opened[node].size:
            self._parts[node] = part[self.opened[node]].swapaxes(0, 1)
        return part * self._slopes[node]

    def add(self, node: Value, one: Vector, other: Vector) -> Vector:  # noqa: ARG002
        """Return the sum of coefficients."""
        return one + other


def zonotope_bounds(problem: Problem) -> ZonotopeBounds | None:
    """Return the bounds that hold the set with few vertices; None where neither set has few."""
    functionals = problem.functionals
    directions = problem.directions
    if functionals.vertex_count <= constants.MAX_ZONOTOPE_VERTICES:
        return ZonotopeBounds(problem.network, functionals, directions, "reverse")
    if directions.vertex_count <= constants.MAX_ZONOTOPE_VERTICES:
        return ZonotopeBounds(problem.network, directions, functionals, "forward")
    return None
