"""Whether a pattern is that of a linear region with interior in the domain, decided exactly.

Under a pattern the input of every gate i is an affine function z_i(x) = G_i x + g_i. The pattern is
feasible if some x in the interior of the domain has s_i z_i(x) > 0 for every gate i, where s_i is 1
for on and -1 for off; a gate whose z_i is identically 0 may have either state. The domain is the
projection of a box, cut by rows b - A y >= 0 (:meth:`lipexact.sets.domain.Domain.system`). In its
interior all of these are positive, so that they are conditions like those of the gates.

A linear program in floating point finds either a point with s_i z_i(x) > 0, or multipliers w >= 0
for which sum_i w_i s_i z_i is nowhere positive on the box. The second excludes every x (Farkas'
lemma). Both are checked before they are used: the point by interval arithmetic or in rationals, the
multipliers by bounds of rounding errors or in rationals. As floats are rationals, a check in
rationals is exact. What the linear program cannot resolve at its tolerance, it is asked again on a
smaller box, in which the differences are larger.

For example, let z_0 = x and z_1 = -x - 1 on [-2, 2]. Both gates on: x > 0 and -x - 1 > 0. The
multipliers (1, 1) give x + (-x - 1) = -1 <= 0, so that the pattern is infeasible. Gate 0 off and
gate 1 on: -x > 0 and -x - 1 > 0; x = -3/2 fulfils both, so that the pattern is that of a region.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from lipexact.graph.pattern import OFF, ON, Pattern, pattern_summary
from lipexact.network import Network
from lipexact.numerics.arrays import Vector, summary
from lipexact.numerics.lp import Slack, System, largest_slack
from lipexact.numerics.rational import (
    Numbers,
    kernel_vector,
    proves_infeasible,
    strictly_feasible_point,
    to_fractions,
)
from lipexact.regions import constants
from lipexact.regions.affine import (
    affine_forms,
    agrees_with,
    depends_on_free,
    exact_pattern,
    gate_inputs,
    is_compact,
    pattern_at,
)
from lipexact.regions.conditions import (
    DOMAIN_ROWS,
    SignConditions,
    responsible_gates,
    sign_conditions,
)
from lipexact.regions.farkas import contradicting_rows
from lipexact.sets.domain import Domain


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

    def __repr__(self) -> str:
        point = summary(self.point.astype(np.float64))
        return f"LinearRegion(point={point}, pattern=<{pattern_summary(self.pattern)}>)"


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Farkas multipliers, all positive, of gates' conditions and of the rows of a domain's system.

    Attributes
    ----------
    gates
        Of s_i z_i(x), by layer and index of the gate i.
    rows
        Of b - A y, by index in :meth:`.Domain.system`.
    """

    gates: dict[tuple[int, int], float | Fraction]
    rows: dict[int, float | Fraction]

    def __repr__(self) -> str:
        return f"Multipliers(of {len(self.gates)} gates and {len(self.rows)} rows)"


@dataclass(frozen=True, eq=False)
class Empty:
    """An infeasible pattern: no region with interior has its gates, whatever its free gates are.

    Attributes
    ----------
    pattern
        The gates whose conditions exclude each other, and those that these conditions depend on.
    multipliers
        Of a sum that would be positive in such a region, and is nowhere positive in the domain;
        None where it is only known that such multipliers exist.
    """

    pattern: Pattern
    multipliers: Multipliers | None

    def __repr__(self) -> str:
        pattern = pattern_summary(self.pattern)
        return f"Empty(pattern=<{pattern}>, multipliers={self.multipliers!r})"


@dataclass(frozen=True, eq=False)
class Undecided:
    """A pattern that could be shown to be neither feasible nor infeasible."""


Verdict: TypeAlias = LinearRegion | Empty | Undecided


def decide_region(
    network: Network, domain: Domain, pattern: Pattern, *, with_multipliers: bool = False
) -> Verdict:
    """Decide whether a pattern is that of a linear region with interior in the domain.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    domain
        X.
    pattern
        The gates' states. Free gates may have any state.
    with_multipliers
        Whether `Empty` must have multipliers; the decision is made in rationals then.

    Returns
    -------
    LinearRegion
        If the pattern is feasible: with a checked point, and the complete pattern at that point.
    Empty
        If it is infeasible: with the part of the pattern that is infeasible by itself.
    Undecided
        If neither could be shown.

    Examples
    --------
    The gates read x and -x - 1 on [-2, 2]. They are never on together: the sum of both
    pre-activations is -1. But the second one is on and the first one off for x < -1.

    >>> from lipexact.graph.ir import Affine, Graph, Input
    >>> from lipexact.graph.lowering import relu
    >>> from lipexact.sets.domains import Box
    >>> x = Input(1)
    >>> hidden = relu(Affine(((np.array([[1.0], [-1.0]]), x),), np.array([0.0, -1.0])))
    >>> output = Affine(((np.array([[1.0, 1.0]]), hidden),), np.zeros(1))
    >>> network, box = Network(Graph((x,), (output,)), (1,), (1,)), Box([-2.0], [2.0])
    >>> verdict = decide_region(network, box, (np.array([ON, ON]),), with_multipliers=True)
    >>> verdict.multipliers.gates[0, 0] == verdict.multipliers.gates[0, 1] > 0
    True
    >>> decide_region(network, box, (np.array([OFF, ON]),))
    LinearRegion(point=[-1.5], pattern=<1 on, 1 off>)
    """
    if not is_compact(network):
        return Undecided()
    system = domain.system()
    conditions = sign_conditions(network, system, affine_forms(network, pattern), pattern)
    middle = (system.lower + system.upper) / 2
    half = (system.upper - system.lower) / 2
    solution = largest_slack(conditions.linear * half, conditions.values(middle))
    if solution is not None and solution.slack > 0:
        region = _region_at_solution(network, domain, pattern, middle, half, solution)
        if region is not None:
            return region
    elif solution is not None and not with_multipliers:
        support = contradicting_rows(network, system, conditions, pattern, solution)
        if support is not None:
            return Empty(responsible_gates(network, pattern, conditions, support), None)
    return _decide_exactly(network, domain, system, pattern)


