"""The operator norm of one Jacobian: against all vertices of the sets, in rationals."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from lipexact.regions import constants
from lipexact.regions.operator_norm import OperatorNorm, estimate_norms, jacobian_norm
from lipexact.sets.functionals import CrossLipschitz, functional_set
from lipexact.sets.norms import PolyhedralNorm, norm
from lipexact.sets.polyhedral import Hull
from lipexact.sets.unit_balls import SymmetricSet
from tests.support import oracle
from tests.support.networks import to_network
from tests.support.operator_norms import norm_of

NAMES = ("linf", "l1", "l2")
PAIRS = list(itertools.product(NAMES, NAMES))
# No vertices, or too many: bounded from below only. (From l2 to linf and from l1 the rows, or
# columns, are enough.)
EASY = [("l2", "l2"), *(pair for pair in PAIRS if pair[0] == "l1" or pair[1] == "linf")]
SIZES = [(1, 1), (1, 4), (3, 1), (2, 3), (4, 3), (3, 5)]
ROOM = 1e-13


def norm_sets(
    jacobian: np.ndarray, alpha: str | PolyhedralNorm, beta: str | PolyhedralNorm
) -> tuple[SymmetricSet, SymmetricSet]:
    """The functionals and directions between whose norms the Jacobian's is taken."""
    m, d = jacobian.shape
    return norm(beta).polar(m), norm(alpha).ball(d)


def exact(jacobian: np.ndarray) -> oracle.Matrix:
    return tuple(tuple(Fraction(entry) for entry in row) for row in jacobian.tolist())


def jacobians(kind: str, m: int, d: int) -> list[np.ndarray]:
    rng = np.random.default_rng(m * 10 + d)
    match kind:
        case "gaussian":
            return [rng.normal(size=(m, d)) for _ in range(4)]
        case "sizes":
            return [rng.normal(size=(m, d)) * 10.0 ** rng.uniform(-8, 8, (m, d)) for _ in range(4)]
        case _:  # ties, and nothing at all
            return [rng.integers(-1, 2, (m, d)).astype(np.float64) for _ in range(3)] + [
                np.zeros((m, d))
            ]


def assert_encloses(found: OperatorNorm, truth: Fraction | float, *, tight: bool) -> None:
    assert found.lower <= truth * (1 + ROOM)
    assert found.upper >= truth * (1 - ROOM)
    if tight:
        assert found.lower >= truth * (1 - ROOM)
        assert found.upper <= truth * (1 + 10 * ROOM)  # with every rounding counted


def length(vector: np.ndarray, name: str) -> float:
    return float(np.linalg.norm(vector, {"linf": np.inf, "l1": 1, "l2": 2}[name]))


@pytest.mark.parametrize(("alpha", "beta"), PAIRS)
@pytest.mark.parametrize("kind", ["gaussian", "sizes", "ties"])
def test_all_pairs_of_norms_are_exact(kind, alpha, beta):
    for m, d in SIZES:
        for jacobian in jacobians(kind, m, d):
            found = norm_of(jacobian, *norm_sets(jacobian, alpha, beta))
            assert_encloses(found, oracle.operator_norm(exact(jacobian), alpha, beta), tight=True)
            assert length(found.direction, alpha) == pytest.approx(1.0, rel=1e-12)
            assert length(found.functional, oracle.dual(beta)) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), PAIRS)
def test_without_vertices_the_truth_is_still_between(alpha, beta, monkeypatch):
    monkeypatch.setattr(constants, "MAX_VERTICES", 0)
    for kind, (m, d) in itertools.product(("gaussian", "sizes", "ties"), SIZES):
        for jacobian in jacobians(kind, m, d):
            found = norm_of(jacobian, *norm_sets(jacobian, alpha, beta))
            assert_encloses(found, oracle.operator_norm(exact(jacobian), alpha, beta), tight=False)


def test_many_dimensions_leave_the_norm_from_linf_to_l2_open():
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(30, 40))
    found = norm_of(wide, *norm_sets(wide, "linf", "l2"))
    # |J|_2 <= |J|_{linf -> l2} <= sqrt(d) |J|_2, and the functional says what it reaches.
    assert found.upper == np.inf
    assert (
        np.linalg.norm(wide @ rng.choice([-1.0, 1.0], 40))
        < found.lower
        <= np.sqrt(40) * np.linalg.norm(wide, 2)
    )
    assert length(found.functional, "l2") == pytest.approx(1.0)
    assert np.abs(found.direction).max() == 1.0
    # Few outputs, or few inputs, are no matter.
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=3)))
    rows, columns = signs @ wide[:3], signs @ wide[:, :3].T
    for jacobian, alpha, beta, truth in (
        (wide[:3], "linf", "l1", max(length(row, "l1") for row in rows)),
        (wide[:3], "l2", "l1", max(length(row, "l2") for row in rows)),
        (wide[:, :3], "linf", "l2", max(length(column, "l2") for column in columns)),
    ):
        assert_encloses(norm_of(jacobian, *norm_sets(jacobian, alpha, beta)), truth, tight=True)


