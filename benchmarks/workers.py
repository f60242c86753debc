"""One hard constant on several workers: python -m benchmarks.workers [options].

--speed-up: each case by one process and by two, in turns. --record FILE: the tasks of one search
that is handed out as if to 1,024 workers, though two processes do them: what each took, what was
sent, and which one its nodes came from. --replay FILE: these tasks on 4 to 1,024 workers, by a
simulation with latency, in which the caller is a resource, too.

The replay does what the record did: with more workers the search would cut the tree otherwise, and
the best region would be known to fewer tasks when they begin. Workers begin with nothing to do, the
first phase is the caller's alone, and every task takes its recorded time. A worker has one task
ahead, as in the real thing.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from loky import ProcessPoolExecutor

import lipexact as lx
from benchmarks.batch import worth
from benchmarks.cases import question
from benchmarks.growth import keep
from benchmarks.measure import Record, environment
from benchmarks.report import REPORTS
from lipexact.workers import TaskOutcome, WorkerPool

CASES = "synthetic_10_20_30_20_2", "regression_11_24_24_1", "synthetic_10_wide"
AS_IF = 1024
AHEAD = 2  # tasks that a worker has at most
WORKERS = 1, 2, 4, 16, 64, 256, 1024
LATENCIES = 0.0005, 0.01, 0.1
FIRST = -1  # the phase of the caller alone


@dataclass(frozen=True)
class Task:
    """One task of a record.

    Attributes
    ----------
    parents
        The tasks that its nodes came from, or FIRST.
    seconds
        That it took in its worker.
    caller
        That handing it out and taking its answer took in the caller.
    sent, received
        Bytes.
    """

    parents: tuple[int, ...]
    seconds: float
    caller: float
    sent: int
    received: int


@dataclass(frozen=True)
class Replay:
    """A simulated run: how long it took, and how busy the workers and the caller were."""

    workers: int
    latency: float
    seconds: float
    busy: float
    caller: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, record or replay."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--speed-up", action="store_true")
    parser.add_argument("--record", type=Path, metavar="FILE")
    parser.add_argument("--replay", type=Path, metavar="FILE")
    parser.add_argument("--case", action="append", help="may be repeated")
    parser.add_argument("--seconds", type=float, default=120.0, help="time limit of one solve")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--report", metavar="NAME", help="write NAME.jsonl in benchmarks/reports/")
    options = parser.parse_args(arguments)
    target = REPORTS / f"{options.report}.jsonl" if options.report else None
    if target is not None:
        keep(target, environment({"seconds": options.seconds, "repeat": options.repeat}), mode="w")
    if options.speed_up:
        speed_up(options.case or CASES, options.seconds, options.repeat, target)
    if options.record is not None:
        record(options.case[0] if options.case else CASES[-1], options.seconds, options.record)
    if options.replay is not None:
        first, tasks = read(options.replay)
        for row in replays(first, tasks):
            keep(target, row)
            print(told(row), flush=True)
    return 0


def speed_up(cases: Iterable[str], seconds: float, repeat: int, target: Path | None) -> None:
    """One process and two, in turns; seconds where both close the case, else nodes."""
    for name in cases:
        found: dict[int, list[lx.LipschitzResult]] = {1: [], 2: []}
        for _ in range(repeat):
            for threads, results in found.items():
                results.append(solve(name, seconds, threads=threads))
        row: Record = {"case": name, "repeat": repeat}
        for threads, results in found.items():
            row[f"seconds_{threads}"] = median(one.seconds for one in results)
            row[f"nodes_{threads}"] = median(one.stats["nodes"] for one in results)
            row[f"upper_{threads}"] = median(one.upper for one in results)
            row[f"status_{threads}"] = results[-1].status.value
        with ProcessPoolExecutor(2, timeout=None) as pool:
            row["worth"] = worth(pool, 2)
        keep(target, row)
        for threads in found:
            print(
                f"{name}, {threads}: {row[f'status_{threads}']} <= {row[f'upper_{threads}']:.6g}, "
                f"{row[f'seconds_{threads}']:.2f} s, {row[f'nodes_{threads}']:g} nodes; "
                f"two processes are worth {row['worth']:.2f}",
                flush=True,
            )


def solve(name: str, seconds: float | None, **options: Any) -> lx.LipschitzResult:
    """Return a case by branch and bound."""
    asked = question(name)
    norms = {
        "input_norm": asked.input_norm,
        "output_norm": asked.output_norm,
        "functional": asked.functional,
    }
    return lx.lipschitz(
        asked.model, asked.domain, **norms, method="bab", time_limit=seconds, **options
    )  # type: ignore[arg-type]


def record(name: str, seconds: float, file: Path) -> None:
    """Solve a case on two processes, cut as if for many workers, and write down its tasks."""
    origin: dict[Any, int] = {}
    parents: dict[int, tuple[int, ...]] = {}
    rows: dict[int, TaskOutcome] = {}
    original_submit, original_wait = WorkerPool.submit, WorkerPool.wait
    begun: list[float] = []

    def submit(self: WorkerPool, task_id: int, function: Any, *arguments: Any) -> None:
        begun.append(time.perf_counter())
        nodes = arguments[0].batch.nodes
        parents[task_id] = tuple(sorted({origin.get(node.decisions, FIRST) for node in nodes}))
        original_submit(self, task_id, function, *arguments)

    def wait(self: WorkerPool, patience: float | None) -> list[TaskOutcome]:
        found = original_wait(self, patience)
        for each in found:
            rows[each.task_id] = each
            if each.value is not None:
                origin.update((node.decisions, each.task_id) for node in each.value.batch.nodes)
        return found

    start, cpu = time.perf_counter(), time.process_time()
    with (
        ProcessPoolExecutor(2, timeout=None) as pool,
        patch.object(WorkerPool, "submit", submit),
        patch.object(WorkerPool, "wait", wait),
    ):
        result = solve(name, seconds, executor=pool, threads=AS_IF)
    first = begun[0] - start
    caller = (time.process_time() - cpu - first) / max(len(rows), 1)
    head = environment({"case": name, "seconds": seconds}) | {
        "first": first,
        "caller": caller,
        "status": result.status.value,
    }
    keep(file, head | {"nodes": result.stats["nodes"], "wall": result.seconds}, mode="w")
    numbers = {task_id: k for k, task_id in enumerate(rows)}
    for task_id, each in rows.items():
        above = [numbers.get(one, FIRST) for one in parents[task_id]]
        keep(
            file,
            {
                "parents": above,
                "seconds": each.seconds,
                "sent": each.sent,
                "received": each.received,
            },
        )
    print(
        f"{name}: {result.status}, {len(rows)} tasks, "
        f"{sum(one.seconds for one in rows.values()):.1f} s of workers"
    )


def read(file: Path) -> tuple[float, list[Task]]:
    """Return the first phase's seconds, and the tasks in the order in which they were answered."""
    head, *rows = map(json.loads, file.read_text().splitlines())
    tasks = [
        Task(tuple(row["parents"]), row["seconds"], head["caller"], row["sent"], row["received"])
        for row in rows
    ]
    return head["first"], tasks


