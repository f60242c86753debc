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

Rows that read the same part of a node are substituted together, with dense coefficients of that part alone: those of
a convolution stay as small as its receptive field, and products are as fast as dense ones.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from typing_extensions import assert_never

from lipexact.bounds.interval import Bounds, Interval, interval, magnitude
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch, Value
from lipexact.numerics.arrays import Matrix, Vector, dense, entries
from lipexact.numerics.rounding import TINY, down, gamma, up
from lipexact.sets.convex import ConvexSet

Rows: TypeAlias = npt.NDArray[np.intp]

# Multiplications of linear relaxation, counted as sparse ones, of which a second takes some 3e9.
WORK = 2.5e11
_CHUNK = 256  # rows that are substituted together, or fewer:
_COEFFICIENTS = 2**23  # that these may have, for either sign
_DENSE_GAIN = 6  # so much faster is a multiplication in a dense product
_LARGEST_DENSE = 2**24  # entries of a sparse matrix that is made dense


def bound_nodes(
    graph: Graph,
    sets: Mapping[Input, ConvexSet],
    known: Mapping[Node, Interval] | None = None,
    *,
    shared: Mapping[Node, Interval] | None = None,
    roundings: int = 0,
    work: float = WORK,
    deadline: float = np.inf,
    flat: bool = False,
) -> Bounds:
    """Bounds of every node: intervals, sharpened by linear relaxation where it can matter.

    Linear relaxation is used for the inputs of conditionals and of switches with an open gate, and for
    the outputs, and intersected with the intervals. Of a node that would take more than half of the work that is left,
    or past the deadline, only the first few hundred rows are sharpened.

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
        Whether open switches under another node's gates, whose input may have either sign, are bounded by constants
        rather than by chords, as in RecurJac (Zhang, Zhang and Hsieh, AAAI 2019).

    Returns
    -------
    dict
        For each node its lower and upper bounds, each of shape (size,). They hold for every choice of
        gates that :class:`~lipexact.graph.ir.Conditional` allows.
    """
    bounds: Bounds = {}
    relaxation = _Relaxation(bounds, sets, roundings, work, deadline, flat)
    gated: dict[Node, list[Conditional]] = {}
    for node in graph.nodes:
        if isinstance(node, Conditional):
            gated.setdefault(node.x, [])
        elif isinstance(node, Switch):
            gated.setdefault(node.x, []).append(node.gate)
    for position, node in enumerate(graph.nodes):
        if shared is not None and node in shared:
            bounds[node] = shared[node]
            continue
        if isinstance(node, Input):
            bounds[node] = (sets[node].lower, sets[node].upper)
            continue
        bounds[node] = interval(node, bounds, roundings)
        if known is not None and node in known:
            bounds[node] = _meet(bounds[node], known[node])
        if isinstance(node, Affine):
            rows = _worth_sharpening(node, gated, bounds, node in graph.outputs)
            bounds[node] = relaxation.tighten(graph.nodes[: position + 1], node, rows)
    return bounds


def _worth_sharpening(
    node: Affine, gated: Mapping[Node, list[Conditional]], bounds: Bounds, output: bool
) -> Rows:
    lower, upper = bounds[node]
    worth = np.full(node.size, output)
    if node in gated:
        worth |= (lower < 0) & (upper > 0)
        for gate in gated[node]:
            if gate in bounds:
                worth |= bounds[gate][0] != bounds[gate][1]
    return np.flatnonzero(worth & (lower < upper))


def _meet(a: Interval, b: Interval) -> Interval:
    # What overflowed is NaN and says nothing.
    lower, upper = np.fmax(a[0], b[0]), np.fmin(a[1], b[1])
    # Two valid enclosures of one number cross only where rounding made one of them a little too wide.
    return np.minimum(lower, upper), np.maximum(lower, upper)


