"""One primitive of the graph as one ``pyo.Block``.

An emitter takes the ports of a node's operands and returns a block and the port of the node. A port
holds one entry per coordinate, a Pyomo variable or a number, with a scale s and an offset o:
coordinate i has the value ``o[i] + s[i] * entries[i]``. Scales and offsets are chosen from the
bounds, so that solvers, whose tolerances are absolute, see numbers of ordinary size. Scales are
powers of two, so the weights are scaled without rounding.

Every emitter is valid: all values that the node can have within the bounds satisfy its constraints.

Example
-------
y = max(x, 0) for x in [-1, 2] is a conditional and a switch:

>>> import numpy as np
>>> import pyomo.environ as pyo
>>> from lipexact.graph.ir import Conditional, Input, Switch
>>> model = pyo.ConcreteModel()
>>> model.x = pyo.Var(bounds=(-1, 2))
>>> x = Input(1)
>>> gate = Conditional(x)
>>> x_port = Port([model.x], scale=np.ones(1), offset=np.zeros(1))
>>> bounds = (np.array([-1.0]), np.array([2.0]))
>>> live = np.array([True])
>>> unfixed = np.array([np.nan])
>>> model.gate, a_port = emit_conditional(gate, x_port, bounds, unfixed, live, implied=True)
>>> model.relu, y_port = emit_switch(Switch(x, gate), x_port, a_port, bounds, live)
>>> for row in model.component_data_objects(pyo.Constraint):
...     print(row.expr)
relu.y[0] - 2.0*gate.a[0]  <=  0.0
0.0  <=  relu.y[0] - x
relu.y[0] - x + gate.a[0]  <=  1.0
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
from lipexact.mip import constants
from lipexact.numerics.arrays import Vector, summary
from lipexact.sets.convex import ConvexSet


@dataclass(frozen=True, repr=False)
class Port:
    """The coordinates of a node in the program.

    Attributes
    ----------
    entries
        For each coordinate a Pyomo variable or a number; 0.0 where the coordinate is always 0, or
        nothing reads it.
    scale, offset
        Arrays of shape (size,): coordinate i is ``offset[i] + scale[i] * entries[i]``.
    """

    entries: Sequence[Any]
    scale: Vector
    offset: Vector

    def __repr__(self) -> str:
        live = sum(not isinstance(entry, float) for entry in self.entries)
        numbers = f"scale={summary(self.scale)}, offset={summary(self.offset)}"
        return f"Port({live} variables of {len(self.entries)} entries, {numbers})"

    @classmethod
    def unread(cls, size: int) -> Port:
        """Return a port that nothing reads."""
        return cls([0.0] * size, np.ones(size), np.zeros(size))

    def value(self, i: int) -> Any:
        """Return coordinate i in the graph's own units, as a Pyomo expression or a number."""
        return float(self.offset[i]) + float(self.scale[i]) * self.entries[i]


def emit_input(node: Input, domain: ConvexSet) -> tuple[pyo.Block, Port]:
    """Encode x in a convex set, by the variables and rows of its system and its Euclidean ball.

    The system {z : l <= z <= u, A z <= b} has x as its first coordinates; the others, if there are
    any, are auxiliary. The ball is |z|^2 <= r^2. Both are the set's definition, and so valid.

    Parameters
    ----------
    node
        The input.
    domain
        The set.

    Returns
    -------
    pyo.Block, Port
        The block, with variables ``y`` and constraints ``rows`` and ``ball``; the port of x.

    Examples
    --------
    The simplex in two dimensions, in units of 1/64:

    >>> import pyomo.environ as pyo
    >>> from lipexact.sets.convex import Simplex
    >>> model = pyo.ConcreteModel()
    >>> model.x, port = emit_input(Input(2), Simplex(2))
    >>> port.scale * 64
    array([1., 1.])
    >>> print(model.x.rows[0].expr)
    x.y[0] + x.y[1]  <=  64.0
    """
    block = pyo.Block(concrete=True)
    system = domain.system()
    size = system.lower.size
    everything = np.ones(size, dtype=bool)
    port = _variables(block, (system.lower, system.upper), everything, np.zeros(size))
    block.rows = pyo.Constraint(list(range(system.rows.shape[0])))
    for k in range(system.rows.shape[0]):
        unit = float(max(abs(w) * port.scale[j] for j, w in _entries(system.rows, k)))
        terms = [(w, port, j) for j, w in _entries(system.rows, k)]
        block.rows.add(k, _row(terms, None, float(system.limits[k]), unit))
    if domain.euclidean_radius is not None:
        square = _sum_of_squares(port, 1 / constants.SCALED_REACH)
        block.ball = pyo.Constraint(
            expr=square <= (domain.euclidean_radius * constants.SCALED_REACH) ** 2
        )
    return block, Port(port.entries[: node.size], port.scale[: node.size], port.offset[: node.size])


