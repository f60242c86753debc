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
import operator
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from typing_extensions import assert_never

from lipexact.bounds.interval import point_bounds
from lipexact.graph.evaluate import evaluate, product
from lipexact.graph.ir import Affine, Conditional, Input, Node, Switch, Value
from lipexact.graph.pattern import FREE, OFF, ON, Pattern
from lipexact.network import Network
from lipexact.numerics.arrays import Matrix, Vector, columns_read, dense, entries, most_terms
from lipexact.numerics.lp import Slack, System, largest_slack
from lipexact.numerics.rounding import (
    SMALLEST,
    TINY,
    gamma,
    rounded,
    smallest,
    twofold_product,
    twofold_sum,
)
from lipexact.sets.domains import Domain

# Rows and inputs of the largest systems that are solved in Fractions from scratch.
_SIMPLEX_SIZE = 60
# Multiplications of Fractions that a gradient may take, a second or so for each million.
_FRACTIONS = 3e6
# Numbers in the affine forms of all neurons, beyond which they are not made.
_FORMS = 2**26
_DOMAIN = -1

# Arrays of floats, or of exact Fractions (dtype object).
Numbers: TypeAlias = npt.NDArray[Any]


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


def is_compact(network: Network) -> bool:
    """Whether the network is small enough for :func:`affine_forms`."""
    return network.input.size * sum(node.size for node in network.graph.nodes) <= _FORMS


def affine_forms(
    network: Network, pattern: Pattern, *, exact: bool = False, sizes: bool = False
) -> dict[Node, tuple[Numbers, Numbers]]:
    """G and g with node = G x + g under the pattern, for the affine nodes and switches.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    pattern
        The gates' states; free gates count as off.
    exact
        Whether to compute in Fractions.
    sizes
        Whether to take the absolute values of all weights and biases: what rounding errors are in proportion to.

    Returns
    -------
    dict
        Arrays of shape (size, d) and (size,) by node.
    """
    states = dict(zip(network.gates, pattern, strict=True))
    convert, times = (_fractions, _exact) if exact else (np.asarray, operator.matmul)
    forms: dict[Node, tuple[Numbers, Numbers]] = {}
    for node in network.graph.nodes:
        match node:
            case Input():
                readers = (
                    each for each in network.graph.nodes if isinstance(each, Conditional | Switch)
                )
                if node is network.output or any(reader.x is node for reader in readers):
                    forms[node] = convert(np.eye(node.size)), convert(np.zeros(node.size))
            case Affine():
                linear, constant = (
                    convert(np.zeros((node.size, network.input.size))),
                    convert(node.bias),
                )
                constant = np.abs(constant) if sizes else constant
                for weight, x in node.terms:
                    weight = abs(weight) if sizes else weight  # noqa: PLW2901
                    if isinstance(x, Input):  # no product with an identity of the input's size
                        linear = linear + convert(dense(weight))
                        continue
                    below, offset = forms[x]
                    linear = linear + times(weight, below)
                    constant = constant + times(weight, offset[:, None])[:, 0]
                forms[node] = linear, constant
            case Conditional():
                pass
            case Switch():
                on = (states[node.gate] == ON).astype(int)
                below, offset = forms[node.x]
                forms[node] = below * on[:, None], offset * on
            case _:
                assert_never(node)
    return forms


def gate_forms(
    network: Network, pattern: Pattern, layer: int, chosen: npt.NDArray[np.intp]
) -> tuple[Vector, Vector]:
    """What some gates of a layer read, as G x + g under the pattern, without the forms of all the others.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    pattern
        The gates' states; free gates count as off.
    layer, chosen
        The index of the layer in `network.gates`, and k indices of gates in it.

    Returns
    -------
    linear, constant
        Shapes (k, d) and (k,).
    """
    states = dict(zip(network.gates, pattern, strict=True))
    target, rows = network.gates[layer].x, np.arange(chosen.size)
    pending: dict[Node, Matrix] = {
        target: sp.csr_array(
            (np.ones(chosen.size), (rows, chosen)), shape=(chosen.size, target.size)
        )
    }
    constant = np.zeros(chosen.size)
    for node in reversed(network.graph.nodes):
        if node is network.input or (above := pending.pop(node, None)) is None:
            continue
        if isinstance(node, Affine):
            constant = constant + above @ node.bias
        on = (
            sp.diags_array((states[node.gate] == ON).astype(np.float64))
            if isinstance(node, Switch)
            else None
        )
        terms = (
            node.terms
            if isinstance(node, Affine)
            else ((on, node.x),)
            if isinstance(node, Switch)
            else ()
        )
        for weight, x in terms:
            below = above @ weight
            pending[x] = pending[x] + below if x in pending else below
    linear = pending.get(network.input)
    return np.zeros((chosen.size, network.input.size)) if linear is None else dense(
        linear
    ), constant


