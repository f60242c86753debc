"""A mixed-integer program, solved again and again until its optimum is a linear region."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import replace
from importlib import import_module

from lipexact.bounds.formulation import cheapest
from lipexact.errors import OptionError
from lipexact.options import DEFAULT_SOLVER, Options
from lipexact.state import SearchState, SearchTask, engine


@engine("mip")
class MixedIntegerProgram:
    """The program of the formulation that promises the least work, for the solver asked for."""

    def prepare(self, options: Options, executor: Executor | None = None) -> None:
        """Import Pyomo, and refuse an executor and a solver that is not installed."""
        prepare_program(options, executor)

    def search(self, state: SearchState, task: SearchTask) -> SearchState:
        """Solve, check what comes, cut it off, and go on until the bounds meet."""
        from lipexact.mip.cut_loop import solve_by_cuts  # noqa: PLC0415 - Pyomo's import is long

        chosen = cheapest(task.formulations, state.lower)
        mode, solver = chosen.problem.mode, task.options.solver
        state = replace(state, engine="mip", mode=mode, solver=solver)
        return solve_by_cuts(chosen, state, task)


def prepare_program(options: Options, executor: Executor | None) -> None:
    """Prepare an engine that solves programs through Pyomo.

    Raises
    ------
    OptionError, SolverUnavailableError
    """
    if executor is not None:
        raise OptionError(
            f"executor is for branch and bound; method={options.method!r} leaves all to one solver"
        )
    import_module("lipexact.mip.cut_loop")
    if options.solver != DEFAULT_SOLVER:  # which comes along
        from lipexact.mip.solvers.base import require_solver  # noqa: PLC0415

        require_solver(options.solver)
