"""Unique names for the nodes of a graph, which text formats of models accept."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from typing_extensions import assert_never

from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch, Value
from lipexact.onnx import constants


def with_unique_names(graph: Graph) -> Graph:
    """Return the graph under unique names of letters, digits and underscores."""
    names = _Names()
    inputs = tuple(replace(node, name=names.unique(node)) for node in graph.inputs)
    renamed: dict[Node, Node] = dict(zip(graph.inputs, inputs, strict=True))

    def value(node: Value) -> Value:
        new = renamed[node]
        assert not isinstance(new, Conditional)
        return new

    for node in graph.nodes:
        match node:
            case Input():
                pass
            case Affine():
                terms = tuple((weight, value(x)) for weight, x in node.terms)
                renamed[node] = replace(node, terms=terms, name=names.unique(node))
            case Conditional():
                renamed[node] = replace(node, x=value(node.x), name=names.unique(node))
            case Switch():
                gate = renamed[node.gate]
                assert isinstance(gate, Conditional)
                renamed[node] = replace(node, x=value(node.x), gate=gate, name=names.unique(node))
            case _:
                assert_never(node)
    return Graph(inputs, tuple(value(output) for output in graph.outputs))


class _Names:
    """The names given so far."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._counts: Counter[str] = Counter()

    def unique(self, node: Node) -> str:
        """Return a new name like the node's own, such as ``net_0_Gemm`` for ``/net.0/Gemm``."""
        own = node.name[: constants.MAX_NAME_CHARACTERS]
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", own).strip("_") or type(node).__name__.lower()
        # A leading digit would make a number of some names.
        base = f"t{plain}" if plain[0].isdigit() else plain
        candidate = base
        self._counts[base] += 1
        while candidate in self._taken:
            self._counts[base] += 1
            candidate = f"{base}_{self._counts[base]}"
        self._taken.add(candidate)
        return candidate
