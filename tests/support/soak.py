"""Thousands of random small networks, every method and solver in turn, against the enumeration
oracle.

``python -m tests.support.soak --networks 10000``, or ``nox -s soak``, counts two failures above
all: an EXACT answer that is
not the constant, and an interval that misses it. The number k of a network determines all about
it, its family and
sizes, weights, domain, norms, method, solver and mode, so that ``--first k --networks 1`` repeats
it.

The truth is rational, and compared as such. With l2 norms its square is rational, or, from l2 to
l2, the matrices whose eigenvalues a number is compared with. Where the package hands out
certificates, `lipexact.check` is asked about each.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import signal
import sys
import time
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import lipexact as lx
from lipexact.mip.solvers.base import available, quadratic_solvers, solver_names
from tests.support.networks import (
    CUTS,
    EXTREME,
    FAMILIES,
    Case,
    cut_domain,
    halfspaces_of,
    to_network,
)
from tests.support.oracle import (
    Matrix,
    Norm,
    Polyhedral,
    Region,
    _corners,
    cross_functionals,
    dual,
    operator_norm,
    regions,
    vector_norm,
)

SEED = 20_500  # of all networks, with their number
SECONDS = 20.0  # the time limit of one network
PATIENCE = 6  # times the time limit, and a network has failed
FAR = 2.0**300  # a box of that size meets all regions of such small networks
CHUNK = 10
WIDTH = 120  # of tables in files
PULSE = 15.0  # seconds between two lines where there is no terminal

ATTAINED = Fraction(
    1, 10**12
)  # by how much the lower bound, relative to the constant, may lie above it
CLAIMED = Fraction(1, 10**12)  # and the upper bound below it, where it rests on a solver's claim
PROVEN = Fraction(1, 10**13)  # or on the package's own arithmetic
ROUNDED = Fraction(
    1, 2**50
)  # half-axes 1 / h of weighted norms are rounded, which certificates state as they are
CLOSE = Fraction(1, 10**9)  # and an EXACT answer off

WAYS: dict[tuple[str, str], float] = {
    ("bab", "highs"): 60,
    ("mip", "highs"): 16,
    ("mip", "scip"): 7,
    ("mip", "gurobi"): 8,
    ("mip", "cbc"): 4,
    ("lp", "highs"): 2,
    ("lp", "scip"): 1,
    ("lp", "gurobi"): 1,
    ("lp", "cbc"): 1,
}
for _solver in solver_names():  # one that is new here
    WAYS.setdefault(("mip", _solver), 4)
    WAYS.setdefault(("lp", _solver), 1)


# --- What is true ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """A constant, to be compared with numbers exactly.

    Attributes
    ----------
    number
        The constant; its square where `squared`.
    grams
        From l2 to l2: the constant is the root of the largest eigenvalue of these matrices.
    """

    number: Fraction = Fraction(0)
    squared: bool = False
    grams: tuple[Matrix, ...] = ()

    def at_most(self, bound: Fraction) -> bool:
        """Whether the constant is at most this number."""
        if bound < 0:
            return False
        if self.grams:
            return all(_sign(gram, bound * bound) >= 0 for gram in self.grams)
        return self.number <= (bound * bound if self.squared else bound)

    def at_least(self, bound: Fraction) -> bool:
        """Whether the constant is at least this number."""
        if bound <= 0:
            return True
        if self.grams:
            return any(_sign(gram, bound * bound) <= 0 for gram in self.grams)
        return self.number >= (bound * bound if self.squared else bound)

    def __float__(self) -> float:
        if self.grams:
            return max(
                math.sqrt(max(np.linalg.eigvalsh(np.array(gram, dtype=float))))
                for gram in self.grams
            )
        return math.sqrt(self.number) if self.squared else float(self.number)


def _sign(gram: Matrix, shift: Fraction) -> int:
    """The sign of the least eigenvalue of shift I - gram."""
    rows = [[shift * (i == j) - entry for j, entry in enumerate(row)] for i, row in enumerate(gram)]
    while rows:
        k = max(range(len(rows)), key=lambda i: rows[i][i])
        pivot = rows[k][k]
        if (
            pivot <= 0
        ):  # a diagonal without positive entries: all is 0, or some eigenvalue is negative
            return -1 if any(map(any, rows)) else 0
        others = [i for i in range(len(rows)) if i != k]
        rows = [[rows[i][j] - rows[i][k] / pivot * rows[k][j] for j in others] for i in others]
    return 1


def truth(
    found: Sequence[Region], functionals: Sequence[Any] | None, alpha: Norm, beta: Norm
) -> Truth:
    """The largest norm of a Jacobian, from alpha to beta, or of these functionals after it."""
    jacobians = {region.jacobian: region.jacobian_float for region in found}
    if functionals is not None:
        return _largest(
            (_row(vector, jacobian) for jacobian in jacobians for vector in functionals),
            dual(alpha),
        )
    if alpha == beta == "l2":
        sizes = {jacobian: np.linalg.norm(floats, 2) for jacobian, floats in jacobians.items()}
        most = max(sizes.values()) * (1 - 1e-9)  # those below are out of the question
        return Truth(
            grams=tuple(_gram(jacobian) for jacobian, size in sizes.items() if size >= most)
        )
    if alpha == "l2":
        corners = _corners(dual(beta), len(next(iter(jacobians))))
        return _largest((_row(c, jacobian) for jacobian in jacobians for c in corners), "l2")
    if beta == "l2":
        corners = _corners(alpha, len(next(iter(jacobians))[0]))
        return _largest(
            ([_dot(row, v) for row in jacobian] for jacobian in jacobians for v in corners), "l2"
        )
    return Truth(max(Fraction(operator_norm(jacobian, alpha, beta)) for jacobian in jacobians))


def _largest(vectors: Iterable[Sequence[Fraction]], norm: Norm) -> Truth:
    if norm == "l2":
        return Truth(max(_dot(vector, vector) for vector in vectors), squared=True)
    return Truth(max(Fraction(vector_norm(vector, norm)) for vector in vectors))


def _row(vector: Sequence[Any], jacobian: Matrix) -> list[Fraction]:
    return [_dot(column, vector) for column in zip(*jacobian, strict=True)]


def _gram(jacobian: Matrix) -> Matrix:
    """J J^T or J^T J, the smaller one."""
    rows = min(jacobian, tuple(zip(*jacobian, strict=True)), key=len)
    return tuple(tuple(_dot(one, other) for other in rows) for one in rows)


def _dot(one: Sequence[Any], other: Sequence[Any]) -> Fraction:
    pairs = zip(one, other, strict=True)
    return sum((a * (b if isinstance(b, int) else Fraction(b)) for a, b in pairs), Fraction(0))


# --- What is asked --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """A network, what is asked of it and how; and the same for the oracle."""

    number: int
    family: str
    case: Case
    domain: lx.Domain
    keywords: dict[str, Any]
    words: str
    alpha: Norm
    beta: Norm
    functionals: Sequence[Any] | None

    @property
    def way(self) -> str:
        """The method, and the solver if it has one."""
        return _way(self.keywords["method"], self.keywords.get("solver", ""))

    def truth(self) -> Truth:
        """By enumeration."""
        if isinstance(self.domain, lx.Reals):
            found = regions(self.case.weights, [-FAR] * self.domain.dim, [FAR] * self.domain.dim)
        else:
            found = regions(
                self.case.weights, self.domain.lower, self.domain.upper, halfspaces_of(self.domain)
            )
        return truth(found, self.functionals, self.alpha, self.beta)

    def __str__(self) -> str:
        sizes = [self.case.lower.size, *(len(bias) for _, bias in self.case.weights)]
        layers, mode = "-".join(map(str, sizes)), self.keywords["mode"]
        return f"{self.number}: {self.family} {layers}, {self.words}, {self.way}, {mode}"


def question(number: int) -> Question:
    """The one of that number, always the same."""
    rng = np.random.default_rng([SEED, number])
    generators = FAMILIES | EXTREME
    method, solver = _pick(rng, list(WAYS), np.array(list(WAYS.values())) / sum(WAYS.values()))
    family = _pick(rng, sorted(generators))
    # Programs take longer: for them the smallest of three.
    case = min((generators[family](rng) for _ in range(1 if method == "bab" else 3)), key=_binaries)
    inputs, outputs = case.lower.size, len(case.weights[-1][1])
    names = (
        ["linf", "l1", "l2"] if method == "bab" or solver in quadratic_solvers() else ["linf", "l1"]
    )
    where, domain = _domain(rng, case, 0.15 if method == "bab" else 0.05)
    measured, alpha, input_norm = _norm(rng, names, inputs)
    keywords: dict[str, Any] = {"input_norm": input_norm}
    beta, functionals = alpha, None
    if rng.random() < 0.5:
        words, beta, output_norm = _norm(rng, names, outputs)
        keywords["output_norm"] = output_norm
    else:
        words, functionals, keywords["functional"] = _functional(rng, outputs)
    keywords |= {"method": method, "mode": _pick(rng, ["auto", "auto", "forward", "reverse"])}
    if method != "bab":
        keywords |= {"solver": solver, "threads": 1}
    return Question(
        number,
        family,
        case,
        domain,
        keywords,
        f"{where}, {measured} to {words}",
        alpha,
        beta,
        functionals,
    )


def _way(method: str, solver: str) -> str:
    return method if method == "bab" else f"{method} {solver}"


def _pick(
    rng: np.random.Generator, choices: Sequence[Any], shares: np.ndarray | None = None
) -> Any:
    return choices[int(rng.choice(len(choices), p=shares))]


def _binaries(case: Case) -> int:
    """About how many a program has: its gates, and the norms of inputs and outputs."""
    return sum(len(bias) for _, bias in case.weights) + case.lower.size


def _domain(rng: np.random.Generator, case: Case, unbounded: float) -> tuple[str, lx.Domain]:
    """Mostly the family's own box; all of space in so many cases."""
    width, turn = case.upper - case.lower, rng.random()
    if turn < unbounded:
        return "all of space", lx.Reals(width.size)
    if turn < 0.4 and (width == width[0]).all():
        kind = _pick(rng, CUTS)
        return kind, cut_domain(kind, case.lower, case.upper, int(rng.integers(2**32)))
    if turn < 0.5:
        center = case.lower + width * rng.uniform(0.25, 0.75, width.size)
        return "part of the box", lx.Ball(center, width * 10.0 ** rng.uniform(-3, -0.5))
    return "box", lx.Box(case.lower, case.upper)


