"""Solvers that lie, processes that die, memory, time and disks that run out: valid bounds or a
clear error.
"""

from __future__ import annotations

import errno
import io
import itertools
import json
import math
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.common import Executable

import lipexact as lx
from lipexact import solve as asking
from lipexact.atomic_file import write_whole
from lipexact.bab import constants as bab_constants
from lipexact.bab.expand import NodeExpander
from lipexact.mip import constants, relaxation
from lipexact.mip import cut_loop as search
from lipexact.mip.solvers.base import (
    SOLVERS,
    Solver,
    SolverOutcome,
    SolverSettings,
    Termination,
    Watch,
    solver_names,
)
from lipexact.workers import WorkerPool
from lipexact.workers import pool as pools
from tests.support import oracle
from tests.support.networks import FAMILIES, case, random_weights, to_network
from tests.support.onnx_files import pytorch_mlp
from tests.support.paths import ROOT
from tests.support.solvers import require

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals, limits and scripts of POSIX")
PLACES = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
ENVIRONMENT = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": PLACES}


# --- A solver that lies ---------------------------------------------------------------------------


@cache
def question(family: str, seed: int) -> tuple[lx.Network, lx.Box, np.ndarray, float]:
    """A network, its box, a functional, and the constant by enumeration."""
    weights, low, high = case(family, seed)
    c = np.random.default_rng(seed).normal(size=len(weights[-1][1]))
    return (
        to_network(weights),
        lx.Box(low, high),
        c,
        oracle.constant(oracle.regions(weights, low, high), c),
    )


def binaries(model: Any) -> list[Any]:
    return [v for v in model.component_data_objects(pyo.Var, descend_into=True) if v.is_binary()]


Lie = Callable[[Any, SolverOutcome, np.random.Generator], Any]


def claims(**changes: Any) -> Lie:
    """The truth with something else in its place; what is callable makes it of the true value."""

    def lie(model: Any, true: SolverOutcome, rng: np.random.Generator) -> SolverOutcome:
        new = {
            name: made(getattr(true, name)) if callable(made) else made
            for name, made in changes.items()
        }
        return replace(true, **new)

    return lie


def both(change: Callable[[float], float]) -> Lie:
    """The same lie about the bound and the incumbent: no contradiction."""
    return claims(bound=change, incumbent=change)


def loads(value: Callable[[int, np.random.Generator], Any]) -> Lie:
    """The truth about the bounds, and a solution that is none."""

    def lie(model: Any, true: SolverOutcome, rng: np.random.Generator) -> SolverOutcome:
        for k, variable in enumerate(binaries(model)):
            variable.set_value(value(k, rng), skip_validation=True)
        return true

    return lie


def loads_and_claims(load: Lie, claim: Lie) -> Lie:
    return lambda model, true, rng: claim(model, load(model, true, rng), rng)


def fails(error: BaseException | type[BaseException]) -> Lie:
    def lie(model: Any, true: SolverOutcome, rng: np.random.Generator) -> SolverOutcome:
        raise error

    return lie


a_pattern = loads(lambda k, rng: int(rng.integers(2)))

# Claims that the constant is smaller than it is: of these alone some cannot be told from the truth.
TOO_LOW: dict[str, Lie] = {
    "half": both(lambda bound: bound / 2),
    "a little less": both(lambda bound: bound * (1 - 1e-3)),
    "a thousandth": both(lambda bound: bound / 1000),
    "zero": both(lambda bound: 0.0),
    "half, and a pattern": loads_and_claims(a_pattern, both(lambda bound: bound / 2)),
    "half, out of time": claims(
        bound=lambda bound: bound / 2,
        incumbent=lambda incumbent: incumbent / 2,
        termination=Termination.TIME_LIMIT,
    ),
    "half, and no solution": claims(
        bound=lambda bound: bound / 2,
        incumbent=None,
        termination=Termination.LIMIT,
        message="nodes",
    ),
}

