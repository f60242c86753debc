"""Linear relaxation of a graph by back-substitution, rounded outward.

An upper bound a y <= A z + r of a node's entries is pushed from the node down to the inputs, through
affine nodes by substitution, and through open switches by a line above (where the coefficient is
positive) or below (where it is negative) of y = a x:

* a switch with its own gate, y = max(x, 0) on [l, u]: the chord above, 0 or x below (CROWN; Zhang et al.,
  NeurIPS 2018);
* a switch with another open gate, y = x or 0: the chord of max(x, 0) above, the chord of min(x, 0)
  below (Shi et al., NeurIPS 2022).

At the inputs the support function of their sets closes the bound. Every step adds what rounding may
have lost, so that the bounds hold in exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from typing_extensions import assert_never

from lipexact.bounds.interval import Bounds, Interval, interval, magnitude
from lipexact.domains import ConvexSet, split_signs
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Matrix, Node, Switch, Value, Vector, dense
from lipexact.rounding import TINY, down, gamma, up

Rows: TypeAlias = npt.NDArray[np.intp]


def bound(graph: Graph, sets: Mapping[Input, ConvexSet], known: Mapping[Node, Interval] | None = None) -> Bounds:
    """Bounds of every node: intervals, sharpened by linear relaxation where it can matter.

    Linear relaxation is used for the inputs of conditionals and of switches with an open gate, and for
    the outputs, and intersected with the intervals.

    Parameters
    ----------
    graph
        Any graph.
    sets
        What each of the graph's inputs ranges over.
    known
        Bounds that hold for other reasons; they are intersected with.

    Returns
    -------
    dict
        For each node its lower and upper bounds, each of shape (size,). They hold for every choice of
        gates that :class:`~lipexact.graph.ir.Conditional` allows.
    """
    bounds: Bounds = {}
    gated: dict[Node, list[Conditional]] = {}
    for node in graph.nodes:
        if isinstance(node, Conditional):
            gated.setdefault(node.x, [])
        elif isinstance(node, Switch):
            gated.setdefault(node.x, []).append(node.gate)
    for position, node in enumerate(graph.nodes):
        if isinstance(node, Input):
            bounds[node] = (sets[node].lower, sets[node].upper)
            continue
        bounds[node] = interval(node, bounds)
        if known is not None and node in known:
            bounds[node] = _meet(bounds[node], known[node])
        if isinstance(node, Affine):
            rows = _worth_sharpening(node, gated, bounds, node in graph.outputs)
            if rows.size:
                sharpened = _back_substitute(graph.nodes[: position + 1], node, rows, bounds, sets)
                lower, upper = (side.copy() for side in bounds[node])
                lower[rows], upper[rows] = _meet((lower[rows], upper[rows]), sharpened)
                bounds[node] = (lower, upper)
    return bounds


def _worth_sharpening(node: Affine, gated: Mapping[Node, list[Conditional]], bounds: Bounds, output: bool) -> Rows:
    lower, upper = bounds[node]
    worth = np.full(node.size, output)
    if node in gated:
        worth |= (lower < 0) & (upper > 0)
        for gate in gated[node]:
            if gate in bounds:
                worth |= bounds[gate][0] != bounds[gate][1]
    return np.flatnonzero(worth & (lower < upper))


def _meet(a: Interval, b: Interval) -> Interval:
    lower, upper = np.maximum(a[0], b[0]), np.minimum(a[1], b[1])
    # Two valid enclosures of one number cross only where rounding made one of them a little too wide.
    return np.minimum(lower, upper), np.maximum(lower, upper)


def _back_substitute(
    nodes: tuple[Node, ...], target: Affine, rows: Rows, bounds: Bounds, sets: Mapping[Input, ConvexSet]
) -> Interval:
    count = rows.size
    # Upper bounds of +y and of -y in one pass.
    start = sp.csr_array((np.ones(count), (np.arange(count), rows)), shape=(count, target.size))
    pending: dict[Node, Matrix] = {target: sp.vstack([start, -start], format="csr")}
    total = np.zeros(2 * count)
    spread = np.zeros(2 * count)  # the sum of the absolute values that went into `total`
    loss = np.zeros(2 * count)
    operations = 2

    def push(x: Value, coefficients: Matrix, error: Matrix, steps: int) -> None:
        """Add coefficients that are off by at most gamma(steps) * error."""
        nonlocal loss
        reach = magnitude(bounds[x])
        loss = loss + gamma(steps + 3) * (error @ reach) + TINY * (1 + reach.sum())
        if x in pending:
            coefficients = pending[x] + coefficients
            loss = loss + gamma(1) * (abs(coefficients) @ reach)
        pending[x] = coefficients

    for node in reversed(nodes):
        if node not in pending:
            continue
        coefficients = pending.pop(node)
        match node:
            case Input():
                total = total + sets[node].support(coefficients)
                spread = spread + abs(coefficients) @ magnitude(bounds[node])
                operations += node.size + 1
            case Affine():
                total = total + coefficients @ node.bias
                spread = spread + abs(coefficients) @ np.abs(node.bias)
                operations += node.size + 1
                for weight, x in node.terms:
                    push(x, dense(coefficients @ weight), dense(abs(coefficients) @ abs(weight)), node.size)
            case Switch():
                coefficients = dense(coefficients)
                positive, negative = split_signs(coefficients)
                lines = _lines(node, bounds)
                total = total + positive @ lines.upper_offset + negative @ lines.lower_offset
                spread = spread + positive @ np.abs(lines.upper_offset) - negative @ np.abs(lines.lower_offset)
                operations += 2 * node.size + 2
                below = positive * lines.upper_slope + negative * lines.lower_slope
                push(node.x, below, abs(below), 2)
            case Conditional():
                raise AssertionError("gates are read by switches alone")
            case _:
                assert_never(node)
    high = up(total, spread, operations) + loss * 1.01
    return down(-high[count:], np.abs(high[count:]), 0), up(high[:count], np.abs(high[:count]), 0)


class _Lines:
    """Lines above and below y = a x, entry by entry, that hold in exact arithmetic."""

    def __init__(self, lower: Vector, upper: Vector, open_gate: npt.NDArray[np.bool_], on: Vector, own: bool) -> None:
        width = np.where(upper > lower, upper - lower, 1.0)
        low, high = np.minimum(lower, 0.0), np.maximum(upper, 0.0)
        # Chord of max(x, 0): slopes are rounded as they come, offsets make the lines valid at both ends.
        slope = np.clip(np.where(lower >= 0, 1.0, np.where(upper <= 0, 0.0, upper / width)), 0.0, 1.0)
        offset = np.maximum(np.maximum(-slope * low, high - slope * high), 0.0)
        offset = up(offset, np.maximum(np.abs(low), np.abs(high)), 2)
        self.upper_slope = np.where(open_gate, slope, on)
        self.upper_offset = np.where(open_gate & (lower < 0) & (upper > 0), offset, 0.0)
        if own:
            self.lower_slope = np.where(open_gate, (upper > -lower).astype(np.float64), on)
            self.lower_offset = np.zeros_like(lower)
        else:
            slope = np.clip(np.where(upper <= 0, 1.0, np.where(lower >= 0, 0.0, -lower / width)), 0.0, 1.0)
            offset = np.minimum(np.minimum(low - slope * low, -slope * high), 0.0)
            offset = down(offset, np.maximum(np.abs(low), np.abs(high)), 2)
            self.lower_slope = np.where(open_gate, slope, on)
            self.lower_offset = np.where(open_gate & (lower < 0) & (upper > 0), offset, 0.0)


def _lines(node: Switch, bounds: Bounds) -> _Lines:
    lower, upper = bounds[node.x]
    least, most = bounds[node.gate]
    return _Lines(lower, upper, least != most, most, node.gate.x is node.x)
