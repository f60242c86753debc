"""One primitive, one ``pyo.Block``.

An emitter takes the ports of its operands and returns a block and the port of its result. A port holds
one entry per coordinate, a Pyomo variable or a number, and a scale: coordinate i has the value
``scale[i] * entries[i]``. Scales are powers of two, chosen from the bounds, so that solvers, whose
tolerances are absolute, see numbers of ordinary size and the weights are scaled without rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyomo.environ as pyo
import scipy.sparse as sp
from pyomo.core.expr import LinearExpression

from lipexact.bounds.interval import Interval, magnitude
from lipexact.domains import ConvexSet
from lipexact.graph.ir import Affine, Conditional, Input, Switch, Vector

Mask: TypeAlias = npt.NDArray[np.bool_]

# Scaled variables reach up to S = 64. Solvers keep rows to an absolute 1e-6 or so; with S = 1 HiGHS
# returned 143.50241 for a constant of 143.502156 (MNIST 784-20-20-20-2), with 64 it is right to 1e-14.
_SPAN = 64.0


@dataclass(frozen=True)
class Port:
    """The coordinates of a node in the program; 0.0 where they are always 0, or nothing reads them."""

    entries: Sequence[Any]
    scale: Vector


def emit_input(node: Input, domain: ConvexSet) -> tuple[pyo.Block, Port]:
    """x in {lower <= x <= upper, A x <= b}."""
    block = pyo.Block(concrete=True)
    rows, limits = domain.inequalities()
    box = domain.lower, domain.upper
    port = _variables(block, box, _scale(box), np.ones(node.size, dtype=bool))
    if rows.shape[0]:
        block.rows = pyo.Constraint(pyo.RangeSet(0, rows.shape[0] - 1))
        rows = sp.csr_array(rows)
        for k in range(rows.shape[0]):
            constant, coefficients, variables = _linear([(_row(rows, k), port)], 0.0, 1.0)
            block.rows.add(k, (None, _expression(coefficients, variables), float(limits[k]) - constant))
    return block, port


def emit_affine(node: Affine, operands: Sequence[Port], bounds: Interval, needed: Mask) -> tuple[pyo.Block, Port]:
    """y = sum_k W_k x_k + b, one variable and one equation per coordinate that is read."""
    block = pyo.Block(concrete=True)
    scale = _scale(bounds)
    port = _variables(block, bounds, scale, needed)
    weights = [(sp.csr_array(weight), operand) for (weight, _), operand in zip(node.terms, operands, strict=True)]
    block.equation = pyo.Constraint(list(np.flatnonzero(needed).tolist()))
    for i in block.equation.index_set():
        terms = [(_row(weight, i), operand) for weight, operand in weights]
        constant, coefficients, variables = _linear(terms, float(node.bias[i]), float(scale[i]))
        row = _expression([*coefficients, -1.0], [*variables, port.entries[i]])
        block.equation.add(i, (-constant, row, -constant))
    return block, port


def emit_conditional(
    node: Conditional, x: Port, bounds: Interval, state: Vector, needed: Mask, implied: bool
) -> tuple[pyo.Block, Port]:
    """a in {0, 1} with a = 1 where x > 0 and a = 0 where x < 0, for l <= x <= u:

        x <= u a,   x >= l (1 - a).

    A gate that the bounds decide is a number. The two rows are left out where `implied`: a switch of x
    by a has rows from which they follow (:func:`emit_switch`).
    """
    block = pyo.Block(concrete=True)
    opened = np.flatnonzero(needed & np.isnan(state)).tolist()
    entries: list[Any] = [float(s) if not np.isnan(s) else None for s in state]
    block.a = pyo.Var(opened, domain=pyo.Binary)
    for i in opened:
        entries[i] = block.a[i]
    if opened and not implied:
        lower, upper = bounds[0] / x.scale, bounds[1] / x.scale
        block.on = pyo.Constraint(opened)
        block.off = pyo.Constraint(opened)
        for i in opened:
            a, xi, low, high = block.a[i], x.entries[i], float(lower[i]), float(upper[i])
            block.on.add(i, (None, _expression([1.0, -high], [xi, a]), 0.0))
            block.off.add(i, (low, _expression([1.0, low], [xi, a]), None))
    return block, Port(entries, np.ones(node.size))


def emit_switch(node: Switch, x: Port, gate: Port, bounds: Interval, needed: Mask) -> tuple[pyo.Block, Port]:
    """y = a x for l <= x <= u and a in {0, 1}:

        l a <= y <= u a,   x - u (1 - a) <= y <= x - l (1 - a),

    which is y = 0 for a = 0, y = x for a = 1, and the convex hull of both in between. Where a is the gate
    of x itself, y = max(x, 0) and the hull is y >= 0, y >= x, y <= u a, y <= x - l (1 - a); the rows of
    the conditional follow from x <= y <= u a and x >= y + l (1 - a) >= l (1 - a).

    A gate that the bounds decide costs nothing: y is x, or 0. `bounds` are those of x.
    """
    block = pyo.Block(concrete=True)
    own = node.gate.x is node.x
    lower, upper = bounds[0] / x.scale, bounds[1] / x.scale
    entries: list[Any] = [0.0] * node.size
    opened = []
    for i in np.flatnonzero(needed).tolist():
        if isinstance(gate.entries[i], float):
            entries[i] = x.entries[i] if gate.entries[i] else 0.0
        elif not isinstance(x.entries[i], float):  # else x is always 0, and so is y
            opened.append(i)
    least = np.zeros(node.size) if own else np.minimum(lower, 0.0)
    most = np.maximum(upper, 0.0)
    block.y = pyo.Var(opened, bounds=lambda _, i: (float(least[i]), float(most[i])))
    rows = {name: pyo.Constraint(opened) for name in ("above_zero", "below_zero", "above_x", "below_x")}
    for name, row in rows.items():
        if not (own and name == "above_zero"):
            setattr(block, name, row)
    for i in opened:
        y, a, xi, low, high = block.y[i], gate.entries[i], x.entries[i], float(lower[i]), float(upper[i])
        entries[i] = y
        block.below_zero.add(i, (None, _expression([1.0, -high], [y, a]), 0.0))
        block.below_x.add(i, (None, _expression([1.0, -1.0, -low], [y, xi, a]), -low))
        if own:
            block.above_x.add(i, (0.0, _expression([1.0, -1.0], [y, xi]), None))
        else:
            block.above_zero.add(i, (0.0, _expression([1.0, -low], [y, a]), None))
            block.above_x.add(i, (-high, _expression([1.0, -1.0, -high], [y, xi, a]), None))
    return block, Port(entries, x.scale)


def _scale(bounds: Interval) -> Vector:
    """The powers of two that bring the largest absolute values within the bounds into (S/2, S]."""
    size = magnitude(bounds)
    return np.asarray(np.exp2(np.ceil(np.log2(np.where(size > 0, size, 1.0)))) / _SPAN)


def _variables(block: pyo.Block, bounds: Interval, scale: Vector, needed: Mask) -> Port:
    lower, upper = bounds[0] / scale, bounds[1] / scale
    indices = np.flatnonzero(needed).tolist()
    block.y = pyo.Var(indices, bounds=lambda _, i: (float(lower[i]), float(upper[i])))
    entries: list[Any] = [0.0] * needed.size
    for i in indices:
        entries[i] = block.y[i]
    return Port(entries, scale)


def _row(weight: Any, i: int) -> tuple[list[int], list[float]]:
    start, stop = weight.indptr[i], weight.indptr[i + 1]
    return weight.indices[start:stop].tolist(), weight.data[start:stop].tolist()


def _linear(
    terms: Sequence[tuple[tuple[list[int], list[float]], Port]], bias: float, scale: float
) -> tuple[float, list[float], list[Any]]:
    """(sum of the terms + bias) / scale as a constant, coefficients and variables."""
    constant, coefficients, variables = bias / scale, [], []
    for (columns, weights), port in terms:
        for column, weight in zip(columns, weights, strict=True):
            if weight == 0.0:
                continue
            coefficient = weight * (float(port.scale[column]) / scale)
            entry = port.entries[column]
            if isinstance(entry, float):
                constant += coefficient * entry
            else:
                coefficients.append(coefficient)
                variables.append(entry)
    return constant, coefficients, variables


def _expression(coefficients: list[float], variables: list[Any]) -> LinearExpression:
    # Constants belong in the limits of a row: Pyomo's interface to SCIP takes them from one side only.
    return LinearExpression(constant=0.0, linear_coefs=coefficients, linear_vars=variables)
