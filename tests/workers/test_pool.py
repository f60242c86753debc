"""Tasks for executors and local processes."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
import signal
import sys
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import loky
import numpy as np
import pytest

import lipexact as lx
from lipexact.workers import TaskOutcome, WorkerPool, constants, worker, worker_count
from lipexact.workers import pool as pools
from tests.support.executors import CopyingWorkers, Held

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
EXIT = "__import__('os')._exit(1)"
KILL = "__import__('os').kill(__import__('os').getpid(), 9)"
PID = "__import__('os').getpid()"


def says(expression: str) -> Callable[..., Any]:
    """A task without a module that workers must import, by names in the context and an argument."""
    return partial(eval, expression)


def raises(error: BaseException) -> Callable[[int], BaseException]:
    return lambda _: error


def pool_of(
    executor: Executor | None = None, workers: int | None = None, **shared: Any
) -> WorkerPool:
    return WorkerPool(pickle.dumps(shared), executor, workers)


def outcomes(worker_pool: WorkerPool) -> dict[int, TaskOutcome]:
    """What became of all tasks, each of which is answered once."""
    found: list[TaskOutcome] = []
    while worker_pool.open:
        told = worker_pool.wait(60.0)
        assert told
        found += told
    assert worker_pool.wait(0.0) == []
    assert Counter(each.task_id for each in found).most_common(1)[0][1] == 1
    return {each.task_id: each for each in found}


def values(worker_pool: WorkerPool) -> dict[int, Any]:
    told = outcomes(worker_pool)
    assert [each.error for each in told.values()] == [None] * len(told)
    return {task_id: each.value for task_id, each in told.items()}


def until(holds: Callable[[], bool]) -> None:
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


def gone(pid: int) -> bool:
    """Whether a process has ended, or will within some seconds."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


# --- What is shared -------------------------------------------------------------------------------


def test_what_is_shared_is_sent_once_to_each_worker() -> None:
    here = CopyingWorkers(3)
    with pool_of(here, base=7) as worker_pool:
        for k in range(12):
            worker_pool.submit(k, says("base + k"), {"k": k})
        assert values(worker_pool) == {k: 7 + k for k in range(12)}
    size = len(pickle.dumps({"base": 7}))
    assert here.shared == [size] * 3 + [0] * 9


def test_a_worker_that_has_not_got_what_is_shared_is_sent_it() -> None:
    here = CopyingWorkers(2)
    here.next = itertools.chain(
        [0] * 5, itertools.cycle([1])
    )  # so that the second one sees none of the first tasks
    with pool_of(here, base=7) as worker_pool:
        for k in range(8):
            worker_pool.submit(k, says("base + k"), {"k": k})
            assert values(worker_pool) == {k: 7 + k}
    assert [size > 0 for size in here.shared] == [True, True, *[False] * 4, True, False, False]


def test_what_was_shared_long_ago_is_forgotten() -> None:
    here = CopyingWorkers(1)
    with pool_of(here, base=0) as first:
        first.submit(0, says("base"))
        assert values(first) == {0: 0}
        for other in range(1, 5):
            with pool_of(here, base=other) as worker_pool:
                worker_pool.submit(0, says("base"))
                assert values(worker_pool) == {0: other}
        assert len(here.memories[0]) == 4
        first.submit(1, says("base"))
        assert values(first) == {1: 0}
    assert [size > 0 for size in here.shared] == [True] * 5 + [False, True]


def test_other_workers_of_an_executor_are_seen_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "RECOUNT_SECONDS", -1.0)
    held = Held()
    held._max_workers = 1  # type: ignore[attr-defined]
    with pool_of(held) as worker_pool:
        assert (worker_pool.workers, worker_pool.room) == (1, 2)
        for k in range(3):
            worker_pool.submit(k, says("1"))
        assert worker_pool.room == -1
        held._max_workers = 3  # type: ignore[attr-defined]
        worker_pool.submit(3, says("1"))
        until(lambda: worker_pool.workers > 1)
        worker_pool.submit(4, says("1"))
        until(lambda: len(held.futures) == 5)
        assert worker_pool.room == 1
    with pool_of(held, workers=2) as worker_pool:  # which is what the caller says
        for k in range(5):
            worker_pool.submit(k, says("1"))
        assert (worker_pool.workers, worker_pool.room) == (2, -1)


