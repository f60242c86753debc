"""Whether an activation pattern is a linear region with interior in the domain, decided exactly.

Under a pattern every neuron's input is an affine function z_i(x) = G_i x + g_i. The pattern is real when
some x in the interior of the domain has s_i z_i(x) > 0 for every gate i, s_i = 1 for on and -1 for off; a
neuron whose z_i is identically 0 may have either state. The domain is the shadow of a box cut by rows
b - A x >= 0 (:meth:`lipexact.sets.domains.Domain.system`), whose interior is where all of them are positive: they
join the z_i as forms. A linear program finds a candidate for x, or multipliers w >= 0 whose combination of the
forms is nowhere positive on the box, which rules x out (Farkas, Gordan). Neither is believed before it is checked:
the point by interval arithmetic or in rationals, the multipliers in rationals. Floats are rationals, so the check is
exact; what the linear program cannot see at its own tolerance is looked at again at a finer scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from lipexact.graph.ir import Affine, Conditional, Input, Node, Switch
from lipexact.graph.pattern import FREE, OFF, ON, Pattern
from lipexact.network import Network
from lipexact.numerics.arrays import Vector, columns_read, dense, most_terms
from lipexact.numerics.lp import Slack, System, largest_slack
from lipexact.numerics.rational import Numbers, feasible_point, to_fractions
from lipexact.numerics.rounding import (
    SMALLEST,
    gamma,
    smallest,
)
from lipexact.regions.affine import (
    affine_forms,
    agrees_with,
    depends_on_free,
    exact_states,
    gate_inputs,
    is_compact,
    pattern_at,
)
from lipexact.sets.domains import Domain

# Rows and inputs of the largest systems that are solved in Fractions from scratch.
_SIMPLEX_SIZE = 60

_DOMAIN = -1


@dataclass(frozen=True, eq=False)
class LinearRegion:
    """A linear region of a network with interior in the domain.

    Attributes
    ----------
    point
        A point of its interior, shape (d,), as floats; exact Fractions where no float lies inside.
    pattern
        The gates' states.
    """

    point: Numbers
    pattern: Pattern


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Weights > 0 of what some gates read, with the signs of their states, and of the slacks of a domain's rows.

    Attributes
    ----------
    gates
        By layer and index.
    rows
        By index in :meth:`.Domain.system`.
    """

    gates: dict[tuple[int, int], float | Fraction]
    rows: dict[int, float | Fraction]


@dataclass(frozen=True, eq=False)
class Empty:
    """No region with interior has the gates of this pattern, whatever its free gates.

    Attributes
    ----------
    pattern
        The gates that rule it out, and those that what they read depends on.
    multipliers
        Of a sum that would be positive on such a region, and is positive nowhere in the domain; None where such are
        only known to exist.
    """

    pattern: Pattern
    multipliers: Multipliers | None


@dataclass(frozen=True, eq=False)
class Undecided:
    """Neither could be shown."""


Verdict: TypeAlias = LinearRegion | Empty | Undecided


def decide_region(
    network: Network, domain: Domain, pattern: Pattern, *, explicit: bool = False
) -> Verdict:
    """Whether the pattern's gates, but for the free ones, are those of a region with interior in the domain.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    domain
        X.
    pattern
        The gates' states.
    explicit
        Whether `Empty` shall have multipliers.

    Returns
    -------
    Region
        With a checked point and the pattern completed at that point, where it is one.
    Empty
        With the part of the pattern that already rules it out, where it is none.
    Undecided
        Where neither could be shown.
    """
    if not is_compact(network):
        return Undecided()
    system = domain.system()
    rows = _rows(network, system, affine_forms(network, pattern), pattern)
    middle, half = (system.lower + system.upper) / 2, (system.upper - system.lower) / 2
    solution = largest_slack(rows.linear * half, rows.linear @ middle + rows.constant)
    if solution is not None and solution.slack > 0:
        # A quarter of the slack moves the point off the domain's border, another off kinks of free gates.
        slack = min(solution.slack, 1.0) / 4
        rng = np.random.default_rng(0)
        for shift in (0.0, *rng.uniform(-slack, slack, (3, middle.size))):
            point = (middle + half * (solution.point * (1 - 2 * slack) + shift))[: domain.dim]
            found = pattern_at(network, point)
            if (
                found is not None
                and domain.margin(point[None, :])[0] > 0
                and agrees_with(found, pattern)
            ):
                return LinearRegion(point, found)
    elif solution is not None and not explicit:
        support = _contradiction(network, system, rows, pattern, solution)
        if support is not None:
            return Empty(_cause(network, pattern, rows, support), None)
    return _decide_exactly(network, domain, system, pattern)


