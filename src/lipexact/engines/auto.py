"""The default: branch and bound, unless the options or the network's size speak for a program."""

from __future__ import annotations

from concurrent.futures import Executor

from lipexact.bab.driver import fits
from lipexact.engines import find_engine
from lipexact.options import Options
from lipexact.state import SearchState, SearchTask, engine


@engine("auto")
class Automatic:
    """The rule that chooses an engine stands here and nowhere else.

    A program is made where `solver`, `mode` or `solver_options` say how, and where a single node of
    branch and bound would not fit into memory.
    """

    def prepare(self, options: Options, executor: Executor | None = None) -> None:
        """Prepare the engine that will probably be chosen."""
        find_engine("mip" if options.prescribes_program else "bab").prepare(options, executor)

    def search(self, state: SearchState, task: SearchTask) -> SearchState:
        """Let the chosen engine search."""
        problems = [each.problem for each in task.formulations]
        program = task.options.prescribes_program or not fits(problems)
        return find_engine("mip" if program else "bab").search(state, task)
