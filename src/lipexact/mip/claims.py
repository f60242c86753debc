"""What is believed of a solver: its bounds up to their accuracy, unless a region contradicts them.

A solver's incumbent is never believed: its pattern is decided exactly. A solver that is caught in
a false claim loses all its claims, and the bounds that need no solver remain.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from lipexact.bounds.formulation import Formulation
from lipexact.mip import constants
from lipexact.mip.model import Composition, count_coefficients
from lipexact.mip.solvers.base import SolverOutcome
from lipexact.result import EXACT_GAP, Termination
from lipexact.state import Progress, SearchState, SearchTask


def too_large(formulation: Formulation, state: SearchState, deadline: float) -> SearchState | None:
    """Return the state that ends a search whose program is too large to be built; else None."""
    count = count_coefficients(formulation.problem, formulation.bounds)
    late = time.perf_counter() > deadline
    if count <= (constants.MAX_LATE_COEFFICIENTS if late else constants.MAX_COEFFICIENTS):
        return None
    told = (
        f"the program has {count} coefficients and was not built: the bounds are those without it"
    )
    termination = Termination.TIME_LIMIT if late else Termination.LIMIT
    return state.with_diagnostic("mip", told).stopped(termination)


def noted(state: SearchState, solver: str, outcome: SolverOutcome) -> SearchState:
    """Return the state with why the solver stopped, and what it says of an early end."""
    state = state.stopped(outcome.termination)
    if outcome.termination is Termination.OPTIMAL or not outcome.message:
        return state
    said = any(each.message == outcome.message for each in state.diagnostics)
    return state if said else state.with_diagnostic(solver, outcome.message)


def trusted(composition: Composition, ceiling: float) -> float:
    """Return a solver's bound of the norm, raised by what it may be off.

    The bound of a linear program is exact at a vertex, but for tiny values.
    """
    if composition.quadratic:
        return ceiling + composition.accuracy
    return max(ceiling, composition.accuracy)


def claimed_bound(composition: Composition, outcome: SolverOutcome, parked: float) -> float:
    """Return what the solver claims of the patterns that are not cut off, with its accuracy.

    Parameters
    ----------
    composition
        The program, with the solution that the solver returned.
    outcome
        The solver's own bound.
    parked
        The largest value of a region that was cut off.
    """
    if outcome.bound is None:
        return np.inf
    ceiling = composition.to_norm(outcome.bound)
    if composition.is_parked and ceiling < parked - composition.accuracy:
        return 0.0  # all others are worth less than what was parked, by more than the accuracy
    return trusted(composition, ceiling)


def reconciled(state: SearchState, proven: SearchState, solver: str) -> SearchState:
    """Return the state without a solver's claim that a checked region contradicts.

    Parameters
    ----------
    state
        The state with the claim.
    proven
        An earlier state, whose upper bound needs no claim of this search.
    solver
        The solver's name.
    """
    if state.lower > state.upper * (1 + EXACT_GAP):
        said = f"{solver} claimed that the constant is at most {state.upper:.17g}, "
        return refused(state, proven, said + f"but {state.lower:.17g} is attained")
    return replace(state, upper=max(state.upper, state.lower))


def refused(state: SearchState, proven: SearchState, message: str) -> SearchState:
    """Return the state with the upper bound of an earlier one, since the solver was caught."""
    upper = max(proven.upper, state.lower)
    back = replace(state, upper=upper, proof=proven.proof)
    return back.with_diagnostic("mip", message).stopped(Termination.FAILED)


class SolverMonitor:
    """Watches a running solver, and stops it when the stopping rule is met.

    Parameters
    ----------
    composition
        The program.
    state, task
        What is known when the solver begins.
    parked
        The largest value of a region that was cut off from the program.
    """

    def __init__(
        self, composition: Composition, state: SearchState, task: SearchTask, parked: float
    ) -> None:
        self.composition = composition
        self.state = state
        self.task = task
        self.parked = parked
        self.satisfied = False

    def __call__(self, moment: Progress) -> bool:
        """Report progress in the constant's own units; return True to stop the solver."""
        to_norm = self.composition.to_norm
        incumbent = None if moment.incumbent is None else to_norm(moment.incumbent)
        bound = None if moment.bound is None else to_norm(moment.bound)
        stopped = self._report(moment, incumbent, bound)
        lower = self.state.lower
        upper = self.state.upper
        if bound is not None:
            upper = min(upper, max(trusted(self.composition, bound), self.parked, lower))
        # An incumbent above the target stops the solver, to be checked.
        target = self.task.rule.target
        above = target is not None and incumbent is not None and incumbent > target >= self.parked
        self.satisfied = not stopped and (above or self.task.rule.is_met(lower, upper))
        return stopped or self.satisfied

    def _report(self, moment: Progress, incumbent: float | None, bound: float | None) -> bool:
        """Call the callback with bounds that hold; return whether it wants the search to end."""
        if self.task.on_progress is None:
            return False
        lower = self.state.lower
        upper = self.state.upper
        if bound is not None:
            upper = min(upper, max(bound, lower))
        best = max(lower, incumbent or 0.0)
        return bool(self.task.on_progress(replace(moment, incumbent=best, bound=upper)))


def seconds_for_solver(task: SearchTask) -> float | None:
    """Return the seconds until the deadline; None where there is none."""
    return None if np.isinf(task.deadline) else task.seconds_left