def emit_length(x: Port, upper: float) -> tuple[pyo.Block, Port]:
    """Encode y <= |x| in the Euclidean norm, which is y = |x| where y is maximised.

    The constraint is y^2 <= sum_i x_i^2 for 0 <= y <= u. It is valid: y = |x| satisfies it, since
    |x| <= u. It is not convex.

    Parameters
    ----------
    x
        The port of x.
    upper
        An upper bound u of |x|.

    Returns
    -------
    pyo.Block, Port
        The block, with a variable ``y`` and a constraint ``length``; the port of y, of one entry.

    Examples
    --------
    The length of (x, 2) for |x| <= 3, by 64 y = 4 |(x, 2)|:

    >>> import numpy as np
    >>> import pyomo.environ as pyo
    >>> model = pyo.ConcreteModel()
    >>> model.x = pyo.Var(bounds=(-3, 3))
    >>> x = Port([model.x, 1.0], scale=np.array([1.0, 2.0]), offset=np.zeros(2))
    >>> model.norm, y = emit_length(x, 4.0)
    >>> float(y.scale[0])
    0.0625
    >>> print(model.norm.length.expr)
    norm.y[0]**2  <=  (16.0*x)**2 + 1024.0
    """
    block = pyo.Block(concrete=True)
    live = np.ones(1, dtype=bool)
    port = _variables(block, (np.zeros(1), np.array([upper])), live, np.zeros(1))
    square = _sum_of_squares(x, float(port.scale[0]))
    block.length = pyo.Constraint(expr=port.entries[0] ** 2 <= square)
    return block, port


def _sum_of_squares(port: Port, unit: float) -> Any:
    """Return the sum of the squares of the coordinates, divided by `unit` squared."""
    scales = (port.scale / unit).tolist()
    offsets = (port.offset / unit).tolist()
    terms = zip(scales, port.entries, offsets, strict=True)
    return sum((scale * entry + offset) ** 2 for scale, entry, offset in terms)


def emit_affine(
    node: Affine, operands: Sequence[Port], bounds: Interval, live: Mask
) -> tuple[pyo.Block, Port]:
    """Encode y = sum_k W_k x_k + b, by one variable and one equation for each live coordinate.

    The equation is the node's definition, and l <= y <= u are valid bounds. It is divided by the
    scale of y. The scale of y is at least so large that no coefficient exceeds
    `constants.MAX_COEFFICIENT_SIZE`.

    Parameters
    ----------
    node
        The affine node.
    operands
        The ports of x_1, x_2, ...
    bounds
        l and u, of y.
    live
        A mask of shape (size,): the coordinates that something reads.

    Returns
    -------
    pyo.Block, Port
        The block, with variables ``y`` and constraints ``equation``; the port of y.

    Examples
    --------
    y = 3 x + 1 for x in [0, 8], where y = 13 + s z with s = 1/4 and |z| <= 48:

    >>> import numpy as np
    >>> import pyomo.environ as pyo
    >>> model = pyo.ConcreteModel()
    >>> model.x = pyo.Var(bounds=(0, 8))
    >>> x = Port([model.x], scale=np.ones(1), offset=np.zeros(1))
    >>> node = Affine(((np.array([[3.0]]), Input(1)),), np.array([1.0]))
    >>> bounds = (np.array([1.0]), np.array([25.0]))
    >>> model.affine, y = emit_affine(node, [x], bounds, np.array([True]))
    >>> print(float(y.offset[0]), float(y.scale[0]), y.entries[0].bounds)
    13.0 0.25 (-48.0, 48.0)
    >>> print(model.affine.equation[0].expr)
    48.0  <=  12.0*x - affine.y[0]  <=  48.0
    """
    block = pyo.Block(concrete=True)
    weights = [sp.csr_array(weight) for weight, _ in node.terms]
    largest = _largest_coefficients(weights, operands, node.size)
    port = _variables(block, bounds, live, largest / constants.MAX_COEFFICIENT_SIZE)
    indices = np.flatnonzero(live).tolist()
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


