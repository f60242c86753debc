"""Batches on disk: what is killed goes on, nothing is lost and nothing is there twice."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lipexact as lx
from lipexact.batch import journal as checkpoint
from lipexact.batch.journal import Journal
from lipexact.options import Options
from lipexact.solve import make_request
from lipexact.state import StoppingRule
from tests.support.batches import COUNT, alone, balls, network
from tests.support.executors import PickledTasks
from tests.support.networks import random_weights, to_network
from tests.support.onnx_files import pytorch_mlp


def run(path: Path, domains: Any = None, **options: Any) -> list[lx.BatchResult]:
    options = {"functional": 0, "executor": PickledTasks()} | options
    return list(
        lx.lipschitz_many(
            network(), balls() if domains is None else domains, checkpoint=path, **options
        )
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def test_a_run_that_is_broken_off_goes_on(path: Path) -> None:
    results = lx.lipschitz_many(
        network(), balls(), functional=0, executor=PickledTasks(), checkpoint=path
    )
    for _ in range(5):
        next(results)
    results.close()  # type: ignore[attr-defined]
    there = [line["index"] for line in lines(path)[1:]]
    assert 5 <= len(there) < COUNT
    again = run(path)
    assert [one.index for one in again if one.resumed] == there
    assert (
        sorted(one.index for one in again)
        == sorted(line["index"] for line in lines(path)[1:])
        == list(range(COUNT))
    )
    assert [one.result.value for one in sorted(again, key=lambda one: one.index)] == alone()  # type: ignore[union-attr]
    before = path.read_bytes()
    assert all(
        one.resumed for one in run(path, time_limit=1.0, threads=2)
    )  # how it is answered is no other question
    assert path.read_bytes() == before


def test_what_comes_back_is_what_was_written(path: Path) -> None:
    new, old = ([one.result.to_dict() for one in run(path)] for _ in range(2))  # type: ignore[union-attr]
    assert new == old


def test_more_domains_may_follow(path: Path) -> None:
    run(path, balls()[:3])
    assert [one.resumed for one in run(path, ordered=True)] == [True] * 3 + [False] * (COUNT - 3)


def test_an_unfinished_line_is_cut_off(path: Path) -> None:
    run(path, balls()[:2])
    whole = path.read_bytes()
    second = whole.index(b"\n") + 1
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in (
        *range(0, second + 1, 37),
        second,
        last,
        last + 1,
        (last + len(whole)) // 2,
        len(whole) - 1,
    ):
        path.write_bytes(whole[:end])
        again = run(path, balls()[:2])
        assert sum(one.resumed for one in again) == (1 if end >= last else 0)
        assert sorted(line["index"] for line in lines(path)[1:]) == [0, 1]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda text: text.replace('"index":0', '"index":1', 1), "two results of domain 1"),
        (lambda text: text.replace('{"index":0', '{"indox":0', 1), "damaged"),
        (lambda text: text.replace('{"index":0', "{'index':0", 1), "damaged"),
        (lambda text: text.replace('"lower":', '"lowar":'), "damaged"),
        (lambda text: text.replace('"version":1', '"version":7'), "version 7"),
        (lambda text: text.replace('"model":"', '"model":"0'), "another network"),
        (lambda text: text.replace('"gap":0.0', '"gap":0.5'), "another question .gap"),
        (lambda text: text.partition("\n")[2], "no checkpoint"),
        (lambda text: "x,y\n1,2\n", "no checkpoint"),
        (lambda text: "notes", "no checkpoint"),
        (lambda text: "{}\n", "no checkpoint"),
    ],
)
def test_other_files_are_refused_and_left_alone(change: Any, text: str, path: Path) -> None:
    run(path, balls()[:2])
    path.write_text(change(path.read_text()))
    before = path.read_bytes()
    with pytest.raises(lx.CheckpointError, match=text):
        run(path, balls()[:2])
    assert path.read_bytes() == before


def test_another_question_is_refused(path: Path, tmp_path: Path) -> None:
    run(path, balls()[:2])
    others: list[dict[str, Any]] = [
        {"functional": 1},
        {"functional": [2.0, 0.0]},
        {"input_norm": "l2"},
        {"input_norm": lx.PolyhedralNorm(vertices=np.vstack([np.eye(3), -np.eye(3)]) * 2)},
        {"functional": None},
        {"functional": None, "output_norm": "l1"},
        {"gap": 0.1},
        {"target": 1.0},
    ]
    for options in others:
        with pytest.raises(lx.CheckpointError, match="another question"):
            run(path, balls()[:2], **options)
    other = to_network(random_weights(np.random.default_rng(9), (3, 6, 5, 2)))
    with pytest.raises(lx.CheckpointError, match="another network"):
        lx.lipschitz_many(other, balls(), functional=0, checkpoint=path)
    assert len(run(path, balls()[:2], functional=[1.0, 0.0])) == 2  # the same in other words
    with pytest.raises(lx.CheckpointError, match="domain 1 is another one"):
        run(path, [balls()[0], balls()[2]])
    for nowhere in (tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(lx.CheckpointError, match="cannot be opened"):
            run(nowhere)


@given(st.sampled_from(["lower", "upper"]), st.integers(0, 2), st.floats(-1e-3, 1e-3).filter(bool))
def test_domains_are_told_apart_by_every_number(side: str, k: int, step: float) -> None:
    box = lx.Box(-np.ones(3), np.ones(3))
    corners = {"lower": box.lower.copy(), "upper": box.upper.copy()}
    corners[side][k] += step
    assert (checkpoint.digest_of(lx.Box(**corners)) == checkpoint.digest_of(box)) == (
        np.array_equal(corners["lower"], box.lower) and np.array_equal(corners["upper"], box.upper)
    )


def test_domains_of_other_kinds_are_told_apart() -> None:
    cut = lx.Box(-np.ones(3), np.ones(3))
    domains = [
        cut,
        lx.Reals(3),
        lx.Ball(np.zeros(3), 1.0, norm="l1"),
        cut & lx.Ball(np.zeros(3), 1.5, norm="l1"),
        cut & lx.Ball(np.zeros(3), 1.6, norm="l1"),
        lx.Polytope(np.ones((1, 3)), [1.0], lower=-1, upper=1),
        lx.Polytope(np.ones((1, 3)), [1.5], lower=-1, upper=1),
    ]
    assert len({checkpoint.digest_of(domain) for domain in domains}) == len(domains)
    assert checkpoint.digest_of(lx.Box(-np.ones(3), np.ones(3))) == checkpoint.digest_of(cut)


def test_what_failed_is_asked_again(path: Path) -> None:
    domains = [balls()[0], lx.DomainError("not yet"), balls()[2]]
    assert [one.error is None for one in run(path, domains, ordered=True)] == [True, False, True]
    assert {
        "index": 1,
        "domain": None,
        "error": {"type": "DomainError", "message": "not yet"},
    } in lines(path)
    again = run(path, balls()[:3], ordered=True)
    assert [one.resumed for one in again] == [True, False, True]
    assert sorted(line["index"] for line in lines(path)[1:]) == [0, 1, 2]
    assert all("result" in line for line in lines(path)[1:])
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_two_runs_do_not_share_a_file(path: Path) -> None:
    pytest.importorskip("fcntl")
    results = lx.lipschitz_many(
        network(), balls(), functional=0, executor=PickledTasks(), checkpoint=path
    )
    next(results)
    with pytest.raises(lx.CheckpointError, match="another run"):
        run(path)
    results.close()  # type: ignore[attr-defined]
    never = lx.lipschitz_many(
        network(), balls(), functional=0, executor=PickledTasks(), checkpoint=path
    )
    del never  # which was not begun
    assert len(run(path)) == COUNT


def test_infinity_is_written(path: Path) -> None:
    book = Journal(path, make_request(network(), Options(), functional=0))
    result = lx.lipschitz(network(), balls()[0], functional=0)
    endless = lx.LipschitzResult(
        **{**vars(result), "upper": np.inf, "status": lx.Status.BOUNDED, "stats": {"x": -np.inf}}
    )
    book.add(0, balls()[0], endless, None)
    known = book.known(0, balls()[0])
    book.close()
    assert "Infinity" not in path.read_text()
    assert known is None  # of this run: nobody asks
    again = Journal(path, make_request(network(), Options(), functional=0))
    found = again.known(0, balls()[0])
    again.close()
    assert found is not None
    assert found.upper == np.inf


class Disk:
    """A disk that gets full in the middle of a line, and may get room again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room, self.write, self.refused = room, os.write, 0
        monkeypatch.setattr(checkpoint.os, "write", self)

    def __call__(self, file: int, data: bytes) -> int:
        if not self.room:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = self.write(file, data[: self.room])
        self.room -= done
        return done