LIES: dict[str, Lie] = {
    # Bounds.
    "sign": both(lambda bound: -bound),
    "sign, and a pattern": loads_and_claims(a_pattern, both(lambda bound: -bound)),
    "sign, and no solution": claims(
        bound=lambda bound: -bound, incumbent=None, termination=Termination.LIMIT, message="nodes"
    ),
    "nan": claims(bound=math.nan),
    "all nan": both(lambda bound: math.nan),
    "inf": claims(bound=math.inf),
    "all inf": both(lambda bound: math.inf),
    "-inf": claims(bound=-math.inf),
    "all -inf": both(lambda bound: -math.inf),
    "out of time, and inf": claims(bound=math.inf, termination=Termination.TIME_LIMIT),
    "huge": both(lambda bound: -9e19),
    "above its solution": claims(bound=lambda bound: bound + 1 + abs(bound)),
    "no number": claims(bound="three"),
    "an array": claims(bound=np.array([-1.0, 2.0])),
    "a huge integer": claims(bound=10**400),
    "no bound": claims(bound=None),
    # Incumbents.
    "too good": claims(incumbent=lambda incumbent: 10 * incumbent - 1.0),
    "too good, with a bound": both(lambda bound: 10 * bound),
    "no incumbent": claims(incumbent=None),
    "nothing": claims(bound=None, incumbent=None),
    # Statuses.
    "infeasible": claims(termination=Termination.INFEASIBLE, bound=math.inf, incumbent=None),
    "infeasible with a solution": claims(termination=Termination.INFEASIBLE),
    "failed": claims(termination=Termination.FAILED, message="broken"),
    "out of time": claims(termination=Termination.TIME_LIMIT),
    "interrupted without a solution": claims(termination=Termination.INTERRUPTED, incumbent=None),
    "optimal, as text": claims(termination="optimal"),
    "no such status": claims(termination="wonderful"),
    "no status": claims(termination=None),
    "no outcome": lambda model, true, rng: None,
    "a number": lambda model, true, rng: -1.0,
    "no number of nodes": claims(nodes="many"),
    "nan nodes": claims(nodes=math.nan),
    # Solutions.
    "unset": loads(lambda k, rng: None),
    "unset, out of time": loads_and_claims(
        loads(lambda k, rng: None), claims(termination=Termination.TIME_LIMIT, incumbent=None)
    ),
    "nan values": loads(lambda k, rng: math.nan),
    "infinite": loads(lambda k, rng: math.inf * (-1) ** k),
    "fractional": loads(lambda k, rng: rng.random()),
    "halves": loads(lambda k, rng: 0.5),
    "out of bounds": loads(lambda k, rng: 100 * rng.normal()),
    "any pattern": a_pattern,
    "any pattern, far too good": loads_and_claims(a_pattern, both(lambda bound: 1000 * bound)),
    "all off": loads(lambda k, rng: 0),
    "all on": loads(lambda k, rng: 1),  # which says too that it is a parked one
    # Exceptions.
    "RuntimeError": fails(RuntimeError("out of luck")),
    "MemoryError": fails(MemoryError),
    "ENOSPC": fails(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
    "KeyboardInterrupt": fails(KeyboardInterrupt),
    "ZeroDivisionError": fails(ZeroDivisionError),
    "RecursionError": fails(RecursionError),
    "AssertionError": fails(AssertionError),
    "StopIteration": fails(StopIteration),
}

CALLS = 5  # after which a liar says that its time is up, and no more


class Liar:
    """HiGHS, with a lie in place of its answer; None for the truth."""

    def __init__(self, choose: Callable[[int], Lie | None], seed: int = 0) -> None:
        self.choose, self.rng = choose, np.random.default_rng(seed)
        self.calls, self.too_low = 0, False

    def __call__(self, model: Any, options: SolverSettings, watch: Watch) -> Any:
        self.calls += 1
        if self.calls > CALLS:
            return SolverOutcome(Termination.TIME_LIMIT, None, None, 0, watch.seconds)
        true = SOLVERS["highs"].run(model, options, watch)
        lie = self.choose(self.calls - 1)
        said = true if lie is None else lie(model, true, self.rng)
        with suppress(TypeError, ValueError, AttributeError, OverflowError):
            self.too_low |= (
                said.termination != Termination.INFEASIBLE and said.bound > true.bound * (1 - 1e-9)
            )
        return said


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool | None]:
    """Ask a liar a question, with samples or without, and judge the answer."""
    sampled = asking.best_region

    def asked(liar: Liar, family: str, seed: int, samples: bool, **options: Any) -> bool | None:
        """Whether the interval is right; None for an error of our own class."""
        monkeypatch.setitem(SOLVERS, "liar", Solver("liar", "none", lambda: True, liar))
        monkeypatch.setattr(asking, "best_region", sampled if samples else lambda *_, **__: None)
        net, box, c, truth = question(family, seed)
        try:
            result = lx.lipschitz(
                net, box, functional=c, solver="liar", **{"method": "mip"} | options
            )
        except lx.LipExactError as error:
            assert "liar" in str(error)  # noqa: PT017
            return None
        assert 0 <= result.lower <= truth * (1 + 1e-9)
        assert result.lower <= result.upper < math.inf
        assert json.loads(result.to_json())["upper"] == result.upper
        if result.lower > 0:  # shown by a region
            assert np.abs(c @ result.witness.jacobian).sum() == pytest.approx(
                result.lower, rel=1e-9
            )
        if truth <= result.upper * (1 + 1e-9):
            return True
        # Nothing that was checked contradicts the claim. It passes for the solver's, and for no one
        # else's.
        assert liar.too_low
        assert result.proof == "solver"
        assert result.termination != "failed"
        assert result.upper >= result.lower > 0 or not samples
        return False

    return asked


