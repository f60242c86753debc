"""One primitive, one ``pyo.Block``.

An emitter takes the ports of its operands and returns a block and the port of its result. A port holds
one entry per coordinate, a Pyomo variable or a number, with a scale and an offset: coordinate i has the value
``offset[i] + scale[i] * entries[i]``. They are chosen from the bounds, so that solvers, whose tolerances are
absolute, see numbers of ordinary size. Scales are powers of two, so the weights are scaled without rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyomo.environ as pyo
import scipy.sparse as sp
from pyomo.core.expr import LinearExpression

from lipexact.bounds.interval import Interval, magnitude
from lipexact.bounds.liveness import Mask
from lipexact.graph.ir import Affine, Conditional, Input, Switch
from lipexact.numerics.arrays import Vector
from lipexact.sets.domains import ConvexSet

# Scaled variables reach up to S = 64. Solvers keep rows to an absolute 1e-6 or so; with S = 1 HiGHS
# returned 143.50241 for a constant of 143.502156 (MNIST 784-20-20-20-2), with 64 it is right to 1e-14.
_SPAN = 64.0
# HiGHS and SCIP drop smaller coefficients than 1e-9 without a word, and HiGHS refuses larger ones than 1e15.
_LEAST, _MOST = 1e-8, 2.0**20


@dataclass(frozen=True)
class Port:
    """The coordinates of a node in the program; the entry is 0.0 where they are always 0, or nothing reads them."""

    entries: Sequence[Any]
    scale: Vector
    offset: Vector

    @classmethod
    def nothing(cls, size: int) -> Port:
        """A port that nothing reads."""
        return cls([0.0] * size, np.ones(size), np.zeros(size))

    def value(self, i: int) -> Any:
        """Coordinate i in the graph's own units."""
        return float(self.offset[i]) + float(self.scale[i]) * self.entries[i]


def emit_input(node: Input, domain: ConvexSet) -> tuple[pyo.Block, Port]:
    """x in a convex set: the variables and rows of its system, and its Euclidean ball."""
    block = pyo.Block(concrete=True)
    system = domain.system()
    size = system.lower.size
    port = _variables(
        block, (system.lower, system.upper), np.ones(size, dtype=bool), np.zeros(size)
    )
    block.rows = pyo.Constraint(list(range(system.rows.shape[0])))
    for k in range(system.rows.shape[0]):
        unit = float(max(abs(w) * port.scale[j] for j, w in _entries(system.rows, k)))
        block.rows.add(
            k,
            _row(
                [(w, port, j) for j, w in _entries(system.rows, k)],
                None,
                float(system.limits[k]),
                unit,
            ),
        )
    if domain.euclidean_radius is not None:
        block.ball = pyo.Constraint(
            expr=_squares(port, 1 / _SPAN) <= (domain.euclidean_radius * _SPAN) ** 2
        )
    return block, Port(port.entries[: node.size], port.scale[: node.size], port.offset[: node.size])


def emit_length(x: Port, top: float) -> tuple[pyo.Block, Port]:
    """0 <= y <= top with y^2 <= sum_i x_i^2, which is y <= |x| in the Euclidean norm."""
    block = pyo.Block(concrete=True)
    port = _variables(block, (np.zeros(1), np.array([top])), np.ones(1, dtype=bool), np.zeros(1))
    block.length = pyo.Constraint(expr=port.entries[0] ** 2 <= _squares(x, float(port.scale[0])))
    return block, port


def _squares(port: Port, unit: float) -> Any:
    """The sum of the squares of the coordinates, divided by `unit` squared."""
    entries = zip(
        (port.scale / unit).tolist(), port.entries, (port.offset / unit).tolist(), strict=True
    )
    return sum((scale * entry + offset) ** 2 for scale, entry, offset in entries)


def emit_affine(
    node: Affine, operands: Sequence[Port], bounds: Interval, needed: Mask
) -> tuple[pyo.Block, Port]:
    """y = sum_k W_k x_k + b, one variable and one equation per coordinate that is read."""
    block = pyo.Block(concrete=True)
    weights = [sp.csr_array(weight) for weight, _ in node.terms]
    largest = np.zeros(node.size)
    for weight, x in zip(weights, operands, strict=True):
        scale = np.where(
            [isinstance(entry, float) for entry in x.entries], 0.0, x.scale
        )  # of what varies
        largest = np.maximum(
            largest, (abs(weight) @ sp.diags_array(scale)).max(axis=1).toarray().ravel()
        )
    port = _variables(block, bounds, needed, largest / _MOST)
    indices = np.flatnonzero(needed).tolist()
    block.equation = pyo.Constraint(indices)
    for i in indices:
        terms = [
            (w, x, j)
            for weight, x in zip(weights, operands, strict=True)
            for j, w in _entries(weight, i)
        ]
        bias = float(node.bias[i])
        block.equation.add(i, _row([*terms, (-1.0, port, i)], -bias, -bias, float(port.scale[i])))
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
    gate = Port(entries, np.ones(node.size), np.zeros(node.size))
    if opened and not implied:
        block.on = pyo.Constraint(opened)
        block.off = pyo.Constraint(opened)
        for i in opened:
            low, high, unit = float(bounds[0][i]), float(bounds[1][i]), float(x.scale[i])
            block.on.add(i, _row([(1.0, x, i), (-high, gate, i)], None, 0.0, unit))
            block.off.add(i, _row([(1.0, x, i), (low, gate, i)], low, None, unit))
    return block, gate


