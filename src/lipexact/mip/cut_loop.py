"""The outer approximation loop: solve the program, check what it found, cut it off, and go on.

Every optimum of the program is an activation pattern. A pattern of a linear region with interior in
the domain gives a lower bound, its Jacobian's norm computed anew; a pattern without a region is cut
off, with all patterns that share the gates which rule it out. The solver's dual bound, together
with the values of the regions that were parked, is the upper bound, unless a checked region
contradicts it. So the answer needs no general position, and no solver's incumbent is believed.
"""

from __future__ import annotations

import time
from dataclasses import replace

from lipexact.bounds.formulation import Formulation
from lipexact.graph.pattern import Pattern
from lipexact.mip import constants
from lipexact.mip.claims import (
    SolverMonitor,
    claimed_bound,
    noted,
    reconciled,
    refused,
    seconds_for_solver,
    too_large,
)
from lipexact.mip.model import compose
from lipexact.mip.solvers.base import SolverOutcome, SolverSettings, require_solver, solve
from lipexact.regions.feasibility import Empty, LinearRegion, decide_region
from lipexact.regions.heuristics import Incumbent
from lipexact.regions.operator_norm import jacobian_norm
from lipexact.result import Proof, Termination
from lipexact.state import SearchState, SearchTask


def solve_by_cuts(formulation: Formulation, state: SearchState, task: SearchTask) -> SearchState:
    """Tighten both bounds by a mixed-integer program, as far as time, memory or ctrl-C allow.

    Parameters
    ----------
    formulation
        The problem in one mode, with the bounds of every node of its graph.
    state
        Valid bounds to start from.
    task
        When to stop, and the solver.

    Returns
    -------
    SearchState

    Raises
    ------
    SolverUnavailableError
        If the solver is not installed, its licence is too small, or it cannot solve quadratic
        programs.
    SolverError
        If the solver breaks down.
    """
    require_solver(task.options.solver, quadratic=formulation.problem.quadratic)
    end = too_large(formulation, state, task.deadline)
    if end is not None:
        return end
    loop = _OuterApproximation(formulation, state, task)
    loop.run()
    state = loop.state
    if state.termination is Termination.OPTIMAL and not state.meets(task.rule):
        return state.stopped(Termination.UNDECIDED)
    return state


