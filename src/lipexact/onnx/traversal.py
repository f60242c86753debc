"""The graph of an ONNX model: which node computes a tensor, and which nodes an output needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import chain

import onnx

from lipexact.errors import ModelError
from lipexact.onnx.messages import listed
from lipexact.onnx.nodes import subgraphs


def names_read(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names of the tensors that a node reads.

    Among them are those that its subgraphs read and do not compute themselves.
    """
    yield from filter(None, node.input)
    for graph in subgraphs(node):
        own = {name for each in graph.node for name in each.output}
        own |= {info.name for info in graph.input}
        own |= {tensor.name for tensor in graph.initializer}
        used = {
            *chain.from_iterable(map(names_read, graph.node)),
            *(info.name for info in graph.output),
        }
        yield from sorted(used - own)


def initializer_names(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the initializers, dense and sparse."""
    dense = [tensor.name for tensor in graph.initializer]
    return dense + [tensor.values.name for tensor in graph.sparse_initializer]


def input_infos(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs of a graph that have no initializer."""
    # Before IR version 4 the weights had to be listed among the inputs.
    weights = set(initializer_names(graph))
    return [info for info in graph.input if info.name not in weights]


def find_producers(graph: onnx.GraphProto) -> dict[str, int]:
    """Return for each tensor that the graph computes the index of its node.

    Raises
    ------
    ModelError
        If two nodes, inputs or initializers have the same name.
    """
    weights = initializer_names(graph)
    inputs = [info.name for info in graph.input]
    for names in (weights, inputs):
        if len(set(names)) < len(names):
            twice = (name for name, count in Counter(names).items() if count > 1)
            raise ModelError(
                "the model has several inputs, or several initializers, of the name "
                f"{listed(twice)}"
            )
    given = {*inputs, *weights}
    producers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in producers or name in given:
                raise ModelError(
                    f"the model computes tensor '{name}' twice, or it is an input or an "
                    "initializer, too"
                )
            producers[name] = index
    return producers


def needed_nodes(
    graph: onnx.GraphProto, producers: Mapping[str, int], *targets: str
) -> list[onnx.NodeProto]:
    """Return the nodes that the targets depend on, each after those that it depends on.

    Raises
    ------
    ModelError
        If a node depends on itself.
    """
    dependencies: dict[int, list[int]] = {}
    stack = [producers[target] for target in targets if target in producers]
    while stack:
        index = stack.pop()
        if index not in dependencies:
            dependencies[index] = [
                producers[name] for name in names_read(graph.node[index]) if name in producers
            ]
            stack += dependencies[index]
    try:
        order = list(TopologicalSorter(dict(sorted(dependencies.items()))).static_order())
    except CycleError as error:
        names = listed(graph.node[index].output[0] for index in error.args[1])
        raise ModelError(
            f"the model has a cycle through {names}; lipexact reads feed-forward networks"
        ) from None
    return [graph.node[index] for index in order]
