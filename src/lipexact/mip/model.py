"""The composition: a problem's graph as one Pyomo ``ConcreteModel``."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyomo.environ as pyo
from typing_extensions import assert_never

from lipexact.bounds.interval import Bounds, gate_state, length_bound, magnitude
from lipexact.bounds.liveness import Mask, live_coordinates
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch, Value
from lipexact.graph.pattern import FREE, OFF, ON, Pattern
from lipexact.mip import constants, cuts
from lipexact.mip.blocks import (
    Port,
    emit_affine,
    emit_conditional,
    emit_input,
    emit_length,
    emit_switch,
)
from lipexact.numerics.arrays import Vector, entries
from lipexact.numerics.rounding import TINY
from lipexact.problem.problem import Problem


@dataclass(frozen=True, eq=False, repr=False)
class Composition:
    """A Lipschitz problem as a Pyomo model.

    Attributes
    ----------
    model
        The ``ConcreteModel``: one block per node of the graph, an objective `objective` that
        minimises `norm` times a negative constant, and a constraint list `excluded`, empty at
        first.
    input
        The network's input x: one Pyomo expression per coordinate, in the network's own units.
    output
        The network's output f(x) likewise; empty unless it was kept.
    norm
        The variable of the derivative's norm, which is `offset` + `scale` times that variable.
    gates
        For each layer of gates of the network, for each gate: a binary variable, 0.0 or 1.0 where
        bounds fix it, None where they do not and the objective does not depend on it.
    scale, offset
        Numbers.
    quadratic
        Whether the model has quadratic constraints, as an l2 norm has.
    term_magnitude
        An upper bound of the absolute terms that are added up to the norm; far more than the norm
        where they cancel.
    """

    model: pyo.ConcreteModel
    input: tuple[Any, ...]
    output: tuple[Any, ...]
    norm: Any
    gates: tuple[tuple[Any, ...], ...]
    scale: float
    offset: float
    quadratic: bool = False
    term_magnitude: float = 0.0

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {what}" for what, count in self.sizes.items())
        return f"Composition({self.model.name!r}: {counts}, norm <= {self.top:.6g})"

    @property
    def accuracy(self) -> float:
        """How far a solver's bound of the norm may be off."""
        share = constants.QUADRATIC_ACCURACY if self.quadratic else constants.ACCURACY
        return share * max(self.top, self.term_magnitude) + TINY

    @property
    def least(self) -> float:
        """The least value that a true bound of the norm can have.

        It is 0, or the value of a parked region, which may be a little less.
        """
        return -2 * constants.PARKING_MARGIN * max(self.top, self.term_magnitude) - TINY

    @property
    def top(self) -> float:
        """The largest norm that the program's bounds allow."""
        return float(self.offset + self.scale * self.norm.ub)

    @property
    def objective(self) -> Any:
        """The derivative's norm in its own units, as a Pyomo expression.

        The other variables can bring it to the norm, but also to less: an objective or a constraint
        may ask for much of it, not for little.
        """
        return self.offset + self.scale * self.norm

    def to_norm(self, objective: float) -> float:
        """Return the derivative's norm, in its own units, for a value of the model's objective."""
        return self.offset - objective * self.scale / constants.OBJECTIVE_WEIGHT

    @property
    def sizes(self) -> dict[str, int]:
        """The numbers of variables, binaries and constraints."""
        variables = list(self.model.component_data_objects(pyo.Var, active=True))
        constraints = self.model.component_data_objects(pyo.Constraint, active=True)
        return {
            "variables": len(variables),
            "binaries": sum(variable.is_binary() for variable in variables),
            "constraints": sum(1 for _ in constraints),
        }

    def relax_gates(self) -> None:
        """Let every gate be anything between off and on: the linear relaxation (LipLP)."""
        pyo.TransformationFactory("core.relax_integer_vars").apply_to(self.model)

    def pattern(self) -> Pattern:
        """Return the gates of the solution that the model's variables hold."""
        layers = []
        for layer in self.gates:
            states = np.full(len(layer), FREE, dtype=np.int8)
            for i, gate in enumerate(layer):
                if gate is not None:
                    states[i] = ON if cuts.is_on(gate) else OFF
            layers.append(states)
        return tuple(layers)

    def add_nogood(self, pattern: Pattern) -> None:
        """Exclude every solution that agrees with all of a pattern's gates that are not free.

        The cut is ``sum over the gates of |a - pattern| >= 1``.
        """
        cuts.add_nogood(self.model, self.gates, pattern)

    def park_region(self, pattern: Pattern, value: float) -> None:
        """Exclude a pattern that may be a region, whose norm is known to be at most `value`.

        The model keeps a solution, :attr:`is_parked`, whose norm is less than `value`. When that is
        the best solution, every pattern that was not excluded is worth less than `value`.
        """
        norm = min(value / 2, value - constants.PARKING_MARGIN * self.top)
        cuts.park(self.model, self.gates, pattern, self.norm, (norm - self.offset) / self.scale)

    @property
    def is_parked(self) -> bool:
        """Whether the solution that the model holds is that of a parked region."""
        return cuts.is_parked(self.model)


