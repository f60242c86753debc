"""Times `lipexact.lipschitz` on the registered cases.

Prints a row for each case and configuration. With --json it prints JSON lines instead: the first
tells the environment, each further one is a row with its bounds, status, sizes, and the medians of
its times. --report keeps these lines in `benchmarks/reports/`, and writes the report that `python
-m benchmarks.report` makes of them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from fnmatch import fnmatchcase
from itertools import product
from typing import Any, TextIO

import lipexact as lx
from benchmarks.cases import CASES, Case, Skipped, known, question
from benchmarks.measure import Configuration, Record, contradiction, environment, measure
from benchmarks.report import REPORTS, markdown, read
from lipexact.mip.solvers.base import solver_names

SMOKE_SECONDS = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that the command line asks for; the number of failures."""
    options = parser().parse_args(arguments)
    if options.smoke:
        options.repeat, options.seconds = 1, min(options.seconds, SMOKE_SECONDS)
    names = [
        name for name in CASES if chosen(name, options.case, first=options.smoke or options.first)
    ]
    if options.list:
        return listing(names)
    if not names:
        print(f"no case matches {options.case}; --list shows them", file=sys.stderr)
        return 1
    records = []
    with ExitStack() as stack:
        file = stack.enter_context(lines(options.report)) if options.report else None
        for record in run(names, options):
            (as_json if options.json else as_row)(record)
            if file is not None:
                print(json.dumps(record), file=file, flush=True)
            records.append(record)
    if options.report:
        write(options.report)
    return summary(records)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    result.add_argument(
        "--smoke",
        action="store_true",
        help=f"each once, of families the first, for at most {SMOKE_SECONDS:g} s",
    )
    result.add_argument("--first", action="store_true", help="of families the first")
    result.add_argument(
        "--every-solver",
        action="store_true",
        help="branch and bound, and the program by each solver",
    )
    result.add_argument(
        "--list", action="store_true", help="say which cases there are, and run none"
    )
    result.add_argument(
        "--case", action="append", help="a name, or a pattern as mnist17_*; may be repeated; all"
    )
    result.add_argument(
        "--solver", action="append", help="may be repeated; one that can do the case"
    )
    result.add_argument("--method", action="append", help="may be repeated; auto by default")
    result.add_argument("--mode", action="append", help="may be repeated; auto by default")
    result.add_argument("--seconds", type=float, default=60.0, help="time limit of one solve")
    result.add_argument("--repeat", type=int, default=3, help="times to measure each")
    result.add_argument("--json", action="store_true", help="print JSON lines")
    result.add_argument(
        "--report", metavar="NAME", help="write NAME.jsonl and NAME.md in benchmarks/reports/"
    )
    return result


def chosen(name: str, patterns: Sequence[str] | None, *, first: bool) -> bool:
    """Whether a case is to be run."""
    if patterns is not None:
        return any(
            fnmatchcase(name, pattern) or CASES[name].family == pattern for pattern in patterns
        )
    return not first or CASES[name].member == 0


def listing(names: Sequence[str]) -> int:
    """Print what the cases are, of families the first, and what else was measured on them."""
    families = Counter(CASES[name].family for name in names)
    for family, count in families.items():
        entry = next(CASES[name] for name in names if CASES[name].family == family)
        peer = entry.peer
        beside = (
            ""
            if peer is None
            else f" ({peer.name}: {peer.note if peer.seconds is None else f'{peer.seconds:g} s'})"
        )
        print(f"{family:26} {entry.about}{f' {count} of them.' if count > 1 else ''}{beside}")
    return 0


def run(names: Sequence[str], options: argparse.Namespace) -> Iterator[Record]:
    """Yield the environment, then a record for each case and configuration."""
    yield environment({"seconds": options.seconds, "repeat": options.repeat})
    for name in names:
        for configuration in configurations(options):
            yield record(name, configuration, options.seconds, options.repeat)