@pytest.mark.parametrize("name", LIES)
def test_a_lie_does_no_harm(name: str, ask: Callable[..., bool | None]) -> None:
    # Each lie about two families: with samples and without, in both modes, and by the relaxation.
    first = list(LIES).index(name)
    for k, samples in ((first, True), (first + len(FAMILIES) // 2, False)):
        family, mode = list(FAMILIES)[k % len(FAMILIES)], ("forward", "reverse")[k % 2]
        liar = Liar(lambda _: LIES[name], k)
        assert ask(liar, family, k % 2, samples=samples, mode=mode) is not False
    liar = Liar(lambda _: LIES[name], first)
    assert ask(liar, family, k % 2, samples=bool(first % 2), method="lp") is not False


@pytest.mark.parametrize("name", LIES)
def test_a_lie_between_truths_does_no_harm(name: str, ask: Callable[..., bool | None]) -> None:
    # The truth first is a loose one, so that the search goes on.
    script = [both(lambda bound: 1.5 * bound), LIES[name], None, LIES[name]]
    liar = Liar(lambda call: script[call] if call < len(script) else None)
    family = ("sign_pairs", "general")[list(LIES).index(name) % 2]
    assert ask(liar, family, 1, samples=False) is not False
    assert liar.calls > 1


def test_a_bound_that_is_too_low_is_the_solvers_own(ask: Callable[..., bool | None]) -> None:
    """The one lie that may pass: nothing that was found contradicts it."""
    wrong = {True: 0, False: 0}
    for lie, (k, family) in itertools.product(TOO_LOW.values(), enumerate(list(FAMILIES)[::3])):
        for samples in (True, False):
            held = ask(Liar(lambda _, lie=lie: lie, k), family, k % 2, samples)
            wrong[samples] += held is False
    assert wrong[False] > 3  # the judge's exception is needed,
    assert wrong[True] == 0  # and hardly ever where samples have found the best region


def test_a_second_best_region_that_is_called_the_best(ask: Callable[..., bool | None]) -> None:
    """EXACT and wrong, by a claim that nothing contradicts: `proof` says whose it is."""
    # relu(x) - 2 relu(-x) has the slopes 1 and 2; with 1 known, and a bound of 1, the search is
    # over.
    net = to_network(
        [(np.array([[1.0], [-1.0]]), np.zeros(2)), (np.array([[1.0, -2.0]]), np.zeros(1))]
    )

    def run(model: Any, options: SolverSettings, watch: Watch) -> SolverOutcome:
        variables = binaries(model)
        for k, variable in enumerate(variables):
            variable.set_value(int(k == 0))
        value = -1.0 * constants.OBJECTIVE_WEIGHT / scales[0]
        return SolverOutcome(Termination.OPTIMAL, value, value, 0, 0.0)

    scales: list[float] = []
    original = search.compose

    def composed(*arguments: Any) -> Any:
        composition = original(*arguments)
        assert composition.offset == 0.0
        scales.append(composition.scale)
        return composition

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOLVERS, "liar", Solver("liar", "none", lambda: True, run))
        patch.setattr(search, "compose", composed)
        patch.setattr(asking, "best_region", lambda *_, **__: None)
        result = lx.lipschitz(net, lx.Box([-1.0], [1.0]), solver="liar", mode="forward")
    assert (result.status, result.proof) == (lx.Status.EXACT, "solver")
    assert result.value == 1.0
    result = lx.lipschitz(net, lx.Box([-1.0], [1.0]))
    assert (result.value, result.proof) == (2.0, "float")


@pytest.mark.parametrize("seed", range(20))
def test_truth_and_lies_by_turns(seed: int, ask: Callable[..., bool | None]) -> None:
    rng = np.random.default_rng(seed)
    known: list[Lie | None] = [None, None, both(lambda bound: 1.2 * bound), *LIES.values()]
    if seed % 2:
        known += TOO_LOW.values()
    liar = Liar(
        lambda _: known[rng.integers(len(known))] if rng.random() < 0.7 else a_pattern, seed
    )
    family = list(FAMILIES)[seed % len(FAMILIES)]
    held = ask(
        liar, family, seed % 3, samples=bool(rng.integers(2)), mode=("forward", "reverse")[seed % 2]
    )
    assert held is not False or seed % 2


def test_what_is_no_outcome_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOLVERS, "liar", Solver("liar", "none", lambda: True, lambda *_: 1.0))  # type: ignore[arg-type]
    with pytest.raises(lx.SolverError, match=r"liar returned no outcome, but 1\.0"):
        lx.lipschitz(*slow(), solver="liar")


def test_who_was_caught_is_not_believed_before_or_after(ask: Callable[..., bool | None]) -> None:
    """A bound that is too low, and then a program that cannot be infeasible: the first claim is
    dropped too.
    """
    script = [TOO_LOW["half, and a pattern"], LIES["infeasible"]]
    caught = 0
    for k, family in enumerate(FAMILIES):
        liar = Liar(lambda call: script[min(call, 1)], k)
        assert ask(liar, family, 0, samples=False) is not False or liar.calls == 1
        caught += liar.calls == 2
    assert caught > 3


def test_a_solver_without_a_solution_after_a_parked_one(
    ask: Callable[..., bool | None],
) -> None:
    """As SCIP and Gurobi end where their limit comes in the second round."""
    script = [
        both(lambda bound: 1.5 * bound),
        claims(termination=Termination.TIME_LIMIT, incumbent=None),
    ]

    def run(model: Any, options: SolverSettings, watch: Watch) -> Any:
        outcome = liar(model, options, watch)
        if liar.calls == 2:
            model.parked.set_value(None)
        return outcome

    for family in ("general", "dead", "small_integers"):
        liar = Liar(lambda call: script[min(call, 1)])
        assert ask(run, family, 1, samples=False)
        assert liar.calls == 2


