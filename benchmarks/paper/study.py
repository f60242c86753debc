"""Questions times estimators, measured one after the other.

Kept line by line, so that a run can be resumed.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lipexact as lx
from benchmarks.cases import Case
from benchmarks.measure import Record, environment

EXACT = "exact"
PROGRAM = "exact, HiGHS"  # by one mixed-integer program
SAME = ("options", "versions", "processor", "cpus")  # what all lines of one file have in common


@dataclass(frozen=True)
class Method:
    """An estimator, and how it is asked.

    Attributes
    ----------
    estimator
        Its name.
    everywhere
        Whether it is asked about all of R^d, whatever the question's domain.
    euclidean
        Whether it bounds the Euclidean norm only: then for the norm linf on R^d its value is
        multiplied by sqrt(d), as ||g||_1 <= sqrt(d) ||g||_2, and for l1 by 1.
    options
        Its own.
    """

    estimator: str
    everywhere: bool = False
    euclidean: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


METHODS = {
    "sampling": Method("sampling"),
    "clever": Method("clever"),
    EXACT: Method(EXACT),
    PROGRAM: Method(EXACT, options={"mode": "forward"}),  # a mode is what a program has
    "zonotope": Method("zonotope"),
    "linear": Method("linear"),
    "liplp": Method("liplp"),
    "recurjac": Method("recurjac"),
    "fastlip": Method("fastlip"),
    "lipsdp, local": Method("lipsdp", euclidean=True),
    "lipsdp": Method("lipsdp", everywhere=True, euclidean=True),
    "eclipse": Method("eclipse", euclidean=True),
    "seqlip": Method("seqlip", euclidean=True),
    "naive": Method("naive"),
}


@dataclass(frozen=True)
class Item:
    """A question that some methods are asked.

    Attributes
    ----------
    group, member
        Where it belongs in the report; together they name it.
    make
        The question.
    methods
        Names in :data:`METHODS`.
    facts
        What the report says of it.
    """

    group: str
    member: str
    make: Callable[[], Case]
    methods: Sequence[str]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """What one command makes.

    Attributes
    ----------
    items
        The questions; fewer and smaller ones if the argument is True.
    report
        The records as Markdown, without a heading and the environment.
    draw
        Draws the records in a figure of matplotlib; None where there is nothing to draw.
    seconds
        The time limit of each call.
    """

    items: Callable[[bool], Iterable[Item]]
    report: Callable[[Sequence[Record]], str]
    draw: Callable[[Sequence[Record], Any], None] | None
    seconds: float


class DifferentRunError(Exception):
    """What was measured before was measured with something else."""


def run(
    items: Sequence[Item], options: Mapping[str, Any], file: Path, *, fresh: bool
) -> list[Record]:
    """All records, of which those that are in the file are not measured again.

    Raises
    ------
    DifferentRunError
        If the file's were made with other options, versions or on another machine.
    """
    here = environment(options)
    done = [] if fresh else kept(file, here)
    if not done:
        file.write_text(json.dumps(here) + "\n")
    known = {record["key"] for record in done}
    calls = [
        (item, method)
        for item in items
        for method in item.methods
        if key(item, method) not in known
    ]
    if known:
        print(
            f"{len(known)} of {len(known) + len(calls)} measured before",
            file=sys.stderr,
            flush=True,
        )
    start = time.perf_counter()
    with file.open("a") as stream:
        for count, (item, method) in enumerate(calls, start=1):
            record = {**measured(item, method, options["seconds"]), "revision": here["revision"]}
            stream.write(json.dumps(record) + "\n")
            stream.flush()
            done.append(record)
            left = (time.perf_counter() - start) / count * (len(calls) - count)
            print(
                f"{count}/{len(calls)} {told(record)}; about {left / 60:.0f} min left",
                file=sys.stderr,
                flush=True,
            )
    return done


def kept(file: Path, here: Mapping[str, Any]) -> list[Record]:
    """Return the records of an earlier run; an unfinished last line is cut off."""
    if not file.is_file():
        return []
    text = file.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole)
    head, *records = [json.loads(line) for line in whole.splitlines()] or [dict(here)]
    differs = [name for name in SAME if head.get(name) != here.get(name)]
    if differs:
        raise DifferentRunError(
            f"{file.name} was measured with other {' and '.join(differs)}; --fresh "
            "measures all of it again"
        )
    return records


def key(item: Item, method: str) -> str:
    """Return the name of a record."""
    return f"{item.group}/{item.member}/{method}"


def measured(item: Item, method: str, seconds: float) -> Record:
    """Return what a method says on a question."""
    named = {
        "key": key(item, method),
        "group": item.group,
        "member": item.member,
        "method": method,
        **item.facts,
    }
    case, how = item.make(), METHODS[method]
    network = lx.load(case.model)
    converted = how.euclidean and case.input_norm != "l2"
    start = time.perf_counter()
    try:
        found = lx.estimate(
            network,
            lx.Reals(case.domain.dim) if how.everywhere else case.domain,
            how.estimator,
            input_norm="l2" if converted else case.input_norm,
            output_norm=case.output_norm,
            functional=case.functional,
            time_limit=seconds,
            **how.options,
        )
    except lx.LipExactError as error:
        return {**named, "refused": str(error)}
    factor = math.sqrt(case.domain.dim) if converted and case.input_norm == "linf" else 1.0
    return {
        **named,
        "value": found.value * factor,
        "lower": found.details.get("lower"),
        "guarantee": found.guarantee,
        "scope": found.scope,
        "seconds": time.perf_counter() - start,
    }


def told(record: Mapping[str, Any]) -> str:
    """Return a record in a line."""
    if "refused" in record:
        return f"{record['key']}: refused"
    return (
        f"{record['key']}: {record['guarantee']} {record['value']:.6g}, {record['seconds']:.2f} s"
    )


def question(record: Mapping[str, Any]) -> tuple[str, str]:
    """Which question a record answers."""
    return record["group"], record["member"]


def constants(records: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """Return the constant of each question whose constant was found."""
    return {
        question(record): record["value"]
        for record in records
        if record["method"] == EXACT and record.get("guarantee") == EXACT
    }


def with_errors(records: Iterable[Record]) -> list[Record]:
    """Return the records of closed questions, each with its relative error; a refusal has none."""
    records = list(records)
    known = constants(records)
    return [
        {**record, "error": record["value"] / known[question(record)] - 1}
        for record in records
        if "value" in record and question(record) in known
    ]


def spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Mean and standard deviation."""
    if not values:
        return "-"
    mean = form(statistics.mean(values))
    return mean if len(values) < 2 else f"{mean} ± {form(statistics.stdev(values))}"


def percent(value: float) -> str:
    """Return a relative error."""
    size = 100 * value
    if abs(size) < 5e-8:
        return "0"
    return f"{size:.3g} %" if abs(size) < 1e3 else f"{float(f'{size:.3g}'):,.0f} %"


def short(value: float) -> str:
    """Seconds."""
    return f"{value:.3g}"
