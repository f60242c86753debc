"""Networks whose constant is the size of a graph's largest independent set.

They belong to Theorem 4 of the paper.

For a graph with n nodes, s in [-1, 0] and x in [0, T]^n

    f(s, x) = sum_i relu(s + (x_i - sum of x_j over the neighbours j of i) / T)

has one hidden layer. Neurons that are on together belong to nodes that are no neighbours, and the
derivative in s is their number. So with T = 1 the constant for the input norm l1 is the
independence number alpha exactly, and for the norms l2 and linf it is at least alpha and less than
alpha + 1 if T > 2 n^2: docs/hardness.md proves it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import networkx as nx
import numpy as np

import lipexact as lx
from benchmarks.cases import Case
from benchmarks.measure import Record
from benchmarks.paper.study import EXACT, PROGRAM, Item, Study, percent, short, spread, with_errors
from benchmarks.report import table

Graph = Any  # networkx has no types
BESIDE = (EXACT, PROGRAM, "sampling", "zonotope", "linear", "liplp", "recurjac", "fastlip", "naive")
BOUNDS = BESIDE[2:]
SIZES = (4, 6, 8, 10, 12, 14, 16, 18, 20, 24, 28, 32, 36, 40)
LARGEST = {EXACT: 20}  # branch and bound closes none beyond in a minute
SEEDS = 3
DENSITIES = (0.25, 0.5)
NAMED: Mapping[str, Callable[[], Graph]] = {
    "no edge, 12 nodes": lambda: nx.empty_graph(12),
    "path of 12": lambda: nx.path_graph(12),
    "cycle of 12": lambda: nx.cycle_graph(12),
    "cycle of 13": lambda: nx.cycle_graph(13),
    "complete, 12": lambda: nx.complete_graph(12),
    "complete bipartite, 6 and 6": lambda: nx.complete_bipartite_graph(6, 6),
    "star of 12": lambda: nx.star_graph(11),
    "Petersen's": nx.petersen_graph,
    "grid, 4 by 4": lambda: nx.convert_node_labels_to_integers(nx.grid_2d_graph(4, 4)),
}


def independence_number(graph: Graph) -> int:
    """Return the size of a largest independent set: by a largest clique of the complement."""
    clique, _ = nx.max_weight_clique(nx.complement(graph), weight=None)
    return len(clique)


def network(graph: Graph, scale: float) -> lx.Network:
    """Return the network of a graph, for the box [-1, 0] x [0, scale]^n."""
    count = graph.number_of_nodes()
    gains = np.eye(count) - nx.to_numpy_array(graph, nodelist=range(count))
    hidden = np.hstack([np.ones((count, 1)), gains / scale])
    return lx.Network.from_layers(
        [(hidden, np.zeros(count)), (np.ones((1, count)), np.zeros(1))], "independent_set"
    )


def question(graph: Graph, norm: str) -> Case:
    """Return a graph's network on its box, with the scale that the norm asks for."""
    count = graph.number_of_nodes()
    scale = 1.0 if norm == "l1" else 2.0 ** np.ceil(np.log2(2 * count**2 + 1))
    return Case(
        network(graph, scale), lx.Box([-1.0] + [0.0] * count, [0.0] + [scale] * count), 0, norm
    )


def random_graph(count: int, density: float, seed: int) -> Graph:
    """Every edge with the same probability (Gilbert's model)."""
    return nx.gnp_random_graph(count, density, seed=seed)


def items(quick: bool) -> Iterator[Item]:
    """Graphs with a name in three norms, and random ones of growing size."""
    for name, make in list(NAMED.items())[2:3] if quick else NAMED.items():
        for norm in ("l1", "linf", "l2")[: 1 if quick else 3]:
            yield item(f"named, {norm}", name, make(), norm)
    for density in DENSITIES[1:] if quick else DENSITIES:
        for count in SIZES[:2] if quick else SIZES:
            for seed in range(1 if quick else SEEDS):
                graph = random_graph(count, density, seed)
                yield item(f"random, {density:g}", f"{count}_{seed}", graph, "l1")


def item(group: str, member: str, graph: Graph, norm: str) -> Item:
    """Return a graph as a question."""
    facts = {"nodes": graph.number_of_nodes(), "alpha": independence_number(graph), "norm": norm}
    methods = [method for method in BESIDE if len(graph) <= LARGEST.get(method, len(graph))]
    return Item(group, member, partial(question, graph, norm), methods, facts)