def configurations(options: argparse.Namespace) -> list[Configuration]:
    """How each case is to be solved."""
    if options.every_solver:
        return [Configuration("bab"), *(Configuration("mip", solver) for solver in solver_names())]
    parts = (options.method or ["auto"], options.solver or [None], options.mode or ["auto"])
    return [Configuration(*choice) for choice in product(*parts)]


def record(name: str, configuration: Configuration, seconds: float, repeat: int) -> Record:
    """Return what came of a case; a failure is told at once, and the other cases go on."""
    entry = CASES[name]
    result: Record = {"case": name, "family": entry.family, "configuration": str(configuration)}
    result |= asdict(configuration) | {"peer": None if entry.peer is None else asdict(entry.peer)}
    try:
        asked = question(name)
        result["known"] = known(name, asked)
        check(asked, configuration)
        result |= measure(asked, configuration, seconds, repeat)
        wrong = contradiction(result, result["known"])
        if wrong is not None:
            result["error"] = wrong
    except Exception as error:  # noqa: BLE001 - of any kind: the others are still to be run
        reason = skipped(error, configuration)
        if reason is None:
            traceback.print_exc()
            result["error"] = f"{type(error).__name__}: {error}"
        else:
            result["skipped"] = reason
    return result


def check(asked: Case, configuration: Configuration) -> None:
    """Whether a case can be solved like that.

    Raises
    ------
    Skipped
        If it says that it cannot.
    """
    if configuration.solver is not None and configuration.solver not in asked.solvers:
        raise Skipped(
            f"the case is not for {configuration.solver}, but for {', '.join(asked.solvers)}"
        )


def skipped(error: Exception, configuration: Configuration) -> str | None:
    """Why an error is none of the case's failures, if so: what it needs is not here.

    A solver that is not here, or whose licence is too small, is a failure on CI, which installs all
    of them.
    """
    if isinstance(error, Skipped):
        return str(error)
    if isinstance(error, lx.OptionError) and str(error).startswith(
        f"method={configuration.method!r}"
    ):
        return str(error)
    if isinstance(error, lx.SolverUnavailableError) and os.environ.get("CI") != "true":
        return str(error)
    return None


def as_json(record: Mapping[str, Any]) -> None:
    """Print the record as one line of JSON."""
    print(json.dumps(record), flush=True)


def as_row(record: Mapping[str, Any]) -> None:
    """Print what a person looks for first."""
    if "case" not in record:
        print(
            *(f"{package} {version}" for package, version in record["versions"].items()),
            sep=", ",
            flush=True,
        )
        return
    row = f"{record['case']:26} {record['configuration']:10} "
    if "skipped" in record:
        row += f"skipped: {record['skipped']}"
    elif "seconds" not in record:
        row += record["error"]
    else:
        used = "/".join(
            part
            for part in (record["used_method"], record["used_solver"], record["used_mode"])
            if part
        )
        row += (
            f"{used:18} {record['status']:8} [{record['lower']:.9g}, {record['upper']:.9g}] "
            f"{record['seconds']:.2f} s"
        )
        row += f" {record['error']}" if "error" in record else ""
    print(row, flush=True)


def lines(name: str) -> TextIO:
    """Return the file of a report's JSON lines, opened anew."""
    REPORTS.mkdir(exist_ok=True)
    return (REPORTS / f"{name}.jsonl").open("w")


def write(name: str) -> None:
    """Write the report of what was measured."""
    (REPORTS / f"{name}.md").write_text(markdown(read(REPORTS / f"{name}.jsonl")))


def summary(records: Sequence[Mapping[str, Any]]) -> int:
    """Say on stderr what was skipped, and last what failed, and why; the number of failures."""
    rows = [record for record in records if "case" in record]
    for what in ("skipped", "error"):
        told = [row for row in rows if what in row]
        if told:
            verb = "skipped" if what == "skipped" else "FAILED"
            print(f"benchmarks.run: {len(told)} of {len(rows)} {verb}:", file=sys.stderr)
        for row in told:
            print(
                f"  {row['case']} ({row['configuration']}): {' '.join(row[what].split())}",
                file=sys.stderr,
            )
    return sum("error" in row for row in rows)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
