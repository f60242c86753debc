"""Sampled Jacobians: a lower bound, checked at the point that attains it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lipexact.errors import OptionError
from lipexact.estimators.constants import MAX_POINT_NUMBERS
from lipexact.estimators.registry import (
    ALL_NETWORKS,
    ALL_NORMS,
    EstimateRequest,
    EstimatorOutput,
    estimator,
)
from lipexact.numerics.arrays import Vector
from lipexact.regions.heuristics import Incumbent, LocalSearch, best_region


@estimator(
    "sampling",
    "lower",
    "local",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="RandomLB of Jordan and Dimakis, NeurIPS 2020",
)
def sampling(
    request: EstimateRequest, *, samples: int = 100_000, ascent: bool = False, seed: int = 0
) -> EstimatorOutput:
    """Take the maximum norm of the Jacobian at random points, checked at the best one.

    Parameters
    ----------
    request
        The network, the domain and the norms.
    samples
        The number of points: uniform in a box, by hit-and-run in other domains.
    ascent
        True to go on from the best point, to points around it and in neighbouring regions, as long
        as that improves the bound.
    seed
        The seed of the random numbers.
    """
    count = positive(samples, "samples")
    if not isinstance(ascent, bool):
        raise OptionError(f"ascent must be True or False, not {ascent!r}")
    search = local_search(request)
    rng = generator(seed)
    drawn = 0
    first: Vector | None = None
    for points in drawn_points(request, rng, count):
        if drawn and request.over:
            break
        search.improve(points)
        first = points if first is None else first
        drawn += len(points)
    best = search.incumbent
    if best is None and first is not None:  # every point had a neuron near 0
        best = search.decide_best(first)
    if ascent and not request.over:
        climbed = best_checked_region(request, seed)
        if climbed is not None and (best is None or climbed.norm.lower > best.norm.lower):
            best = climbed
    return EstimatorOutput(0.0 if best is None else best.norm.lower, {"samples": drawn})


def best_checked_region(request: EstimateRequest, seed: int = 0) -> Incumbent | None:
    """Return the best region of a local search (:func:`lipexact.regions.heuristics.best_region`).

    None if it finds no region whose norm can be checked.
    """
    bounded = request.bounded
    kinks = [np.isnan(state) for state in request.states]
    return best_region(
        bounded.network,
        bounded.domain,
        bounded.functionals,
        bounded.directions,
        deadline=request.deadline,
        kinks=kinks,
        seed=seed,
    )


def local_search(request: EstimateRequest) -> LocalSearch:
    """Return a search that evaluates Jacobians at points of the compact domain.

    Raises
    ------
    ModelError
        If the network's numbers overflow.
    """
    bounded = request.bounded
    _ = request.interval_bounds  # refuses numbers that overflow
    return LocalSearch(
        bounded.network, bounded.domain, bounded.functionals, bounded.directions, request.deadline
    )


def drawn_points(
    request: EstimateRequest, rng: np.random.Generator, count: int
) -> Iterator[Vector]:
    """Yield random points of the compact domain, in parts of shape (n, d) that fit into memory."""
    domain = request.bounded.domain
    step = int(np.clip(MAX_POINT_NUMBERS // domain.dim, 1, 8192))
    for start in range(0, count, step):
        yield domain.sample(rng, min(step, count - start))


def generator(seed: int) -> np.random.Generator:
    """Return a generator of random numbers.

    Raises
    ------
    OptionError
        If the seed is no integer, or negative.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise OptionError(f"seed must be an integer, at least 0, not {seed!r}")
    return np.random.default_rng(int(seed))


def positive(value: int, what: str) -> int:
    """Return a positive integer.

    Raises
    ------
    OptionError
        If the value is none; `what` names it.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise OptionError(f"{what} must be a positive integer, not {value!r}")
    return int(value)