def contradictions(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where a bound or a constant is not what the graph says."""
    wrong = []
    for record in records:
        alpha = record["alpha"]
        most = alpha if record["norm"] == "l1" else alpha + 1
        guarantee = record.get("guarantee")
        low = guarantee in ("exact", "upper") and record["value"] < alpha * (1 - 1e-9)
        high = guarantee in ("exact", "lower") and record["value"] > most * (1 + 1e-9)
        if low or high:
            wrong.append(
                f"{record['key']}: {guarantee} {record['value']!r}, but the graph's number "
                f"is {alpha}"
            )
    return wrong


def report(records: Sequence[Record]) -> str:
    """Tables of both families."""
    wrong = contradictions(records)
    checked = "\n".join(f"* WRONG: {line}" for line in wrong) or (
        f"All {sum('value' in record for record in records)} bounds and constants agree "
        "with the independence numbers "
        "that networkx computes: the constant is that number for the norm l1, and its "
        "floor is for linf and l2."
    )
    parts = [checked]
    for norm in ("l1", "linf", "l2"):
        own = [record for record in records if record["group"] == f"named, {norm}"]
        if own:
            parts += [f"## Graphs with a name, {norm}", named(own)]
    for density in DENSITIES:
        own = [record for record in records if record["group"] == f"random, {density:g}"]
        if own:
            parts += [f"## Random graphs, l1, every edge with probability {density:g}", random(own)]
    return "\n\n".join(parts)


def named(records: Sequence[Record]) -> str:
    """Return a row for each graph: the number, the constant, the others' errors."""
    methods = [method for method in BOUNDS if any(record["method"] == method for record in records)]
    cells = {(record["member"], record["method"]): record for record in records}
    errors = {
        (record["member"], record["method"]): record["error"] for record in with_errors(records)
    }

    def error(member: str, method: str) -> str:
        found = errors.get((member, method))
        return "-" if found is None else percent(found)

    return table(
        ["graph", "independence number", "constant", "seconds", *methods],
        (
            [
                member,
                str(cells[member, EXACT]["alpha"]),
                value(cells[member, EXACT]),
                short(cells[member, EXACT]["seconds"]),
                *(error(member, method) for method in methods),
            ]
            for member in dict.fromkeys(record["member"] for record in records)
        ),
    )


def value(record: Mapping[str, Any]) -> str:
    """Return the constant, or what is known of it."""
    if record["guarantee"] == EXACT:
        return f"{record['value']:.6g}"
    return f"[{record['lower']:.6g}, {record['value']:.6g}]"


def random(records: Sequence[Record]) -> str:
    """Return a row for each number of nodes."""
    body = []
    for count in sorted({record["nodes"] for record in records}):
        own = [record for record in records if record["nodes"] == count and "value" in record]

        def solved(method: str, own: Sequence[Record] = own) -> list[str]:
            of = [record for record in own if record["method"] == method]
            found = (
                f"{sum(record['guarantee'] == EXACT for record in of)} of {len(of)}" if of else "-"
            )
            return [found, spread([record["seconds"] for record in of], short)]

        def errors(method: str, own: Sequence[Record] = own) -> list[float]:
            return [
                record["value"] / record["alpha"] - 1
                for record in own
                if record["method"] == method
            ]

        body.append(
            [
                str(count),
                ", ".join(str(record["alpha"]) for record in own if record["method"] == PROGRAM),
                *solved(EXACT),
                *solved(PROGRAM),
                *(spread(errors(method), percent) for method in BOUNDS),
            ]
        )
    heads = ["branch and bound", "seconds", "program, HiGHS", "seconds"]
    return table(["nodes", "independence numbers", *heads, *BOUNDS], body)


def draw(records: Sequence[Record], figure: Any) -> None:
    """Seconds against nodes, and ratios against nodes."""
    figure.set_size_inches(11, 4)
    left, right = figure.subplots(1, 2)
    curves = [(method, density) for method in (EXACT, PROGRAM) for density in DENSITIES]
    for number, (method, density) in enumerate(curves):
        own = [r for r in records if r["group"] == f"random, {density:g}" and r["method"] == method]
        name = f"{'branch and bound' if method == EXACT else 'program, HiGHS'}, density {density:g}"
        for closed in (True, False):
            some = [record for record in own if (record["guarantee"] == EXACT) == closed]
            face = f"C{number}" if closed else "none"
            points = [record["nodes"] for record in some], [record["seconds"] for record in some]
            left.scatter(*points, s=18, ec=f"C{number}", fc=face, label=name if closed else None)
    left.set(yscale="log", xlabel="nodes of the graph", ylabel="seconds (open: not closed)")
    own = [
        record
        for record in records
        if record["group"] == f"random, {DENSITIES[-1]:g}" and "value" in record
    ]
    sizes = sorted({record["nodes"] for record in own})
    together: dict[tuple[float, ...], list[str]] = {}  # most methods give the same
    for method in BOUNDS:
        of = [record for record in own if record["method"] == method]
        ratios = ([r["value"] / r["alpha"] for r in of if r["nodes"] == size] for size in sizes)
        together.setdefault(tuple(round(statistics.mean(each), 6) for each in ratios), []).append(
            method
        )
    for means, methods in together.items():
        right.plot(sizes, means, label=", ".join(methods), marker="o", ms=3)
    right.set(
        xlabel="nodes of the graph",
        ylabel=f"ratio to the independence number, density {DENSITIES[-1]:g}",
    )
    right.axhline(1, color="black", lw=0.8)
    for panel in (left, right):
        panel.legend(fontsize=8)
        panel.grid(visible=True, alpha=0.3)


STUDY = Study(items, report, draw, seconds=60.0)
