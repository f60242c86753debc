"""Norms of whole outputs, cross-Lipschitz constants, polyhedral norms and domains, against the
enumeration oracle.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest

import lipexact as lx
from lipexact.errors import NormError, OptionError, SolverUnavailableError
from lipexact.mip.solvers.base import quadratic_solvers
from tests.support.networks import FAMILIES, Case, Layers, case, random_weights, to_network
from tests.support.oracle import (
    Polyhedral,
    constant,
    cross_functionals,
    l1_ball_halfspaces,
    regions,
)
from tests.support.solvers import require

NAMES = ("linf", "l1", "l2")
PAIRS = tuple(itertools.product(NAMES, NAMES))
LINEAR = tuple(pair for pair in PAIRS if "l2" not in pair)
QUADRATIC = tuple(pair for pair in PAIRS if "l2" in pair)
# More of them: nox -s pairs
SEEDS = int(os.environ.get("LIPEXACT_SEEDS", "0"))
IDENTITY_KINK: Layers = [
    (np.array([[1.0], [-1.0]]), np.zeros(2)),
    (np.array([[1.0, -1.0]]), np.zeros(1)),
]


def small(seed: int, outputs: int = 3, inputs: int = 2, neurons: int = 8) -> Case:
    """A random network with a vector output on [-1, 1]^d."""
    rng = np.random.default_rng(seed)
    hidden = (neurons,) if seed % 2 else (neurons // 2, neurons // 2)
    return Case(random_weights(rng, (inputs, *hidden, outputs)), -np.ones(inputs), np.ones(inputs))


def check(
    network: Case, known: float, domain: lx.Domain | None = None, **question: object
) -> lx.LipschitzResult:
    """An EXACT answer, equal to what is known, with a witness that shows it."""
    net = to_network(network.weights)
    domain = domain or lx.Box(network.lower, network.upper)
    result = lx.lipschitz(net, domain, **question)  # type: ignore[arg-type]
    assert result.status is lx.Status.EXACT, (result, result.stats, known)
    assert result.value == pytest.approx(known, rel=1e-9, abs=0.0), result
    assert result.upper == pytest.approx(known, rel=2e-9, abs=0.0)
    witness = result.witness
    assert witness is not None
    assert witness.functional @ witness.jacobian @ witness.direction == pytest.approx(
        known, rel=1e-9, abs=0.0
    )
    assert domain.margin(witness.point[None, :])[0] >= 0
    return result


@pytest.mark.unwatched
@pytest.mark.parametrize("pair", LINEAR, ids="-".join)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_polyhedral_pairs_on_every_family(family: str, pair: tuple[str, str]) -> None:
    network = case(family, (sorted(FAMILIES).index(family) + LINEAR.index(pair)) % 3)
    known = constant(regions(*network), None, *pair)
    check(network, known, input_norm=pair[0], output_norm=pair[1])


@pytest.mark.unwatched
@pytest.mark.parametrize("pair", LINEAR, ids="-".join)
def test_polyhedral_pairs_on_vector_outputs(pair: tuple[str, str]) -> None:
    for seed in range(SEEDS or 6):
        network = small(seed, outputs=2 + seed % 3, inputs=1 + seed % 3)
        known = constant(regions(*network), None, *pair)
        modes = ("forward", "reverse")
        for mode in modes if SEEDS else [modes[(seed // 3 + LINEAR.index(pair)) % 2]]:
            check(network, known, input_norm=pair[0], output_norm=pair[1], mode=mode)


@pytest.mark.unwatched
@pytest.mark.parametrize("pair", QUADRATIC, ids="-".join)
def test_pairs_with_l2(pair: tuple[str, str]) -> None:
    require("scip")
    for seed in range(SEEDS or 3):
        network = small(seed, outputs=2 + seed % 2, inputs=2 + seed % 2, neurons=6)
        known = constant(regions(*network), None, *pair)
        check(network, known, input_norm=pair[0], output_norm=pair[1], method="bab")
        if SEEDS or seed == QUADRATIC.index(pair) % 3:  # SCIP takes nine times as long
            check(network, known, input_norm=pair[0], output_norm=pair[1], solver="scip")


@pytest.mark.unwatched
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_l2_on_every_family(family: str) -> None:
    require("scip")
    network = case(family, 1)
    known = constant(regions(*network), None, "l2", "l2")
    check(network, known, input_norm="l2", output_norm="l2", method="bab")
    if sorted(FAMILIES).index(family) % 4 == 1:
        check(network, known, input_norm="l2", output_norm="l2", solver="scip")


@pytest.mark.unwatched
@pytest.mark.parametrize("pair", QUADRATIC, ids="-".join)
def test_gurobi_agrees_on_pairs_with_l2(pair: tuple[str, str]) -> None:
    require("gurobi")
    for seed in range(3):
        network = small(seed, outputs=2, neurons=6)
        known = constant(regions(*network), None, *pair)
        check(network, known, input_norm=pair[0], output_norm=pair[1], solver="gurobi")


def test_a_functional_with_l2(solver: str) -> None:
    network, c = small(3), np.array([1.0, -2.0, 0.5])
    known = constant(regions(*network), c, "l2")
    if solver in quadratic_solvers():
        check(network, known, input_norm="l2", functional=c, method="mip", solver=solver)
    else:
        with pytest.raises(SolverUnavailableError, match=r"solver='scip'"):
            lx.lipschitz(
                to_network(network.weights),
                lx.Box(network.lower, network.upper),
                input_norm="l2",
                functional=c,
                method="mip",
                solver=solver,
            )


def test_every_solver_on_a_vector_output(solver: str) -> None:
    network = small(5)
    for pair in LINEAR:
        known = constant(regions(*network), None, *pair)
        check(network, known, input_norm=pair[0], output_norm=pair[1], method="mip", solver=solver)


@pytest.mark.parametrize("norm", [*NAMES, "weighted"])
def test_the_identity_with_a_kink_is_1_in_every_norm(norm: str) -> None:
    """LipMIP, and the other exact methods, answer 2."""
    network = Case(IDENTITY_KINK, -np.ones(1), np.ones(1))
    which = lx.PolyhedralNorm(halfspaces=[[2.0], [-2.0]]) if norm == "weighted" else norm
    check(network, 1.0, input_norm=which, solver=require("scip"))


@pytest.mark.unwatched
@pytest.mark.parametrize("label", [None, 0, 2])
def test_cross_lipschitz_is_the_largest_over_pairs(label: int | None) -> None:
    for seed in range(5):
        network = small(seed, outputs=4)
        norm, mode = ("linf", "l1")[seed % 2], ("forward", "reverse")[seed // 2 % 2]
        pairs = cross_functionals(4, label)
        found = regions(*network)
        known = max(constant(found, pair, norm) for pair in pairs)
        cross = lx.CrossLipschitz(label)
        result = check(network, known, input_norm=norm, functional=cross, mode="auto")
        assert sorted(result.witness.functional) == [-1, 0, 0, 1]
        check(network, known, input_norm=norm, functional=cross, mode=mode)
        check(network, known, input_norm=norm, functional=np.array(pairs, dtype=float))


def test_functionals_in_a_cube_exceed_the_cross_lipschitz_constant() -> None:
    """What LipMIP calls cross-Lipschitz is the norm from linf to l1, over c in [-1, 1]^m."""
    network = small(1)
    net, box = to_network(network.weights), lx.Box(network.lower, network.upper)
    cross = lx.lipschitz(net, box, functional=lx.CrossLipschitz()).value
    cube = lx.lipschitz(net, box, functional=list(itertools.product((-1.0, 1.0), repeat=3))).value
    assert cube > 1.01 * cross
    assert cube == pytest.approx(lx.lipschitz(net, box, output_norm="l1").value, rel=1e-9)


def symmetric(points: np.ndarray) -> np.ndarray:
    return np.vstack([points, -points])


def random_ball(rng: np.random.Generator, n: int) -> np.ndarray:
    """Rows that span R^n and come in pairs."""
    return symmetric(np.vstack([np.eye(n) * rng.uniform(0.5, 2, n), rng.normal(size=(2, n))]))


def corners(n: int) -> np.ndarray:
    return np.array(list(itertools.product((-1.0, 1.0), repeat=n)))


@pytest.mark.unwatched
@pytest.mark.parametrize("form", ["halfspaces", "vertices"])
def test_the_hypercube_is_linf_and_the_cross_polytope_is_l1(form: str) -> None:
    cube, cross = symmetric(np.eye(2)), corners(2)
    if form == "vertices":
        cube, cross = cross, cube
    norms = {"linf": lx.PolyhedralNorm(**{form: cube}), "l1": lx.PolyhedralNorm(**{form: cross})}
    for seed in range(2):
        network = small(seed, outputs=2)
        for alpha, beta in LINEAR:
            known = constant(regions(*network), None, alpha, beta)
            check(network, known, input_norm=norms[alpha], output_norm=norms[beta])
            check(network, known, input_norm=norms[alpha], output_norm=beta)
            check(network, known, input_norm=alpha, output_norm=norms[beta])


@pytest.mark.unwatched
@pytest.mark.parametrize(
    "forms", list(itertools.product(("halfspaces", "vertices"), repeat=2)), ids="-".join
)
def test_random_polyhedral_norms(forms: tuple[str, str]) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        network = small(seed, outputs=2 + seed % 2)
        alpha, beta = random_ball(rng, 2), random_ball(rng, 2 + seed % 2)
        known = constant(
            regions(*network), None, Polyhedral(**{forms[0]: alpha}), Polyhedral(**{forms[1]: beta})
        )
        norms = lx.PolyhedralNorm(**{forms[0]: alpha}), lx.PolyhedralNorm(**{forms[1]: beta})
        for mode in ("auto", "reverse" if seed // 2 % 2 else "forward"):
            check(network, known, input_norm=norms[0], output_norm=norms[1], mode=mode)


def test_a_weighted_norm_of_many_dimensions() -> None:
    """Too many half-spaces to enumerate the vertices: linf with a weight for each of 30 inputs."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2.0, 30)
    layers = random_weights(rng, (30, 6, 2))
    scaled = [(layers[0][0] / weights, layers[0][1]), *layers[1:]]
    plain = lx.lipschitz(to_network(scaled), lx.Box(-weights, weights))
    weighted = lx.PolyhedralNorm(halfspaces=symmetric(np.diag(weights)))
    result = lx.lipschitz(
        to_network(layers),
        lx.Box(-np.ones(30), np.ones(30)),
        input_norm=weighted,
        output_norm="linf",
    )
    assert plain.status is lx.Status.EXACT
    assert result.status is lx.Status.EXACT
    assert result.value == pytest.approx(plain.value, rel=1e-9)
    dense = lx.PolyhedralNorm(
        halfspaces=symmetric(np.vstack([np.diag(weights), np.full(30, 0.01)]))
    )  # no tighter
    result = lx.lipschitz(
        to_network(layers), lx.Box(-np.ones(30), np.ones(30)), input_norm=dense, output_norm="linf"
    )
    assert result.value == pytest.approx(plain.value, rel=1e-9)
    with pytest.raises(NormError, match="leave the mode to be chosen"):
        lx.lipschitz(
            to_network(layers),
            lx.Box.unit(30),
            input_norm=dense,
            output_norm="linf",
            mode="reverse",
        )


