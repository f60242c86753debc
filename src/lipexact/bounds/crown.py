"""Linear relaxation of a graph by back-substitution (CROWN), rounded outward.

An upper bound a y <= A z + r of a node's entries is pushed from the node down to the inputs
(:mod:`lipexact.bounds.substitution`), through affine nodes by substitution, and through open
switches by a line above (where the coefficient is positive) or below (where it is negative) of
y = a x:

* a switch with its own gate, y = max(x, 0) on [l, u]: the chord above, 0 or x below (CROWN; Zhang
  et al., NeurIPS 2018);
* a switch with another open gate, y = x or 0: the chord of max(x, 0) above, the chord of min(x, 0)
  below (Shi et al., NeurIPS 2022).

At the inputs the support function of their sets closes the bound. Every step adds what rounding may
have lost, so that the bounds hold in exact arithmetic.

Rows that read the same part of a node are substituted together, with dense coefficients of that
part alone: those of a convolution stay as small as its receptive field, and products are as fast as
dense ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.bounds import constants
from lipexact.bounds.interval import Bounds, Interval, interval, magnitude
from lipexact.bounds.substitution import substitute_back
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch, Value
from lipexact.numerics.arrays import Matrix, Vector, dense, entries
from lipexact.numerics.rounding import TINY, down, gamma, up
from lipexact.sets.convex import ConvexSet

Rows: TypeAlias = npt.NDArray[np.intp]


def bound_nodes(
    graph: Graph,
    sets: Mapping[Input, ConvexSet],
    known: Mapping[Node, Interval] | None = None,
    *,
    shared: Mapping[Node, Interval] | None = None,
    roundings: int = 0,
    work: float = constants.MAX_WORK,
    deadline: float = np.inf,
    flat: bool = False,
) -> Bounds:
    """Bound every node by intervals, tightened by linear relaxation where that can matter.

    Linear relaxation is used for the inputs of conditionals and of switches with an open gate, and
    for the outputs, and intersected with the intervals. Where a node would take more than half of
    the work that is left, or past the deadline, only its first few hundred rows are tightened.

    Parameters
    ----------
    graph
        Any graph.
    sets
        What each of the graph's inputs ranges over.
    known
        Bounds that hold for other reasons; they are intersected with.
    shared
        What this function returned for a graph that shares nodes with this one, over the same sets.
    roundings
        How many units of 2^-53 the entries of the matrices may be off, in proportion to each
        (:func:`lipexact.graph.folding.fold_mapped`).
    work
        How many multiplications linear relaxation may take, roughly.
    deadline
        A time of `time.perf_counter`.
    flat
        Whether open switches under another node's gates, whose input may have either sign, are
        bounded by constants rather than by chords, as in RecurJac (Zhang, Zhang and Hsieh, AAAI
        2019).

    Returns
    -------
    dict
        For each node its lower and upper bounds, each of shape (size,). They hold for every choice
        of gates that :class:`~lipexact.graph.ir.Conditional` allows.
    """
    bounds: Bounds = {}
    relaxation = _Relaxation(bounds, sets, roundings, work, deadline, flat)
    gated = _gates_by_input(graph)
    for position, node in enumerate(graph.nodes):
        if shared is not None and node in shared:
            bounds[node] = shared[node]
            continue
        if isinstance(node, Input):
            bounds[node] = (sets[node].lower, sets[node].upper)
            continue
        bounds[node] = interval(node, bounds, roundings)
        if known is not None and node in known:
            bounds[node] = _intersection(bounds[node], known[node])
        if isinstance(node, Affine):
            rows = _rows_to_tighten(node, gated, bounds, node in graph.outputs)
            bounds[node] = relaxation.tighten(graph.nodes[: position + 1], node, rows)
    return bounds


def _gates_by_input(graph: Graph) -> dict[Node, list[Conditional]]:
    """Return, for each node that conditionals or switches read, the gates of those switches."""
    gated: dict[Node, list[Conditional]] = {}
    for node in graph.nodes:
        if isinstance(node, Conditional):
            gated.setdefault(node.x, [])
        elif isinstance(node, Switch):
            gated.setdefault(node.x, []).append(node.gate)
    return gated


def _rows_to_tighten(
    node: Affine, gated: Mapping[Node, list[Conditional]], bounds: Bounds, output: bool
) -> Rows:
    """Return the rows of a node whose bounds matter: outputs, open gates, and what those switch."""
    lower, upper = bounds[node]
    worth = np.full(node.size, output)
    if node in gated:
        worth |= (lower < 0) & (upper > 0)
        for gate in gated[node]:
            if gate in bounds:
                worth |= bounds[gate][0] != bounds[gate][1]
    return np.flatnonzero(worth & (lower < upper))


def _intersection(a: Interval, b: Interval) -> Interval:
    """Return the intersection of two valid enclosures.

    What overflowed is NaN and says nothing. Two valid enclosures of one number cross only where
    rounding made one of them a little too wide.
    """
    lower = np.fmax(a[0], b[0])
    upper = np.fmin(a[1], b[1])
    return np.minimum(lower, upper), np.maximum(lower, upper)


@dataclass
class _Part:
    """Linear forms in some coordinates of a node.

    `values[k]` are the coefficients of coordinate `columns[k]`, in increasing order.
    """

    columns: Rows
    values: Matrix

    def of(self, *vectors: Vector) -> Vector:
        """Return the forms at each of some vectors of the node's size, shape (vectors, forms)."""
        stacked = np.column_stack([vector[self.columns] for vector in vectors])
        return np.asarray(self.values.T @ stacked).T


