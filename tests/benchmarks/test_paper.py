"""The paper's experiments: what they ask, how they are kept, and what they make of it; none of
their times.
"""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lipexact as lx
from benchmarks.cases import Case
from benchmarks.paper import archive, figure1, hardness, study, table1
from benchmarks.paper.__main__ import STUDIES, main
from benchmarks.paper.study import METHODS, DifferentRunError, Item, measured, run
from benchmarks.report import REPORTS

graphs = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        st.just(n), st.sets(st.sampled_from(list(combinations(range(n), 2)) or [(0, 0)]))
    )
)


def graph_of(drawn: tuple[int, set[tuple[int, int]]]) -> Any:
    count, edges = drawn
    graph = nx.empty_graph(count)
    graph.add_edges_from(edge for edge in edges if edge[0] != edge[1])
    return graph


def largest_independent_set(graph: Any) -> int:
    """By all subsets."""
    nodes = list(graph)
    subsets = (subset for size in range(len(nodes), 0, -1) for subset in combinations(nodes, size))
    return next(
        len(subset)
        for subset in subsets
        if not any(graph.has_edge(*pair) for pair in combinations(subset, 2))
    )


@given(graphs)
@settings(max_examples=25, deadline=None)
def test_the_constant_is_the_independence_number(drawn: tuple[int, set[tuple[int, int]]]) -> None:
    graph = graph_of(drawn)
    alpha = largest_independent_set(graph)
    assert hardness.independence_number(graph) == alpha
    for norm in ("l1", "linf", "l2"):
        case = hardness.question(graph, norm)
        result = lx.lipschitz(case.model, case.domain, functional=0, input_norm=norm)
        assert result.status is lx.Status.EXACT
        if norm == "l1":
            assert result.value == alpha
        else:
            assert alpha <= result.value < alpha + 1


def test_a_bound_that_a_graph_contradicts_is_told() -> None:
    record = {"key": "k", "alpha": 3, "norm": "l1", "guarantee": "upper", "value": 3.0}
    assert (
        hardness.contradictions(
            [record, {**record, "guarantee": "lower"}, {**record, "guarantee": "exact"}]
        )
        == []
    )
    for wrong in (
        {"value": 2.9},
        {"guarantee": "lower", "value": 3.1},
        {"guarantee": "exact", "value": 3.1},
    ):
        assert len(hardness.contradictions([{**record, **wrong}])) == 1
    assert (
        hardness.contradictions([{**record, "norm": "linf", "guarantee": "exact", "value": 3.9}])
        == []
    )


@pytest.mark.parametrize("name", ["paper_synthetic", "paper_epochs"])
def test_archived_networks_are_what_is_told_of_them(name: str) -> None:
    about = archive.about(name)
    sizes = {"paper_synthetic": (10, 70, 2), "paper_epochs": (2, 80, 2)}[name]
    for member in list(about)[:: len(about) // 5]:
        network = archive.network(name, member)
        assert (network.input.size, network.relus, network.output.size) == sizes
    if name == "paper_epochs":
        wide = archive.network(name, "none_0_500").evaluate(np.array([0.5, 0.5]))
        assert not np.allclose(
            wide, archive.network(name, "none_0_000").evaluate(np.array([0.5, 0.5]))
        )


@pytest.mark.parametrize("name", STUDIES)
def test_every_question_is_asked_once_and_fits_its_network(name: str) -> None:
    items = list(STUDIES[name].items(True))
    keys = [study.key(item, method) for item in items for method in item.methods]
    assert len(keys) == len(set(keys)) > 0
    for item in items:
        case = item.make()
        assert case.domain.dim == lx.load(case.model).input.size
        assert set(item.methods) <= set(METHODS)
    full = [
        study.key(item, method) for item in STUDIES[name].items(False) for method in item.methods
    ]
    assert set(keys) <= set(full)
    assert len(full) == len(set(full))


def kink() -> Case:
    """|x|, with constant 1."""
    return Case(
        lx.Network.from_layers([([[1], [-1]], [0, 0]), ([[1, 1]], [0])]), lx.Box([-1], [1]), (1,)
    )


def test_a_euclidean_bound_is_converted() -> None:
    """||g||_1 <= sqrt(d) ||g||_2, tight for f(x) = x1 + x2."""
    case = Case(lx.Network.from_layers([([[1, 1]], [0])]), lx.Box([0, 0], [1, 1]), (1,))
    record = measured(Item("g", "m", lambda: case, ()), "lipsdp", 10)
    assert record["value"] == pytest.approx(2)
    assert record["scope"] == "local"  # the estimator's; asked about all of R^d
    assert measured(Item("g", "m", kink, ()), "lipsdp", 10)["value"] == pytest.approx(1)


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    items = [Item("g", str(number), kink, ("exact", "naive")) for number in range(2)]
    whole = run(items, {"seconds": 5.0}, file, fresh=False)
    assert [record["key"] for record in whole] == [
        "g/0/exact",
        "g/0/naive",
        "g/1/exact",
        "g/1/naive",
    ]
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:3]) + lines[3][:10])
    again = run(items, {"seconds": 5.0}, file, fresh=False)
    assert again[:2] == whole[:2]
    assert [record["key"] for record in again] == [record["key"] for record in whole]
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()[1:]] == [
        r["key"] for r in whole
    ]
    with pytest.raises(DifferentRunError, match=r"options; --fresh"):
        run(items, {"seconds": 6.0}, file, fresh=False)
    assert len(run(items[:1], {"seconds": 6.0}, file, fresh=True)) == 2
    assert len(file.read_text().splitlines()) == 3