def compose(problem: Problem, bounds: Bounds) -> Composition:
    """Chain one block per node into a model that minimises minus the problem's objective.

    Parameters
    ----------
    problem
        What to maximise.
    bounds
        Valid bounds of every node of the problem's graph.

    Returns
    -------
    Composition
        A fresh model; the problem is left as it is.
    """
    graph = problem.graph
    live = live_coordinates(graph, bounds)
    model = pyo.ConcreteModel(name=re.sub(r"\W+", "_", problem.network.name))
    ports = _Emitter(problem, bounds, live).emit_into(model)
    norm = ports[problem.objective]
    if problem.objective.size > 1:
        model.length, norm = emit_length(norm, length_bound(bounds[problem.objective]))
    model.objective = pyo.Objective(
        expr=-constants.OBJECTIVE_WEIGHT * norm.entries[0], sense=pyo.minimize
    )
    cuts.add_cut_list(model)
    return Composition(
        model=model,
        input=_values(ports, problem.point),
        output=_values(ports, graph.outputs[1]) if len(graph.outputs) > 1 else (),
        norm=norm.entries[0],
        gates=tuple(
            (None,) * gate.size if node is None else _gates(ports[node], live[node])
            for gate, node in zip(problem.network.gates, problem.gates, strict=True)
        ),
        scale=float(norm.scale[0]),
        offset=float(norm.offset[0]),
        quadratic=problem.quadratic,
        term_magnitude=_term_magnitude(problem.objective, bounds),
    )


class _Emitter:
    """Emits the nodes of a problem's graph, operands first.

    Parameters
    ----------
    problem, bounds
        As for :func:`compose`.
    live
        For each node the coordinates that something reads; a node without any gets no block.
    """

    def __init__(self, problem: Problem, bounds: Bounds, live: dict[Node, Mask]) -> None:
        self.problem = problem
        self.bounds = bounds
        self.live = live
        self.states = {gate: gate_state(gate, bounds) for gate in problem.graph.gates}
        self.ports: dict[Node, Port] = {}

    def emit_into(self, model: pyo.ConcreteModel) -> dict[Node, Port]:
        """Add the block of every live node to a model, and return the ports of all nodes."""
        graph = self.problem.graph
        names = _names(graph)
        for node in _all_nodes(graph):
            if self.live[node].any():
                block, self.ports[node] = self._emit(node)
                model.add_component(names[node], block)
            elif isinstance(node, Conditional):
                self.ports[node] = _unread_gates(self.states[node])
            else:
                self.ports[node] = Port.unread(node.size)
        return self.ports

    def _emit(self, node: Node) -> tuple[pyo.Block, Port]:
        """Return the block of a node, whose operands have been emitted, and its port."""
        live = self.live[node]
        match node:
            case Input():
                return emit_input(node, self.problem.sets[node])
            case Affine():
                operands = [self.ports[x] for _, x in node.terms]
                return emit_affine(node, operands, self.bounds[node], live)
            case Conditional():
                x = self.ports[node.x]
                state = self.states[node]
                implied = _is_implied(self.problem.graph, node, self.live)
                return emit_conditional(node, x, self.bounds[node.x], state, live, implied)
            case Switch():
                x = self.ports[node.x]
                return emit_switch(node, x, self.ports[node.gate], self.bounds[node.x], live)
            case _:
                assert_never(node)


def _all_nodes(graph: Graph) -> dict[Node, None]:
    """Return the inputs and all nodes of a graph, each once, operands first."""
    return dict.fromkeys((*graph.inputs, *graph.nodes))


def _unread_gates(states: Vector) -> Port:
    """Return the port of gates that nothing reads: numbers for fixed gates, None for others."""
    port = Port.unread(states.size)
    return replace(port, entries=[None if np.isnan(s) else float(s) for s in states])


def count_coefficients(problem: Problem, bounds: Bounds) -> int:
    """Return how many coefficients the equations of the program would have."""
    live = live_coordinates(problem.graph, bounds)
    affine = [node for node in problem.graph.nodes if isinstance(node, Affine)]
    return sum(entries(weight[live[node]]) for node in affine for weight, _ in node.terms)


def _term_magnitude(node: Value, bounds: Bounds) -> float:
    if not isinstance(node, Affine):
        return 0.0
    return float(sum((abs(weight) @ magnitude(bounds[x])).max() for weight, x in node.terms))


def _gates(port: Port, live: Mask) -> tuple[Any, ...]:
    """Return the entries of gates; None for those that are neither fixed nor read."""
    known = zip(port.entries, live.tolist(), strict=True)
    return tuple(entry if read or isinstance(entry, float) else None for entry, read in known)


def _values(ports: dict[Node, Port], node: Value) -> tuple[Any, ...]:
    return tuple(ports[node].value(i) for i in range(node.size))


def _is_implied(graph: Graph, gate: Conditional, live: dict[Node, Mask]) -> bool:
    """Return whether switches of the gates' own input have constraints from which theirs follow."""
    relus = [
        node
        for node in graph.nodes
        if isinstance(node, Switch) and node.gate is gate and node.x is gate.x
    ]
    covered = np.zeros(gate.size, dtype=bool)
    for node in relus:
        covered |= live[node]
    return bool(relus) and bool((covered | ~live[gate]).all())


def _names(graph: Graph) -> dict[Node, str]:
    """Return readable, unique names of blocks; those of the model's own components are taken."""
    used = Counter(dict.fromkeys(("objective", "length", *cuts.CUT_COMPONENTS), 1))
    names = {}
    for node in _all_nodes(graph):
        base = re.sub(r"\W+", "_", node.name).strip("_") or type(node).__name__.lower()
        used[base] += 1
        while used[base] > 1 and f"{base}_{used[base]}" in used:
            used[base] += 1
        name = base if used[base] == 1 else f"{base}_{used[base]}"
        used[name] = max(used[name], 1)
        names[node] = name
    return names
