"""How the time grows with width, depth, inputs and radius: python -m benchmarks.growth [options].

One of the four is varied, the others stay; every point is the median over some random networks
(He's initialisation, but Gaussian biases), around the origin, norm linf, c = (1, -1). A sweep ends
where no network is closed within the limit, so that the whole is bounded. Writes JSON lines as
benchmarks.run does, and with matplotlib (pip install "lipexact[plot]") the curves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import lipexact as lx
from benchmarks.cases import Case, random_network
from benchmarks.measure import Configuration, Record, environment, measure
from benchmarks.report import REPORTS, Report, read


@dataclass(frozen=True)
class Point:
    """Hidden layers `depth` of `width` ReLUs each, and a ball of `radius` in R^inputs."""

    width: int = 16
    depth: int = 2
    inputs: int = 16
    radius: float = 0.05


BASE = Point()
SWEEPS: Mapping[str, Sequence[Any]] = {
    "width": (4, 8, 12, 16, 24, 32, 48, 64, 96, 128),
    "depth": (1, 2, 3, 4, 6, 8, 12, 16, 24),
    "inputs": (2, 4, 8, 16, 32, 64, 128, 256, 512),
    "radius": (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2),
}
AXES = {
    "width": "neurons in each hidden layer",
    "depth": "hidden layers",
    "inputs": "inputs",
    "radius": "radius of the ball",
}
SMOKE_SECONDS = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and draw what the command line asks for; the number of failures."""
    options = parser().parse_args(arguments)
    if options.draw is not None:
        return draw(read(options.draw), options.draw.with_suffix(".png"))
    sweeps = {axis: SWEEPS[axis] for axis in options.sweep or SWEEPS}
    if options.smoke:
        options.networks, options.seconds = 1, min(options.seconds, SMOKE_SECONDS)
        sweeps = {axis: values[:2] for axis, values in sweeps.items()}
    points = sum(map(len, sweeps.values())) * options.networks
    print(f"at most {points} solves of {options.seconds:g} s", flush=True)
    configuration = Configuration(options.method, options.solver)
    target = REPORTS / f"{options.report}.jsonl" if options.report else None
    try:
        run(sweeps, configuration, options, target)
    except lx.LipExactError as error:
        print(f"benchmarks.growth: FAILED: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0 if target is None else draw(read(target), target.with_suffix(".png"))


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    result.add_argument(
        "--smoke", action="store_true", help="the first two points of each sweep, once"
    )
    result.add_argument(
        "--sweep", action="append", choices=sorted(SWEEPS), help="may be repeated; all by default"
    )
    result.add_argument("--method", default="auto")
    result.add_argument("--solver")
    result.add_argument("--seconds", type=float, default=10.0, help="time limit of one solve")
    result.add_argument(
        "--networks", type=int, default=3, help="how many random networks for each point"
    )
    result.add_argument(
        "--report", metavar="NAME", help="write NAME.jsonl and NAME.png in benchmarks/reports/"
    )
    result.add_argument(
        "--draw",
        type=Path,
        metavar="FILE",
        help="draw what was measured before, and measure nothing",
    )
    return result


def run(
    sweeps: Mapping[str, Sequence[Any]],
    configuration: Configuration,
    options: argparse.Namespace,
    file: Path | None,
) -> None:
    """Measure, print a row for each point, and keep the records as they come."""
    records = [environment({"seconds": options.seconds, "networks": options.networks})]
    keep(file, records[0], mode="w")
    for axis, values in sweeps.items():
        for value in values:
            point = replace(BASE, **{axis: value})
            rows = list(solves(axis, point, configuration, options))
            for row in rows:
                keep(file, row)
            print(told(axis, value, rows), flush=True)
            if not any(closed(row) for row in rows):
                break


def solves(
    axis: str, point: Point, configuration: Configuration, options: argparse.Namespace
) -> Iterator[Record]:
    """Yield a record for each network of a point."""
    for seed in range(options.networks):
        row: Record = {
            "case": f"{axis}_{getattr(point, axis):g}_{seed}",
            "configuration": str(configuration),
        }
        row |= {"axis": axis, "value": getattr(point, axis), **asdict(point)}
        yield row | measure(question(point, seed), configuration, options.seconds, 1)


def question(point: Point, seed: int) -> Case:
    """Return the point's network number `seed`."""
    sizes = (point.inputs, *[point.width] * point.depth, 2)
    return Case(random_network(sizes, seed), lx.Ball(np.zeros(point.inputs), point.radius), (1, -1))


def keep(file: Path | None, record: Record, mode: str = "a") -> None:
    """Add a record to the file."""
    if file is not None:
        file.parent.mkdir(exist_ok=True)
        with file.open(mode) as stream:
            print(json.dumps(record), file=stream)


def told(axis: str, value: float, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a row for a point."""
    times = " ".join(f"{row['seconds']:.2f}" for row in rows)
    return f"{axis:8} {value:<8g} {sum(map(closed, rows))} of {len(rows)} closed; seconds: {times}"


def closed(row: Mapping[str, Any]) -> bool:
    """Whether the constant was found."""
    return bool(row["status"] == "EXACT")


def curve(rows: Sequence[Mapping[str, Any]]) -> dict[float, list[Mapping[str, Any]]]:
    """Return the rows of one sweep by the value that was varied, in order."""
    points: dict[float, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["value"]):
        points.setdefault(row["value"], []).append(row)
    return points


def draw(report: Report, target: Path) -> int:
    """Return the curves, as a picture; 1 where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - only to draw
    except ImportError:
        print('benchmarks.growth: FAILED: to draw, pip install "lipexact[plot]"', file=sys.stderr)
        return 1
    sweeps = {axis: [row for row in report.rows if row["axis"] == axis] for axis in SWEEPS}
    shown = {axis: rows for axis, rows in sweeps.items() if rows}
    figure = Figure(figsize=(10, 2.6 * -(-len(shown) // 2) + 0.5), layout="constrained")
    panels = figure.subplots(-(-len(shown) // 2), 2, sharey=True, squeeze=False).ravel()
    for panel, (axis, rows) in zip(panels, shown.items(), strict=False):
        draw_sweep(panel, axis, rows, report.environment["options"]["seconds"])
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    figure.suptitle(title(report), fontsize=9)
    figure.savefig(target, dpi=110, metadata={"Software": None})
    print(f"drawn: {target.name}")
    return 0


def draw_sweep(panel: Any, axis: str, rows: Sequence[Mapping[str, Any]], limit: float) -> None:
    """One sweep.

    Every network as a point, open where the limit stopped it, and the medians as a line.
    """
    points = curve(rows)
    panel.plot(
        list(points),
        [statistics.median(row["seconds"] for row in each) for each in points.values()],
    )
    for filled in (True, False):
        some = [row for row in rows if closed(row) == filled]
        face = "C0" if filled else "none"
        panel.scatter(
            [row["value"] for row in some], [row["seconds"] for row in some], s=16, ec="C0", fc=face
        )
    panel.axhline(limit, color="grey", linewidth=0.8, linestyle="--")
    panel.set_yscale("log")
    if axis != "depth":
        panel.set_xscale("log", base=2)
    panel.set_xticks(list(points), [f"{value:g}" for value in points], minor=False)
    panel.set_xlabel(AXES[axis], fontsize=9)
    panel.set_ylabel("seconds", fontsize=9)
    panel.grid(visible=True, alpha=0.3)


def title(report: Report) -> str:
    """Return what is the same for all curves."""
    asked = ", ".join(dict.fromkeys(row["configuration"] for row in report.rows))
    base = (
        f"{BASE.depth} hidden layers of {BASE.width}, {BASE.inputs} inputs, radius "
        f"{BASE.radius:g} where not varied"
    )
    return (
        f"{base}; {asked}; {report.environment['options']['networks']} random networks each, "
        "open: not closed"
    )


if __name__ == "__main__":
    sys.exit(main())