def test_the_lies_of_a_running_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    """News that say that all is done stop the solver, and are no answer."""
    net, box, c, truth = question("sign_pairs", 1)
    for news in (
        (-1e15, 0.0),
        (math.nan, math.nan),
        (0.0, 1e15),
        (-math.inf, math.inf),
        (None, 1.0),
    ):

        def run(
            model: Any, options: SolverSettings, watch: Watch, news: Any = news
        ) -> SolverOutcome:
            done = threading.Event()
            watch.record(*news, 0)
            watch.run(lambda: done.wait(0.2), done.set)
            return SolverOutcome(watch.stop_reason, None, None, 0, watch.seconds, "stopped")

        monkeypatch.setattr(constants, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(constants, "HEARTBEAT_SECONDS", 0.02)
        monkeypatch.setitem(SOLVERS, "liar", Solver("liar", "none", lambda: True, run))
        monkeypatch.setattr(asking, "best_region", lambda *_, **__: None)
        seen: list[Any] = []
        result = lx.lipschitz(net, box, functional=c, solver="liar", progress=seen.append)
        assert seen
        assert result.status is lx.Status.BOUNDED
        assert (result.lower, result.proof) == (0.0, "float")
        assert result.upper >= truth


def test_a_time_limit_that_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that hears no cancel for a while: what it says late counts, and is checked."""
    net, box, c, truth = question("general", 1)

    def run(model: Any, options: SolverSettings, watch: Watch) -> SolverOutcome:
        watch.run(lambda: time.sleep(0.5), lambda: None)
        return SOLVERS["highs"].run(model, SolverSettings(), Watch(None, None))

    monkeypatch.setitem(SOLVERS, "liar", Solver("liar", "none", lambda: True, run))
    monkeypatch.setattr(constants, "GRACE_SECONDS", 0.05)
    result = lx.lipschitz(net, box, functional=c, solver="liar", time_limit=0.2)
    assert result.lower <= truth * (1 + 1e-9)
    assert result.upper >= truth * (1 - 1e-9)


# --- Ctrl-C and a lack of memory outside of the solver --------------------------------------------


@pytest.mark.parametrize(
    ("error", "termination"), [(KeyboardInterrupt, "interrupted"), (MemoryError, "limit")]
)
@pytest.mark.parametrize("method", ["mip", "lp"])
@pytest.mark.parametrize("where", ["compose", "solve", "jacobian_norm", "reconciled"])
def test_a_search_that_is_broken_off_anywhere(
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    method: str,
    error: type[BaseException],
    termination: str,
) -> None:
    if (where, method) == ("jacobian_norm", "lp"):
        pytest.skip("it looks at no pattern")
    net, box, c, truth = question("sign_pairs", 1)
    module = relaxation if method == "lp" else search
    original = getattr(module, where)
    broken = []

    def breaks(*arguments: Any, **options: Any) -> Any:
        if not broken:
            broken.append(where)
            raise error
        return original(*arguments, **options)

    monkeypatch.setattr(module, where, breaks)
    monkeypatch.setattr(asking, "best_region", lambda *_, **__: None)
    result = lx.lipschitz(net, box, functional=c, method=method, mode="forward", solver="highs")
    assert broken
    assert result.termination == termination
    assert result.lower <= truth * (1 + 1e-9)
    assert result.upper >= truth * (1 - 1e-9)
    assert result.status is lx.Status.BOUNDED or result.value == pytest.approx(truth, rel=1e-9)
    told = " ".join(map(str, result.diagnostics))
    assert ("memory" in told) == (error is MemoryError)


# --- Real faults of CBC ---------------------------------------------------------------------------

# CBC and HiGHS need seconds for it; they and branch and bound agree on the constant.
SIZES, KNOWN = (6, 14, 14, 1), 7.867232384781503


@cache
def slow() -> tuple[lx.Network, lx.Box]:
    return to_network(random_weights(np.random.default_rng(0), SIZES)), lx.Box(
        -np.ones(6), np.ones(6)
    )


def holds(result: lx.LipschitzResult, known: float = KNOWN) -> None:
    assert result.lower <= known * (1 + 1e-9)
    assert result.upper >= known * (1 - 1e-9)
    if result.status is lx.Status.EXACT:
        assert result.value == pytest.approx(known, rel=1e-9)


@posix
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGABRT"])
def test_cbc_that_is_killed_in_mid_run(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require("cbc")
    running: list[subprocess.Popen[str]] = []

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            running.append(self)

    def kill(moment: Any) -> None:
        running[-1].send_signal(getattr(signal, number))

    monkeypatch.setattr(subprocess, "Popen", Popen)
    result = lx.lipschitz(*slow(), solver="cbc", progress=kill)
    holds(result)
    assert (result.status, result.termination) == (lx.Status.BOUNDED, "failed")
    assert f"code -{getattr(signal, number).value}" in result.diagnostics[-1].message
    assert result.proof == "float"


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Put a shell script in the place of CBC, which finds the real one as $CBC, and a folder for
    notes as $NOTES.
    """
    if sys.platform == "win32":
        pytest.skip("the stand-in is a shell script")
    require("cbc")
    original, folder = Executable("cbc").path(), tmp_path / "program"
    folder.mkdir()

    def install(script: str) -> Path:
        program = folder / "cbc"
        head = (
            f'#!/bin/sh\nCBC="{original}"; NOTES="{tmp_path}"\n[ $# -lt 3 ] && exec "$CBC" "$@"\n'
        )
        program.write_text(head + script + "\n")
        program.chmod(0o755)
        Executable("cbc").set_path(str(program))
        return program

    yield install
    Executable("cbc").set_path(original)


# What CBC writes its solution to: the names, and the numbers.
FILES = (
    'for a in "$@"; do [ "$b" = -solu ] && text=$a; [ "$b" = -saveSolution ] && doubles=$a; '
    'b=$a; done; "$CBC" "$@"; '
)


@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        'head -c 3000 "$CBC"',
        "yes 'After 9 nodes, 1 on tree, 1e9 best solution, best possible 0 (1 s)' | head "
        "-n 1000; exit 1",
        "echo 'After 1 nodes, 0 on tree, 1.2.3 best solution, best possible . (1 s)'",
        FILES + 'truncate -s 100 "$text"',
        FILES + 'truncate -s 0 "$text"',
        FILES + 'truncate -s 100 "$doubles"',
        FILES + 'truncate -s 0 "$doubles"',
        FILES + 'rm "$doubles"',
        FILES + 'rm "$text" "$doubles"',
        FILES + 'sed -i "1s/.*/Infeasible - objective value 0/" "$text"',
        FILES + 'sed -i "1s/.*/Stopped on iterations - objective value 0/" "$text"',
        FILES + 'head -c 4000 /dev/zero > "$doubles"',
        FILES + 'head -c 9999 "$CBC" | dd of="$doubles" bs=1 seek=8 conv=notrunc status=none',
        '"$CBC" "$@" > "$NOTES/log"; code=$?; tail -n 3 "$NOTES/log"; exit $code',
        '"$CBC" "$@"; exit 3',
    ],
)
def test_something_else_in_the_place_of_cbc(
    script: str, stand_in: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(script)
    files = tmp_path / "files"
    files.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(files))
    for family in ("general", "sign_pairs"):
        net, box, c, truth = question(family, 1)
        try:
            result = lx.lipschitz(net, box, functional=c, solver="cbc")
        except lx.SolverError as error:
            assert "cbc" in str(error)  # noqa: PT017
        else:
            holds(result, truth)
        assert list(files.iterdir()) == []


