"""The composition engine: a problem's graph as one Pyomo ``ConcreteModel``."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.core.expr import LinearExpression
from typing_extensions import assert_never

from lipexact.bounds.interval import Bounds, gate_state, length_bound, magnitude
from lipexact.bounds.liveness import Mask, live_coordinates
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch, Value
from lipexact.graph.pattern import FREE, OFF, ON, Pattern
from lipexact.mip.blocks import (
    Port,
    emit_affine,
    emit_conditional,
    emit_input,
    emit_length,
    emit_switch,
)
from lipexact.numerics.arrays import entries
from lipexact.numerics.rounding import TINY
from lipexact.problem.problem import Problem

# Solvers cut off what is better by no more than some 1e-6 of the objective, an absolute number. With a norm of up to
# 64 in the program that was 1e-7 of it, and runners-up were called optimal; with this weight it is nothing.
_WEIGHT = 2.0**20

# How far below a settled value the price of it lies, as a share of the largest norm.
_MARGIN = 1e-4

# How far a solver's bound may be off, as a share of the largest norm, or of the terms that make it. Of 50 nonconvex
# programs that Gurobi solved with a gap of 0, one bound lay 1.1e-5 above the optimum; SCIP's were right to 1e-8, and
# none lay 1e-9 below.
_ACCURACY = 1e-7
_QUADRATIC_ACCURACY = 1e-5

_RESERVED = ("objective", "length", "excluded", "settled", "t", "t_is_norm", "t_is_settled")


@dataclass(frozen=True, eq=False)
class Composition:
    """A Lipschitz problem as a Pyomo model.

    Attributes
    ----------
    model
        The ``ConcreteModel``: one block per node of the graph, an objective `objective` that minimises
        `norm` times a negative constant, and a constraint list `excluded`, empty at first.
    input
        The network's input x: one Pyomo expression per coordinate, in the network's own units.
    output
        The network's output f(x) likewise; empty unless it was kept.
    norm
        The variable of the derivative's norm, which is `offset` + `scale` times that variable.
    gates
        For each layer of gates of the network, for each gate: a binary variable, 0.0 or 1.0 where bounds
        decide it, None where they do not and the objective does not depend on it.
    scale, offset
        Numbers.
    quadratic
        Whether the model has quadratic constraints, as an l2 norm has.
    size
        How large the terms can be that the norm is the sum of; far more than the norm where they cancel.
    """

    model: pyo.ConcreteModel
    input: tuple[Any, ...]
    output: tuple[Any, ...]
    norm: Any
    gates: tuple[tuple[Any, ...], ...]
    scale: float
    offset: float
    quadratic: bool = False
    size: float = 0.0

    @property
    def accuracy(self) -> float:
        """What a solver says of the norm is believed up to this."""
        return (_QUADRATIC_ACCURACY if self.quadratic else _ACCURACY) * max(
            self.top, self.size
        ) + TINY

    @property
    def least(self) -> float:
        """What no true bound of the norm is below: 0, or the price of what was settled, which may be a little less."""
        return -2 * _MARGIN * max(self.top, self.size) - TINY

    @property
    def top(self) -> float:
        """The largest norm that the program's bounds allow."""
        return float(self.offset + self.scale * self.norm.ub)

    @property
    def objective(self) -> Any:
        """The derivative's norm in its own units, as a Pyomo expression.

        The other variables can bring it to the norm, but also to less: ask for much of it, not for little.
        """
        return self.offset + self.scale * self.norm

    def to_norm(self, objective: float) -> float:
        """The derivative's norm, in its own units, for a value of the model's objective."""
        return self.offset - objective * self.scale / _WEIGHT

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
        """Let every gate be anything between off and on: the program's linear relaxation (LipLP)."""
        pyo.TransformationFactory("core.relax_integer_vars").apply_to(self.model)

    def pattern(self) -> Pattern:
        """The gates of the solution that the model's variables hold."""
        layers = []
        for layer in self.gates:
            states = np.full(len(layer), FREE, dtype=np.int8)
            for i, gate in enumerate(layer):
                if gate is not None:
                    # A solver may leave out a variable whose coefficients are too small for it.
                    states[i] = ON if (pyo.value(gate, exception=False) or 0.0) > 0.5 else OFF
            layers.append(states)
        return tuple(layers)

    def add_nogood(self, pattern: Pattern) -> None:
        """Cut off every solution that agrees with all of the pattern's gates that are not free.

        The cut is ``sum over the gates of |a - pattern| >= 1``.
        """
        self._cut(pattern, [])

    def park_region(self, pattern: Pattern, value: float) -> None:
        """Cut off a pattern that may be a region, whose value is known to be at most `value`.

        So that the model keeps a solution, and "infeasible" remains a claim that must be wrong, the pattern
        stays allowed at a price: the model minimises -t with t at most the scaled norm, and a binary `settled` weakens
        the cuts and bounds t, so far below `value` that a solver can tell. A solution that is settled thus says that
        every other pattern is worth less than `value`.
        """
        model = self.model
        if model.component("settled") is None:
            most = self.norm.ub
            model.settled = pyo.Var(domain=pyo.Binary)
            model.t = pyo.Var(bounds=(None, most))
            model.t_is_norm = pyo.Constraint(expr=model.t <= self.norm)
            cap = (min(value / 2, value - _MARGIN * self.top) - self.offset) / self.scale
            model.t_is_settled = pyo.Constraint(expr=model.t + (most - cap) * model.settled <= most)
            model.del_component("objective")
            model.objective = pyo.Objective(expr=-_WEIGHT * model.t, sense=pyo.minimize)
        self._cut(pattern, [model.settled])

    @property
    def is_parked(self) -> bool:
        """Whether the solution that the model holds is one that was settled."""
        settled = self.model.component("settled")
        # It has no value where the solver was stopped before it had a solution.
        return settled is not None and (pyo.value(settled, exception=False) or 0.0) > 0.5

    def _cut(self, pattern: Pattern, extra: list[Any]) -> None:
        least, coefficients, variables = 1.0, [1.0] * len(extra), extra
        for layer, states in zip(self.gates, pattern, strict=True):
            for gate, state in zip(layer, states.tolist(), strict=True):
                if state == FREE or gate is None or isinstance(gate, float):
                    continue
                coefficients = [*coefficients, -1.0 if state == ON else 1.0]
                variables = [*variables, gate]
                least -= state == ON
        row = LinearExpression(constant=0.0, linear_coefs=coefficients, linear_vars=variables)
        self.model.excluded.add((least, row, None))


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
    states = {gate: gate_state(gate, bounds) for gate in graph.gates}
    needed = live_coordinates(graph, bounds)
    own = {node.gate for node in graph.nodes if isinstance(node, Switch) and node.gate.x is node.x}
    model = pyo.ConcreteModel(name=re.sub(r"\W+", "_", problem.network.name))
    names = _names(graph)
    ports: dict[Node, Port] = {}
    for node in dict.fromkeys((*graph.inputs, *graph.nodes)):
        if not needed[node].any():
            ports[node] = Port.unread(node.size)
            if isinstance(node, Conditional):
                ports[node] = replace(
                    ports[node], entries=[None if np.isnan(s) else float(s) for s in states[node]]
                )
            continue
        match node:
            case Input():
                block, port = emit_input(node, problem.sets[node])
            case Affine():
                block, port = emit_affine(
                    node, [ports[x] for _, x in node.terms], bounds[node], needed[node]
                )
            case Conditional():
                implied = node in own and _same(graph, node, needed)
                block, port = emit_conditional(
                    node, ports[node.x], bounds[node.x], states[node], needed[node], implied
                )
            case Switch():
                block, port = emit_switch(
                    node, ports[node.x], ports[node.gate], bounds[node.x], needed[node]
                )
            case _:
                assert_never(node)
        ports[node] = port
        model.add_component(names[node], block)
    objective = ports[problem.objective]
    if problem.objective.size > 1:
        model.length, objective = emit_length(objective, length_bound(bounds[problem.objective]))
    model.objective = pyo.Objective(expr=-_WEIGHT * objective.entries[0], sense=pyo.minimize)
    model.excluded = pyo.ConstraintList()
    return Composition(
        model=model,
        input=_values(ports, problem.point),
        output=_values(ports, graph.outputs[1]) if len(graph.outputs) > 1 else (),
        norm=objective.entries[0],
        gates=tuple(
            (None,) * gate.size if node is None else _gates(ports[node], needed[node])
            for gate, node in zip(problem.network.gates, problem.gates, strict=True)
        ),
        scale=float(objective.scale[0]),
        offset=float(objective.offset[0]),
        quadratic=problem.quadratic,
        size=_size(problem.objective, bounds),
    )


