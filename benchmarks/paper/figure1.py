"""Figure 1 of the paper.

Estimates while a network trains, and the exact constant under regularisers, epoch by epoch.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import lipexact as lx
from benchmarks.cases import Case
from benchmarks.measure import Record
from benchmarks.paper import archive
from benchmarks.paper.study import EXACT, Item, Study, constants, percent, spread, with_errors
from benchmarks.report import table

ARCHIVE = "paper_epochs"
BESIDE = (EXACT, "sampling", "linear", "liplp", "fastlip", "lipsdp", "seqlip", "naive")
MILD = "mild "
COLOURS = {"none": "black", "l1 weights": "C0", "l2 weights": "C1", "FGSM": "C2", "gradient": "C4"}


def items(quick: bool) -> Iterator[Item]:
    """Every network on the unit square, c = (1, -1), norm linf.

    Estimators where no regulariser was used.
    """
    for name, known in archive.about(ARCHIVE).items():
        if quick and (
            known["seed"]
            or known["epoch"] not in (0, 50)
            or known["regulariser"] not in ("none", "FGSM")
        ):
            continue
        methods = (BESIDE[:3] if quick else BESIDE) if known["regulariser"] == "none" else (EXACT,)
        yield Item(known["regulariser"], name, partial(question, name), methods, known)


def question(name: str) -> Case:
    """One of the networks."""
    return Case(archive.network(ARCHIVE, name), lx.Box.unit(2), (1, -1))


def report(records: Sequence[Record]) -> str:
    """Both panels as tables."""
    return f"""\
Networks 2-20-40-20-2 on the unit square, 256 points, 500 epochs, input norm linf, c = (1, -1); mean
and standard deviation over the seeds.

## While a network trains: relative errors

{training(records)}

## Regularisers: the exact constant

{regularisers(records)}

"mild" is a tenth of the strength of the authors' scripts, for FGSM a fifth of the radius. Share of
the training points in the right class after the last epoch:

{accuracies(records)}"""


def epochs(records: Sequence[Mapping[str, Any]]) -> list[int]:
    """After which ones networks were kept."""
    return sorted({record["epoch"] for record in records})


def training(records: Sequence[Record]) -> str:
    """Return a row for each method, a column for each epoch."""
    known = [record for record in with_errors(records) if record["regulariser"] == "none"]
    when = epochs(known)

    def cell(method: str, epoch: int) -> str:
        own = [
            record for record in known if record["method"] == method and record["epoch"] == epoch
        ]
        if method == EXACT:
            return spread([record["value"] for record in own], "{:.4g}".format)
        return spread([record["error"] for record in own], percent)

    names = [method for method in BESIDE if any(record["method"] == method for record in known)]
    heads = ["epochs", *map(str, when)]
    return table(
        heads,
        (
            [("constant" if name == EXACT else name), *(cell(name, e) for e in when)]
            for name in names
        ),
    )


def regularisers(records: Sequence[Record]) -> str:
    """Return a row for each regulariser, a column for each epoch."""
    known = by_regulariser(records)
    when = epochs(records)
    return table(
        ["epochs", *map(str, when)],
        (
            [name, *(spread(found.get(epoch, []), "{:.4g}".format) for epoch in when)]
            for name, found in known.items()
        ),
    )


def by_regulariser(records: Sequence[Record]) -> dict[str, dict[int, list[float]]]:
    """Return the constants by the name of the regulariser and the epoch."""
    found: dict[str, dict[int, list[float]]] = {}
    known = constants(records)
    for record in records:
        if record["method"] == EXACT and (record["group"], record["member"]) in known:
            of = found.setdefault(record["regulariser"], {})
            of.setdefault(record["epoch"], []).append(record["value"])
    return found


def accuracies(records: Sequence[Record]) -> str:
    """Return a row for each regulariser."""
    last = epochs(records)[-1]
    rows: dict[str, list[float]] = {}
    for record in records:
        if record["method"] == EXACT and record["epoch"] == last:
            rows.setdefault(record["regulariser"], []).append(record["accuracy"])
    return table(
        ["regulariser", "right"],
        ([name, ", ".join(f"{value:.3f}" for value in values)] for name, values in rows.items()),
    )


def draw(records: Sequence[Record], figure: Any) -> None:
    """Three panels: estimates, and the constants under the regularisers of both strengths."""
    figure.set_size_inches(13, 4.2)
    left, middle, right = figure.subplots(1, 3)
    right.sharey(middle)
    own = [record for record in records if record["regulariser"] == "none" and "value" in record]
    for number, method in enumerate(BESIDE):
        of = [record for record in own if record["method"] == method]
        when = epochs(of)
        means = [
            statistics.mean(record["value"] for record in of if record["epoch"] == epoch)
            for epoch in when
        ]
        # what is sampled lies on the constant
        style = (
            {"color": "black", "lw": 3}
            if method == EXACT
            else {"color": f"C{number - 1}", "lw": 1.5}
        )
        left.plot(
            when, means, label=method, linestyle="--" if method == "sampling" else "-", **style
        )
    left.set_yscale("log")
    left.set_title("estimates while a network trains", fontsize=10)
    known = by_regulariser(records)
    for panel, mild in ((middle, False), (right, True)):
        for name, found in known.items():
            if name == "none" or name.startswith(MILD) == mild:
                curve(panel, name.removeprefix(MILD), found)
        panel.set_title("the constant under regularisers" + (", mild" if mild else ""), fontsize=10)
    for panel in (left, middle, right):
        panel.set_xlabel("epochs")
        panel.set_ylabel("Lipschitz constant")
        panel.grid(visible=True, alpha=0.3)
        panel.legend(fontsize=8)


def curve(panel: Any, name: str, found: Mapping[int, Sequence[float]]) -> None:
    """Mean and range over the seeds."""
    color = COLOURS[name]
    when = sorted(found)
    panel.plot(
        when, [statistics.mean(found[epoch]) for epoch in when], label=name, color=color, lw=1.6
    )
    panel.fill_between(
        when,
        [min(found[epoch]) for epoch in when],
        [max(found[epoch]) for epoch in when],
        color=color,
        alpha=0.15,
        lw=0,
    )


STUDY = Study(items, report, draw, seconds=60.0)