def test_a_polyhedral_norm_of_the_wrong_dimension_is_refused() -> None:
    network = to_network(small(0).weights)
    with pytest.raises(NormError, match="2 dimensions does not measure 3"):
        lx.lipschitz(
            network, lx.Box.unit(2), input_norm=lx.PolyhedralNorm(halfspaces=symmetric(np.eye(2)))
        )


def domains(seed: int, d: int) -> dict[str, tuple[lx.Domain, list]]:
    """Domains of every kind inside [-1, 1]^d, with half-spaces that cut them from that box."""
    rng = np.random.default_rng(seed)
    center, radius = rng.integers(-2, 3, d) / 4, 0.75
    A, b = rng.normal(size=(3, d)), rng.uniform(0.1, 0.8, 3)
    rows = list(zip(A.tolist(), b.tolist(), strict=True))
    ball = l1_ball_halfspaces(center, radius)
    cut = [(row, 1.0) for row in symmetric(np.eye(d)).tolist()]
    clip = [(row, 0.5) for row in symmetric(np.eye(d)).tolist()]
    box = lx.Box(-np.ones(d), np.ones(d))
    return {
        "polytope": (lx.Polytope(A, b, lower=-1, upper=1), rows + cut),
        "l1 ball": (lx.Ball(center, radius, norm="l1"), ball),
        "clipped": (lx.Ball(center, radius, norm="l1", clip=(-0.5, 0.5)), ball + clip),
        "ball and polytope": (
            lx.Ball(center, radius, norm="l1") & lx.Polytope(A, b, lower=-2, upper=2),
            ball + rows,
        ),
        "box and ball": (
            box & lx.Ball(center, radius, norm="linf"),
            [*cut, *_linf(center, radius)],
        ),
    }


