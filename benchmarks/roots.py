"""Upper bounds before any branching, by what they come from.

Run it by `python -m benchmarks.roots [--case NAME]`.

Lines are those of linear relaxation, in the better mode; the linear program is that of
`method="lp"` over the same relaxation, for norms that make it linear; signs are those of
`lipexact.bounds.zonotope`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np

import lipexact as lx
from benchmarks.cases import CASES, Case, Skipped, known, question
from benchmarks.run import chosen
from lipexact.bab.expand import NodeExpander
from lipexact.bounds.formulation import checked_norm_sets, formulate
from lipexact.bounds.zonotope import zonotope_bounds


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row of a Markdown table for each case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.roots", description=__doc__)
    parser.add_argument(
        "--case", action="append", help="a name, or a pattern as mnist17_*; may be repeated; all"
    )
    options = parser.parse_args(arguments)
    print("| case | lines | linear program | signs | constant |\n|---|---|---|---|---|")
    for name in (name for name in CASES if chosen(name, options.case, first=options.case is None)):
        try:
            asked = question(name)
        except Skipped:
            continue
        constant = known(name, asked)
        cells = [*bounds(asked), "" if constant is None else f"{constant:.4g}"]
        print("|", " | ".join([name, *cells]), "|", flush=True)
    return 0


def bounds(asked: Case) -> list[str]:
    """By lines, by a linear program, and by signs."""
    network = lx.load(asked.model)
    norms = asked.input_norm, asked.output_norm
    sets = checked_norm_sets(network, asked.domain, *norms, asked.functional)
    formulations = formulate(network, asked.domain, *sets, "auto", np.inf)
    problems = [each.problem for each in formulations]
    states = [layer[None, :] for layer in NodeExpander(formulations, None, np.inf).gates.root]
    lines = f"{min(each.root_bound for each in formulations):.4g}"
    relaxed = ""
    if not any(problem.quadratic for problem in problems):
        result = lx.lipschitz(
            network,
            asked.domain,
            input_norm=asked.input_norm,
            output_norm=asked.output_norm,
            functional=asked.functional,
            method="lp",
            time_limit=60,
        )
        relaxed = f"{result.upper:.4g} in {result.seconds:.2g} s"
    zonotopes = zonotope_bounds(problems[0])
    if zonotopes is None:
        return [lines, relaxed, ""]
    zonotopes.upper(states)  # the first call loads what the others find loaded
    start = time.perf_counter()
    upper = float(zonotopes.upper(states)[0][0])
    return [lines, relaxed, f"{upper:.4g} in {1e3 * (time.perf_counter() - start):.2g} ms"]


if __name__ == "__main__":
    sys.exit(main())
