"""`lipexact.lipschitz` against the oracle that enumerates all linear regions in rationals."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import lipexact as lx
from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.formulation import Formulation
from lipexact.mip.cut_loop import solve_by_cuts
from lipexact.mip.solvers.base import solver_names
from lipexact.options import Options
from lipexact.problem.problem import lipschitz_problem
from lipexact.sets.norms import norm as norm_of
from lipexact.sets.polyhedral import Hull
from lipexact.state import SearchState, SearchTask
from tests.support.networks import DEGENERATE, FAMILIES, Case, case, to_network
from tests.support.oracle import constant, naive_constant, regions
from tests.support.paths import ROOT
from tests.support.solvers import require

EXAMPLE = ROOT / "examples" / "wine_13_16_16_3.onnx"
MODES = ("forward", "reverse")
NORMS = ("linf", "l1")


def functional(outputs: int, seed: int) -> np.ndarray:
    """An output, or weights for all of them."""
    if seed % 2 == 0:
        return np.eye(outputs)[seed % outputs]
    return np.random.default_rng(seed).normal(size=outputs)


def check(network: Case, c: np.ndarray, norm: str, mode: str, solver: str = "highs") -> None:
    """An EXACT answer, equal to the oracle's, with a witness that shows it."""
    weights, lower, upper = network
    known = constant(regions(weights, lower, upper), c, norm)
    net = to_network(weights)
    result = lx.lipschitz(
        net,
        lx.Box(lower, upper),
        functional=c,
        input_norm=norm,
        mode=mode,
        method="mip",
        solver=solver,
    )
    assert result.status is lx.Status.EXACT, result
    assert result.value == pytest.approx(known, rel=1e-9, abs=0.0), result
    assert result.upper == pytest.approx(known, rel=2e-9, abs=0.0)
    witness = result.witness
    assert witness is not None
    assert ((lower < witness.point) & (witness.point < upper)).all()
    assert witness.functional @ witness.jacobian @ witness.direction == pytest.approx(
        known, rel=1e-12, abs=0.0
    )
    if witness.radius > 0:
        assert net.jacobian(witness.point) == pytest.approx(witness.jacobian, rel=1e-9, abs=1e-300)