def _linf(center: np.ndarray, radius: float) -> list:
    rows = symmetric(np.eye(center.size))
    return [(row.tolist(), float(row @ center + radius)) for row in rows]


@pytest.mark.unwatched
@pytest.mark.parametrize("kind", sorted(domains(0, 2)))
@pytest.mark.parametrize("seed", range(6))
def test_every_kind_of_domain(seed: int, kind: str) -> None:
    d = 1 + seed % 3
    network = small(seed, inputs=d)
    domain, halfspaces = domains(seed, d)[kind]
    found = regions(network.weights, [-2.0] * d, [2.0] * d, halfspaces)
    whole, one = ("linf", "l1") if seed % 2 else ("l1", "linf")
    check(network, constant(found, None, whole), domain, input_norm=whole)
    c = [1.0, -1.0, 0.5]
    check(network, constant(found, c, one), domain, input_norm=one, functional=c)


@pytest.mark.unwatched
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_on_an_l1_ball_and_a_polytope(family: str) -> None:
    network = case(family, 0)
    half = (network.upper - network.lower) / 2
    center = network.lower + half
    domain = lx.Ball(center, float(half[0]), norm="l1")
    found = regions(*network, l1_ball_halfspaces(center, float(half[0])))
    check(network, constant(found), domain)
    network = case(family, 1)
    center = (network.upper + network.lower) / 2
    row = np.arange(1.0, center.size + 1)
    # The cut goes through the centre, where kinks of many families meet.
    found = regions(*network, [(row.tolist(), float(row @ center))])
    domain = lx.Polytope([row], [row @ center], network.lower, network.upper)
    check(network, constant(found), domain)