def _norm(
    rng: np.random.Generator, names: Sequence[str], size: int
) -> tuple[str, Norm, str | lx.PolyhedralNorm]:
    """In words, for the oracle, and for the package."""
    name = _pick(rng, [*names, *names, "polyhedral"])
    if name != "polyhedral":
        return name, name, name
    if rng.random() < 0.5:
        units, more = (
            rng.choice((0.5, 1.0, 3.0), size),
            rng.integers(-3, 4, (int(rng.integers(3)), size)) / 1.0,
        )
    else:
        units, more = rng.uniform(0.5, 2.0, size), rng.normal(size=(int(rng.integers(3)), size))
    rows = np.vstack([np.diag(units), more[more.any(axis=1)]])
    form = _pick(rng, ["halfspaces", "vertices"])
    both = {form: np.vstack([rows, -rows]) + 0.0}
    return f"{len(rows)} pairs of {form}", Polyhedral(**both), lx.PolyhedralNorm(**both)


def _functional(rng: np.random.Generator, outputs: int) -> tuple[str, Sequence[Any], Any]:
    """In words, all vectors that count, and for the package."""
    kind = _pick(
        rng, ["index", "vector", "matrix", "box", *(["cross", "targeted"] if outputs > 1 else [])]
    )
    whole = rng.random() < 0.5
    vectors = rng.integers(-3, 4, (3, outputs)) / 1.0 if whole else rng.normal(size=(3, outputs))
    vectors[~vectors.any(axis=1)] = 1.0
    match kind:
        case "index":
            index = int(rng.integers(outputs))
            return f"output {index}", [[int(i == index) for i in range(outputs)]], index
        case "vector":
            return "a functional", vectors[:1].tolist(), vectors[0]
        case "matrix":
            return "functionals", vectors.tolist(), vectors
        case "box":
            low, high = np.floor(vectors[0]), np.floor(vectors[0]) + rng.integers(1, 4, outputs)
            corners = itertools.product(*zip(low.tolist(), high.tolist(), strict=True))
            return "a box of functionals", [list(corner) for corner in corners], lx.Box(low, high)
        case "cross":
            return "differences", cross_functionals(outputs), lx.CrossLipschitz()
    label = int(rng.integers(outputs))
    return "differences to one", cross_functionals(outputs, label), lx.CrossLipschitz(label)


