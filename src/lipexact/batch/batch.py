"""One request on many domains, by workers, with a journal on disk."""

from __future__ import annotations

import os
import pickle
import time
import warnings
from collections.abc import Iterable, Iterator, Sized
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from loky import cpu_count
from typing_extensions import Unpack

from lipexact.batch.journal import Journal
from lipexact.batch.results import BatchCallback, BatchProgress, BatchResult
from lipexact.errors import CheckpointError, DomainError, OptionError, WorkerError
from lipexact.loading import load
from lipexact.network import Network
from lipexact.options import OptionKeywords, check_count, takes_options
from lipexact.problem.problem import check_domain
from lipexact.progress import displayed, make_callback
from lipexact.result import LipschitzResult, Status, Termination
from lipexact.sets.domain import Domain
from lipexact.sets.functionals import Functional
from lipexact.sets.norms import Norm
from lipexact.solve import SolveRequest, check_executor, make_request, prepare_options, solve
from lipexact.workers import WorkerPool

REPORT_SECONDS = 0.5  # between two reports
# Domains, and four for each worker, that may be under way while an earlier one is waited for.
MAX_AHEAD = 64
_THREADS = """
As for :func:`lipschitz`, for each domain; None for one process with "bab", and for the worker's
share of the cores with a solver.
"""


