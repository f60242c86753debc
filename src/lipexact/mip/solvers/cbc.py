"""CBC, a program of its own, through Pyomo's legacy interface.

CBC is as good as the others only because ``increment`` is 0 here: by default it passes over
solutions that are better by less than 1e-5.
"""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyomo.common import Executable
from pyomo.common.tempfiles import TempfileManager
from pyomo.opt.results import SolverResults
from pyomo.solvers.plugins.solvers.CBCplugin import CBCSHELL

from lipexact.errors import OptionError
from lipexact.mip.solvers.base import (
    OptionNames,
    SolverOutcome,
    SolverSettings,
    Termination,
    Watch,
    load_solution,
    register,
)

_OPTIONS = OptionNames(
    gap="ratioGap",
    absolute_gap="allowableGap",
    threads="threads",
    time_limit="sec",
    seed="randomCbcSeed",
    node_limit="maxNodes",
)

# Pyomo keeps its temporary files on one stack: one thread at a time.
_FILES_LOCK = threading.RLock()
# Pyomo takes a limit of 0 for none.
_MIN_SECONDS = 0.01
# CBC prints some bounds with 8 digits, others with 3 decimals; by how much they may be too large.
_EIGHT_DIGITS = 1e-7
_THREE_DECIMALS = 0.5e-3
# The objective of CBC's solution file and that of its log may differ by this, relative to them.
_OBJECTIVE_TOLERANCE = 1e-6
# The values of integer variables in CBC's solution file may be off by this.
_INTEGER_TOLERANCE = 1e-4

_NUMBER = r"(-?[\d.]+(?:e[+-]?\d+)?)"
_TREE = re.compile(
    rf"After (\d+) nodes, \d+ on tree, {_NUMBER} best solution, best possible {_NUMBER}"
)
_SOLUTION = re.compile(rf"Integer solution of {_NUMBER} found .* (\d+) nodes")
_PARTIAL = re.compile(rf"Partial search - best objective .*\(best possible {_NUMBER}\)")
_LOWER = re.compile(rf"Lower bound: +{_NUMBER}")
_RESULT = re.compile(r"Result - (.*)")
_NODES = re.compile(r"Enumerated nodes: +(\d+)")
_OBJECTIVE = re.compile(rf"Objective value: +{_NUMBER}")
_REFUSED = re.compile(
    r"No match for|Multiple matches for|was provided for .* valid range|"
    r"is illegal for \w+ parameter|Possible options for"
)