def steepness(network: Network, pattern: Pattern) -> dict[Node, Vector]:
    """For each affine node and switch the l1 norms of its gradients under the pattern.

    At least these where the network is too large for :func:`affine_forms`.
    """
    if is_compact(network):
        forms = affine_forms(network, pattern)
        return {node: np.abs(linear).sum(axis=1) for node, (linear, _) in forms.items()}
    states = dict(zip(network.gates, pattern, strict=True))
    slopes: dict[Node, Vector] = {network.input: np.ones(network.input.size)}
    for node in network.graph.nodes:
        if isinstance(node, Affine):
            slopes[node] = sum(
                (abs(weight) @ slopes[x] for weight, x in node.terms), np.zeros(node.size)
            )
        elif isinstance(node, Switch):
            slopes[node] = slopes[node.x] * (states[node.gate] == ON)
    return slopes


def pattern_at(network: Network, point: Vector) -> Pattern | None:
    """The pattern of the region around a point, or None where a kink is so near that rounding may hide it.

    A neuron whose input is 0 all around the point, as all that it reads is switched off, counts as off.
    """
    bounds = point_bounds(network.graph.nodes, network.input, point)
    layers = []
    zero: dict[Node, npt.NDArray[np.bool_]] = {}
    for node in network.graph.nodes:
        match node:
            case Input():
                zero[node] = np.zeros(node.size, dtype=bool)
            case Affine():
                zero[node] = node.bias == 0
                for weight, x in node.terms:
                    zero[node] &= abs(weight) @ ~zero[x] == 0
            case Conditional():
                lower, upper = bounds[node.x]
                if not ((lower > 0) | (upper < 0) | zero[node.x]).all():
                    return None
                layers.append((lower > 0).astype(np.int8))
            case Switch():
                zero[node] = zero[node.x] | (bounds[node.gate.x][0] <= 0)
            case _:
                assert_never(node)
    return tuple(layers)


def gradients(
    network: Network, functionals: Vector, pattern: Pattern, *, exact: bool = False
) -> tuple[Vector, Vector]:
    """c^T J under the pattern for each row c, accurate to rounding of the largest entry, and what it may be off.

    In floats where these do not cancel much, else in twice their precision, else in Fractions, unless that would take
    very many of them.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    functionals
        Shape (k, m).
    pattern
        The gates' states.
    exact
        In Fractions in any case, every entry rounded once.

    Returns
    -------
    values, errors
        Shape (k, d) each.
    """
    cotangent, graph = network.pullback
    (pulled,), nodes = graph.outputs, graph.nodes

    def pull(rows: Numbers, times: Callable[[Matrix, Numbers], Numbers]) -> Numbers:
        return _pull(nodes, pulled, network, pattern, {cotangent: rows.T}, times).T

    def doubtful() -> npt.NDArray[np.bool_]:
        allowed = gamma(1) * np.abs(values) if exact else 1e-12 * np.abs(values).max(initial=0.0)
        return np.asarray(~(errors <= allowed).all(axis=1))

    weights = [weight for node in nodes if isinstance(node, Affine) for weight, _ in node.terms]
    # What underflow can lose is no more than rounding unless numbers get as small as these.
    tiny = SMALLEST if smallest(functionals) * math.prod(map(smallest, weights)) < SMALLEST else 0.0
    values = np.array(pull(functionals, operator.matmul), dtype=np.float64)
    errors = np.array(
        pull(np.abs(functionals), lambda weight, x: abs(weight) @ x + tiny), dtype=np.float64
    )
    errors *= gamma(sum(most_terms(weight) + 1 for weight in weights))
    if (rows := doubtful()).any():
        values[rows], errors[rows] = _pull_twofold(
            nodes, pulled, network, pattern, cotangent, functionals[rows]
        )
    if (rows := doubtful()).any() and sum(map(entries, weights)) * int(rows.sum()) <= _FRACTIONS:
        exactly = pull(_fractions(functionals[rows]), _exact)
        values[rows] = np.vectorize(rounded, otypes=[np.float64])(exactly)
        errors[rows] = np.where(exactly == 0, 0.0, gamma(1) * np.abs(values[rows]) + TINY)
    return values, errors


