"""Many balls on two workers: python -m benchmarks.batch [--balls 200] [--report batch].

Balls of radius 0.02 around test digits of MNIST, 784-20-20-20-2, norm linf, c = (1, -1): by a plain
loop of `lipexact.lipschitz`, by `lipexact.lipschitz_many` on processes of its own, and on a Dask
`LocalCluster`, where dask.distributed is installed. They take turns, some balls each, so that a
machine that gets slower does so for all; the results must be equal to the last bit. Between them
stands what two processes are worth on this machine at that time, by a loop that has nothing to
share: a busy or shared processor gives less than two. With --memory N, N small solves in one
process instead, and its memory.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from loky import ProcessPoolExecutor

import lipexact as lx
from benchmarks.cases import DATA, NETWORKS, random_network
from benchmarks.growth import keep
from benchmarks.measure import Record, environment
from benchmarks.report import REPORTS

MODEL = NETWORKS / "mnist17_seed0_784_20_20_20_2.onnx"
ASKED: dict[str, Any] = {"functional": (1, -1)}
PART = 50  # balls before the next one's turn
Solver = Callable[[Sequence[lx.Domain]], list[lx.LipschitzResult]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; the number of failures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--balls", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--memory", type=int, metavar="N", help="N small solves in one process")
    parser.add_argument("--report", metavar="NAME", help="write NAME.jsonl in benchmarks/reports/")
    options = parser.parse_args(arguments)
    target = REPORTS / f"{options.report}.jsonl" if options.report else None
    if options.memory:
        return memory(options.memory, target)
    return throughput(options.balls, options.jobs, target)


def throughput(count: int, jobs: int, target: Path | None) -> int:
    """Return the three ways, in turns."""
    keep(target, environment({"balls": count, "jobs": jobs}), mode="w")
    balls = [lx.Ball(row / 255, 0.02) for row in np.load(DATA / "mnist_1_vs_7.npz")["x"][:count]]
    seconds: dict[str, float] = {}
    results: dict[str, list[lx.LipschitzResult]] = {}
    worths = []
    with ways(jobs) as solvers, ProcessPoolExecutor(jobs, timeout=None) as burners:
        for start in range(0, count, PART):
            for name, solve in solvers.items():
                before = time.perf_counter()
                results.setdefault(name, []).extend(solve(balls[start : start + PART]))
                seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - before
            worths.append(worth(burners, jobs))
            so_far = ", ".join(f"{name} {spent:.1f} s" for name, spent in seconds.items())
            told = f"{jobs} processes are worth {worths[-1]:.2f}"
            print(f"{min(start + PART, count)} balls: {so_far}; {told}", flush=True)
    keep(target, {"worth": worths})
    wrong = 0
    for name, found in results.items():
        same = all(
            a.lower == b.lower and a.upper == b.upper
            for a, b in zip(found, results["loop"], strict=True)
        )
        wrong += not same
        row: Record = {
            "way": name,
            "balls": count,
            "seconds": seconds[name],
            "per_second": count / seconds[name],
        }
        row |= {"speed_up": seconds["loop"] / seconds[name], "equal": same}
        row |= {"exact": sum(one.status is lx.Status.EXACT for one in found)}
        keep(target, row)
        equal = "equal" if same else "NOT EQUAL"
        print(
            f"{name}: {row['per_second']:.2f} a second, {row['speed_up']:.2f} times the "
            f"loop, {equal}"
        )
    return wrong


def worth(pool: Executor, jobs: int) -> float:
    """How many times as much that many processes do at once as one alone."""
    alone = pool.submit(burn, 0.5).result()
    return sum(each.result() for each in [pool.submit(burn, 0.5) for _ in range(jobs)]) / alone


def burn(seconds: float) -> float:
    """Run a second of small products of matrices and some Python, as branch and bound has."""
    end, turns, matrix = time.perf_counter() + seconds, 0, np.eye(64)
    while time.perf_counter() < end:
        for _ in range(20):
            matrix = matrix @ matrix
        turns += len([k for k in range(2000) if k % 3])
    return turns / seconds


@contextmanager
def ways(jobs: int) -> Iterator[dict[str, Solver]]:
    """By name. Dask's workers stay for all parts, and the processes start anew for each."""
    network = lx.load(MODEL)

    def many(**options: Any) -> Solver:
        def solve(balls: Sequence[lx.Domain]) -> list[lx.LipschitzResult]:
            found = lx.lipschitz_many(network, balls, ordered=True, **ASKED, **options)
            return [one.result for one in found if one.result is not None]

        return solve

    solvers: dict[str, Solver] = {
        "loop": lambda balls: [lx.lipschitz(network, ball, **ASKED) for ball in balls],
        "processes": many(jobs=jobs),
    }
    if find_spec("distributed") is None:
        yield solvers
        return
    from distributed import Client, LocalCluster  # noqa: PLC0415

    local = LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
    with local as cluster, Client(cluster) as client:
        solvers["dask"] = many(executor=client.get_executor())
        yield solvers


def memory(count: int, target: Path | None) -> int:
    """Return the resident memory over many small solves, by each installed method."""
    keep(target, environment({"solves": count}), mode="w")
    network, rng = random_network((3, 5, 5, 2), 0), np.random.default_rng(0)
    grown = 0
    for method, share in (("bab", 1.0), ("mip", 0.1)):
        solves, sizes, trees = int(count * share), [], 0
        for k in range(solves + 1):
            if k % max(solves // 20, 1) == 0:
                gc.collect()
                sizes.append(resident())
            ball = lx.Ball(rng.normal(size=3), 0.5)
            trees += (
                lx.lipschitz(network, ball, method=method, functional=0).stats.get("nodes", 0) > 0
            )  # type: ignore[arg-type]
        steady = sizes[len(sizes) // 4 :]
        row: Record = {
            "method": method,
            "solves": solves,
            "with_a_tree": trees,
            "megabytes": sizes,
            "growth": steady[-1] - steady[0],
        }
        keep(target, row)
        print(
            f"{method}: {solves} solves, {' '.join(f'{size:.1f}' for size in sizes)} MB", flush=True
        )
        grown += row["growth"] > 2.0
    return grown


def resident() -> float:
    """Return the memory of this process, in megabytes."""
    import resource  # noqa: PLC0415 - of POSIX

    pages = Path("/proc/self/statm")
    if pages.is_file():
        return int(pages.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    sys.exit(main())
