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

_SAMPLE = 64  # rows that tell how many entries a product will have

# Two factors; None is an identity.
_Product: TypeAlias = tuple[Matrix, Matrix | None]


def fold(graph: Graph) -> Graph:
    """The same functions with fewer affine nodes.

    An affine node with one reader, itself affine, is substituted into it, unless that makes more coefficients
    (a bottleneck); and so is a constant or a node whose matrices have at most one entry in a row (a selection,
    a scaling), whoever reads it. Every entry of what comes of a node and those that it reads is one sum, accurate in
    proportion to itself (:func:`lipexact.numerics.double_double.accurate_product`). Of nodes that are equal, such as the differences
    behind max(x, y) and min(x, y), one is kept.
    """
    return _fold_repeatedly(graph, math.inf)[0]


def fold_mapped(graph: Graph) -> tuple[Graph, dict[Node, Node], int]:
    """Like :func:`fuse`, with what became of each node; what loses too much, over all folds, stays unfolded.

    Returns
    -------
    graph
        New nodes where something changes; inputs, and what depends on nothing that changes, are kept.
    mapping
        The new node for each old one; a folded node's own replacement may not be in the graph.
    roundings
        How many units of 2^-53 each entry may be off, in proportion to it: at most
        :data:`lipexact.numerics.rounding.FOLDED`.
    """
    return _fold_repeatedly(graph, FOLDED)


def _fold_repeatedly(graph: Graph, limit: float) -> tuple[Graph, dict[Node, Node], int]:
    fusion = _Folding(limit)
    fused, mapping = fusion.once(graph)
    while True:
        again, further = fusion.once(fused)
        if len(again.nodes) == len(fused.nodes):
            return (
                fused,
                mapping,
                math.ceil(max((fusion.off[node] for node in fused.nodes), default=0.0)),
            )
        fused, mapping = again, {old: further.get(new, new) for old, new in mapping.items()}


class _Folding:
    """Passes over a graph, and how far the entries of the nodes that they made may be off.

    Parameters
    ----------
    limit
        The most that they may be off, in units of 2^-53 in proportion to each entry; if infinite, each pass takes the
        nodes of the one before as they are.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.off: dict[Node, float] = {}

    def once(self, graph: Graph) -> tuple[Graph, dict[Node, Node]]:
        """One pass."""
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
                    x, gate = value(node.x), new[node.gate]
                    assert isinstance(gate, Conditional)
                    made = node if x is node.x and gate is node.gate else Switch(x, gate, node.name)
                case _:
                    assert_never(node)
            new[node] = _first(made, kept)
            self.off[new[node]] = max(self.off.get(made, 0.0), self.off.get(new[node], 0.0))
        return Graph(graph.inputs, tuple(value(output) for output in graph.outputs)), new

    def _folded(self, node: Affine, inner: list[Value], readers: Counter[Node]) -> Affine:
        """The node with those of its operands substituted that had better be, as far as rounding allows."""
        pairs = list(zip(node.terms, inner, strict=True))
        thin = [isinstance(below, Affine) and _thin(below) for below in inner]
        saving = [
            readers[x] == 1 and isinstance(below, Affine) and _saves(w, below)
            for (w, x), below in pairs
        ]
        chosen = [a or b for a, b in zip(thin, saving, strict=True)]
        if chosen != thin and (found := self._substituted(node, inner, chosen)) is not None:
            gone = [
                x for x, yes, slight in zip(inner, chosen, thin, strict=True) if yes and not slight
            ]
            if _entries(found) <= sum(map(_entries, [node, *gone])):
                return found
        for chosen in (thin, [False] * len(inner)):
            if (found := self._substituted(node, inner, chosen)) is not None:
                return found
        result = Affine(
            tuple((weight, below) for (weight, _), below in pairs), node.bias, node.name
        )
        self.off[result] = self.off.get(node, 0.0)
        return result

    def _substituted(self, node: Affine, inner: list[Value], chosen: list[bool]) -> Affine | None:
        """The node over what the chosen operands read, its matrices sums of products; None where too much is lost."""
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
        found = [_sum(products, own, off) for products in (*parts.values(), [*shifts, last])]
        sums = [each for each in found if each is not None and each[1] <= self.limit]
        if len(sums) < len(found):
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
    """The node among those kept that equals this one, else this one, which is kept from now on."""
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
    if sp.issparse(weight) and sp.issparse(other):
        parts = ("indptr", "indices", "data")
        return all(np.array_equal(getattr(weight, part), getattr(other, part)) for part in parts)
    return not (sp.issparse(weight) or sp.issparse(other)) and np.array_equal(weight, other)


def _sum(products: list[_Product], own: float, off: float) -> tuple[Matrix, float] | None:
    """The sum of the products, and how far its entries are off; a matrix alone is off by `own`."""
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
    if any(map(sp.issparse, matrices)):
        return (sp.hstack if axis else sp.vstack)(matrices, format="csr")
    return np.concatenate(matrices, axis)


def _saves(weight: Matrix, inner: Affine) -> bool:
    """Whether weight @ inner has no more coefficients than the two apart, by some of its rows."""
    return sum(_estimate(weight, matrix) for matrix, _ in inner.terms) <= entries(
        weight
    ) + _entries(inner)


def _entries(node: Value) -> int:
    return sum(entries(weight) for weight, _ in node.terms) if isinstance(node, Affine) else 0


def _estimate(left: Matrix, right: Matrix) -> float:
    """About how many entries a product has, by some of its rows."""
    if not (sp.issparse(left) and sp.issparse(right)):
        return float(left.shape[0] * right.shape[1])
    sample = np.unique(np.linspace(0, left.shape[0] - 1, _SAMPLE).astype(np.intp))
    return float((left[sample] @ right).nnz * left.shape[0] / sample.size)


def _thin(node: Affine) -> bool:
    if not node.terms:
        return True
    counts = np.zeros(node.size, dtype=np.int64)
    for weight, _ in node.terms:
        if not sp.issparse(weight):
            return False
        counts += np.diff(weight.indptr)
    return bool((counts <= 1).all())
