"""The linear relaxation of the program's gates (LipLP of Jordan and Dimakis, NeurIPS 2020)."""

from __future__ import annotations

import time

from lipexact.bounds.formulation import Formulation
from lipexact.mip.claims import SolverMonitor, noted, reconciled, seconds_for_solver, too_large
from lipexact.mip.model import compose
from lipexact.mip.solvers.base import SolverSettings, require_solver, solve
from lipexact.result import Proof, SearchStats, Termination
from lipexact.state import SearchState, SearchTask


def solve_lp_relaxation(
    formulation: Formulation, state: SearchState, task: SearchTask
) -> SearchState:
    """Lower the upper bound to the optimum of the program whose gates lie between off and on.

    Parameters and errors are those of :func:`lipexact.mip.cut_loop.solve_by_cuts`; the relaxation
    is solved to its end, whatever gap was asked for.

    Returns
    -------
    SearchState
        Its sizes are those of the first relaxation, or of the last one that lowered the bound.
    """
    require_solver(task.options.solver, quadratic=formulation.problem.quadratic)
    end = too_large(formulation, state, task.deadline)
    if end is not None:
        return end
    relaxation = _Relaxation(formulation, state, task)
    solver = task.options.solver
    try:
        relaxation.run()
    except KeyboardInterrupt:
        return reconciled(relaxation.state, state, solver).stopped(Termination.INTERRUPTED)
    except MemoryError:
        told = "out of memory: the bounds are those before"
        back = reconciled(relaxation.state, state, solver)
        return back.with_diagnostic("mip", told).stopped(Termination.LIMIT)
    return relaxation.state


class _Relaxation:
    """One relaxation and the state that it leads to."""

    def __init__(self, formulation: Formulation, state: SearchState, task: SearchTask) -> None:
        self.formulation = formulation
        self.before = state
        self.state = state
        self.task = task

    def run(self) -> None:
        """Build the relaxation, solve it, and take what the solver claims."""
        options = self.task.options
        start = time.perf_counter()
        composition = compose(self.formulation.problem, self.formulation.bounds)
        composition.relax_gates()
        sizes = {**composition.sizes, "build_seconds": time.perf_counter() - start}
        settings = SolverSettings(
            time_limit=seconds_for_solver(self.task),
            threads=options.threads or self.task.solver_threads,
            extra=options.solver_options,
        )
        monitor = SolverMonitor(composition, self.state, self.task.without_rule(), 0.0)
        outcome = solve(composition.model, options.solver, settings, monitor)
        spent = (self.state.stats.solve_seconds or 0.0) + outcome.seconds
        state = noted(self.state, options.solver, outcome).with_stats(solve_seconds=spent)
        if outcome.termination is Termination.OPTIMAL:
            state = state.stopped(Termination.RELAXATION)
        if outcome.bound is not None:
            claim = composition.to_norm(outcome.bound) + composition.accuracy
            state = state.with_upper(float(claim), Proof.SOLVER)
            state = reconciled(state, self.before, options.solver)
        if state.upper < self.before.upper or not _has_sizes(self.before.stats):
            state = state.with_stats(**sizes)
        self.state = state


def _has_sizes(stats: SearchStats) -> bool:
    return stats.variables is not None
