"""Folding of affine nodes into the affine nodes that read them."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import scipy.sparse as sp
from typing_extensions import assert_never

from lipexact.graph.ir import Affine, Conditional, Graph, Input, Matrix, Node, Switch, Value, dense, operands


def fuse(graph: Graph) -> Graph:
    """The same functions with fewer affine nodes: see :func:`fuse_mapped`."""
    return fuse_mapped(graph)[0]


def fuse_mapped(graph: Graph) -> tuple[Graph, dict[Node, Node]]:
    """The same functions with fewer affine nodes, and what became of each node.

    An affine node with one reader, itself affine, is substituted into it, unless that makes more coefficients
    (a bottleneck); and so is a constant or a node whose matrices have at most one entry in a row (a selection,
    a scaling), whoever reads it. Terms that read the same node are added. Every entry is rounded once to float64.

    Returns
    -------
    graph
        New nodes, except for the inputs, which are kept.
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
                        bias = _accurate(
                            np.hstack([dense(weight), bias[:, None]]), np.append(inner.bias, 1.0)[:, None]
                        )[:, 0]
                        for product, (_, below) in zip(products, inner.terms, strict=True):
                            _accumulate(terms, below, product)
                    else:
                        _accumulate(terms, inner, weight)
                new[node] = Affine(tuple((weight, x) for x, weight in terms.items()), bias, node.name)
            case Conditional():
                new[node] = Conditional(value(node.x), node.name)
            case Switch():
                gate = new[node.gate]
                assert isinstance(gate, Conditional)
                new[node] = Switch(value(node.x), gate, node.name)
            case _:
                assert_never(node)
    return Graph(graph.inputs, tuple(value(output) for output in graph.outputs)), new


def _accumulate(terms: dict[Value, Matrix], x: Value, weight: Matrix) -> None:
    terms[x] = terms[x] + weight if x in terms else weight


def _products(weight: Matrix, inner: Affine, only_reader: bool) -> list[Matrix] | None:
    """The matrices of weight @ inner, or None where the two had better stay apart."""
    if _thin(inner):
        return [_accurate(weight, matrix) for matrix, _ in inner.terms]
    if not only_reader:
        return None
    products = [_accurate(weight, matrix) for matrix, _ in inner.terms]
    apart = _entries(weight) + sum(_entries(matrix) for matrix, _ in inner.terms)
    return products if sum(map(_entries, products)) <= apart else None


def _accurate(left: Matrix, right: Matrix) -> Matrix:
    """The product, every entry accurate to rounding: what cancels in floats is computed in Fractions."""
    product = left @ right
    doubtful = abs(left) @ abs(right) * left.shape[1] * 2.0**-52 > 1e-13 * abs(product)
    rows, columns = np.nonzero(dense(doubtful))
    if rows.size:
        product, a, b = dense(product).copy(), dense(left), dense(right)
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
            shared = np.flatnonzero((a[i] != 0) & (b[:, j] != 0))
            terms = zip(a[i, shared].tolist(), b[shared, j].tolist(), strict=True)
            product[i, j] = float(sum((Fraction(p) * Fraction(q) for p, q in terms), Fraction(0)))
    return product


def _entries(matrix: Matrix) -> int:
    return int(matrix.nnz) if sp.issparse(matrix) else int(matrix.size)


def _thin(node: Affine) -> bool:
    if not node.terms:
        return True
    entries = np.zeros(node.size, dtype=np.int64)
    for weight, _ in node.terms:
        if not sp.issparse(weight):
            return False
        entries += np.diff(weight.indptr)
    return bool((entries <= 1).all())