@pytest.mark.unwatched
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_equals_the_enumeration_of_regions(family: str, seed: int) -> None:
    network = case(family, seed)
    outputs = len(network.weights[-1][1])
    # Each norm with each mode, for both kinds of functional.
    for norm, mode in zip(NORMS, MODES if seed // 2 % 2 else MODES[::-1], strict=True):
        check(network, functional(outputs, seed), norm, mode)


@pytest.mark.unwatched
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_all_solvers_agree(family: str, solver: str) -> None:
    network = case(family, 1)
    outputs = len(network.weights[-1][1])
    norm = NORMS[(sorted(FAMILIES).index(family) + solver_names().index(solver)) % 2]
    check(network, functional(outputs, 1), norm, "auto", solver)


def test_the_degenerate_networks_are_hard() -> None:
    """The gates' free choice at kinks, as in LipMIP, overestimates: else the tests above prove
    little.
    """
    over = 0
    for family in DEGENERATE:
        weights, lower, upper = case(family, 1)
        c = functional(len(weights[-1][1]), 1)
        over += naive_constant(weights, lower, upper, c) > 1.001 * constant(
            regions(weights, lower, upper), c
        )
    assert over >= len(DEGENERATE) // 2


def test_the_identity_with_a_kink_is_1(solver: str) -> None:
    weights = [(np.array([[1.0], [-1.0]]), np.zeros(2)), (np.array([[1.0, -1.0]]), np.zeros(1))]
    result = lx.lipschitz(to_network(weights), lx.Box([-1], [1]), method="mip", solver=solver)
    assert (result.status, result.value) == (lx.Status.EXACT, 1.0)
    assert result.stats["excluded"] > 0


@pytest.mark.parametrize("gap", [1e-30, 1e-15, 1e-12, 1e-9, 1e-6])
def test_a_thin_region_counts(gap: float) -> None:
    """relu(x) + relu(gap - x) - 1 has slopes -1 and 1; relu(x) - relu(gap - x) has slope 2
    between 0 and gap.
    """
    weights = [
        (np.array([[1.0], [-1.0]]), np.array([0.0, gap])),
        (np.array([[1.0, -1.0]]), np.zeros(1)),
    ]
    for mode in MODES:
        result = lx.lipschitz(to_network(weights), lx.Box([-1], [1]), mode=mode)
        assert (result.status, result.value) == (lx.Status.EXACT, 2.0)
    weights = [
        (np.array([[1.0], [-1.0]]), np.array([0.0, -gap])),
        (np.array([[1.0, -1.0]]), np.zeros(1)),
    ]
    for mode in MODES:
        result = lx.lipschitz(to_network(weights), lx.Box([-1], [1]), mode=mode)
        assert (result.status, result.value) == (lx.Status.EXACT, 1.0)


def saws(rng: np.random.Generator, spread: float) -> Case:
    """f(x) = saw(x_0) + saw(x_1), each rising three times with slopes within `spread` of 1, and
    flat between.
    """
    rows, biases, out = [], [], []
    for coordinate in range(2):
        kinks = np.sort(rng.uniform(0.02, 0.98, 6))
        for first, last in kinks.reshape(3, 2):
            slope = 1 + spread * rng.uniform(-1, 1)
            rows += [np.eye(2)[coordinate]] * 2
            biases += [-first, -last]
            out += [slope, -slope]
    return Case(
        [(np.array(rows), np.array(biases)), (np.array([out]), np.zeros(1))],
        np.zeros(2),
        np.ones(2),
    )


@pytest.mark.unwatched
@pytest.mark.parametrize("spread", [1e-5, 1e-6, 1e-7, 1e-8, 3e-9])
def test_a_solver_does_not_settle_for_the_second_best(spread: float, solver: str) -> None:
    """Solvers' tolerances are absolute; regions whose norms differ by less than them must be
    told apart.

    The search starts from nothing, so that the solver has to find the best region by itself.
    """
    for seed in range(4):
        weights, lower, upper = saws(np.random.default_rng(seed), spread)
        known = constant(regions(weights, lower, upper), [1.0], "linf")
        network, box = to_network(weights), lx.Box(lower, upper)
        problem = lipschitz_problem(
            network, box, Hull(np.ones((1, 1))), norm_of("linf").ball(2), MODES[seed % 2]
        )
        assert problem is not None
        bounds = bound_nodes(problem.graph, problem.sets)
        formulation = Formulation(problem, bounds)
        start = SearchState(lower=0.0, upper=formulation.root_bound)
        task = SearchTask(formulations=[formulation], options=Options(solver=solver))
        found = solve_by_cuts(formulation, start, task)
        assert found.upper >= known * (1 - 1e-12)
        assert found.lower == pytest.approx(known, rel=1e-9)


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        ([1.0, 1.0, 1.0], [1e12 / 3, 0.1, -1e12 / 3]),
        ([1.0, 1.0, 1.0], [1e16, 1.0, -1e16]),
        ([1.0 / 3, 0.1, 0.7], [1e8 / 7, 0.1, -1e8 / 7 / 2.1]),
        ([3.0, 1.0, 1.0], [0.1, -0.3, 0.0]),
    ],
)
def test_gradients_that_cancel(inner: list[float], outer: list[float]) -> None:
    weights = [(np.array(inner)[:, None], np.zeros(3)), (np.array([outer]), np.zeros(1))]
    known = constant(regions(weights, [-1.0], [1.0]), [1.0], "linf")
    for mode in MODES:
        result = lx.lipschitz(to_network(weights), lx.Box([-1], [1]), mode=mode)
        assert result.lower == pytest.approx(known, rel=1e-12, abs=0.0)
        assert result.upper >= known * (1 - 1e-12)


@pytest.mark.parametrize(
    ("rows", "c"), [([1.0, 1.0, 1.0], [1e16, 1, -1e16]), ([0.3, 0.3 + 1e-9], [0.1, -0.1])]
)
def test_functionals_that_cancel(rows: list[float], c: list[float]) -> None:
    weights = [(np.ones((1, 1)), np.zeros(1)), (np.array(rows)[:, None], np.zeros(len(rows)))]
    known = constant(regions(weights, [-1.0], [1.0]), c, "linf")
    for mode in MODES:
        result = lx.lipschitz(to_network(weights), lx.Box([-1], [1]), functional=c, mode=mode)
        assert result.status is lx.Status.EXACT
        assert result.value == pytest.approx(known, rel=1e-9, abs=0.0)


@pytest.mark.unwatched
def test_constant_cotangents_are_no_noise(solver: str) -> None:
    """In reverse mode the first cotangent is constant; scaled by its rounding, it misled a
    solver's presolve.
    """
    rng = np.random.default_rng(0)
    for _ in range(6):
        sizes = (4, 5, 4, 2)
        weights = [
            (rng.normal(size=(n, m)), rng.normal(size=n)) for m, n in itertools.pairwise(sizes)
        ]
        check(
            Case(weights, np.zeros(4), np.ones(4)), np.array([1.0, -1.0]), "l1", "reverse", solver
        )