def _region_at_solution(
    network: Network,
    domain: Domain,
    pattern: Pattern,
    middle: Vector,
    half: Vector,
    solution: Slack,
) -> LinearRegion | None:
    """Return the region at a solution with positive slack, if interval arithmetic can prove it."""
    # A quarter of the slack moves the point off the domain's border, another off the kinks of free
    # gates, which the linear program does not know.
    slack = min(solution.slack, 1.0) / 4
    rng = np.random.default_rng(0)
    shifts = rng.uniform(-slack, slack, (constants.SHIFTED_POINTS, middle.size))
    for shift in (0.0, *shifts):
        point = (middle + half * (solution.point * (1 - 2 * slack) + shift))[: domain.dim]
        found = pattern_at(network, point)
        if (
            found is not None
            and domain.margin(point[None, :])[0] > 0
            and agrees_with(found, pattern)
        ):
            return LinearRegion(point, found)
    return None


# --- The decision in rationals -------------------------------------------------------------------


def _decide_exactly(network: Network, domain: Domain, system: System, pattern: Pattern) -> Verdict:
    """Decide in rationals: by linear programs on ever smaller boxes, then by the exact simplex."""
    forms = affine_forms(network, pattern, exact=True)
    conditions = sign_conditions(network, system, forms, pattern)
    vanishing = np.array([not any(row) for row in conditions.linear], dtype=bool)
    for k in np.flatnonzero(vanishing).tolist():
        if conditions.constant[k] < 0:  # a constant of the wrong sign
            return _infeasible(network, pattern, conditions, {k: Fraction(1)})
    lower = to_fractions(system.lower)
    upper = to_fractions(system.upper)
    decision = _ExactDecision(network, domain, pattern, conditions.select(~vanishing), lower, upper)
    verdict = decision.by_zooming()
    return decision.by_simplex() if verdict is None else verdict


def _infeasible(
    network: Network, pattern: Pattern, conditions: SignConditions, weights: dict[int, Fraction]
) -> Empty:
    """Return the verdict that multipliers of some conditions, by index, prove."""
    positive = {k: weight for k, weight in weights.items() if weight > 0}
    gates: dict[tuple[int, int], float | Fraction] = {}
    rows: dict[int, float | Fraction] = {}
    for k, weight in positive.items():
        layer, index = conditions.origins[k]
        if layer == DOMAIN_ROWS:
            rows[index] = weight
        else:
            gates[layer, index] = weight
    responsible = responsible_gates(network, pattern, conditions, list(positive))
    return Empty(responsible, Multipliers(gates, rows))