@pytest.mark.parametrize("limit", [None, 0.5])
def test_cbc_behind_a_script_that_does_not_pass_signals_on(
    limit: float | None,
    stand_in: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in "cbc "$@"" without exec: what the script has started is stopped too, and holds no
    pipe open.
    """
    monkeypatch.setattr(constants, "GRACE_SECONDS", 0.2)
    stand_in('sleep 600 & echo $! > "$NOTES/pid"; trap "" INT; wait; sleep 600')
    result = lx.lipschitz(*slow(), solver="cbc", time_limit=limit, progress=lambda _: limit is None)
    holds(result)
    assert result.termination == ("interrupted" if limit is None else "time limit")
    assert gone(int((tmp_path / "pid").read_text()))


def gone(pid: int) -> bool:
    """Whether a process has ended, or will within a second or so."""
    for _ in range(100):
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


# --- Signals to the whole process -----------------------------------------------------------------


@pytest.fixture
def slow_file(tmp_path: Path) -> Path:
    path = tmp_path / "slow.onnx"
    path.write_bytes(pytorch_mlp(np.random.default_rng(0), (10, 20, 20, 20, 1)).SerializeToString())
    return path


def command(model: Path, *options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "lipexact",
        "solve",
        str(model),
        "--lower=-1",
        "--upper=1",
        "--json",
        *options,
    ]


def wait_for(path: Path) -> str:
    for _ in range(1200):
        with suppress(OSError):
            if (text := path.read_text()).endswith("\n"):
                return text
        time.sleep(0.05)
    raise AssertionError(f"{path.name} did not come")


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_neither_cbc_nor_its_files(
    number: signal.Signals, stand_in: Callable[[str], Path], slow_file: Path, tmp_path: Path
) -> None:
    program = stand_in('echo $$ > "$NOTES/pid"; exec "$CBC" "$@"')
    files = tmp_path / "files"
    files.mkdir()
    environment = ENVIRONMENT | {
        "TMPDIR": str(files),
        "PATH": f"{program.parent}:{ENVIRONMENT['PATH']}",
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        command(slow_file, "--solver=cbc"), env=environment, text=True, **pipes
    ) as running:
        pid = int(wait_for(tmp_path / "pid"))
        assert list(files.iterdir())
        time.sleep(0.5)
        running.send_signal(number)
        out, err = running.communicate(timeout=100)
    assert gone(pid)
    assert list(files.iterdir()) == []
    assert "Traceback" not in err
    if number is signal.SIGINT:
        printed = json.loads(out)
        assert running.returncode == 3
        assert (printed["status"], printed["termination"]) == ("BOUNDED", "interrupted")
        assert 0 < printed["lower"] < printed["upper"]
    else:
        assert (running.returncode, out) == (128 + number, "")


@posix
@pytest.mark.parametrize("options", [("--solver=highs", "--method=mip"), ("--method=bab",)])
def test_a_process_that_is_ended_prints_nothing(options: tuple[str, ...], slow_file: Path) -> None:
    with subprocess.Popen(
        command(slow_file, *options), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as running:
        time.sleep(3)
        running.terminate()
        out, _ = running.communicate(timeout=100)
    assert (running.returncode, out) == (-signal.SIGTERM, "")


def test_handlers_of_signals_are_put_back(stand_in: Callable[[str], Path]) -> None:
    stand_in("exit 1")
    net, box, c, _ = question("general", 1)

    def own(*_: object) -> None:
        pass

    before = signal.signal(signal.SIGTERM, own)
    try:
        lx.lipschitz(net, box, functional=c, solver="cbc")
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
    lx.lipschitz(net, box, functional=c, solver="cbc")
    assert signal.getsignal(signal.SIGTERM) is before
    answers: list[lx.LipschitzResult] = []
    thread = threading.Thread(
        target=lambda: answers.append(lx.lipschitz(net, box, functional=c, solver="cbc"))
    )
    thread.start()
    thread.join()
    assert answers[0].termination == "failed"


# --- Memory ---------------------------------------------------------------------------------------

STARVED = """
import json, resource, sys
import numpy as np
import lipexact as lx
from lipexact import api  # and all else that is needed
from lipexact.engines import find_engine
from lipexact.options import Options
from lipexact.serialise import to_plain
from lipexact.mip.solvers.base import available
from tests.support.networks import random_weights, to_network
method, solver, room = sys.argv[1], sys.argv[2], float(sys.argv[3])
net = to_network(random_weights(np.random.default_rng(0), (6, 14, 14, 1)))
available(solver)
find_engine(method).prepare(Options(method=method, solver=solver))  # and what that imports
to_plain({})  # likewise
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + int(room * 2**20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    box = lx.Box(-np.ones(6), np.ones(6))
    result = lx.lipschitz(net, box, method=method, solver=solver, time_limit=5.0)
except (lx.LipExactError, MemoryError) as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
else:
    print(result.to_json())
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="a file of Linux")
@pytest.mark.parametrize(
    ("method", "solver", "room"),
    [("bab", "highs", 3), ("mip", "highs", 30)],
)
def test_hardly_any_memory(method: str, solver: str, room: float) -> None:
    """A clear error or an honest interval; or, where a library ends the process by itself, no
    answer at all.
    """
    require(solver)
    run = [sys.executable, "-c", STARVED, method, solver, str(room)]
    ended = subprocess.run(
        run, env=ENVIRONMENT, capture_output=True, text=True, timeout=100, check=False
    )
    if not ended.stdout:
        assert method == "mip"
        assert ended.returncode not in (0, 1), ended.stderr  # 1 would be a traceback
        return
    told = json.loads(ended.stdout.splitlines()[-1])
    if "error" in told:
        assert told["message"]
    else:
        assert told["lower"] <= KNOWN * (1 + 1e-9)
        assert told["upper"] >= KNOWN * (1 - 1e-9)


# --- Other processes of branch and bound ----------------------------------------------------------


def with_others(
    monkeypatch: pytest.MonkeyPatch, number: int | None = None, after: int = 0, **options: Any
) -> tuple[lx.LipschitzResult, int, set[int]]:
    """Branch and bound in two other processes, which get a signal after so many answers; all
    answers, and processes.
    """
    answers, pids = 0, set[int]()

    def ready(self: WorkerPool) -> bool:
        nonlocal number
        for slot in self._slots:
            if slot.started is not None:
                slot.started.exception()
                pids.update(slot.executor._processes)
        if number is not None and answers >= after:
            for pid in pids:
                os.kill(pid, number)
            number = None
        return original_ready(self)

    def wait(self: WorkerPool, seconds: float | None) -> Any:
        nonlocal answers
        told = original_wait(self, seconds)
        answers += len(told)
        return told

    original_ready, original_wait = WorkerPool.ready.fget, WorkerPool.wait
    monkeypatch.setattr(bab_constants, "ALONE_SECONDS", -1.0)
    monkeypatch.setattr(bab_constants, "WORTHWHILE_SECONDS", 0.0)
    monkeypatch.setattr(WorkerPool, "ready", property(ready))
    monkeypatch.setattr(WorkerPool, "wait", wait)
    return lx.lipschitz(*slow(), method="bab", threads=2, **options), answers, pids


@posix
def test_processes_that_are_killed_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    result, answers, pids = with_others(monkeypatch, signal.SIGKILL, after=1, gap=0.25)
    assert answers > 3
    assert len(pids) == 4
    assert result.termination == "gap"
    assert not result.diagnostics
    holds(result)


@posix
def test_processes_that_hang_are_given_up_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.perf_counter()
    result, answers, pids = with_others(monkeypatch, signal.SIGSTOP, time_limit=1.5)
    assert time.perf_counter() - start < 6
    assert (answers, len(pids)) == (0, 2)
    assert all(map(gone, pids))
    assert (result.status, result.termination) == (lx.Status.BOUNDED, "time limit")
    holds(result)


IN_OTHERS = """
import sys
from pathlib import Path
from lipexact.bab import constants
from lipexact.cli.app import main
from lipexact.workers import WorkerPool
def wait(self, seconds):
    told = original(self, seconds)
    if told and not note.exists():
        pids = [pid for slot in self._slots for pid in slot.executor._processes]
        note.write_text(" ".join(map(str, pids)) + chr(10))
    return told
note = Path(sys.argv.pop())
original, WorkerPool.wait, constants.ALONE_SECONDS = WorkerPool.wait, wait, -1.0
main()
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a file of Linux")
@pytest.mark.parametrize("number", [signal.SIGTERM, getattr(signal, "SIGKILL", None)])
def test_other_processes_end_with_the_first_one(
    number: signal.Signals, slow_file: Path, tmp_path: Path
) -> None:
    options = command(slow_file, "--method=bab", "--threads=2")[3:]
    run = [sys.executable, "-c", IN_OTHERS, *options, str(tmp_path / "pids")]
    with subprocess.Popen(
        run, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as running:
        others = [int(pid) for pid in wait_for(tmp_path / "pids").split()]
        running.send_signal(number)
        out, _ = running.communicate(timeout=100)
    assert (running.returncode, out) == (-number, b"")
    assert len(others) == 2
    assert all(map(gone, others))


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "semaphores"), RuntimeError("can't start new thread")]
)
def test_no_other_process_is_to_be_had(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise error

    monkeypatch.setattr(pools, "local_process", refuse)
    result, answers, pids = with_others(monkeypatch, gap=0.25)
    assert (answers, pids) == (0, set())
    assert result.termination == "gap"
    assert str(error) in result.diagnostics[-1].message
    holds(result)


def test_branch_and_bound_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    original = NodeExpander.expand
    for after in (0, 3):
        calls = itertools.count()

        def explored(self: NodeExpander, batch: Any, calls: Any = calls, after: int = after) -> Any:
            if next(calls) == after:
                raise MemoryError
            return original(self, batch)

        with monkeypatch.context() as patch:
            patch.setattr(NodeExpander, "expand", explored)
            result = lx.lipschitz(*slow(), method="bab")
        assert (result.status, result.termination) == (lx.Status.BOUNDED, "limit")
        assert "memory" in result.diagnostics[-1].message
        holds(result)


# --- Time -----------------------------------------------------------------------------------------

WAYS = [
    ("bab", "highs"),
    *((method, solver) for method in ("mip", "lp") for solver in solver_names()),
]


@pytest.mark.parametrize(("method", "solver"), WAYS)
def test_a_millisecond(method: str, solver: str) -> None:
    require(solver)
    for k, family in enumerate(FAMILIES):
        net, box, c, truth = question(family, k % 2)
        result = lx.lipschitz(
            net, box, functional=c, method=method, solver=solver, time_limit=0.001
        )
        holds(result, truth)


@pytest.mark.parametrize(("method", "solver"), WAYS)
def test_a_millisecond_for_a_network_of_the_size_of_digits(method: str, solver: str) -> None:
    require(solver)
    net = to_network(random_weights(np.random.default_rng(0), (64, 20, 20, 20, 2)))
    box = lx.Box(-np.ones(64), np.ones(64))
    for functional, alpha in ((0, "linf"), (None, "l1")):
        options: dict[str, Any] = {
            "functional": functional,
            "input_norm": alpha,
            "time_limit": 0.001,
        }
        result = lx.lipschitz(net, box, method=method, solver=solver, **options)
        assert (result.status, result.termination) == (lx.Status.BOUNDED, "time limit")
        jacobians = net.jacobian(np.random.default_rng(1).uniform(-1, 1, (500, 64)))
        rows = jacobians[:, :1] if functional == 0 else jacobians
        norms = (
            np.abs(rows[:, 0]).sum(axis=1)
            if alpha == "linf"
            else np.abs(rows).sum(axis=1).max(axis=1)
        )
        assert norms.max() <= result.upper
        assert 0 <= result.lower <= result.upper
        if result.witness is not None:
            shown = net.jacobian(result.witness.point)
            value = np.abs(shown[0]).sum() if alpha == "linf" else np.abs(shown).sum(axis=0).max()
            assert value == pytest.approx(result.lower, rel=1e-9)


# --- Files ----------------------------------------------------------------------------------------

OLD, NEW = b"old\n" * 5, bytes(range(256)) * 1000


def is_whole(folder: Path, name: str, content: bytes | None) -> None:
    """The file has this content, or is not there for None; and nothing lies beside it."""
    assert [path.name for path in folder.iterdir()] == ([] if content is None else [name])
    if content is not None:
        assert (folder / name).read_bytes() == content


@pytest.mark.parametrize("name", ["file", "file.json", ".hidden", "ä" * 120, "a b"])
def test_a_file_is_written_and_replaced(name: str, tmp_path: Path) -> None:
    for content in (OLD, NEW, b""):
        write_whole(tmp_path / name, content)
        is_whole(tmp_path, name, content)
    write_whole(str(tmp_path / name), OLD)
    is_whole(tmp_path, name, OLD)


def test_a_file_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_whole("file", NEW)
    is_whole(tmp_path, "file", NEW)


FAULTS: list[tuple[str, BaseException]] = [
    ("write", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
    ("fsync", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
    ("fsync", OSError(errno.EIO, os.strerror(errno.EIO))),
    ("fsync", KeyboardInterrupt()),
    ("write", KeyboardInterrupt()),
    ("write", MemoryError()),
    ("replace", PermissionError(errno.EACCES, os.strerror(errno.EACCES), "a", None, "b")),
    ("replace", KeyboardInterrupt()),
]


@pytest.mark.parametrize("before", [None, OLD])
@pytest.mark.parametrize(
    ("where", "error"), FAULTS, ids=[f"{where}-{type(error).__name__}" for where, error in FAULTS]
)
def test_what_fails_on_the_way_leaves_what_was_there(
    where: str,
    error: BaseException,
    before: bytes | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    seen = []

    def fail(*_: object) -> None:
        seen.extend(tmp_path.iterdir())
        raise error

    with monkeypatch.context() as patch:
        if where == "write":
            patch.setattr(Path, "open", lambda self, mode: Failing(self, mode, fail))
        elif where == "fsync":
            patch.setattr(os, "fsync", fail)
        else:
            patch.setattr(Path, "replace", fail)
        with pytest.raises(type(error)) as raised:
            write_whole(path, NEW)
    assert len(seen) == (1 if before is None else 2)
    is_whole(tmp_path, "file", before)
    if isinstance(raised.value, OSError):
        assert (raised.value.filename, raised.value.filename2) == (str(path), None)
        assert raised.value.errno == error.errno  # type: ignore[attr-defined]


class Failing(io.FileIO):
    """A file on a disk that is full after half of what is written."""

    def __init__(self, path: Path, mode: str, fail: Callable[[], None]) -> None:
        super().__init__(path, mode)
        self.fail = fail

    def write(self, data: Any) -> int:
        super().write(data[: len(data) // 2])
        self.fail()
        return len(data)


LIMITED = """
import resource, signal, sys
from lipexact.atomic_file import write_whole
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_whole(sys.argv[1], bytes(range(256)) * 1000)
except OSError as error:
    print(error.errno, error.filename)
"""


@posix
def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    folder, path = tmp_path, tmp_path / "file"
    for before in (None, OLD):
        if before is not None:
            path.write_bytes(before)
        run = [sys.executable, "-c", LIMITED, str(path)]
        ended = subprocess.run(run, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        assert ended.stdout == f"{errno.EFBIG} {path}\n"
        is_whole(folder, "file", before)


KILLED = """
import os, signal, sys
from lipexact.atomic_file import write_whole
def fsync(number):
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
os.fsync = fsync
write_whole(sys.argv[1], bytes(range(256)) * 1000)
"""


@posix
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_process_that_is_killed_while_it_writes(number: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    run = [sys.executable, "-c", KILLED, str(path), number]
    ended = subprocess.run(run, env=ENVIRONMENT, capture_output=True, check=False)
    assert ended.returncode == -getattr(signal, number)
    assert path.read_bytes() == OLD
    others = [other.name for other in tmp_path.iterdir() if other != path]
    assert all(name.startswith(".file.") and name.endswith(".partial") for name in others)
    assert len(others) == (0 if number == "SIGINT" else 1)


@pytest.mark.parametrize("path", ["nowhere/file", "folder", "folder/", "", "file/file"])
def test_paths_that_cannot_be_written_to(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(OSError, match=r"Errno|WinError"):
        write_whole(path, NEW)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == OLD


def test_content_that_is_no_bytes(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_whole(tmp_path / "file", "text")  # type: ignore[arg-type]
    is_whole(tmp_path, "file", None)


@posix
def test_permissions_are_those_of_any_new_file_or_of_the_old_one(tmp_path: Path) -> None:
    path, plain = tmp_path / "file", tmp_path / "plain"
    mask = os.umask(0o027)
    try:
        write_whole(path, OLD)
        plain.write_bytes(OLD)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode) == 0o640
    path.chmod(0o604)
    write_whole(path, NEW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert path.read_bytes() == NEW


@posix
def test_a_file_that_is_read_only_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    path.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write to any
    with pytest.raises(PermissionError) as raised:
        write_whole(path, NEW)
    assert raised.value.filename == str(path)
    is_whole(tmp_path, "file", OLD)


@posix
def test_links_are_followed(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    (here / "link").symlink_to("../there/file")
    for content in (OLD, NEW):  # the first time it leads nowhere
        write_whole(here / "link", content)
        assert (here / "link").is_symlink()
        is_whole(here, "link", content)
        is_whole(there, "file", content)
    (here / "link").unlink()
    (here / "link").symlink_to("link")
    with pytest.raises(OSError, match="link"):
        write_whole(here / "link", NEW)


@posix
def test_pipes_and_devices_are_written_to_directly(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_whole(tmp_path / "pipe", NEW)
    reader.join()
    assert heard == [NEW]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    write_whole(os.devnull, NEW)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@posix
@pytest.mark.parametrize("to_file", [False, True])
def test_the_output_of_the_process(to_file: bool, tmp_path: Path) -> None:
    script = "from lipexact.atomic_file import write_whole; write_whole('/dev/stdout', b'content')"
    run, path = [sys.executable, "-c", script], tmp_path / "file"
    if not to_file:
        ended = subprocess.run(run, env=ENVIRONMENT, capture_output=True, check=True)
        assert ended.stdout == b"content"
        return
    with path.open("wb") as stream:
        subprocess.run(run, env=ENVIRONMENT, stdout=stream, check=True)
        assert path.stat().st_ino == os.fstat(stream.fileno()).st_ino
    assert path.read_bytes() == b"content"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_device() -> None:
    with pytest.raises(OSError, match="No space left"):
        write_whole("/dev/full", NEW)