class _Relaxation:
    """Back-substitution over a graph whose lower nodes have bounds already."""

    def __init__(
        self,
        bounds: Bounds,
        sets: Mapping[Input, ConvexSet],
        roundings: int,
        work: float,
        deadline: float,
        flat: bool,
    ) -> None:
        self.bounds = bounds
        self.sets = sets
        self.roundings = roundings
        self.left = work
        self.deadline = deadline
        self.flat = flat
        self._lines: dict[Switch, SwitchLines] = {}
        self._reach: dict[Node, Vector] = {}
        self._gains: dict[Affine, list[Vector]] = {}

    def tighten(self, nodes: tuple[Node, ...], target: Affine, rows: Rows) -> Interval:
        """Return the bounds of the last node, in some rows intersected with back-substitution's."""
        lower, upper = (side.copy() for side in self.bounds[target])
        # Neighbours in an image, of all channels, begin to read at about the same place.
        rows = rows[np.argsort(_first_columns(target)[rows], kind="stable")]
        before = self.left
        widest = max(node.size for node in nodes)
        step = int(np.clip(constants.MAX_COEFFICIENTS // widest, 1, constants.MAX_ROWS))
        for start in range(0, rows.size, step):
            if start and self._is_too_much(before, rows.size / start):
                break
            chunk = np.sort(rows[start : start + step])
            tightened = self.bound_rows(nodes, target, chunk)
            lower[chunk], upper[chunk] = _intersection((lower[chunk], upper[chunk]), tightened)
        return lower, upper

    def _is_too_much(self, before: float, share: float) -> bool:
        """Return whether other rows would take more than half of the work, or the time is up."""
        expected = (before - self.left) * share
        return expected > before / 2 or time.perf_counter() > self.deadline

    @np.errstate(over="ignore", invalid="ignore")  # what overflows says nothing
    def bound_rows(self, nodes: tuple[Node, ...], target: Affine, rows: Rows) -> Interval:
        """Return bounds of some rows of the last of the nodes, by back-substitution."""
        count = rows.size
        identity = sp.eye_array(count, format="csr")
        # Upper bounds of +y and of -y in one pass.
        start = _Part(rows, sp.hstack([identity, -identity], format="csr"))
        rules = _RoundedRules(self, 2 * count)
        substitute_back(nodes, target, start, rules)
        high = rules.upper()
        lower = down(-high[count:], np.abs(high[count:]), 0)
        upper = up(high[:count], np.abs(high[:count]), 0)
        return lower, upper

    def product(self, weight: Matrix, part: _Part) -> _Part:
        """Return forms in a matrix's rows as forms in what it multiplies, and count the work."""
        everything = part.columns.size == weight.shape[0]
        read = weight if everything else weight[part.columns]
        columns = np.arange(weight.shape[1])
        count = part.values.shape[1]
        if sp.issparse(read):
            used = np.zeros(weight.shape[1], dtype=bool)
            used[read.indices] = True
            columns = np.flatnonzero(used)
            new = (np.cumsum(used) - 1).astype(read.indices.dtype)
            shape = (read.shape[0], columns.size)
            read = sp.csr_array((read.data, new[read.indices], read.indptr), shape=shape)
            area = read.shape[0] * columns.size
            if area < min(constants.DENSE_GAIN * read.nnz, constants.MAX_DENSE_ENTRIES):
                read = read.toarray()
        multiplications = read.nnz if sp.issparse(read) else read.size / constants.DENSE_GAIN
        self.left -= count * multiplications
        self.left -= count * columns.size  # what follows
        return _Part(columns, dense(read.T @ part.values))

    def reach(self, node: Node) -> Vector:
        """Return how large a node's entries can be."""
        if node not in self._reach:
            self._reach[node] = magnitude(self.bounds[node])
        return self._reach[node]

    def gains(self, node: Affine) -> list[Vector]:
        """Return how large the terms of an affine node can be."""
        if node not in self._gains:
            self._gains[node] = [abs(weight) @ self.reach(x) for weight, x in node.terms]
        return self._gains[node]

    def lines(self, node: Switch) -> SwitchLines:
        """Return the lines above and below a switch."""
        if node not in self._lines:
            self._lines[node] = SwitchLines(
                self.bounds[node.x],
                self.bounds[node.gate],
                own=node.gate.x is node.x,
                flat=self.flat,
            )
        return self._lines[node]


class _RoundedRules:
    """The steps of back-substitution, with what rounding may have lost in each.

    Coefficients are numbers as they come: y <= a x + t holds for those that were computed, up to a
    loss. A row of a product a W over n entries is off by gamma_n |a| |W| at most, and so is the
    bound by that times what x can be; likewise a sum of coefficients, and a slope times one. A
    coefficient that underflows is off by less than TINY, and with it the bound by TINY times the
    sum of what x can be.

    Parameters
    ----------
    relaxation
        Bounds, lines and reaches of the nodes.
    forms
        How many forms there are.

    Attributes
    ----------
    total
        The constants of the forms: one long sum of `operations` operations, whose terms have the
        absolute values in `spread`.
    loss
        What rounding of coefficients may lose in the end.
    """

    def __init__(self, relaxation: _Relaxation, forms: int) -> None:
        self.relaxation = relaxation
        self.total = np.zeros(forms)
        self.spread = np.zeros(forms)
        self.loss = np.zeros(forms)
        self.operations = 2 + relaxation.roundings

    def upper(self) -> Vector:
        """Return upper bounds of the forms after the walk."""
        return up(self.total, self.spread, self.operations) + self.loss * 1.01

    def close(self, node: Input, part: _Part) -> None:
        """Add the support function of the input's set."""
        reach = self.relaxation.reach(node)
        self.total = self.total + self.relaxation.sets[node].support(_rows(part, node.size))
        self.spread = self.spread + _Part(part.columns, abs(part.values)).of(reach)[0]
        self.operations += part.columns.size + 1

    def through_affine(self, node: Affine, part: _Part) -> Iterator[tuple[Value, _Part]]:
        """Add the bias, and yield the products with the weights."""
        relaxation = self.relaxation
        if node.bias.any():
            self.total = self.total + part.of(node.bias)[0]
        absolute = _Part(part.columns, abs(part.values))
        sizes = absolute.of(np.abs(node.bias), *relaxation.gains(node))
        self.spread = self.spread + sizes[0]
        self.operations += part.columns.size + 1
        relative = gamma(part.columns.size + 3 + relaxation.roundings)
        for (weight, x), size in zip(node.terms, sizes[1:], strict=True):
            underflow = TINY * (1 + relaxation.reach(x).sum())
            self.loss = self.loss + relative * size + underflow
            yield x, relaxation.product(weight, part)

    def through_switch(self, node: Switch, part: _Part) -> _Part:
        """Add the offsets of the lines, and return the coefficients times their slopes."""
        lines = self.relaxation.lines(node)
        part = _where(part, lines.matter)
        values = dense(part.values)
        positive = np.maximum(values, 0.0)
        negative = values - positive
        reach = self.relaxation.reach(node.x)
        above = _Part(part.columns, positive).of(lines.upper_offset, lines.upper_slope * reach)
        below = _Part(part.columns, negative).of(lines.lower_offset, -lines.lower_slope * reach)
        # Offsets are never negative above, nor positive below: what is added is its own absolute
        # value.
        self.total = self.total + above[0] + below[0]
        self.spread = self.spread + above[0] + below[0]
        self.operations += 2 * part.columns.size + 2
        self.loss = self.loss + gamma(5) * (above[1] + below[1]) + TINY * (1 + reach.sum())
        positive *= lines.upper_slope[part.columns, None]
        negative *= lines.lower_slope[part.columns, None]
        positive += negative
        return _Part(part.columns, positive)

    def add(self, node: Value, one: _Part, other: _Part) -> _Part:
        """Return the sum, which meets one rounding."""
        part = _sum(one, other)
        absolute = _Part(part.columns, abs(part.values))
        self.loss = self.loss + gamma(1) * absolute.of(self.relaxation.reach(node))[0]
        return part


def _first_columns(node: Affine) -> Rows:
    """Return for each row the first coordinate that it reads, by the largest term."""
    weight: Matrix = max((weight for weight, _ in node.terms), key=entries, default=None)
    if not sp.issparse(weight) or not weight.nnz:
        return np.zeros(node.size, dtype=np.intp)
    return np.asarray(weight.indices[np.minimum(weight.indptr[:-1], weight.nnz - 1)])


def _where(part: _Part, mask: npt.NDArray[np.bool_]) -> _Part:
    """Return the forms without the coordinates outside of a mask."""
    kept = mask[part.columns]
    return part if kept.all() else _Part(part.columns[kept], part.values[kept])


def _sum(a: _Part, b: _Part) -> _Part:
    """Return the sum of forms in the same node."""
    if np.array_equal(a.columns, b.columns):
        return _Part(a.columns, a.values + b.values)
    columns = np.union1d(a.columns, b.columns)
    values = np.zeros((columns.size, a.values.shape[1]))
    values[np.searchsorted(columns, a.columns)] = a.values
    values[np.searchsorted(columns, b.columns)] += b.values
    return _Part(columns, values)


def _rows(part: _Part, size: int) -> Matrix:
    """Return the forms as rows over all coordinates of a node."""
    if part.columns.size == size:
        return part.values.T
    count = part.values.shape[1]
    indices = np.tile(part.columns, count)
    starts = np.arange(count + 1) * part.columns.size
    return sp.csr_array((part.values.T.ravel(), indices, starts), shape=(count, size))


class SwitchLines:
    """Lines above and below y = a x, entry by entry, that hold in exact arithmetic.

    For example, on -1 <= x <= 3 with its own gate, the chord above max(x, 0) is 3/4 x + 3/4, and
    the line below is x, as 3 > 1. With another node's gate, the chord above is the same, and the
    chord below min(x, 0) is 1/4 x - 3/4.

    Parameters
    ----------
    inputs
        Bounds of x.
    gates
        Bounds of a.
    own
        Whether the gate is that of x.
    flat
        Whether lines of other nodes' gates are constants.

    Attributes
    ----------
    upper_slope, upper_offset, lower_slope, lower_offset
        The lines, shape (size,).
    matter
        False where the gate is off, so that y is 0.
    """

    def __init__(self, inputs: Interval, gates: Interval, *, own: bool, flat: bool = False) -> None:
        lower, upper = inputs
        least, on = gates
        is_open = least != on
        width = np.where(upper > lower, upper - lower, 1.0)
        chord = 0.0 if flat and not own else 1.0
        low = np.minimum(lower, 0.0)
        high = np.maximum(upper, 0.0)
        crossing = is_open & (lower < 0) & (upper > 0)
        # Slopes of chords are rounded as they come; offsets make the lines valid at both ends: two
        # operations on numbers no larger than the ends, of which the product may underflow.
        fixed = np.where(upper <= 0, 0.0, chord * upper / width)
        slope = np.clip(np.where(lower >= 0, 1.0, fixed), 0.0, 1.0)
        offset = np.maximum(np.maximum(-slope * low, high - slope * high), 0.0)
        offset = up(offset, np.maximum(np.abs(low), np.abs(high)), 2) + TINY
        self.upper_slope = np.where(is_open, slope, on)
        self.upper_offset = np.where(crossing, offset, 0.0)
        if own:
            self.lower_slope = np.where(is_open, (upper > -lower).astype(np.float64), on)
            self.lower_offset = np.zeros_like(lower)
        else:
            fixed = np.where(lower >= 0, 0.0, chord * -lower / width)
            slope = np.clip(np.where(upper <= 0, 1.0, fixed), 0.0, 1.0)
            offset = np.minimum(np.minimum(low - slope * low, -slope * high), 0.0)
            offset = down(offset, np.maximum(np.abs(low), np.abs(high)), 2) - TINY
            self.lower_slope = np.where(is_open, slope, on)
            self.lower_offset = np.where(crossing, offset, 0.0)
        self.matter = is_open | (on != 0)
