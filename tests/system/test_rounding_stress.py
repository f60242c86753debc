"""Float bounds that close or settle something, against Fractions, where networks are as badly
conditioned as can be.

The truth is the oracle's: regions, the values of neurons at their vertices, the norms of their
Jacobians, without rounding. What the bounds say must hold for it in exact comparison.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest

import lipexact as lx
from lipexact.bab.propagation import GatePropagator
from lipexact.bounds import crown_batched as batched
from lipexact.bounds.crown import SwitchLines, bound_nodes
from lipexact.bounds.crown_batched import GateBounds, NormBounds, _Batch
from lipexact.bounds.interval import length_bound, point_bounds
from lipexact.bounds.portfolio import BoundPortfolio, UpperBounds
from lipexact.bounds.zonotope import ZonotopeBounds
from lipexact.graph.ir import Affine, Conditional, Graph, Input
from lipexact.graph.lowering import relu
from lipexact.graph.pattern import FREE, ON
from lipexact.numerics.lp import LinearProgram
from lipexact.numerics.rounding import TINY, gamma
from lipexact.numerics.sign_relaxation import absolute_sums, euclidean_sums
from lipexact.numerics.spectral import spectral_norms
from lipexact.problem.problem import MODES, DerivativeMode, Problem, lipschitz_problem
from lipexact.regions.affine import pattern_at
from lipexact.regions.feasibility import Empty, decide_region
from lipexact.regions.operator_norm import jacobian_norm
from lipexact.sets.domain import Domain
from lipexact.sets.functionals import functional_set
from lipexact.sets.norms import norm
from lipexact.sets.unit_balls import SymmetricSet
from tests.support import oracle
from tests.support.graphs import evaluate_exactly
from tests.support.networks import (
    CUTS,
    EXTREME,
    FAMILIES,
    Case,
    Layers,
    cut_domain,
    halfspaces_of,
    linearize,
    random_weights,
    to_network,
)
from tests.support.signs import best_signs

# More of them: by the variable.
SEEDS = int(os.environ.get("LIPEXACT_SEEDS", "0"))
PAIRS = tuple(itertools.product(("linf", "l1", "l2"), repeat=2))
MOST_REGIONS = 12  # of a network, that are looked at
seeds = pytest.mark.parametrize("seed", range(SEEDS or 3))


# --- Networks -------------------------------------------------------------------------------------


def decimal(rng: np.random.Generator, weights: Layers) -> Case:
    """On a box whose corners are no short binary fractions."""
    d = weights[0][0].shape[1]
    low = -1.0 - rng.random(d)
    return Case(weights, low, low + 2.0 + rng.random(d))


def small(rng: np.random.Generator, most: int = 3) -> list[int]:
    """Widths of a network with few regions."""
    hidden = [int(rng.integers(2, 4)) for _ in range(rng.integers(1, most))]
    return [int(rng.integers(1, 4)), *hidden, int(rng.integers(1, 4))]


def spread(rng: np.random.Generator) -> Case:
    """Weights and biases from 1e-8 to 1e8."""
    weights = [
        (
            matrix * 10.0 ** rng.uniform(-8, 8, matrix.shape),
            bias * 10.0 ** rng.uniform(-8, 8, bias.shape),
        )
        for matrix, bias in random_weights(rng, small(rng))
    ]
    return decimal(rng, weights)


def far_units(rng: np.random.Generator) -> Case:
    """Layers in units from 1e-100 to 1e100, with kinks where they were."""
    weights, unit = [], 1.0
    for matrix, bias in random_weights(rng, small(rng, 4)):
        factor = float(10.0 ** rng.uniform(*((-100, 100) if 1e-150 < unit < 1e150 else (-1, 1))))
        unit *= factor
        weights.append((matrix * factor, bias * unit))
    return decimal(rng, weights)


def nearly_subnormal(rng: np.random.Generator) -> Case:
    """Values and slopes from 1e-290 down to where they underflow."""
    weights, unit, parts = [], 1.0, random_weights(rng, small(rng))
    exponents = rng.dirichlet(np.ones(len(parts))) * -rng.uniform(290, 322)
    for (matrix, bias), exponent in zip(parts, exponents, strict=True):
        unit *= 10.0**exponent
        weights.append((matrix * 10.0**exponent, bias * unit))
    return decimal(rng, weights)


def pairs_that_cancel(rng: np.random.Generator) -> Case:
    """relu(z) - relu(-z) with strong outgoing weights, but for the last bits, which leave
    nothing else.
    """
    weights = random_weights(rng, small(rng))
    layer = int(rng.integers(len(weights) - 1))
    for neuron in range(len(weights[layer][1])):
        weights[layer + 1][0][:, neuron] *= 10.0 ** rng.uniform(0, 8)
        weights = linearize(weights, layer, neuron)
    above, offset = weights[layer + 1]
    weights[layer + 1] = (above * (1 + 2.0**-52 * rng.integers(-2, 3, above.shape)), offset)
    return decimal(rng, weights)


def parallel(rng: np.random.Generator) -> Case:
    """The first layer's neurons are one, at angles of 1e-15 to 1e-8, and kinks up to as far
    apart.
    """
    weights = random_weights(rng, small(rng))
    matrix, bias = weights[0]
    angles = 10.0 ** rng.uniform(-16, -8, (len(bias), 1))
    weights[0] = (
        rng.choice((-1.0, 1.0), (len(bias), 1))
        * (matrix[:1] + angles * rng.normal(size=matrix.shape)),
        bias,
    )
    point = rng.uniform(-0.5, 0.5, matrix.shape[1])
    weights[0] = (
        weights[0][0],
        -weights[0][0] @ point + angles[:, 0] * rng.normal(size=bias.shape),
    )
    return decimal(rng, weights)


def at_corners(rng: np.random.Generator) -> Case:
    """Kinks at 1e-15, 1e-12 and 1e-9 from corners and facets, or at them, on either side; of
    both layers.
    """
    found = decimal(
        rng, random_weights(rng, [int(rng.integers(1, 4)), 3, 2, int(rng.integers(1, 3))])
    )
    (first, _), (second, _), last = found.weights
    corners = np.where(rng.random(first.shape) < 0.5, found.lower, found.upper)
    one = np.eye(first.shape[1])[rng.integers(first.shape[1], size=3)]
    first = np.where(rng.random((3, 1)) < 0.5, first, first * one)
    away = rng.choice((-1.0, 1.0), 3) * rng.choice((0.0, 1e-15, 1e-12, 1e-9), 3)
    bias = -np.einsum("rc,rc->r", first, corners) + away
    reached = np.maximum(corners[:2] @ first.T + bias, 0.0)
    offset = -np.einsum("rc,rc->r", second, reached) + rng.choice((0.0, 1e-15, -1e-12, 1e-9), 2)
    return Case([(first, bias), (second, offset), last], found.lower, found.upper)


KINDS = {
    **{
        each.__name__: each
        for each in (spread, far_units, nearly_subnormal, pairs_that_cancel, parallel, at_corners)
    },
    **{
        name: EXTREME[name]
        for name in ("badly_scaled", "all_sizes", "near_parallel", "near_border", "slivers")
    },
    **{name: FAMILIES[name] for name in ("small_integers", "identically_zero", "late_coincidence")},
}
kinds = pytest.mark.parametrize("kind", sorted(KINDS))


class Truth(NamedTuple):
    """A network on a domain, some of its regions, and for each the gates that are 0 all over it."""

    weights: Layers
    network: lx.Network
    domain: Domain
    regions: list[oracle.Region]
    patterns: list[tuple[np.ndarray, ...]]
    zero: list[tuple[np.ndarray, ...]]

    def members(self, states: Sequence[np.ndarray], row: int) -> list[int]:
        """The regions that have these gates; one that is 0 may be on or off."""
        return [
            k
            for k, (pattern, zero) in enumerate(zip(self.patterns, self.zero, strict=True))
            if all(
                ((layer[row] == FREE) | (layer[row] == own) | free).all()
                for layer, own, free in zip(states, pattern, zero, strict=True)
            )
        ]


@functools.lru_cache(maxsize=4)
def truth(kind: str, seed: int) -> Truth:
    """Two of three on a box."""
    rng = np.random.default_rng([seed, *kind.encode()])
    weights, low, high = KINDS[kind](rng)
    domain: Domain = lx.Box(low, high)
    if seed % 3 == 2:
        domain = cut_domain(CUTS[int(rng.integers(len(CUTS)))], low, high, 2 * seed + 1)
    found = oracle.regions(weights, domain.lower, domain.upper, halfspaces_of(domain))
    found = [found[k] for k in rng.permutation(len(found))[:MOST_REGIONS]]
    zero = []
    for region in found:
        layers = zip(
            *(oracle.trace(weights, vertex)[:-1] for vertex in region.vertices), strict=True
        )
        zero.append(
            tuple(np.array([not any(z) for z in zip(*layer, strict=True)]) for layer in layers)
        )
    patterns = [
        tuple(np.array(layer, dtype=np.int8) for layer in region.pattern) for region in found
    ]
    return Truth(weights, to_network(weights), domain, found, patterns, zero)


def some_states(known: Truth, rng: np.random.Generator) -> list[np.ndarray]:
    """All gates open; each region's own, all of them and some."""
    own = [np.stack(layers) for layers in zip(*known.patterns, strict=True)]
    share = rng.random(len(known.patterns))[:, None]
    some = [np.where(rng.random(layer.shape) < share, layer, FREE) for layer in own]
    return [
        np.vstack([np.full((1, layer.shape[1]), FREE), layer, part]).astype(np.int8)
        for layer, part in zip(own, some, strict=True)
    ]