def test_an_executor_whose_client_is_closed_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(constants, "SILENCE_SECONDS", 0.01)
    held = Held()
    held._client = SimpleNamespace(status="running", nthreads=lambda: {"a": 1})  # type: ignore[attr-defined]
    with pool_of(held) as worker_pool:
        worker_pool.submit(0, says("1"))
        assert worker_pool.wait(0.1) == []
        held._client.status = "closed"  # type: ignore[attr-defined]
        with pytest.raises(lx.WorkerError, match="lost its scheduler"):
            worker_pool.wait(20.0)


def test_an_outcome_says_what_it_took() -> None:
    with pool_of(CopyingWorkers(), base=b"") as worker_pool:
        worker_pool.submit(5, says("base.join([part] * 10)"), {"part": b"x" * 1000})
        (told,) = outcomes(worker_pool).values()
    assert (told.task_id, told.value, told.error) == (5, b"x" * 10_000, None)
    assert 0 < told.seconds < 1
    assert 1000 < told.sent < 2000
    assert 10_000 < told.received < 11_000


# --- Tasks that fail ------------------------------------------------------------------------------


class TwoArgumentsError(ValueError):
    """Can be pickled, but not read again."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")

    def __reduce__(self) -> tuple[type, tuple[str]]:
        """As by default, but for libraries that teach all errors to be read again."""
        return TwoArgumentsError, (str(self),)


def fail(_: object, error: str) -> None:
    """As workers do that are handed something wrong."""
    match error:
        case "two":
            raise TwoArgumentsError(1, 2)
        case "lambda":
            raise ValueError(lambda: 0)
        case "domain":
            raise lx.DomainError("the domain is empty")
        case "memory":
            raise MemoryError
        case _:
            raise KeyError(error)


def test_what_a_function_raises_comes_back() -> None:
    with pool_of(CopyingWorkers()) as worker_pool:
        for k, name in enumerate(("key", "domain", "memory")):
            worker_pool.submit(k, fail, name)
        worker_pool.submit(3, says("1 + 1"))
        told = outcomes(worker_pool)
    errors = [told[k].error for k in range(4)]
    assert list(map(type, errors)) == [KeyError, lx.DomainError, MemoryError, type(None)]
    assert (str(errors[0]), str(errors[1])) == ("'key'", "the domain is empty")
    assert told[3].value == 2


@pytest.mark.parametrize(
    ("name", "text"), [("two", "TwoArgumentsError: 1 and 2"), ("lambda", "ValueError: <function")]
)
def test_errors_that_cannot_be_sent_are_told(name: str, text: str) -> None:
    with pool_of(CopyingWorkers()) as worker_pool:
        worker_pool.submit(0, fail, name)
        error = outcomes(worker_pool)[0].error
    assert type(error) is lx.WorkerError
    assert str(error).startswith(text)


def test_values_that_cannot_be_sent_are_failures() -> None:
    with pool_of(CopyingWorkers()) as worker_pool:
        worker_pool.submit(0, says("(_ for _ in ())"))
        worker_pool.submit(1, says("1"))
        told = outcomes(worker_pool)
    assert type(told[0].error) is TypeError
    assert "cannot pickle 'generator'" in str(told[0].error)
    assert (told[0].value, told[1].value) == (None, 1)


def end(_: object) -> None:
    raise SystemExit(3)


def test_a_function_that_ends_its_thread_costs_its_task_alone() -> None:
    with ThreadPoolExecutor(1) as pool, pool_of(pool) as worker_pool:
        worker_pool.submit(0, says("0"))
        assert values(worker_pool) == {0: 0}
        worker_pool.submit(1, end)
        worker_pool.submit(2, says("2"))
        told = outcomes(worker_pool)
    assert type(told[1].error) is lx.WorkerError
    assert "SystemExit" in str(told[1].error)
    assert told[2].value == 2


# --- Executors that lose tasks --------------------------------------------------------------------


@pytest.mark.parametrize("error", [CancelledError(), OSError("the connection was lost")])
def test_tasks_that_are_lost_go_out_again(error: Exception) -> None:
    here = CopyingWorkers(2, fault=lambda number: error if number % 3 == 1 else None)
    with pool_of(here, base=7) as worker_pool:
        for k in range(9):
            worker_pool.submit(k, says("base + k"), {"k": k})
        assert values(worker_pool) == {k: 7 + k for k in range(9)}
    assert len(here.shared) > 9


def test_all_tasks_of_a_scheduler_that_is_restarted_go_out_again() -> None:
    held = Held()
    with pool_of(held, workers=3) as worker_pool:
        for k in range(6):
            worker_pool.submit(k, says("k"), {"k": k})
        until(lambda: len(held.futures) == 6)
        for future in held.futures[:6]:
            future.cancel()
        until(lambda: len(held.futures) == 12)
        for k, future in enumerate(held.futures[6:]):
            future.set_result((worker.DONE, pickle.dumps(k), 0.0))
        assert sorted(outcomes(worker_pool)) == list(range(6))
    assert len(held.futures) == 12


def test_a_task_that_is_lost_again_and_again_is_given_up() -> None:
    here = CopyingWorkers(fault=lambda number: CancelledError() if number else None)
    with pool_of(here) as worker_pool:
        for k in range(2):
            worker_pool.submit(k, says("1"))
        told = outcomes(worker_pool)
    assert told[0].value == 1
    assert type(told[1].error) is lx.WorkerError
    assert "given up: it was cancelled" in str(told[1].error)
    assert len(here.shared) == 1 + constants.MAX_LOSSES


def test_a_task_that_dask_gives_up_is_given_up() -> None:
    class KilledWorker(Exception):  # noqa: N818 - as that of Dask
        pass

    here = CopyingWorkers(
        fault=lambda number: KilledWorker("attempted 3 times") if number == 0 else None
    )
    with pool_of(here) as worker_pool:
        for k in range(3):
            worker_pool.submit(k, says("1"))
        told = outcomes(worker_pool)
    assert "KilledWorker: attempted 3 times" in str(told[0].error)
    assert type(told[0].error) is lx.WorkerError
    assert (told[1].value, told[2].value) == (1, 1)


# --- Executors that are of no use -----------------------------------------------------------------


def refused(worker_pool: WorkerPool, text: str) -> None:
    """Whoever waits is told, as often as they wait."""
    with worker_pool:
        worker_pool.submit(0, says("1"))
        for _ in range(2):
            with pytest.raises(lx.WorkerError, match=text):
                worker_pool.wait(60.0)
        assert worker_pool.ready


def test_an_executor_that_was_shut_down() -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    refused(pool_of(pool), "takes no more tasks: RuntimeError: cannot schedule")


def test_workers_without_lipexact() -> None:
    here = CopyingWorkers(fault=raises(ModuleNotFoundError("No module named 'lipexact'")))
    refused(pool_of(here), "cannot do lipexact's tasks: ModuleNotFoundError")
    assert len(here.shared) == 1


def test_workers_with_another_lipexact(monkeypatch: pytest.MonkeyPatch) -> None:
    worker_pool = pool_of(CopyingWorkers())
    monkeypatch.setattr(worker, "__version__", "0.0.0")
    refused(worker_pool, rf"a worker has lipexact 0\.0\.0, and the caller {lx.__version__}")


def test_what_workers_cannot_import(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("nowhere")
    exec("def alone(*_): return 1", module.__dict__)
    monkeypatch.setitem(sys.modules, "nowhere", module)
    with pool_of(None, 1) as worker_pool:  # tasks of which one fails for this reason
        worker_pool.submit(0, module.alone)
        worker_pool.submit(1, says("1"))
        told = outcomes(worker_pool)
    assert type(told[0].error) is ModuleNotFoundError
    assert told[1].value == 1
    refused(
        pool_of(None, 1, function=module.alone), "cannot do lipexact's tasks: ModuleNotFoundError"
    )


def test_what_was_done_before_is_told_first() -> None:
    here = CopyingWorkers(refusal=lambda number: OSError("no") if number else None)
    with pool_of(here) as worker_pool:
        worker_pool.submit(0, says("1"))
        until(lambda: not worker_pool._outbox.empty())
        worker_pool.submit(1, says("1"))
        until(lambda: worker_pool._failure is not None)
        assert [told.value for told in worker_pool.wait(None)] == [1]
        with pytest.raises(lx.WorkerError, match="takes no more tasks: OSError: no"):
            worker_pool.wait(None)


# --- Executors that break -------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["fault", "refusal"])
def test_processes_take_the_place_of_an_executor_that_breaks(where: str) -> None:
    here = CopyingWorkers(
        1, **{where: lambda number: BrokenExecutor("broken") if number > 1 else None}
    )
    with pool_of(here, base=7) as worker_pool:
        told: dict[int, Any] = {}
        for few in ([0], [1], [2, 3, 4, 5]):
            for k in few:
                worker_pool.submit(k, says(f"base + k, {PID}"), {"k": k})
            told |= values(worker_pool)
    assert {k: value for k, (value, _) in told.items()} == {k: 7 + k for k in range(6)}
    others = {told[k][1] for k in range(2, 6)}
    assert len(others) == 1
    assert told[0][1] == told[1][1] == os.getpid() not in others


def test_an_executor_of_many_workers_is_replaced_by_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "local_process", Held)
    with pool_of(CopyingWorkers(1000, fault=raises(BrokenExecutor()))) as worker_pool:
        worker_pool.submit(0, says("1"))
        until(lambda: worker_pool.workers not in (0, 1000))
        assert worker_pool.workers <= (os.cpu_count() or 1)


@pytest.fixture(params=["loky", "stdlib"])
def pool(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "stdlib":
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
            yield executor
        return
    executor = loky.ProcessPoolExecutor(2)
    yield executor
    executor.shutdown(kill_workers=True)


def test_each_task_of_a_pool_that_breaks_is_answered_once(pool: Executor, tmp_path: Path) -> None:
    once = f"__import__('os').path.exists(mark) or (open(mark, 'w').close(), {EXIT})"
    with pool_of(pool, mark=str(tmp_path / "mark")) as worker_pool:
        for k in range(8):
            worker_pool.submit(k, says(once if k == 3 else "k"), {"k": k})
        assert values(worker_pool) == {k: k for k in range(8)} | {3: True}
        with pytest.raises(BrokenExecutor):
            pool.submit(os.getpid)


# --- Local processes -----------------------------------------------------------------------------


def test_processes_of_ones_own_do_tasks() -> None:
    threads = "[pool['num_threads'] for pool in __import__('threadpoolctl').threadpool_info()]"
    with pool_of(None, 2, eye=np.eye(2)) as worker_pool:
        for k in range(6):
            worker_pool.submit(k, says(f"eye.sum(), {PID}, {threads}"))
        told = values(worker_pool)
    assert {value for value, _, _ in told.values()} == {2.0}
    assert {count for _, _, counts in told.values() for count in counts} == {1}
    pids = {pid for _, pid, _ in told.values()}
    assert os.getpid() not in pids
    assert all(map(gone, pids))


@pytest.mark.parametrize(
    "death", [pytest.param(EXIT, id="exit"), pytest.param(KILL, id="kill", marks=posix)]
)
def test_a_task_that_ends_processes_is_given_up_and_the_others_are_done_once(
    death: str, tmp_path: Path
) -> None:
    """Each writes down that it was begun."""
    note = "__import__('os').close(__import__('tempfile').mkstemp(prefix=f'{k}.', dir=folder)[0])"
    with pool_of(None, 2, folder=str(tmp_path)) as worker_pool:
        for k in range(10):
            worker_pool.submit(k, says(f"({note}, {death if k == 1 else 'k'})[1]"), {"k": k})
        told = outcomes(worker_pool)
    assert type(told[1].error) is lx.WorkerError
    assert "workers died 3 times" in str(told[1].error)
    assert [told[k].value for k in range(10)] == [0, None, *range(2, 10)]
    begun = Counter(int(path.name.partition(".")[0]) for path in tmp_path.iterdir())
    assert begun == {k: 3 if k == 1 else 1 for k in range(10)}


def test_a_process_that_died_while_it_had_nothing_to_do() -> None:
    with pool_of(None, 1) as worker_pool:
        worker_pool.submit(0, says(PID))
        pid = values(worker_pool)[0]
        (slot,) = worker_pool._slots
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        until(lambda: slot.executor._flags.broken is not None)  # type: ignore[attr-defined]
        worker_pool.submit(1, says(PID))
        assert values(worker_pool)[1] != pid


@posix
def test_processes_end_when_the_crew_is_closed_whatever_they_do() -> None:
    for task in (
        "__import__('time').sleep(600)",
        "__import__('os').kill(__import__('os').getpid(), 19)",
    ):
        with pool_of(None, 2) as worker_pool:
            for k in range(8):
                worker_pool.submit(k, says(PID))
            pids = set(values(worker_pool).values())
            for k in range(4):
                worker_pool.submit(k, says(task))
            until(lambda: all(slot.sent for slot in worker_pool._slots))
            start = time.perf_counter()
        assert time.perf_counter() - start < 5
        assert all(map(gone, pids))


@posix
def test_processes_that_have_not_started_end_too() -> None:
    with pool_of(None, 2) as worker_pool:
        pids = [pid for slot in worker_pool._slots for pid in slot.executor._processes]  # type: ignore[attr-defined]
        assert len(pids) == 2
    assert all(map(gone, pids))


def test_one_process_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = pools.local_process, itertools.count()

    def process() -> Executor:
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, "semaphores")
        return original()

    monkeypatch.setattr(pools, "local_process", process)
    with pool_of(None, 3) as worker_pool:
        assert worker_pool.workers == 1
        worker_pool.submit(0, says("1"))
        assert values(worker_pool) == {0: 1}


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "semaphores"), RuntimeError("can't start new thread")]
)
def test_no_process_is_to_be_had(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def process() -> Executor:
        raise error

    monkeypatch.setattr(pools, "local_process", process)
    with pytest.raises(type(error), match=r"semaphores|thread"):
        pool_of(None, 2)
    refused(
        pool_of(CopyingWorkers(fault=raises(BrokenExecutor()))),
        "cannot be handed out: .*(semaphores|thread)",
    )


def test_processes_that_never_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "local_process", Held)
    with pool_of(None, 2) as worker_pool:
        first, second = (slot.executor.futures[0] for slot in worker_pool._slots)  # type: ignore[attr-defined]
        assert not worker_pool.ready
        first.set_exception(BrokenExecutor("it died"))
        until(lambda: worker_pool.workers < 2)
        assert not worker_pool.ready
        second.set_exception(BrokenExecutor("it died"))
        until(lambda: worker_pool.ready)
        for _ in range(2):  # even though no task was lost
            with pytest.raises(lx.WorkerError, match="no process could be started: it died"):
                worker_pool.wait(None)


# --- How it ends ----------------------------------------------------------------------------------


def test_tasks_that_an_executor_has_not_done_are_cancelled() -> None:
    held = Held()
    with pool_of(held, workers=2) as worker_pool:
        for k in range(6):
            worker_pool.submit(k, says("1"))
        until(lambda: len(held.futures) == 4)
        held.futures[0].set_running_or_notify_cancel()
        assert worker_pool.wait(0.0) == []
    assert [future.cancelled() for future in held.futures] == [False, True, True, True]


@posix
def test_ctrl_c_is_the_callers_to_handle() -> None:
    own = "__import__('os').kill(__import__('os').getpid(), 2)"
    callers = (
        "(__import__('os').kill(__import__('os').getppid(), 2), __import__('time').sleep(600))"
    )
    with pool_of(None, 1) as worker_pool:

        def interrupted() -> None:
            worker_pool.submit(1, says(callers))
            worker_pool.wait(None)

        worker_pool.submit(0, says(f"({own}, {PID})[1]"))
        pid = values(worker_pool)[0]
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert worker_pool.open == 1
    assert gone(pid)


# --- How many workers there are -------------------------------------------------------------------


class Client:
    """Of dask.distributed."""

    def nthreads(self) -> dict[str, int]:
        return {"tcp://a": 4, "tcp://b": 2}


class Lost:
    """A client whose scheduler is not there."""

    def nthreads(self) -> dict[str, int]:
        raise OSError("timed out")


class Mpi:
    """An executor of mpi4py.futures, which has started its workers by then."""

    @property
    def num_workers(self) -> int:
        return 5


@pytest.mark.parametrize(
    ("executor", "count"),
    [
        (types.SimpleNamespace(_client=Client()), 6),
        (types.SimpleNamespace(_client=Lost()), 0),
        (Mpi(), 5),
        (types.SimpleNamespace(num_workers=0, _max_workers=3), 3),
        (types.SimpleNamespace(_max_workers=None), 0),
        (object(), 0),
    ],
)
def test_executors_are_asked_for_their_workers(executor: Any, count: int) -> None:
    assert worker_count(executor) == count


def test_pools_are_asked_for_their_workers() -> None:
    with ThreadPoolExecutor(3) as threads, ProcessPoolExecutor(2) as processes:
        assert (worker_count(threads), worker_count(processes)) == (3, 2)
    pool = loky.ProcessPoolExecutor(4)
    assert worker_count(pool) == 4
    pool.shutdown()


def test_an_executor_that_does_not_say_has_some() -> None:
    with pool_of(Held()) as worker_pool:
        assert worker_pool.workers == constants.UNKNOWN_WORKER_COUNT
