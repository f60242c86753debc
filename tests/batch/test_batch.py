"""One question on many domains."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lipexact as lx
from lipexact.batch import batch as many
from lipexact.batch.results import _duration
from lipexact.workers import TaskOutcome, WorkerPool, worker
from lipexact.workers import pool as pools
from tests.support.batches import COUNT, alone, balls, network, values
from tests.support.executors import PickledTasks
from tests.support.networks import random_weights, to_network


def test_the_constants_are_those_of_single_calls() -> None:
    results = list(lx.lipschitz_many(network(), balls(), functional=0, jobs=2, ordered=True))
    assert [one.index for one in results] == list(range(COUNT))
    assert [one.result.value for one in results] == alone()  # type: ignore[union-attr]
    assert all(one.domain is ball for one, ball in zip(results, balls(), strict=True))
    assert not any(one.resumed or one.error for one in results)
    one = results[0].result
    assert one is not None
    assert one.witness is not None
    assert lx.LipschitzResult.from_dict(json.loads(one.to_json())).to_dict() == one.to_dict()


@pytest.mark.parametrize("method", ["bab", "mip"])
def test_threads_share_what_is_sent(method: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert values(
            lx.lipschitz_many(network(), balls(), functional=0, executor=pool, method=method)
        ) == (pytest.approx(alone(), rel=1e-9))
        pool.submit(int).result()  # it stays open


def test_a_pool_of_the_standard_library_that_breaks_is_replaced() -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = lx.lipschitz_many(network(), balls(), functional=0, executor=pool)
        first = next(results)
        for pid in pool._processes:
            os.kill(pid, signal.SIGTERM)
        rest = list(results)
    found = {one.index: one for one in (first, *rest)}
    assert len(rest) == COUNT - 1
    assert [found[k].result.value for k in range(COUNT)] == alone()  # type: ignore[union-attr]


def test_the_network_is_sent_to_a_worker_once() -> None:
    large = to_network(random_weights(np.random.default_rng(0), (3, 100, 100, 1)))
    here = PickledTasks()
    list(lx.lipschitz_many(large, balls(6), executor=here, method="lp", time_limit=0.01))
    assert here.sent[0] > 80_000 > 8_000 > max(here.sent[1:])


def test_a_worker_that_has_not_got_the_network_is_sent_it() -> None:
    here, forgot = PickledTasks(), 0
    for one in lx.lipschitz_many(network(), balls(), functional=0, executor=here):
        assert one.error is None
        if one.index % 4 == 1:
            worker._contexts.clear()
            forgot += 1
    assert forgot == 3
    assert len(here.sent) > COUNT


class Deadly(lx.Ball):
    """A domain that ends the process which reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


def test_a_domain_that_ends_its_process_costs_no_other() -> None:
    domains = balls()[:6]
    domains.insert(2, Deadly(np.zeros(3), 0.5))
    found = {one.index: one for one in lx.lipschitz_many(network(), domains, functional=0, jobs=2)}
    assert sorted(found) == list(range(7))
    assert isinstance(found[2].error, lx.WorkerError)
    assert "3 times" in str(found[2].error)
    assert [found[k].result.value for k in (0, 1, 3, 4, 5, 6)] == alone()[:6]  # type: ignore[union-attr]


def test_a_process_that_is_killed_costs_nothing() -> None:
    pids: list[int] = []
    original = pools.local_process

    def process() -> Executor:
        pool = original()
        pids.append(pool.submit(os.getpid).result())
        return pool

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pools, "local_process", process)
        results = lx.lipschitz_many(network(), balls(), functional=0, jobs=2)
        first = next(results)
        for pid in pids[:2]:
            os.kill(pid, signal.SIGKILL)
        rest = list(results)
    assert len(pids) > 2
    assert values(iter([first, *rest])) == alone()