def emit_switch(
    node: Switch, x: Port, gate: Port, bounds: Interval, needed: Mask
) -> tuple[pyo.Block, Port]:
    """y = a x for l <= x <= u and a in {0, 1}:

        l a <= y <= u a,   x - u (1 - a) <= y <= x - l (1 - a),

    which is y = 0 for a = 0, y = x for a = 1, and the convex hull of both in between. Where a is the gate
    of x itself, y = max(x, 0) and the hull is y >= 0, y >= x, y <= u a, y <= x - l (1 - a); the rows of
    the conditional follow from x <= y <= u a and x >= y + l (1 - a) >= l (1 - a).

    A gate that the bounds decide costs nothing: y is x, or 0. `bounds` are those of x.
    """
    block = pyo.Block(concrete=True)
    own = node.gate.x is node.x
    opened = []
    entries: list[Any] = [0.0] * node.size
    scale, offset = np.maximum(_scale(magnitude(bounds)), x.scale), np.zeros(node.size)
    for i in np.flatnonzero(needed).tolist():
        if isinstance(gate.entries[i], float):
            if gate.entries[i]:
                entries[i], scale[i], offset[i] = x.entries[i], x.scale[i], x.offset[i]
        elif not isinstance(x.entries[i], float):  # else x is always 0, and so is y
            opened.append(i)
    lower = np.zeros(node.size) if own else np.minimum(bounds[0], 0.0) / scale
    upper = np.maximum(bounds[1], 0.0) / scale
    block.y = pyo.Var(opened, bounds=lambda _, i: (float(lower[i]), float(upper[i])))
    for i in opened:
        entries[i] = block.y[i]
    y = Port(entries, scale, offset)
    rows = {
        name: pyo.Constraint(opened) for name in ("above_zero", "below_zero", "above_x", "below_x")
    }
    for name, row in rows.items():
        if not (own and name == "above_zero"):
            setattr(block, name, row)
    for i in opened:
        low, high, unit = float(bounds[0][i]), float(bounds[1][i]), float(scale[i])
        block.below_zero.add(i, _row([(1.0, y, i), (-high, gate, i)], None, 0.0, unit))
        block.below_x.add(i, _row([(1.0, y, i), (-1.0, x, i), (-low, gate, i)], None, -low, unit))
        if own:
            block.above_x.add(i, _row([(1.0, y, i), (-1.0, x, i)], 0.0, None, unit))
        else:
            block.above_zero.add(i, _row([(1.0, y, i), (-low, gate, i)], 0.0, None, unit))
            block.above_x.add(
                i, _row([(1.0, y, i), (-1.0, x, i), (-high, gate, i)], -high, None, unit)
            )
    return block, y


def _scale(reach: Vector) -> Vector:
    """The powers of two that bring numbers of up to that reach, where it is not 0 nor next to it, into (S/2, S]."""
    return np.asarray(
        np.exp2(np.ceil(np.log2(np.where(reach > 0, np.maximum(reach, 1e-300), 1.0)))) / _SPAN
    )


def _variables(block: pyo.Block, bounds: Interval, needed: Mask, least_scale: Vector) -> Port:
    """Variables for bounded coordinates; around the middle of those that keep one sign, else around 0."""
    lower, upper = bounds
    offset = np.where((lower > 0) | (upper < 0), lower / 2 + upper / 2, 0.0)
    reach = np.maximum(upper - offset, offset - lower)
    # A width that is only rounding is no scale: HiGHS's presolve cut off an optimum over such variables.
    reach = np.where(reach < 2.0**-40 * np.abs(offset), np.abs(offset), reach)
    scale = np.maximum(_scale(reach), _scale(least_scale * _SPAN) * (least_scale > 0))
    low, high = (lower - offset) / scale, (upper - offset) / scale
    indices = np.flatnonzero(needed).tolist()
    block.y = pyo.Var(indices, bounds=lambda _, i: (float(low[i]), float(high[i])))
    entries: list[Any] = [0.0] * needed.size
    for i in indices:
        entries[i] = block.y[i]
    return Port(entries, scale, np.where(needed, offset, 0.0))


def _entries(weight: Any, i: int) -> Iterator[tuple[int, float]]:
    """Columns and values of a row of a sparse matrix."""
    start, stop = weight.indptr[i], weight.indptr[i + 1]
    return zip(weight.indices[start:stop].tolist(), weight.data[start:stop].tolist(), strict=True)


def _row(
    terms: Iterable[tuple[float, Port, int]], lower: float | None, upper: float | None, unit: float
) -> tuple[float | None, Any, float | None]:
    """lower <= sum of weight * coordinate <= upper, divided by `unit`, as Pyomo takes it.

    A coefficient too small for a solver is left out, and the limits are widened by the most that it can matter, so
    the program never cuts off what is possible. Constants go to the limits: Pyomo's interface to SCIP takes them from
    one side only. They are added up in Fractions, since offsets may be far larger than what is left.
    """
    coefficients, variables, slack = [], [], 0.0
    constant = Fraction(0)
    for weight, port, j in terms:
        if port.offset[j]:
            constant += Fraction(weight) * Fraction(float(port.offset[j]))
        coefficient, entry = weight * (float(port.scale[j]) / unit), port.entries[j]
        if isinstance(entry, float):
            constant += Fraction(coefficient * entry * unit)
        elif abs(coefficient) < _LEAST:
            slack += abs(coefficient) * _SPAN
        else:
            coefficients.append(coefficient)
            variables.append(entry)
    expression = LinearExpression(constant=0.0, linear_coefs=coefficients, linear_vars=variables)
    low = None if lower is None else float(Fraction(lower) - constant) / unit - slack
    high = None if upper is None else float(Fraction(upper) - constant) / unit + slack
    return low, expression, high
