"""Products in twice the precision of floats, against Fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp

from lipexact.graph.folding import fold, fold_mapped
from lipexact.graph.ir import Affine, Graph, Input
from lipexact.numerics.arrays import dense
from lipexact.numerics.double_double import accurate_product, twofold_product
from lipexact.numerics.rounding import FOLDED


@pytest.mark.parametrize("seed", range(40))
def test_twofold_product(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns, count = rng.integers(1, 6), rng.integers(1, 60), rng.integers(1, 4)
    spread = 10.0 ** rng.uniform(-6, 6, (rows, columns) if seed % 2 else ())
    matrix = rng.normal(size=(rows, columns)) * spread * (rng.random((rows, columns)) < 0.7)
    high = rng.normal(size=(columns, count)) * 10.0 ** rng.uniform(-6, 6, (columns, count))
    low = high * rng.uniform(-1, 1, (columns, count)) * 2.0**-54
    if seed % 3 == 0:
        matrix = sp.csr_array(matrix)
    totals, rests, errors = twofold_product(matrix, high, low)
    for i in range(rows):
        for j in range(count):
            terms = [
                Fraction(w) * (Fraction(h) + Fraction(lo))
                for w, h, lo in zip(
                    dense(matrix)[i].tolist(), high[:, j].tolist(), low[:, j].tolist(), strict=True
                )
            ]
            off = abs(sum(terms) - Fraction(totals[i, j]) - Fraction(rests[i, j]))
            assert off <= Fraction(errors[i, j])
            size = np.abs(dense(matrix)[i]).max(initial=0.0) * np.abs(high[:, j]).max()
            assert errors[i, j] <= 1e-25 * columns * size + 1e-300


def test_what_cancels_is_seen() -> None:
    # 1e16 + 1 - 1e16, and the same among many terms of mixed sizes.
    matrix = np.array([[1e16, 1.0, -1e16]])
    ones = np.ones((3, 1))
    assert matrix @ ones != 1.0
    total, rest, error = twofold_product(matrix, ones, np.zeros((3, 1)))
    assert total + rest == 1.0
    assert error < 1e-8


def off(matrix: np.ndarray, rng: np.random.Generator, units: int) -> list[list[Fraction]]:
    """What a matrix may stand for whose entries are off by so many units, in proportion."""
    moved = [[Fraction(int(rng.integers(-units, units + 1)), 2**53) for _ in row] for row in matrix]
    return [
        [Fraction(x) * (1 + m) for x, m in zip(row, some, strict=True)]
        for row, some in zip(matrix.tolist(), moved, strict=True)
    ]


@pytest.mark.parametrize("limit", [0, 2**22], ids=["sparse", "twofold"])
@pytest.mark.parametrize("seed", range(60))
def test_an_accurate_product_is_as_accurate_as_it_says(
    seed: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lipexact.numerics.constants.MAX_DENSE_PRODUCT_ENTRIES", limit)
    rng = np.random.default_rng(seed)
    rows, inner, columns = rng.integers(1, 7, 3)
    left, right = (
        rng.normal(size=shape) * 10.0 ** rng.uniform(-4, 4, shape) * (rng.random(shape) < 0.8)
        for shape in ((rows, inner), (inner, columns))
    )
    if seed % 3:  # rows that cancel, more or less
        left = np.hstack([left, -left * (1 + 10.0 ** -rng.uniform(1, 18))])
        right = np.vstack([right, right])
    before = int(rng.choice([0, 3]))
    factors = [
        kind(x)
        for kind, x in zip(rng.choice([sp.csr_array, np.asarray], 2), (left, right), strict=True)
    ]
    found = accurate_product(*factors, 2 * before)
    if found is None:
        assert before  # what is exact can always be had
        return
    product, units = found
    assert units < 70 or before
    a, b = off(left, rng, before), off(right, rng, before)
    for i, k in np.ndindex(dense(product).shape):
        true = sum((x * line[k] for x, line in zip(a[i], b, strict=True)), Fraction(0))
        assert (
            abs(Fraction(float(dense(product)[i, k])) - true)
            <= abs(true) * Fraction(units) / 2**53 * 2
        )


def test_what_cancels_among_factors_that_are_off_is_refused() -> None:
    left, right = np.array([[1.0, -1.0]]), np.array([[1.0], [1.0 - 2.0**-45]])
    assert accurate_product(left, right)[0] == 2.0**-45
    assert accurate_product(left, right, 1.0)[1] > 2.0**45
    assert accurate_product(left, np.ones((2, 1)), 1.0) is None  # 0 for what may be anything


@pytest.mark.parametrize("kind", [np.array, sp.csr_array])
def test_products_that_may_underflow_are_refused(kind) -> None:
    assert accurate_product(kind([[1e-200]]), kind([[1e-200]])) is None
    assert (
        accurate_product(kind([[1e-200, 1.0]]), kind([[1.0], [1e-200]])) is None
    )  # 1e-400 might be asked for
    assert (
        accurate_product(kind([[1e-300, -1e-300]]), kind([[1.0], [1.0 + 2.0**-50]])) is None
    )  # subnormal
    assert accurate_product(kind([[1e-140]]), kind([[1e-140]]))[0] == 1e-280


def test_a_fold_that_cancels_what_folds_rounded_is_refused_where_it_counts() -> None:
    x, nothing = Input(1), np.zeros(2)
    inner = Affine(
        ((np.array([[0.7, 0.2], [0.1, 0.5]]), Affine(((np.array([[0.1], [0.3]]), x),), nothing)),),
        nothing,
    )
    (p, q) = accurate_product(inner.terms[0][0], np.array([[0.1], [0.3]]))[0].ravel()
    for last, kept in (([[q / p, -1.0]], 2), ([[1.0, 1.0]], 1)):
        graph = Graph((x,), (Affine(((np.array(last), inner),), np.zeros(1)),))
        fused, _, roundings = fold_mapped(graph)
        assert sum(isinstance(node, Affine) for node in fused.nodes) == kept
        assert 1 <= roundings <= FOLDED
        assert len(fold(graph).nodes) == 2  # what is loaded is taken as it is