def test_products_that_underflow() -> None:
    weights = [(np.array([[w]]), np.zeros(1)) for w in (1e-160, 1e-160, 1e300)]
    result = lx.lipschitz(to_network(weights), lx.Box([-1], [1]))
    assert result.upper >= 1e-20 * (1 - 1e-9)
    assert result.status is lx.Status.BOUNDED or result.value == pytest.approx(
        1e-20, rel=1e-9, abs=0.0
    )


@pytest.mark.unwatched
@pytest.mark.parametrize("norm", NORMS)
def test_all_solvers_and_modes_agree_on_the_example(norm: str, solver: str) -> None:
    network = lx.load(EXAMPLE)
    ball = lx.Ball(np.full(13, 0.5), 0.1)
    values = [
        lx.lipschitz(network, ball, functional=[1, -1, 0], input_norm=norm, mode=mode, solver=s)
        for s, mode in [("highs", "forward"), (solver, "forward"), (solver, "reverse")]
    ]
    assert {value.status for value in values} == {lx.Status.EXACT}
    assert values[1].value == pytest.approx(values[0].value, rel=1e-12)
    assert values[2].value == pytest.approx(values[0].value, rel=1e-12)


def test_a_time_limit_leaves_an_honest_interval(solver: str) -> None:
    rng = np.random.default_rng(0)
    sizes = (8, 24, 24, 24, 1)
    weights = [
        (rng.normal(size=(n, m)) / np.sqrt(m), rng.normal(size=n) / 4)
        for m, n in itertools.pairwise(sizes)
    ]
    network = to_network(weights)
    box = lx.Box(-np.ones(8), np.ones(8))
    result = lx.lipschitz(network, box, time_limit=1.0, method="mip", solver=solver)
    assert result.status is lx.Status.BOUNDED
    assert 0 < result.lower < result.upper
    assert result.termination == "time limit"
    assert result.witness is not None
    # No sampled gradient is above the upper bound, and the lower bound is one.
    gradients = np.abs(network.jacobian(box.sample(rng, 5000))[:, 0]).sum(axis=1)
    assert gradients.max() <= result.upper
    assert np.abs(network.jacobian(result.witness.point)).sum() == pytest.approx(
        result.lower, rel=1e-12
    )


def test_a_gap_stops_early() -> None:
    network, ball = lx.load(EXAMPLE), lx.Ball(np.full(13, 0.5), 0.3)
    exact = lx.lipschitz(network, ball, functional=[1, -1, 0])
    loose = lx.lipschitz(network, ball, functional=[1, -1, 0], gap=0.5)
    assert loose.lower <= exact.value <= loose.upper
    assert loose.gap <= 0.5


def known_constants(file: Path) -> list[object]:
    """The networks of a file of known constants, but for the one that takes half a minute."""
    return [
        pytest.param(file.parent, known, id=known["model"].removesuffix(".onnx"))
        for known in (json.loads(file.read_text()) if file.exists() else [])
        if "synthetic_10" not in known["model"]
    ]


@pytest.mark.unwatched
@pytest.mark.parametrize(
    ("folder", "known"),
    known_constants(ROOT / "benchmarks/networks/constants.json")
    + [
        parameter
        for parameter in known_constants(ROOT.parent / "shared/cases/expected.json")
        if parameter.id.startswith(("iris", "sd"))
    ],
)
def test_known_constants(folder: Path, known: dict) -> None:
    network = lx.load(folder / known["model"])
    box = lx.Box(known["lower"], known["upper"])
    for entry in known["constants"]:
        alpha, beta, c = entry["input_norm"], entry.get("output_norm"), entry.get("functional")
        solver = require("scip") if "l2" in (alpha, beta) else "highs"
        for options in ({"method": "bab"}, {"method": "mip", "solver": solver}):
            result = lx.lipschitz(
                network, box, input_norm=alpha, output_norm=beta, functional=c, **options
            )
            assert result.status is lx.Status.EXACT
            assert result.value == pytest.approx(entry["value"], rel=1e-9)


def test_a_proof_that_is_an_ulp_weaker_leaves_the_reason_to_stop() -> None:
    """The search stopped at its target; the proven lower bound equals the target."""
    model = ROOT / "examples/wine_13_16_16_3.onnx"
    cube = lx.Box(np.zeros(13), np.ones(13))
    asked = {"functional": [1, -1, 0], "target": 111.12592874445183}
    plain = lx.lipschitz(model, cube, **asked)
    proven = lx.lipschitz(model, cube, certificate=True, **asked)
    assert plain.termination == proven.termination == "target"
    assert proven.status is lx.Status.BOUNDED
    assert proven.lower <= plain.lower
    assert proven.certificate is not None
    assert lx.check(model, proven.certificate).ok