def _contradiction(
    network: Network, system: System, rows: _Rows, pattern: Pattern, solution: Slack
) -> list[int] | None:
    """Rows with multipliers that rule the pattern out, shown in floating point; None where that cannot be shown.

    Where the weighted slopes cancel up to rounding, there are multipliers nearby for which they cancel exactly: a
    linear system that holds them is shown to be regular by an approximate inverse.
    """
    weights = [
        weight
        for node in network.graph.nodes
        if isinstance(node, Affine)
        for weight, _ in node.terms
    ]
    biases = [node.bias[None, :] for node in network.graph.nodes if isinstance(node, Affine)]
    if math.prod(map(smallest, weights)) * min(map(smallest, biases), default=1.0) < SMALLEST:
        return None
    units = gamma(sum(most_terms(weight) + 2 for weight in weights))
    sizes = _rows(network, system, affine_forms(network, pattern, sizes=True), pattern)
    errors, offsets = units * np.abs(sizes.linear), units * np.abs(sizes.constant)
    sure = (np.abs(rows.linear) > errors).any(axis=1) | (
        np.abs(rows.constant) > offsets
    )  # none that is 0 everywhere
    support = np.flatnonzero((solution.weights > 1e-9 * solution.weights.max(initial=0.0)) & sure)
    if not support.size:
        return None
    w, linear, constant = solution.weights[support], rows.linear[support], rows.constant[support]
    errors, offsets, lost = errors[support], offsets[support], gamma(support.size + 2)
    moved = np.zeros(support.size)
    if solution.cancelled.any():
        cancelled = linear[:, solution.cancelled]
        doubt = errors[:, solution.cancelled]
        inverse = np.linalg.pinv(cancelled.T)
        left = np.abs(cancelled.T @ inverse - np.eye(cancelled.shape[1]))
        left += (lost * np.abs(cancelled) + doubt).T @ np.abs(inverse) + lost
        far = float(left.sum(axis=1).max())
        if not far < 0.5:
            return None
        rest = np.abs(w @ cancelled) + w @ (lost * np.abs(cancelled) + doubt)
        moved = (
            np.abs(inverse).sum(axis=1)
            * (float(rest.max()) / (1 - far))
            * (1 + gamma(sum(cancelled.shape) + 8))
        )
        if (moved >= w).any():
            return None
    others = ~solution.cancelled
    slopes, reach = w @ linear[:, others], np.abs(linear[:, others])
    doubt = (w @ (errors[:, others] + lost * reach) + moved @ (reach + errors[:, others])) * (
        1 + lost
    )
    ends = np.stack(
        [
            a * b
            for a in (slopes - doubt, slopes + doubt)
            for b in (system.lower[others], system.upper[others])
        ]
    )
    most = ends.max(axis=0)
    total, size = float(most.sum() + w @ constant), float(np.abs(most).sum() + w @ np.abs(constant))
    extra = float(w @ offsets + moved @ (np.abs(constant) + offsets))
    return (
        support.tolist()
        if total + extra * (1 + lost) + gamma(sum(linear.shape) + 4) * size <= 0
        else None
    )


def _decide_exactly(network: Network, domain: Domain, system: System, pattern: Pattern) -> Verdict:
    rows = _rows(network, system, affine_forms(network, pattern, exact=True), pattern)
    vanishing = np.array([not any(row) for row in rows.linear], dtype=bool)
    for k in np.flatnonzero(vanishing).tolist():
        if rows.constant[k] < 0:  # a constant of the wrong sign
            return _ruled_out(network, pattern, rows, {k: Fraction(1)})
    rows = rows.keep(~vanishing)
    lower, upper = to_fractions(system.lower), to_fractions(system.upper)
    centre = middle = (lower + upper) / 2
    if not domain.is_box:
        centre = to_fractions(_lifted(domain))
    reach = (upper - lower) / 2
    for _ in range(4):  # each time at a scale a million times finer
        offset = rows.linear @ middle + rows.constant
        size = abs(rows.linear) @ reach
        # Rows that stay positive so near to the middle do not take part.
        near = np.array([o < s for o, s in zip(offset, size, strict=True)], dtype=bool)
        solution = largest_slack(
            (rows.linear[near] * reach / size[near, None]).astype(np.float64),
            (offset[near] / size[near]).astype(np.float64),
        )
        if solution is None:
            return Undecided()
        point = middle + reach * to_fractions(solution.point)
        slack = rows.linear @ point + rows.constant
        if all(entry > 0 for entry in slack):
            return _region_near(network, domain, pattern, rows, point, centre)
        for weights in (
            to_fractions(solution.weights),
            _kernel(rows.linear[near] * reach / size[near, None], solution),
        ):
            scaled = to_fractions(np.zeros(near.size))
            scaled[near] = weights / size[near]
            if _rules_out(scaled, rows, lower, upper):
                return _ruled_out(network, pattern, rows, dict(enumerate(scaled)))
        reach = reach / 10**6
        middle = np.minimum(np.maximum(point, lower + reach), upper - reach)
    if sum(rows.linear.shape) > _SIMPLEX_SIZE:
        return Undecided()
    found, multipliers = feasible_point(rows.linear, rows.constant, lower, upper)
    if found is not None and all(entry > 0 for entry in rows.linear @ found + rows.constant):
        return _region_near(network, domain, pattern, rows, found, centre)
    if multipliers is not None and _rules_out(multipliers, rows, lower, upper):
        return _ruled_out(network, pattern, rows, dict(enumerate(multipliers)))
    return Undecided()