def points_in(region: oracle.Region, rng: np.random.Generator) -> list[tuple[Fraction, ...]]:
    """Vertices, which lie on kinks and at corners, and points between them."""
    count = len(region.vertices)
    picked = [region.vertices[k] for k in rng.permutation(count)[:4]]
    shares = [
        Fraction(int(share), 1000) for share in rng.multinomial(1000, np.full(count, 1 / count))
    ]
    between = tuple(
        sum((share * entry for share, entry in zip(shares, entries, strict=True)), Fraction(0))
        for entries in zip(*region.vertices, strict=True)
    )
    return [*picked, between]


def dot(a: Sequence[float | Fraction], b: Sequence[float | Fraction]) -> Fraction:
    return sum((Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True)), Fraction(0))


# --- Gates ----------------------------------------------------------------------------------------


@pytest.mark.unwatched
@seeds
@kinds
def test_neurons_lie_within_their_bounds_and_gates_are_settled_for_no_region(
    kind: str, seed: int
) -> None:
    known, rng = truth(kind, seed), np.random.default_rng(seed)
    net = known.network
    root = bound_nodes(net.graph, {net.input: known.domain})
    gates = GateBounds(net, known.domain, root)
    states = some_states(known, rng)
    said = gates.propagate(states)
    run = _Batch(gates._relaxation, [layer.copy() for layer in states])
    run.bound_all()
    for k, region in enumerate(known.regions):
        rows = [row for row in range(len(states[0])) if k in known.members(states, row)]
        assert {0, 1 + k, 1 + len(known.regions) + k} <= set(rows)
        for layer, own, zero in zip(said, known.patterns[k], known.zero[k], strict=True):
            for row in rows:
                assert ((layer[row] == FREE) | (layer[row] == own) | zero).all(), (k, row)
        for point in points_in(region, rng):
            values = oracle.trace(known.weights, point)
            for gate, value in zip(net.gates, values, strict=False):
                low, high = run.bounds[gate.x]
                for i, z in enumerate(value):
                    assert Fraction(root[gate.x][0][i]) <= z <= Fraction(root[gate.x][1][i]), (k, i)
                    assert all(
                        Fraction(low[i, row]) <= z <= Fraction(high[i, row]) for row in rows
                    ), (k, i)
            for low, value, high in zip(
                root[net.output][0], values[-1], root[net.output][1], strict=True
            ):
                assert Fraction(low) <= value <= Fraction(high)


