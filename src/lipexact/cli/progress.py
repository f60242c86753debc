"""Progress of a command on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from lipexact.progress import ProgressReporter

SECONDS_BETWEEN_LINES = 10.0  # where stderr is no terminal; the first line comes after as many


@contextmanager
def reported(quiet: bool, text: str, *, bar: bool = False) -> Iterator[ProgressReporter]:
    """Show progress, and send what solvers print by themselves to stderr, too.

    Parameters
    ----------
    quiet
        Whether nothing is to be shown.
    text
        What is shown in a terminal at first.
    bar
        Whether to show a bar.
    """
    reporter = ProgressReporter(
        text,
        bar=bar,
        seconds_before=SECONDS_BETWEEN_LINES,
        seconds_between=SECONDS_BETWEEN_LINES,
        quiet=quiet,
    )
    with reporter, redirect_stdout(sys.stderr):
        yield reporter
