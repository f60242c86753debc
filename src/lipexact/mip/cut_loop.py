"""The exact maximum by a MIP: solve, certify what it found, cut it off, and go on until the bounds meet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from lipexact.bounds.interval import Bounds
from lipexact.graph.pattern import Pattern
from lipexact.mip.model import Composition, coefficients, compose
from lipexact.mip.solvers.base import SolverOutcome, SolverSettings, solve
from lipexact.problem.problem import Problem
from lipexact.regions.feasibility import Empty, LinearRegion, decide_region
from lipexact.regions.heuristics import Incumbent
from lipexact.regions.operator_norm import jacobian_norm
from lipexact.result import EXACT_GAP
from lipexact.state import (
    RELAXATION,
    UNDECIDED,
    Progress,
    ProgressCallback,
    SearchState,
    StoppingRule,
    Termination,
)

# Coefficients of the largest program that is built, some 30 s and 3 GB in Pyomo, and of the largest past the deadline.
_LARGEST, _LARGEST_LATE = 3_000_000, 50_000
# So many rounds in a row that narrow nothing end the search.
_PATIENCE = 500


def solve_by_cuts(
    problem: Problem,
    bounds: Bounds,
    bracket: SearchState,
    solver: str,
    options: SolverSettings,
    goal: StoppingRule,
    *,
    deadline: float,
    on_progress: ProgressCallback | None = None,
) -> SearchState:
    """Narrow a bracket by MIP until it is closed, or as far as the time, the memory, or ctrl-C allows.

    Every optimum of the program is an activation pattern. One that belongs to a linear region with interior
    in the domain gives a lower bound, its gradient's norm computed anew; one that does not is cut off, with all
    that share the gates which rule it out. The solver's dual bound, together with the values of the regions that
    were cut off, is the upper bound, unless a checked region contradicts it. So the answer needs no general
    position, and no solver's incumbent is believed.

    Parameters
    ----------
    problem, bounds
        The problem, and bounds of every node of its graph.
    bracket
        Valid bounds to start from.
    solver, options
        As for :func:`lipexact.mip.solvers.base.solve`; the time limit is that of `deadline`.
    goal
        When to stop.
    deadline
        A time of `time.perf_counter`, or infinity.
    on_progress
        Called now and then with the solver's incumbent and bound in the problem's own units; True stops the search.

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
    if _beyond(problem, bounds, bracket, deadline):
        return bracket
    with _broken_off(bracket, solver):
        search = _OuterApproximation(problem, bounds, bracket, solver, goal)
        while not goal.is_met(bracket.lower, bracket.upper):
            remaining = deadline - time.perf_counter()
            if remaining <= 0:
                bracket.termination = Termination.TIME_LIMIT.value
                break
            if not search.iterate(
                replace(options, time_limit=None if np.isinf(remaining) else remaining), on_progress
            ):
                break
    if bracket.termination == Termination.OPTIMAL.value and not goal.is_met(
        bracket.lower, bracket.upper
    ):
        bracket.termination = UNDECIDED
    return bracket


