"""The Lipschitz constant as the maximum of a graph's output.

For a functional c and a norm alpha on the input side, Theorem 1 of Jordan and Dimakis (2020) gives

    L = max over the linear regions of ||J^T c||_alpha*,

and ||J^T c||_alpha* = max{c^T J v : ||v||_alpha <= 1}. Both sides are graphs over the network's gates:

* reverse mode: g = J^T c, then the dual norm of g (LipMIP); the norm needs gates of its own;
* forward mode: u = J v for v in the ball of alpha, then c^T u; no gates but the network's.

The maximum over all gates that a graph allows (any gate at 0) is an upper bound of L, equal to it for
networks in general position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from lipexact.domains import ConvexSet
from lipexact.graph.derivative import forward, reverse
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Value, Vector
from lipexact.graph.simplify import fuse_mapped
from lipexact.network import Network
from lipexact.norms import Norm

DerivativeMode: TypeAlias = Literal["forward", "reverse"]


@dataclass(frozen=True, eq=False)
class Problem:
    """Maximise `objective` over the inputs' sets.

    Attributes
    ----------
    network, domain, functional, norm, mode
        What the problem was made of: f, X, c, alpha and the mode of differentiation.
    graph
        The outputs are the objective, of size 1, and, where it was asked for, f(x).
    sets
        What each input ranges over: x over X, and in forward mode the direction over its ball.
    point
        The node that is the network's input x.
    gates
        For each of `network.gates` its node in `graph`, or None where the objective does not
        depend on it.
    """

    network: Network
    domain: ConvexSet
    functional: Vector
    norm: Norm
    mode: DerivativeMode
    graph: Graph
    sets: dict[Input, ConvexSet]
    gates: tuple[Conditional | None, ...]

    @property
    def point(self) -> Input:
        """The node of the network's input x."""
        return self.network.input

    @property
    def objective(self) -> Value:
        """The node that is maximised, of size 1."""
        return self.graph.outputs[0]


def lipschitz_problem(
    network: Network,
    domain: ConvexSet,
    functional: Vector,
    norm: Norm,
    mode: DerivativeMode,
    *,
    keep_output: bool = False,
) -> Problem:
    """The problem whose maximum bounds the Lipschitz constant of c^T f on the domain.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    domain
        X, a subset of R^d.
    functional
        c, of shape (m,).
    norm
        The norm alpha on the input side.
    mode
        How to differentiate.
    keep_output
        Whether f(x) shall be an output of the graph, too.
    """
    x, sets = network.input, {network.input: domain}
    if mode == "forward":
        free, ball, direction = norm.ball(x.size, "v")
        sets[free] = ball
        tangent = forward(network.graph, network.output, x, direction)
        objective: Value = Affine(((functional[None, :], tangent),), [0.0], "objective")  # type: ignore[arg-type]
    else:
        cotangent = Affine((), functional, "c")
        objective = norm.dual.lower(reverse(network.graph, network.output, x, cotangent))
    outputs = (objective, network.output) if keep_output else (objective,)
    graph, renamed = fuse_mapped(Graph(tuple(sets), outputs))
    gates = tuple(renamed.get(gate) for gate in network.gates)
    return Problem(network, domain, functional, norm, mode, graph, sets, gates)  # type: ignore[arg-type]
