"""What commands print: tables of results, and the summary of a batch."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lipexact.batch.results import BatchResult
from lipexact.estimators.compare import Comparison
from lipexact.estimators.estimate import Estimate
from lipexact.graph.ir import Affine, Switch
from lipexact.network import Network
from lipexact.result import AS_ASKED, LipschitzResult, Status

_COLUMNS = 140  # of tables that go to a file or a pipe
_METHODS = {"bab": "branch and bound", "bounds": "bounds alone"}
_GUARANTEES = {"lower": "a lower bound", "upper": "an upper bound", "exact": "the constant"}
_PROGRAM_SIZES = ("variables", "binaries", "constraints", "nodes")
_QUARTILES = ("least", "lower_quartile", "median", "upper_quartile", "largest")


def is_cut_short(result: LipschitzResult) -> bool:
    """Return whether a limit or ctrl-C left an interval, which nobody asked for."""
    return result.status is not Status.EXACT and result.termination not in AS_ASKED


def print_facts(facts: Mapping[str, Any], as_json: bool = False) -> None:
    """Print facts by their names, as JSON or as a table without those that are None."""
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    rows = {name: fact for name, fact in facts.items() if fact is not None}
    print_table({name.replace("_", " "): _text(fact) for name, fact in rows.items()})


def print_table(rows: Mapping[str, str]) -> None:
    """Print two columns of plain text: nothing is cut or coloured, wherever it goes."""
    width = max(map(len, rows))
    text = "\n".join(f"{name:<{width}}  {fact}" for name, fact in rows.items())
    encoding = sys.stdout.encoding or "utf-8"  # which may not have all that a file's name has
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def print_comparison(comparison: Comparison) -> None:
    """Print the table of estimators as wide as the terminal, and elsewhere in a fixed width."""
    Console(width=None if sys.stdout.isatty() else _COLUMNS).print(comparison.to_rich())


def result_rows(model: Path, result: LipschitzResult) -> dict[str, str]:
    """Return the rows that tell of a result."""
    rows = {
        "model": str(model),
        "status": f"{result.status} ({result.termination}; proof: {result.proof})",
    }
    if result.status is Status.EXACT:
        rows["Lipschitz constant"] = f"{result.value:.12g}"
    else:
        interval = f"[{result.lower:.12g}, {result.upper:.12g}]"
        rows["interval"] = f"{interval}, gap {100 * result.gap:.3g} %"
    if result.target is not None:
        verdict = {True: "at most", False: "above", None: "not decided:"}[result.within_target]
        rows["target"] = f"{verdict} {result.target:.12g}"
    parts = [_METHODS.get(result.method, result.method), result.mode, result.solver]
    rows["method"] = ", ".join(part for part in parts if part is not None)
    if "binaries" in result.stats:
        sizes = (f"{result.stats[name]} {name}" for name in _PROGRAM_SIZES if name in result.stats)
        rows["program"] = ", ".join(sizes)
    rows["seconds"] = f"{result.seconds:.3g}"
    if result.witness is not None:
        radius = f"{result.witness.radius:.3g}"
        rows["witness"] = f"a linear region of radius at least {radius} (see --json)"
    return rows


def estimate_rows(model: Path, found: Estimate) -> dict[str, str]:
    """Return the rows that tell of an estimate."""
    promise = _GUARANTEES.get(found.guarantee, "none")
    return {
        "model": str(model),
        "method": found.method,
        "value": f"{found.value:.12g}",
        "guarantee": f"{promise} (scope: {found.scope}; proof: {found.proof})",
        "seconds": f"{found.seconds:.3g}",
        **{name.replace("_", " "): _text(fact) for name, fact in found.details.items()},
    }


def network_facts(model: Path, network: Network) -> dict[str, Any]:
    """Return what there is to say of a network, and which solvers are there."""
    from lipexact.mip.solvers.base import available, solver_names  # noqa: PLC0415 - imports Pyomo

    nodes = network.graph.nodes
    return {
        "model": str(model),
        "input_shape": list(network.input_shape),
        "output_shape": list(network.output_shape),
        "affine_layers": sum(isinstance(node, Affine) for node in nodes),
        "switches": sum(isinstance(node, Switch) for node in nodes),
        "gates": [gate.size for gate in network.gates],
        "relus": network.relus,
        "parameters": network.parameters,
        "solvers": [name for name in solver_names() if available(name)],
    }


class BatchSummary:
    """The counts of a batch, and how its constants are distributed.

    Parameters
    ----------
    model, out
        The files of the network and of the results.
    """

    def __init__(self, model: Path, out: Path) -> None:
        self.model = model
        self.out = out
        self.start = time.perf_counter()
        self.constants: list[float] = []  # of the results that are exact
        self.gaps: list[float] = []  # of the others
        self.seconds: list[float] = []  # that each took, now or in an earlier run
        self.failed = 0
        self.cut_short = 0
        self.resumed = 0
        self.first_failure: str | None = None

    @property
    def done(self) -> int:
        """The number of domains with a result or an error."""
        return len(self.constants) + len(self.gaps) + self.failed

    def add(self, one: BatchResult) -> None:
        """Count a result."""
        result = one.result
        self.resumed += one.resumed
        if result is None:
            self.failed += 1
            told = f"{one.index}: {type(one.error).__name__}: {one.error}"
            self.first_failure = self.first_failure or told
            return
        self.seconds.append(result.seconds)
        if result.status is Status.EXACT:
            self.constants.append(result.value)
        else:
            self.gaps.append(result.gap)
            self.cut_short += is_cut_short(result)

    def facts(self) -> dict[str, Any]:
        """Return all by name; None where there is nothing to tell."""
        constants = None
        if self.constants:
            values = np.quantile(self.constants, np.linspace(0, 1, 5)).tolist()
            constants = dict(zip(_QUARTILES, values, strict=True))
        return {
            "model": str(self.model),
            "results": str(self.out),
            "domains": self.done,
            "exact": len(self.constants),
            "open": len(self.gaps),
            "failed": self.failed,
            "first_failure": self.first_failure,
            "constants": constants,
            "largest_gap": max(self.gaps) if self.gaps else None,
            "seconds": time.perf_counter() - self.start,
            "from_the_file": self.resumed,
            "seconds_each": float(np.mean(self.seconds)) if self.seconds else None,
        }


def _text(fact: Any) -> str:
    """Return a number, a list or a dictionary as text for a table."""
    if isinstance(fact, dict):
        return "; ".join(f"{name}: {_text(each)}" for name, each in fact.items()) or "none"
    if isinstance(fact, float):
        return f"{fact:.6g}"
    return (", ".join(map(str, fact)) or "none") if isinstance(fact, list) else str(fact)