@pytest.mark.unwatched
@seeds
@kinds
def test_no_region_is_called_empty(kind: str, seed: int) -> None:
    known, rng = truth(kind, seed), np.random.default_rng(seed)
    states = some_states(known, rng)
    for row in rng.permutation(len(states[0]))[:10]:
        verdict = decide_region(known.network, known.domain, tuple(layer[row] for layer in states))
        assert not isinstance(verdict, Empty), (row, verdict)
    # And what linear programs say of the first layer, some of whose gates are decided.
    root = bound_nodes(known.network.graph, {known.network.input: known.domain})
    cells = GatePropagator(
        known.network, known.domain, GateBounds(known.network, known.domain, root).errors
    )
    for row in rng.permutation(len(states[0]))[:6]:
        start = [
            np.where(k == 0, layer[row], FREE).astype(np.int8) for k, layer in enumerate(states)
        ]
        chosen = tuple((0, i, int(state)) for i, state in enumerate(start[0]) if state != FREE)
        members = known.members([layer[None, :] for layer in start], 0)
        points = np.zeros(0, dtype=np.int32)
        found, _ = cells.propagate(start, chosen, 0, points, np.arange(start[0].size))
        for k in members:
            assert ((found == FREE) | (found == known.patterns[k][0]) | known.zero[k][0]).all(), (
                row,
                k,
            )
        assert cells.find_points(start, chosen, points) is not None