@dataclass
class _Part:
    """Linear forms in some coordinates of a node.

    `values[k]` are the coefficients of coordinate `columns[k]`, in increasing order.
    """

    columns: Rows
    values: Matrix

    def of(self, *vectors: Vector) -> Vector:
        """The forms at each of some vectors of the node's size, shape (vectors, forms)."""
        return np.asarray(
            self.values.T @ np.column_stack([vector[self.columns] for vector in vectors])
        ).T


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
        self.bounds, self.sets, self.roundings = bounds, sets, roundings
        self.left, self.deadline, self.flat = work, deadline, flat
        self.lines: dict[Switch, _SwitchLines] = {}
        self.reach: dict[Node, Vector] = {}
        self.gain: dict[Affine, list[Vector]] = {}

    def tighten(self, nodes: tuple[Node, ...], target: Affine, rows: Rows) -> Interval:
        """The bounds of the last of the nodes, in some rows intersected with those by back-substitution."""
        lower, upper = (side.copy() for side in self.bounds[target])
        # Neighbours in an image, of all channels, begin to read at about the same place.
        rows = rows[np.argsort(_first_columns(target)[rows], kind="stable")]
        before = self.left
        step = int(np.clip(_COEFFICIENTS // max(node.size for node in nodes), 1, _CHUNK))
        for start in range(0, rows.size, step):
            if start and (
                (before - self.left) * rows.size / start > before / 2
                or time.perf_counter() > self.deadline
            ):
                break
            chunk = np.sort(rows[start : start + step])
            found = self.substitute_back(nodes, target, chunk)
            lower[chunk], upper[chunk] = _meet((lower[chunk], upper[chunk]), found)
        return lower, upper

    @np.errstate(over="ignore", invalid="ignore")  # what overflows says nothing
    def substitute_back(self, nodes: tuple[Node, ...], target: Affine, rows: Rows) -> Interval:
        """Bounds of some rows of the last of the nodes.

        Coefficients are numbers as they come: y <= a x + t holds for those that were computed, up to a loss. A row of a
        product a W over n entries is off by gamma_n |a| |W| at most, and so is the bound by that times what x can be
        (`_reach`); likewise a sum of coefficients, and a slope times one. A coefficient that underflows is off by less
        than TINY, and with it the bound by TINY times the sum of what x can be. `total` is one long sum, of as many
        operations as are counted, whose terms have the absolute values in `spread`.
        """
        count = rows.size
        identity = sp.eye_array(count, format="csr")
        # Upper bounds of +y and of -y in one pass.
        pending: dict[Node, _Part] = {
            target: _Part(rows, sp.hstack([identity, -identity], format="csr"))
        }
        total = np.zeros(2 * count)
        spread = np.zeros(2 * count)  # the sum of the absolute values that went into `total`
        loss = np.zeros(2 * count)
        operations = 2 + self.roundings

        def push(x: Value, part: _Part) -> None:
            nonlocal loss
            if x in pending:
                part = _sum(pending[x], part)
                loss = loss + gamma(1) * _Part(part.columns, abs(part.values)).of(self._reach(x))[0]
            pending[x] = part

        for node in reversed(nodes):
            if node not in pending:
                continue
            part = pending.pop(node)
            match node:
                case Input():
                    total = total + self.sets[node].support(_rows(part, node.size))
                    spread = spread + _Part(part.columns, abs(part.values)).of(self._reach(node))[0]
                    operations += part.columns.size + 1
                case Affine():
                    if node.bias.any():
                        total = total + part.of(node.bias)[0]
                    sizes = _Part(part.columns, abs(part.values)).of(
                        np.abs(node.bias), *self._gains(node)
                    )
                    spread = spread + sizes[0]
                    operations += part.columns.size + 1
                    for (weight, x), size in zip(node.terms, sizes[1:], strict=True):
                        loss = (
                            loss
                            + gamma(part.columns.size + 3 + self.roundings) * size
                            + TINY * (1 + self._reach(x).sum())
                        )
                        push(x, self._product(weight, part))
                case Switch():
                    lines = self._lines(node)
                    part = _where(part, lines.matter)
                    part.values = dense(part.values)
                    positive = np.maximum(part.values, 0.0)
                    negative = part.values - positive
                    reach = self._reach(node.x)
                    above = _Part(part.columns, positive).of(
                        lines.upper_offset, lines.upper_slope * reach
                    )
                    below = _Part(part.columns, negative).of(
                        lines.lower_offset, -lines.lower_slope * reach
                    )
                    # Offsets are never negative above, nor positive below: what is added is its own absolute value.
                    total, spread = total + above[0] + below[0], spread + above[0] + below[0]
                    operations += 2 * part.columns.size + 2
                    loss = loss + gamma(5) * (above[1] + below[1]) + TINY * (1 + reach.sum())
                    positive *= lines.upper_slope[part.columns, None]
                    negative *= lines.lower_slope[part.columns, None]
                    positive += negative
                    push(node.x, _Part(part.columns, positive))
                case Conditional():
                    raise AssertionError("gates are read by switches alone")
                case _:
                    assert_never(node)
        high = up(total, spread, operations) + loss * 1.01
        return down(-high[count:], np.abs(high[count:]), 0), up(
            high[:count], np.abs(high[:count]), 0
        )

    def _product(self, weight: Matrix, part: _Part) -> _Part:
        """The forms in what the node reads."""
        everything = part.columns.size == weight.shape[0]
        read = weight if everything else weight[part.columns]
        columns, count = np.arange(weight.shape[1]), part.values.shape[1]
        if sp.issparse(read):
            used = np.zeros(weight.shape[1], dtype=bool)
            used[read.indices] = True
            columns = np.flatnonzero(used)
            new = (np.cumsum(used) - 1).astype(read.indices.dtype)
            read = sp.csr_array(
                (read.data, new[read.indices], read.indptr), shape=(read.shape[0], columns.size)
            )
            area = read.shape[0] * columns.size
            if area < min(_DENSE_GAIN * read.nnz, _LARGEST_DENSE):
                read = read.toarray()
        self.left -= count * (read.nnz if sp.issparse(read) else read.size / _DENSE_GAIN)
        self.left -= count * columns.size  # what follows
        return _Part(columns, dense(read.T @ part.values))

    def _reach(self, node: Node) -> Vector:
        if node not in self.reach:
            self.reach[node] = magnitude(self.bounds[node])
        return self.reach[node]

    def _gains(self, node: Affine) -> list[Vector]:
        """How large the terms of an affine node can be."""
        if node not in self.gain:
            self.gain[node] = [abs(weight) @ self._reach(x) for weight, x in node.terms]
        return self.gain[node]

    def _lines(self, node: Switch) -> _SwitchLines:
        if node not in self.lines:
            lower, upper = self.bounds[node.x]
            least, most = self.bounds[node.gate]
            self.lines[node] = _SwitchLines(
                lower, upper, least != most, most, node.gate.x is node.x, self.flat
            )
        return self.lines[node]


def _first_columns(node: Affine) -> Rows:
    """For each row the first coordinate that it reads, by the largest term."""
    weight: Matrix = max((weight for weight, _ in node.terms), key=entries, default=None)
    if not sp.issparse(weight) or not weight.nnz:
        return np.zeros(node.size, dtype=np.intp)
    return np.asarray(weight.indices[np.minimum(weight.indptr[:-1], weight.nnz - 1)])


def _where(part: _Part, mask: npt.NDArray[np.bool_]) -> _Part:
    kept = mask[part.columns]
    return part if kept.all() else _Part(part.columns[kept], part.values[kept])


def _sum(a: _Part, b: _Part) -> _Part:
    if np.array_equal(a.columns, b.columns):
        return _Part(a.columns, a.values + b.values)
    columns = np.union1d(a.columns, b.columns)
    values = np.zeros((columns.size, a.values.shape[1]))
    values[np.searchsorted(columns, a.columns)] = a.values
    values[np.searchsorted(columns, b.columns)] += b.values
    return _Part(columns, values)


def _rows(part: _Part, size: int) -> Matrix:
    """The forms as rows over all coordinates of a node."""
    if part.columns.size == size:
        return part.values.T
    count = part.values.shape[1]
    indices = np.tile(part.columns, count)
    starts = np.arange(count + 1) * part.columns.size
    return sp.csr_array((part.values.T.ravel(), indices, starts), shape=(count, size))


class _SwitchLines:
    """Lines above and below y = a x, entry by entry, that hold in exact arithmetic."""

    def __init__(
        self,
        lower: Vector,
        upper: Vector,
        open_gate: npt.NDArray[np.bool_],
        on: Vector,
        own: bool,
        flat: bool = False,
    ) -> None:
        width = np.where(upper > lower, upper - lower, 1.0)
        chord = 0.0 if flat and not own else 1.0
        low, high = np.minimum(lower, 0.0), np.maximum(upper, 0.0)
        # Chord of max(x, 0): slopes are rounded as they come, offsets make the lines valid at both ends. Two operations
        # on numbers no larger than the ends, of which the product may underflow.
        slope = np.clip(
            np.where(lower >= 0, 1.0, np.where(upper <= 0, 0.0, chord * upper / width)), 0.0, 1.0
        )
        offset = np.maximum(np.maximum(-slope * low, high - slope * high), 0.0)
        offset = up(offset, np.maximum(np.abs(low), np.abs(high)), 2) + TINY
        self.upper_slope = np.where(open_gate, slope, on)
        self.upper_offset = np.where(open_gate & (lower < 0) & (upper > 0), offset, 0.0)
        if own:
            self.lower_slope = np.where(open_gate, (upper > -lower).astype(np.float64), on)
            self.lower_offset = np.zeros_like(lower)
        else:
            slope = np.clip(
                np.where(upper <= 0, 1.0, np.where(lower >= 0, 0.0, chord * -lower / width)),
                0.0,
                1.0,
            )
            offset = np.minimum(np.minimum(low - slope * low, -slope * high), 0.0)
            offset = down(offset, np.maximum(np.abs(low), np.abs(high)), 2) - TINY
            self.lower_slope = np.where(open_gate, slope, on)
            self.lower_offset = np.where(open_gate & (lower < 0) & (upper > 0), offset, 0.0)
        self.matter = open_gate | (on != 0)  # the others are off