def replays(first: float, tasks: Sequence[Task]) -> Iterable[Record]:
    """Yield what the search takes on some numbers of workers, and with some latencies."""
    total, longest = first + sum(task.seconds for task in tasks), first + critical(tasks)
    yield {
        "tasks": len(tasks),
        "seconds": total,
        "first": first,
        "critical": longest,
        "caller": sum(task.caller for task in tasks),
        "task": median(task.seconds for task in tasks),
        "sent": median(task.sent for task in tasks),
        "received": median(task.received for task in tasks),
    }
    for latency in LATENCIES:
        for workers in WORKERS:
            found = replay(first, tasks, workers, latency)
            yield {**vars(found), "speed_up": total / found.seconds}


def critical(tasks: Sequence[Task]) -> float:
    """Return the longest chain of tasks that wait for each other."""
    ends: list[float] = []
    for task in tasks:
        ends.append(
            task.seconds + max((ends[one] for one in task.parents if one != FIRST), default=0.0)
        )
    return max(ends, default=0.0)


def replay(first: float, tasks: Sequence[Task], workers: int, latency: float) -> Replay:
    """Tasks in the order of the record, as soon as those before them are done and somebody is free.

    The caller hands out and takes answers one after the other, half of a task's time for each.
    """
    children: dict[int, list[int]] = {}
    missing = [sum(one != FIRST for one in task.parents) for task in tasks]
    for k, task in enumerate(tasks):
        for one in task.parents:
            if one != FIRST:
                children.setdefault(one, []).append(k)
    ready = [k for k, count in enumerate(missing) if not count]  # sorted, and so a heap
    free, load = (
        [first] * workers,
        [0] * workers,
    )  # when each has done what it was given, and how much that is
    room = [(0, w) for w in range(workers)]  # with entries of former loads
    answers: list[tuple[float, int, int]] = []  # on their way: when, task, worker
    clock, caller, busy = first, 0.0, 0.0
    while True:
        while ready and room:
            before, w = heapq.heappop(room)
            if before != load[w]:
                continue
            k = heapq.heappop(ready)
            clock, caller, busy = (
                clock + tasks[k].caller / 2,
                caller + tasks[k].caller / 2,
                busy + tasks[k].seconds,
            )
            free[w] = max(clock + latency, free[w]) + tasks[k].seconds
            heapq.heappush(answers, (free[w] + latency, k, w))
            load[w] += 1
            if load[w] < AHEAD:
                heapq.heappush(room, (load[w], w))
        if not answers:
            break
        when, k, w = heapq.heappop(answers)
        clock, caller = max(clock, when) + tasks[k].caller / 2, caller + tasks[k].caller / 2
        load[w] -= 1
        heapq.heappush(room, (load[w], w))
        for child in children.get(k, ()):
            missing[child] -= 1
            if not missing[child]:
                heapq.heappush(ready, child)
    span = max(clock - first, 1e-9)
    return Replay(workers, latency, clock, busy / (span * workers), caller / span)


def told(row: Mapping[str, Any]) -> str:
    """Return a line for a row."""
    if "tasks" in row:
        return (
            f"{row['tasks']} tasks, {row['seconds']:.1f} s, of which {row['first']:.1f} s "
            "alone; the longest chain "
            f"takes {row['critical']:.1f} s, the caller {row['caller']:.1f} s; a task "
            f"{row['task']:.3f} s, "
            f"{row['sent'] / 1e3:.1f} kB there, {row['received'] / 1e3:.1f} kB back (medians)"
        )
    return (
        f"{row['workers']:5} workers, latency {1e3 * row['latency']:5.1f} ms: "
        f"{row['seconds']:8.2f} s, "
        f"speed-up {row['speed_up']:6.1f}, workers busy {100 * row['busy']:5.1f} %, caller "
        f"{100 * row['caller']:5.1f} %"
    )


if __name__ == "__main__":
    sys.exit(main())