def test_largest_entry_of_the_jacobian() -> None:
    """L^(l1, linf) is the largest |J_ij| over the regions."""
    for seed in range(6):
        network = small(seed)
        entries = max(np.abs(region.jacobian_float).max() for region in regions(*network))
        check(network, entries, input_norm="l1", output_norm="linf")


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_the_dual_norms_of_the_transposed_matrix(pair: tuple[str, str]) -> None:
    """On one region L^(alpha, beta) of J is L^(beta*, alpha*) of J^T."""
    dual = {"linf": "l1", "l1": "linf", "l2": "l2"}
    matrix = np.random.default_rng(7).normal(size=(3, 4))
    straight = lx.lipschitz(
        to_network([(matrix, np.zeros(3))]), lx.Box.unit(4), input_norm=pair[0], output_norm=pair[1]
    )
    turned = lx.lipschitz(
        to_network([(matrix.T, np.zeros(4))]),
        lx.Box.unit(3),
        input_norm=dual[pair[1]],
        output_norm=dual[pair[0]],
    )
    assert straight.status is turned.status is lx.Status.EXACT
    assert straight.value == pytest.approx(turned.value, rel=1e-12)


@pytest.mark.unwatched
@pytest.mark.parametrize(
    ("factor", "seed"), [(0.5, 0), (0.999999, 1), (1.0, 0), (1.000001, 0), (2.0, 1)]
)
def test_a_target_is_decided(factor: float, seed: int, solver: str) -> None:
    network = small(seed)
    known = constant(regions(*network))
    target = factor * known
    result = lx.lipschitz(
        to_network(network.weights),
        lx.Box(network.lower, network.upper),
        target=target,
        method="mip",
        solver=solver,
    )
    assert result.lower <= known * (1 + 1e-12)
    assert known <= result.upper * (1 + 1e-12)
    if factor == 1.0:
        assert result.status is lx.Status.EXACT or result.within_target is not None
    else:
        assert result.within_target is (factor > 1)
        assert result.termination in ("target", "optimal")
        assert result.to_dict()["within_target"] is result.within_target


