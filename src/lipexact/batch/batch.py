"""One question on many domains, by many workers."""

from __future__ import annotations

import math
import os
import pickle
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from loky import cpu_count

from lipexact.api import load
from lipexact.batch.journal import Journal
from lipexact.errors import CheckpointError, DomainError, OptionError, WorkerError
from lipexact.network import Network
from lipexact.problem.problem import check_domain
from lipexact.result import LipschitzResult, Status
from lipexact.sets.domains import Domain
from lipexact.sets.functionals import Functional
from lipexact.sets.norms import Norm
from lipexact.solve import (
    Method,
    Mode,
    SolveRequest,
    check_executor,
    import_programs,
    positive_integer,
    solve_request,
)
from lipexact.state import Termination
from lipexact.workers import WorkerPool

_HEARTBEAT = 0.5  # seconds between two reports
_SECONDS_BETWEEN_LINES = 5.0
_AHEAD = 64  # domains, and four for each worker, that may be under way while an earlier one is waited for


@dataclass(frozen=True, eq=False)
class BatchResult:
    """What became of one domain of a batch.

    Attributes
    ----------
    index
        Its place in the domains, from 0.
    domain
        The domain.
    result
        As from :func:`lipexact.lipschitz`; None where that failed.
    error
        Why it failed, else None.
    resumed
        Whether the result was in the checkpoint already.
    """

    index: int
    domain: Domain | None
    result: LipschitzResult | None
    error: Exception | None = None
    resumed: bool = False

    def __repr__(self) -> str:
        return f"BatchResult({self.index}, {self.result if self.error is None else self.error!r})"

    def to_dict(self) -> dict[str, Any]:
        """Strings, numbers, lists and dictionaries: `index`, and either `result` or `error`."""
        if self.result is not None:
            return {"index": self.index, "result": self.result.to_dict()}
        return {
            "index": self.index,
            "error": {"type": type(self.error).__name__, "message": str(self.error)},
        }


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is.

    Attributes
    ----------
    done
        Domains with a result or an error.
    closed, failed, resumed
        Those of them whose constant is known, that failed, and that were in the checkpoint already.
    total
        All domains; None where that is not known.
    seconds
        Wall-clock time so far.
    remaining
        An estimate of the seconds that are left, by those that domains took so far; None where there is none.
    """

    done: int
    closed: int
    failed: int
    resumed: int
    total: int | None
    seconds: float
    remaining: float | None

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total}"
        parts = [f"{self.done}{of} done", f"{self.closed} exact"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.resumed} from the checkpoint"] if self.resumed else []
        left = "" if not self.remaining else f", about {_duration(self.remaining)} left"
        return f"{', '.join(parts)}; {_duration(self.seconds)}{left}"


BatchCallback: TypeAlias = Callable[[BatchProgress], bool | None]


def lipschitz_many(
    model: str | os.PathLike[str] | Network | Any,
    domains: Iterable[Domain | DomainError],
    *,
    executor: Executor | None = None,
    jobs: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    ordered: bool = False,
    progress: bool | BatchCallback = False,
    input_norm: str | Norm = "linf",
    output_norm: str | Norm | None = None,
    functional: Functional = None,
    method: Method = "auto",
    solver: str = "highs",
    mode: Mode = "auto",
    time_limit: float | None = None,
    gap: float = 0.0,
    target: float | None = None,
    threads: int | None = None,
    solver_options: Mapping[str, Any] | None = None,
    certificate: str | os.PathLike[str] | bool | None = None,
) -> Iterator[BatchResult]:
    """The Lipschitz constants of one network on many domains.

    What is wrong with the question is told at once; after that domains are answered as the results are asked for, a few
    ahead. What goes wrong with a single domain is that domain's result.

    Parameters
    ----------
    model
        As for :func:`lipschitz`. It is read once, and sent to each worker once.
    domains
        Domains, of any number: they are taken as workers get free. A :class:`DomainError` in the place of one that
        could not be made becomes its result.
    executor
        Whose workers answer: anything with the interface of :class:`concurrent.futures.Executor`, such as Dask's
        ``client.get_executor()``, ``mpi4py.futures.MPIPoolExecutor`` or loky's pools; it stays open. None for processes
        of one's own, which are new interpreters and need no guard in the caller's script.
    jobs
        How many workers: processes, by default one for each core; or those of the executor, None to ask it.
    checkpoint
        A JSON Lines file that results are written to as they come. If it is there, what it holds is not computed again,
        but for failures.
    ordered
        Whether results come in the order of the domains, rather than as they are done.
    progress
        True prints a line now and then to stderr; a function is called with a :class:`BatchProgress`, and ends the
        batch by returning True.
    input_norm, output_norm, functional, method, solver, mode, gap, target, solver_options
        As for :func:`lipschitz`.
    time_limit
        Seconds of wall-clock time for each domain.
    threads
        As for :func:`lipschitz`, for each domain; None for one process with "bab", and for the worker's share of the
        cores with a solver.
    certificate
        A folder, in which each result's certificate becomes the file ``000123.lxc``, by the index of its domain; or
        True: it comes with the result, but not from a checkpoint.

    Yields
    ------
    BatchResult
        One for each domain.

    Raises
    ------
    ModelError, UnsupportedOperatorError, NormError, OptionError, SolverUnavailableError
        As for :func:`lipschitz`, before the first result.
    CheckpointError
        If the checkpoint is of another network, question or domains, is damaged, or is in use; or, after the last
        result, if some could not be written.
    WorkerError
        If the executor does no more tasks. What is in the checkpoint stays there.

    Notes
    -----
    A process that dies costs only its own domain, which is asked about again, by another one; after three deaths its
    result is an error. An executor of one machine that breaks as a whole, as pools of the standard library do, is
    replaced by processes of one's own.

    Examples
    --------
    >>> from lipexact import Ball, Network, lipschitz_many
    >>> network = Network.from_layers([([[1.0], [-1.0]], [0, -1]), ([[1.0, 2.0]], [0])])
    >>> balls = [Ball([center], 0.5) for center in (-2.0, 0.0, 2.0)]
    >>> for each in lipschitz_many(network, balls, jobs=1, ordered=True):
    ...     print(each.index, each.result.value)
    0 2.0
    1 1.0
    2 1.0
    """
    import_programs(method, solver, mode, solver_options)
    question = solve_request(
        load(model),
        input_norm=input_norm,
        output_norm=output_norm,
        functional=functional,
        method=method,
        solver=solver,
        mode=mode,
        time_limit=time_limit,
        gap=gap,
        target=target,
        threads=threads,
        solver_options=solver_options,
        certified=bool(certificate),
    )
    if isinstance(domains, Domain | str | bytes) or not isinstance(domains, Iterable):
        raise OptionError(
            f"domains must be several of them, as a list or a generator, not {type(domains).__name__}"
        )
    if not (isinstance(progress, bool) or callable(progress)):
        raise OptionError(f"progress must be True, False or a function, not {progress!r}")
    if not isinstance(ordered, bool):
        raise OptionError(f"ordered must be True or False, not {ordered!r}")
    if checkpoint is not None and not isinstance(checkpoint, str | os.PathLike):
        raise OptionError(f"checkpoint must be a path or None, not {checkpoint!r}")
    check_executor(executor)
    folder, workers = _folder(certificate), positive_integer(jobs, "jobs")
    book = None if checkpoint is None else Journal(checkpoint, question)
    return _Batch(
        question, domains, executor, workers, book, folder, ordered, _reporter(progress)
    ).run()


def _folder(certificate: str | os.PathLike[str] | bool | None) -> Path | None:
    if certificate is None or isinstance(certificate, bool):
        return None
    if not isinstance(certificate, str | os.PathLike):
        raise OptionError(f"certificate must be a folder, True or None, not {certificate!r}")
    if not Path(certificate).is_dir():
        raise OptionError(f"certificate: there is no folder '{certificate}'")
    return Path(certificate)


class _Batch:
    """A batch while it is running."""

    def __init__(
        self,
        question: SolveRequest,
        domains: Iterable[Domain | DomainError],
        executor: Executor | None,
        jobs: int | None,
        book: Journal | None,
        folder: Path | None,
        ordered: bool,
        report: BatchCallback | None,
    ) -> None:
        self.question, self.executor, self.book, self.folder, self.ordered = (
            question,
            executor,
            book,
            folder,
            ordered,
        )
        self.report = report
        cores = cpu_count()
        self.jobs = cores if jobs is None and executor is None else jobs
        self.cores = max(cores // self.jobs, 1) if executor is None and self.jobs is not None else 1
        self.total = len(domains) if isinstance(domains, Sized) else None
        self.domains: Iterator[tuple[int, Domain | DomainError]] | None = enumerate(domains)
        self.crew: WorkerPool | None = None
        self.waiting: dict[int, Domain] = {}  # for workers
        self.ready: dict[int, BatchResult] = {}  # to be yielded
        self.turn = 0  # the index that is yielded next, in order
        self.start = self.heard = time.perf_counter()
        self.counts = dict.fromkeys(("done", "closed", "failed", "resumed"), 0)
        self.warned = False

    def run(self) -> Iterator[BatchResult]:
        """All results; what is still under way when the caller has had enough is given up."""
        with ExitStack() as stack:
            if self.book is not None:
                stack.push(self._close)
            stopped = False
            while True:
                if not stopped:
                    self._fill(stack)
                while (index := self._next()) is not None:
                    self.turn += 1
                    yield self.ready.pop(index)
                    if not stopped:
                        self._fill(stack)
                if stopped or not (self.waiting or self.ready):
                    break
                self._collect()
                stopped = self._stopped()
            self._stopped(last=True)

    def _next(self) -> int | None:
        """The index that can be yielded now."""
        if self.ordered:
            return self.turn if self.turn in self.ready else None
        return next(iter(self.ready), None)

    @property
    def _room(self) -> bool:
        under_way = len(self.waiting) + len(self.ready)
        if self.crew is None:
            return under_way < _AHEAD
        return self.crew.room > 0 and under_way < _AHEAD + 4 * self.crew.workers

    def _fill(self, stack: ExitStack) -> None:
        """Have as many domains under way as workers can do."""
        while self.domains is not None and self._room:
            item = next(self.domains, None)
            if item is None:
                self.domains, self.total = None, self.counts["done"] + len(self.waiting)
                return
            index, domain = item
            if isinstance(domain, DomainError):
                self._take(BatchResult(index, None, None, domain))
                continue
            try:
                check_domain(self.question.network, domain, bounded=False)
                known = None if self.book is None else self.book.known(index, domain)
            except DomainError as error:
                self._take(BatchResult(index, domain, None, error))
                continue
            if known is not None:
                self._take(BatchResult(index, domain, known, resumed=True))
                continue
            if self.crew is None:
                few = (
                    self.jobs
                    if self.total is None or self.jobs is None
                    else min(self.jobs, self.total)
                )
                crew = WorkerPool(pickle.dumps(self.question), self.executor, few, self.cores)
                self.crew = stack.enter_context(crew)
            self.waiting[index] = domain
            self.crew.submit(index, _answered, domain, self.cores)

    def _collect(self) -> None:
        if self.crew is not None:
            for told in self.crew.wait(_HEARTBEAT):
                domain, error = self.waiting.pop(told.task_id), told.error
                self._take(
                    BatchResult(told.task_id, domain, told.value if error is None else None, error)
                )

    def _take(self, one: BatchResult) -> None:
        """Keep a result, on disk before anybody sees it."""
        if not one.resumed:
            self._write(one)
        self.ready[one.index] = one
        exact = one.result is not None and one.result.status is Status.EXACT
        for name, counts in (
            ("closed", exact),
            ("failed", one.error is not None),
            ("resumed", one.resumed),
        ):
            self.counts[name] += counts
        self.counts["done"] += 1

    def _write(self, one: BatchResult) -> None:
        made = None if one.result is None else one.result.certificate
        if self.folder is not None and made is not None:
            name = self.folder / f"{one.index:06d}.lxc"
            try:
                made.save(name)
            except OSError as error:
                self._warn(f"{name} was not written: {error}; the result has it still")
        if self.book is not None:
            try:
                self.book.add(one.index, one.domain, one.result, one.error)
            except CheckpointError as error:
                self._warn(f"{error}; the batch goes on, and tries again")

    def _warn(self, text: str) -> None:
        if not self.warned:
            self.warned = True
            warnings.warn(text, RuntimeWarning, stacklevel=6)

    def _close(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self.book is not None
        left = self.book.unwritten
        try:
            self.book.close()
        except CheckpointError as failure:
            if kind is None:
                raise CheckpointError(
                    f"{left} results are missing in the checkpoint: {failure}"
                ) from None

    def _stopped(self, last: bool = False) -> bool:
        """Whether the callback, which is called now and then, wants the batch to end."""
        now = time.perf_counter()
        if self.report is None or not (last or now - self.heard > _HEARTBEAT):
            return False
        self.heard = now
        seconds, new = now - self.start, self.counts["done"] - self.counts["resumed"]
        left = None if self.total is None else self.total - self.counts["done"]
        remaining = None if left is None or (left and not new) else seconds * left / max(new, 1)
        return bool(
            self.report(
                BatchProgress(**self.counts, total=self.total, seconds=seconds, remaining=remaining)
            )
        )


def _answered(question: SolveRequest, domain: Domain, cores: int) -> LipschitzResult:
    """In a worker."""
    result = question.solve(domain, cores=cores)
    if result.termination == Termination.INTERRUPTED.value:
        raise WorkerError("the worker was interrupted: ask again")
    return result


def _reporter(progress: bool | BatchCallback) -> BatchCallback | None:
    if not isinstance(progress, bool):
        return progress
    return _Printer() if progress else None


class _Printer:
    """A line on stderr now and then, and one in the end."""

    def __init__(self) -> None:
        self.next, self.done = 0.0, -1

    def __call__(self, moment: BatchProgress) -> None:
        last = moment.remaining == 0 and moment.done > self.done
        if moment.seconds >= self.next or last:
            print(moment, file=sys.stderr, flush=True)
            self.next, self.done = (
                (math.inf if last else moment.seconds + _SECONDS_BETWEEN_LINES),
                moment.done,
            )


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
