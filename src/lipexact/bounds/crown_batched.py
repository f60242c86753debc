"""Linear relaxation for many choices of a network's gates at once.

The relaxation is that of :mod:`lipexact.bounds.crown`, in dense arrays with one more axis, so that
one product of matrices serves all choices. What rounding may lose is not followed from step to step
but bounded once (:func:`rounding_pads`): slopes lie in [0, 1], so no coefficient is larger than
that of the graph with all gates on and the absolute values of its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from typing_extensions import assert_never

from lipexact.bounds import constants
from lipexact.bounds.interval import Bounds, gate_state, length_bound, magnitude
from lipexact.bounds.substitution import substitute_back
from lipexact.graph.ir import (
    Affine,
    Conditional,
    Input,
    Node,
    Switch,
    Value,
    operands,
    topological,
)
from lipexact.graph.pattern import FREE, OFF, ON, States
from lipexact.network import Network
from lipexact.numerics.arrays import Vector, most_terms
from lipexact.numerics.rounding import TINY, gamma
from lipexact.problem.problem import Problem
from lipexact.sets.convex import ConvexSet
from lipexact.sets.domain import Domain


class GateBounds:
    """Fixes free gates that follow from a choice of others, by bounds of pre-activations.

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
        # What the box around a polytope leaves free, the linear programs of the search fix.
        self._relaxation = _Relaxation(nodes, {network.input: domain.quick}, bounds, layers)
        root = (gate_state(gate, bounds) for gate in network.gates)
        self.root = tuple(np.where(np.isnan(s), FREE, s).astype(np.int8) for s in root)

    @property
    def errors(self) -> list[Vector]:
        """What rounding may lose in each layer's pre-activations and their affine forms."""
        return [self._relaxation.pads[gate.x] for gate in self.network.gates]

    def propagate(self, states: Sequence[States]) -> list[States]:
        """Return the states with those of free gates that follow, on all regions with interior.

        Parameters
        ----------
        states
            For each layer of gates ON, OFF or FREE, shape (b, size).
        """
        result = [layer.copy() for layer in states]
        for part in slices(len(states[0]), self._relaxation.at_once):
            batch = _Batch(self._relaxation, [layer[part] for layer in result])
            batch.bound_all()
            for whole, layer in zip(result, batch.states, strict=True):
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
        """Return upper bounds, and how much of them each gate's relaxation accounts for.

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
        upper = np.zeros(count)
        weights = [np.zeros(layer.shape) for layer in states]
        for part in slices(count, self._relaxation.at_once):
            batch = _Batch(self._relaxation, [layer[part] for layer in states])
            batch.bound_all()
            lower, most = batch.bounds[self._objective]
            if len(lower) == 1:
                upper[part] = np.maximum(most[0], 0.0)
            else:
                upper[part] = [length_bound((a, b)) for a, b in zip(lower.T, most.T, strict=True)]
            for whole, layer in zip(weights, batch.weights, strict=True):
                whole[part] = layer
        return upper, weights


class _Relaxation:
    """What does not depend on the choice of gates: nodes, root bounds, and targets.

    Attributes
    ----------
    targets
        The nodes that are worth bounds of their own.
    pads
        What rounding may lose in the bounds of each node.
    at_once
        How many choices fit into one part of a batch.
    cost
        About how many numbers one choice takes.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        sets: Mapping[Input, ConvexSet],
        root: Bounds,
        layers: Mapping[Conditional, int],
        objective: Value | None = None,
        roundings: int = 0,
    ) -> None:
        self.nodes = nodes
        self.sets = sets
        self.root = root
        self.layers = layers
        self.objective = objective
        self.positions = {node: k for k, node in enumerate(nodes)}
        self.targets = _targets(nodes, objective)
        reach = {node: magnitude(root[node]) for node in nodes if isinstance(node, Input)}
        self.pads = rounding_pads(nodes, reach, roundings)
        widest = max((node.size for node in nodes), default=1)
        forms = max((node.size for node in self.targets), default=1)
        self.at_once = max(constants.ARRAY_NUMBERS // (2 * widest * forms), 1)
        below = np.cumsum([node.size for node in nodes])
        self.cost = float(sum(2 * node.size * below[self.positions[node]] for node in self.targets))


def _targets(nodes: Sequence[Node], objective: Value | None) -> set[Node]:
    """Return the affine nodes that depend on gates, and that a gate, a switch or nobody reads."""
    depends: dict[Node, bool] = {}
    wanted: set[Node] = set() if objective is None else {objective}
    for node in nodes:
        is_gated = isinstance(node, Conditional | Switch)
        depends[node] = is_gated or any(depends[x] for x in operands(node))
        if isinstance(node, Switch) or (isinstance(node, Conditional) and node.x in depends):
            wanted.add(node.x)
    return {node for node in wanted if isinstance(node, Affine) and depends[node]}


def slices(count: int, at_once: int) -> list[slice]:
    """Return the parts of a batch of so many choices that fit into memory."""
    return [slice(start, start + at_once) for start in range(0, count, at_once)]


@np.errstate(over="ignore", invalid="ignore")
def rounding_pads(
    nodes: Sequence[Node], reach: Mapping[Input, Vector], roundings: int
) -> dict[Node, Vector]:
    """Return what rounding may lose in back-substituted bounds of each node's entries.

    And in affine forms, which are composed the other way. Either is a sum over paths, from an entry
    down to a bias, an input or a line's offset, of products of weights and slopes. A path meets no
    more than `operations` roundings: at each node those of one sum over its rows, or columns, and
    one sum more for what else reads the node, and for the total. So the error is at most gamma of
    them times the sum of the absolute values. As slopes are at most 1, these are for biases and
    inputs together at most S, what the entry can be by the absolute values of all weights
    (`sizes`); and for the offsets in one switch again at most S, as an offset is no larger than
    what the switch reads, whose error, the same with that node's S, is part of the offset: it also
    makes up for the two roundings of a chord's slope. Another S for each switch, for bounds that
    are larger than S by what rounding lost, and twice in the end, leave room for products of
    errors.

    For example, y = 3 relu(2 x - 1) - 4 with |x| <= 1 has S = 2 * 1 + 1 = 3 at the inner affine
    node, and S = 3 * 3 + 4 = 13 at y. With some 30 operations and one switch the pad of y is about
    30 * 2^-53 * 4 * 13, or 2e-13.

    A coefficient that underflows loses less than TINY: on the way up this meets the weights above
    (`lost`), on the way down what the node can be.

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
    operations = 0
    switches = 2
    least = TINY * (1 + sum(float(each.sum()) for each in reach.values()))
    for node in nodes:
        match node:
            case Input():
                sizes[node] = reach[node]
                lost[node] = np.zeros(node.size)
                operations += node.size + 2
            case Affine():
                sizes[node] = np.abs(node.bias)
                lost[node] = np.full(node.size, least)
                operations += node.size + roundings
                for weight, x in node.terms:
                    sizes[node] = sizes[node] + abs(weight) @ sizes[x]
                    lost[node] = lost[node] + abs(weight) @ lost[x]
                    operations += max(most_terms(weight), weight.shape[0]) + 2
            case Switch():
                sizes[node] = sizes[node.x]
                lost[node] = lost[node.x]
                operations += 2 * node.size + 8
                switches += 2  # its offset, and room
            case Conditional():
                pass
            case _:
                assert_never(node)
    # A coefficient of a node that underflows on the way down loses TINY times what the node can be.
    least += TINY * sum(float(size.sum()) for size in sizes.values())
    relative = gamma(operations) * switches
    return {node: relative * size + lost[node] + least for node, size in sizes.items()}


class _Batch:
    """Bounds of all nodes for one batch of choices.

    Attributes
    ----------
    states
        For each layer of gates, shape (b, size).
    bounds
        For each node its lower and upper bounds, each of shape (size, b).
    weights
        For each layer how much each gate's relaxation adds to the objective's bound, shape
        (b, size).
    """

    def __init__(self, relaxation: _Relaxation, states: list[States]) -> None:
        self.relaxation = relaxation
        self.count = len(states[0])
        self.states = states
        self.bounds: dict[Node, tuple[Vector, Vector]] = {}
        self.weights = [np.zeros(layer.shape) for layer in states]
        self._lines: dict[Switch, _BatchedLines] = {}

    @np.errstate(over="ignore", invalid="ignore")  # what overflows says nothing
    def bound_all(self) -> None:
        """Bound the nodes from the inputs up, and fix gates on the way."""
        for node in self.relaxation.nodes:
            if isinstance(node, Conditional):
                self.bounds[node] = self._bound_gates(node)
                continue
            shape = (node.size, self.count)
            root = self.relaxation.root[node]
            lower, upper = (np.broadcast_to(side[:, None], shape) for side in root)
            if node in self.relaxation.targets:
                lower, upper = self._tighten(node, lower, upper)
            self.bounds[node] = lower, upper

    def _bound_gates(self, node: Conditional) -> tuple[Vector, Vector]:
        """Return bounds of gates, 0 or 1 where they are fixed, and tighten what they read."""
        layer = self.relaxation.layers.get(node)
        if node.x not in self.bounds:  # of a network whose own nodes are no part of this
            assert layer is not None
            return self._bound_given_gates(node, self.states[layer].T)
        lower, upper = self.bounds[node.x]
        found = np.where(upper <= 0, OFF, np.where(lower >= 0, ON, FREE))
        if layer is not None:
            states = self.states[layer].T
            found = np.where(states != FREE, states, found)
            self.states[layer] = np.ascontiguousarray(found.T.astype(np.int8))
            # A gate that is on or off says on which side of 0 its input is, all over these regions.
            low = np.where(found == ON, np.maximum(lower, 0.0), np.minimum(lower, upper))
            high = np.where(found == OFF, np.minimum(upper, 0.0), np.maximum(upper, low))
            self.bounds[node.x] = low, high
        return (found == ON).astype(np.float64), (found != OFF).astype(np.float64)

    def _bound_given_gates(self, node: Conditional, states: States) -> tuple[Vector, Vector]:
        """Return bounds of gates whose states are given.

        The bounds for all regions take these gates' states for granted: a neuron that is 0 all over
        a region may have either, but the same one everywhere.
        """
        least, most = (side[:, None] for side in self.relaxation.root[node])
        fixed = np.where(least == most, least, states)
        return (fixed == ON).astype(np.float64), (fixed != OFF).astype(np.float64)

    def _tighten(self, target: Node, lower: Vector, upper: Vector) -> tuple[Vector, Vector]:
        """Return a node's bounds intersected with those by back-substitution, shape (size, b)."""
        rows = np.flatnonzero((lower < upper).any(axis=1))
        if not rows.size:
            return lower, upper
        # Upper bounds of +y and of -y; of the objective +y alone will do.
        is_objective = target is self.relaxation.objective
        both = 1 if is_objective and target.size == 1 else 2
        forms = both * rows.size
        start = np.zeros((target.size, self.count, forms))
        start[rows, :, np.arange(rows.size)] = 1.0
        if both == 2:
            start[rows, :, np.arange(rows.size, forms)] = -1.0
        nodes = self.relaxation.nodes[: self.relaxation.positions[target] + 1]
        rules = _DenseRules(self, forms, keep_weights=is_objective)
        substitute_back(nodes, target, start, rules)
        # A coefficient that overflowed may be any large one.
        total = np.where(np.isfinite(rules.total), rules.total, np.inf)
        pad = self.relaxation.pads[target][rows, None]
        lower = lower.copy()
        upper = upper.copy()
        upper[rows] = np.fmin(upper[rows], total[:, : rows.size].T + pad)
        if both == 2:
            lower[rows] = np.fmax(lower[rows], -total[:, rows.size :].T - pad)
        crossed = lower > upper  # where no region has these gates, or by rounding
        return np.where(crossed, upper, lower), np.where(crossed, lower, upper)

    def lines(self, node: Switch) -> _BatchedLines:
        """Return the lines above and below a switch."""
        if node not in self._lines:
            pad = self.relaxation.pads[node.x][:, None]
            own = node.gate.x is node.x
            bounds = (*self.bounds[node.x], *self.bounds[node.gate])
            self._lines[node] = _BatchedLines(*bounds, pad, own)
        return self._lines[node]


class _DenseRules:
    """The steps of back-substitution in dense arrays: coefficients have the shape (size, b, forms).

    Attributes
    ----------
    total
        The constants of the forms, shape (b, forms).
    """

    def __init__(self, batch: _Batch, forms: int, *, keep_weights: bool) -> None:
        self.batch = batch
        self.shape = (batch.count, forms)
        self.total = np.zeros(self.shape)
        self.keep_weights = keep_weights

    def close(self, node: Input, part: Vector) -> None:
        """Add the support function of the input's set."""
        flat = part.reshape(node.size, -1)
        self.total += self.batch.relaxation.sets[node].support(flat.T).reshape(self.shape)

    def through_affine(self, node: Affine, part: Vector) -> Iterator[tuple[Value, Vector]]:
        """Add the bias, and yield the products with the weights."""
        flat = part.reshape(node.size, -1)
        if node.bias.any():
            self.total += (node.bias @ flat).reshape(self.shape)
        for weight, x in node.terms:
            yield x, (weight.T @ flat).reshape(x.size, *self.shape)

    def through_switch(self, node: Switch, part: Vector) -> Vector:
        """Add the offsets of the lines, and return the coefficients times their slopes."""
        lines = self.batch.lines(node)
        positive = np.maximum(part, 0.0)
        negative = part - positive
        added = positive * lines.upper_offset[:, :, None]
        if lines.lower_offset is not None:
            added += negative * lines.lower_offset[:, :, None]
        self.total += added.sum(axis=0)
        layers = self.batch.relaxation.layers
        if self.keep_weights and node.gate in layers:
            self.batch.weights[layers[node.gate]] += added.sum(axis=2).T
        positive *= lines.upper_slope[:, :, None]
        negative *= lines.lower_slope[:, :, None]
        positive += negative
        return positive

    def add(self, node: Value, one: Vector, other: Vector) -> Vector:  # noqa: ARG002
        """Return the sum of coefficients."""
        return one + other


class _BatchedLines:
    """Lines above and below y = a x, entry by entry, that hold but for the pad of x.

    For example, on -1 <= x <= 3 with its own gate, the chord above is 3/4 x + (3/4 + pad).
    """

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
