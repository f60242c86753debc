"""Progress on stderr: a live line or bar in a terminal, and elsewhere a line now and then."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from typing_extensions import Self

from lipexact.errors import OptionError

if TYPE_CHECKING:
    from rich.progress import Progress as LiveDisplay

SECONDS_BETWEEN_LINES = 5.0

_C = TypeVar("_C", bound=Callable[..., Any])


class Moment(Protocol):
    """How far a computation is; as a string, what is shown of it.

    A moment of several parts says by `done`, `total` and `remaining` (parts with a result, all
    parts, and seconds) how many of them there are.
    """

    @property
    def seconds(self) -> float:
        """Seconds since the computation began."""


class ProgressReporter:
    """A progress callback that shows each moment on stderr.

    In a terminal, while the reporter is open (``with reporter: ...``), it is a line or a bar that
    changes. Elsewhere it is a plain line every few seconds, and one at the end of whatever had a
    line before.

    Parameters
    ----------
    text
        What is shown in a terminal before the first moment.
    bar
        Whether moments have parts, for a bar.
    seconds_before
        Seconds of computation before the first line.
    seconds_between
        Seconds between two lines.
    quiet
        Whether nothing is to be shown at all.
    """

    def __init__(
        self,
        text: str = "",
        *,
        bar: bool = False,
        seconds_before: float = 0.0,
        seconds_between: float = SECONDS_BETWEEN_LINES,
        quiet: bool = False,
    ) -> None:
        self._quiet = quiet
        self._seconds_between = seconds_between
        self._next_line = seconds_before
        self._has_lines = False
        self._display = None if quiet else _live_display(bar)
        if self._display is not None:
            self._task = self._display.add_task(text, total=None)

    def __enter__(self) -> Self:
        if self._display is not None:
            self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._display is not None:
            self._display.stop()

    def __call__(self, moment: Moment) -> None:
        if self._display is not None:
            done = getattr(moment, "done", None)
            total = getattr(moment, "total", None)
            text = str(moment)
            self._display.update(self._task, description=text, completed=done, total=total)
            return
        is_last = self._has_lines and getattr(moment, "remaining", None) == 0
        if moment.seconds >= self._next_line or is_last:
            self._print(str(moment))
            # Batches may report their end twice.
            self._next_line = math.inf if is_last else moment.seconds + self._seconds_between
            self._has_lines = not is_last

    def announce(self, text: str) -> None:
        """Show what begins now."""
        if self._display is not None:
            self._display.update(self._task, description=text)
        else:
            self._print(text)

    def _print(self, text: str) -> None:
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)


def make_callback(progress: bool | _C, *, bar: bool = False) -> _C | ProgressReporter | None:
    """Return the function that the option `progress` asks to call; None for none.

    Raises
    ------
    OptionError
        If the option is neither True or False nor a function.
    """
    if not (isinstance(progress, bool) or callable(progress)):
        raise OptionError(f"progress must be True, False or a function, not {progress!r}")
    if not isinstance(progress, bool):
        return progress
    return ProgressReporter("bounds and samples", bar=bar) if progress else None


def displayed(callback: object) -> AbstractContextManager[object]:
    """Return the context in which a callback is shown live; other functions need none."""
    return callback if isinstance(callback, ProgressReporter) else nullcontext()


def _live_display(bar: bool) -> LiveDisplay | None:
    """Return what rich shows on a terminal at stderr; None if there is no terminal."""
    from rich.console import Console  # noqa: PLC0415 - not needed where no progress is shown
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    # A line that is too long for the terminal is folded, not cut.
    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=False))
    return Progress(
        SpinnerColumn("line"),
        *([BarColumn()] if bar else []),
        text,
        console=console,
        transient=not bar,
        # What is printed to a terminal goes above the line; a pipe gets it as it is.
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )
