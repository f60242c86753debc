"""Evaluation of a graph at batches of points, in floats or in exact numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from typing_extensions import assert_never

from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch
from lipexact.numerics.arrays import Matrix, Vector

# Numbers of all nodes at the points of one batch: 128 MB.
MAX_BATCH_NUMBERS = 2**24


def evaluate(
    graph: Graph,
    inputs: Mapping[Input, Vector],
    convert: Callable[[Vector], npt.NDArray[Any]] | None = None,
) -> dict[Node, Vector]:
    """Compute the value of every node.

    Parameters
    ----------
    graph
        The graph to evaluate.
    inputs
        For each input an array of shape (batch, size); batches of 1 broadcast against the others.
    convert
        Turns an array of floats into exact numbers, in which the graph is then evaluated. The
        inputs must be such numbers already. None computes in floats.

    Returns
    -------
    dict
        Arrays of shape (batch, size) by node. A gate is 1 where its input is positive, else 0.
    """
    values: dict[Node, Vector] = {}
    for node in graph.nodes:
        match node:
            case Input():
                values[node] = np.asarray(
                    inputs[node], dtype=np.float64 if convert is None else object
                )
            case Affine():
                total = node.bias[None, :] if convert is None else convert(node.bias)[None, :]
                for weight, x in node.terms:
                    # Sparse arrays multiply from the left only.
                    below = values[x].T
                    term = weight @ below if convert is None else product(weight, below, convert)
                    total = total + term.T
                values[node] = total
            case Conditional():
                values[node] = (values[node.x] > 0).astype(
                    np.float64 if convert is None else object
                )
            case Switch():
                values[node] = values[node.x] * values[node.gate]
            case _:
                assert_never(node)
    return values


def product(
    weight: Matrix, values: npt.NDArray[Any], convert: Callable[[Vector], npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """Multiply weights by values, in the exact numbers that `convert` makes of the weights.

    Weights of 0, and weights whose values are all 0, cost nothing.
    """
    stored = sp.coo_array(weight)
    used = (stored.data != 0) & (values != 0).any(axis=1)[stored.col]
    total = convert(np.zeros((weight.shape[0], values.shape[1])))
    np.add.at(
        total, stored.row[used], convert(stored.data[used])[:, None] * values[stored.col[used]]
    )
    return total


def batches(graph: Graph, count: int) -> list[slice]:
    """Split so many points into batches, as slices."""
    step = max(MAX_BATCH_NUMBERS // sum(node.size for node in graph.nodes), 1)
    return [slice(start, start + step) for start in range(0, count, step)]
