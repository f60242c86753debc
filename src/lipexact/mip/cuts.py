"""Constraints that exclude patterns of gates from a program.

A pattern fixes some gates on or off and leaves others free. A no-good cut excludes every solution
that agrees with it on all gates that it fixes:

    sum over the gates that are off of a + sum over the gates that are on of (1 - a) >= 1.

It is valid for a pattern that no linear region has. A pattern that may be a region is parked
instead: the model minimises -t, with t at most the norm, and a binary ``parked`` relaxes the cut
and bounds t. So the model keeps a solution, and "infeasible" remains a claim that must be wrong.
The bound is so far below the region's value that a solver can tell: a solution that is parked says
that every pattern that was not excluded is worth less than that value.

The model's components are ``excluded`` (the list of cuts), ``parked``, ``t``, ``t_is_norm`` and
``t_is_parked``; all but the first are added with the first parked region.

Examples
--------
Two gates, of which the first is on and the second is off:

>>> import numpy as np
>>> import pyomo.environ as pyo
>>> from lipexact.graph.pattern import OFF, ON
>>> model = pyo.ConcreteModel()
>>> model.a = pyo.Var([0, 1], domain=pyo.Binary)
>>> add_cut_list(model)
>>> gates = ((model.a[0], model.a[1]),)
>>> add_nogood(model, gates, (np.array([ON, OFF]),))
>>> print(model.excluded[1].expr)
0.0  <=  - a[0] + a[1]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyomo.environ as pyo
from pyomo.core.expr import LinearExpression

from lipexact.graph.pattern import FREE, ON, Pattern
from lipexact.mip import constants

CUT_COMPONENTS = ("excluded", "parked", "t", "t_is_norm", "t_is_parked")

# For each layer, for each gate: a binary variable, 0.0 or 1.0 for a fixed gate, None for one that
# is not part of the program.
Gates = Sequence[Sequence[Any]]


def add_cut_list(model: pyo.ConcreteModel) -> None:
    """Add an empty list of cuts to a model."""
    model.excluded = pyo.ConstraintList()


def add_nogood(model: pyo.ConcreteModel, gates: Gates, pattern: Pattern) -> None:
    """Exclude every solution that agrees with all of a pattern's gates that are not free."""
    model.excluded.add(_nogood(gates, pattern, []))


def park(
    model: pyo.ConcreteModel, gates: Gates, pattern: Pattern, norm: Any, parked_norm: float
) -> None:
    """Exclude a pattern from all solutions but parked ones.

    Parameters
    ----------
    model
        A model with a list of cuts, and an objective that only the first call replaces.
    gates
        The model's gates.
    pattern
        A pattern that may be a region.
    norm
        The variable that the model maximises.
    parked_norm
        The value that t may have in a parked solution; later calls leave it at that of the first.
    """
    if model.component("parked") is None:
        _add_parking(model, norm, parked_norm)
    model.excluded.add(_nogood(gates, pattern, [model.parked]))


def _add_parking(model: pyo.ConcreteModel, norm: Any, parked_norm: float) -> None:
    """Maximise t <= norm in place of the norm, with t <= parked_norm in a parked solution.

    The second constraint is t + (u - p) parked <= u, for the norm's upper bound u and p =
    parked_norm: t <= u where `parked` is 0, and t <= p where it is 1.
    """
    upper = norm.ub
    model.parked = pyo.Var(domain=pyo.Binary)
    model.t = pyo.Var(bounds=(None, upper))
    model.t_is_norm = pyo.Constraint(expr=model.t <= norm)
    model.t_is_parked = pyo.Constraint(expr=model.t + (upper - parked_norm) * model.parked <= upper)
    model.del_component("objective")
    model.objective = pyo.Objective(expr=-constants.OBJECTIVE_WEIGHT * model.t, sense=pyo.minimize)


def is_parked(model: pyo.ConcreteModel) -> bool:
    """Return whether the solution that a model holds is a parked one."""
    parked = model.component("parked")
    return parked is not None and is_on(parked)


def is_on(binary: Any) -> bool:
    """Return whether a binary variable, or a number, is 1 in the solution that a model holds.

    A variable without a value is off: a solver may leave out variables whose coefficients are too
    small for it, and has no values if it was stopped before it had a solution.
    """
    return (pyo.value(binary, exception=False) or 0.0) > constants.BINARY_THRESHOLD


def _nogood(
    gates: Gates, pattern: Pattern, relaxations: list[Any]
) -> tuple[float, LinearExpression, None]:
    """Return the no-good cut of a pattern; a binary among `relaxations` that is 1 satisfies it."""
    lower = 1.0
    coefficients = [1.0] * len(relaxations)
    variables = list(relaxations)
    for layer, states in zip(gates, pattern, strict=True):
        for gate, state in zip(layer, states.tolist(), strict=True):
            if state == FREE or gate is None or isinstance(gate, float):
                continue
            coefficients.append(-1.0 if state == ON else 1.0)
            variables.append(gate)
            lower -= state == ON
    row = LinearExpression(constant=0.0, linear_coefs=coefficients, linear_vars=variables)
    return lower, row, None