class _OuterApproximation:
    """A program, the patterns that were cut off from it, and the state that this has led to.

    Parameters
    ----------
    formulation, state, task
        As for :func:`solve_by_cuts`.
    """

    def __init__(self, formulation: Formulation, state: SearchState, task: SearchTask) -> None:
        self.formulation = formulation
        self.problem = formulation.problem
        self.state = state
        self.proven = state  # to go back to
        self.task = task
        self.solver = task.options.solver
        self.idle = 0  # rounds in a row that tightened nothing
        self.seen: set[bytes] = set()
        self.parked = (
            0.0  # the largest value of a pattern that is, or may be, a region, and was cut
        )

    def run(self) -> None:
        """Iterate until the rule is met, nothing more can be done, or the time is up.

        Ctrl-C or a lack of memory may end it at any moment: the bounds are those before.
        """
        try:
            self._build()
            while not self.state.meets(self.task.rule):
                if self.task.seconds_left <= 0:
                    self.state = self.state.stopped(Termination.TIME_LIMIT)
                    break
                if not self._iterate():
                    break
        except KeyboardInterrupt:
            state = reconciled(self.state, self.proven, self.solver)
            self.state = state.stopped(Termination.INTERRUPTED)
        except MemoryError:
            state = reconciled(self.state, self.proven, self.solver)
            told = "out of memory: the bounds are those before"
            self.state = state.with_diagnostic("mip", told).stopped(Termination.LIMIT)

    def _build(self) -> None:
        """Build the program."""
        start = time.perf_counter()
        self.composition = compose(self.problem, self.formulation.bounds)
        counts = {
            "nodes": 0,
            "rounds": 0,
            "excluded": 0,
            "solve_seconds": 0.0,
            "certify_seconds": 0.0,
        }
        seconds = time.perf_counter() - start
        self._count(**self.composition.sizes, **counts, build_seconds=seconds)

    def _count(self, **numbers: float) -> None:
        self.state = self.state.with_stats(**numbers)

    def _iterate(self) -> bool:
        """Solve the program, check its solution, and cut it off.

        Returns
        -------
        bool
            Whether another round can help.
        """
        before = self.state
        monitor = SolverMonitor(self.composition, self.state, self.task, self.parked)
        outcome = solve(self.composition.model, self.solver, self._settings(), monitor)
        start = time.perf_counter()
        stats = self.state.stats
        self.state = noted(self.state, self.solver, outcome)
        self._count(
            solve_seconds=(stats.solve_seconds or 0.0) + outcome.seconds,
            nodes=(stats.nodes or 0) + (outcome.nodes or 0),
            rounds=(stats.rounds or 0) + 1,
        )
        lie = self._lie(outcome)
        if lie is not None:
            return self._refuse(lie)
        claim = max(claimed_bound(self.composition, outcome, self.parked), self.parked)
        has_pattern = outcome.incumbent is not None and not self.composition.is_parked
        if has_pattern and not self._check_new_pattern(self.composition.pattern()):
            return self._refuse("returned a pattern that was cut off")
        self.state = self.state.with_upper(float(claim), Proof.SOLVER)
        caught = self.state.lower > self.state.upper + self.composition.accuracy
        self.state = reconciled(self.state, self.proven, self.solver)
        spent = time.perf_counter() - start
        self._count(certify_seconds=(self.state.stats.certify_seconds or 0.0) + spent)
        if caught:  # by more than its accuracy: nothing else that it says is believed
            return False
        tightened = (self.state.lower, self.state.upper) != (before.lower, before.upper)
        self.idle = 0 if tightened else self.idle + 1
        return self._can_go_on(outcome, has_pattern, monitor.satisfied)

    def _can_go_on(self, outcome: SolverOutcome, has_pattern: bool, satisfied: bool) -> bool:
        """Return whether another round can help; `satisfied` says that the monitor stopped it."""
        if self.state.meets(self.task.rule):
            return True
        if self.idle >= constants.MAX_IDLE_ROUNDS or self.state.upper <= self.parked:
            if outcome.termination is Termination.OPTIMAL:
                self.state = self.state.stopped(Termination.UNDECIDED)
            return False
        if not has_pattern:
            return satisfied and self.idle == 0
        return satisfied or outcome.termination is Termination.OPTIMAL

    def _settings(self) -> SolverSettings:
        """Return what the solver is told."""
        options = self.task.options
        return SolverSettings(
            time_limit=seconds_for_solver(self.task),
            gap=self.task.rule.gap,
            threads=options.threads or self.task.solver_threads,
            extra=options.solver_options,
        )

    def _lie(self, outcome: SolverOutcome) -> str | None:
        """Return what the solver says that cannot be true; None where there is nothing."""
        if outcome.termination is Termination.INFEASIBLE:
            # The program always has a solution, a parked region if no other: nothing is known.
            return "calls the program infeasible, which it is not"
        bound = outcome.bound
        if bound is not None and self.composition.to_norm(bound) < self.composition.least:
            return "claims a bound below 0, which no norm is"
        return None

    def _refuse(self, what: str) -> bool:
        """End the search, and drop all that the solver has claimed."""
        message = f"{self.solver} {what}"
        self.state = refused(self.state, self.proven, message)
        return False

    def _check_new_pattern(self, pattern: Pattern) -> bool:
        """Decide a pattern and cut it off; return False if it had been cut off before."""
        fingerprint = b"".join(states.tobytes() for states in pattern)
        if fingerprint in self.seen:
            return False
        self.seen.add(fingerprint)
        self.parked = max(self.parked, self._check_pattern(pattern))
        self._count(excluded=(self.state.stats.excluded or 0) + 1)
        return True

    def _check_pattern(self, pattern: Pattern) -> float:
        """Decide a pattern, cut it off, and raise the lower bound where it is a better region.

        Returns
        -------
        float
            The value of the pattern where it is a region, or could not be shown to be none; else 0.
        """
        problem = self.problem
        verdict = decide_region(problem.network, problem.domain, pattern)
        if isinstance(verdict, Empty):
            self.composition.add_nogood(verdict.pattern)
            return 0.0
        norm = jacobian_norm(problem.network, problem.functionals, problem.directions, pattern)
        if isinstance(verdict, LinearRegion):
            state = self.state
            if norm.lower > state.lower or state.incumbent is None:
                best = max(norm.lower, state.lower)
                self.state = replace(state, lower=best, incumbent=Incumbent(norm, verdict))
        value = min(norm.upper, max(self.state.upper, norm.lower))
        self.composition.park_region(pattern, value)
        return value