@takes_options(
    instead={
        "time_limit": "Seconds of wall-clock time for each domain; None for no limit.",
        "threads": _THREADS,
    }
)
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
    certificate: str | os.PathLike[str] | bool | None = None,
    **options: Unpack[OptionKeywords],
) -> Iterator[BatchResult]:
    """Compute the Lipschitz constants of one network on many domains.

    What is wrong with the question is told at once; after that domains are answered as the results
    are asked for, a few ahead. What goes wrong with a single domain is that domain's result.

    Parameters
    ----------
    model
        As for :func:`lipschitz`. It is read once, and sent to each worker once.
    domains
        Domains, of any number: they are taken as workers get free. A :class:`DomainError` in the
        place of one that could not be made becomes its result.
    executor
        Whose workers answer: anything with the interface of :class:`concurrent.futures.Executor`,
        such as Dask's ``client.get_executor()``, ``mpi4py.futures.MPIPoolExecutor`` or loky's
        pools; it stays open. None for processes of one's own, which are new interpreters and need
        no guard in the caller's script.
    jobs
        How many workers: processes, by default one for each core; or those of the executor, None to
        ask it.
    checkpoint
        A JSON Lines file that results are written to as they come. If it is there, what it holds is
        not computed again, but for failures.
    ordered
        Whether results come in the order of the domains, rather than as they are done.
    progress
        True shows on stderr how far the batch is: in a terminal by a bar, elsewhere by a line every
        five seconds. A function is called with a :class:`BatchProgress`, and ends the batch by
        returning True.
    input_norm, output_norm, functional
        As for :func:`lipschitz`.
    certificate
        A folder, in which each result's certificate becomes the file ``000123.lxc``, by the index
        of its domain; or True: it comes with the result, but not from a checkpoint.
    **options
        See :class:`lipexact.options.Options`.

    Yields
    ------
    BatchResult
        One for each domain.

    Raises
    ------
    ModelError, UnsupportedOperatorError, NormError, OptionError, SolverUnavailableError
        As for :func:`lipschitz`, before the first result.
    CheckpointError
        If the checkpoint is of another network, question or domains, is damaged, or is in use; or,
        after the last result, if some could not be written.
    WorkerError
        If the executor does no more tasks. What is in the checkpoint stays there.

    Notes
    -----
    A process that dies costs only its own domain, which is asked about again, by another one; after
    three deaths its result is an error. An executor of one machine that breaks as a whole, as pools
    of the standard library do, is replaced by processes of one's own.

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
    request = make_request(
        load(model),
        prepare_options(**options),
        input_norm=input_norm,
        output_norm=output_norm,
        functional=functional,
        certified=bool(certificate),
    )
    if isinstance(domains, Domain | str | bytes) or not isinstance(domains, Iterable):
        kind = type(domains).__name__
        raise OptionError(f"domains must be several, as a list or a generator, not {kind}")
    if not isinstance(ordered, bool):
        raise OptionError(f"ordered must be True or False, not {ordered!r}")
    if checkpoint is not None and not isinstance(checkpoint, str | os.PathLike):
        raise OptionError(f"checkpoint must be a path or None, not {checkpoint!r}")
    check_executor(executor)
    batch = _Batch(
        request,
        domains,
        executor=executor,
        jobs=check_count("jobs", jobs),
        folder=_folder(certificate),
        ordered=ordered,
        report=make_callback(progress, bar=True),
        journal=None if checkpoint is None else Journal(checkpoint, request),
    )
    return batch.run()


def _folder(certificate: str | os.PathLike[str] | bool | None) -> Path | None:
    """Return the folder for certificates.

    Raises
    ------
    OptionError
    """
    if certificate is None or isinstance(certificate, bool):
        return None
    if not isinstance(certificate, str | os.PathLike):
        raise OptionError(f"certificate must be a folder, True or None, not {certificate!r}")
    if not Path(certificate).is_dir():
        raise OptionError(f"certificate: there is no folder '{certificate}'")
    return Path(certificate)


class _Batch:
    """A running batch: domains that wait for workers, and results that wait to be yielded."""

    def __init__(
        self,
        request: SolveRequest,
        domains: Iterable[Domain | DomainError],
        *,
        executor: Executor | None,
        jobs: int | None,
        journal: Journal | None,
        folder: Path | None,
        ordered: bool,
        report: BatchCallback | None,
    ) -> None:
        self.request = request
        self.executor = executor
        self.journal = journal
        self.folder = folder
        self.ordered = ordered
        self.report = report
        cores = cpu_count()
        self.jobs = cores if jobs is None and executor is None else jobs
        self.cores = max(cores // self.jobs, 1) if executor is None and self.jobs is not None else 1
        self.total = len(domains) if isinstance(domains, Sized) else None
        self.domains: Iterator[tuple[int, Domain | DomainError]] | None = enumerate(domains)
        self.pool: WorkerPool | None = None
        self.waiting: dict[int, Domain] = {}  # for workers
        self.ready: dict[int, BatchResult] = {}  # to be yielded
        self.turn = 0  # the index that is yielded next, in order
        self.start = self.heard = time.perf_counter()
        self.counts = dict.fromkeys(("done", "closed", "failed", "resumed"), 0)
        self.warned = False

    def run(self) -> Iterator[BatchResult]:
        """Yield all results; give up what is under way when the caller has had enough."""
        with ExitStack() as stack:
            if self.journal is not None:
                stack.push(self._close)
            stack.enter_context(displayed(self.report))
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
        """Return the index of a result that can be yielded now; None if there is none."""
        if self.ordered:
            return self.turn if self.turn in self.ready else None
        return next(iter(self.ready), None)

    @property
    def _room(self) -> bool:
        under_way = len(self.waiting) + len(self.ready)
        if self.pool is None:
            return under_way < MAX_AHEAD
        return self.pool.room > 0 and under_way < MAX_AHEAD + 4 * self.pool.workers

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
                check_domain(self.request.network, domain, bounded=False)
                known = None if self.journal is None else self.journal.known(index, domain)
            except DomainError as error:
                self._take(BatchResult(index, domain, None, error))
                continue
            if known is not None:
                self._take(BatchResult(index, domain, known, resumed=True))
                continue
            if self.pool is None:
                few = (
                    self.jobs
                    if self.total is None or self.jobs is None
                    else min(self.jobs, self.total)
                )
                pool = WorkerPool(pickle.dumps(self.request), self.executor, few, self.cores)
                self.pool = stack.enter_context(pool)
            self.waiting[index] = domain
            self.pool.submit(index, _solve_in_worker, domain, self.cores)

    def _collect(self) -> None:
        if self.pool is not None:
            for told in self.pool.wait(REPORT_SECONDS):
                domain = self.waiting.pop(told.task_id)
                error = told.error
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
        if self.journal is not None:
            try:
                self.journal.add(one.index, one.domain, one.result, one.error)
            except CheckpointError as error:
                self._warn(f"{error}; the batch goes on, and tries again")

    def _warn(self, text: str) -> None:
        if not self.warned:
            self.warned = True
            warnings.warn(text, RuntimeWarning, stacklevel=6)

    def _close(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self.journal is not None
        left = self.journal.unwritten
        try:
            self.journal.close()
        except CheckpointError as failure:
            if kind is None:
                raise CheckpointError(
                    f"{left} results are missing in the checkpoint: {failure}"
                ) from None

    def _stopped(self, last: bool = False) -> bool:
        """Whether the callback, which is called now and then, wants the batch to end."""
        now = time.perf_counter()
        if self.report is None or not (last or now - self.heard > REPORT_SECONDS):
            return False
        self.heard = now
        seconds = now - self.start
        new = self.counts["done"] - self.counts["resumed"]
        left = None if self.total is None else self.total - self.counts["done"]
        remaining = None if left is None or (left and not new) else seconds * left / max(new, 1)
        return bool(
            self.report(
                BatchProgress(**self.counts, total=self.total, seconds=seconds, remaining=remaining)
            )
        )


def _solve_in_worker(request: SolveRequest, domain: Domain, cores: int) -> LipschitzResult:
    """Solve one domain in a worker."""
    result = solve(request, domain, cores=cores)
    if result.termination is Termination.INTERRUPTED:
        raise WorkerError("the worker was interrupted: ask again")
    return result
