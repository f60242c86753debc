"""The derivative of a graph as a graph, which shares the gates of the original.

With its gates fixed, a graph is affine in its input. Its Jacobian J (for a network, that of the
linear region of these gates) is applied in two ways, as in automatic differentiation: J v (forward)
and J^T c (reverse). The derivative of Switch(x, a) is Switch(dx, a), so that both are graphs of
the same primitives (Jordan and Dimakis 2020, section 4, for the reverse mode).

For example, relu(x) is Switch(x, a) with a = Conditional(x). For f(x) = 3 relu(2 x) the forward
mode is J v = 3 Switch(2 v, a), and the reverse mode is J^T c = 2 Switch(3 c, a), with the gate a
of 2 x in both. Each is 6 where x > 0 and 0 where x < 0.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from typing_extensions import assert_never

from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch, Value
from lipexact.numerics.arrays import Matrix


def forward(graph: Graph, output: Value, wrt: Input, tangent: Value) -> Value:
    """Return J v, for the Jacobian J of `output` with respect to `wrt` and v = `tangent`.

    Parameters
    ----------
    graph
        A graph that has `output` among its nodes.
    output
        The node to differentiate, of size m.
    wrt
        The input to differentiate by, of size d.
    tangent
        The direction v, of size d.

    Returns
    -------
    Value
        A node of size m.
    """
    tangents: dict[Node, Value] = {wrt: tangent}
    for node in graph.nodes:
        match node:
            case Affine():
                terms = tuple((weight, tangents[x]) for weight, x in node.terms if x in tangents)
                if terms:
                    tangents[node] = Affine(terms, np.zeros(node.size), f"d_{node.name}")
            case Switch():
                if node.x in tangents:
                    tangents[node] = Switch(tangents[node.x], node.gate, f"d_{node.name}")
            case Input() | Conditional():
                pass
            case _:
                assert_never(node)
    return tangents.get(output) or _zeros(output.size)


def reverse(graph: Graph, output: Value, wrt: Input, cotangent: Value) -> Value:
    """Return J^T c, for the Jacobian J of `output` with respect to `wrt` and c = `cotangent`.

    Parameters
    ----------
    graph
        A graph that has `output` among its nodes.
    output
        The node to differentiate, of size m.
    wrt
        The input to differentiate by, of size d.
    cotangent
        The functional c, of size m.

    Returns
    -------
    Value
        A node of size d.
    """
    # Terms of the gradient by each node; a weight of None is the identity.
    collected: dict[Node, list[tuple[Matrix | None, Value]]] = {}
    gradients: dict[Node, Value] = {output: cotangent}

    def gradient(node: Value) -> Value | None:
        if node not in gradients and node in collected:
            match collected.pop(node):
                case [(None, only)]:
                    gradients[node] = only
                case terms:
                    pulled = tuple(
                        (_identity(node.size) if weight is None else weight, x)
                        for weight, x in terms
                    )
                    gradients[node] = Affine(pulled, np.zeros(node.size), f"g_{node.name}")
        return gradients.get(node)

    for node in reversed(graph.nodes):
        if isinstance(node, Conditional) or (above := gradient(node)) is None:
            continue
        match node:
            case Affine():
                for weight, (_, x) in zip(node.transposed, node.terms, strict=True):
                    collected.setdefault(x, []).append((weight, above))
            case Switch():
                switched = Switch(above, node.gate, f"g_{node.name}_in")
                collected.setdefault(node.x, []).append((None, switched))
            case Input():
                pass
            case _:
                assert_never(node)
    return gradients.get(wrt) or _zeros(wrt.size)


def _identity(size: int) -> Matrix:
    return sp.eye_array(size, format="csr")


def _zeros(size: int) -> Affine:
    return Affine((), np.zeros(size), "zero")
