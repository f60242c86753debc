"""Estimates as ratios to the exact constant: python -m benchmarks.estimators [--case NAME] [--report NAME].

For every case, in the Euclidean, the maximum and the absolute-sum norm, each estimator in the registry. Of "lipsdp" and
"lipsdp-layer" the table has the local bound and the global one. With --report the tables are written to
benchmarks/reports/NAME.md, and what they come from to NAME.jsonl beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import lipexact as lx
from benchmarks.cases import CASES, Skipped, question
from benchmarks.measure import environment
from benchmarks.report import REPORTS, where
from benchmarks.run import chosen

NORMS = ("linf", "l2", "l1")
OPTIONS: dict[tuple[str, str], dict[str, Any]] = {("liplp", "l2"): {"solver": "scip"}}
SHOWN = (
    "sd_10_15_10_3_linf",
    "iris_4_5_5_3",
    "wine_13_16_16_3",
    "digits17_64_20_20_20_2",
    "mnist17_784_20_20_20_2",
    "synthetic_2_20_40_20_2",
    "untrained_10_20_30_20_2_0",
)
EXPLAINED = (
    "Each value is divided by the exact constant, or by the least upper bound where the time limit left an interval, as "
    "the line below the title says. Seconds are those of one call. One norm on both sides, on the whole output or the "
    "functional of the case."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimators", description=__doc__)
    parser.add_argument("--case", action="append", help="a name, or a pattern as mnist17_*; may be repeated")
    parser.add_argument("--norm", action="append", choices=NORMS, help="may be repeated; all of them")
    parser.add_argument("--seconds", type=float, default=60.0, help="time limit of each estimator (60)")
    parser.add_argument("--report", help="write the tables to this name in benchmarks/reports/")
    options = parser.parse_args(arguments)
    names = [name for name in CASES if chosen(name, options.case or SHOWN, smoke=False)]
    records = []
    for name in names:
        for norm in options.norm or NORMS:
            try:
                records += related(list(measured(name, norm, options.seconds)))
            except Skipped as reason:
                print(f"{name}: {reason}", file=sys.stderr)
                break
            print(table(records, name, norm), flush=True)
    if options.report:
        about = environment({"seconds": options.seconds})
        (REPORTS / f"{options.report}.jsonl").write_text(
            "".join(json.dumps(record) + "\n" for record in [about, *records])
        )
        tables = [
            table(records, name, norm)
            for name, norm in dict.fromkeys((record["case"], record["norm"]) for record in records)
        ]
        parts = [f"# Estimators: {options.report}", where(about), "<!-- tables -->", EXPLAINED, *tables]
        (REPORTS / f"{options.report}.md").write_text("\n\n".join(parts) + "\n")
    return 0


def measured(name: str, norm: str, seconds: float) -> Iterable[dict[str, Any]]:
    """A record for each estimator."""
    asked = question(name)
    network = lx.load(asked.model)
    keywords = {"input_norm": norm, "functional": asked.functional}
    exact = lx.lipschitz(network, asked.domain, time_limit=seconds, **keywords)  # type: ignore[arg-type]
    for method in lx.estimator_names():
        wide = [("local", asked.domain)]
        if method.startswith("lipsdp"):
            wide.append(("global", lx.Reals(network.input.size)))
        for scope, domain in wide:
            known = {"lower": exact.lower, "constant": exact.value, "status": exact.status.value}
            record = {"case": name, "norm": norm, "method": method, **known}
            start = time.perf_counter()
            try:
                options = OPTIONS.get((method, norm), {})
                found = lx.estimate(network, domain, method, time_limit=seconds, **keywords, **options)  # type: ignore[arg-type]
            except lx.LipExactError as error:
                yield {**record, "scope": scope, "refused": str(error)}
                continue
            yield {
                **record,
                "scope": found.scope if scope == "local" else scope,
                "guarantee": found.guarantee,
                "value": found.value,
                "best": found.details.get("best"),
                "seconds": time.perf_counter() - start,
            }


def related(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of one question, with ratios to its constant, or to the least that is known to be at least that."""
    found = [record["value"] for record in records if record.get("guarantee") == "upper" and record["scope"] == "local"]
    for record in records:
        if record["status"] != "EXACT":
            record["constant"] = min(record["constant"], *found)
        if "value" in record:
            record["ratio"] = record["value"] / record["constant"]
    return records


def table(records: Iterable[dict[str, Any]], name: str, norm: str) -> str:
    """A Markdown table of a case in one norm."""
    rows = [record for record in records if (record["case"], record["norm"]) == (name, norm)]
    bounds = f"[{rows[0]['lower']:.6g}, {rows[0]['constant']:.6g}]"
    known = f"constant {rows[0]['constant']:.6g}" if rows[0]["status"] == "EXACT" else f"constant in {bounds}"
    lines = [
        f"## {name}, {norm}",
        "",
        known,
        "",
        "| estimator | guarantee | scope | ratio | seconds |",
        "|---|---|---|---:|---:|",
    ]
    for row in rows:
        if "refused" in row:
            continue
        best = f" ({row['best']})" if row["best"] else ""
        cells = row["method"] + best, row["guarantee"], row["scope"], f"{row['ratio']:.4g}", f"{row['seconds']:.2g}"
        lines.append(f"| {' | '.join(cells)} |")
    refused = sorted({row["method"] for row in rows if "refused" in row})
    if refused:
        lines += ["", f"Not for this question: {', '.join(refused)}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
