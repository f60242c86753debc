"""Table 1 of the paper.

Every method's time and relative error, on MNIST's digits 1 and 7 and on the synthetic networks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lipexact as lx
from benchmarks.cases import CASES, Case, question
from benchmarks.measure import Record
from benchmarks.paper import archive
from benchmarks.paper.study import (
    EXACT,
    METHODS,
    PROGRAM,
    Item,
    Study,
    percent,
    short,
    spread,
    with_errors,
)
from benchmarks.report import table

PUBLISHED = Path(__file__).with_name("published.json")
SHOWN = [method for method in METHODS if method != PROGRAM]
SETS = {
    "mnist": "MNIST's digits 1 and 7, 784-20-20-20-2, 20 balls of radius 0.1",
    "synthetic": "synthetic data, ten networks 10-20-30-20-2, unit cube",
}


def items(quick: bool) -> Iterator[Item]:
    """Yield the questions: norm linf on the inputs, c = (1, -1)."""
    balls = sorted(name for name in CASES if name.startswith("mnist17_ball_"))
    for name in balls[6:7] if quick else balls:
        yield Item(
            "mnist",
            name.rpartition("_")[2],
            partial(question, name),
            ["exact", "linear"] if quick else SHOWN,
        )
    names = sorted(archive.about("paper_synthetic"))
    for name in names[:1] if quick else names:
        yield Item(
            "synthetic", name, partial(synthetic, name), ["fastlip", "naive"] if quick else SHOWN
        )


def synthetic(name: str) -> Case:
    """One of the ten networks on the unit cube."""
    return Case(archive.network("paper_synthetic", name), lx.Box.unit(10), (1, -1))


def report(records: Sequence[Record]) -> str:
    """Return a table for each data set."""
    published = json.loads(PUBLISHED.read_text())
    return "\n\n".join(
        "## "
        f"{about}\n\n{closed(records, group)}\n\n{rows(records, group, published.get(group, {}))}"
        for group, about in SETS.items()
    )


def closed(records: Sequence[Mapping[str, Any]], group: str) -> str:
    """How many constants were found."""
    exact = [record for record in records if record["group"] == group and record["method"] == EXACT]
    found = [record for record in exact if record.get("guarantee") == EXACT]
    left = [record for record in exact if record not in found]
    told = ", ".join(
        f"{record['member']} in [{record['lower']:.4g}, {record['value']:.4g}]" for record in left
    )
    note = f" Left open: {told}." if left else ""
    values = sorted(record["value"] for record in found)
    spans = f" They lie between {values[0]:.4g} and {values[-1]:.4g}." if values else ""
    return (
        f"{len(found)} of {len(exact)} constants were found; errors are relative to "
        f"these.{spans}{note}"
    )


def rows(records: Sequence[Record], group: str, published: Mapping[str, Mapping[str, str]]) -> str:
    """Mean and standard deviation for each method, beside what the paper says."""
    heads = ["method", "guarantee", "seconds", "relative error"]
    told = [
        what
        for what in ("seconds", "error")
        if any(what in theirs for theirs in published.values())
    ]
    wanted = [record for record in records if record["group"] == group]
    known = with_errors(wanted)
    body = []
    for method in SHOWN:
        own = [record for record in wanted if record["method"] == method and "value" in record]
        errors = [record["error"] for record in known if record["method"] == method]
        if not own:
            continue
        body.append(
            [
                method,
                own[0]["guarantee"] if method != EXACT else EXACT,
                spread([record["seconds"] for record in own], short),
                spread(errors, percent),
                *(published.get(method, {}).get(what, "") for what in told),
            ]
        )
    return table([*heads, *(f"paper: {what}" for what in told)], body)


STUDY = Study(items, report, None, seconds=60.0)