def _pull_twofold(
    nodes: tuple[Node, ...],
    pulled: Value,
    network: Network,
    pattern: Pattern,
    cotangent: Input,
    functionals: Vector,
) -> tuple[Vector, Vector]:
    """The gradients of functionals, each entry rounded from twice the precision, and what it may be off."""
    states = dict(zip(network.gates, pattern, strict=True))
    values: dict[Node, tuple[Vector, Vector, Vector]] = {
        cotangent: (functionals.T, np.zeros(functionals.T.shape), np.zeros(functionals.T.shape))
    }
    for node in nodes:
        if isinstance(node, Affine) and all(x in values for _, x in node.terms):
            high, low, error = (np.zeros((node.size, len(functionals))) for _ in range(3))
            for weight, x in node.terms:
                above, below, before = values[x]
                above, below, lost = twofold_product(weight, above, below)
                high, low, rounded = twofold_sum((high, low), (above, below))
                error = (error + lost + rounded + abs(weight) @ before) * (1 + gamma(x.size + 3))
            values[node] = high, low, error
        elif isinstance(node, Switch) and node.x in values:
            on = (states[node.gate] == ON).astype(np.float64)[:, None]
            high, low, error = values[node.x]
            values[node] = high * on, low * on, error * on
    high, low, error = values[pulled]
    return high.T, (error + np.abs(low)).T


def _pull(
    nodes: tuple[Node, ...],
    pulled: Value,
    network: Network,
    pattern: Pattern,
    values: dict[Node, Numbers],
    times: Callable[[Matrix, Numbers], Numbers],
) -> Numbers:
    """The value of a derivative's node for a batch of columns, with `times` to multiply them by weights."""
    states = dict(zip(network.gates, pattern, strict=True))
    count = next(iter(values.values())).shape[1]
    for node in nodes:
        if isinstance(node, Affine) and all(x in values for _, x in node.terms):
            total = np.zeros((node.size, count), dtype=int)
            for weight, x in node.terms:
                total = total + times(weight, values[x])
            values[node] = total
        elif isinstance(node, Switch) and node.x in values:
            values[node] = values[node.x] * (states[node.gate] == ON).astype(int)[:, None]
    return values[pulled]


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
                and _agree(found, pattern)
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
    lower, upper = _fractions(system.lower), _fractions(system.upper)
    centre = middle = (lower + upper) / 2
    if not domain.is_box:
        centre = _fractions(_lifted(domain))
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
        point = middle + reach * _fractions(solution.point)
        slack = rows.linear @ point + rows.constant
        if all(entry > 0 for entry in slack):
            return _region_near(network, domain, pattern, rows, point, centre)
        for weights in (
            _fractions(solution.weights),
            _kernel(rows.linear[near] * reach / size[near, None], solution),
        ):
            scaled = _fractions(np.zeros(near.size))
            scaled[near] = weights / size[near]
            if _rules_out(scaled, rows, lower, upper):
                return _ruled_out(network, pattern, rows, dict(enumerate(scaled)))
        reach = reach / 10**6
        middle = np.minimum(np.maximum(point, lower + reach), upper - reach)
    if sum(rows.linear.shape) > _SIMPLEX_SIZE:
        return Undecided()
    found, multipliers = _simplex(rows.linear, rows.constant, lower, upper)
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


