"""Branch and bound, its batched bounds and its cells, against the enumeration oracle."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.optimize
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import lipexact as lx
from lipexact.bab.driver import _SearchTree
from lipexact.bab.expand import NodeExpander
from lipexact.bab.propagation import GatePropagator, Points
from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.crown_batched import GateBounds, NormBounds
from lipexact.bounds.formulation import checked_norm_sets, formulate
from lipexact.bounds.portfolio import BoundPortfolio
from lipexact.bounds.zonotope import ZonotopeBounds, zonotope_bounds
from lipexact.errors import OptionError
from lipexact.graph.evaluate import evaluate
from lipexact.graph.pattern import FREE
from lipexact.numerics.lp import LinearProgram
from lipexact.regions.affine import pattern_at
from lipexact.regions.operator_norm import jacobian_norm
from tests.support.graphs import branched, gaussian, integers, random_network
from tests.support.networks import (
    CUTS,
    FAMILIES,
    Case,
    case,
    cases,
    cut_domain,
    halfspaces_of,
    random_weights,
    to_network,
)
from tests.support.onnx_files import onnx_model
from tests.support.oracle import constant, cross_functionals, regions
from tests.support.paths import EXAMPLES, FIXTURES

PAIRS = tuple(itertools.product(("linf", "l1", "l2"), repeat=2))
# More of them: nox -s pairs
SEEDS = int(os.environ.get("LIPEXACT_SEEDS", "0"))


def solve(
    network: Case, known: float, domain: lx.Domain | None = None, **question: object
) -> lx.LipschitzResult:
    """An EXACT answer, equal to what is known, proven without a solver, with a witness."""
    domain = domain or lx.Box(network.lower, network.upper)
    result = lx.lipschitz(to_network(network.weights), domain, method="bab", **question)  # type: ignore[arg-type]
    assert result.status is lx.Status.EXACT, (result, result.stats, known)
    assert result.method in ("bab", "bounds")
    assert (result.proof, result.termination) == ("float", "optimal")
    assert result.value == pytest.approx(known, rel=1e-9, abs=0.0), result
    assert result.upper >= known * (1 - 1e-13)
    witness = result.witness
    assert witness is not None
    assert witness.functional @ witness.jacobian @ witness.direction == pytest.approx(
        known, rel=1e-9, abs=0.0
    )
    assert domain.margin(witness.point[None, :])[0] >= 0
    return result


def hard(seed: int = 0) -> tuple[lx.Network, lx.Box]:
    """Far more regions than can be looked at in a second."""
    weights = random_weights(np.random.default_rng(seed), (8, 24, 24, 2))
    return to_network(weights), lx.Box(-np.ones(8), np.ones(8))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS or 3))
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_equals_the_enumeration_of_regions(family: str, seed: int) -> None:
    network = case(family, 100 + seed)
    found = regions(*network)
    for k in range(3):  # all nine pairs, over three seeds
        pair = PAIRS[3 * seed % 9 + k]
        solve(network, float(constant(found, None, *pair)), input_norm=pair[0], output_norm=pair[1])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS or 3))
@pytest.mark.parametrize("cut", CUTS)
def test_on_domains_that_are_no_boxes(cut: str, seed: int) -> None:
    network = case(sorted(FAMILIES)[(CUTS.index(cut) + seed) % len(FAMILIES)], seed)
    domain = cut_domain(cut, np.array(network.lower), np.array(network.upper), seed)
    found = regions(network.weights, domain.lower, domain.upper, halfspaces_of(domain))
    pair = PAIRS[(CUTS.index(cut) + 2 * seed) % 9]
    solve(
        network,
        float(constant(found, None, *pair)),
        domain,
        input_norm=pair[0],
        output_norm=pair[1],
    )


@pytest.mark.parametrize("norm", ["linf", "l1", "l2"])
def test_functionals(norm: str) -> None:
    network = Case(random_weights(np.random.default_rng(3), (2, 5, 4, 3)), -np.ones(2), np.ones(2))
    found = regions(*network)
    c = np.array([1.0, -2.0, 0.5])
    solve(network, float(constant(found, c, norm)), input_norm=norm, functional=c)
    solve(network, float(constant(found, [0, 1, 0], norm)), input_norm=norm, functional=1)
    known = max(float(constant(found, c, norm)) for c in cross_functionals(3))
    solve(network, known, input_norm=norm, functional=lx.CrossLipschitz())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wine_groupsort_13_16_16_3", "wine_13_16_16_3"])
def test_agrees_with_the_program(name: str) -> None:
    path, ball = EXAMPLES / f"{name}.onnx", lx.Ball(np.full(13, 0.4), 0.15)
    results = [
        lx.lipschitz(path, ball, functional=lx.CrossLipschitz(), method=method)
        for method in ("bab", "mip")
    ]
    assert all(result.status is lx.Status.EXACT for result in results)
    assert results[0].value == pytest.approx(results[1].value, rel=1e-9)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.integers(0, 99))
@example(
    case("relu_of_relu", 0), 2
)  # a neuron that is 0 everywhere, which all bounds must give one state
def test_bounds_hold_for_every_region_that_has_the_gates(network: Case, seed: int) -> None:
    """Of random points' patterns some gates are kept: what is said of the others, and of the
    norm, holds there.
    """
    rng = np.random.default_rng(seed)
    net, box = to_network(network.weights), lx.Box(network.lower, network.upper)
    points = box.sample(rng, 40)
    found = [
        (point, pattern) for point in points if (pattern := pattern_at(net, point)) is not None
    ]
    if not found or not net.gates:
        return
    patterns = [pattern for _, pattern in found]
    values = evaluate(net.graph, {net.input: np.array([point for point, _ in found])})
    pair = PAIRS[seed % 9]
    programs = formulate(net, box, *checked_norm_sets(net, box, *pair, None), "auto", np.inf)
    gates = GateBounds(net, box, bound_nodes(net.graph, {net.input: box}))
    kept = [
        [rng.random(states.size) < share for states in pattern]
        for pattern in patterns
        for share in rng.random(1)
    ]
    batch = [
        np.array(
            [
                np.where(keep[k], pattern[k], FREE)
                for pattern, keep in zip(patterns, kept, strict=True)
            ]
        )
        for k in range(len(net.gates))
    ]
    said = gates.propagate(batch)
    for b in range(len(patterns)):
        for k, pattern in enumerate(patterns):
            if not all(
                ((layer[b] == FREE) | (layer[b] == q)).all()
                for layer, q in zip(batch, pattern, strict=True)
            ):
                continue
            for gate, states, layer in zip(net.gates, pattern, said, strict=True):
                zero = values[gate.x][k] == 0  # all around the point: either state will do
                assert ((layer[b] == FREE) | (layer[b] == states) | zero).all()
    problem = programs[0].problem
    zonotopes = zonotope_bounds(problem)
    every = [NormBounds(program.problem, program.bounds) for program in programs]
    norms = [
        jacobian_norm(net, problem.functionals, problem.directions, pattern) for pattern in patterns
    ]
    for bounds in every if zonotopes is None else [*every, zonotopes]:
        upper, weights = bounds.upper(said)
        assert all((layer >= 0).all() for layer in weights)
        assert (upper >= [norm.lower * (1 - 1e-13) for norm in norms]).all()
    if zonotopes is not None:  # nothing is open
        upper, weights = zonotopes.upper(
            [np.stack(layers) for layers in zip(*patterns, strict=True)]
        )
        assert upper == pytest.approx([norm.upper for norm in norms], rel=1e-9, abs=1e-9)
        assert not any(layer.any() for layer in weights)


def test_batches_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    net, box = hard()
    program, *_ = formulate(net, box, *checked_norm_sets(net, box, "linf", None, 0), "auto", np.inf)
    rng = np.random.default_rng(0)
    states = [rng.integers(-1, 2, (30, gate.size)).astype(np.int8) for gate in net.gates]
    whole = NormBounds(program.problem, program.bounds)
    together = zonotope_bounds(program.problem)
    monkeypatch.setattr("lipexact.bounds.constants.ARRAY_NUMBERS", 1)
    parts = NormBounds(program.problem, program.bounds)
    assert whole.at_once >= 30 > parts.at_once == 1
    np.testing.assert_allclose(parts.upper(states)[0], whole.upper(states)[0], rtol=1e-12)
    apart = zonotope_bounds(program.problem)
    assert together is not None
    assert apart is not None
    assert together.at_once >= 30 > apart.at_once == 1
    for one, other in zip(apart.upper(states), together.upper(states), strict=True):
        np.testing.assert_allclose(np.hstack(one), np.hstack(other), rtol=1e-9)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("cross", [False, True])
def test_zonotopes_hold_all_choices_of_open_gates(pair: tuple[str, str], cross: bool) -> None:
    # Of real networks only some choices are regions; the bound is for all of them.
    rng = np.random.default_rng(PAIRS.index(pair))
    net = to_network(random_weights(rng, (3, 4, 4, 3)))
    functional = lx.CrossLipschitz() if cross else None
    bodies = checked_norm_sets(net, lx.Box.unit(3), pair[0], None if cross else pair[1], functional)
    problem = formulate(net, lx.Box.unit(3), *bodies, "auto", np.inf)[0].problem
    zonotopes = zonotope_bounds(problem)
    if zonotopes is None:
        assert pair == ("l2", "l2")
        assert not cross
        return
    states = [rng.integers(-1, 2, (1, gate.size)).astype(np.int8) for gate in net.gates]
    (upper,), _ = zonotopes.upper(states)
    largest = 0.0
    for choice in itertools.product((0, 1), repeat=8):
        pattern = tuple(
            np.where(layer[0] == FREE, chosen, layer[0]).astype(np.int8)
            for layer, chosen in zip(states, np.split(np.array(choice), 2), strict=True)
        )
        norm = jacobian_norm(net, problem.functionals, problem.directions, pattern)
        assert upper >= norm.lower * (1 - 1e-13)
        largest = max(largest, norm.lower)
    assert upper <= 6 * largest


def test_what_is_forgotten_for_lack_of_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    net, box = hard()
    monkeypatch.setattr("lipexact.bab.constants.MAX_OPEN_BYTES", 20 * (1000 + 6 * net.relus))
    result = lx.lipschitz(net, box, functional=0, method="bab", time_limit=3)
    monkeypatch.undo()
    patient = lx.lipschitz(net, box, functional=0, method="bab", time_limit=3)
    assert result.termination == "undecided"
    assert result.status is lx.Status.BOUNDED
    assert result.upper >= patient.lower
    assert result.lower <= patient.upper


def test_bounds_that_are_never_the_smallest_rest() -> None:
    class Constant:
        cost, at_once = 1.0, 100

        def __init__(self, value: float) -> None:
            self.value, self.calls = value, 0

        def upper(self, states: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
            self.calls += 1
            return np.full(len(states[0]), self.value), [
                np.full(layer.shape, self.value) for layer in states
            ]

    one, two, three = Constant(3.0), Constant(2.0), Constant(5.0)
    smallest = BoundPortfolio([one, two, three])
    states = [np.zeros((4, 2), dtype=np.int8)]
    for _ in range(64):
        upper, weights = smallest.upper(states, 0.0)
        assert (upper == 2.0).all()
        assert (weights[0] == 2.0).all()
    assert two.calls == 64
    assert one.calls < 12
    assert three.calls < 12
    one.value = 1.0  # noticed in the end
    for _ in range(20):
        upper, _ = smallest.upper(states, 0.0)
    assert (upper == 1.0).all()
    before = two.calls, three.calls
    smallest.upper(states, 1.5)  # enough
    assert (two.calls, three.calls) == before


@pytest.mark.parametrize("seed", range(20))
def test_cuts_of_a_linear_program(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 5))
    domain = cut_domain(CUTS[seed % len(CUTS)], -np.ones(d), 2 * np.ones(d), seed)
    system = domain.system()
    program = LinearProgram(system)
    for count in (2, 0, 3):  # each time other ones
        linear = rng.normal(size=(count, d))
        constant = -linear @ domain.centre + rng.uniform(0.01, 0.2, count)
        program.cut(linear, constant)
        weights = rng.normal(size=d)
        padding = system.lower.size - d
        known = scipy.optimize.linprog(
            -np.append(weights, np.zeros(padding)),
            A_ub=np.vstack(
                [system.rows.toarray(), -np.hstack([linear, np.zeros((count, padding))])]
            ),
            b_ub=np.append(system.limits, constant),
            bounds=list(zip(system.lower, system.upper, strict=True)),
        )
        point, duals = program.maximise(weights)
        assert weights @ point[:d] == pytest.approx(-known.fun, abs=1e-6)
        assert duals.size == system.limits.size + count
        # Weak duality, by the multipliers alone.
        mine = duals[duals.size - count :]
        assert (duals >= 0).all()
        upper = domain.support((weights + mine @ linear)[None, :])[0] + mine @ constant
        assert -known.fun - 1e-6 <= upper <= -known.fun + 1e-5 * (1 + abs(known.fun))


def test_what_cells_say_of_gates_is_true() -> None:
    """Neurons that cannot be on, or off, beside a decision; one of them only in exact
    arithmetic.
    """
    # x1, x2 - 2, x1 - 1e-9, and 3 x1, over [-1, 1]^2
    weights = [
        (np.array([[1.0, 0], [0, 1], [1, 0], [3, 0]]), np.array([0.0, -2.0, -1e-9, 0.0])),
        (np.ones((1, 4)), [0.0]),
    ]
    net, box = to_network(weights), lx.Box([-1, -1], [1, 1])
    cells = GatePropagator(
        net, box, GateBounds(net, box, bound_nodes(net.graph, {net.input: box})).errors
    )
    free = [np.full(4, FREE, dtype=np.int8)]
    nothing = np.zeros(0, dtype=np.int32)
    states, points = cells.propagate(free, (), 0, nothing, np.arange(4))
    assert states.tolist() == [FREE, 0, FREE, FREE]
    assert (
        cells.propagate(free, (), 0, nothing, np.array([0]))[0].tolist() == [FREE] * 4
    )  # the second was not asked for
    read = cells.points.read(0, points)
    assert ((read > 0).any(axis=0) | (states == 0)).all()
    assert (read < 0).any(axis=0).all()
    # x1 < 0; x1 > 1e-9; x1 > 0, which leaves the third one open by a hair's breadth
    for i, state, known in ((0, 0, [0, 0, 0, 0]), (2, 1, [1, 0, 1, 1]), (0, 1, [1, 0, FREE, 1])):
        states = free[0].copy()
        states[i] = state
        found, _ = cells.propagate([states], ((0, i, state),), 0, nothing, np.arange(4))
        assert found.tolist() == known
    assert cells.decided > 0


def test_points_are_kept_as_they_grow() -> None:
    net, box = hard()
    points, rng = Points(net), np.random.default_rng(0)
    chunks = [box.sample(rng, count) for count in (1, 100, 30, 500)]
    indices = [points.add(chunk) for chunk in chunks]
    assert np.concatenate(indices).tolist() == list(range(631))
    np.testing.assert_array_equal(points.of(np.concatenate(indices)), np.vstack(chunks))
    first = net.gates[0].x
    np.testing.assert_allclose(
        points.read(0, indices[2]), chunks[2] @ first.terms[0][0].T + first.bias
    )
    assert not points.full


def test_a_time_limit_leaves_bounds_that_hold() -> None:
    net, box = hard()
    short, long = (lx.lipschitz(net, box, functional=0, time_limit=limit) for limit in (0.2, 3.0))
    assert short.status is lx.Status.BOUNDED
    assert short.termination == "time limit"
    assert short.lower <= long.upper
    assert long.lower <= short.upper
    assert (short.method, short.proof) == ("bab", "float")


@pytest.mark.parametrize("way", ["callback", "ctrl-c"])
def test_being_stopped_leaves_bounds_that_hold(way: str) -> None:
    net, box = hard()
    moments: list[lx.Progress] = []

    def report(moment: lx.Progress) -> bool:
        moments.append(moment)
        if len(moments) == 3 and way == "ctrl-c":
            raise KeyboardInterrupt
        return len(moments) == 3

    result = lx.lipschitz(net, box, functional=0, progress=report)
    assert result.termination == "interrupted"
    assert result.status is lx.Status.BOUNDED
    assert len(moments) == 3
    assert 0 < result.lower <= result.upper < np.inf
    bounds = [(moment.incumbent, moment.bound) for moment in moments] + [
        (result.lower, result.upper)
    ]
    for (low, high), (lower, upper) in itertools.pairwise(bounds):  # steadily better
        assert low <= lower <= upper <= high
    assert result.witness is not None


def spiked() -> tuple[lx.Network, lx.Box]:
    """A region so thin that samples miss it has the largest gradient."""
    rng = np.random.default_rng(1)
    slope, along = rng.normal(size=6), rng.uniform(0.5, 1, 6)
    first = np.vstack([slope, along, along, along, rng.normal(size=(6, 6))])
    bias = np.concatenate([[0], -3.0 + 1e-4 * np.array([1, 0, -1]), 0.1 * rng.normal(size=6)])
    last = np.concatenate([[0.5], 40 * np.array([1, -2, 1]), 0.3 * rng.normal(size=6)])
    return to_network([(first, bias), (last[None, :], np.zeros(1))]), lx.Box(
        -np.ones(6), np.ones(6)
    )


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("part", "step"),
    [
        *[(_SearchTree, step) for step in ("_is_open", "_step", "_push")],
        *[
            (NodeExpander, step)
            for step in (
                "root",
                "expand",
                "_sample",
                "_refine",
                "_split",
                "_branch",
                "_keep",
                "_leaf",
            )
        ],
        *[(NodeExpander, step) for step in ("_propagate", "_bound_norms")],
    ],
)
def test_ctrl_c_at_any_step_loses_no_region(
    part: type, step: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, box = spiked()
    known = 182.86336508471308
    original, calls, stops = getattr(part, step), 0, 0

    def interrupted(*arguments: object) -> object:
        nonlocal calls, stops
        calls += 1
        outcome = original(*arguments) if when == "after" or calls < number else None
        if calls == number:
            stops += 1
            raise KeyboardInterrupt
        return outcome

    monkeypatch.setattr(part, step, interrupted)
    for number in (1, 2, 7):
        calls = 0
        result = lx.lipschitz(net, box, method="bab")
        assert result.lower <= known * (1 + 1e-12)
        assert result.upper >= known * (1 - 1e-12)
        if calls >= number:
            assert result.termination == "interrupted" or result.status is lx.Status.EXACT
    assert stops


def test_a_gap_and_a_target() -> None:
    network = Case(random_weights(np.random.default_rng(5), (3, 8, 6, 1)), -np.ones(3), np.ones(3))
    net, box = to_network(network.weights), lx.Box(network.lower, network.upper)
    known = float(constant(regions(*network), None, "linf", "linf"))
    rough = lx.lipschitz(net, box, method="bab", gap=0.5)
    assert rough.gap <= 0.5
    assert rough.lower <= known * (1 + 1e-12) <= rough.upper * (1 + 1e-9)
    for factor in (0.5, 0.999, 1.001, 1.5):
        told = lx.lipschitz(net, box, method="bab", target=factor * known)
        assert told.within_target is (factor > 1)
        assert told.lower <= known * (1 + 1e-12)
        assert told.upper >= known * (1 - 1e-12)


def test_what_a_target_leaves_out_counts() -> None:
    net, box = spiked()
    told = lx.lipschitz(net, box, method="bab", target=200.0)
    assert told.within_target
    assert told.lower < 182.8  # the thin region was not found
    assert told.upper >= 182.86336508471308 * (1 - 1e-12)


def test_two_runs_are_the_same() -> None:
    net, box = hard(1)
    first, second = (
        lx.lipschitz(net, lx.Ball(box.centre, 0.15), functional=0, method="bab") for _ in range(2)
    )
    assert first.status is lx.Status.EXACT
    assert (first.lower, first.upper) == (second.lower, second.upper)
    for name in ("nodes", "leaves", "lps", "decided"):
        assert first.stats[name] == second.stats[name]


def test_what_is_too_large_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    net, box = hard()
    monkeypatch.setattr("lipexact.bab.constants.MAX_COEFFICIENTS", 10)
    result = lx.lipschitz(net, box, functional=0, method="bab")
    assert (result.status, result.termination) == (lx.Status.BOUNDED, "limit")
    assert "too large" in result.diagnostics[-1].message
    assert lx.lipschitz(net, box, functional=0, gap=0.99, time_limit=5.0).method == "bounds"
    assert lx.lipschitz(net, lx.Ball(box.centre, 0.1), functional=0).method == "mip"


def test_which_method_is_taken() -> None:
    net = to_network(random_weights(np.random.default_rng(0), (4, 8, 8, 3)))
    box = lx.Box(-np.ones(4), np.ones(4))
    default = lx.lipschitz(net, box)
    assert (default.method, default.mode, default.solver) == ("bab", None, None)
    linear = lx.Network.from_layers([([[3.0]], [0.0])])
    closed = lx.lipschitz(linear, lx.Box.unit(1))
    assert (closed.method, closed.mode, closed.solver) == ("bounds", None, None)
    for options in (
        {"mode": "forward"},
        {"solver": "scip"},
        {"solver_options": {"presolve": "on"}},
    ):
        program = lx.lipschitz(net, box, functional=0, **options)
        assert program.method == "mip"
        assert program.solver == options.get("solver", "highs")
        assert program.mode in ("forward", "reverse")
    for options in ({"solver": "scip"}, {"solver_options": {"presolve": "on"}}):
        with pytest.raises(OptionError, match="HiGHS"):
            lx.lipschitz(net, box, method="bab", **options)


Question = tuple[Sequence[Sequence[float]] | None, str, str | None]


def question(kind: int, outputs: int) -> tuple[lx.Functional, Question]:
    """What is asked, for the package and for the oracle."""
    pair = PAIRS[kind % 9]
    match kind % 4:
        case 0:
            c = np.random.default_rng(kind).normal(size=outputs)
            return c, ([c.tolist()], pair[0], None)
        case 1 if outputs > 1:
            return lx.CrossLipschitz(), (cross_functionals(outputs), pair[0], None)
        case _:
            return None, (None, *pair)


def both_zonotopes(
    net: lx.Network, box: lx.Box, functional: lx.Functional, question: Question
) -> list[ZonotopeBounds]:
    """Those that hold c and those that hold v, of bodies with vertices."""
    bodies = checked_norm_sets(net, box, question[1], question[2], functional)
    problem = formulate(net, box, *bodies, "auto", np.inf)[0].problem
    sides = [
        ("reverse", problem.functionals, problem.directions),
        ("forward", problem.directions, problem.functionals),
    ]
    return [
        ZonotopeBounds(net, fixed, closing, mode)
        for mode, fixed, closing in sides
        if np.isfinite(fixed.vertex_count)
    ]


def partial(rng: np.random.Generator, patterns: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """For each pattern states that leave some of its gates open."""
    shares = rng.random(len(patterns))
    layers = [np.stack(layer) for layer in zip(*patterns, strict=True)]
    return [
        np.where(rng.random(layer.shape) < shares[:, None], layer, FREE).astype(np.int8)
        for layer in layers
    ]


def has(pattern: Sequence[np.ndarray], states: Sequence[np.ndarray], row: int) -> bool:
    return all(
        ((layer[row] == FREE) | (layer[row] == own)).all()
        for layer, own in zip(states, pattern, strict=True)
    )


@pytest.mark.unwatched
@pytest.mark.parametrize("seed", range(SEEDS or 4))
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_zonotopes_hold_the_regions_of_the_oracle(family: str, seed: int) -> None:
    network = case(family, 500 + seed)
    net, box = to_network(network.weights), lx.Box(network.lower, network.upper)
    rng = np.random.default_rng(seed)
    found = regions(*network)
    found = [found[k] for k in rng.permutation(len(found))[:40]]
    patterns = [[np.array(layer, dtype=np.int8) for layer in region.pattern] for region in found]
    states, decided = (
        partial(rng, patterns),
        [np.stack(layer) for layer in zip(*patterns, strict=True)],
    )
    functional, asked = question(seed + sorted(FAMILIES).index(family), net.output.size)
    known = np.array([constant([region], *asked) for region in found])
    members = np.array(
        [[has(pattern, states, row) for pattern in patterns] for row in range(len(found))]
    )
    assert members.diagonal().all()
    for bounds in both_zonotopes(net, box, functional, asked):
        upper, weights = bounds.upper(states)
        assert (upper >= np.where(members, known, 0.0).max(axis=1) * (1 - 1e-13)).all()
        assert all(
            (layer >= 0).all() and not layer[own != FREE].any()
            for layer, own in zip(weights, states, strict=True)
        )
        upper, weights = bounds.upper(decided)
        assert upper == pytest.approx(known, rel=1e-9, abs=1e-9)
        assert not any(layer.any() for layer in weights)


GRAPHS = {
    "branches": lambda rng: branched(),
    "residual sums": lambda rng: random_network(rng, gaussian(rng), 7, 3, 4),
    "integers": lambda rng: random_network(rng, integers(rng), 7, 3, 4),
    "MaxMin": lambda rng: lx.load(FIXTURES / "torch_maxmin.onnx"),
    "GroupSort": lambda rng: lx.load(FIXTURES / "torch_groupsort.onnx"),
    "convolutions": lambda rng: lx.load(FIXTURES / "torch_conv1d.onnx"),
    "pools": lambda rng: lx.load(pooled(rng)),
}


def pooled(rng: np.random.Generator) -> object:
    """A residual block and two pools."""
    return onnx_model(
        """(double[1,1,2,3] x) => (double[2] y) {
            c = Conv <pads = [1, 1, 1, 1]> (x, K, k)
 r = Relu (c)
 s = Add (r, x)
            m = MaxPool <kernel_shape = [2, 2]> (s)
 f = Flatten <axis = 0> (m)
 l = LeakyRelu <alpha = 0.1> (f)
            z = MatMul (l, W)
 o = Constant <value_ints = [2]> ()
 y = Reshape (z, o)
        }""",
        {"K": rng.normal(size=(1, 1, 3, 3)), "k": rng.normal(size=1), "W": rng.normal(size=(2, 2))},
    )


@pytest.mark.parametrize("kind", GRAPHS)
def test_zonotopes_of_other_graphs(kind: str) -> None:
    looked = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        net = GRAPHS[kind](rng)
        d, m = net.input.size, net.output.size
        box = lx.Box(-2 * np.ones(d), 2 * np.ones(d))
        patterns = [
            pattern
            for point in box.sample(rng, 25)
            if (pattern := pattern_at(net, point)) is not None
        ]
        if not patterns or not net.gates:
            continue
        states, decided = (
            partial(rng, patterns),
            [np.stack(layer) for layer in zip(*patterns, strict=True)],
        )
        functional, asked = question(5 * seed + sorted(GRAPHS).index(kind), m)
        bodies = checked_norm_sets(net, box, asked[1], asked[2], functional)
        problem = formulate(net, box, *bodies, "auto", np.inf)[0].problem
        norms = [
            jacobian_norm(net, problem.functionals, problem.directions, pattern)
            for pattern in patterns
        ]
        known = np.array([norm.lower for norm in norms])
        members = np.array(
            [[has(pattern, states, row) for pattern in patterns] for row in range(len(patterns))]
        )
        for bounds in both_zonotopes(net, box, functional, asked):
            upper, _ = bounds.upper(states)
            assert (upper >= np.where(members, known, 0.0).max(axis=1) * (1 - 1e-13)).all()
            upper, _ = bounds.upper(decided)
            assert upper == pytest.approx(known, rel=1e-9, abs=1e-9)
            looked += len(patterns)
    assert looked > 50


def test_a_search_and_bounds_start_without_what_they_do_not_need() -> None:
    """Pyomo and scipy.stats take longer to import than most searches take."""
    code = f"""
import sys
import lipexact as lx
import lipexact.cli.app
asked = {str(EXAMPLES / "wine_13_16_16_3.onnx")!r}, lx.Ball([0.5] * 13, 0.1)
assert lx.lipschitz(*asked, functional=0).status == "EXACT"
lx.estimate(*asked, "linear", functional=0)
loaded = {{"pyomo", "scipy.stats", "matplotlib", "cvxpy"}} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
