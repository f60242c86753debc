"""The project's chores. `nox` alone runs what CI runs; `nox -l` lists the rest."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
os.environ.setdefault("UV_SYSTEM_CERTS", "true")  # uv trusts what pip trusts

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
IN_PARALLEL = "--numprocesses=auto", "--dist=worksteal"
PINNED = "-c", "benchmarks/constraints.txt"  # what the committed reports were measured with
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
TESTED = RUNNING if RUNNING in PYTHONS else PYTHONS[-1]

nox.options.sessions = ["lint", "types", f"tests-{TESTED}", "docs", "build", "wheel", "bench_smoke"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style, order of imports, floors, and the commit hooks' other checks."""
    session.install(*PROJECT["project"]["optional-dependencies"]["lint"])
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": "src"})
    session.run("pre-commit", "run", "--all-files", env={"SKIP": "ruff-check,ruff-format"})


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict, over the package."""
    session.install("-e", ".[types]")
    session.run("mypy", *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests and the examples in docstrings, or `nox -s tests -- ARGUMENTS OF PYTEST`."""
    session.install("-e", ".[test]")
    session.run("pytest", *(session.posargs or IN_PARALLEL))


@nox.session(reuse_venv=True)
def quick(session: nox.Session) -> None:
    """Test every part, and one network of each family by each engine: a minute and a half."""
    session.install("-e", ".[test]")
    session.run("pytest", *IN_PARALLEL, "-m", "quick", "tests", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """All tests again, and which lines they run: tracing them takes half as long again."""
    session.install("-e", ".[test]")
    session.run("pytest", *IN_PARALLEL, "--cov")


@nox.session(python=PYTHONS[0], venv_backend="uv")
def minimums(session: nox.Session) -> None:
    """Run the tests with the oldest releases that pyproject.toml allows."""
    session.install("--resolution=lowest-direct", "-e", ".[test]")
    session.run("pytest", *(session.posargs or IN_PARALLEL))


@nox.session
def pairs(session: nox.Session) -> None:
    """Ask both methods and all estimators of hundreds of networks: over half an hour.

    The truth is the oracle that enumerates all regions.
    """
    session.install("-e", ".[test]")
    every = "tests/system/test_vector.py", "-k", "pairs"
    session.run("pytest", *IN_PARALLEL, *every, env={"LIPEXACT_SEEDS": "200"})
    every = (
        "tests/bab",
        "tests/problem",
        "-k",
        "equals_the_enumeration or no_boxes",
    )
    session.run("pytest", *IN_PARALLEL, *every, env={"LIPEXACT_SEEDS": "36"})
    every = "tests/estimators", "-k", "guarantees_hold"
    session.run("pytest", *IN_PARALLEL, *every, env={"LIPEXACT_SEEDS": "100"})


@nox.session
def soak(session: nox.Session) -> None:
    """Ask every method and solver of 10,000 networks: `nox -s soak -- --networks 500`."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.support.soak", *(session.posargs or ["--networks", "10000"]))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation: pages are run, and a warning or a broken link is an error."""
    session.install("-e", ".[docs]")
    html = ROOT / "docs" / "_build" / "html"
    session.run(
        "sphinx-build", "-W", "--keep-going", "-E", "-j", "auto", "-b", "html", "docs", str(html)
    )
    session.run("python", "docs/links.py", str(html))


@nox.session
def bench_smoke(session: nox.Session) -> None:
    """Run each benchmark case once, small, and a little of the paper; failures stand last."""
    session.install("-e", ".[paper]")
    session.run(
        "python",
        "-m",
        "benchmarks.paper",
        "table1",
        "figure1",
        "series",
        "hardness",
        "--quick",
        silent=True,
    )
    session.run("python", "-m", "benchmarks.run", "--smoke", *session.posargs)
    session.run("python", "-m", "benchmarks.scale", "--smoke", "--seconds", "5")
    session.run("python", "-m", "benchmarks.growth", "--smoke")
    session.run("python", "-m", "benchmarks.batch", "--balls", "4")
    session.run("python", "-m", "benchmarks.batch", "--memory", "200")
    session.run(
        "python", "-m", "benchmarks.workers", "--replay", "benchmarks/reports/workers_tasks.jsonl"
    )
    session.run(
        "python",
        "-m",
        "benchmarks.estimators",
        "--case",
        "random_4_8_8_2",
        "--norm",
        "l2",
        "--seconds",
        "2",
    )


@nox.session
def bench(session: nox.Session) -> None:
    """Run each case by each method and solver, or as options of `benchmarks.run` say.

    The report is benchmarks/reports/by_solver.md.
    """
    session.install("-e", ".[gurobi]", *PINNED)
    every = "--every-solver", "--first", "--seconds", "20", "--repeat", "1", "--report", "by_solver"
    session.run("python", "-m", "benchmarks.run", *(session.posargs or every))


@nox.session
def paper(session: nox.Session) -> None:
    """Make the paper's tables and figures: table1, figure1, series, hardness.

    `nox -s paper -- table1` makes one of them; they are written to benchmarks/reports/.
    """
    session.install("-e", ".[paper]", *PINNED)
    session.run("python", "-m", "benchmarks.paper", *session.posargs)


@nox.session
def bench_growth(session: nox.Session) -> None:
    """Measure how the time grows: `nox -s bench_growth -- --seconds 10`.

    The curves are in benchmarks/reports/growth.png.
    """
    session.install("-e", ".[plot]")
    session.run("python", "-m", "benchmarks.growth", "--report", "growth", *session.posargs)


@nox.session
def bench_workers(session: nox.Session) -> None:
    """Measure batches, one hard constant on workers, and memory: an hour.

    Two workers search, their record is replayed on up to 1,024, and 10,000 solves show the memory.
    """
    session.install("-e", ".", "distributed", *PINNED)
    tasks = "benchmarks/reports/workers_tasks.jsonl"
    session.run("python", "-m", "benchmarks.batch", "--balls", "200", "--report", "batch")
    session.run("python", "-m", "benchmarks.workers", "--speed-up", "--report", "workers")
    session.run(
        "python", "-m", "benchmarks.workers", "--case", "synthetic_10_wide", "--record", tasks
    )
    session.run(
        "python", "-m", "benchmarks.workers", "--replay", tasks, "--report", "workers_replay"
    )
    session.run("python", "-m", "benchmarks.batch", "--memory", "10000", "--report", "memory")


@nox.session
def build(session: nox.Session) -> None:
    """Build the source distribution, and the wheel made from it, in dist/."""
    session.install("build[uv]")
    shutil.rmtree(DIST, ignore_errors=True)
    session.run("python", "-m", "build", "--installer=uv", "--outdir", str(DIST))


@nox.session(requires=["build"])
def wheel(session: nox.Session) -> None:
    """Try the built wheel in an environment of its own, away from the sources."""
    session.install(*map(str, DIST.glob("*.whl")))
    session.chdir(session.create_tmp())
    session.run(
        "python",
        "-c",
        "import importlib.resources as r; assert (r.files('lipexact') / 'py.typed').is_file()",
    )
    for model in sorted(ROOT.glob("examples/*.onnx")):
        session.run("lipexact", "info", str(model))
