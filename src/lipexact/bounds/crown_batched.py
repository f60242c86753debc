"""Bounds for many choices of a network's gates at once.

The relaxation is that of :mod:`lipexact.bounds.crown`, in dense arrays with one more axis, so that one product of
matrices serves all choices. What rounding may lose is not followed from step to step but bounded once: slopes lie in
[0, 1], so no coefficient is larger than that of the graph with all gates on and the absolute values of its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from typing_extensions import assert_never

from lipexact.bounds.interval import Bounds, gate_state, length_bound, magnitude
from lipexact.graph.ir import Affine, Conditional, Input, Node, Switch, Value, operands, topological
from lipexact.graph.pattern import FREE, OFF, ON, States
from lipexact.network import Network
from lipexact.numerics.arrays import Vector, most_terms
from lipexact.numerics.rounding import TINY, gamma
from lipexact.problem.problem import Problem
from lipexact.sets.convex import ConvexSet
from lipexact.sets.domains import Domain

NUMBERS = 2**21  # in one array of coefficients, or as many as one choice takes


class GateBounds:
    """What a choice of some gates says of the others, by bounds of what these read.

    Parameters
    ----------
    network
        f.
    domain
        X.
    bounds
        Valid bounds of every node of the network on the domain.
    """

    def __init__(self, network: Network, domain: Domain, bounds: Bounds) -> None:
        self.network = network
        nodes = topological(network.gates)
        layers = {gate: k for k, gate in enumerate(network.gates)}
        # What the box around a polytope leaves open, the tree's linear programs settle.
        self._relaxation = _Relaxation(nodes, {network.input: domain.quick}, bounds, layers)
        self.root = tuple(
            np.where(np.isnan(state := gate_state(gate, bounds)), FREE, state).astype(np.int8)
            for gate in network.gates
        )

    @property
    def errors(self) -> list[Vector]:
        """What rounding may lose in the bounds of what each layer reads, and in its affine forms, on the domain."""
        return [self._relaxation.pads[gate.x] for gate in self.network.gates]

    def propagate(self, states: Sequence[States]) -> list[States]:
        """The states with those of free gates that follow from them, on all regions with interior.

        Parameters
        ----------
        states
            For each layer of gates ON, OFF or FREE, shape (b, size).
        """
        result = [layer.copy() for layer in states]
        for part in slices(len(states[0]), self._relaxation.at_once):
            run = _Run(self._relaxation, [layer[part] for layer in result])
            run.through()
            for whole, layer in zip(result, run.states, strict=True):
                whole[part] = layer
        return result


class NormBounds:
    """Upper bounds of a problem's objective over the regions that have some choice of gates.

    Parameters
    ----------
    problem
        The problem.
    bounds
        Valid bounds of every node of its graph.
    """

    def __init__(self, problem: Problem, bounds: Bounds) -> None:
        self.mode = problem.mode
        self._objective = problem.objective
        layers = {gate: k for k, gate in enumerate(problem.gates) if gate is not None}
        # The derivative depends on x through the network's gates alone.
        above: set[Node] = {problem.objective}
        for node in reversed(problem.graph.nodes):
            if node in above and node not in layers:
                above.update(operands(node))
        nodes = tuple(node for node in problem.graph.nodes if node in above)
        self._relaxation = _Relaxation(
            nodes, problem.sets, bounds, layers, problem.objective, problem.roundings
        )

    @property
    def cost(self) -> float:
        """About how many numbers one choice of gates takes to bound."""
        return self._relaxation.cost

    @property
    def at_once(self) -> int:
        """How many choices fit into one part of a batch."""
        return self._relaxation.at_once

    def upper(self, states: Sequence[States]) -> tuple[Vector, list[Vector]]:
        """Upper bounds, and how much of them each gate's relaxation accounts for.

        Parameters
        ----------
        states
            For each layer of the network's gates ON, OFF or FREE, shape (b, size).

        Returns
        -------
        upper
            At least the maximum over all regions with these gates, and 0; shape (b,).
        weights
            For each layer, of shape (b, size), at least 0.
        """
        count = len(states[0])
        upper, weights = np.zeros(count), [np.zeros(layer.shape) for layer in states]
        for part in slices(count, self._relaxation.at_once):
            run = _Run(self._relaxation, [layer[part] for layer in states])
            run.through()
            lower, most = run.bounds[self._objective]
            if len(lower) == 1:
                upper[part] = np.maximum(most[0], 0.0)
            else:
                upper[part] = [length_bound((a, b)) for a, b in zip(lower.T, most.T, strict=True)]
            for whole, layer in zip(weights, run.weights, strict=True):
                whole[part] = layer
        return upper, weights


class _Relaxation:
    """Nodes, what is known of them whatever the gates, and which of them are worth bounds of their own."""

    def __init__(
        self,
        nodes: Sequence[Node],
        sets: Mapping[Input, ConvexSet],
        root: Bounds,
        layers: Mapping[Conditional, int],
        objective: Value | None = None,
        roundings: int = 0,
    ) -> None:
        self.nodes, self.sets, self.root, self.layers, self.objective = (
            nodes,
            sets,
            root,
            layers,
            objective,
        )
        self.positions = {node: k for k, node in enumerate(nodes)}
        depends: dict[Node, bool] = {}  # on a gate
        wanted: set[Node] = set() if objective is None else {objective}
        for node in nodes:
            depends[node] = isinstance(node, Conditional | Switch) or any(
                depends[x] for x in operands(node)
            )
            if isinstance(node, Switch) or (isinstance(node, Conditional) and node.x in depends):
                wanted.add(node.x)
        self.targets = {node for node in wanted if isinstance(node, Affine) and depends[node]}
        reach = {node: magnitude(root[node]) for node in nodes if isinstance(node, Input)}
        self.pads = pads(nodes, reach, roundings)
        widest = max((node.size for node in nodes), default=1)
        self.at_once = max(
            NUMBERS // (2 * widest * max((node.size for node in self.targets), default=1)), 1
        )
        below = np.cumsum([node.size for node in nodes])
        self.cost = float(sum(2 * node.size * below[self.positions[node]] for node in self.targets))


def slices(count: int, at_once: int) -> list[slice]:
    """Parts of a batch of so many choices that fit into memory."""
    return [slice(start, start + at_once) for start in range(0, count, at_once)]


@np.errstate(over="ignore", invalid="ignore")
def pads(
    nodes: Sequence[Node], reach: Mapping[Input, Vector], roundings: int
) -> dict[Node, Vector]:
    """What rounding may lose in back-substituted bounds of each node's entries.

    And in affine forms, which are composed the other way. Either is a sum over paths, from an entry down to a bias, an
    input or a line's offset, of products of weights and slopes. A path meets no more than `operations` roundings: at
    each node those of one sum over its rows, or columns, and one sum more for what else reads the node, and for the
    total. So the error is at most gamma of them times the sum of the absolute values. As slopes are at most 1, these
    are for biases and inputs together at most S, what the entry can be by the absolute values of all weights
    (`sizes`); and for the offsets in one switch again at most S, as an offset is no larger than what the switch reads,
    whose error, the same with that node's S, is part of the offset: it also makes up for the two roundings of a
    chord's slope. Another S for each switch, for bounds that are larger than S by what rounding lost, and twice in the
    end, leave room for products of errors.

    A coefficient that underflows loses less than TINY: on the way up this meets the weights above (`lost`), on the way
    down what the node can be.

    Parameters
    ----------
    nodes
        A graph's, operands first.
    reach
        For each input at least the absolute values of its entries.
    roundings
        How many units of 2^-53 the entries of the matrices may be off, in proportion to each.
    """
    sizes: dict[Node, Vector] = {}
    lost: dict[Node, Vector] = {}  # by underflow of coefficients from the inputs up
    operations, switches = 0, 2
    least = TINY * (1 + sum(float(each.sum()) for each in reach.values()))
    for node in nodes:
        match node:
            case Input():
                sizes[node], lost[node] = reach[node], np.zeros(node.size)
                operations += node.size + 2
            case Affine():
                sizes[node], lost[node] = np.abs(node.bias), np.full(node.size, least)
                operations += node.size + roundings
                for weight, x in node.terms:
                    sizes[node] = sizes[node] + abs(weight) @ sizes[x]
                    lost[node] = lost[node] + abs(weight) @ lost[x]
                    operations += max(most_terms(weight), weight.shape[0]) + 2
            case Switch():
                sizes[node], lost[node] = sizes[node.x], lost[node.x]
                operations += 2 * node.size + 8
                switches += 2  # its offset, and room
            case Conditional():
                pass
            case _:
                assert_never(node)
    # A coefficient of a node that underflows on the way down loses TINY times what the node can be.
    least += TINY * sum(float(size.sum()) for size in sizes.values())
    return {
        node: gamma(operations) * switches * size + lost[node] + least
        for node, size in sizes.items()
    }


class _Run:
    """Bounds of all nodes for one batch of states."""

    def __init__(self, of: _Relaxation, states: list[States]) -> None:
        self.of, self.count = of, len(states[0])
        self.states = states
        self.bounds: dict[Node, tuple[Vector, Vector]] = {}  # shapes (size, b)
        self.weights = [np.zeros(layer.shape) for layer in states]
        self.lines: dict[Switch, _BatchedLines] = {}

    @np.errstate(over="ignore", invalid="ignore")  # what overflows says nothing
    def through(self) -> None:
        """Bounds of the nodes that matter, from the inputs up."""
        for node in self.of.nodes:
            if isinstance(node, Conditional):
                self.bounds[node] = self._gates(node)
                continue
            lower, upper = (
                np.broadcast_to(side[:, None], (node.size, self.count))
                for side in self.of.root[node]
            )
            if node in self.of.targets:
                lower, upper = self._sharpened(node, lower, upper)
            self.bounds[node] = lower, upper

    def _gates(self, node: Conditional) -> tuple[Vector, Vector]:
        layer = self.of.layers.get(node)
        if node.x not in self.bounds:  # of a network whose own nodes are no part of this
            assert layer is not None
            # The bounds for all regions take these gates' states for granted: a neuron that is 0 all over a region may
            # have either, but the same one everywhere.
            states, (least, most) = (
                self.states[layer].T,
                (side[:, None] for side in self.of.root[node]),
            )
            states = np.where(least == most, least, states)
            return (states == ON).astype(np.float64), (states != OFF).astype(np.float64)
        lower, upper = self.bounds[node.x]
        found = np.where(upper <= 0, OFF, np.where(lower >= 0, ON, FREE))
        if layer is not None:
            states = self.states[layer].T
            found = np.where(states != FREE, states, found)
            self.states[layer] = np.ascontiguousarray(found.T.astype(np.int8))
            # A gate that is on or off says on which side of 0 its input is, all over these regions.
            low = np.where(found == ON, np.maximum(lower, 0.0), np.minimum(lower, upper))
            self.bounds[node.x] = (
                low,
                np.where(found == OFF, np.minimum(upper, 0.0), np.maximum(upper, low)),
            )
        return (found == ON).astype(np.float64), (found != OFF).astype(np.float64)

    def _sharpened(self, target: Node, lower: Vector, upper: Vector) -> tuple[Vector, Vector]:
        """The bounds of a node by back-substitution, shape (size, b)."""
        rows = np.flatnonzero((lower < upper).any(axis=1))
        if not rows.size:
            return lower, upper
        # Upper bounds of +y and of -y; of the objective +y alone will do.
        both = 1 if target is self.of.objective and target.size == 1 else 2
        wide = both * rows.size
        start = np.zeros((target.size, self.count, wide))
        start[rows, :, np.arange(rows.size)] = 1.0
        if both == 2:
            start[rows, :, np.arange(rows.size, wide)] = -1.0
        total = self._pulled(target, start)
        total = np.where(
            np.isfinite(total), total, np.inf
        )  # a coefficient that overflowed may be any large one
        pad = self.of.pads[target][rows, None]
        lower, upper = lower.copy(), upper.copy()
        upper[rows] = np.fmin(upper[rows], total[:, : rows.size].T + pad)
        if both == 2:
            lower[rows] = np.fmax(lower[rows], -total[:, rows.size :].T - pad)
        crossed = lower > upper  # where no region has these gates, or by rounding
        return np.where(crossed, upper, lower), np.where(crossed, lower, upper)

    def _pulled(self, target: Node, start: Vector) -> Vector:
        """Upper bounds of linear forms in a node, given as (size, b, forms), of shape (b, forms)."""
        pending: dict[Node, Vector] = {target: start}
        count, wide = start.shape[1:]
        total = np.zeros((count, wide))

        def push(x: Node, part: Vector) -> None:
            pending[x] = pending[x] + part if x in pending else part

        for node in reversed(self.of.nodes[: self.of.positions[target] + 1]):
            part = pending.pop(node, None)
            if part is None:
                continue
            match node:
                case Input():
                    total += (
                        self.of.sets[node]
                        .support(part.reshape(node.size, -1).T)
                        .reshape(count, wide)
                    )
                case Affine():
                    flat = part.reshape(node.size, -1)
                    if node.bias.any():
                        total += (node.bias @ flat).reshape(count, wide)
                    for weight, x in node.terms:
                        push(x, (weight.T @ flat).reshape(x.size, count, wide))
                case Switch():
                    lines = self._lines(node)
                    positive = np.maximum(part, 0.0)
                    negative = part - positive
                    added = positive * lines.upper_offset[:, :, None]
                    if lines.lower_offset is not None:
                        added += negative * lines.lower_offset[:, :, None]
                    total += added.sum(axis=0)
                    if target is self.of.objective and node.gate in self.of.layers:
                        self.weights[self.of.layers[node.gate]] += added.sum(axis=2).T
                    positive *= lines.upper_slope[:, :, None]
                    negative *= lines.lower_slope[:, :, None]
                    positive += negative
                    push(node.x, positive)
                case Conditional():
                    raise AssertionError("gates are read by switches alone")
                case _:
                    assert_never(node)
        return total

    def _lines(self, node: Switch) -> _BatchedLines:
        if node not in self.lines:
            pad = self.of.pads[node.x][:, None]
            self.lines[node] = _BatchedLines(
                *self.bounds[node.x], *self.bounds[node.gate], pad, node.gate.x is node.x
            )
        return self.lines[node]


class _BatchedLines:
    """Lines above and below y = a x, entry by entry."""

    def __init__(
        self, lower: Vector, upper: Vector, least: Vector, most: Vector, pad: Vector, own: bool
    ) -> None:
        unknown = least != most
        crossing = unknown & (lower < 0) & (upper > 0)
        width = np.where(crossing, upper - lower, 1.0)
        ratio = np.clip(np.where(crossing, upper / width, (lower >= 0) & (upper > 0)), 0.0, 1.0)
        self.upper_slope = np.where(unknown, ratio, most)
        self.upper_offset = np.where(crossing, -ratio * lower + pad, 0.0)
        self.lower_offset: Vector | None = None
        if own:
            self.lower_slope = np.where(unknown, (upper > -lower).astype(np.float64), most)
        else:
            ratio = np.clip(np.where(crossing, -lower / width, upper <= 0), 0.0, 1.0)
            self.lower_slope = np.where(unknown, ratio, most)
            self.lower_offset = np.where(crossing, -ratio * upper - pad, 0.0)