def test_errors_are_relative_to_the_constants_that_were_found() -> None:
    exact = {"group": "g", "member": "a", "method": "exact", "guarantee": "exact", "value": 2.0}
    loose = {**exact, "method": "naive", "guarantee": "upper", "value": 3.0}
    stopped = {**exact, "member": "b", "guarantee": "upper"}
    refused = {"group": "g", "member": "a", "method": "lipsdp", "refused": "no"}
    found = study.with_errors([exact, loose, stopped, refused, {**loose, "member": "b"}])
    assert [(record["member"], record["method"], record["error"]) for record in found] == [
        ("a", "exact", 0.0),
        ("a", "naive", 0.5),
    ]
    assert study.spread([1.0, 3.0], "{:.1f}".format) == "2.0 ± 1.4"
    assert study.percent(0.123456) == "12.3 %"


def test_table1_stands_beside_what_was_published() -> None:
    record = {
        "group": "mnist",
        "member": "0",
        "method": "exact",
        "guarantee": "exact",
        "value": 2.0,
        "seconds": 1.0,
    }
    text = table1.report(
        [record, {**record, "method": "naive", "guarantee": "upper", "value": 5.0}]
    )
    assert "| exact | exact | 1 | 0 | 69 (LipMIP) |" in text
    assert "| naive | upper | 1 | 150 % | - |" in text


@pytest.mark.parametrize("name", STUDIES)
def test_the_committed_report_is_that_of_its_records(name: str) -> None:
    file = REPORTS / f"paper_{name}.jsonl"
    head, *records = map(json.loads, file.read_text().splitlines())
    assert not head["options"]["quick"]
    text = file.with_suffix(".md").read_text()
    assert text.split("<!-- results -->\n\n")[1] == STUDIES[name].report(records) + "\n"
    asked = {
        study.key(item, method) for item in STUDIES[name].items(False) for method in item.methods
    }
    assert {record["key"] for record in records} == asked
    if name == "hardness":
        assert hardness.contradictions(records) == []


def test_a_quick_run_writes_a_report_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [item for item in figure1.STUDY.items(True) if item.group in ("none", "FGSM")]
    monkeypatch.setitem(
        STUDIES, "figure1", study.Study(lambda _: few, figure1.report, figure1.draw, 5.0)
    )  # type: ignore[arg-type]
    assert main(["figure1", "--quick", "--folder", str(tmp_path)]) == 0
    assert "# The paper's experiments: figure1" in capsys.readouterr().out
    assert (tmp_path / "paper_figure1.png").stat().st_size > 1000
    assert main(["figure1", "--quick", "--seconds", "1", "--folder", str(tmp_path)]) == 1
    assert "--fresh measures all of it again" in capsys.readouterr().err
    for seconds in ("0", "-1", "nan", "inf"):
        with pytest.raises(SystemExit):
            main(["figure1", "--quick", "--seconds", seconds, "--folder", str(tmp_path)])
    (tmp_path / "paper_figure1.jsonl").write_text("")
    assert main(["figure1", "--render", "--folder", str(tmp_path)]) == 1
    assert main(["table1", "--render", "--folder", str(tmp_path)]) == 1
    assert "No such file" in capsys.readouterr().err
