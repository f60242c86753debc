"""Polytopes in exact arithmetic: their half-spaces, and their vertices by brute force."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from lipexact.sets.domain import Domain
from lipexact.sets.domains import Polytope

Exact = list[Fraction]


class Half(NamedTuple):
    """{x : a x <= b}."""

    a: Exact
    b: Fraction


class Recipe(NamedTuple):
    """What a domain is made of, and the half-spaces whose intersection it is."""

    parts: list[tuple[type[Domain], tuple[Any, ...]]]
    halves: list[Half]

    def build(self) -> Domain:
        first, *rest = (kind(*arguments) for kind, arguments in self.parts)
        for other in rest:
            first = first & other
        return first

    def __and__(self, other: Recipe) -> Recipe:
        return Recipe(self.parts + other.parts, self.halves + other.halves)


def exact(values: Any) -> Exact:
    return [Fraction(float(value)) for value in np.ravel(values)]


def between(lower: Sequence[float] | None, upper: Sequence[float] | None, d: int) -> list[Half]:
    """The finite sides of a box."""
    halves = []
    for sign, corner in ((1, upper), (-1, lower)):
        for i, side in enumerate([] if corner is None else np.broadcast_to(corner, (d,))):
            if np.isfinite(side):
                halves.append(
                    Half(
                        [Fraction(sign * (i == j)) for j in range(d)], sign * Fraction(float(side))
                    )
                )
    return halves


def polytope(A: Any, b: Any, lower: Any = None, upper: Any = None) -> Recipe:
    rows = [Half(exact(row), Fraction(float(limit))) for row, limit in zip(A, b, strict=True)]
    return Recipe([(Polytope, (A, b, lower, upper))], rows + between(lower, upper, len(A[0])))


def dot(a: Sequence[Any], x: Sequence[Any]) -> Any:
    return sum(p * q for p, q in zip(a, x, strict=True))


def determinant(rows: Sequence[Sequence[int]]) -> int:
    if len(rows) == 1:
        return rows[0][0]
    minors = (
        (-1) ** i * row[0] * determinant([r[1:] for k, r in enumerate(rows) if k != i])
        for i, row in enumerate(rows)
    )
    return sum(minors)


def vertices(halves: list[Half]) -> list[Exact]:
    """All vertices, each as the solution of d equations that satisfies all inequalities."""
    d = len(halves[0].a)
    whole = []
    for a, b in halves:
        factor = math.lcm(*(value.denominator for value in (*a, b)))
        whole.append(tuple(int(value * factor) for value in (*a, b)))
    found = {}
    for chosen in itertools.combinations(sorted(set(whole)), d):
        below = determinant([row[:d] for row in chosen])
        if below == 0:
            continue
        above = [
            determinant([(*row[:i], row[d], *row[i + 1 : d]) for row in chosen]) for i in range(d)
        ]
        if below < 0:
            below, above = -below, [-value for value in above]
        if all(dot(row[:d], above) <= row[d] * below for row in whole):
            found[tuple(Fraction(value, below) for value in above)] = None
    return [list(vertex) for vertex in found]