class _Cbc(CBCSHELL):  # type: ignore[misc]
    """Pyomo's CBC, under a watch; its log and its solution file are handed on as they are.

    Pyomo's reading of both is left out: it calls a time-out without a solution infeasible, and
    takes a rounded lower bound.

    Attributes
    ----------
    lines : list of str
        The log.
    refused : str or None
        The line of the log in which CBC refuses an option.
    code : int or None
        The exit code.
    text, doubles : str, bytes
        The solution file, and its binary form.
    """

    def __init__(self, watch: Watch, has_extra_options: bool) -> None:
        super().__init__()
        self.watch = watch
        self.has_extra_options = has_extra_options  # the only ones that CBC can refuse
        self.lines: list[str] = []
        self.refused: str | None = None
        self.interrupted = False
        self.ended = False
        self.code: int | None = None
        self.text = ""
        self.doubles = b""

    def create_command_line(self, executable: Any, problem_files: Any) -> Any:
        left = self.watch.remaining()  # writing the model's file took its share of the time
        self._timelimit = None if left is None else max(left, _MIN_SECONDS)
        command = super().create_command_line(executable, problem_files)
        # The solution file that Pyomo asks for has the names, but 8 digits; this one has doubles.
        self._binary_file = TempfileManager.create_tempfile(suffix=".cbc.bin")
        command.cmd.extend(["-saveSolution", self._binary_file])
        TempfileManager.add_tempfile(self._soln_file, exists=False)
        return command

    def _execute_command(self, command: Any) -> tuple[int, str]:
        # In a session of its own CBC gets no ctrl-C of the terminal: this process passes it on.
        with subprocess.Popen(
            command.cmd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                self.watch.run(lambda: self._read_log(process), lambda: self._stop(process))
            finally:
                if not self.ended:
                    _send_signal(process, kill=True)
        self.code = process.returncode
        return 0, "\n".join(self.lines)  # of a failing code, Pyomo would log an error and raise it

    def _stop(self, process: subprocess.Popen[str]) -> None:
        """Ask CBC to end the search and write its solution; the second time, kill it."""
        _send_signal(process, kill=self.interrupted)
        self.interrupted = True

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        """Read the log until CBC ends, and report its progress to the watch."""
        incumbent = None
        bound = None
        nodes = None
        assert process.stdout is not None  # it is a pipe
        for raw in process.stdout:
            line = raw.rstrip()
            self.lines.append(line)
            if self.has_extra_options and self.refused is None and _REFUSED.search(line):
                self.refused = line.strip(" <;")  # CBC would go on without the option
                _send_signal(process, kill=True)
            if match := _TREE.search(line):
                nodes = int(match[1])
                incumbent = float(match[2])
                bound = float(match[3])
            elif match := _SOLUTION.search(line):
                incumbent = float(match[1])
                nodes = int(match[2])
            self.watch.record(incumbent, bound, nodes)
        process.wait()
        self.ended = True

    def process_logfile(self) -> Any:
        return SolverResults()

    def process_soln_file(self, _results: Any) -> None:
        path = Path(self._soln_file)
        self.text = path.read_text(errors="replace") if path.exists() else ""
        self.doubles = Path(self._binary_file).read_bytes()

    @property
    def header(self) -> str:
        """The first line of the solution file, which has CBC's status."""
        return self.text.partition("\n")[0].strip()

    def last_match(self, pattern: re.Pattern[str]) -> str | None:
        """Return the group of a pattern in the last line of the log that has it."""
        matches = (pattern.search(line) for line in reversed(self.lines))
        return next((str(match[1]) for match in matches if match), None)


def _send_signal(process: subprocess.Popen[str], kill: bool) -> None:
    """Interrupt or kill CBC and, where a script stands in its place, what that has started."""
    if os.name == "nt":
        process.kill()
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL if kill else signal.SIGINT)


