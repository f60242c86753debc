"""The worker's side: what a worker is sent, and how it does a task."""

from __future__ import annotations

import ctypes
import os
import pickle
import platform
import signal
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from threadpoolctl import threadpool_limits

from lipexact.errors import WorkerError
from lipexact.version import __version__
from lipexact.workers import constants

# Kinds of a worker's reply: the task's value, its error, that the worker has not got the context,
# and that it runs another version of lipexact.
DONE = "done"
FAILED = "failed"
MISSING = "missing"
UNFIT = "unfit"

# Parameters of mallopt, and the sizes that glibc is told to keep, in bytes.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_FREE_BYTES = 2**26
_KEPT_BLOCK_BYTES = 2**25

_contexts: OrderedDict[str, Any] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class TaskHeader:
    """The header that is sent with every task.

    Attributes
    ----------
    name
        The name of the context that the tasks share.
    number
        The number of this sending: executors may merge tasks with equal arguments.
    version
        The caller's version of lipexact: pickles are read by the same version only.
    process
        The caller's machine and process.
    cores
        The number of threads that products of matrices may use.
    """

    name: str
    number: int
    version: str
    process: tuple[str, int]
    cores: int


def perform(header: TaskHeader, context: bytes | None, task: bytes) -> tuple[str, bytes, float]:
    """Do a task, and return the kind of reply, the pickled value or error, and the seconds.

    Parameters
    ----------
    header
        The caller, and the name of the context.
    context
        What the tasks share, pickled; None if this worker is expected to have it.
    task
        A pickled pair: a function, and its arguments after the first one, which is the context.
    """
    if header.version != __version__:
        reason = f"a worker has lipexact {__version__}, and the caller {header.version}"
        return UNFIT, pickle.dumps(reason), 0.0
    start = time.perf_counter()
    with _lock:
        if header.name not in _contexts:
            if context is None:
                return MISSING, b"", 0.0
            # The pickle comes from the caller, as all that an executor runs.
            _contexts[header.name] = pickle.loads(context)
            # In the caller's own process, threads and memory are the caller's to limit.
            if header.process != process_name():
                threadpool_limits(header.cores, user_api="blas")
                _keep_memory()
        _contexts.move_to_end(header.name)
        shared = _contexts[header.name]
        while len(_contexts) > constants.MAX_CONTEXTS:
            _contexts.popitem(last=False)
    try:
        function, arguments = pickle.loads(task)
        reply = DONE, pickle.dumps(function(shared, *arguments))
    except Exception as error:  # noqa: BLE001 - whatever it is belongs to the task
        reply = FAILED, _pickled_error(error)
    return *reply, time.perf_counter() - start


def process_name() -> tuple[str, int]:
    """Return what identifies this process: its machine and its id."""
    return platform.node(), os.getpid()


def start_process(caller: int) -> None:
    """Prepare a local process: it ignores ctrl-C, which the caller handles, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(caller,), daemon=True).start()


def _end_with(caller: int) -> None:
    """End this process when its caller has ended: a caller that is killed cannot say so."""
    while os.getppid() == caller:
        time.sleep(constants.CALLER_CHECK_SECONDS)
    os._exit(1)


def _keep_memory() -> None:
    """Have glibc keep freed memory, where Dask has told it not to.

    Dask does so by an environment variable that processes inherit. Branch and bound allocates
    arrays of the same sizes again and again: fresh pages took as long as all the rest.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        with suppress(OSError, AttributeError):  # another C library
            adjust = ctypes.CDLL(None).mallopt
            adjust(_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)
            adjust(_M_MMAP_THRESHOLD, _KEPT_BLOCK_BYTES)


def _pickled_error(error: Exception) -> bytes:
    """Pickle an error, or a WorkerError with its text if it cannot be pickled and read again."""
    with suppress(Exception):
        pickled = pickle.dumps(error)
        pickle.loads(pickled)  # errors that take several arguments may fail here
        return pickled
    return pickle.dumps(WorkerError(f"{type(error).__name__}: {error}"))