def _ruled_out(
    network: Network, pattern: Pattern, rows: _Rows, weights: dict[int, Fraction]
) -> Empty:
    """What multipliers of rows show."""
    support = {rows.origin[k]: weight for k, weight in weights.items() if weight > 0}
    gates = {origin: weight for origin, weight in support.items() if origin[0] != _DOMAIN}
    limits = {row: weight for (layer, row), weight in support.items() if layer == _DOMAIN}
    cause = _cause(network, pattern, rows, [k for k, weight in weights.items() if weight > 0])
    return Empty(cause, Multipliers(dict(gates), dict(limits)))


def _lifted(domain: Domain) -> Vector:
    """A point inside the domain's system, above the domain's centre."""
    # The smallest z >= |x - c|, and half of what the ball leaves.
    parts = [domain.centre]
    for center, radius in domain.balls:
        distance = np.abs(domain.centre - center)
        parts.append(distance + (radius - distance.sum()) / (2 * domain.dim))
    return np.concatenate(parts)


def _region_near(
    network: Network, domain: Domain, pattern: Pattern, rows: _Rows, point: Numbers, centre: Numbers
) -> LinearRegion | Undecided:
    """The region of a point at which all rows are positive, moved off the border of the box."""
    # Towards the domain's centre, by so little that no row changes its sign.
    slack, change = rows.linear @ point + rows.constant, abs(rows.linear @ (centre - point))
    step = min([Fraction(1), *(s / (2 * c) for s, c in zip(slack, change, strict=True) if c)])
    region = _region_at(network, domain, rows, point + step * (centre - point))
    return region if _holds(network, pattern, region) else Undecided()


def _rules_out(weights: Numbers, rows: _Rows, lower: Numbers, upper: Numbers) -> bool:
    """Whether sum_i w_i (G_i x + g_i) <= 0 on the box, for w >= 0, w not 0: then no x has all terms > 0."""
    if any(w < 0 for w in weights) or not any(weights):
        return False
    slopes = weights @ rows.linear
    corner = np.where(slopes > 0, upper, lower)
    return bool(slopes @ corner + weights @ rows.constant <= 0)


def _kernel(linear: Numbers, solution: Slack) -> Numbers:
    """Multipliers near the program's own that cancel exactly what those cancel up to rounding."""
    support = np.flatnonzero(solution.weights > 1e-9 * solution.weights.max(initial=0.0))
    # Row reduction: one column per multiplier, one equation per coordinate.
    pivots: dict[int, Numbers] = {}
    for coordinate in np.flatnonzero(solution.cancelled).tolist():
        equation = linear[support, coordinate]
        for pivot, row in pivots.items():
            if equation[pivot]:
                equation = equation - equation[pivot] * row
        leading = next((j for j in range(support.size) if equation[j]), None)
        if leading is None:
            continue
        equation = equation / equation[leading]
        pivots = {
            p: row - row[leading] * equation if row[leading] else row for p, row in pivots.items()
        }
        pivots[leading] = equation
        if len(pivots) >= support.size - 1:
            break
    # Free multipliers keep the program's values; the others follow.
    values = to_fractions(solution.weights[support])
    free = [j for j in range(support.size) if j not in pivots]
    exact = values.copy()
    for pivot, row in pivots.items():
        exact[pivot] = -sum((row[j] * values[j] for j in free), Fraction(0))
    weights = to_fractions(np.zeros(solution.weights.size))
    weights[support] = exact
    return weights


