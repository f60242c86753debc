"""Evaluation of a graph in numpy, batched."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from typing_extensions import assert_never

from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch, Vector


def evaluate(graph: Graph, inputs: Mapping[Input, Vector]) -> dict[Node, Vector]:
    """The value of every node.

    Parameters
    ----------
    graph
        The graph to evaluate.
    inputs
        For each input an array of shape (batch, size); batches of 1 broadcast against the others.

    Returns
    -------
    dict
        Arrays of shape (batch, size) by node. A gate is 1.0 where its input is positive, else 0.0.
    """
    values: dict[Node, Vector] = {}
    for node in graph.nodes:
        match node:
            case Input():
                values[node] = np.asarray(inputs[node], dtype=np.float64)
            case Affine():
                total = node.bias[None, :]
                for weight, x in node.terms:
                    # Sparse arrays multiply from the left only.
                    total = total + (weight @ values[x].T).T
                values[node] = total
            case Conditional():
                values[node] = (values[node.x] > 0).astype(np.float64)
            case Switch():
                values[node] = values[node.x] * values[node.gate]
            case _:
                assert_never(node)
    return values