def _largest_coefficients(
    weights: Sequence[sp.csr_array], operands: Sequence[Port], size: int
) -> Vector:
    """Return the largest coefficient of a variable in each row of sum_k W_k x_k."""
    largest = np.zeros(size)
    for weight, x in zip(weights, operands, strict=True):
        is_constant = [isinstance(entry, float) for entry in x.entries]
        scale = np.where(is_constant, 0.0, x.scale)
        scaled = abs(weight) @ sp.diags_array(scale)
        largest = np.maximum(largest, scaled.max(axis=1).toarray().ravel())
    return largest


def emit_conditional(
    node: Conditional, x: Port, bounds: Interval, state: Vector, live: Mask, implied: bool
) -> tuple[pyo.Block, Port]:
    """Encode a in {0, 1} with a = 1 where x > 0 and a = 0 where x < 0, for l <= x <= u.

    The constraints are

        x <= u a,   x >= l (1 - a).

    They are valid: a = 1 leaves 0 <= x <= u, and a = 0 leaves l <= x <= 0. So x > 0 admits a = 1
    only, x < 0 admits a = 0 only, and x = 0 admits both.

    Parameters
    ----------
    node
        The gates a.
    x
        The port of x.
    bounds
        l and u.
    state
        1 for a gate that the bounds fix on, 0 for one that they fix off, NaN for all others. A
        fixed gate is a number in the port.
    live
        A mask of shape (size,): the gates that something reads.
    implied
        Whether the constraints follow from those of a switch of x by a (:func:`emit_switch`), and
        are left out.

    Returns
    -------
    pyo.Block, Port
        The block, with binaries ``a`` and constraints ``on`` and ``off``; the port of a.

    Examples
    --------
    The gate of x in [-1, 2]:

    >>> import numpy as np
    >>> import pyomo.environ as pyo
    >>> model = pyo.ConcreteModel()
    >>> model.x = pyo.Var(bounds=(-1, 2))
    >>> x = Port([model.x], scale=np.ones(1), offset=np.zeros(1))
    >>> bounds = (np.array([-1.0]), np.array([2.0]))
    >>> model.gate, a = emit_conditional(
    ...     Conditional(Input(1)), x, bounds, np.array([np.nan]), np.array([True]), implied=False
    ... )
    >>> print(model.gate.on[0].expr)
    x - 2.0*gate.a[0]  <=  0.0
    >>> print(model.gate.off[0].expr)
    -1.0  <=  x - gate.a[0]
    """
    block = pyo.Block(concrete=True)
    unfixed = np.flatnonzero(live & np.isnan(state)).tolist()
    entries: list[Any] = [float(s) if not np.isnan(s) else None for s in state]
    block.a = pyo.Var(unfixed, domain=pyo.Binary)
    for i in unfixed:
        entries[i] = block.a[i]
    gate = Port(entries, np.ones(node.size), np.zeros(node.size))
    if unfixed and not implied:
        block.on = pyo.Constraint(unfixed)
        block.off = pyo.Constraint(unfixed)
        for i in unfixed:
            low = float(bounds[0][i])
            high = float(bounds[1][i])
            unit = float(x.scale[i])
            block.on.add(i, _row([(1.0, x, i), (-high, gate, i)], None, 0.0, unit))
            block.off.add(i, _row([(1.0, x, i), (low, gate, i)], low, None, unit))
    return block, gate