def coefficients(problem: Problem, bounds: Bounds) -> int:
    """How many numbers the equations of the program would have."""
    needed = live_coordinates(problem.graph, bounds)
    affine = [node for node in problem.graph.nodes if isinstance(node, Affine)]
    return sum(entries(weight[needed[node]]) for node in affine for weight, _ in node.terms)


def _size(node: Value, bounds: Bounds) -> float:
    if not isinstance(node, Affine):
        return 0.0
    return float(sum((abs(weight) @ magnitude(bounds[x])).max() for weight, x in node.terms))


def _gates(port: Port, needed: Mask) -> tuple[Any, ...]:
    known = zip(port.entries, needed.tolist(), strict=True)
    return tuple(entry if used or isinstance(entry, float) else None for entry, used in known)


def _values(ports: dict[Node, Port], node: Value) -> tuple[Any, ...]:
    return tuple(ports[node].value(i) for i in range(node.size))


def _same(graph: Graph, gate: Conditional, needed: dict[Node, Mask]) -> bool:
    """Whether the switch of the gate's own input covers all gates that are read."""
    covered = np.zeros(gate.size, dtype=bool)
    for node in graph.nodes:
        if isinstance(node, Switch) and node.gate is gate and node.x is gate.x:
            covered |= needed[node]
    return bool((covered | ~needed[gate]).all())


def _names(graph: Graph) -> dict[Node, str]:
    """Readable, unique names; those of the model's own components are taken."""
    used = Counter(dict.fromkeys(_RESERVED, 1))
    names = {}
    for node in dict.fromkeys((*graph.inputs, *graph.nodes)):
        base = re.sub(r"\W+", "_", node.name).strip("_") or type(node).__name__.lower()
        used[base] += 1
        while used[base] > 1 and f"{base}_{used[base]}" in used:
            used[base] += 1
        name = base if used[base] == 1 else f"{base}_{used[base]}"
        used[name] = max(used[name], 1)
        names[node] = name
    return names