def test_what_goes_wrong_with_a_domain_is_its_result() -> None:
    reason = lx.DomainError("no data")
    domains = [balls()[0], lx.Box.unit(5), reason, None, balls()[1]]
    results = list(
        lx.lipschitz_many(network(), domains, functional=0, executor=PickledTasks(), ordered=True)
    )  # type: ignore[list-item]
    assert [one.result is not None for one in results] == [True, False, False, False, True]
    assert results[2].error is reason
    assert [type(one.error) for one in results[1:4]] == [lx.DomainError] * 3
    assert "5 dimensions" in str(results[1].error)
    assert results[1].to_dict() == {
        "index": 1,
        "error": {"type": "DomainError", "message": str(results[1].error)},
    }
    assert "DomainError" in repr(results[1])


def test_an_error_in_a_worker_has_its_own_class() -> None:
    net = lx.Network.from_layers([([[1e200]], [0]), ([[1e200]], [0])])
    results = list(
        lx.lipschitz_many(
            net, [lx.Ball([0.0], 1e200), lx.Ball([0.0], 1e-200)], executor=PickledTasks()
        )
    )
    assert any(isinstance(one.error, lx.ModelError) for one in results)


def test_order() -> None:
    last = PickledTasks(pick=lambda count: count - 1, hold=2)
    loose = [
        one.index
        for one in lx.lipschitz_many(network(), balls()[:5], functional=0, executor=Still(last))
    ]
    assert loose != sorted(loose)
    last = PickledTasks(pick=lambda count: count - 1, hold=2)
    results = lx.lipschitz_many(
        network(), balls()[:5], functional=0, executor=Still(last), ordered=True
    )
    assert [one.index for one in results] == list(range(5))


class Still(Executor):
    """An executor that does what is left as soon as nobody sends anything for a while."""

    _max_workers = 2

    def __init__(self, inner: PickledTasks) -> None:
        self.inner, self.pool = inner, ThreadPoolExecutor(1)

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        future = self.inner.submit(function, *arguments)
        self.pool.submit(self._later)
        return future

    def _later(self) -> None:
        import time

        time.sleep(0.1)
        while self.inner._tasks:
            self.inner.do()


def test_domains_are_taken_as_they_are_needed() -> None:
    taken = itertools.count()
    count = 0

    def endless() -> Iterator[lx.Domain]:
        for k in taken:
            yield balls()[k % COUNT]

    results = lx.lipschitz_many(network(), endless(), functional=0, executor=PickledTasks())
    for one in itertools.islice(results, 20):
        assert one.result is not None
        count += 1
    results.close()  # type: ignore[attr-defined]
    assert count == 20
    assert next(taken) < 20 + 80


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "REPORT_SECONDS", 0.0)
    moments: list[lx.BatchProgress] = []
    list(
        lx.lipschitz_many(
            network(), balls()[:4], functional=0, executor=PickledTasks(), progress=moments.append
        )
    )
    assert [moment.done for moment in moments] == sorted(moment.done for moment in moments)
    last = moments[-1]
    assert (last.done, last.closed, last.failed, last.total, last.remaining) == (4, 4, 0, 4, 0.0)
    assert "4 of 4 done, 4 exact" in str(last)
    some = list(
        lx.lipschitz_many(
            network(),
            balls(),
            functional=0,
            executor=PickledTasks(),
            progress=lambda one: one.done > 2,
        )
    )
    assert 2 < len(some) < COUNT
    list(
        lx.lipschitz_many(
            network(), iter(balls()[:2]), functional=0, executor=PickledTasks(), progress=True
        )
    )
    assert "2 done, 2 exact" in capsys.readouterr().err


