"""Executors of other projects: Dask, mpi4py and loky, with what happens to their workers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import lipexact as lx
from tests.support.batches import COUNT, alone, balls, hard, network, values
from tests.support.paths import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")  # other projects' own


def require(package: str, program: str | None = None) -> None:
    if find_spec(package) is None or (program is not None and shutil.which(program) is None):
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have {package}")
        pytest.skip(f"{package} is not here")


class Dask:
    """A scheduler and workers of Dask, each a process that a test may end."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.stack, self.address, self.folder = stack, f"tcp://127.0.0.1:{self.port}", folder
        self.start()

    def start(self) -> None:
        options = "--host=127.0.0.1", f"--port={self.port}", "--no-dashboard", "--no-jupyter"
        self.scheduler = self.process("dask_scheduler", *options)
        self.workers = [
            self.process(
                "dask_worker", self.address, "--no-nanny", "--nthreads=1", "--no-dashboard"
            )
            for _ in range(2)
        ]

    def process(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{name}", *options]
        log = self.stack.enter_context((self.folder / f"{name}.log").open("ab"))
        process = self.stack.enter_context(
            subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        )
        self.stack.callback(process.kill)
        return process


@contextmanager
def dask(folder: Path) -> Iterator[tuple[Dask, Any]]:
    require("distributed")
    from distributed import Client

    with ExitStack() as stack:
        cluster = Dask(stack, folder)
        client = stack.enter_context(Client(cluster.address, timeout=60, set_as_default=False))
        client.wait_for_workers(2, timeout=60)
        yield cluster, client


def one_constant(
    executor: Executor, monkeypatch: pytest.MonkeyPatch, *, certificate: bool = False
) -> None:
    """A hard constant, with its certificate, is that of one machine."""
    from lipexact.bab import constants

    net, box = hard()
    lonely = lx.lipschitz(net, box, certificate=certificate)
    with monkeypatch.context() as patch:
        patch.setattr(constants, "ALONE_SECONDS", 0.0)
        shared = lx.lipschitz(net, box, certificate=certificate, executor=executor)
    assert shared.status is lonely.status is lx.Status.EXACT
    assert shared.value == pytest.approx(lonely.value, rel=1e-9)
    if certificate:
        assert shared.proof == "certificate"
        assert shared.certificate is not None
        assert lonely.certificate is not None
        assert lx.check(net, shared.certificate).ok
        assert shared.certificate.lower == pytest.approx(lonely.certificate.lower, rel=1e-9)
        assert shared.certificate.upper == pytest.approx(lonely.certificate.upper, rel=1e-9)


def test_dask(tmp_path: Path) -> None:
    """Workers and the scheduler may end: nothing is lost, and nothing is there twice."""
    path = tmp_path / "results.jsonl"
    with dask(tmp_path) as (cluster, client):
        executor = client.get_executor()
        results = lx.lipschitz_many(
            network(), balls(), functional=0, executor=executor, jobs=1, checkpoint=path
        )
        found = [next(results)]
        cluster.workers[0].kill()
        found += [next(results) for _ in range(3)]
        for process in (cluster.scheduler, *cluster.workers):
            process.kill()
            process.wait(60)
        cluster.start()
        found += results
    assert values(iter(found)) == alone()
    there = [json.loads(line)["index"] for line in path.read_text().splitlines()[1:]]
    assert sorted(there) == list(range(COUNT))


SCRIPT = """
import json
from mpi4py.futures import MPIPoolExecutor
import lipexact as lx
from lipexact.bab import constants
from tests.support.batches import balls, hard, network, values

if __name__ == "__main__":
    constants.ALONE_SECONDS = 0.0
    with MPIPoolExecutor() as executor:
        found = values(lx.lipschitz_many(network(), balls(), functional=0, executor=executor))
        shared = lx.lipschitz(*hard(), executor=executor)
        workers = executor.num_workers
    print(json.dumps([workers, found, shared.value, ", ".join(map(str, shared.diagnostics))]))
"""


def test_mpi(tmp_path: Path) -> None:
    require("mpi4py", "mpiexec")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = [] if os.name == "nt" or os.getuid() else ["--allow-run-as-root"]
    several = ["mpiexec", *root, "--oversubscribe", "-n", "3"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [*several, sys.executable, "-m", "mpi4py.futures", str(script)]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert ended.returncode == 0, ended.stderr
    workers, found, shared, message = json.loads(ended.stdout.splitlines()[-1])
    assert workers == 2
    assert found == alone()
    assert shared == pytest.approx(lx.lipschitz(*hard()).value, rel=1e-9)
    assert not message


def test_loky(monkeypatch: pytest.MonkeyPatch) -> None:
    from loky import ProcessPoolExecutor

    with ProcessPoolExecutor(2, timeout=None) as pool:
        assert values(lx.lipschitz_many(network(), balls(), functional=0, executor=pool)) == alone()
        one_constant(pool, monkeypatch, certificate=True)