class _OuterApproximation:
    """A program, the patterns that were cut off from it, and what has come of it so far."""

    def __init__(
        self,
        problem: Problem,
        bounds: Bounds,
        bracket: SearchState,
        solver: str,
        goal: StoppingRule,
    ) -> None:
        start = time.perf_counter()
        self.problem, self.bracket, self.solver, self.goal = problem, bracket, solver, goal
        self.composition = compose(problem, bounds)
        self.proven, self.idle = _proven(bracket), 0
        self.seen: set[bytes] = set()
        self.settled = 0.0  # the largest value of a pattern that was cut off although it is, or may be, a region
        bracket.stats |= {**self.composition.sizes, "nodes": 0, "rounds": 0, "excluded": 0}
        bracket.stats |= {
            "build_seconds": time.perf_counter() - start,
            "solve_seconds": 0.0,
            "certify_seconds": 0.0,
        }

    def iterate(self, options: SolverSettings, on_progress: ProgressCallback | None) -> bool:
        """Solve the program, look at what comes, and cut it off; False where another turn cannot help."""
        bracket, composition, stats = self.bracket, self.composition, self.bracket.stats
        watch = _Watch(composition, bracket, self.goal, self.settled, on_progress)
        outcome = solve(composition.model, self.solver, replace(options, gap=self.goal.gap), watch)
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
            return self._fail("calls the program infeasible, which it is not")
        if outcome.bound is not None and composition.to_norm(outcome.bound) < composition.least:
            return self._fail("claims a bound below 0, which no norm is")
        claim = max(_ceiling(composition, outcome, self.settled), self.settled)
        stuck = outcome.incumbent is None or composition.is_parked
        if not stuck:
            pattern = composition.pattern()
            fingerprint = b"".join(states.tobytes() for states in pattern)
            if fingerprint in self.seen:
                return self._fail("returned a pattern that was cut off")
            self.seen.add(fingerprint)
            self.settled = max(self.settled, self._check_pattern(pattern))
            stats["excluded"] += 1
        if claim < bracket.upper:
            bracket.upper, bracket.proof = float(claim), "solver"
        caught = bracket.lower > bracket.upper + composition.accuracy
        _reconcile(bracket, self.proven, self.solver)
        stats["certify_seconds"] += time.perf_counter() - start
        if caught:  # by more than its accuracy: nothing else that it says is believed
            return False
        self.idle = 0 if (bracket.lower, bracket.upper) != before else self.idle + 1
        if self.goal.is_met(bracket.lower, bracket.upper):
            return True
        if self.idle >= _PATIENCE or bracket.upper <= self.settled:
            if outcome.termination is Termination.OPTIMAL:
                bracket.termination = UNDECIDED
            return False
        if stuck:
            return watch.satisfied and self.idle == 0
        return watch.satisfied or outcome.termination is Termination.OPTIMAL

    def _fail(self, what: str) -> bool:
        """End the search, and drop all that the solver has claimed: it was caught."""
        _refuse(self.bracket, self.proven, f"{self.solver} {what}")
        return False

    def _check_pattern(self, pattern: Pattern) -> float:
        """Look at a pattern, cut it off, and raise the bracket's lower bound.

        Returns
        -------
        float
            The value of the pattern where it is a region, or could not be shown to be none; else 0.
        """
        problem, bracket = self.problem, self.bracket
        verdict = decide_region(problem.network, problem.domain, pattern)
        if isinstance(verdict, Empty):
            self.composition.add_nogood(verdict.pattern)
            return 0.0
        norm = jacobian_norm(problem.network, problem.functionals, problem.directions, pattern)
        if isinstance(verdict, LinearRegion) and (
            norm.lower > bracket.lower or bracket.incumbent is None
        ):
            bracket.lower, bracket.incumbent = (
                max(norm.lower, bracket.lower),
                Incumbent(norm, verdict),
            )
        value = min(norm.upper, max(bracket.upper, norm.lower))
        self.composition.park_region(pattern, value)
        return value


def solve_lp_relaxation(
    problem: Problem,
    bounds: Bounds,
    bracket: SearchState,
    solver: str,
    options: SolverSettings,
    *,
    deadline: float,
    on_progress: ProgressCallback | None = None,
) -> bool:
    """Lower the bracket's upper bound to the optimum of the program with relaxed gates (LipLP), and say if that did.

    Parameters and errors are those of :func:`solve_by_cuts`.
    """
    if _beyond(problem, bounds, bracket, deadline):
        return False
    proven = _proven(bracket)
    with _broken_off(bracket, solver):
        start = time.perf_counter()
        composition = compose(problem, bounds)
        composition.relax_gates()
        stats = {**composition.sizes, "build_seconds": time.perf_counter() - start}
        remaining = max(deadline - time.perf_counter(), 0.0)
        watch = _Watch(composition, bracket, StoppingRule(), 0.0, on_progress)
        limited = replace(options, time_limit=None if np.isinf(remaining) else remaining)
        outcome = solve(composition.model, solver, limited, watch)
        bracket.stats["solve_seconds"] = bracket.stats.get("solve_seconds", 0.0) + outcome.seconds
        bracket.termination = (
            RELAXATION if outcome.termination is Termination.OPTIMAL else outcome.termination.value
        )
        if outcome.message:
            bracket.stats["message"] = outcome.message
        if outcome.bound is not None:
            claim = composition.to_norm(outcome.bound) + composition.accuracy
            if claim < bracket.upper:
                bracket.upper, bracket.proof = float(claim), "solver"
            _reconcile(bracket, proven, solver)
        if bracket.upper < proven[0] or "variables" not in bracket.stats:
            bracket.stats |= stats
    return bracket.upper < proven[0]


