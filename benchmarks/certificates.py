"""What proofs take to make, to keep and to check.

Run it by `python -m benchmarks.certificates [--case NAME]`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import lipexact as lx
from benchmarks.cases import CASES, Skipped, question
from benchmarks.run import chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row of a Markdown table for each case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.certificates", description=__doc__)
    parser.add_argument(
        "--case", action="append", help="a name, or a pattern as mnist17_*; may be repeated; all"
    )
    options = parser.parse_args(arguments)
    print(
        "| case | search, s | proof, s | check, s | nodes | bytes | "
        "|\n|---|---|---|---|---|---|---|"
    )
    for name in (name for name in CASES if chosen(name, options.case, first=options.case is None)):
        try:
            asked = question(name)
        except Skipped:
            continue
        result = lx.lipschitz(
            asked.model,
            asked.domain,
            input_norm=asked.input_norm,
            output_norm=asked.output_norm,
            functional=asked.functional,
            method="bab",
            time_limit=60,
            certificate=True,
        )
        if result.certificate is None:
            continue
        start = time.perf_counter()
        report = lx.check(asked.model, result.certificate)
        seconds = time.perf_counter() - start
        proof = result.stats["certificate_seconds"]
        times = [f"{each:.2g}" for each in (result.seconds - proof, proof, seconds)]
        size = len(result.certificate.to_bytes())
        verdict = (
            "exact" if report.exact else f"[{report.lower.claim:.6g}, {report.upper.claim:.6g}]"
        )
        print(
            "|", " | ".join([name, *times, str(report.nodes), str(size), verdict]), "|", flush=True
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