@seeds
@kinds
def test_patterns_at_points_are_those_of_regions(kind: str, seed: int) -> None:
    known, rng = truth(kind, seed), np.random.default_rng(seed)
    for region in known.regions:
        for point in points_in(region, rng):
            near = np.clip(
                np.array(point, dtype=np.float64), known.domain.lower, known.domain.upper
            )
            values = oracle.trace(known.weights, near.tolist())
            bounds = point_bounds(known.network.graph.nodes, known.network.input, near)
            for gate, value in zip(known.network.gates, values, strict=False):
                for low, z, high in zip(bounds[gate.x][0], value, bounds[gate.x][1], strict=True):
                    assert Fraction(low) <= z <= Fraction(high)
            found = pattern_at(known.network, near)
            if found is not None:
                assert [layer.tolist() for layer in found] == [
                    [int(z > 0) for z in layer] for layer in values[:-1]
                ]


# --- Norms ----------------------------------------------------------------------------------------


def at_most(jacobian: oracle.Matrix, pair: tuple[str, str], limit: float) -> bool:
    """Whether the operator norm is no larger, in rationals."""
    if limit == np.inf:
        return True
    alpha, beta = pair
    top, columns = Fraction(limit), tuple(zip(*jacobian, strict=True))
    if top < 0:
        return False
    if pair == ("l2", "l2"):
        return semidefinite(
            [
                [
                    (i == j) * top**2 - sum(x * y for x, y in zip(a, b, strict=True))
                    for j, b in enumerate(columns)
                ]
                for i, a in enumerate(columns)
            ]
        )
    if beta == "l2":
        rows, corners, name = columns, oracle._corners(alpha, len(columns)), "l2"
    else:
        rows, corners, name = (
            jacobian,
            oracle._corners(oracle.dual(beta), len(jacobian)),
            oracle.dual(alpha),
        )
    for corner in corners:
        image = [dot(corner, column) for column in zip(*rows, strict=True)]
        if name == "l2":
            if sum(entry * entry for entry in image) > top**2:
                return False
        elif oracle.vector_norm(image, name) > top:
            return False
    return True


def semidefinite(matrix: list[list[Fraction]]) -> bool:
    """Whether a symmetric matrix of Fractions has no negative eigenvalue."""
    rest = [list(row) for row in matrix]
    while rest:
        if min(row[i] for i, row in enumerate(rest)) < 0:
            return False
        k = max(range(len(rest)), key=lambda i: rest[i][i])
        if rest[k][k] == 0:
            return not any(any(row) for row in rest)
        others = [i for i in range(len(rest)) if i != k]
        rest = [[rest[i][j] - rest[i][k] * rest[k][j] / rest[k][k] for j in others] for i in others]
    return True


def test_semidefinite_matrices_are_told_exactly() -> None:
    one, tiny = Fraction(1), Fraction(1, 10**40)
    assert semidefinite([[one, one], [one, one]])
    assert semidefinite([[0 * one, 0 * one], [0 * one, one]])
    assert not semidefinite([[one, one + tiny], [one + tiny, one]])
    assert not semidefinite([[0 * one, tiny], [tiny, one]])
    assert not semidefinite([[-tiny]])


def problems_of(
    known: Truth, pair: tuple[str, str]
) -> tuple[SymmetricSet, SymmetricSet, list[Problem]]:
    functionals = functional_set(None, pair[1], known.network.output.size)
    directions = norm(pair[0]).ball(known.network.input.size)
    made = (
        lipschitz_problem(known.network, known.domain, functionals, directions, mode)
        for mode in MODES
    )
    return functionals, directions, [problem for problem in made if problem is not None]


def free_points(problem: Problem, rng: np.random.Generator) -> dict[Input, np.ndarray]:
    """Vertices of what the derivative is applied to."""
    found = {}
    for node, which in problem.sets.items():
        if node is problem.point:
            continue
        if which.euclidean_radius is not None:
            found[node] = np.eye(which.dim)[int(rng.integers(which.dim))] * rng.choice((-1.0, 1.0))
        elif isinstance(which, Domain):
            found[node] = np.where(rng.random(which.dim) < 0.5, which.lower, which.upper)
        else:
            found[node] = np.eye(which.dim)[int(rng.integers(which.dim))]
    return found