@dataclass(frozen=True, eq=False)
class _Rows:
    """Forms G_i y + g_i that shall be positive, and the gates (layer, index) that they come from.

    The origin of a row of the domain's system is (_DOMAIN, its index).
    """

    linear: Numbers
    constant: Numbers
    origin: list[tuple[int, int]]

    def keep(self, mask: npt.NDArray[np.bool_]) -> _Rows:
        kept = [origin for origin, keep in zip(self.origin, mask.tolist(), strict=True) if keep]
        return _Rows(self.linear[mask], self.constant[mask], kept)


def _rows(
    network: Network, system: System, forms: dict[Node, tuple[Numbers, Numbers]], pattern: Pattern
) -> _Rows:
    """The forms s_i (G_i x + g_i) of the gates that are not free, and b - A y of the domain's system.

    Gates whose input depends on a free one are left out: their forms are not known.
    """
    linear: list[Numbers] = []
    constant: list[Numbers] = []
    origin: list[tuple[int, int]] = []
    unknown = depends_on_free(network, pattern)
    exact = False
    for layer, (gate, states) in enumerate(zip(network.gates, pattern, strict=True)):
        below, offset = forms[gate.x]
        exact |= below.dtype == object
        chosen = np.flatnonzero((states != FREE) & ~unknown[gate.x])
        signs = np.where(states[chosen] == ON, 1, -1)
        padding = np.zeros((chosen.size, system.lower.size - network.input.size), dtype=int)
        linear.append(np.hstack([signs[:, None] * below[chosen], padding]))
        constant.append(signs * offset[chosen])
        origin += [(layer, i) for i in chosen.tolist()]
    convert = to_fractions if exact else np.asarray
    linear.append(convert(-dense(system.rows)))
    constant.append(convert(system.limits))
    origin += [(_DOMAIN, row) for row in range(system.limits.size)]
    return _Rows(np.vstack(linear), np.concatenate(constant), origin)


def _cause(network: Network, pattern: Pattern, rows: _Rows, support: list[int]) -> Pattern:
    """The gates in the support, and those that their forms depend on; the rest is free."""
    wanted: dict[Node, npt.NDArray[np.bool_]] = {}
    kept = tuple(np.full(states.size, FREE, dtype=np.int8) for states in pattern)
    layers = {gate: layer for layer, gate in enumerate(network.gates)}

    def want(node: Node, mask: npt.NDArray[np.bool_]) -> None:
        wanted[node] = wanted.get(node, False) | mask

    for layer, i in (rows.origin[k] for k in support if rows.origin[k][0] != _DOMAIN):
        kept[layer][i] = pattern[layer][i]
        gate = network.gates[layer]
        want(gate.x, np.arange(gate.size) == i)
    for node in reversed(network.graph.nodes):
        if node not in wanted:
            continue
        match node:
            case Affine():
                for weight, x in node.terms:
                    want(x, columns_read(weight, wanted[node]))
            case Switch():
                layer, mask = layers[node.gate], wanted[node]
                kept[layer][mask] = pattern[layer][mask]
                want(node.x, mask & (pattern[layer] == ON))
            case Input() | Conditional():
                pass
            case _:
                assert_never(node)
    return kept


def _region_at(network: Network, domain: Domain, rows: _Rows, point: Numbers) -> LinearRegion:
    """The region around a point at which all rows are positive, if possible at a float nearby."""
    d = domain.dim
    rounded = point[:d].astype(np.float64)
    if domain.margin(rounded[None, :])[0] > 0:
        nearby = to_fractions(rounded)
        if all(
            entry > 0
            for entry, origin in zip(
                rows.linear[:, :d] @ nearby + rows.constant, rows.origin, strict=True
            )
            if origin[0] != _DOMAIN
        ):
            return LinearRegion(rounded, exact_states(network, nearby))
    return LinearRegion(point[:d], exact_states(network, point[:d]))


def _holds(network: Network, pattern: Pattern, region: LinearRegion) -> bool:
    """Whether no gate above a free one, of which no row speaks, contradicts the pattern at the point."""
    unknown = depends_on_free(network, pattern)
    inputs = gate_inputs(
        network, to_fractions(region.point) if region.point.dtype != object else region.point
    )
    return not any(
        bool(
            (
                unknown[gate.x]
                & (((states == ON) & (values < 0)) | ((states == OFF) & (values > 0)))
            ).any()
        )
        for gate, states, values in zip(network.gates, pattern, inputs, strict=True)
    )
