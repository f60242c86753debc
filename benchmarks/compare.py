"""Two runs of the benchmarks, as ratios: python -m benchmarks.compare OLD.jsonl NEW.jsonl.

Prints Markdown. Runs of different machines, versions or options are compared only with --anyway,
and the comparison begins with what differs. The exit code is 1 where results contradict each other,
and 2 where there is nothing to compare.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import NONE, Report, geometric_mean, number, read, seconds, table

SAME = ("python", "machine", "system", "processor", "cpus", "options", "versions")
OURS = "lipexact"  # its versions are what is compared
CLOSE = 2e-9  # relative: as far as two exact constants may be apart

Row = Mapping[str, Any]
Pair = tuple[Row, Row]


def differences(old: Report, new: Report) -> list[str]:
    """Return what differs between the runs beside the package itself, one line each."""
    before, after = (dict(leaves(report.environment)) for report in (old, new))
    return [
        f"{name}: {before.get(name, 'none')} before, {after.get(name, 'none')} now"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]


def leaves(environment: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what must be the same for times to be comparable."""
    for name in SAME:
        value = environment.get(name)
        if isinstance(value, Mapping):
            yield from ((key, each) for key, each in value.items() if key != OURS)
        elif value is not None:
            yield name, value


def pairs(old: Report, new: Report) -> list[Pair]:
    """Return the rows of both runs that answer the same question in the same configuration."""
    before = {key(row): row for row in old.rows if "seconds" in row}
    return [(before[key(row)], row) for row in new.rows if "seconds" in row and key(row) in before]


def key(row: Row) -> tuple[str, str]:
    """Return what a row is about."""
    return row["case"], row["configuration"]


def contradiction(old: Row, new: Row) -> str | None:
    """How two answers to one question exclude each other, if they do."""
    slack = CLOSE * max(abs(old["upper"]), abs(new["upper"])) if both_exact(old, new) else 0.0
    slack = max(slack, CLOSE * min(abs(old["upper"]), abs(new["upper"])))
    if max(old["lower"], new["lower"]) <= min(old["upper"], new["upper"]) + slack:
        return None
    return f"[{old['lower']!r}, {old['upper']!r}] before, [{new['lower']!r}, {new['upper']!r}] now"


def both_exact(old: Row, new: Row) -> bool:
    """Whether there are two constants."""
    return bool(old["status"] == new["status"] == "EXACT")


def speed(old: Row, new: Row) -> float | None:
    """How many times faster it has become; None where one of both did not close the case."""
    if not both_exact(old, new) or not (old["seconds"] > 0 and new["seconds"] > 0):
        return None
    return float(old["seconds"] / new["seconds"])


def markdown(old: Report, new: Report) -> str:
    """Return the comparison."""
    found = pairs(old, new)
    parts = [f"# {old.name} and {new.name}", f"{version(old)} before, {version(new)} now."]
    differing = differences(old, new)
    if differing:
        parts.append(
            "**These times are not of equal conditions:**\n\n"
            + "\n".join(f"- {line}" for line in differing)
        )
    parts += [ratios(found), mean(found)]
    wrong = [
        f"- {row['case']} ({row['configuration']}): {told}"
        for before, row in found
        if (told := contradiction(before, row))
    ]
    if wrong:
        parts.append("**Contradictions:**\n\n" + "\n".join(wrong))
    for report, other, what in ((old, new, "before"), (new, old, "now")):
        alone = only(report, other)
        if alone:
            parts.append(f"Only {what}: {', '.join(alone)}.")
    return "\n\n".join(parts) + "\n"


def version(report: Report) -> str:
    """Which state of the package was measured, and when."""
    told = [f"{OURS} {report.environment['versions'].get(OURS, 'of unknown version')}"]
    told += [
        str(report.environment[what])
        for what in ("revision", "date")
        if report.environment.get(what)
    ]
    return ", ".join(told)


def ratios(found: Sequence[Pair]) -> str:
    """Return a row for each pair."""
    heads = ["case", "asked", "before", "now", "seconds before", "seconds now", "ratio"]
    return table(
        heads,
        (
            [
                old["case"],
                old["configuration"],
                state(old),
                state(new),
                seconds(old["seconds"]),
                seconds(new["seconds"]),
                NONE if (ratio := speed(old, new)) is None else f"{ratio:.3g}",
            ]
            for old, new in found
        ),
    )


def state(row: Row) -> str:
    """Return the constant, or what is known of it."""
    if "error" in row:
        return "FAILED"
    return (
        number(row["lower"])
        if row["status"] == "EXACT"
        else f"[{number(row['lower'])}, {number(row['upper'])}]"
    )


def mean(found: Sequence[Pair]) -> str:
    """Return the geometric mean of what became faster or slower, and what was gained or lost."""
    known = [ratio for old, new in found if (ratio := speed(old, new)) is not None]
    lines = (
        [f"Geometric mean of the ratios: {geometric_mean(known):.3g}, over {len(known)} cases."]
        if known
        else []
    )
    for what, before, after in (
        ("Newly closed", "BOUNDED", "EXACT"),
        ("No longer closed", "EXACT", "BOUNDED"),
    ):
        names = [
            new["case"] for old, new in found if (old["status"], new["status"]) == (before, after)
        ]
        if names:
            lines.append(f"{what}: {', '.join(names)}.")
    return "\n\n".join(lines) or "No ratios: no case was closed in both runs."


def only(report: Report, other: Report) -> list[str]:
    """Return the cases with a result in one of both only."""
    there = {key(row) for row in other.rows if "seconds" in row}
    return [
        f"{row['case']} ({row['configuration']})"
        for row in report.rows
        if "seconds" in row and key(row) not in there
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--anyway", action="store_true", help="compare what was not measured under equal conditions"
    )
    options = parser.parse_args(arguments)
    try:
        old, new = read(options.old), read(options.new)
    except (OSError, ValueError) as error:
        print(f"benchmarks.compare: {error}", file=sys.stderr)
        return 2
    differing = differences(old, new)
    if differing and not options.anyway:
        print(
            "benchmarks.compare: the runs differ; --anyway compares them all the same:",
            file=sys.stderr,
        )
        print(*(f"  {line}" for line in differing), sep="\n", file=sys.stderr)
        return 2
    found = pairs(old, new)
    if not found:
        print("benchmarks.compare: the runs have no case in common", file=sys.stderr)
        return 2
    print(markdown(old, new), end="")
    return int(any(contradiction(*pair) for pair in found))


if __name__ == "__main__":
    sys.exit(main())