def test_a_full_disk_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, room=3000)
    results = lx.lipschitz_many(
        network(), balls(), functional=0, executor=PickledTasks(), checkpoint=path
    )
    found = []
    with pytest.warns(RuntimeWarning, match="No space left") as warned:  # noqa: PT031
        for one in results:
            found.append(one)
            if len(found) == 8:
                assert all(
                    "index" in line or "format" in line for line in lines(path)
                )  # none by halves
                assert disk.refused > 2
                disk.room = 10**9
    assert len(warned) == 1
    assert len(found) == COUNT
    assert sorted(line["index"] for line in lines(path)[1:]) == list(range(COUNT))


def test_a_disk_that_stays_full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, room=3000)
    results = lx.lipschitz_many(
        network(), balls(), functional=0, executor=PickledTasks(), checkpoint=path
    )
    found: list[lx.BatchResult] = []
    with (
        pytest.warns(RuntimeWarning, match="No space left"),
        pytest.raises(lx.CheckpointError, match="missing"),
    ):
        found.extend(results)
    assert len(found) == COUNT
    there = [line["index"] for line in lines(path)[1:]]
    assert 0 < len(there) < COUNT
    monkeypatch.undo()
    assert [one.index for one in run(path, ordered=True) if one.resumed] == there


def test_a_disk_that_is_full_from_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, room=0)
    with pytest.raises(lx.CheckpointError, match="No space left"):
        run(path)


