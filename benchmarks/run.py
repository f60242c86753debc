"""Times `lipexact.lipschitz` on the registered cases.

Prints a row for each case, solver and mode. With --json it prints JSON lines instead: the first tells the
environment, each further one is a row with its bounds, status, sizes, and the medians of its times.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

import lipexact as lx
from benchmarks.cases import CASES, Case

PACKAGES = ("lipexact", "pyomo", "numpy", "scipy", "highspy", "pyscipopt", "gurobipy", "onnx")
SMOKE_SECONDS = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that the command line asks for; the number of failures."""
    options = parser().parse_args(arguments)
    if options.smoke:
        options.repeat, options.seconds = 1, min(options.seconds, SMOKE_SECONDS)
    show = as_json if options.json else as_row
    failures = 0
    show(environment())
    for name in options.case or CASES:
        question = CASES[name]()
        for solver in options.solver or question.solvers[:1]:
            for mode in options.mode or ["auto"]:
                record: dict[str, Any] = {"case": name, "solver": solver, "mode": mode}
                try:
                    record |= measure(question, solver, mode, options.seconds, options.repeat)
                except lx.LipExactError as error:
                    failures += 1
                    record["error"] = f"{type(error).__name__}: {error}"
                show(record)
    return failures


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    result.add_argument("--smoke", action="store_true", help=f"each once, for at most {SMOKE_SECONDS:.0f} s")
    result.add_argument("--case", action="append", choices=sorted(CASES), help="may be repeated; all by default")
    result.add_argument("--solver", action="append", help="may be repeated; the first that can do the case")
    result.add_argument("--mode", action="append", help="may be repeated; auto by default")
    result.add_argument("--seconds", type=float, default=60.0, help="time limit of one solve")
    result.add_argument("--repeat", type=int, default=3, help="times to measure each")
    result.add_argument("--json", action="store_true", help="print JSON lines")
    return result


def as_json(record: Mapping[str, Any]) -> None:
    """Print the record as one line of JSON."""
    print(json.dumps(record), flush=True)


def as_row(record: Mapping[str, Any]) -> None:
    """Print what a person looks for first."""
    if "case" not in record:
        print(*(f"{package} {version}" for package, version in record["versions"].items()), sep=", ", flush=True)
    elif "error" in record:
        print(f"{record['case']:24} {record['solver']:7} {record['error']}", flush=True)
    else:
        print(
            f"{record['case']:24} {record['solver']:7} {record['used_mode']:8} {record['status']:8} "
            f"[{record['lower']:.9g}, {record['upper']:.9g}] {record['seconds']:.2f} s",
            flush=True,
        )


def measure(case: Case, solver: str, mode: str, seconds: float, repeat: int) -> dict[str, Any]:
    """One case on one solver: its result and the medians of its times."""
    walls, results = [], []
    for _ in range(repeat):
        start = time.perf_counter()
        result = lx.lipschitz(
            case.model,
            case.domain,
            input_norm=case.input_norm,
            output_norm=case.output_norm,
            functional=case.functional,
            solver=solver,
            mode=mode,
            time_limit=seconds,
        )
        walls.append(time.perf_counter() - start)
        results.append(result)
    last = results[-1]
    return {
        "status": last.status.value,
        "termination": str(last.termination),
        "lower": last.lower,
        "upper": last.upper,
        "used_mode": last.mode,
        "repeat": repeat,
        "seconds": statistics.median(walls),
        "stats": medians([dict(flatten(result.stats)) for result in results]),
    }


def flatten(stats: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested mappings, with dotted names."""
    for name, value in stats.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def medians(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By name the median of the numbers; of anything else, the last."""
    result = dict(records[-1])
    for name, value in result.items():
        values = [record.get(name) for record in records]
        if isinstance(value, float) and all(isinstance(other, float) for other in values):
            result[name] = statistics.median(values)
    return result


def environment() -> dict[str, Any]:
    """What the numbers depend on beside the code."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "versions": versions,
    }


if __name__ == "__main__":
    sys.exit(min(main(), 1))