# --- What is answered -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What became of one network; `problems` says what is wrong."""

    number: int
    way: str
    family: str
    words: str
    status: str = ""
    termination: str = ""
    problems: tuple[str, ...] = ()
    certified: bool = False
    seconds: float = 0.0


def judge(result: lx.LipschitzResult, known: Truth) -> list[str]:
    """All that an answer gets wrong."""
    lower, upper, wrong = result.lower, result.upper, []
    if not 0 <= lower <= upper or math.isinf(lower):  # NaN included
        return [f"[{lower!r}, {upper!r}] is no interval of numbers"]
    allowed = CLAIMED if result.proof == "solver" else PROVEN
    if not known.at_least(Fraction(lower) / (1 + ATTAINED)):
        wrong.append(f"lower {lower!r} is above the constant {float(known)!r}")
    if not math.isinf(upper) and not known.at_most(Fraction(upper) / (1 - allowed)):
        wrong.append(
            f"upper {upper!r} is below the constant {float(known)!r}, proof {result.proof!r}"
        )
    if result.status is lx.Status.EXACT:
        value = Fraction(result.value)
        if not (known.at_least(value / (1 + CLOSE)) and known.at_most(value / (1 - CLOSE))):
            wrong.append(f"EXACT {result.value!r} is not the constant {float(known)!r}")
    return wrong


