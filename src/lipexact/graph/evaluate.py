"""Evaluation of a graph in numpy, batched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch, Vector, dense


def evaluate(
    graph: Graph, inputs: Mapping[Input, Vector], convert: Callable[[Vector], npt.NDArray[Any]] | None = None
) -> dict[Node, Vector]:
    """The value of every node.

    Parameters
    ----------
    graph
        The graph to evaluate.
    inputs
        For each input an array of shape (batch, size); batches of 1 broadcast against the others.
    convert
        What makes exact numbers of an array of floats, to compute with them; the inputs are such numbers, then.

    Returns
    -------
    dict
        Arrays of shape (batch, size) by node. A gate is 1 where its input is positive, else 0.
    """
    values: dict[Node, Vector] = {}
    for node in graph.nodes:
        match node:
            case Input():
                values[node] = np.asarray(inputs[node], dtype=np.float64 if convert is None else object)
            case Affine():
                total = node.bias[None, :] if convert is None else convert(node.bias)[None, :]
                for weight, x in node.terms:
                    matrix = weight if convert is None else convert(dense(weight))
                    # Sparse arrays multiply from the left only.
                    total = total + (matrix @ values[x].T).T
                values[node] = total
            case Conditional():
                values[node] = (values[node.x] > 0).astype(np.float64 if convert is None else object)
            case Switch():
                values[node] = values[node.x] * values[node.gate]
            case _:
                assert_never(node)
    return values