@pytest.mark.unwatched
@seeds
@kinds
def test_norms_of_regions_are_within_all_bounds(kind: str, seed: int) -> None:
    known, rng = truth(kind, seed), np.random.default_rng(seed)
    pair = PAIRS[(seed + sorted(KINDS).index(kind)) % len(PAIRS)]
    functionals, directions, problems = problems_of(known, pair)
    states = some_states(known, rng)

    def hold(uppers: Sequence[float], name: str) -> None:
        for row, limit in enumerate(uppers):
            assert all(
                at_most(known.regions[k].jacobian, pair, limit) for k in known.members(states, row)
            ), (name, row)

    ways: dict[str, UpperBounds] = {}
    for problem in problems:
        root = bound_nodes(problem.graph, problem.sets, roundings=problem.roundings)
        limit = length_bound(root[problem.objective])
        assert all(at_most(region.jacobian, pair, limit) for region in known.regions), problem.mode
        ways[f"relaxation, {problem.mode}"] = NormBounds(problem, root)
    sides: list[tuple[SymmetricSet, SymmetricSet, DerivativeMode]] = [
        (functionals, directions, "reverse"),
        (directions, functionals, "forward"),
    ]
    for fixed, closing, mode in sides:
        if fixed.vertex_count <= 64:
            ways[f"zonotopes, {mode}"] = ZonotopeBounds(known.network, fixed, closing, mode)
    for name, way in ways.items():
        upper, _ = way.upper(states)
        hold(upper.tolist(), name)
    smallest = BoundPortfolio(list(ways.values()))
    for enough in (0.0, float(np.median(upper)), 0.0):
        upper, _ = smallest.upper(states, enough)
        hold(upper.tolist(), "smallest")


@pytest.mark.unwatched
@seeds
@kinds
def test_derivatives_lie_within_their_bounds(kind: str, seed: int) -> None:
    """At every node, for regions without gates that are 0: these count in reverse mode, if not
    in the end.
    """
    known, rng = truth(kind, seed), np.random.default_rng(seed)
    states = some_states(known, rng)
    plain = [k for k, zero in enumerate(known.zero) if not any(layer.any() for layer in zero)]
    for problem in problems_of(known, PAIRS[(seed + sorted(KINDS).index(kind)) % len(PAIRS)])[2]:
        root = bound_nodes(problem.graph, problem.sets, roundings=problem.roundings)
        run = _Batch(NormBounds(problem, root)._relaxation, [layer.copy() for layer in states])
        run.bound_all()
        for k in plain:
            rows = [row for row in range(len(states[0])) if k in known.members(states, row)]
            for point, row in itertools.product(
                points_in(known.regions[k], rng)[-2:], rng.permutation(rows)[:2]
            ):
                inputs = {
                    node: fractions(value) for node, value in free_points(problem, rng).items()
                }
                inputs[problem.point] = fractions(point)
                chosen = functools.partial(state_at_kink, problem, known.patterns[k], run, row)
                values = evaluate_exactly(problem.graph, inputs, chosen)
                for node, (low, high) in run.bounds.items():
                    if isinstance(node, Conditional):
                        continue
                    for i, value in enumerate(values[node]):
                        assert Fraction(low[i, row]) <= value <= Fraction(high[i, row]), (
                            problem.mode,
                            node.name,
                            i,
                        )


def state_at_kink(
    problem: Problem,
    pattern: Sequence[np.ndarray],
    run: _Batch,
    row: int,
    node: Conditional,
    i: int,
) -> int:
    """The region's; of gates that only a norm has, what the bounds say, or any."""
    if node in problem.gates:
        return int(pattern[problem.gates.index(node)][i])
    least, most = run.bounds[node]
    return int(least[i, row] if least[i, row] == most[i, row] else i % 2)


def fractions(values: Sequence[float | Fraction]) -> np.ndarray:
    found = np.empty(len(values), dtype=object)
    found[:] = [Fraction(value) for value in np.asarray(values).tolist()]
    return found