def judge_certificate(report: Any, known: Truth, slack: Fraction) -> list[str]:
    """All that the check of a certificate gets wrong: its claims hold without any tolerance but
    that of norms.
    """
    wrong = [] if report.ok is True else [f"the certificate is refused: {report}"]
    for side, holds, factor in (
        (report.lower, known.at_least, 1 - slack),
        (report.upper, known.at_most, 1 + slack),
    ):
        if (
            side.claim is not None
            and not math.isinf(side.claim)
            and not holds(Fraction(side.claim) * factor)
        ):
            what = "lower" if side is report.lower else "upper"
            wrong.append(
                f"the certificate's {what} claim {side.claim!r} misses the constant "
                f"{float(known)!r}"
            )
        if side.proven and side.claim is None:
            wrong.append("the certificate has a side that is proven, and claims nothing")
    return wrong


def answer(number: int) -> Verdict:
    """Ask the package and the oracle; whatever is raised is a failure."""
    asked: Question | None = None
    try:
        with _patience(PATIENCE * SECONDS), warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            asked = question(number)
            return _answer(asked)
    except Exception:  # noqa: BLE001 - whatever it is, it is a failure
        return _failure(number, asked, "raised", traceback.format_exc(limit=-4))


def _answer(asked: Question) -> Verdict:
    about = asked.number, asked.way, asked.family, str(asked)
    if not available(asked.keywords.get("solver", "highs")):
        return Verdict(*about, "solver missing")
    network, known = to_network(asked.case.weights), asked.truth()
    checks = hasattr(lx, "check")
    more = {"certificate": True} if checks else {}
    result = lx.lipschitz(network, asked.domain, time_limit=SECONDS, **asked.keywords, **more)
    problems, certified = judge(result, known), False
    if checks and result.certificate is not None:
        report = lx.check(network, result.certificate)
        slack = ROUNDED if not {type(asked.alpha), type(asked.beta)} <= {str} else Fraction(0)
        problems += judge_certificate(report, known, slack)
        certified = bool(report.upper.proven)
    status, termination = str(result.status), str(result.termination)
    return Verdict(*about, status, termination, tuple(problems), certified, result.seconds)


def _failure(number: int, asked: Question | None, status: str, problem: str) -> Verdict:
    if asked is None:
        return Verdict(number, "?", "?", str(number), status, problems=(problem,))
    return Verdict(number, asked.way, asked.family, str(asked), status, problems=(problem,))