def emit_switch(
    node: Switch, x: Port, gate: Port, bounds: Interval, live: Mask
) -> tuple[pyo.Block, Port]:
    """Encode y = a x for l <= x <= u and a in {0, 1}.

    The constraints are

        l a <= y <= u a,   x - u (1 - a) <= y <= x - l (1 - a).

    They are valid and exact: for a = 0 they leave y = 0 and l <= x <= u, for a = 1 they leave
    y = x. In between they are the convex hull of both cases: y is the part of x that belongs to
    a = 1, in [l a, u a], and x - y the part that belongs to a = 0, in [l (1 - a), u (1 - a)].

    Where a is the gate of x itself, so that l < 0 < u and y = max(x, 0), y >= l a becomes y >= 0,
    and y >= x - u (1 - a) becomes y >= x. The constraints of the gate are left out then: they
    follow from x <= y <= u a and x >= y + l (1 - a) >= l (1 - a). The module's docstring prints
    this case.

    A fixed gate needs no variable and no constraint: y is x, or 0.

    Parameters
    ----------
    node
        The switch y.
    x, gate
        The ports of x and a.
    bounds
        l and u.
    live
        A mask of shape (size,): the coordinates of y that something reads.

    Returns
    -------
    pyo.Block, Port
        The block, with variables ``y`` and constraints ``above_zero`` (not for a ReLU),
        ``below_zero``, ``above_x`` and ``below_x``; the port of y.
    """
    block = pyo.Block(concrete=True)
    is_relu = node.gate.x is node.x
    y, switched = _switch_variables(block, x, gate, bounds, live, is_relu)
    for name in ("above_zero", "below_zero", "above_x", "below_x"):
        if not (is_relu and name == "above_zero"):
            setattr(block, name, pyo.Constraint(switched))
    for i in switched:
        low = float(bounds[0][i])
        high = float(bounds[1][i])
        unit = float(y.scale[i])
        below_x = [(1.0, y, i), (-1.0, x, i), (-low, gate, i)]
        block.below_zero.add(i, _row([(1.0, y, i), (-high, gate, i)], None, 0.0, unit))
        block.below_x.add(i, _row(below_x, None, -low, unit))
        if is_relu:
            block.above_x.add(i, _row([(1.0, y, i), (-1.0, x, i)], 0.0, None, unit))
        else:
            block.above_zero.add(i, _row([(1.0, y, i), (-low, gate, i)], 0.0, None, unit))
            above_x = [(1.0, y, i), (-1.0, x, i), (-high, gate, i)]
            block.above_x.add(i, _row(above_x, -high, None, unit))
    return block, y


def _switch_variables(
    block: pyo.Block, x: Port, gate: Port, bounds: Interval, live: Mask, is_relu: bool
) -> tuple[Port, list[int]]:
    """Add the variables of a switch to its block; return its port, and the variables' coordinates.

    Coordinates whose gate is fixed on have the entries of x, and those that are always 0 have 0.0.
    """
    size = live.size
    switched: list[int] = []
    entries: list[Any] = [0.0] * size
    scale = np.maximum(_scale(magnitude(bounds)), x.scale)
    offset = np.zeros(size)
    for i in np.flatnonzero(live).tolist():
        if isinstance(gate.entries[i], float):
            if gate.entries[i]:
                entries[i] = x.entries[i]
                scale[i] = x.scale[i]
                offset[i] = x.offset[i]
        elif not isinstance(x.entries[i], float):  # else x is always 0, and so is y
            switched.append(i)
    lower = np.zeros(size) if is_relu else np.minimum(bounds[0], 0.0) / scale
    upper = np.maximum(bounds[1], 0.0) / scale
    block.y = pyo.Var(switched, bounds=lambda _, i: (float(lower[i]), float(upper[i])))
    for i in switched:
        entries[i] = block.y[i]
    return Port(entries, scale, offset), switched


