"""Folding of affine nodes into the affine nodes that read them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from typing_extensions import assert_never

from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch, Value, operands
from lipexact.numerics.arrays import Matrix, dense, entries
from lipexact.numerics.double_double import accurate_product
from lipexact.numerics.rounding import FOLDED

# Rows of a product from which the number of its entries is estimated.
SAMPLE_ROWS = 64

# Two factors; None is an identity.
_Product: TypeAlias = tuple[Matrix, Matrix | None]


def fold(graph: Graph) -> Graph:
    """Return a graph of the same functions with fewer affine nodes.

    An affine node is substituted into its only reader if that is affine too, unless the result has
    more coefficients (at a bottleneck). A constant, or a node whose matrices have at most one entry
    in a row (a selection, a scaling), is substituted into every affine reader. Every entry of the
    result is one sum, accurate in proportion to itself
    (:func:`lipexact.numerics.double_double.accurate_product`). Of nodes that are equal, such as the
    differences behind max(x, y) and min(x, y), one is kept.

    Examples
    --------
    y = 3 (2 x + 1) + 1 becomes 6 x + 4:

    >>> x = Input(1)
    >>> inner = Affine(((np.array([[2.0]]), x),), np.ones(1))
    >>> outer = Affine(((np.array([[3.0]]), inner),), np.ones(1))
    >>> (folded,) = fold(Graph((x,), (outer,))).outputs
    >>> folded.terms[0][0].tolist(), folded.bias.tolist()
    ([[6.0]], [4.0])
    """
    return _fold_repeatedly(graph, math.inf)[0]


def fold_mapped(graph: Graph) -> tuple[Graph, dict[Node, Node], int]:
    """Fold like :func:`fold` within a limit of rounding; return the new node of each old one too.

    Nodes that would lose too much accuracy, over all passes, stay unfolded.

    Returns
    -------
    graph
        The folded graph. Inputs, and nodes that depend on nothing that changes, are kept.
    mapping
        The new node for each old one. The node that replaces a folded one may not be in the graph.
    roundings
        How many units of 2^-53 each entry may be off, in proportion to itself: at most
        :data:`lipexact.numerics.rounding.FOLDED`.
    """
    return _fold_repeatedly(graph, FOLDED)


def _fold_repeatedly(graph: Graph, limit: float) -> tuple[Graph, dict[Node, Node], int]:
    """Fold until a pass makes no difference."""
    folding = _Folding(limit)
    folded, mapping = folding.fold_once(graph)
    while True:
        again, further = folding.fold_once(folded)
        if len(again.nodes) == len(folded.nodes):
            units = max((folding.off[node] for node in folded.nodes), default=0.0)
            return folded, mapping, math.ceil(units)
        folded = again
        mapping = {old: further.get(new, new) for old, new in mapping.items()}


class _Folding:
    """Passes over a graph, which count how far the entries of new nodes may be off.

    Parameters
    ----------
    limit
        How far entries may be off, in units of 2^-53 and in proportion to each entry. If it is
        infinite, each pass takes the nodes of the pass before as exact.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.off: dict[Node, float] = {}

    def fold_once(self, graph: Graph) -> tuple[Graph, dict[Node, Node]]:
        """Fold each affine node once; return the new graph and the new node of each old one."""
        readers = Counter(x for node in graph.nodes for x in operands(node))
        readers.update(graph.outputs)
        new: dict[Node, Node] = {}
        kept: dict[Hashable, list[Node]] = {}

        def value(node: Value) -> Value:
            replacement = new[node]
            assert not isinstance(replacement, Conditional)
            return replacement

        for node in graph.nodes:
            match node:
                case Input():
                    made: Node = node
                case Affine():
                    made = self._folded(node, [value(x) for _, x in node.terms], readers)
                case Conditional():
                    x = value(node.x)
                    made = node if x is node.x else Conditional(x, node.name)
                case Switch():
                    x = value(node.x)
                    gate = new[node.gate]
                    assert isinstance(gate, Conditional)
                    made = node if x is node.x and gate is node.gate else Switch(x, gate, node.name)
                case _:
                    assert_never(node)
            new[node] = _first(made, kept)
            self.off[new[node]] = max(self.off.get(made, 0.0), self.off.get(new[node], 0.0))
        return Graph(graph.inputs, tuple(value(output) for output in graph.outputs)), new

    def _folded(self, node: Affine, inner: list[Value], readers: Counter[Node]) -> Affine:
        """Substitute those operands of a node that save coefficients, as far as rounding allows."""
        pairs = list(zip(node.terms, inner, strict=True))
        thin = [isinstance(below, Affine) and _thin(below) for below in inner]
        saving = [
            readers[x] == 1 and isinstance(below, Affine) and _saves(w, below)
            for (w, x), below in pairs
        ]
        chosen = [a or b for a, b in zip(thin, saving, strict=True)]
        if chosen != thin and (folded := self._substituted(node, inner, chosen)) is not None:
            gone = [
                x for x, yes, slight in zip(inner, chosen, thin, strict=True) if yes and not slight
            ]
            if _entries(folded) <= sum(map(_entries, [node, *gone])):
                return folded
        for chosen in (thin, [False] * len(inner)):
            if (folded := self._substituted(node, inner, chosen)) is not None:
                return folded
        result = Affine(
            tuple((weight, below) for (weight, _), below in pairs), node.bias, node.name
        )
        self.off[result] = self.off.get(node, 0.0)
        return result

    def _substituted(self, node: Affine, inner: list[Value], chosen: list[bool]) -> Affine | None:
        """Substitute the chosen operands; return None where too much accuracy would be lost.

        The node then reads what these operands read, by matrices that are sums of products.
        """
        own = off = self.off.get(node, 0.0)
        parts: dict[Value, list[_Product]] = {}
        shifts: list[_Product] = []
        for (weight, _), x, folded in zip(node.terms, inner, chosen, strict=True):
            if folded and isinstance(x, Affine):
                off = max(off, own + self.off.get(x, 0.0))
                for matrix, below in x.terms:
                    parts.setdefault(below, []).append((weight, matrix))
                if x.bias.any():
                    shifts.append((weight, x.bias[:, None]))
            else:
                parts.setdefault(x, []).append((weight, None))
        if math.isinf(self.limit):
            own = off = 0.0
        last: _Product = (node.bias[:, None], np.ones((1, 1)) if shifts else None)
        results = [_sum(products, own, off) for products in (*parts.values(), [*shifts, last])]
        sums = [each for each in results if each is not None and each[1] <= self.limit]
        if len(sums) < len(results):
            return None
        *weights, bias = (matrix for matrix, _ in sums)
        if len(weights) == len(node.terms) and all(
            weight is old and x is below
            for weight, x, (old, below) in zip(weights, parts, node.terms, strict=True)
        ):
            return node
        result = Affine(tuple(zip(weights, parts, strict=True)), dense(bias)[:, 0], node.name)
        self.off[result] = max(units for _, units in sums)
        return result


