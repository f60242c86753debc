"""Liveness: the coordinates of a graph's nodes that its outputs depend on."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from lipexact.bounds.interval import Bounds, gate_state, magnitude
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch
from lipexact.numerics.arrays import columns_read

Mask: TypeAlias = npt.NDArray[np.bool_]


def live_coordinates(graph: Graph, bounds: Bounds) -> dict[Node, Mask]:
    """Return which coordinates of each node the outputs depend on.

    Coordinates that are always 0 are left out; those of the inputs are all kept.

    Parameters
    ----------
    graph
        Any graph.
    bounds
        Valid bounds of every node.

    Returns
    -------
    dict
        Masks of shape (size,) by node.
    """
    needed = {node: np.zeros(node.size, dtype=bool) for node in graph.nodes}
    needed |= {node: np.ones(node.size, dtype=bool) for node in graph.inputs}
    for output in graph.outputs:
        needed[output][:] = True
    for node in reversed(graph.nodes):
        if node not in graph.outputs and not isinstance(node, Input | Conditional):
            needed[node] &= magnitude(bounds[node]) > 0
        mask = needed[node]
        match node:
            case Input():
                pass
            case Affine():
                for weight, x in node.terms:
                    needed[x] |= columns_read(weight, mask)
            case Conditional():
                needed[node.x] |= mask & np.isnan(gate_state(node, bounds))
            case Switch():
                needed[node.gate] |= mask
                needed[node.x] |= mask & (gate_state(node.gate, bounds) != 0)
            case _:
                assert_never(node)
    return needed