def _simplex(
    linear: Numbers, constant: Numbers, lower: Numbers, upper: Numbers, pivots: int = 1000
) -> tuple[Numbers | None, Numbers | None]:
    """A point of the box with all of linear x + constant > 0, or multipliers that rule it out, in Fractions.

    Chvatal's dictionaries with Bland's rule: the slacks z = linear x + constant + e and w = upper - x in terms of
    x - lower >= 0 and e, which is free of sign and minimised until it is negative.
    """
    count, d = linear.shape
    one, zero = Fraction(1), Fraction(0)
    head = [*(constant + linear @ lower), *(upper - lower)]
    body = [[*row, one] for row in linear.tolist()]
    body += [[-one if i == j else zero for j in range(d)] + [zero] for i in range(d)]
    goal, least = [zero] * d + [one], zero  # e
    columns, basis = list(range(d + 1)), list(range(d + 1, d + 1 + count + d))

    def pivot(r: int, c: int) -> None:
        nonlocal goal, least
        new = [-entry / body[r][c] for entry in body[r]]
        start, new[c] = -head[r] / body[r][c], one / body[r][c]

        def substituted(row: list[Fraction]) -> list[Fraction]:
            return [
                (0 if k == c else b) + row[c] * n
                for k, (b, n) in enumerate(zip(row, new, strict=True))
            ]

        for i in range(len(body)):
            if i != r and body[i][c]:
                head[i] += body[i][c] * start
                body[i] = substituted(body[i])
        body[r], head[r] = new, start
        least, goal = least + goal[c] * start, substituted(goal)
        columns[c], basis[r] = basis[r], columns[c]

    def corner(entering: int | None = None, step: Fraction = zero) -> Numbers:
        values = {
            b: h + (step * row[entering] if entering is not None else 0)
            for b, h, row in zip(basis, head, body, strict=True)
        }
        if entering is not None:
            values[columns[entering]] = step
        return np.array([lower[j] + values.get(j, zero) for j in range(d)], dtype=object)

    pivot(min(range(count), key=lambda i: head[i]), d)  # e enters, and never leaves
    for _ in range(pivots):
        if least < 0:
            return corner(), None
        entering = min(
            (c for c in range(d + 1) if goal[c] < 0), key=lambda c: columns[c], default=None
        )
        if entering is None:
            prices = dict(zip(columns, goal, strict=True))
            return None, np.array([prices.get(d + 1 + i, zero) for i in range(count)], dtype=object)
        rows = [i for i in range(len(body)) if body[i][entering] < 0 and basis[i] != d]
        if not rows:  # e falls without limit
            return corner(entering, (least + 1) / -body[basis.index(d)][entering]), None
        pivot(min(rows, key=lambda i: (head[i] / -body[i][entering], basis[i])), entering)
    return None, None


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
    values = _fractions(solution.weights[support])
    free = [j for j in range(support.size) if j not in pivots]
    exact = values.copy()
    for pivot, row in pivots.items():
        exact[pivot] = -sum((row[j] * values[j] for j in free), Fraction(0))
    weights = _fractions(np.zeros(solution.weights.size))
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
    convert = _fractions if exact else np.asarray
    linear.append(convert(-dense(system.rows)))
    constant.append(convert(system.limits))
    origin += [(_DOMAIN, row) for row in range(system.limits.size)]
    return _Rows(np.vstack(linear), np.concatenate(constant), origin)


def depends_on_free(network: Network, pattern: Pattern) -> dict[Node, npt.NDArray[np.bool_]]:
    """Which coordinates depend on a free gate."""
    states = dict(zip(network.gates, pattern, strict=True))
    unknown: dict[Node, npt.NDArray[np.bool_]] = {}
    for node in network.graph.nodes:
        match node:
            case Input():
                unknown[node] = np.zeros(node.size, dtype=bool)
            case Affine():
                unknown[node] = np.zeros(node.size, dtype=bool)
                for weight, x in node.terms:
                    unknown[node] |= abs(weight) @ unknown[x] > 0
            case Conditional():
                pass
            case Switch():
                gate = states[node.gate]
                unknown[node] = (gate == FREE) | ((gate == ON) & unknown[node.x])
            case _:
                assert_never(node)
    return unknown


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
        nearby = _fractions(rounded)
        if all(
            entry > 0
            for entry, origin in zip(
                rows.linear[:, :d] @ nearby + rows.constant, rows.origin, strict=True
            )
            if origin[0] != _DOMAIN
        ):
            return LinearRegion(rounded, _states(network, nearby))
    return LinearRegion(point[:d], _states(network, point[:d]))


def _holds(network: Network, pattern: Pattern, region: LinearRegion) -> bool:
    """Whether no gate above a free one, of which no row speaks, contradicts the pattern at the point."""
    unknown = depends_on_free(network, pattern)
    inputs = _gate_inputs(
        network, _fractions(region.point) if region.point.dtype != object else region.point
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


def _states(network: Network, point: Numbers) -> Pattern:
    """The gates at a point of Fractions; off where the gate's input is 0."""
    return tuple((values > 0).astype(np.int8) for values in _gate_inputs(network, point))


def _gate_inputs(network: Network, point: Numbers) -> tuple[Numbers, ...]:
    """What each layer of gates reads at a point, in Fractions."""
    values = evaluate(network.graph, {network.input: point[None, :]}, _fractions)
    return tuple(values[gate.x][0] for gate in network.gates)


def _agree(found: Pattern, pattern: Pattern) -> bool:
    return all(bool(((p == FREE) | (f == p)).all()) for f, p in zip(found, pattern, strict=True))


def _exact(weight: Matrix, values: Numbers) -> Numbers:
    return product(weight, values, _fractions)


def _fractions(values: npt.ArrayLike) -> Numbers:
    floats = np.asarray(values, dtype=np.float64)
    exact = np.empty(floats.size, dtype=object)
    exact[:] = [Fraction(value) for value in floats.ravel().tolist()]
    return exact.reshape(floats.shape)