def _first(node: Node, kept: dict[Hashable, list[Node]]) -> Node:
    """Return a kept node that equals this one; if there is none, keep this one and return it."""
    sizes = [entries(weight) for weight, _ in node.terms] if isinstance(node, Affine) else []
    alike = kept.setdefault((type(node), node.size, operands(node), *sizes), [])
    for other in alike:
        if node is other or not isinstance(node, Affine | Input):
            return other
        if (
            isinstance(node, Affine)
            and isinstance(other, Affine)
            and np.array_equal(node.bias, other.bias)
        ):
            pairs = zip(node.terms, other.terms, strict=True)
            if all(_equal(weight, its) for (weight, _), (its, _) in pairs):
                return other
    alike.append(node)
    return node


def _equal(weight: Matrix, other: Matrix) -> bool:
    """Return whether two matrices are stored alike and have equal entries."""
    if sp.issparse(weight) and sp.issparse(other):
        parts = ("indptr", "indices", "data")
        return all(np.array_equal(getattr(weight, part), getattr(other, part)) for part in parts)
    return not (sp.issparse(weight) or sp.issparse(other)) and np.array_equal(weight, other)


def _sum(products: list[_Product], own: float, off: float) -> tuple[Matrix, float] | None:
    """Add up products; return the sum and how far its entries are off.

    A single matrix stays as it is, and is off by `own`.
    """
    if len(products) == 1:
        left, right = products[0]
        return (left, own) if right is None else accurate_product(left, right, off)
    lefts = [left for left, _ in products]
    rights = [
        sp.eye_array(left.shape[1], format="csr") if right is None else right
        for left, right in products
    ]
    return accurate_product(_joined(lefts, 1), _joined(rights, 0), off)


def _joined(matrices: list[Matrix], axis: int) -> Matrix:
    """Concatenate matrices, as a sparse one if any is sparse."""
    if any(map(sp.issparse, matrices)):
        return (sp.hstack if axis else sp.vstack)(matrices, format="csr")
    return np.concatenate(matrices, axis)


def _saves(weight: Matrix, inner: Affine) -> bool:
    """Estimate whether weight @ inner has no more coefficients than the two factors together."""
    estimate = sum(_estimate(weight, matrix) for matrix, _ in inner.terms)
    return estimate <= entries(weight) + _entries(inner)


def _entries(node: Value) -> int:
    """Return the number of stored coefficients of an affine node."""
    return sum(entries(weight) for weight, _ in node.terms) if isinstance(node, Affine) else 0


def _estimate(left: Matrix, right: Matrix) -> float:
    """Estimate the number of entries of a product, from some of its rows."""
    if not (sp.issparse(left) and sp.issparse(right)):
        return float(left.shape[0] * right.shape[1])
    sample = np.unique(np.linspace(0, left.shape[0] - 1, SAMPLE_ROWS).astype(np.intp))
    return float((left[sample] @ right).nnz * left.shape[0] / sample.size)


def _thin(node: Affine) -> bool:
    """Return whether the node is a constant or has at most one entry in each row."""
    if not node.terms:
        return True
    counts = np.zeros(node.size, dtype=np.int64)
    for weight, _ in node.terms:
        if not sp.issparse(weight):
            return False
        counts += np.diff(weight.indptr)
    return bool((counts <= 1).all())