def test_a_bad_target_is_refused() -> None:
    for target in (-1.0, np.nan, "1", True):
        with pytest.raises(OptionError, match="target"):
            lx.lipschitz(to_network(IDENTITY_KINK), lx.Box([-1], [1]), target=target)  # type: ignore[arg-type]


@pytest.mark.unwatched
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_linear_relaxation_is_an_upper_bound(family: str) -> None:
    network = case(family, 4)
    net, box = to_network(network.weights), lx.Box(network.lower, network.upper)
    known = constant(regions(*network))
    uppers = {}
    for mode in ("forward", "reverse", "auto"):
        result = lx.lipschitz(net, box, method="lp", mode=mode)
        assert result.lower <= known * (1 + 1e-9)
        assert known <= result.upper * (1 + 1e-9)
        assert result.method in ("lp", "bounds")
        uppers[mode] = result.upper
    assert uppers["auto"] <= min(uppers["forward"], uppers["reverse"]) * (1 + 1e-9)


def hard() -> tuple[lx.Network, lx.Box]:
    """A network that takes minutes."""
    weights = random_weights(np.random.default_rng(0), (8, 24, 24, 24, 2))
    return to_network(weights), lx.Box(-np.ones(8), np.ones(8))


def test_the_relaxation_is_tighter_than_the_bounds_and_the_mip_is_tighter_still() -> None:
    network, box = hard()
    bounds = lx.lipschitz(network, box, mode="reverse", gap=0.999999)
    relaxed = lx.lipschitz(network, box, mode="reverse", method="lp")
    assert relaxed.termination == "relaxation"
    assert relaxed.upper <= bounds.upper
    assert relaxed.stats["binaries"] == 0
    assert relaxed.lower < relaxed.upper


def test_a_callback_stops_the_search_and_the_bounds_hold(solver: str) -> None:
    network, box = hard()
    calls = []

    def enough(moment: lx.Progress) -> bool:
        calls.append(moment)
        return len(calls) >= 2

    result = lx.lipschitz(network, box, method="mip", solver=solver, progress=enough, time_limit=60)
    assert 2 <= len(calls) <= 3
    assert result.termination == "interrupted"
    assert result.status is lx.Status.BOUNDED
    assert 0 < result.lower < result.upper
    sizes = (
        np.abs(network.jacobian(box.sample(np.random.default_rng(0), 2000))).sum(axis=2).max(axis=1)
    )
    assert sizes.max() <= result.upper


@pytest.mark.unwatched
def test_a_polytope_of_functionals() -> None:
    """By half-spaces or by vertices: the constant is the largest over the vertices."""
    triangle = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0], [-1.0, 0.5, 0.0], [0.25, 0.25, -1.0]])
    centre = triangle.mean(axis=0)
    faces = [np.delete(triangle, k, axis=0) for k in range(4)]
    rows = np.array([np.linalg.solve(face - centre, np.ones(3)) for face in faces])
    polytope = lx.Polytope(rows, 1 + rows @ centre)
    for seed in range(4):
        network = small(seed)
        for norm in ("linf", "l1"):
            known = constant(regions(*network), triangle.tolist(), norm)
            check(network, known, input_norm=norm, functional=triangle)
            check(network, known, input_norm=norm, functional=polytope)
    box = lx.Polytope(symmetric(np.eye(3)), np.ones(6))
    network = small(0)
    check(network, constant(regions(*network), None, "linf", "l1"), functional=box)
    with pytest.raises(NormError, match="does not fit 3 outputs"):
        lx.lipschitz(
            to_network(network.weights),
            lx.Box.unit(2),
            functional=lx.Polytope([[1, 1]], [1], lower=0),
        )


def test_cross_lipschitz_of_iris(shared: Path) -> None:
    """LipMIP's own crossLipschitz is the constant over c in [-1, 1]^m, 16.487; the largest over
    pairs is 14.805.
    """
    network, box = lx.load(shared / "cases/iris_4_5_5_3.onnx"), lx.Box.unit(4)
    cross = lx.lipschitz(network, box, functional=lx.CrossLipschitz())
    cube = lx.lipschitz(network, box, output_norm="l1")
    assert cross.status is cube.status is lx.Status.EXACT
    assert cross.value == pytest.approx(14.805, abs=5e-4)
    assert cube.value == pytest.approx(16.487, abs=6e-4)