@contextmanager
def _broken_off(bracket: SearchState, solver: str) -> Iterator[None]:
    """Let ctrl-C or a lack of memory end a search at any moment: the bounds are those that were there before."""
    proven = _proven(bracket)
    try:
        yield
    except KeyboardInterrupt:
        _reconcile(bracket, proven, solver)
        bracket.termination = Termination.INTERRUPTED.value
    except MemoryError:
        _reconcile(bracket, proven, solver)
        bracket.termination = Termination.LIMIT.value
        bracket.stats["message"] = "out of memory: the bounds are those before"


def _beyond(problem: Problem, bounds: Bounds, bracket: SearchState, deadline: float) -> bool:
    """Whether the program is too large to be built, which then is why the search stops."""
    count, late = coefficients(problem, bounds), time.perf_counter() > deadline
    if count <= (_LARGEST_LATE if late else _LARGEST):
        return False
    bracket.termination = (Termination.TIME_LIMIT if late else Termination.LIMIT).value
    bracket.stats["message"] = (
        f"the program has {count} coefficients and was not built: the bounds are those without it"
    )
    return True


class _Watch:
    """Looks on while a solver runs, and stops it when the goal is reached."""

    def __init__(
        self,
        composition: Composition,
        bracket: SearchState,
        goal: StoppingRule,
        settled: float,
        on_progress: ProgressCallback | None,
    ) -> None:
        self.composition, self.bracket, self.goal, self.settled = (
            composition,
            bracket,
            goal,
            settled,
        )
        self.on_progress = on_progress
        self.satisfied = False

    def __call__(self, moment: Progress) -> bool:
        """Report in the problem's own units, as a maximisation; True to stop."""
        to_norm = self.composition.to_norm
        incumbent, bound = (
            None if v is None else to_norm(v) for v in (moment.incumbent, moment.bound)
        )
        stopped = self.on_progress is not None and self.on_progress(
            replace(moment, incumbent=incumbent, bound=bound)
        )
        lower, upper = self.bracket.lower, self.bracket.upper
        if bound is not None:
            upper = min(upper, max(_trusted(self.composition, bound), self.settled, lower))
        # An incumbent above the target stops the solver, to be looked at.
        found = (
            self.goal.target is not None
            and incumbent is not None
            and incumbent > self.goal.target >= self.settled
        )
        self.satisfied = not stopped and (found or self.goal.is_met(lower, upper))
        return bool(stopped) or self.satisfied


def _ceiling(composition: Composition, outcome: SolverOutcome, settled: float) -> float:
    """What the solver claims of all patterns that are not cut off, as far as its accuracy goes."""
    if outcome.bound is None:
        return np.inf
    ceiling = composition.to_norm(outcome.bound)
    if composition.is_parked and ceiling < settled - composition.accuracy:
        return (
            0.0  # all others are worth less than what was settled, by more than a solver's accuracy
        )
    return _trusted(composition, ceiling)


def _trusted(composition: Composition, ceiling: float) -> float:
    """A solver's bound with what it may be off; that of a linear program is exact at a vertex, but for tiny values."""
    return (
        ceiling + composition.accuracy
        if composition.quadratic
        else max(ceiling, composition.accuracy)
    )


def _proven(bracket: SearchState) -> tuple[float, str]:
    """The upper bound, and what it rests on: to go back to."""
    return bracket.upper, bracket.proof


def _reconcile(bracket: SearchState, proven: tuple[float, str], solver: str) -> None:
    """Drop a solver's claim that a checked region contradicts by more than rounding."""
    upper, lower = bracket.upper, bracket.lower
    if lower > upper * (1 + EXACT_GAP):
        said = f"{solver} claimed that the constant is at most {upper:.17g}, but {lower:.17g} is attained"
        _refuse(bracket, proven, said)
    bracket.upper = max(bracket.upper, bracket.lower)


def _refuse(bracket: SearchState, proven: tuple[float, str], message: str) -> None:
    """Go back to an upper bound that needs no solver who was caught."""
    bracket.upper, bracket.proof = max(proven[0], bracket.lower), proven[1]
    bracket.termination = Termination.FAILED.value
    bracket.stats["message"] = message