@pytest.mark.unwatched
@seeds
@kinds
def test_the_norm_of_a_jacobian_is_within_its_bounds(kind: str, seed: int) -> None:
    known = truth(kind, seed)
    for pair in PAIRS:
        functionals = functional_set(None, pair[1], known.network.output.size)
        directions = norm(pair[0]).ball(known.network.input.size)
        for region, pattern in list(zip(known.regions, known.patterns, strict=True))[:5]:
            found = jacobian_norm(known.network, functionals, directions, pattern)
            assert at_most(region.jacobian, pair, found.upper), pair
            # What is below is accurate to rounding only, or lowered.
            assert found.lower == 0 or not at_most(
                region.jacobian, pair, found.lower * (1 - 2e-10)
            ), pair


@pytest.mark.parametrize("scale", [1e-320, 1e-160, 1.0, 1e150])
@pytest.mark.parametrize("seed", range(SEEDS or 12))
def test_the_norm_of_a_matrix_is_within_its_bounds(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    m, d = rng.integers(1, 5, 2)
    matrix = rows_of(rng, m, d) * scale
    matrix = matrix if np.isfinite(matrix).all() else rng.normal(size=(m, d))
    jacobian = tuple(tuple(map(Fraction, row)) for row in matrix.tolist())
    assert at_most(jacobian, ("l2", "l2"), float(spectral_norms(matrix[None])[0]))
    for pair in PAIRS:
        functionals, directions = functional_set(None, pair[1], int(m)), norm(pair[0]).ball(int(d))
        found = jacobian_norm(to_network([(matrix, np.ones(m))]), functionals, directions, ())
        assert at_most(jacobian, pair, found.upper), pair
        if scale > 1e-300:
            assert found.lower == 0 or not at_most(jacobian, pair, found.lower * (1 - 2e-10)), pair


def test_many_singular_values_that_are_one() -> None:
    """Of orthogonal matrices, whose norm floats fall short of as often as not."""
    for size in (2, 3, 5, 9, 14):
        for seed in range(4):
            matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))
            columns = tuple(tuple(map(Fraction, row)) for row in matrix.tolist())
            found = jacobian_norm(
                to_network([(matrix, np.ones(size))]),
                *(norm("l2").ball(size) for _ in range(2)),
                (),
            )
            assert at_most(columns, ("l2", "l2"), found.upper)
            assert found.upper < 1 + 1e-11


def test_a_singular_value_that_is_too_small_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(0).normal(size=(3, 4))
    svd = np.linalg.svd

    def less(*args: object, **options: object) -> tuple[np.ndarray, ...]:
        left, sizes, right = svd(*args, **options)
        return left, sizes * (1 - 1e-12), right

    monkeypatch.setattr(np.linalg, "svd", less)
    found = jacobian_norm(
        to_network([(matrix, np.ones(3))]), norm("l2").ball(3), norm("l2").ball(4), ()
    )
    assert at_most(
        tuple(tuple(map(Fraction, row)) for row in matrix.tolist()), ("l2", "l2"), found.upper
    )


def test_norms_that_underflow_are_not_0() -> None:
    """In units of the input in which numbers as small as the slopes are far apart."""
    weights = [(np.array([[1e-200, 0.0]]), np.ones(1)), (np.ones((1, 1)), np.zeros(1))]
    net, both = to_network(weights), np.vstack([np.eye(2), -np.eye(2)])
    for unit in (
        lx.PolyhedralNorm(halfspaces=1e200 * both),
        lx.PolyhedralNorm(vertices=1e-200 * both),
    ):
        bodies = functional_set(None, "linf", 1), unit.ball(2)
        assert jacobian_norm(net, *bodies, (np.ones(1, dtype=np.int8),)).upper > 0
        for state in (FREE, ON):
            upper, _ = ZonotopeBounds(net, *bodies, "reverse").upper(
                [np.array([[state]], dtype=np.int8)]
            )
            assert upper[0] > 0


# --- Sums with free signs -------------------------------------------------------------------------


def rows_of(rng: np.random.Generator, k: int, n: int) -> np.ndarray:
    """Entries of all sizes, or rows nearly in parallel, in a plane but for rounding, or with
    ties.
    """
    match int(rng.integers(6)):
        case 0:
            return rng.normal(size=(k, n)) * 10.0 ** rng.uniform(-160, 160, (k, n))
        case 1:
            return rng.normal(size=(k, n)) * 10.0 ** rng.uniform(-160, 160, (k, 1))
        case 2:
            angle = 10.0 ** rng.uniform(-17, -8)
            return (
                rng.choice((-1.0, 1.0), (k, 1))
                * rng.normal(size=(1, n))
                * (1 + angle * rng.normal(size=(k, n)))
            )
        case 3:
            return rng.normal(size=(k, 1)) * rng.normal(size=(1, n))
        case 4:
            return rng.integers(-2, 3, (k, n)).astype(np.float64)
        case _:
            return rng.normal(size=(k, n)) * 10.0 ** rng.uniform(-8, 8, (k, n))