def _scale(reach: Vector) -> Vector:
    """Return powers of two that bring positive numbers of up to `reach` into (S/2, S].

    S is `constants.SCALED_REACH`; a reach of 0 has the scale 1/S.

    >>> _scale(np.array([3.0, 4.0, 0.0])) * constants.SCALED_REACH
    array([4., 4., 1.])
    """
    exponents = np.ceil(np.log2(np.where(reach > 0, np.maximum(reach, constants.MIN_REACH), 1.0)))
    return np.asarray(np.exp2(exponents) / constants.SCALED_REACH)


def _variables(block: pyo.Block, bounds: Interval, live: Mask, least_scale: Vector) -> Port:
    """Add the variables ``y`` of bounded coordinates to a block, and return their port.

    Coordinates that keep one sign are counted from the middle of their bounds, all others from 0.
    """
    lower, upper = bounds
    offset = np.where((lower > 0) | (upper < 0), lower / 2 + upper / 2, 0.0)
    reach = np.maximum(upper - offset, offset - lower)
    is_rounding = reach < constants.MIN_RELATIVE_WIDTH * np.abs(offset)
    reach = np.where(is_rounding, np.abs(offset), reach)
    least = _scale(least_scale * constants.SCALED_REACH) * (least_scale > 0)
    scale = np.maximum(_scale(reach), least)
    low = (lower - offset) / scale
    high = (upper - offset) / scale
    indices = np.flatnonzero(live).tolist()
    block.y = pyo.Var(indices, bounds=lambda _, i: (float(low[i]), float(high[i])))
    entries: list[Any] = [0.0] * live.size
    for i in indices:
        entries[i] = block.y[i]
    return Port(entries, scale, np.where(live, offset, 0.0))


def _entries(weight: Any, i: int) -> Iterator[tuple[int, float]]:
    """Return the columns and values of a row of a sparse matrix."""
    start = weight.indptr[i]
    stop = weight.indptr[i + 1]
    return zip(weight.indices[start:stop].tolist(), weight.data[start:stop].tolist(), strict=True)


def _row(
    terms: Iterable[tuple[float, Port, int]], lower: float | None, upper: float | None, unit: float
) -> tuple[float | None, Any, float | None]:
    """Return lower <= sum of weight * coordinate <= upper, divided by `unit`, as Pyomo takes it.

    A coefficient too small for a solver is left out, and the limits are widened by the most that it
    can matter, so the program never cuts off what is possible. Constants go to the limits: Pyomo's
    interface to SCIP takes them from one side only. They are added up in Fractions, since offsets
    may be far larger than what is left.

    Examples
    --------
    2 x <= 21 for x = 10 + z / 2, divided by 1, is z <= 1:

    >>> model = pyo.ConcreteModel()
    >>> model.z = pyo.Var()
    >>> x = Port([model.z], scale=np.array([0.5]), offset=np.array([10.0]))
    >>> lower, expression, upper = _row([(2.0, x, 0)], None, 21.0, 1.0)
    >>> print(lower, expression, upper)
    None z 1.0
    """
    coefficients = []
    variables = []
    slack = 0.0
    constant = Fraction(0)
    for weight, port, j in terms:
        if port.offset[j]:
            constant += Fraction(weight) * Fraction(float(port.offset[j]))
        coefficient = weight * (float(port.scale[j]) / unit)
        entry = port.entries[j]
        if isinstance(entry, float):
            constant += Fraction(coefficient * entry * unit)
        elif abs(coefficient) < constants.MIN_COEFFICIENT_SIZE:
            slack += abs(coefficient) * constants.SCALED_REACH
        else:
            coefficients.append(coefficient)
            variables.append(entry)
    expression = LinearExpression(constant=0.0, linear_coefs=coefficients, linear_vars=variables)
    low = None if lower is None else float(Fraction(lower) - constant) / unit - slack
    high = None if upper is None else float(Fraction(upper) - constant) / unit + slack
    return low, expression, high
