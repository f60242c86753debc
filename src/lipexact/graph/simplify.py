"""Folding of affine nodes into the affine nodes that read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from fractions import Fraction

import numpy as np
import scipy.sparse as sp
from typing_extensions import assert_never

from lipexact.graph.ir import (
    Affine,
    Conditional,
    Graph,
    Input,
    Matrix,
    Node,
    Switch,
    Value,
    Vector,
    entries,
    most_terms,
    operands,
)

_SAMPLE = 64  # rows that tell how many entries a product will have


def fuse(graph: Graph) -> Graph:
    """The same functions with fewer affine nodes: see :func:`fuse_mapped`."""
    return fuse_mapped(graph)[0]


def fuse_mapped(graph: Graph) -> tuple[Graph, dict[Node, Node]]:
    """The same functions with fewer affine nodes, and what became of each node.

    An affine node with one reader, itself affine, is substituted into it, unless that makes more coefficients
    (a bottleneck); and so is a constant or a node whose matrices have at most one entry in a row (a selection,
    a scaling), whoever reads it. Terms that read the same node are added. Every entry is rounded once to float64. Of
    nodes that are equal, such as the differences behind max(x, y) and min(x, y), one is kept.

    Returns
    -------
    graph
        New nodes where something changes; inputs, and what depends on nothing that changes, are kept.
    mapping
        The new node for each old one; a folded node's own replacement may not be in the graph.
    """
    fused, mapping = _fuse_once(graph)
    while True:
        again, further = _fuse_once(fused)
        if len(again.nodes) == len(fused.nodes):
            return fused, mapping
        fused, mapping = again, {old: further.get(new, new) for old, new in mapping.items()}


def _fuse_once(graph: Graph) -> tuple[Graph, dict[Node, Node]]:
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
                new[node] = node
            case Affine():
                terms: dict[Value, Matrix] = {}
                bias = node.bias
                for weight, x in node.terms:
                    inner = value(x)
                    products = _products(weight, inner, readers[x] == 1) if isinstance(inner, Affine) else None
                    if products is not None and isinstance(inner, Affine):
                        bias = _shifted(weight, inner.bias, bias)
                        for product, (_, below) in zip(products, inner.terms, strict=True):
                            _accumulate(terms, below, product)
                    else:
                        _accumulate(terms, inner, weight)
                same = len(terms) == len(node.terms) and all(terms.get(x) is weight for weight, x in node.terms)
                new[node] = node if same else Affine(tuple((w, x) for x, w in terms.items()), bias, node.name)
            case Conditional():
                x = value(node.x)
                new[node] = node if x is node.x else Conditional(x, node.name)
            case Switch():
                x, gate = value(node.x), new[node.gate]
                assert isinstance(gate, Conditional)
                new[node] = node if x is node.x and gate is node.gate else Switch(x, gate, node.name)
            case _:
                assert_never(node)
        new[node] = _first(new[node], kept)
    return Graph(graph.inputs, tuple(value(output) for output in graph.outputs)), new


def _first(node: Node, kept: dict[Hashable, list[Node]]) -> Node:
    """The node among those kept that equals this one, else this one, which is kept from now on."""
    sizes = [entries(weight) for weight, _ in node.terms] if isinstance(node, Affine) else []
    alike = kept.setdefault((type(node), node.size, operands(node), *sizes), [])
    for other in alike:
        if node is other or not isinstance(node, Affine | Input):
            return other
        if isinstance(node, Affine) and isinstance(other, Affine) and np.array_equal(node.bias, other.bias):
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


def _accumulate(terms: dict[Value, Matrix], x: Value, weight: Matrix) -> None:
    terms[x] = terms[x] + weight if x in terms else weight


def _products(weight: Matrix, inner: Affine, only_reader: bool) -> list[Matrix] | None:
    """The matrices of weight @ inner, or None where the two had better stay apart."""
    thin = _thin(inner)
    if not (thin or only_reader):
        return None
    apart = entries(weight) + sum(entries(matrix) for matrix, _ in inner.terms)
    if not thin and sum(_estimate(weight, matrix) for matrix, _ in inner.terms) > apart:
        return None
    products = [_accurate(weight, matrix) for matrix, _ in inner.terms]
    return products if thin or sum(map(entries, products)) <= apart else None


def _estimate(left: Matrix, right: Matrix) -> float:
    """About how many entries a product has, by some of its rows."""
    if not (sp.issparse(left) and sp.issparse(right)):
        return float(left.shape[0] * right.shape[1])
    sample = np.unique(np.linspace(0, left.shape[0] - 1, _SAMPLE).astype(np.intp))
    return float((left[sample] @ right).nnz * left.shape[0] / sample.size)


def _accurate(left: Matrix, right: Matrix) -> Matrix:
    """The product, every entry accurate to rounding: what cancels in floats is computed in Fractions."""
    product = left @ right
    column = np.bincount(right.indices, minlength=1).max() if sp.issparse(right) else right.shape[0]
    terms = min(most_terms(left), int(column))
    if terms <= 1:
        return product
    doubtful = abs(left) @ abs(right) * (terms * 2.0**-52) > 1e-13 * abs(product)
    places = np.stack(doubtful.nonzero(), axis=1).astype(np.int64)
    if not places.size:
        return product
    rows, columns = (_Lines(matrix) for matrix in (left, right.T))
    exact = np.array([_dot(rows(i), columns(j)) for i, j in places.tolist()])
    if not sp.issparse(product):
        product[tuple(places.T)] = exact
        return product
    # Anew, as entries that are 0 in floats are not stored.
    stored = product.tocoo()
    sides = np.stack(stored.coords, axis=1).astype(np.int64)
    kept = ~np.isin(sides @ [product.shape[1], 1], places @ [product.shape[1], 1])
    where = np.concatenate([sides[kept], places])
    return sp.csr_array((np.concatenate([stored.data[kept], exact]), tuple(where.T)), shape=product.shape)


def _shifted(weight: Matrix, inner: Vector, bias: Vector) -> Vector:
    """The bias of weight @ (x + inner) + bias."""
    if not inner.any():
        return bias
    column = bias[:, None]
    both = sp.hstack([weight, column], format="csr") if sp.issparse(weight) else np.hstack([weight, column])
    return np.asarray(_accurate(both, np.append(inner, 1.0)[:, None]))[:, 0]


def _dot(a: dict[int, float], b: dict[int, float]) -> float:
    return float(sum((Fraction(a[k]) * Fraction(b[k]) for k in a.keys() & b.keys()), Fraction(0)))


class _Lines:
    """The rows of a matrix as dictionaries."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix, self._made = sp.csr_array(matrix), dict[int, dict[int, float]]()

    def __call__(self, i: int) -> dict[int, float]:
        if i not in self._made:
            part = slice(*self._matrix.indptr[i : i + 2].tolist())
            columns, values = self._matrix.indices[part].tolist(), self._matrix.data[part].tolist()
            self._made[i] = dict(zip(columns, values, strict=True))
        return self._made[i]


def _thin(node: Affine) -> bool:
    if not node.terms:
        return True
    counts = np.zeros(node.size, dtype=np.int64)
    for weight, _ in node.terms:
        if not sp.issparse(weight):
            return False
        counts += np.diff(weight.indptr)
    return bool((counts <= 1).all())
