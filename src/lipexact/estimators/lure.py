"""Networks as linear systems in feedback with their open ReLUs (Lur'e systems)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from typing_extensions import assert_never

from lipexact.errors import UnsupportedEstimateError
from lipexact.graph.ir import Affine, Conditional, Input, Node, Switch
from lipexact.network import Network
from lipexact.numerics.arrays import Vector, dense, most_terms, summary


@dataclass(frozen=True, eq=False)
class LureSystem:
    """The linear parts A w of the open gates' inputs and C w of the output, for w = (x, h).

    Here x is the input, and h are the outputs of the open gates.

    Attributes
    ----------
    a, c
        The matrices A and C, of shapes (n, d + n) and (m, d + n).
    inputs
        The number d of inputs.
    layers
        For each open gate the number of its layer, shape (n,).
    sizes
        For A and C, the sums of the absolute values of the products behind their entries.
    operations
        An upper bound of the number of roundings that an entry has seen.
    """

    a: Vector
    c: Vector
    inputs: int
    layers: Vector
    sizes: tuple[Vector, Vector]
    operations: int

    @property
    def gates(self) -> int:
        """The number n of open gates."""
        return len(self.a)

    def __repr__(self) -> str:
        return f"LureSystem(a={summary(self.a)}, c={summary(self.c)}, inputs={self.inputs})"

    def scaled(self, left: Vector, right: Vector) -> LureSystem:
        """Multiply the output by a matrix of shape (k, m), and the input by half-axes, (d,)."""
        columns = np.concatenate([right, np.ones(self.gates)])
        return LureSystem(
            a=self.a * columns,
            c=left @ self.c * columns,
            inputs=self.inputs,
            layers=self.layers,
            sizes=(self.sizes[0] * columns, np.abs(left) @ self.sizes[1] * columns),
            operations=self.operations + left.shape[1] + 2,
        )


def lure_system(network: Network, states: list[Vector], max_size: int, method: str) -> LureSystem:
    """Return the Lur'e system of a network, whose open gates are variables.

    For relu(x) - relu(-x), both gates open, w = (x, h_1, h_2), A = [[1, 0, 0], [-1, 0, 0]] and
    C = [[0, 1, -1]].

    Parameters
    ----------
    network
        The network f: R^d -> R^m.
    states
        For each layer of gates 1.0 (on), 0.0 (off), or NaN (open), shape (size,).
    max_size
        The largest d + n for n open gates.
    method
        The estimator, for messages.

    Raises
    ------
    UnsupportedEstimateError
        If the network has gates that switch something else than what they read, or is too large.
    """
    open_gates = [np.isnan(state) for state in states]
    count = int(sum(each.sum() for each in open_gates))
    d = network.input.size
    if count + d > max_size:
        raise UnsupportedEstimateError(
            f"{method} takes inputs and open gates up to {max_size} together, not {d} and "
            f"{count}: a smaller domain fixes more gates"
        )
    forms, read, operations = _linear_forms(network, states, open_gates, method)
    layers_read = [k for k in range(len(states)) if k in read]
    rows = [tuple(part[open_gates[k]] for part in forms[read[k]]) for k in layers_read]
    empty = np.zeros((0, d + count))
    a, a_sizes = (
        np.vstack([empty, *parts]) for parts in (zip(*rows, strict=True) if rows else ([], []))
    )
    layers = np.concatenate(
        [np.zeros(0), *(np.full(int(open_gates[k].sum()), k) for k in layers_read)]
    )
    c, c_sizes = forms[network.output]
    return LureSystem(a, c, d, layers, (a_sizes, c_sizes), operations)


def _linear_forms(
    network: Network, states: list[Vector], open_gates: list[Vector], method: str
) -> tuple[dict[Node, tuple[Vector, Vector]], dict[int, Node], int]:
    """Return each node as a linear form in w, the node that each layer reads, and the roundings.

    With each form comes the sum of the absolute values of the products behind its entries.
    """
    d = network.input.size
    count = int(sum(each.sum() for each in open_gates))
    layer_of = {gate: k for k, gate in enumerate(network.gates)}
    starts = d + np.cumsum([0, *(int(each.sum()) for each in open_gates)])
    forms: dict[Node, tuple[Vector, Vector]] = {}
    read: dict[int, Node] = {}
    operations = 4
    for node in network.graph.nodes:
        match node:
            case Input():
                forms[node] = (np.eye(d, d + count), np.eye(d, d + count))
            case Affine():
                total = np.zeros((node.size, d + count))
                sizes = np.zeros((node.size, d + count))
                for weight, x in node.terms:
                    total = total + dense(weight @ forms[x][0])
                    sizes = sizes + dense(abs(weight) @ forms[x][1])
                    operations += most_terms(weight) + 1
                forms[node] = (total, sizes)
            case Switch():
                if node.gate.x is not node.x:
                    raise UnsupportedEstimateError(
                        f"{method} takes networks whose gates switch what they read: this one is "
                        "another"
                    )
                k = layer_of[node.gate]
                read[k] = node.x
                values = np.where(open_gates[k], 0.0, states[k])[:, None]
                total = forms[node.x][0] * values
                sizes = forms[node.x][1] * values
                own = np.flatnonzero(open_gates[k])
                columns = starts[k] + np.arange(own.size)
                total[own, columns] = sizes[own, columns] = 1.0
                forms[node] = (total, sizes)
            case Conditional():
                pass
            case _:
                assert_never(node)
    return forms, read, operations


def all_open(network: Network) -> list[Vector]:
    """Return states of gates of which nothing is known: NaN for each."""
    return [np.full(gate.size, np.nan) for gate in network.gates]
