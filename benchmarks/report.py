"""A Markdown report of what `python -m benchmarks.run --json` printed.

Run it by `python -m benchmarks.report FILE`.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPORTS = Path(__file__).parent / "reports"
PHASE = "_seconds"
SHOWN = 0.005  # seconds from which on a phase is worth its place
NONE = "-"


@dataclass(frozen=True)
class Report:
    """What one run measured: where, and a row for each case and configuration."""

    name: str
    environment: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """A case, or the mean of a family of them, beside another program."""

    family: str
    configuration: str
    closed: int
    count: int
    seconds: float
    peer: Mapping[str, Any]

    @property
    def behind(self) -> bool:
        """Whether the other program closed what was not closed here."""
        return self.closed < self.count and self.peer["seconds"] is not None

    @property
    def ratio(self) -> float | None:
        """How many times faster than the other program.

        None where one of both did not close the case.
        """
        if self.closed < self.count or self.peer["seconds"] is None or not self.seconds > 0:
            return None
        return float(self.peer["seconds"] / self.seconds)


def read(path: Path) -> Report:
    """Return a file of JSON lines.

    Raises
    ------
    ValueError
        If it is not one of ours.
    """
    records = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    if not records or "versions" not in records[0]:
        raise ValueError(
            f"{path.name} does not begin with an environment: it is no output of "
            "benchmarks.run --json"
        )
    return Report(path.stem, records[0], [record for record in records if "case" in record])


def markdown(report: Report) -> str:
    """Return the whole report."""
    parts = [f"# Benchmarks: {report.name}", where(report.environment)]
    if len({row["configuration"] for row in report.rows if "seconds" in row}) > 1:
        parts += ["## By method and solver", SIDE_BY_SIDE, side_by_side(report.rows)]
    parts += ["## Cases", cases(report.rows)]
    beside = comparisons(report.rows)
    if beside:
        parts += ["## Beside other programs", EXPLAINED, peers(beside), means(beside)]
    left = [row for row in report.rows if "error" in row or "skipped" in row]
    if left:
        parts += ["## Failed or skipped", "\n".join(map(reason, left))]
    return "\n\n".join(parts) + "\n"


SIDE_BY_SIDE = (
    "Seconds where the constant was found, else the interval that was left. The last row "
    "is the geometric mean of the "
    "seconds divided by those of the first column, over the cases that both closed."
)


def side_by_side(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a row for each case, a column for each configuration."""
    cells = {(row["case"], row["configuration"]): row for row in rows if "seconds" in row}
    names = list(dict.fromkeys(row["case"] for row in rows if "seconds" in row))
    first, *others = configurations = list(dict.fromkeys(row["configuration"] for row in rows))

    def closed(name: str, configuration: str) -> bool:
        return (name, configuration) in cells and cells[name, configuration]["status"] == "EXACT"

    def cell(name: str, configuration: str) -> str:
        row = cells.get((name, configuration))
        if row is None:
            return NONE
        return (
            seconds(row["seconds"])
            if closed(name, configuration)
            else f"[{row['lower']:.4g}, {row['upper']:.4g}]"
        )

    def ratio(other: str) -> str:
        both = [name for name in names if closed(name, first) and closed(name, other)]
        ratios = [cells[name, other]["seconds"] / cells[name, first]["seconds"] for name in both]
        return f"{geometric_mean(ratios):.3g} times, over {len(ratios)}" if ratios else NONE

    body = [
        [name, *(cell(name, configuration) for configuration in configurations)] for name in names
    ]
    counts = (
        f"{sum(closed(name, one) for name in names)} of {len(names)}" for one in configurations
    )
    return table(
        ["case", *configurations],
        [*body, ["closed", *counts], ["mean ratio", "1", *map(ratio, others)]],
    )


EXPLAINED = (
    "Seconds of a family are the mean of its members' medians. The ratio says how many "
    "times faster than the other "
    "program; there is none where either did not close the case. What the other program "
    "was measured on stands with it."
)


def where(environment: Mapping[str, Any]) -> str:
    """Return the environment, as a list."""
    told = {
        "date": environment.get("date"),
        "revision": environment.get("revision"),
        "machine": ", ".join(
            str(environment[what])
            for what in ("processor", "machine", "system")
            if environment.get(what) not in (None, "")
        )
        + f", {environment.get('cpus')} cores",
        "load at the start": environment.get("load"),
        "python": environment.get("python"),
        "packages": ", ".join(
            f"{name} {version}" for name, version in environment["versions"].items()
        ),
        "options": ", ".join(
            f"{name} {value:g}" for name, value in environment.get("options", {}).items()
        ),
    }
    return "\n".join(
        f"- {name}: {value}" for name, value in told.items() if value not in (None, "")
    )