def test_durations() -> None:
    assert [_duration(seconds) for seconds in (0.4, 61, 3601)] == ["0:00", "1:01", "1:00:01"]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"input_norm": "l3"}, lx.NormError, "l3"),
        ({"method": "magic"}, lx.OptionError, "magic"),
        ({"executor": ThreadPoolExecutor}, lx.OptionError, "executor must be"),
        ({"executor": 2}, lx.OptionError, "executor must be"),
        ({"jobs": 0}, lx.OptionError, "jobs must be"),
        ({"jobs": True}, lx.OptionError, "jobs must be"),
        ({"ordered": 1}, lx.OptionError, "ordered"),
        ({"progress": 1}, lx.OptionError, "progress"),
        ({"checkpoint": 7}, lx.OptionError, "checkpoint must be"),
        ({"certificate": "/nowhere/at/all"}, lx.OptionError, "folder"),
        ({"certificate": 3}, lx.OptionError, "certificate must be"),
        ({"time_limit": -1}, lx.OptionError, "time_limit"),
    ],
)
def test_a_wrong_question_is_refused_at_once(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        lx.lipschitz_many(network(), balls(), **options)


@pytest.mark.parametrize("domains", [lx.Box.unit(3), 5, "boxes"])
def test_several_domains_are_needed(domains: Any) -> None:
    with pytest.raises(lx.OptionError, match="several"):
        lx.lipschitz_many(network(), domains)


def test_an_executor_that_is_shut_down() -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(lx.WorkerError, match="shutdown"):
        list(lx.lipschitz_many(network(), balls(), executor=pool))


def test_an_executor_has_no_use_for_a_program() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(lx.OptionError, match="one solver"):
        lx.lipschitz(network(), balls()[0], method="mip", executor=pool)


def test_solvers_keep_to_their_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    search = import_module("lipexact.mip.cut_loop")
    asked: list[int | None] = []
    original = search.solve

    def solve(model: Any, solver: str, settings: Any, watch: Any) -> Any:
        asked.append(settings.threads)
        return original(model, solver, settings, watch)

    monkeypatch.setattr(search, "solve", solve)
    for threads in (None, 2):
        found = lx.lipschitz_many(
            network(), balls()[:4], executor=PickledTasks(), method="mip", threads=threads
        )
        assert all(one.error is None for one in found)
    assert set(asked[: len(asked) // 2]) == {1}
    assert set(asked[len(asked) // 2 :]) == {2}
    monkeypatch.setattr(many, "cpu_count", lambda: 16)
    batch = many._Batch(
        None, [], executor=None, jobs=3, journal=None, folder=None, ordered=False, report=None
    )  # type: ignore[arg-type]
    assert batch.cores == 5


def test_certificates_go_to_a_folder(tmp_path: Path) -> None:
    results = lx.lipschitz_many(
        network(), balls()[:2], functional=0, executor=PickledTasks(), certificate=tmp_path
    )
    for one in results:
        assert one.result is not None
        assert one.result.proof == "certificate"
        check = lx.check(network(), tmp_path / f"{one.index:06d}.lxc")
        assert check.ok
    assert Counter(path.suffix for path in tmp_path.iterdir()) == {".lxc": 2}


def test_a_certificate_that_cannot_be_written_is_in_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: lx.Certificate, path: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lx.Certificate, "save", full)
    results = lx.lipschitz_many(
        network(), balls()[:2], functional=0, executor=PickledTasks(), certificate=tmp_path
    )
    with pytest.warns(RuntimeWarning, match="No space"):
        found = list(results)
    assert all(one.result is not None and one.result.certificate is not None for one in found)


def test_ctrl_c_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: WorkerPool, seconds: float | None) -> list[TaskOutcome]:
        raise KeyboardInterrupt

    closed: list[WorkerPool] = []
    close = WorkerPool.close
    monkeypatch.setattr(WorkerPool, "wait", interrupted)
    monkeypatch.setattr(WorkerPool, "close", lambda self: (closed.append(self), close(self)))
    with pytest.raises(KeyboardInterrupt):
        list(lx.lipschitz_many(network(), balls(), executor=PickledTasks()))
    assert closed


def test_nothing_is_asked_of_workers_without_domains() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(lx.lipschitz_many(network(), [])) == []
