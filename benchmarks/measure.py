"""One case, measured: its result, its sizes, and the medians of its times; and where that was."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import lipexact as lx
from benchmarks.cases import Case

Record = dict[str, Any]

PACKAGES = ("lipexact", "pyomo", "numpy", "scipy", "highspy", "pyscipopt", "gurobipy", "onnx")
ROOT = Path(__file__).parent.parent
DEFAULT_SOLVER = "highs"
CLOSE = 1e-9  # relative: as far as a constant may be from the known one


@dataclass(frozen=True)
class Configuration:
    """How a case is to be solved.

    Without a solver, as the package does by default, where that can do the case.
    """

    method: str = "auto"
    solver: str | None = None
    mode: str = "auto"

    def __str__(self) -> str:
        """Return what was asked for beyond the defaults, with the method first."""
        mode = None if self.mode == "auto" else self.mode
        return ", ".join(part for part in (self.method, self.solver, mode) if part)


def measure(case: Case, configuration: Configuration, seconds: float, repeat: int) -> Record:
    """Return a case's result and the medians of its times.

    What the time limit stopped is not repeated: it would only take as long again.
    """
    walls: list[float] = []
    results: list[lx.LipschitzResult] = []
    while len(results) < repeat:
        start = time.perf_counter()
        results.append(solve(case, configuration, seconds))
        walls.append(time.perf_counter() - start)
        if results[-1].termination == "time limit":
            break
    last = results[-1]
    return {
        "status": last.status.value,
        "termination": str(last.termination),
        "lower": last.lower,
        "upper": last.upper,
        "used_method": last.method,
        "used_solver": last.solver,
        "used_mode": last.mode,
        "repeat": len(results),
        "seconds": statistics.median(walls),
        "runs": walls,
        "stats": medians([dict(flatten(result.stats)) for result in results]),
    }


def solve(case: Case, configuration: Configuration, seconds: float) -> lx.LipschitzResult:
    """One call, from the file on."""
    method: Any = configuration.method  # passed on unchecked: that is the package's to refuse
    mode: Any = configuration.mode
    solver = configuration.solver or (case.solvers[0] if method == "mip" else DEFAULT_SOLVER)
    return lx.lipschitz(
        case.model,
        case.domain,
        input_norm=case.input_norm,
        output_norm=case.output_norm,
        functional=case.functional,
        method=method,
        solver=solver,
        mode=mode,
        time_limit=seconds,
    )


def contradiction(record: Mapping[str, Any], known: float | None) -> str | None:
    """How a result contradicts the known constant, if it does."""
    if known is None:
        return None
    slack, lower, upper = CLOSE * abs(known), record["lower"], record["upper"]
    if record["status"] == lx.Status.EXACT.value and abs(lower - known) > slack:
        return f"WRONG: EXACT at {lower!r}, but the constant is {known!r}"
    if not lower - slack <= known <= upper + slack:
        return f"WRONG: [{lower!r}, {upper!r}] misses the constant {known!r}"
    return None


def flatten(stats: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of nested mappings, with dotted names."""
    for name, value in stats.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def medians(records: Sequence[Mapping[str, Any]]) -> Record:
    """By name the median of the numbers; of anything else, the last."""
    result = dict(records[-1])
    for name, value in result.items():
        values = [record[name] for record in records if isinstance(record.get(name), float)]
        if isinstance(value, float) and len(values) == len(records):
            result[name] = statistics.median(values)
    return result


def environment(options: Mapping[str, Any]) -> Record:
    """Return what the numbers depend on beside the cases, with the options that change them."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "revision": revision(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": processor(),
        "cpus": os.cpu_count(),
        "load": load(),
        "options": dict(options),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of the packages that matter, those that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    cbc = cbc_version()
    return found if cbc is None else {**found, "cbc": cbc}


def cbc_version() -> str | None:
    """Return that of the program on the path."""
    program = shutil.which("cbc")
    if program is None:
        return None
    told = subprocess.run(
        [program, "-quit"], capture_output=True, text=True, check=False, timeout=60
    ).stdout
    return next(
        (line.split(":")[1].strip() for line in told.splitlines() if line.startswith("Version:")),
        None,
    )


def revision() -> str:
    """Return the commit, with "+" where the sources differ from it; "" outside of a clone."""
    try:
        commit, changes = (
            _git(*words)
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--short", "src"))
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changes else "")


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    told = Path("/proc/cpuinfo")
    if told.is_file():
        for line in told.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def load() -> float | None:
    """How many processes wanted to run, over the last minute: times of a busy machine are long."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
