"""The best signs of a sum of vectors, by all of them, in rationals."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np


def best_signs(rows: np.ndarray, norm: str) -> Fraction:
    """The same, or its square in l2, without rounding."""
    entries = [[Fraction(entry) for entry in row] for row in rows.tolist()]
    sums = (
        [
            sum((s * entry for s, entry in zip(signs, column, strict=True)), Fraction(0))
            for column in zip(*entries, strict=True)
        ]
        for signs in itertools.product((1, -1), repeat=len(entries))
    )
    if norm == "l2":
        return max(sum((entry * entry for entry in found), Fraction(0)) for found in sums)
    return max(sum(map(abs, found), Fraction(0)) for found in sums)