@pytest.mark.parametrize("seed", range(10 * SEEDS or 40))
def test_sums_with_free_signs_are_no_less_than_the_best_signs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rows_of(rng, int(rng.integers(1, 9 if seed % 8 == 0 else 6)), int(rng.integers(1, 6)))
    (long,), _ = euclidean_sums(rows[None])
    assert best_signs(rows, "l2") <= Fraction(long) ** 2
    (total,), _ = absolute_sums(rows[None])
    assert best_signs(rows, "l1") <= Fraction(total)


# --- Domains --------------------------------------------------------------------------------------


@pytest.mark.unwatched
@pytest.mark.parametrize("seed", range(3 * SEEDS or 8))
@pytest.mark.parametrize("kind", ["box", "sharp", *CUTS])
def test_supports_are_no_less_than_at_any_vertex(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    d, size = int(rng.integers(1, 4)), 10.0 ** rng.uniform(-8, 8)
    low = size * rng.normal(size=d)
    high = low + size * (0.1 + rng.random(d))
    if kind == "box":
        domain: Domain = lx.Box(low, high)
    elif kind == "sharp":  # half-spaces nearly in parallel, in other units
        first = rng.normal(size=(1, d)) * (
            1 + 10.0 ** rng.uniform(-12, -4) * rng.normal(size=(3, d))
        )
        first *= 10.0 ** rng.uniform(-8, 8, (3, 1))
        domain = lx.Polytope(
            first, first @ (low / 2 + high / 2) + size * 1e-3 * np.abs(first).sum(axis=1), low, high
        )
    else:
        domain = cut_domain(kind, low, high, 2 * seed + 1)
    (whole,) = oracle.regions(
        [(np.eye(d), np.full(d, 9e9))], domain.lower, domain.upper, halfspaces_of(domain)
    )
    weights = rng.normal(size=(6, d)) * 10.0 ** rng.uniform(-8, 8, (6, d))
    weights = np.vstack([weights, domain.rows[:1], np.zeros((1, d))])
    truths = [max(dot(row, vertex) for vertex in whole.vertices) for row in weights.tolist()]
    for row, known, limit in zip(weights, truths, domain.support(weights).tolist(), strict=True):
        assert known <= Fraction(limit), row
    # Whatever the multipliers, the best ones, some of them left out, or larger than they should be.
    system, program = domain.system(), LinearProgram(domain.system())
    padding = np.zeros(system.lower.size - d)
    duals = np.array([program.maximise(np.concatenate([row, padding]))[1] for row in weights])
    for factors in (
        1.0,
        1 + 1e-9,
        rng.integers(0, 2, duals.shape),
        10.0 ** rng.uniform(-3, 3, duals.shape),
    ):
        for known, limit in zip(
            truths, domain.dual_bound(weights, duals * factors).tolist(), strict=True
        ):
            assert known <= Fraction(limit)
    # And how far it is to the border.
    inner = np.array([[float(sum(x) / len(x)) for x in zip(*whole.vertices, strict=True)]])
    corners = np.array([[float(x) for x in vertex] for vertex in whole.vertices])
    points = np.vstack([inner, corners, inner + (corners - inner) * (1 - 1e-12)])
    for point, reach in zip(points.tolist(), domain.margin(points).tolist(), strict=True):
        if reach > 0:
            for low_, x, high_ in zip(
                domain.lower.tolist(), point, domain.upper.tolist(), strict=True
            ):
                assert Fraction(reach) <= min(
                    Fraction(x) - Fraction(low_), Fraction(high_) - Fraction(x)
                )
            for row, most in halfspaces_of(domain):
                slope = sum((abs(Fraction(a)) for a in row), Fraction(0))
                assert dot(row, point) + Fraction(reach) * slope <= Fraction(most)


@pytest.mark.parametrize("seed", range(SEEDS or 10))
def test_multipliers_that_leave_nothing_but_rounding(seed: int) -> None:
    # A cone at 0: what the row is off the form, times a point far away, is all there is.
    rng = np.random.default_rng(seed)
    row = np.array([1.0, -1.0]) * rng.uniform(0.5, 1, 2)
    domain = lx.Polytope(row[None, :], [0.0], lower=[0, 0], upper=[1e6, 1e6])
    multipliers = rng.random((20, 1))
    weights = multipliers * row
    (whole,) = oracle.regions(
        [(np.eye(2), np.ones(2))], domain.lower, domain.upper, halfspaces_of(domain)
    )
    truths = [max(dot(form, vertex) for vertex in whole.vertices) for form in weights.tolist()]
    assert max(truths) > 0
    for known, limit in zip(truths, domain.dual_bound(weights, multipliers).tolist(), strict=True):
        assert known <= Fraction(limit)


# --- Numbers as small, or as large, as floats go --------------------------------------------------


@pytest.mark.parametrize("seed", range(10 * SEEDS or 40))
def test_lines_hold_down_to_subnormal_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    exponents = rng.integers(*((-1074, -900), (-60, 60))[seed % 2], (2, 1)) + rng.integers(
        -20, 20, (2, 50)
    )
    low, high = np.ldexp(rng.random((2, 50)), np.maximum(exponents, -1074))
    ends = -low, high
    ones = np.ones(50)
    pad = gamma(2) * np.maximum(low, high) + TINY  # less than any node's
    for own in (True, False):
        for lines in (
            SwitchLines(ends, (0 * ones, ones), own=own),
            batched._BatchedLines(*ends, 0 * ones, ones, pad, own),
        ):
            below = np.zeros(50) if lines.lower_offset is None else lines.lower_offset
            for i in np.flatnonzero((low > 0) & (high > 0)):
                x = Fraction(-low[i]), Fraction(high[i])
                for z, ys in (
                    (x[0], [0, 0 if own else x[0]]),
                    (x[1], [x[1], x[1] if own else 0]),
                    (0, [0]),
                ):
                    for y in ys:
                        assert y <= Fraction(lines.upper_slope[i]) * z + Fraction(
                            lines.upper_offset[i]
                        )
                        assert y >= Fraction(lines.lower_slope[i]) * z + Fraction(below[i])


def test_lengths_of_subnormal_vectors() -> None:
    for entry in (5e-324, 1.5e-323, 1e-310):
        assert (
            Fraction(length_bound((np.zeros(2), np.full(2, entry)))) ** 2
            >= 2 * Fraction(entry) ** 2
        )
    assert length_bound((np.zeros(2), np.zeros(2))) == 0.0


def test_coefficients_that_overflow_on_the_way_down_say_nothing() -> None:
    """What is at the end makes up for weights whose product is too large."""
    x, start = Input(1), Affine((), np.array([1e-250]))
    middle = Affine(((np.array([[1e200]]), start),), np.zeros(1))
    for sign in (-1.0, 1.0):
        target = Affine(
            ((np.array([[sign * 1e200]]), middle), (np.ones((1, 1)), relu(x))), np.zeros(1)
        )
        graph, sets = Graph((x,), (target,)), {x: lx.Box([-1.0], [1.0])}
        root = bound_nodes(graph, sets)
        value = Fraction(sign * 1e200) * Fraction(1e200) * Fraction(1e-250)
        run = _Batch(
            batched._Relaxation(graph.nodes, sets, root, {}, target),
            [np.zeros((1, 1), dtype=np.int8)],
        )
        run.bound_all()
        for low, high in (root[target], [side[0] for side in run.bounds[target]]):
            assert Fraction(float(low[0])) <= value <= Fraction(float(high[0])) - 1


def test_gradients_that_overflow_on_the_way_say_nothing() -> None:
    """The functional makes up for weights whose product is too large, but only in the end."""
    weights = [([[1e160]], [1.0]), ([[1e160]], [1.0]), ([[-1e-40]], [0.0])]
    net, box = to_network(weights), lx.Box([-1e-30], [1e-30])
    functionals, directions = functional_set([1e-200], "linf", 1), norm("linf").ball(1)
    problem = lipschitz_problem(net, box, functionals, directions, "reverse")
    assert problem is not None
    root = bound_nodes(problem.graph, problem.sets, roundings=problem.roundings)
    states = [np.array([[ON], [FREE]], dtype=np.int8) for _ in net.gates]
    upper, _ = NormBounds(problem, root).upper(states)
    assert (upper >= 1e79).all()
