"""Folding of affine nodes into the affine nodes that read them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import scipy.sparse as sp
from typing_extensions import assert_never

from lipexact.graph.ir import Affine, Conditional, Graph, Input, Matrix, Node, Switch, Value, operands


def fuse(graph: Graph) -> Graph:
    """The same functions with fewer affine nodes: see :func:`fuse_mapped`."""
    return fuse_mapped(graph)[0]


def fuse_mapped(graph: Graph) -> tuple[Graph, dict[Node, Node]]:
    """The same functions with fewer affine nodes, and what became of each node.

    An affine node with one reader, itself affine, is substituted into it, and so is a constant or a
    node whose matrices have at most one entry in a row (a selection, a scaling), whoever reads it.
    Terms that read the same node are added. The products are rounded to float64.

    Returns
    -------
    graph
        New nodes, except for the inputs, which are kept.
    mapping
        The new node for each old one; a folded node's own replacement may not be in the graph.
    """
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
                    if isinstance(inner, Affine) and (readers[x] == 1 or _thin(inner)):
                        bias = bias + weight @ inner.bias
                        for inner_weight, below in inner.terms:
                            _accumulate(terms, below, weight @ inner_weight)
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


def _thin(node: Affine) -> bool:
    if not node.terms:
        return True
    entries = np.zeros(node.size, dtype=np.int64)
    for weight, _ in node.terms:
        if not sp.issparse(weight):
            return False
        entries += np.diff(weight.indptr)
    return bool((entries <= 1).all())