def cases(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a row for each case and configuration that gave a result."""
    heads = [
        "case",
        "asked",
        "method",
        "solver",
        "mode",
        "status",
        "lower",
        "upper",
        "seconds",
        "phases",
    ]
    return table(
        heads,
        (
            [
                row["case"],
                row["configuration"],
                row["used_method"],
                row["used_solver"] or "",
                row["used_mode"] or "",
                row["status"],
                number(row["lower"]),
                number(row["upper"]),
                seconds(row["seconds"]),
                ", ".join(
                    f"{name} {seconds(value)}"
                    for name, value in phases(row["stats"]).items()
                    if value >= SHOWN
                ),
            ]
            for row in rows
            if "seconds" in row
        ),
    )


def phases(stats: Mapping[str, Any]) -> dict[str, float]:
    """Return the seconds of each phase, whatever phases there are; one may be part of another."""
    return {
        name.removesuffix(PHASE).replace("_", " "): float(value)
        for name, value in stats.items()
        if name.endswith(PHASE) and isinstance(value, (int, float))
    }


def comparisons(rows: Iterable[Mapping[str, Any]]) -> list[Comparison]:
    """Compare each configuration with the other programs, on the families they were measured on."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("peer") is not None and "seconds" in row:
            groups.setdefault((row["family"], row["configuration"]), []).append(row)
    return [
        Comparison(
            *key,
            closed=sum(row["status"] == "EXACT" and "error" not in row for row in group),
            count=len(group),
            seconds=statistics.mean(row["seconds"] for row in group),
            peer=group[0]["peer"],
        )
        for key, group in groups.items()
    ]


def peers(beside: Iterable[Comparison]) -> str:
    """Ours beside theirs."""
    heads = ["case", "asked", "closed", "seconds", "other program", "its seconds", "ratio"]
    return table(
        heads,
        (
            [
                one.family,
                one.configuration,
                f"{one.closed} of {one.count}",
                seconds(one.seconds),
                one.peer["name"] + (f" ({one.peer['note']})" if one.peer["note"] else ""),
                NONE if one.peer["seconds"] is None else f"{one.peer['seconds']:g}",
                ("not closed" if one.behind else NONE) if one.ratio is None else f"{one.ratio:.3g}",
            ]
            for one in beside
        ),
    )


def means(beside: Sequence[Comparison]) -> str:
    """Return the geometric mean of the ratios of each configuration."""
    lines = []
    for configuration in dict.fromkeys(one.configuration for one in beside):
        own = [one for one in beside if one.configuration == configuration]
        ratios = [one.ratio for one in own if one.ratio is not None]
        told = (
            f"{geometric_mean(ratios):.3g}, over {len(ratios)} of {len(own)} cases"
            if ratios
            else "there are none"
        )
        behind = [one.family for one in own if one.behind]
        left = f"; not closed here, but by the other program: {', '.join(behind)}" if behind else ""
        lines.append(f"Geometric mean of the ratios ({configuration}): {told}{left}.")
    return "\n\n".join(lines)


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers."""
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def reason(row: Mapping[str, Any]) -> str:
    """One line on a case that failed or was skipped."""
    what = "FAILED" if "error" in row else "skipped"
    return (
        f"- {row['case']} ({row['configuration']}) {what}: "
        f"{' '.join(row.get('error', row.get('skipped')).split())}"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Yield a Markdown table."""

    def lines() -> Iterator[str]:
        yield " | ".join(heads)
        yield "|".join("---" for _ in heads)
        for row in rows:
            yield " | ".join(cell.replace("|", "\\|") or NONE for cell in row)

    return "\n".join(
        f"| {line} |" if not line.startswith("---") else f"|{line}|" for line in lines()
    )


def number(value: float) -> str:
    """Return a bound, as far as a reader needs it."""
    return f"{value:.6g}"


def seconds(value: float) -> str:
    """Hundredths, of short times two digits."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("file", type=Path)
    print(markdown(read(parser.parse_args(arguments).file)), end="")


if __name__ == "__main__":
    main()
