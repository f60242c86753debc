"""What the paper's text speaks of: width, depth, radius, and networks with many outputs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import lipexact as lx
from benchmarks.cases import Case, question, random_network
from benchmarks.measure import Record
from benchmarks.paper.study import EXACT, Item, Study, percent, short, spread, with_errors
from benchmarks.report import table

BESIDE = (
    EXACT,
    "sampling",
    "zonotope",
    "linear",
    "liplp",
    "recurjac",
    "fastlip",
    "lipsdp",
    "seqlip",
    "naive",
)
VECTOR = (EXACT, "sampling", "zonotope", "linear", "liplp", "recurjac", "fastlip", "naive")
SEEDS = 3
WIDTHS = (5, 10, 20, 30, 40, 60)
DEPTHS = (1, 2, 3, 4, 5, 6)
OUTPUTS = (1, 2, 4, 8, 16)
RADII = (0.0125, 0.025, 0.05, 0.1, 0.2)
ABOUT = {
    "width": "Random networks 2-w-w-w-2 on the square [-1, 1]^2, c = (1, -1), norm linf, by width",
    "depth": "Random networks with hidden layers of 20 on the same square, by depth",
    "radius": (
        "A digit of MNIST and its network 784-20-20-20-2, balls around it, by radius (three digits)"
    ),
    "outputs, linf": (
        "Random networks 8-16-16-m on the box [-0.5, 0.5]^8, whole output, linf to linf, by outputs"
    ),
    "outputs, l1": "The same, l1 to l1",
}
AXES = {"width": "width", "depth": "hidden layers", "radius": "radius"} | dict.fromkeys(
    list(ABOUT)[3:], "outputs"
)
Value = float


def items(quick: bool) -> Iterator[Item]:
    """Every network of every series."""
    seeds = range(1 if quick else SEEDS)
    scalar, vector = (methods[:4] if quick else methods for methods in (BESIDE, VECTOR))
    for seed in seeds:
        for width in WIDTHS[:1] if quick else WIDTHS:
            make = partial(random_square, (2, *[width] * 3, 2), seed)
            yield Item("width", f"{width}_{seed}", make, scalar, {"value of": width})
        for depth in DEPTHS[:1] if quick else DEPTHS:
            make = partial(random_square, (2, *[20] * depth, 2), seed)
            yield Item("depth", f"{depth}_{seed}", make, scalar, {"value of": depth})
        for radius in RADII[:1] if quick else RADII:
            yield Item(
                "radius",
                f"{radius}_{seed}",
                partial(digit, seed, radius),
                scalar,
                {"value of": radius},
            )
        for norm in ("linf", "l1"):
            for outputs in OUTPUTS[:1] if quick else OUTPUTS:
                make = partial(many_outputs, outputs, seed, norm)
                yield Item(
                    f"outputs, {norm}", f"{outputs}_{seed}", make, vector, {"value of": outputs}
                )


def random_square(sizes: Sequence[int], seed: int) -> Case:
    """Return a random network of two inputs."""
    return Case(random_network(sizes, seed), lx.Box([-1.0] * 2, [1.0] * 2), (1, -1))


def digit(number: int, radius: float) -> Case:
    """Return a ball around a digit."""
    case = question(f"mnist17_ball_{number:02d}")
    return replace(case, domain=lx.Ball(case.domain.centre, radius))


def many_outputs(outputs: int, seed: int, norm: str) -> Case:
    """Return a random network with as many outputs, all of which count."""
    sizes = (8, 16, 16, outputs)
    return Case(random_network(sizes, seed), lx.Box([-0.5] * 8, [0.5] * 8), None, norm, norm)


def report(records: Sequence[Record]) -> str:
    """Return a table for each series."""
    known = with_errors(records)
    return "\n\n".join(
        f"## {about}\n\n{one(records, known, group)}"
        for group, about in ABOUT.items()
        if any(record["group"] == group for record in records)
    )


def one(records: Sequence[Record], known: Sequence[Record], group: str) -> str:
    """Seconds of the exact method, and the relative error of the others."""
    own = [record for record in records if record["group"] == group and "value" in record]
    closed = [record for record in known if record["group"] == group]
    values = sorted({record["value of"] for record in own})

    def cell(method: str, value: Value) -> str:
        of = [
            record
            for record in closed
            if record["method"] == method and record["value of"] == value
        ]
        return spread([record["error"] for record in of], percent)

    def exact(value: Value) -> list[Record]:
        return [
            record for record in own if record["method"] == EXACT and record["value of"] == value
        ]

    def found(value: Value) -> str:
        of = exact(value)
        return f"{sum(record['guarantee'] == EXACT for record in of)} of {len(of)}"

    methods = [method for method in BESIDE if any(record["method"] == method for record in own)]
    body = [
        ["constants found", *(found(value) for value in values)],
        [
            "seconds of exact",
            *(spread([record["seconds"] for record in exact(value)], short) for value in values),
        ],
        *(
            [method, *(cell(method, value) for value in values)]
            for method in methods
            if method != EXACT
        ),
    ]
    return table([AXES[group], *(f"{value:g}" for value in values)], body)


def draw(records: Sequence[Record], figure: Any) -> None:
    """Draw a panel for each series: ratios to the constant."""
    groups = [group for group in ABOUT if any(record["group"] == group for record in records)]
    figure.set_size_inches(12, 3.6 * -(-len(groups) // 3))
    panels = figure.subplots(-(-len(groups) // 3), 3, squeeze=False).ravel()
    known = with_errors(records)
    handles: dict[str, Any] = {}
    for panel, group in zip(panels, groups, strict=False):
        if group != "depth":
            panel.set_xscale("log", base=2)
        draw_one(panel, [record for record in known if record["group"] == group], handles)
        panel.set_xlabel(AXES[group])
        panel.set_title(group, fontsize=10)
    spare = panels[len(groups) :]
    for panel in spare:
        panel.set_axis_off()
    (spare[0] if len(spare) else panels[0]).legend(
        handles.values(), handles, fontsize=9, loc="center"
    )


def draw_one(panel: Any, records: Sequence[Mapping[str, Any]], handles: dict[str, Any]) -> None:
    """Draw the mean ratio of each method."""
    for number, method in enumerate(method for method in BESIDE if method != EXACT):
        found: dict[Value, list[float]] = {}
        for record in records:
            if record["method"] == method:
                found.setdefault(record["value of"], []).append(1 + record["error"])
        if found:
            values = sorted(found)
            means = [statistics.geometric_mean(found[value]) for value in values]
            (handles[method],) = panel.plot(values, means, marker="o", ms=3, color=f"C{number}")
            panel.set_xticks(values, [f"{value:g}" for value in values])
            panel.minorticks_off()
    panel.axhline(1, color="black", lw=0.8)
    panel.set_yscale("log")
    panel.set_ylabel("ratio to the constant", fontsize=9)
    panel.grid(visible=True, alpha=0.3)


STUDY = Study(items, report, draw, seconds=30.0)
