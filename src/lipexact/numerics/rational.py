"""Exact linear algebra in rationals: arrays of Fractions, elimination, and the simplex method."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

# Arrays of floats, or of exact Fractions (dtype object).
Numbers: TypeAlias = npt.NDArray[Any]


def feasible_point(
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


def to_fractions(values: npt.ArrayLike) -> Numbers:
    """Convert an array of floats to an array of Fractions with the same values."""
    floats = np.asarray(values, dtype=np.float64)
    exact = np.empty(floats.size, dtype=object)
    exact[:] = [Fraction(value) for value in floats.ravel().tolist()]
    return exact.reshape(floats.shape)
