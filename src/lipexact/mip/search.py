"""The exact maximum by a MIP: solve, certify what it found, cut it off, and go on until the bounds meet."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lipexact.bounds.interval import Bounds
from lipexact.domains import Box
from lipexact.mip.compose import Composition, compose
from lipexact.mip.solvers import Outcome, Progress, ProgressCallback, SolveOptions, Termination, solve
from lipexact.pattern import Pattern
from lipexact.primal import norm_of_gradient
from lipexact.problem import Problem
from lipexact.regions import Empty, Region, decide
from lipexact.result import EXACT_GAP, closed

UNDECIDED = "undecided"
# What a solver says of norms below this share of the program's largest one is not believed.
_ACCURACY = 1e-7
# So many rounds in a row that narrow nothing end the search.
_PATIENCE = 500


@dataclass
class Bracket:
    """Bounds of the maximum, the region that attains the lower one, and how it was found.

    `proof` is "float" while the upper bound is from :mod:`lipexact.bounds`, "solver" after.
    """

    lower: float
    upper: float
    region: Region | None
    proof: str = "float"
    termination: str = Termination.OPTIMAL.value
    stats: dict[str, Any] = field(default_factory=dict)


def narrow(
    problem: Problem,
    domain: Box,
    bounds: Bounds,
    bracket: Bracket,
    solver: str,
    options: SolveOptions,
    *,
    deadline: float,
    on_progress: ProgressCallback | None = None,
) -> Bracket:
    """Narrow a bracket by MIP until it is closed, or as far as the time allows.

    Every optimum of the program is an activation pattern. One that belongs to a linear region with interior
    in the domain gives a lower bound, its gradient's norm computed anew; one that does not is cut off, with all
    that share the gates which rule it out. The solver's dual bound, together with the values of the regions that
    were cut off, is the upper bound, unless a checked region contradicts it. So the answer needs no general
    position, and no solver's incumbent is believed.

    Parameters
    ----------
    problem, domain, bounds
        The problem, its domain X, and bounds of every node of its graph.
    bracket
        Valid bounds to start from.
    solver, options
        As for :func:`lipexact.mip.solvers.solve`; the time limit is that of `deadline`.
    deadline
        A time of `time.perf_counter`, or infinity.
    on_progress
        Called now and then with the solver's incumbent and bound in the problem's own units.

    Returns
    -------
    Bracket

    Raises
    ------
    SolverUnavailableError
        If the solver is not installed or its licence too small.
    SolverError
        If the solver breaks down.
    """
    start = time.perf_counter()
    composition = compose(problem, bounds)
    stats = bracket.stats
    stats |= {**composition.sizes, "nodes": 0, "rounds": 0, "excluded": 0, "build_seconds": time.perf_counter() - start}
    stats |= {"solve_seconds": 0.0, "certify_seconds": 0.0}
    proven, idle = bracket.upper, 0
    seen: set[bytes] = set()
    settled = 0.0  # the largest value of a pattern that was cut off although it is, or may be, a region
    while not closed(bracket.lower, bracket.upper, options.gap):
        remaining = deadline - time.perf_counter()
        if remaining <= 0:
            bracket.termination = Termination.TIME_LIMIT.value
            break
        outcome = solve(
            composition.model,
            solver,
            replace(options, time_limit=None if np.isinf(remaining) else remaining),
            None if on_progress is None else _in_units(on_progress, composition),
        )
        start = time.perf_counter()
        before = bracket.lower, bracket.upper
        stats["solve_seconds"] += outcome.seconds
        stats["nodes"] += outcome.nodes or 0
        stats["rounds"] += 1
        bracket.termination = outcome.termination.value
        if outcome.message:
            stats["message"] = outcome.message
        if outcome.termination is Termination.INFEASIBLE:
            # The model always has a solution, settled ones if no other: nothing is known.
            bracket.termination = Termination.FAILED.value
            stats["message"] = f"{solver} calls the program infeasible, which it is not"
            break
        claim = max(_ceiling(composition, outcome, settled), settled)
        stuck = outcome.incumbent is None or composition.is_settled
        if not stuck:
            pattern = composition.pattern()
            fingerprint = b"".join(states.tobytes() for states in pattern)
            if fingerprint in seen:
                bracket.termination = Termination.FAILED.value
                stats["message"] = f"{solver} returned a pattern that was cut off"
                break
            seen.add(fingerprint)
            settled = max(settled, _certify(problem, domain, composition, pattern, bracket))
            stats["excluded"] += 1
        if claim < bracket.upper:
            bracket.upper, bracket.proof = float(claim), "solver"
        caught = bracket.lower > bracket.upper + _ACCURACY * composition.top
        _reconcile(bracket, proven, solver)
        if caught:  # by more than its accuracy: nothing else that it says is believed
            break
        idle = 0 if (bracket.lower, bracket.upper) != before else idle + 1
        if idle >= _PATIENCE or (bracket.upper <= settled and not closed(bracket.lower, bracket.upper)):
            bracket.termination = UNDECIDED
            break
        stats["certify_seconds"] += time.perf_counter() - start
        if outcome.termination is not Termination.OPTIMAL or stuck:
            break
    if bracket.termination == Termination.OPTIMAL.value and not closed(bracket.lower, bracket.upper, options.gap):
        bracket.termination = UNDECIDED
    return bracket


def _ceiling(composition: Composition, outcome: Outcome, settled: float) -> float:
    """What the solver claims of all patterns that are not cut off, as far as its accuracy goes."""
    if outcome.bound is None:
        return np.inf
    ceiling = composition.to_norm(outcome.bound)
    if composition.is_settled and ceiling < settled - _ACCURACY * composition.top:
        return 0.0  # all others are worth less than what was settled, by more than a solver's accuracy
    return max(ceiling, _ACCURACY * composition.top)


def _reconcile(bracket: Bracket, proven: float, solver: str) -> None:
    """Drop a solver's claim that a checked region contradicts by more than rounding."""
    if bracket.lower > bracket.upper * (1 + EXACT_GAP):
        bracket.stats["message"] = (
            f"{solver} claimed that the constant is at most {bracket.upper:.17g}, but {bracket.lower:.17g} is attained"
        )
        bracket.upper, bracket.proof = proven, "float"
        bracket.termination = Termination.FAILED.value
    bracket.upper = max(bracket.upper, bracket.lower)


def _certify(problem: Problem, domain: Box, composition: Composition, pattern: Pattern, bracket: Bracket) -> float:
    """Look at a pattern, cut it off, and raise the bracket's lower bound.

    Returns
    -------
    float
        The value of the pattern where it is a region, or could not be shown to be none; else 0.
    """
    verdict = decide(problem.network, domain, pattern)
    if isinstance(verdict, Empty):
        composition.exclude(verdict.pattern)
        return 0.0
    value = norm_of_gradient(problem.network, problem.functional, problem.norm, pattern)
    if isinstance(verdict, Region) and (value > bracket.lower or bracket.region is None):
        bracket.lower, bracket.region = max(value, bracket.lower), verdict
    composition.settle(pattern, value)
    return value


def _in_units(report: ProgressCallback, composition: Composition) -> ProgressCallback:
    """Report in the problem's own units, as a maximisation."""

    def convert(moment: Progress) -> None:
        incumbent, bound = (None if v is None else composition.to_norm(v) for v in (moment.incumbent, moment.bound))
        report(replace(moment, incumbent=incumbent, bound=bound))

    return convert