@dataclass(frozen=True, eq=False)
class _ExactDecision:
    """A pattern's conditions and the box of the domain's system, in Fractions."""

    network: Network
    domain: Domain
    pattern: Pattern
    conditions: SignConditions
    lower: Numbers
    upper: Numbers

    def by_zooming(self) -> Verdict | None:
        """Solve linear programs in floats on ever smaller boxes, and check each result exactly.

        The box shrinks around the last solution, so that the tolerance of the solver, which is in
        proportion to the box, gets finer each time. None is returned where that does not help.
        """
        linear = self.conditions.linear
        middle = (self.lower + self.upper) / 2
        reach = (self.upper - self.lower) / 2
        for _ in range(constants.ZOOM_STEPS):
            values = self.conditions.values(middle)
            size = abs(linear) @ reach
            # Conditions that hold on the whole box do not take part.
            near = np.array([v < s for v, s in zip(values, size, strict=True)], dtype=bool)
            scaled = linear[near] * reach / size[near, None]
            solution = largest_slack(
                scaled.astype(np.float64), (values[near] / size[near]).astype(np.float64)
            )
            if solution is None:
                return Undecided()
            point = middle + reach * to_fractions(solution.point)
            if all(value > 0 for value in self.conditions.values(point)):
                return self.region_near(point)
            for weights in (to_fractions(solution.weights), _cancelling(scaled, solution)):
                multipliers = to_fractions(np.zeros(near.size))
                multipliers[near] = weights / size[near]
                if self.is_excluded_by(multipliers):
                    return self.infeasible(multipliers)
            reach = reach / constants.ZOOM_FACTOR
            middle = np.minimum(np.maximum(point, self.lower + reach), self.upper - reach)
        return None

    def by_simplex(self) -> Verdict:
        """Solve the linear program in Fractions, if it is small enough."""
        if sum(self.conditions.linear.shape) > constants.MAX_SIMPLEX_SIZE:
            return Undecided()
        point, multipliers = strictly_feasible_point(
            self.conditions.linear, self.conditions.constant, self.lower, self.upper
        )
        if point is not None and all(value > 0 for value in self.conditions.values(point)):
            return self.region_near(point)
        if multipliers is not None and self.is_excluded_by(multipliers):
            return self.infeasible(multipliers)
        return Undecided()

    def is_excluded_by(self, multipliers: Numbers) -> bool:
        """Return True if multipliers prove that no point of the box fulfils all conditions."""
        return proves_infeasible(
            multipliers, self.conditions.linear, self.conditions.constant, self.lower, self.upper
        )

    def infeasible(self, multipliers: Numbers) -> Empty:
        """Return the verdict that multipliers of all conditions prove."""
        weights = dict(enumerate(multipliers))
        return _infeasible(self.network, self.pattern, self.conditions, weights)

    def region_near(self, point: Numbers) -> LinearRegion | Undecided:
        """Return the region of a point that fulfils all conditions, moved off the box's border.

        The point moves towards the domain's centre, by so little that no condition changes its
        sign: where c is the change of a condition's value s over the whole way, by the part
        s / (2 |c|) at most.
        """
        centre = (self.lower + self.upper) / 2
        if not self.domain.is_box:
            centre = to_fractions(lifted_centre(self.domain))
        values = self.conditions.values(point)
        changes = abs(self.conditions.linear @ (centre - point))
        steps = (s / (2 * c) for s, c in zip(values, changes, strict=True) if c)
        step = min([Fraction(1), *steps])
        region = self.region_at(point + step * (centre - point))
        return region if self.agrees_above_free_gates(region) else Undecided()

    def region_at(self, point: Numbers) -> LinearRegion:
        """Return the region around a point that fulfils all conditions, at a float if possible."""
        d = self.domain.dim
        rounded = point[:d].astype(np.float64)
        if self.domain.margin(rounded[None, :])[0] > 0:
            nearby = to_fractions(rounded)
            values = self.conditions.linear[:, :d] @ nearby + self.conditions.constant
            if all(
                value > 0
                for value, (layer, _) in zip(values, self.conditions.origins, strict=True)
                if layer != DOMAIN_ROWS
            ):
                return LinearRegion(rounded, exact_pattern(self.network, nearby))
        return LinearRegion(point[:d], exact_pattern(self.network, point[:d]))

    def agrees_above_free_gates(self, region: LinearRegion) -> bool:
        """Return True if gates without a condition, above free ones, have the pattern's states."""
        unknown = depends_on_free(self.network, self.pattern)
        inputs = gate_inputs(self.network, to_fractions(region.point))
        for gate, states, values in zip(self.network.gates, self.pattern, inputs, strict=True):
            wrong = ((states == ON) & (values < 0)) | ((states == OFF) & (values > 0))
            if bool((unknown[gate.x] & wrong).any()):
                return False
        return True


def _cancelling(linear: Numbers, solution: Slack) -> Numbers:
    """Return multipliers near a solution's that cancel exactly what these cancel up to rounding.

    Parameters
    ----------
    linear
        The conditions' slopes, shape (k, n), Fractions.
    solution
        Its multipliers have the shape (k,).
    """
    threshold = constants.NEGLIGIBLE_MULTIPLIER * solution.weights.max(initial=0.0)
    support = np.flatnonzero(solution.weights > threshold)
    equations = (
        linear[support, coordinate] for coordinate in np.flatnonzero(solution.cancelled).tolist()
    )
    weights = to_fractions(np.zeros(solution.weights.size))
    weights[support] = kernel_vector(equations, to_fractions(solution.weights[support]))
    return weights


def lifted_centre(domain: Domain) -> Vector:
    """Return an inner point of the domain's system whose first part is the domain's centre.

    The system has further variables z >= |x - c| for each ball with the centre c. Each z is the
    smallest possible one, and an equal share of half of what the ball leaves: for |x - c| =
    (0.2, 0.1) in the unit ball, 0.7 is left, and z = (0.375, 0.275).
    """
    parts = [domain.centre]
    for center, radius in domain.balls:
        distance = np.abs(domain.centre - center)
        parts.append(distance + (radius - distance.sum()) / (2 * domain.dim))
    return np.concatenate(parts)
