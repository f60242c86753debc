"""Interval arithmetic on a graph, rounded outward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from typing_extensions import assert_never

from lipexact.graph.ir import Affine, Conditional, Input, Node, Switch
from lipexact.numerics.arrays import Vector, lengths, most_terms
from lipexact.numerics.rounding import TINY, down, gamma, up
from lipexact.sets.convex import split_signs

Interval: TypeAlias = tuple[Vector, Vector]
Bounds: TypeAlias = dict[Node, Interval]


def interval(node: Node, bounds: Mapping[Node, Interval], roundings: int = 0) -> Interval:
    """Bound a node from the bounds of its operands.

    Gates are bounded by 0 and 1: a gate is on where its input's lower bound is at least 0 (an input
    that is 0 on a whole region has derivative 0 there, so its gate may count as on), off where its
    upper bound is at most 0, open elsewhere.

    Parameters
    ----------
    node
        Any node but an input.
    bounds
        Lower and upper bounds of the operands, each of shape (size,).
    roundings
        That the entries of the node's matrices have seen already.

    Returns
    -------
    lower, upper
        Each of shape (size,), valid in exact arithmetic.
    """
    match node:
        case Input():
            raise ValueError("an input has the bounds of its set")
        case Affine():
            return _affine(node, bounds, roundings)
        case Conditional():
            lower, upper = bounds[node.x]
            return ((lower >= 0) & (upper > 0)).astype(np.float64), (upper > 0).astype(np.float64)
        case Switch():
            lower, upper = bounds[node.x]
            least, most = bounds[node.gate]
            if node.gate.x is node.x:
                return np.maximum(lower, 0.0) * most, np.maximum(upper, 0.0) * most
            return np.minimum(lower * least, lower * most), np.maximum(upper * least, upper * most)
        case _:
            assert_never(node)


def point_bounds(nodes: tuple[Node, ...], x: Input, point: Vector) -> Bounds:
    """Return enclosures of every node's value at one point, for graphs of the one input x."""
    return intervals(nodes, {x: (point, point)})


def intervals(nodes: tuple[Node, ...], known: Mapping[Node, Interval]) -> Bounds:
    """Return known bounds of some nodes, inputs among them, and intervals of the others."""
    bounds = dict(known)
    for node in nodes:
        if node not in bounds:
            bounds[node] = interval(node, bounds)
    return bounds


def magnitude(bounds: Interval) -> Vector:
    """Return the largest absolute value within the bounds."""
    return np.maximum(np.abs(bounds[0]), np.abs(bounds[1]))


def length_bound(bounds: Interval) -> float:
    """Return at least the Euclidean length of every vector within the bounds.

    Of a single number it is the upper bound.
    """
    if bounds[0].size == 1:
        return float(bounds[1][0])
    reach = magnitude(bounds)
    # Quotients by the largest entry, their squares, the sum, half of which is left by the root, the
    # root, and the product with that entry: less than n + 4 operations. The last one may underflow.
    return float(lengths(reach[None, :])[0, 0] * (1 + gamma(reach.size + 4)) + TINY * reach.any())


def _affine(node: Affine, bounds: Mapping[Node, Interval], roundings: int) -> Interval:
    """Bound an affine node by its weights' positive and negative parts.

    A product meets its own rounding, at most n - 1 of the sum over n entries, that of the two
    signs' parts, and those of the sums over terms and the bias: at most 1 + sum of (n + 1) over all
    terms, in any order.
    """
    lower = node.bias.copy()
    upper = node.bias.copy()
    # Sums of absolute values on either side: an entry that is exactly 0 stays exactly 0.
    below = np.abs(node.bias)
    above = np.abs(node.bias)
    operations = 1 + roundings
    # Products may underflow to 0: whether there were any is counted apart.
    any_below = node.bias != 0
    any_above = node.bias != 0
    for weight, x in node.terms:
        positive, negative = split_signs(weight)
        low, high = bounds[x]
        lower = lower + (positive @ low + negative @ high)
        upper = upper + (positive @ high + negative @ low)
        below = below + (positive @ np.abs(low) - negative @ np.abs(high))
        above = above + (positive @ np.abs(high) - negative @ np.abs(low))
        any_below = any_below | ((positive != 0) @ (low != 0)) | ((negative != 0) @ (high != 0))
        any_above = any_above | ((positive != 0) @ (high != 0)) | ((negative != 0) @ (low != 0))
        operations += most_terms(weight) + 1
    return down(lower, below, operations) - TINY * any_below, up(
        upper, above, operations
    ) + TINY * any_above


def gate_state(gate: Conditional, bounds: Mapping[Node, Interval]) -> Vector:
    """Return 1.0 where the gate is on, 0.0 where it is off, NaN where it is open."""
    least, most = bounds[gate]
    return np.where(least == most, least, np.nan)
