"""Bounds of a derivative's norm by zonotopes, for many choices of a network's gates at once.

With c held, y = a x for an open gate a lies within x / 2 + [-1, 1] |x| / 2, whatever the gate. So J^T c lies in a
zonotope, with a generator for each open gate, and so does J v with v held. How far it reaches in a norm is a question
of signs (:mod:`lipexact.numerics.sign_relaxation`), whose answer holds for all coordinates together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from lipexact.bounds.crown_batched import NUMBERS, pads, slices
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

_MOST_VERTICES = 64


class ZonotopeBounds:
    """Upper bounds of max c^T J v over the regions that have some choice of gates.

    Parameters
    ----------
    network
        f.
    fixed
        The body, with few vertices, from which c is in reverse mode, v in forward mode.
    closing
        The other one.
    mode
        Which is which.
    """

    def __init__(
        self, network: Network, fixed: SymmetricSet, closing: SymmetricSet, mode: DerivativeMode
    ) -> None:
        self._closing, self._vertices = closing, np.vstack(list(fixed.vertices()))
        free = Input(fixed.dim, "fixed")
        derivative = reverse if mode == "reverse" else forward
        value = derivative(network.graph, network.output, network.input, free)
        graph, renamed, roundings = fold_mapped(Graph((network.input, free), (value,)))
        layers = {renamed[gate]: k for k, gate in enumerate(network.gates) if gate in renamed}
        depends: set[Node] = {free}
        for node in graph.nodes:
            if not isinstance(node, Conditional) and not depends.isdisjoint(operands(node)):
                depends.add(node)
        self._free, self._objective = free, graph.outputs[0]
        self._nodes = tuple(node for node in graph.nodes if node in depends)
        self._switches = {
            node: layers[node.gate] for node in self._nodes if isinstance(node, Switch)
        }
        # Centres and radii are sums over paths, too, which may start anew in an open gate, to find its radius. Half of
        # the sizes go either way there, so that all absolute values together are at most those with all gates on.
        pad = pads(self._nodes, {free: np.abs(self._vertices).max(axis=0)}, roundings)[
            self._objective
        ]
        self._pad = (
            float(closing.support_abs(pad[None, :])[0]) + TINY
        )  # products with the body's points may underflow
        widest, gates = (
            max(node.size for node in self._nodes),
            sum(node.size for node in self._switches),
        )
        numbers = max(widest**2, len(self._vertices) * (gates + 1) * self._objective.size)
        self.at_once = max(NUMBERS // numbers, 1)
        below, self.cost = 0, 0.0
        for node in self._nodes:
            below += node.size
            if isinstance(node, Switch):
                self.cost += node.size * below
        self.cost += self._objective.size * below + len(self._vertices) * gates**2

    def upper(self, states: Sequence[States]) -> tuple[Vector, list[Vector]]:
        """Upper bounds, and how much of them each gate accounts for: see :meth:`.NormBounds.upper`."""
        count = len(states[0])
        upper, weights = np.zeros(count), [np.zeros(layer.shape) for layer in states]
        for part in slices(count, self.at_once):
            upper[part] = self._part(
                [layer[part] for layer in states], [layer[part] for layer in weights]
            )
        return upper, weights

    def _part(self, states: list[States], weights: list[Vector]) -> Vector:
        """The upper bounds of one part of a batch; fills in the weights."""
        count, many = len(states[0]), len(self._vertices)
        radii: dict[
            Switch, Vector
        ] = {}  # of the gates that are open somewhere, shape (b, vertices, these)
        opened: dict[Switch, Indices] = {}
        slopes: dict[Switch, Vector] = {}
        for switch, layer in self._switches.items():
            free = states[layer] == FREE
            opened[switch] = np.flatnonzero(free.any(axis=0))
            slopes[switch] = np.where(free, 0.5, states[layer] == ON).T[:, :, None]
            if opened[switch].size:
                centre, parts = self._pulled(switch.x, opened[switch], count, opened, slopes)
                reach = np.abs(centre)
                for above, part in parts.items():
                    reach += radii[above] @ np.abs(part)
                radii[switch] = reach * (free[:, None, opened[switch]] / 2)
        centre, parts = self._pulled(
            self._objective, np.arange(self._objective.size), count, opened, slopes
        )
        blocks = [centre[:, :, None, :]]
        blocks += [
            radii[above][:, :, :, None] * part[:, None, :, :] for above, part in parts.items()
        ]
        rows = np.concatenate(blocks, axis=2)
        found, shares = self._closing.zonotope_radius(rows.reshape(count * many, *rows.shape[2:]))
        found, shares = found.reshape(count, many), shares.reshape(count, many, -1)
        best = found.argmax(axis=1)
        shares, start = shares[np.arange(count), best], 1
        for above in parts:
            end = start + opened[above].size
            weights[self._switches[above]][:, opened[above]] += shares[:, start:end]
            start = end
        upper = found.max(axis=1) + self._pad
        return np.where(np.isnan(upper), np.inf, upper)

    def _pulled(
        self,
        target: Value,
        rows: Indices,
        count: int,
        opened: dict[Switch, Indices],
        slopes: dict[Switch, Vector],
    ) -> tuple[Vector, dict[Switch, Vector]]:
        """Some rows of a node: at the vertices, shape (b, vertices, rows), and in open gates, (b, these, rows) each."""
        start = np.zeros((target.size, count, rows.size))
        start[rows, :, np.arange(rows.size)] = 1.0
        pending: dict[Node, Vector] = {target: start}
        centre, parts = np.zeros((count, len(self._vertices), rows.size)), {}

        def push(x: Node, part: Vector) -> None:
            pending[x] = pending[x] + part if x in pending else part

        for node in reversed(self._nodes):
            part = pending.pop(node, None)
            if part is None:
                continue
            match node:
                case Input():
                    flat = part.reshape(node.size, -1)
                    centre = (self._vertices @ flat).reshape(-1, count, rows.size).swapaxes(0, 1)
                case Affine():
                    flat = part.reshape(node.size, -1)
                    for weight, x in node.terms:
                        push(x, (weight.T @ flat).reshape(x.size, count, rows.size))
                case Switch():
                    if opened[node].size:
                        parts[node] = part[opened[node]].swapaxes(0, 1)
                    push(node.x, part * slopes[node])
                case Conditional():
                    raise AssertionError("gates are read by switches alone")
                case _:
                    assert_never(node)
        return centre, parts


def zonotope_bounds(problem: Problem) -> ZonotopeBounds | None:
    """Those of the body with few vertices; None where neither has."""
    functionals, directions = problem.functionals, problem.directions
    if functionals.vertex_count <= _MOST_VERTICES:
        return ZonotopeBounds(problem.network, functionals, directions, "reverse")
    if directions.vertex_count <= _MOST_VERTICES:
        return ZonotopeBounds(problem.network, directions, functionals, "forward")
    return None
