"""Arrays as short strings."""

from __future__ import annotations

import numpy as np
import pytest

from lipexact.numerics.arrays import summary


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (0.5, "0.5"),
        ([], "[]"),
        ([0.5, -1.0], "[0.5, -1.0]"),
        ([[1, 2], [3, 4]], "[[1, 2], [3, 4]]"),
        (np.linspace(0, 1, 784), "array(784,) in [0, 1]"),
        (np.zeros((2, 300)), "array(2, 300) in [0, 0]"),
        (np.array([-np.inf, 0.0, 1.0, 2.0, 1 / 3]), "array(5,) in [-inf, 2]"),
        (np.full(5, 1 / 3), "array(5,) in [0.3333, 0.3333]"),
        (np.array([1.0, 2.0, np.nan, 3.0, 4.0]), "array(5,) in [nan, nan]"),
    ],
)
def test_few_numbers_are_printed_and_of_many_shape_and_range(array, text):
    assert summary(array) == text