@pytest.mark.parametrize("exponent", [-4, -6, -8, -10, -12])
def test_long_unit_balls_are_no_excuse(exponent: int) -> None:
    """The gradient is nearly orthogonal to the ball's long axis, so that products with its
    vertices cancel.
    """
    rng = np.random.default_rng(4)
    slope, small = rng.uniform(0.1, 1), 10.0**exponent
    rows = symmetric(np.array([[0.5, -0.5], [small, small * (1 + rng.uniform(0, 0.3))]]))
    weights = [(np.array([[slope, -slope]]), np.zeros(1))]
    found = regions(weights, [0.0, 0.0], [1.0, 1.0])
    for form in ("halfspaces", "vertices"):
        given = rows if form == "halfspaces" else np.linalg.inv(rows[:2]).T @ corners(2).T
        ball = {form: rows if form == "halfspaces" else given.T}
        exact = {form: symmetric(given.T[[0, 1]])} if form == "vertices" else ball
        known = constant(found, [1.0], Polyhedral(**exact))
        result = lx.lipschitz(
            to_network(weights), lx.Box.unit(2), functional=0, input_norm=lx.PolyhedralNorm(**exact)
        )
        assert result.lower <= known * (1 + 1e-9)
        assert known <= result.upper * (1 + 1e-9)
        if result.status is lx.Status.EXACT:
            assert result.value == pytest.approx(known, rel=1e-9)


@pytest.mark.unwatched
@pytest.mark.parametrize("count", [4, 6, 8, 12, 40])
def test_regular_polygons_as_unit_balls(count: int) -> None:
    angles = np.arange(count // 2) * 2 * np.pi / count  # some cosines are 6e-17
    rows = symmetric(np.column_stack([np.cos(angles), np.sin(angles)]))
    network = small(2)
    for form in ("halfspaces", "vertices"):
        known = constant(regions(*network), None, Polyhedral(**{form: rows}), "linf")
        check(network, known, input_norm=lx.PolyhedralNorm(**{form: rows}), output_norm="linf")


@pytest.mark.unwatched
@pytest.mark.parametrize("common", [1e3, 1e6, 1e8, 1e11])
def test_differences_of_outputs_with_a_large_common_part(common: float) -> None:
    """The rows of the Jacobian agree in all but their last digits, and so do their products with
    directions.
    """
    for seed in range(4):
        rng = np.random.default_rng(seed)
        inputs = 1 + seed % 2
        first = (
            rng.normal(size=(3, inputs)) / 3,
            np.full(3, 9.0) if seed < 2 else rng.normal(size=3),
        )
        shared = common * rng.normal(size=3)
        weights = [first, (np.array([shared + rng.normal(size=3) for _ in range(4)]), np.zeros(4))]
        box = -np.ones(inputs), np.ones(inputs)
        labels = (None, 0) if seed % 2 else (0, None)
        for norm, label in zip(("linf", "l1"), labels, strict=True):
            known = constant(regions(weights, *box), cross_functionals(4, label), norm)
            result = lx.lipschitz(
                to_network(weights),
                lx.Box(*box),
                functional=lx.CrossLipschitz(label),
                input_norm=norm,
            )
            assert result.lower <= known * (1 + 1e-9)
            assert known <= result.upper * (1 + 1e-9)
            if common <= 1e3:
                assert result.status is lx.Status.EXACT


def test_gradients_that_cancel_where_the_norm_looks() -> None:
    """The gradient's large entry hardly counts in the norm, and rounding is relative to it."""
    last = np.random.default_rng(3).normal(size=3) * 1e8
    last[2] = (1 - last[0] / 3 - last[1] * 0.1) / 0.7
    weights = [
        (np.array([[1.0, 1 / 3], [1.0, 0.1], [1.0, 0.7]]), np.full(3, 100.0)),
        (last[None], np.zeros(1)),
    ]
    ball = symmetric(np.diag([2.0**-30, 1.0]))
    known = constant(regions(weights, [-1.0] * 2, [1.0] * 2), [1.0], Polyhedral(vertices=ball))
    result = lx.lipschitz(
        to_network(weights),
        lx.Box([-1, -1], [1, 1]),
        functional=0,
        input_norm=lx.PolyhedralNorm(vertices=ball),
    )
    assert result.status is lx.Status.EXACT
    assert result.value == pytest.approx(known, rel=1e-9)
