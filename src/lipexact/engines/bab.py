"""Branch and bound on the network's gates."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import replace

from lipexact.bab.driver import branch
from lipexact.errors import OptionError
from lipexact.options import DEFAULT_SOLVER, Options
from lipexact.state import SearchState, SearchTask, engine


@engine("bab")
class BranchAndBound:
    """Takes all norms, and solves its small linear programs by HiGHS."""

    def prepare(self, options: Options, executor: Executor | None = None) -> None:  # noqa: ARG002
        """Refuse a solver and its options, which it would not use."""
        if options.solver != DEFAULT_SOLVER or options.solver_options:
            raise OptionError(
                "method='bab' solves its linear programs by HiGHS, without options: "
                "leave the solver out"
            )

    def search(self, state: SearchState, task: SearchTask) -> SearchState:
        """Split regions by their gates until the bounds meet, or as far as time allows."""
        return branch(replace(state, engine="bab"), task)
