"""The benchmarks' registry, reports and comparisons: none of their times."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lipexact as lx
from benchmarks import batch, compare, growth, report, run, scale, workers
from benchmarks.cases import CASES, KNOWN, Case, Entry, Peer, Skipped, random_network
from benchmarks.measure import Configuration, contradiction, environment, flatten, measure, medians
from lipexact.mip.solvers.base import solver_names
from lipexact.network import Network

VERSIONS = {"lipexact": "1", "highspy": "1.15"}
ENVIRONMENT = {
    "python": "3.11",
    "machine": "x",
    "cpus": 2,
    "options": {"seconds": 60.0},
    "versions": VERSIONS,
}
times = st.floats(1e-4, 1e4)


def row(
    case: str = "a", seconds: float = 1.0, lower: float = 1.0, upper: float = 1.0, **more: Any
) -> dict[str, Any]:
    status = "EXACT" if lower == upper else "BOUNDED"
    used = {
        "used_method": "mip",
        "used_solver": "highs",
        "used_mode": "forward",
        "stats": {},
        "peer": None,
    }
    known = {
        "case": case,
        "family": case,
        "configuration": "auto",
        "status": status,
        "seconds": seconds,
    }
    return {**known, **used, "lower": lower, "upper": upper, **more}


def of(*rows: dict[str, Any], **changes: Any) -> report.Report:
    return report.Report("name", {**ENVIRONMENT, **changes}, rows)


def peer(seconds: float | None) -> dict[str, Any]:
    return {"name": "other", "seconds": seconds, "note": ""}


def cells(markdown: str, start: str) -> list[str]:
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {start} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_a_question(name: str) -> None:
    entry = CASES[name]
    assert entry.about.endswith((".", ":"))
    assert name.startswith(entry.family)
    try:
        case = entry.make()
    except Skipped as reason:
        pytest.skip(str(reason))
    network = lx.load(case.model)
    assert case.domain.dim == network.input.size
    if isinstance(case.functional, tuple | list):
        assert len(case.functional) == network.output.size


def test_known_constants_belong_to_cases() -> None:
    known = json.loads(KNOWN.read_text())
    assert set(known) <= set(CASES)
    assert all(value > 0 for value in known.values())


def test_known_constants_lie_between_cheap_bounds() -> None:
    name = "mnist17_ball_06"
    case = CASES[name].make()
    network = lx.load(case.model)
    gradient = np.array(case.functional) @ network.jacobian(np.array(case.domain.centre))
    assert np.abs(gradient).sum() <= json.loads(KNOWN.read_text())[name]


def test_the_first_of_each_family_is_in_the_smoke_run() -> None:
    smoke = [name for name in CASES if run.chosen(name, None, first=True)]
    assert sorted(CASES[name].family for name in smoke) == sorted(
        {entry.family for entry in CASES.values()}
    )
    assert sum(run.chosen(name, ["mnist17_ball"], first=False) for name in CASES) == 20
    assert [name for name in CASES if run.chosen(name, ["synthetic_?_*"], first=True)] == [
        "synthetic_2_20_40_20_2"
    ]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Case:
    """The only case there is: |x| on [-1, 1], with constant 1."""
    network = Network.from_layers([([[1.0], [-1.0]], [0, 0]), ([[1.0, 1.0]], [0])])
    case = Case(network, lx.Box([-1], [1]), (1,), known=1.0)
    for name in list(CASES):
        monkeypatch.delitem(CASES, name)
    enter(monkeypatch, "tiny", case)
    return case


def enter(monkeypatch: pytest.MonkeyPatch, name: str, case: Case | Exception) -> None:
    def make() -> Case:
        if isinstance(case, Exception):
            raise case
        return case

    monkeypatch.setitem(CASES, name, Entry(make, "A case.", name, peer=Peer("other", 1e6)))


def test_a_run_writes_its_report(
    tiny: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "REPORTS", tmp_path)
    assert run.main(["--json", "--report", "mine", "--repeat", "2"]) == 0
    head, told = map(json.loads, capsys.readouterr().out.splitlines())
    assert (tmp_path / "mine.jsonl").read_text().splitlines() == [
        json.dumps(head),
        json.dumps(told),
    ]
    assert told["status"] == "EXACT"
    assert told["repeat"] == len(told["runs"]) == 2
    written = (tmp_path / "mine.md").read_text()
    assert cells(written, "tiny")[5:8] == ["EXACT", "1", "1"]
    assert "Geometric mean of the ratios (auto)" in written
    report.main([str(tmp_path / "mine.jsonl")])
    assert capsys.readouterr().out == written
    assert compare.main([str(tmp_path / "mine.jsonl")] * 2) == 0


def test_failures_stand_last(
    tiny: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(monkeypatch, "away", Skipped("it is elsewhere"))
    enter(monkeypatch, "broken", RuntimeError("it\nbroke"))
    enter(monkeypatch, "wrong", replace(tiny, known=2.0))
    assert run.main(["--repeat", "1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-5] == "benchmarks.run: 1 of 4 skipped:"
    assert lines[-4] == "  away (auto): it is elsewhere"
    assert lines[-3] == "benchmarks.run: 2 of 4 FAILED:"
    assert lines[-2] == "  broken (auto): RuntimeError: it broke"
    assert lines[-1].startswith("  wrong (auto): WRONG: EXACT at 1.0, but the constant is 2.0")


def test_what_a_version_cannot_do_is_skipped(tiny: Case) -> None:
    unknown = run.record("tiny", Configuration("no such method"), 1.0, 1)
    assert "no such method" in unknown["skipped"]
    assert (
        "no such solver"
        in run.record("tiny", Configuration("auto", "no such solver"), 1.0, 1)["skipped"]
    )
    assert "error" in run.record("tiny", Configuration("auto", None, "no such mode"), 1.0, 1)


def test_a_missing_solver_fails_on_ci_only(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    error = lx.SolverUnavailableError("none here")
    monkeypatch.setenv("CI", "true")
    assert run.skipped(error, Configuration()) is None
    monkeypatch.setenv("CI", "")
    assert run.skipped(error, Configuration()) == "none here"


def test_a_case_without_match_is_an_error(tiny: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--case", "none*"]) == 1
    assert "no case matches" in capsys.readouterr().err


def test_what_the_time_limit_stopped_is_not_repeated(
    tiny: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = lx.lipschitz(tiny.model, tiny.domain)
    monkeypatch.setattr(
        "benchmarks.measure.solve", lambda *_: replace(result, termination="time limit")
    )
    assert measure(tiny, Configuration(), 1.0, 5)["repeat"] == 1


def test_a_child_that_dies_is_named_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = iter((0, -9, 1))

    def process(**_: Any) -> SimpleNamespace:
        return SimpleNamespace(start=lambda: None, join=lambda: None, exitcode=next(codes))

    monkeypatch.setattr(
        scale.multiprocessing, "get_context", lambda _: SimpleNamespace(Process=process)
    )
    assert scale.main(["--smoke", "--phase", "load", "--phase", "ball", "--phase", "box"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "benchmarks.scale: FAILED: ball: exit code -9, by the signal SIGKILL: out of memory?",
        "benchmarks.scale: FAILED: box: exit code 1",
    ]


@given(st.floats(1e-6, 1e6), st.floats(0, 1), st.floats(0, 1))
def test_an_interval_around_the_known_constant_stands(
    known: float, below: float, above: float
) -> None:
    bounds = {"status": "BOUNDED", "lower": known * (1 - below / 2), "upper": known * (1 + above)}
    assert contradiction(bounds, known) is None
    assert contradiction(bounds, bounds["upper"] * 1.001) is not None
    assert contradiction(bounds, bounds["lower"] * 0.999) is not None
    assert contradiction(bounds, None) is None
    exact = {"status": "EXACT", "lower": known, "upper": known}
    assert contradiction(exact, known * (1 + 5e-10)) is None
    assert contradiction(exact, known * (1 + 2e-9)) is not None


def test_medians_of_nested_stats() -> None:
    stats = [{"a": {"b_seconds": float(k)}, "nodes": 10 * k, "said": str(k)} for k in (3, 1, 2)]
    found = medians([dict(flatten(each)) for each in stats])
    assert found == {"a.b_seconds": 2.0, "nodes": 20, "said": "2"}
    assert report.phases({**found, "lps": 7, "tree_seconds": 1}) == {"a.b": 2.0, "tree": 1.0}


def test_the_environment_can_be_written_and_read(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_text(
        f"{json.dumps(environment({'seconds': 60.0}))}\n{json.dumps(row())}\n\n"
    )
    read = report.read(tmp_path / "run.jsonl")
    assert read.environment["versions"]["lipexact"] == lx.__version__
    assert read.rows == [row()]
    assert compare.differences(read, read) == []
    (tmp_path / "other.jsonl").write_text(json.dumps(row()))
    with pytest.raises(ValueError, match="does not begin with an environment"):
        report.read(tmp_path / "other.jsonl")


@given(st.lists(st.tuples(times, times), min_size=1, max_size=8))
def test_the_report_s_ratios(pairs: list[tuple[float, float]]) -> None:
    rows = [row(f"c{k}", ours, peer=peer(theirs)) for k, (ours, theirs) in enumerate(pairs)]
    rows.append(row("open", 1.0, 1.0, 2.0, peer=peer(5.0)))
    rows.append(row("ahead", 1.0, peer=peer(None)))
    beside = report.comparisons(rows)
    assert [one.ratio for one in beside[:-2]] == [
        pytest.approx(theirs / ours) for ours, theirs in pairs
    ]
    assert [one.ratio for one in beside[-2:]] == [None, None]
    mean = math.prod(theirs / ours for ours, theirs in pairs) ** (1 / len(pairs))
    text = report.markdown(of(*rows))
    assert (
        f"(auto): {mean:.3g}, over {len(pairs)} of {len(pairs) + 2} cases; not closed here" in text
    )
    assert cells(text.partition("## Beside")[2], "open")[-1] == "not closed"


def test_a_family_is_one_row() -> None:
    rows = [row(f"f_{k}", float(k), family="f", peer=peer(10.0)) for k in (1, 2, 6)]
    (family,) = report.comparisons(rows)
    assert (family.closed, family.count, family.seconds, family.ratio) == (
        3,
        3,
        3.0,
        pytest.approx(10 / 3),
    )
    (half,) = report.comparisons([*rows, row("f_7", 1.0, 1.0, 2.0, family="f", peer=peer(10.0))])
    assert (half.closed, half.ratio, half.behind) == (3, None, True)
    (wrong,) = report.comparisons([{**rows[0], "error": "WRONG"}])
    assert (wrong.closed, wrong.ratio) == (0, None)


def test_methods_and_solvers_stand_side_by_side() -> None:
    rows = [
        row("a", 1.0, configuration="bab"),
        row("a", 4.0, configuration="mip, highs"),
        row("b", 2.0, configuration="bab"),
        row("b", 18.0, configuration="mip, highs"),
        row("c", 3.0, configuration="bab"),
        row("c", 20.0, 0.5, 2.0, configuration="mip, highs"),
        {"case": "c", "configuration": "mip, cbc", "skipped": "not for it"},
    ]
    text = report.markdown(of(*rows))
    assert cells(text, "a")[1:] == ["1.00", "4.00", "-"]
    assert cells(text, "c")[1:] == ["3.00", "[0.5, 2]", "-"]
    assert cells(text, "closed")[1:] == ["3 of 3", "2 of 3", "0 of 3"]
    assert cells(text, "mean ratio")[1:] == ["1", "6 times, over 2", "-"]
    assert "By method and solver" not in report.markdown(of(*rows[::2][:3]))


def test_every_solver_is_asked() -> None:
    options = run.parser().parse_args(["--every-solver"])
    asked = [str(configuration) for configuration in run.configurations(options)]
    assert asked == ["bab", *(f"mip, {solver}" for solver in solver_names())]
    options = run.parser().parse_args(["--method", "mip", "--solver", "highs", "--solver", "scip"])
    assert [str(configuration) for configuration in run.configurations(options)] == [
        "mip, highs",
        "mip, scip",
    ]


def test_the_report_tells_phases_and_failures() -> None:
    stats = {"tree_seconds": 1.5, "read_seconds": 0.0, "nodes": 3}
    broken = {"case": "b", "family": "b", "configuration": "bab", "error": "E: a |\nb"}
    text = report.markdown(of(row(stats=stats), broken))
    assert cells(text, "a")[-1] == "tree 1.50"
    assert "- b (bab) FAILED: E: a | b" in text
    assert "Beside" not in text


def test_a_table_s_cells_are_escaped() -> None:
    assert report.table(["x"], [["a|b"], [""]]).splitlines() == [
        "| x |",
        "|---|",
        "| a\\|b |",
        "| - |",
    ]


@given(st.lists(st.tuples(times, times), min_size=1, max_size=8))
def test_comparison_of_two_runs(pairs: list[tuple[float, float]]) -> None:
    old = of(*(row(f"c{k}", before) for k, (before, _) in enumerate(pairs)), row("gone"))
    new = of(*(row(f"c{k}", after) for k, (_, after) in enumerate(pairs)), row("fresh"))
    text = compare.markdown(old, new)
    mean = math.prod(before / after for before, after in pairs) ** (1 / len(pairs))
    assert f"Geometric mean of the ratios: {mean:.3g}, over {len(pairs)} cases." in text
    assert "Only before: gone (auto)." in text
    assert "Only now: fresh (auto)." in text
    assert "not of equal conditions" not in text


def test_what_was_closed_is_told() -> None:
    text = compare.markdown(
        of(row("a", 60.0, 1.0, 2.0), row("b")), of(row("a"), row("b", 60.0, 0.5, 1.5))
    )
    assert "Newly closed: a." in text
    assert "No longer closed: b." in text
    assert cells(text, "a")[2:4] == ["[1, 2]", "1"]
    assert cells(text, "a")[-1] == "-"


@given(st.floats(0.1, 10), st.floats(0, 1), st.floats(0, 1))
def test_contradictions(value: float, below: float, above: float) -> None:
    exact = row(lower=value, upper=value)
    interval = row(lower=value * (1 - below), upper=value * (1 + above))
    assert compare.contradiction(exact, interval) is None
    assert compare.contradiction(interval, exact) is None
    assert compare.contradiction(exact, row(lower=value * 1.001, upper=value * 2)) is not None
    assert compare.contradiction(row(lower=0.0, upper=value * 0.999), exact) is not None


def write(path: Path, found: report.Report) -> str:
    path.write_text("\n".join(map(json.dumps, [found.environment, *found.rows])))
    return str(path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"versions": {**VERSIONS, "highspy": "1.16"}}, "highspy: 1.15 before, 1.16 now"),
        ({"cpus": 8}, "cpus: 2 before, 8 now"),
        ({"options": {"seconds": 5.0}}, "seconds: 60.0 before, 5.0 now"),
    ],
)
def test_unequal_conditions_are_not_compared_silently(
    changes: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [
        write(tmp_path / "old.jsonl", of(row())),
        write(tmp_path / "new.jsonl", of(row(), **changes)),
    ]
    assert compare.main(files) == 2
    refused = capsys.readouterr()
    assert refused.out == ""
    assert told in refused.err
    assert compare.main([*files, "--anyway"]) == 0
    assert f"- {told}" in capsys.readouterr().out


def test_versions_of_the_package_are_what_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = of(row()), of(row(), versions={**VERSIONS, "lipexact": "2"})
    assert (
        compare.main([write(tmp_path / "old.jsonl", old), write(tmp_path / "new.jsonl", new)]) == 0
    )
    assert "lipexact 1 before, lipexact 2 now." in capsys.readouterr().out


def test_comparison_s_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (
        write(tmp_path / "one.jsonl", of(row("a"))),
        write(tmp_path / "two.jsonl", of(row("b"))),
    )
    assert compare.main([one, two]) == 2
    assert compare.main([one, str(tmp_path / "none.jsonl")]) == 2
    assert (
        compare.main([one, write(tmp_path / "three.jsonl", of(row("a", lower=2.0, upper=2.0)))])
        == 1
    )
    assert "Contradictions" in capsys.readouterr().out


def test_growth_stops_where_nothing_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(case: Case, *_: object) -> dict[str, Any]:
        width = lx.load(case.model).relus // 2
        return {
            "status": "EXACT" if width < 10 else "BOUNDED",
            "seconds": float(width),
            "stats": {},
        }

    monkeypatch.setattr(growth, "measure", measured)
    monkeypatch.setattr(growth, "REPORTS", tmp_path)
    monkeypatch.setattr(growth, "draw", lambda *_: 0)
    assert growth.main(["--sweep", "width", "--networks", "2", "--report", "grown"]) == 0
    rows = report.read(tmp_path / "grown.jsonl").rows
    assert [(row["value"], row["seconds"]) for row in rows[::2]] == [(4, 4.0), (8, 8.0), (12, 12.0)]
    assert list(growth.curve(rows)) == [4, 8, 12]
    assert "width    12       0 of 2 closed; seconds: 12.00 12.00" in capsys.readouterr().out


def test_growth_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [
        {**row(f"{axis}_{k}", seconds=float(k)), "axis": axis, "value": k}
        for axis in ("width", "depth", "radius")
        for k in (1, 2, 4)
    ]
    assert (
        growth.draw(of(*rows, options={"seconds": 20.0, "networks": 1}), tmp_path / "grown.png")
        == 0
    )
    assert (tmp_path / "grown.png").stat().st_size > 1000


@st.composite
def recorded(draw: st.DrawFn) -> list[workers.Task]:
    """Tasks, each with parents before it."""
    tasks = []
    for k in range(draw(st.integers(1, 30))):
        parents = tuple(draw(st.sets(st.integers(-1, k - 1), min_size=1, max_size=3)))
        tasks.append(workers.Task(parents, draw(st.floats(0.01, 2.0)), 0.0, 1, 1))
    return tasks


@given(recorded(), st.integers(1, 8))
def test_a_replay_takes_no_less_than_it_must(tasks: list[workers.Task], count: int) -> None:
    total, longest = sum(task.seconds for task in tasks), workers.critical(tasks)
    found = workers.replay(3.0, tasks, count, 0.0)
    least = 3.0 + max(longest, total / count)
    assert found.seconds >= least * (1 - 1e-9)
    assert found.seconds <= 3.0 + total + 1e-9
    assert found.busy * count * (found.seconds - 3.0) == pytest.approx(total)
    late = workers.replay(3.0, tasks, count, 0.5)
    assert late.seconds >= 3.0 + longest + 1.0 - 1e-9
    assert workers.replay(0.0, tasks, 1, 0.0).seconds == pytest.approx(total)


def test_the_caller_of_a_replay_does_one_thing_at_a_time() -> None:
    tasks = [workers.Task((workers.FIRST,), 1.0, 0.2, 1, 1) for _ in range(50)]
    found = workers.replay(0.0, tasks, 1000, 0.0)
    assert found.seconds >= 50 * 0.2 * (1 - 1e-9)
    assert found.caller == pytest.approx(10.0 / found.seconds)


def test_a_search_is_recorded_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lipexact.bab.constants.ALONE_SECONDS", 0.0)
    monkeypatch.setattr(
        "benchmarks.workers.ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(2)
    )
    network = random_network((4, 12, 10, 2), 3)
    enter(monkeypatch, "hard", Case(network, lx.Box(-np.ones(4), np.ones(4)), (1, -1)))
    file = tmp_path / "tasks.jsonl"
    assert workers.main(["--record", str(file), "--case", "hard", "--seconds", "20"]) == 0
    first, tasks = workers.read(file)
    assert first >= 0
    assert len(tasks) > 5
    assert any(parent != workers.FIRST for task in tasks for parent in task.parents)
    assert all(parent < k for k, task in enumerate(tasks) for parent in task.parents)
    assert workers.main(["--replay", str(file)]) == 0
    assert "1024 workers" in capsys.readouterr().out


def test_batches_are_measured_side_by_side(
    tiny: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = lx.lipschitz(tiny.model, tiny.domain)

    @contextmanager
    def ways(jobs: int) -> Iterator[dict[str, batch.Solver]]:
        last = replace(result, lower=result.lower / jobs)
        yield {
            "loop": lambda balls: [result] * len(balls),
            "other": lambda balls: [*[result] * (len(balls) - 1), last],
        }

    monkeypatch.setattr(batch, "ways", ways)
    monkeypatch.setattr(batch, "worth", lambda pool, jobs: 1.5)
    assert batch.main(["--balls", "60", "--jobs", "1"]) == 0
    assert batch.main(["--balls", "60", "--jobs", "2"]) == 1
    assert "NOT EQUAL" in capsys.readouterr().out
