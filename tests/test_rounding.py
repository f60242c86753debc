"""Products in twice the precision of floats, against Fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp

from lipexact.graph.ir import dense
from lipexact.rounding import twofold_product


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
                for w, h, lo in zip(dense(matrix)[i].tolist(), high[:, j].tolist(), low[:, j].tolist(), strict=True)
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