LIMITED = """
import resource, sys, warnings
import lipexact as lx
from tests.support.batches import balls, network
from tests.support.executors import PickledTasks
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
try:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        options = {"functional": 0, "executor": PickledTasks(), "checkpoint": sys.argv[1]}
        list(lx.lipschitz_many(network(), balls(), **options))
except lx.CheckpointError as error:
    print(len(told), error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_file_that_may_not_grow(path: Path) -> None:
    asked = [sys.executable, "-c", LIMITED, str(path)]
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=100, check=True)
    assert "results are missing in the checkpoint" in ended.stdout
    there = [line["index"] for line in lines(path)[1:]]
    assert 0 < len(there) < COUNT
    again = run(path)
    assert [one.index for one in again if one.resumed] == there
    assert len(again) == COUNT


def test_no_room_to_leave_out_failures(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(path, [balls()[0], lx.DomainError("not yet"), balls()[2]])
    disk = Disk(monkeypatch, room=100)
    book = Journal(path, make_request(network(), Options(), functional=0))
    disk.room = 10**9
    assert book.results == 2
    book.add(1, balls()[1], lx.lipschitz(network(), balls()[1], functional=0), None)
    book.close()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert all(one.resumed for one in run(path, balls()[:3]))


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_run_that_is_killed_goes_on(path: Path, tmp_path: Path) -> None:
    model, centers = tmp_path / "model.onnx", tmp_path / "centers.npy"
    model.write_bytes(pytorch_mlp(np.random.default_rng(3), (4, 8, 8, 2)).SerializeToString())
    np.save(centers, np.random.default_rng(0).normal(size=(16, 4)))
    command = [
        sys.executable,
        "-m",
        "lipexact",
        "batch",
        str(model),
        f"--centers={centers}",
        "--radius=0.5",
    ]
    command += [f"--out={path}", "--jobs=1", "--functional=0", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        while running.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < 4):
            time.sleep(0.05)
        running.send_signal(signal.SIGKILL)
        running.wait()
    there = path.read_bytes().count(b"\n") - 1
    assert 3 <= there < 16
    again = subprocess.run(
        [*command, "--resume", "--json"], capture_output=True, text=True, timeout=100, check=True
    )
    facts = json.loads(again.stdout)
    assert (facts["domains"], facts["exact"]) == (16, 16)
    assert facts["from_the_file"] >= there - 1
    assert sorted(line["index"] for line in lines(path)[1:]) == list(range(16))


def test_workers_that_are_threads_write_nothing_twice(path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        run(path, executor=pool)
    assert sorted(line["index"] for line in lines(path)[1:]) == list(range(COUNT))


# --- Journals of earlier releases --------------------------------------------------------------

JOURNALS = Path(__file__).parents[1] / "fixtures" / "journals"
WEIGHTED = lx.PolyhedralNorm(vertices=[[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [0.0, -2.0]])


def earlier() -> lx.Network:
    """Return the network that the journals are of."""
    first = np.array([[1.0, 2.0], [-1.0, 0.5], [0.3, -1.0]]), np.array([0.1, -0.2, 0.0])
    return lx.Network.from_layers([first, (np.array([[1.0, -2.0, 0.5], [0.5, 1, 1]]), [0.0, 0.0])])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("linf", {}),
        ("l2_to_output", {"input_norm": "l2", "functional": 0}),
        ("weighted_cross", {"input_norm": WEIGHTED, "functional": lx.CrossLipschitz()}),
        ("program", {"method": "mip"}),
    ],
)
def test_a_journal_of_release_0_1_0_goes_on(name: str, options: Any, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes((JOURNALS / f"{name}.jsonl").read_bytes())
    balls = [lx.Ball([0.0, 0.0], radius) for radius in (0.1, 1.0, 3.0)]
    found = list(lx.lipschitz_many(earlier(), balls, checkpoint=path, jobs=1, **options))
    assert [one.resumed for one in found] == [True] * 3
    for one, ball in zip(found, balls, strict=True):
        assert one.result is not None
        assert one.result.value == pytest.approx(lx.lipschitz(earlier(), ball, **options).value)
        assert one.result.question is not None
        assert one.result.question["domain"]["lower"] is ball.lower


def test_weights_of_a_norm_are_part_of_the_question(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes((JOURNALS / "weighted_cross.jsonl").read_bytes())
    other = lx.PolyhedralNorm(vertices=[[1.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, -3.0]])
    asked = {"input_norm": other, "functional": lx.CrossLipschitz()}
    with pytest.raises(lx.CheckpointError, match="directions"):
        list(lx.lipschitz_many(earlier(), [], checkpoint=path, jobs=1, **asked))


def test_a_journal_knows_the_whole_stopping_rule(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    list(lx.lipschitz_many(earlier(), [], checkpoint=path, jobs=1))
    for options in ({"gap": 0.1}, {"target": 2.0}):
        (name,) = options
        with pytest.raises(lx.CheckpointError, match=name):
            list(lx.lipschitz_many(earlier(), [], checkpoint=path, jobs=1, **options))
    assert {each.name for each in fields(StoppingRule)} == {"gap", "target"}, "test the new field"