class _patience:  # noqa: N801 - it is used like a function
    """Raise TimeoutError after some seconds, where the system can."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        if hasattr(signal, "SIGALRM"):
            self._before = signal.signal(signal.SIGALRM, self._ring)
            signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)

    def _ring(self, *_: object) -> None:
        raise TimeoutError(f"no answer after {self._seconds:g} s")


# --- All of them ----------------------------------------------------------------------------------


def answers(numbers: Sequence[int], jobs: int, deadline: float = math.inf) -> Iterator[Verdict]:
    """The verdicts as they come; none is begun past the deadline, a time of `time.perf_counter`."""
    if jobs == 1:
        for number in numbers:
            if time.perf_counter() > deadline:
                return
            yield answer(number)
        return
    chunks = deque(numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK))
    while chunks and time.perf_counter() < deadline:
        running: dict[Any, Sequence[int]] = {}
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            try:
                while chunks or running:
                    while chunks and len(running) < 2 * jobs and time.perf_counter() < deadline:
                        chunk = chunks.popleft()
                        running[pool.submit(_several, chunk)] = chunk
                    if not running:
                        return
                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        verdicts = done.result()
                        del running[done]
                        yield from verdicts
            except BrokenProcessPool:
                pass
        for number in itertools.chain(*running.values()):  # one of them kills the process
            yield _alone(number)


def _several(numbers: Sequence[int]) -> list[Verdict]:
    return [answer(number) for number in numbers]


def _alone(number: int) -> Verdict:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(answer, number).result()
        except BrokenProcessPool:
            return _failure(number, question(number), "died", "the process died")


@dataclass
class Tally:
    """The counts of one way, or of all."""

    networks: int = 0
    exact: int = 0
    bounded: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    wrong: int = 0
    certified: int = 0
    seconds: float = 0.0

    def add(self, verdict: Verdict) -> None:
        """Count one more."""
        self.networks += 1
        self.exact += verdict.status == "EXACT"
        if verdict.status == "BOUNDED":
            self.bounded[verdict.termination] += 1
        self.missing += verdict.status == "solver missing"
        self.wrong += bool(verdict.problems)
        self.certified += verdict.certified and verdict.status == "EXACT"
        self.seconds += verdict.seconds

    def row(self) -> list[str]:
        """For the table."""
        bounded = [f"{count} {why}" for why, count in self.bounded.most_common()]
        if self.missing:
            bounded.append(f"(not asked, as the solver is missing: {self.missing})")
        certified = self.certified if hasattr(lx, "check") else "-"
        return [
            *map(str, (self.networks, self.exact, ", ".join(bounded) or 0, self.wrong, certified)),
            f"{self.seconds:.1f}",
        ]


def table(verdicts: Sequence[Verdict], what: str, names: Sequence[str]) -> Table:
    """Counts for each of these names, each verdict's attribute `what`, and for all."""
    made = Table(title=f"{len(verdicts)} networks, by {what}", title_justify="left")
    for name in (what, "networks", "EXACT", "BOUNDED", "wrong", "certified", "seconds"):
        made.add_column(
            name,
            justify="left" if name in (what, "BOUNDED") else "right",
            no_wrap=name != "BOUNDED",
        )
    total = Tally()
    tallies = {name: Tally() for name in names}
    for verdict in verdicts:
        tallies.setdefault(getattr(verdict, what), Tally()).add(verdict)
        total.add(verdict)
    for name, tally in tallies.items():
        made.add_row(name, *tally.row())
    made.add_section()
    made.add_row("all", *total.row())
    return made


def tell(console: Console, verdicts: Sequence[Verdict], elapsed: float) -> None:
    """The tables, and what is wrong."""
    verdicts = sorted(verdicts, key=lambda verdict: verdict.number)
    ways = [_way(*each) for each in WAYS]
    console.print(table(verdicts, "way", ways))
    console.print(table(verdicts, "family", sorted(FAMILIES | EXTREME)))
    console.print(
        f"{elapsed:.0f} s, {len(verdicts) / max(elapsed, 1e-9):.1f} networks per second",
        highlight=False,
    )
    for verdict in verdicts:
        show_problems(console, verdict)


def show_problems(console: Console, verdict: Verdict) -> None:
    """What is wrong with one, if anything is, and how to see it again."""
    if not verdict.problems:
        return
    lines = [f"WRONG {verdict.words}", *(f"  {problem}" for problem in verdict.problems)]
    lines.append(f"  python -m tests.support.soak --first {verdict.number} --networks 1")
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def watched(verdicts: Iterable[Verdict], console: Console, count: int) -> Iterator[Verdict]:
    """The same, with a bar, or a line now and then; what is wrong is shown at once."""
    start = time.perf_counter()
    due, done, wrong = start + PULSE, 0, 0
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("none wrong", total=count)
        for verdict in verdicts:
            done, wrong = done + 1, wrong + bool(verdict.problems)
            show_problems(console, verdict)
            bar.update(task, advance=1, description=f"{wrong or 'none'} wrong")
            if not console.is_terminal and time.perf_counter() > due:
                rate = done / (time.perf_counter() - start)
                console.print(
                    f"{done} of {count}, {rate:.1f} per second, {wrong or 'none'} wrong",
                    highlight=False,
                )
                due = time.perf_counter() + PULSE
            yield verdict


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first network")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="begin no network after so many"
    )
    parser.add_argument(
        "--report", type=Path, help="a file for what is printed at the end, and all intervals"
    )
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    numbers = range(options.first, options.first + options.networks)
    jobs = max(min(options.jobs, -(-len(numbers) // CHUNK)), 1)
    found = list(watched(answers(numbers, jobs, start + options.seconds), console, len(numbers)))
    elapsed = time.perf_counter() - start
    tell(console, found, elapsed)
    if options.report:
        with options.report.open("w", encoding="utf-8") as file:
            report = Console(file=file, width=WIDTH)
            tell(report, found, elapsed)
            for verdict in sorted(found, key=lambda one: one.number):
                if verdict.status == "BOUNDED":
                    report.print(
                        f"{verdict.termination}: {verdict.words}", highlight=False, soft_wrap=True
                    )
    return int(any(verdict.problems for verdict in found))


if __name__ == "__main__":
    from tests.support.soak import (
        main as run,
    )  # what other processes are sent must not be of this module as __main__

    sys.exit(run())
