"""Estimates as ratios to the exact constant.

Run it by `python -m benchmarks.estimators [--case NAME] [--report NAME]`.

For every case, in the Euclidean, the maximum and the absolute-sum norm, each estimator in the
registry. Of "lipsdp" and "lipsdp-layer" the table has the local bound and the global one. With
--report the tables are written to benchmarks/reports/NAME.md, and what they come from to NAME.jsonl
beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
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
    "Each value is divided by the exact constant, or by the least upper bound where the "
    "time limit left an interval, "
    "which the list of constants shows. Seconds are those of one call. One norm on both "
    "sides, on the whole output or "
    "the functional of the case."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimators", description=__doc__)
    parser.add_argument(
        "--case", action="append", help="a name, or a pattern as mnist17_*; may be repeated"
    )
    parser.add_argument(
        "--norm", action="append", choices=NORMS, help="may be repeated; all of them"
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="time limit of each estimator (60)"
    )
    parser.add_argument("--report", help="write the tables to this name in benchmarks/reports/")
    options = parser.parse_args(arguments)
    names = [name for name in CASES if chosen(name, options.case or SHOWN, first=False)]
    records = []
    for name in names:
        for norm in options.norm or NORMS:
            try:
                records += related(list(measured(name, norm, options.seconds)))
            except Skipped as reason:
                print(f"{name}: {reason}", file=sys.stderr)
                break
            print(f"{name}, {norm}: done", file=sys.stderr, flush=True)
    found = [tables(records, norm) for norm in dict.fromkeys(record["norm"] for record in records)]
    print("\n\n".join(found))
    if options.report:
        about = environment({"seconds": options.seconds})
        (REPORTS / f"{options.report}.jsonl").write_text(
            "".join(json.dumps(record) + "\n" for record in [about, *records])
        )
        parts = [
            f"# Estimators: {options.report}",
            where(about),
            "<!-- tables -->",
            EXPLAINED,
            *found,
        ]
        (REPORTS / f"{options.report}.md").write_text("\n\n".join(parts) + "\n")
    return 0


def measured(name: str, norm: str, seconds: float) -> Iterable[dict[str, Any]]:
    """Yield a record for each estimator."""
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
                found = lx.estimate(
                    network, domain, method, time_limit=seconds, **keywords, **options
                )  # type: ignore[arg-type]
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
    """Return the records of one question, with ratios to its constant or its best upper bound."""
    found = [
        record["value"]
        for record in records
        if record.get("guarantee") == "upper" and record["scope"] == "local"
    ]
    for record in records:
        if record["status"] != "EXACT":
            record["constant"] = min(record["constant"], *found)
        if "value" in record:
            record["ratio"] = record["value"] / record["constant"]
    return records


def tables(records: Sequence[dict[str, Any]], norm: str) -> str:
    """Ratios and seconds of all cases in one norm, a column for each case."""
    rows = [record for record in records if record["norm"] == norm]
    cases = list(dict.fromkeys(record["case"] for record in rows))
    kinds = dict.fromkeys(
        (record["method"], record["scope"]) for record in rows if "value" in record
    )
    guarantees = {
        record["method"]: record["guarantee"]
        for record in rows
        if "value" in record and closed(record)
    }
    cells = {
        (record["case"], record["method"], record["scope"]): record
        for record in rows
        if "value" in record
    }

    def column(name: str, kind: tuple[str, str], shown: Callable[[dict[str, Any]], str]) -> str:
        found = cells.get((name, *kind))
        return "-" if found is None else shown(found)

    def lines(shown: Callable[[dict[str, Any]], str]) -> list[str]:
        head = ["estimator", "guarantee", "scope", *cases]
        body = [
            [
                method,
                guarantees.get(method, "upper"),
                scope,
                *(column(name, (method, scope), shown) for name in cases),
            ]
            for method, scope in kinds
        ]
        return [
            f"| {' | '.join(line)} |" for line in (head, ["---"] * 3 + ["---:"] * len(cases), *body)
        ]

    constants = (next(record for record in rows if record["case"] == name) for name in cases)
    told = ", ".join(f"{record['case']} {constant(record)}" for record in constants)
    return "\n".join(
        [
            f"## {norm}",
            "",
            f"Constants: {told}.",
            "",
            *lines(lambda record: f"{record['ratio']:.4g}"),
            "",
            "Seconds:",
            "",
            *lines(lambda record: f"{record['seconds']:.2g}"),
        ]
    )


def closed(record: dict[str, Any]) -> bool:
    """Whether its constant is known, so that an exact method's guarantee is that."""
    return record["status"] == "EXACT" or record["guarantee"] != "upper"


def constant(record: dict[str, Any]) -> str:
    """Return the constant, or what is known of it."""
    if record["status"] == "EXACT":
        return f"{record['constant']:.6g}"
    return f"[{record['lower']:.6g}, {record['constant']:.6g}]"


if __name__ == "__main__":
    raise SystemExit(main())