@pytest.mark.parametrize("alpha", NAMES)
@pytest.mark.parametrize(
    "functional", [1, [1.0, -2.0, 0.5, 0.0], "several", CrossLipschitz(), CrossLipschitz(2)]
)
def test_functionals(functional, alpha):
    for jacobian in jacobians("gaussian", 4, 3) + jacobians("sizes", 4, 3):
        match functional:
            case "several":
                asked = known = np.random.default_rng(0).normal(size=(5, 4))
            case CrossLipschitz():
                asked, known = functional, np.array(oracle.cross_functionals(4, functional.label))
            case int():
                asked, known = functional, np.eye(4)[[functional]]
            case _:
                asked = known = np.array(functional)
        body = functional_set(asked, "l7", 4)
        found = norm_of(jacobian, body, norm(alpha).ball(3))
        region = oracle.Region((), exact(jacobian), (), ())
        assert_encloses(found, oracle.constant([region], known.tolist(), alpha), tight=True)


def polyhedral(seed: int, n: int) -> np.ndarray:
    """Rows in pairs, which span R^n."""
    half = np.vstack([np.eye(n), np.random.default_rng(seed).integers(-2, 3, (2, n))])
    return np.vstack([half, -half])


@pytest.mark.parametrize("by", list(itertools.product(("halfspaces", "vertices"), repeat=2)))
def test_polyhedral_norms(by):
    for kind, (m, d) in itertools.product(("gaussian", "sizes"), [(1, 2), (3, 2), (2, 3)]):
        for jacobian in jacobians(kind, m, d):
            pair = [
                {which: polyhedral(seed, n)}
                for seed, which, n in zip((1, 2), by, (d, m), strict=True)
            ]
            found = norm_of(
                jacobian, *norm_sets(jacobian, *(PolyhedralNorm(**rows) for rows in pair))
            )
            truth = oracle.operator_norm(
                exact(jacobian), *(oracle.Polyhedral(**rows) for rows in pair)
            )
            assert_encloses(found, truth, tight=True)


def test_rows_of_a_jacobian_that_cancel():
    # The difference of two outputs that share all but their last bits.
    rng = np.random.default_rng(1)
    row = rng.normal(size=3)
    jacobian = np.vstack([row, row * (1 + 2.0**-50), row])
    first, second, third = exact(jacobian)
    for pair, other in (([1.0, -1.0, 0.0], second), ([1.0, 0.0, -1.0], third)):
        found = norm_of(jacobian, Hull(np.array([pair])), norm("linf").ball(3))
        truth = sum(abs(a - b) for a, b in zip(first, other, strict=True))
        assert_encloses(found, truth, tight=True)


def test_the_jacobian_is_that_of_the_pattern():
    weights = [(np.eye(2), np.zeros(2)), (np.array([[1.0, 3.0], [-2.0, 1.0]]), np.zeros(2))]
    for gates in itertools.product((0, 1), repeat=2):
        jacobian = weights[1][0] * gates
        for alpha, beta in PAIRS:
            found = jacobian_norm(
                to_network(weights),
                *norm_sets(jacobian, alpha, beta),
                (np.array(gates, dtype=np.int8),),
            )
            assert_encloses(found, oracle.operator_norm(exact(jacobian), alpha, beta), tight=True)


@pytest.mark.parametrize(("alpha", "beta"), PAIRS)
def test_estimates_are_lower_bounds_and_exact_for_the_easy_pairs(alpha, beta):
    for kind, (m, d) in itertools.product(("gaussian", "sizes", "ties"), SIZES):
        batch = jacobians(kind, m, d)
        found = estimate_norms(np.array(batch), *norm_sets(batch[0], alpha, beta))
        assert found.shape == (len(batch),)
        for value, jacobian in zip(found.tolist(), batch, strict=True):
            truth = oracle.operator_norm(exact(jacobian), alpha, beta)
            assert 0 <= value <= truth * (1 + ROOM)
            if (alpha, beta) in EASY or 1 in (m, d):
                assert value >= truth * (1 - ROOM)
            # At least what the best row alone gives.
            rows = [oracle.vector_norm(row, oracle.dual(alpha)) for row in exact(jacobian)]
            assert value >= max(rows) * (1 - ROOM)