@register(
    "cbc",
    remedy="apt-get install coinor-cbc (or put the program cbc on the PATH)",
    present=lambda: bool(Executable("cbc")),
    option_names=_OPTIONS,
)
def solve_cbc(model: Any, settings: SolverSettings, watch: Watch) -> SolverOutcome:
    """Solve a model by CBC."""
    options: dict[str, Any] = {
        _OPTIONS.gap: settings.gap,
        _OPTIONS.absolute_gap: 0.0,
        "increment": 0.0,
    }
    if settings.threads is not None:
        options[_OPTIONS.threads] = settings.threads
    cbc = _Cbc(watch, has_extra_options=bool(settings.extra))
    with _FILES_LOCK, _ended_by_signals(), _files_removed():
        results = cbc.solve(model, load_solutions=False, options=options | dict(settings.extra))
    if cbc.refused is not None:
        raise OptionError(
            f"CBC does not take one of the options {dict(settings.extra)}: {cbc.refused}"
        )
    return _read_outcome(cbc, results._smap, watch)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Raise SystemExit on a signal that ends this process, so that CBC and its files are removed.

    CBC is in a session of its own: it would not get the signal, and go on alone.
    """
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        signals = []  # only the main thread can set handlers
    unhandled = [number for number in signals if signal.getsignal(number) is signal.SIG_DFL]

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    for number in unhandled:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in unhandled:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _files_removed() -> Iterator[None]:
    """Remove the files that Pyomo makes, which it does itself only where no error is raised."""
    outermost = TempfileManager.push()
    try:
        yield
    finally:
        while TempfileManager.pop() is not outermost:
            pass


def _read_outcome(cbc: _Cbc, symbols: Any, watch: Watch) -> SolverOutcome:
    """Return the outcome of a solve that has ended, and load its solution."""
    header = cbc.header
    printed = cbc.last_match(_NODES)
    nodes = None if printed is None else int(printed)
    if cbc.code != 0 or not header:
        termination = watch.stop_reason if watch.cancelled else Termination.FAILED
        last = next((line for line in reversed(cbc.lines) if line), "it printed nothing")
        message = f"CBC ended with code {cbc.code}: {last}"
        return SolverOutcome(termination, None, None, nodes, watch.seconds, message)
    result = cbc.last_match(_RESULT) or ""
    termination = _read_status(header, result, watch)
    incumbent = None
    has_solution = header.startswith(("Optimal", "Stopped")) and "no integer solution" not in header
    if has_solution and termination is not Termination.FAILED:
        objective, values = _read_solution(cbc.text, cbc.doubles, symbols)
        if (logged := _other_logged_objective(cbc, objective)) is not None:
            message = f"CBC wrote a solution of {objective}, and {logged} into its log"
            return SolverOutcome(Termination.FAILED, None, None, nodes, watch.seconds, message)
        if _is_integral(values):
            incumbent = objective
            load_solution(values)
    bound = _read_bound(cbc, termination, result, incumbent)
    return SolverOutcome(termination, bound, incumbent, nodes, watch.seconds, f"CBC: {header}")


def _read_status(header: str, result: str, watch: Watch) -> Termination:
    """Return the termination of a solve.

    Parameters
    ----------
    header
        The first line of the solution file.
    result
        The line "Result - ..." of the log, which only a MIP has.
    watch
        Its clock decides whether CBC had the time to prove infeasibility.
    """
    if "ctrl-c" in result or "ctrl-c" in header:
        return watch.stop_reason
    if header.startswith("Optimal"):
        agrees = not result or result.startswith("Optimal")
        return Termination.OPTIMAL if agrees else Termination.FAILED
    if header.startswith(("Infeasible", "Integer infeasible")):
        # Out of time, CBC may call a model infeasible that it has not finished.
        return Termination.TIME_LIMIT if watch.overdue else Termination.INFEASIBLE
    if header.startswith("Stopped on time") or result.startswith("Stopped on time"):
        return Termination.TIME_LIMIT
    if header.startswith("Stopped on") and "difficulties" not in header:
        return Termination.LIMIT
    return Termination.FAILED


def _other_logged_objective(cbc: _Cbc, objective: float) -> str | None:
    """Return the objective of CBC's log if it is not that of the solution file.

    Out of time, CBC has written another point than the incumbent of its log (Cbc issue 709).
    """
    logged = cbc.last_match(_OBJECTIVE)
    room = _OBJECTIVE_TOLERANCE * max(1.0, abs(objective))
    return logged if logged is not None and abs(float(logged) - objective) > room else None


def _is_integral(values: list[tuple[Any, float]]) -> bool:
    """Return whether all integer variables have integer values."""
    return all(
        abs(value - round(value)) < _INTEGER_TOLERANCE
        for variable, value in values
        if variable.is_integer()
    )


def _read_bound(
    cbc: _Cbc, termination: Termination, result: str, incumbent: float | None
) -> float | None:
    """Return the lower bound; where CBC has printed it, lowered by what was rounded."""
    if termination is Termination.OPTIMAL and "gap tolerance" not in result:
        return incumbent
    if (printed := cbc.last_match(_PARTIAL)) is not None:
        return float(printed) - _EIGHT_DIGITS * abs(float(printed))
    if termination is Termination.OPTIMAL and (printed := cbc.last_match(_LOWER)) is not None:
        return float(printed) - _THREE_DECIMALS
    return None


def _read_solution(
    text: str, doubles: bytes, symbols: Any
) -> tuple[float, list[tuple[Any, float]]]:
    """Return the objective, and the variables with their values.

    The names are from the text file, the numbers from the binary one. The binary file holds the
    numbers of rows and columns, the objective, the rows' activities and duals, the columns' values
    and reduced costs; the text file lists rows, then columns, in the same order.
    """
    rows, columns = struct.unpack_from("=ii", doubles)
    numbers = struct.unpack_from(f"={1 + 2 * rows + 2 * columns}d", doubles, 8)
    names = [line.replace("**", "").split()[1] for line in text.splitlines()[1 + rows :]]
    values = numbers[1 + 2 * rows : 1 + 2 * rows + columns]
    variables = (
        (symbols.bySymbol.get(name), value) for name, value in zip(names, values, strict=True)
    )
    # A constant objective is carried by a column of its own that has no variable.
    return numbers[0], [(variable, value) for variable, value in variables if variable is not None]
