"""The linear relaxation of the program's gates alone (LipLP)."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import replace

from lipexact.bounds.formulation import cheapest
from lipexact.engines.mip import prepare_program
from lipexact.options import Options
from lipexact.result import Termination
from lipexact.state import SearchState, SearchTask, engine


@engine("lp")
class LinearRelaxation:
    """An upper bound: the optimum with gates between off and on, in one mode or the best of both.

    Source: LipLP of Jordan and Dimakis, NeurIPS 2020.
    """

    def prepare(self, options: Options, executor: Executor | None = None) -> None:
        """Import Pyomo, and refuse an executor and a solver that is not installed."""
        prepare_program(options, executor)

    def search(self, state: SearchState, task: SearchTask) -> SearchState:
        """Solve the relaxation of each formulation, the cheapest one first."""
        from lipexact.mip.relaxation import solve_lp_relaxation  # noqa: PLC0415 - Pyomo's import

        first = cheapest(task.formulations, state.lower)
        state = replace(state, engine="lp", mode=first.problem.mode, solver=task.options.solver)
        for each in sorted(task.formulations, key=lambda one: one is not first):
            found = solve_lp_relaxation(each, state, task)
            if found.upper < state.upper:
                found = replace(found, mode=each.problem.mode)
            state = found
            if state.termination is not Termination.RELAXATION or state.meets(task.rule):
                break
        return state
