"""The Lipschitz constant as the maximum of a graph's output.

For the unit ball V of the input norm and a symmetric set C of functionals,

    L = max over the linear regions of max{c^T J v : c in C, v in V}

(Theorems 1 and 2 of Jordan and Dimakis, 2020, with C the polar of the output norm's ball). Either
side can range over its set as variables; the other one's maximum is then a norm of what comes out:

* reverse mode: g = J^T c for c in C, then max{g v : v in V}, the dual norm of g (LipMIP);
* forward mode: u = J v for v in V, then max{c u : c in C}.

The norm needs gates of its own, unless its set is one functional; the Euclidean norm is left to
the program. The maximum over all gates that a graph allows (any gate at 0) is an upper bound of L,
equal to it for networks in general position.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from lipexact.errors import DomainError
from lipexact.graph.derivative import forward, reverse
from lipexact.graph.folding import fold_mapped
from lipexact.graph.ir import Conditional, Graph, Input, Value
from lipexact.network import Network
from lipexact.numerics.arrays import alike
from lipexact.sets.convex import ConvexSet
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Reals
from lipexact.sets.unit_balls import SymmetricSet

DerivativeMode: TypeAlias = Literal["forward", "reverse"]
MODES: tuple[DerivativeMode, ...] = ("reverse", "forward")


@dataclass(frozen=True, eq=False)
class Problem:
    """Maximise the Euclidean length of `objective` over the sets of the inputs.

    The length of a single number is the number itself.

    Attributes
    ----------
    network, domain, functionals, directions, mode
        What the problem was made of: f, X, C, V and the mode of differentiation.
    graph
        The outputs are the objective and, where it was asked for, f(x).
    roundings
        How many units of 2^-53 the entries of the graph's matrices may be off, in proportion to
        each.
    sets
        What each input ranges over: x over X, and what the derivative is applied to over its set.
    gates
        For each of `network.gates` its node in `graph`, or None where the objective does not
        depend on it.
    """

    network: Network
    domain: Domain
    functionals: SymmetricSet
    directions: SymmetricSet
    mode: DerivativeMode
    graph: Graph
    roundings: int
    sets: dict[Input, ConvexSet]
    gates: tuple[Conditional | None, ...]

    def with_domain(self, domain: Domain) -> Problem:
        """Return the problem on another domain: neither graph nor norms depend on it."""
        return replace(self, domain=domain, sets=self.sets | {self.point: domain})

    @property
    def point(self) -> Input:
        """The node of the network's input x."""
        return self.network.input

    @property
    def objective(self) -> Value:
        """The node that is maximised."""
        return self.graph.outputs[0]

    @property
    def quadratic(self) -> bool:
        """Whether its program has quadratic constraints, as an l2 norm has."""
        return self.objective.size > 1 or any(
            one.euclidean_radius is not None for one in self.sets.values()
        )


def lipschitz_problem(
    network: Network,
    domain: Domain,
    functionals: SymmetricSet,
    directions: SymmetricSet,
    mode: DerivativeMode,
    *,
    keep_output: bool = False,
) -> Problem | None:
    """State the problem whose maximum bounds the Lipschitz constant of f on the domain.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    domain
        X, a subset of R^d.
    functionals
        C, in R^m.
    directions
        V, in R^d.
    mode
        How to differentiate.
    keep_output
        Whether f(x) shall be an output of the graph, too.

    Returns
    -------
    Problem or None
        None where the norm that this mode needs has no graph.
    """
    x = network.input
    if mode == "forward":
        free = directions.as_variables("v")
        objective = functionals.support_graph(
            forward(network.graph, network.output, x, free.point), free.symmetric
        )
    else:
        free = functionals.as_variables("c")
        objective = directions.support_graph(
            reverse(network.graph, network.output, x, free.point), free.symmetric
        )
    if objective is None:
        return None
    sets: dict[Input, ConvexSet] = {x: domain, **free.sets}
    outputs = (objective, network.output) if keep_output else (objective,)
    graph, renamed, roundings = fold_mapped(Graph(tuple(sets), outputs))
    gates = tuple(renamed.get(gate) for gate in network.gates)
    return Problem(network, domain, functionals, directions, mode, graph, roundings, sets, gates)  # type: ignore[arg-type]


def check_domain(network: Network, domain: object, *, bounded: bool = True) -> None:
    """Refuse what is no domain of the network.

    A domain has the dimension and the axes of the network's input, and is not all of R^d where it
    must be bounded.

    Raises
    ------
    DomainError
    """
    if not isinstance(domain, Domain):
        raise DomainError(
            f"the domain must be a Box, a Ball, a Polytope or Reals, not {type(domain).__name__}: "
            "it says what the inputs range over"
        )
    if domain.dim != network.input.size:
        raise DomainError(
            f"the domain has {domain.dim} dimensions, the network's input {network.input.size} "
            f"(shape {network.input_shape})"
        )
    if not alike(domain.shape, network.input_shape):
        raise DomainError(
            f"the domain's arrays have the shape {domain.shape}, the network's input "
            f"{network.input_shape}: transpose them, or flatten them in the order of the network's "
            "axes"
        )
    if bounded and isinstance(domain, Reals):
        raise DomainError(
            "Reals has no bounds, which are needed here: give a Box, a Ball or a Polytope"
        )
