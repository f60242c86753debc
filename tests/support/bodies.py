"""Symmetric sets of every class, with linear forms to measure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lipexact.sets.functionals import CrossLipschitz
from lipexact.sets.polyhedral import Differences, HalfSpaces, Hull
from lipexact.sets.unit_balls import CrossPolytope, Cube, EuclideanUnitBall, SymmetricSet


def symmetric_rows(rng: np.random.Generator, n: int) -> np.ndarray:
    """Rows that span R^n: whole numbers with ties and redundant rows, or Gaussian ones."""
    while True:
        k = n + int(rng.integers(0, 5))
        rows = (
            rng.integers(-2, 3, (k, n)).astype(np.float64)
            if rng.random() < 0.5
            else rng.normal(size=(k, n))
        )
        if np.linalg.matrix_rank(rows) == n:
            return rows[rows.any(axis=1)]


BODIES: dict[str, Callable[[np.random.Generator, int], SymmetricSet]] = {
    "cube": lambda rng, n: Cube(n),
    "cross-polytope": lambda rng, n: CrossPolytope(n),
    "Euclidean": lambda rng, n: EuclideanUnitBall(n),
    "hull": lambda rng, n: Hull(symmetric_rows(rng, n)),
    "one point": lambda rng, n: Hull(rng.normal(size=(1, n))),
    "flat hull": lambda rng, n: Hull(rng.normal(size=(2, n)) * (np.arange(n) > 0)),
    "differences": lambda rng, n: Differences(n),
    "half-spaces": lambda rng, n: HalfSpaces(symmetric_rows(rng, n)),
    "targeted": lambda rng, n: CrossLipschitz(int(rng.integers(n))).symmetric_set(n),
}


def body_and_forms(
    name: str, rng: np.random.Generator, least: int = 2, most: int = 4
) -> tuple[SymmetricSet, np.ndarray]:
    body = BODIES[name](rng, int(rng.integers(least, most + 1)))
    n = body.dim
    return body, np.vstack(
        [rng.normal(size=(6, n)), rng.integers(-2, 3, (4, n)), np.eye(n), np.zeros(n), -np.ones(n)]
    )
