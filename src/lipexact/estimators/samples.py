"""Sampled Jacobians: a lower bound, checked at the point that attains it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lipexact.errors import OptionError
from lipexact.estimators.registry import (
    ALL_NETWORKS,
    ALL_NORMS,
    EstimateRequest,
    EstimatorOutput,
    estimator,
)
from lipexact.numerics.arrays import Vector
from lipexact.regions.heuristics import Incumbent, LocalSearch, best_region

_NUMBERS = 2**22  # of the points that are drawn at once


@estimator(
    "sampling",
    "lower",
    "local",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="RandomLB of Jordan and Dimakis, NeurIPS 2020",
)
def sampling(
    question: EstimateRequest, *, samples: int = 100_000, ascent: bool = False, seed: int = 0
) -> EstimatorOutput:
    """The largest norm of the Jacobian at random points.

    Parameters
    ----------
    question
        What is asked.
    samples
        How many points, uniform in a box, by hit-and-run in other domains.
    ascent
        Whether to go on from the best point: points around it, and those in neighbouring regions, as long as that
        helps.
    seed
        Of the random numbers.
    """
    count = positive(samples, "samples")
    if not isinstance(ascent, bool):
        raise OptionError(f"ascent must be True or False, not {ascent!r}")
    search = sampler(question)
    rng, drawn = generator(seed), 0
    first: Vector | None = None
    for points in drawn_points(question, rng, count):
        if drawn and question.over:
            break
        search.improve(points)
        first, drawn = points if first is None else first, drawn + len(points)
    best = search.incumbent
    if best is None and first is not None:  # every point had a neuron near 0
        best = search.decide_best(first)
    if ascent and not question.over:
        climbed = climb(question, seed)
        if climbed is not None and (best is None or climbed.norm.lower > best.norm.lower):
            best = climbed
    return EstimatorOutput(0.0 if best is None else best.norm.lower, {"samples": drawn})


def climb(question: EstimateRequest, seed: int = 0) -> Incumbent | None:
    """The best region that sampling and a walk through its neighbours find (:func:`lipexact.regions.heuristics.best_region`)."""
    asked, kinks = question.bounded, [np.isnan(state) for state in question.states]
    bodies = asked.functionals, asked.directions
    return best_region(
        asked.network, asked.domain, *bodies, deadline=question.deadline, kinks=kinks, seed=seed
    )


def sampler(question: EstimateRequest) -> LocalSearch:
    """What evaluates Jacobians at points of the bounded domain, and keeps the best that is checked."""
    bounded, _ = question.bounded, question.interval_bounds  # which refuses numbers that overflow
    return LocalSearch(
        bounded.network, bounded.domain, bounded.functionals, bounded.directions, question.deadline
    )


def drawn_points(
    question: EstimateRequest, rng: np.random.Generator, count: int
) -> Iterator[Vector]:
    """So many random points of the bounded domain, in parts that fit into memory."""
    domain = question.bounded.domain
    step = int(np.clip(_NUMBERS // domain.dim, 1, 8192))
    for start in range(0, count, step):
        yield domain.sample(rng, min(step, count - start))


def generator(seed: int) -> np.random.Generator:
    """Random numbers.

    Raises
    ------
    OptionError
        If the seed is none.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise OptionError(f"seed must be an integer, at least 0, not {seed!r}")
    return np.random.default_rng(int(seed))


def positive(value: int, what: str) -> int:
    """A positive integer.

    Raises
    ------
    OptionError
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise OptionError(f"{what} must be a positive integer, not {value!r}")
    return int(value)
