"""The journal of a batch: its results on disk, one line of JSON each.

Others may read the file while the batch is running, and a later run goes on with it. The first line
says of which network and question the others are; each of those is one domain's result, or what
went wrong. A line is written whole or not at all: what a process that was killed, or a full disk,
has left of one, is cut off.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from lipexact.certificates.certificate import fingerprint
from lipexact.errors import CheckpointError
from lipexact.result import LipschitzResult
from lipexact.serialise import to_plain
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Reals
from lipexact.sets.unit_balls import SymmetricSet
from lipexact.solve import SolveRequest
from lipexact.version import __version__

FORMAT, VERSION = "lipexact batch", 1
_BINARY = getattr(os, "O_BINARY", 0)  # of Windows
SYNC_SECONDS = 1.0  # between two times that lines are brought down to the disk


class Journal:
    """The file of a batch, which nobody else may write to at the same time.

    Lines of failures are left out when a file is opened again: those domains are asked about anew.

    Parameters
    ----------
    path
        Where it is, or is to be.
    request
        What is asked on all domains: the file's must be the same, but for how it is answered.

    Raises
    ------
    CheckpointError
        If there is a file of another network or question, or that is damaged but for its last line,
        or in use, or no file can be there.
    """

    def __init__(self, path: str | os.PathLike[str], request: SolveRequest) -> None:
        self.path = Path(path)
        self._request = request
        self._asked = _asked(request)
        self._known: dict[
            int, tuple[int, str]
        ] = {}  # by index: where its line begins, and its domain
        self._left: list[bytes] = []  # lines that could not be written yet
        self._synced = time.monotonic()
        try:
            self._use(os.open(self.path, os.O_RDWR | os.O_CREAT | _BINARY, 0o666))
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint '{self.path}' cannot be opened: {error.strerror}"
            ) from None
        try:
            self._lock()
            self._end = self._begin()
        except BaseException:
            self._release()
            raise

    @property
    def results(self) -> int:
        """How many are in the file."""
        return len(self._known)

    @property
    def unwritten(self) -> int:
        """How many results wait for room on the disk."""
        return len(self._left)

    def known(self, index: int, domain: Domain) -> LipschitzResult | None:
        """Return the result of a domain, if it is in the file.

        Raises
        ------
        CheckpointError
            If it is there, but of another domain.
        """
        if index not in self._known:
            return None
        start, digest = self._known[index]
        if digest != digest_of(domain):
            raise CheckpointError(
                f"domain {index} is another one than in '{self.path}': go on with the same domains "
                "in the same order, or choose another file"
            )
        try:
            result = LipschitzResult.from_dict(self._line(start)["result"])
        except (KeyError, TypeError, ValueError):
            raise self._damaged(start) from None
        return replace(result, question=self._request.question(domain))

    def add(
        self,
        index: int,
        domain: Domain | None,
        result: LipschitzResult | None,
        error: Exception | None,
    ) -> None:
        """Write a line, and those that could not be written before.

        Raises
        ------
        CheckpointError
            If that fails. The lines are kept, and written with the next one, or by `close`.
        """
        line: dict[str, Any] = {
            "index": index,
            "domain": None if domain is None else digest_of(domain),
        }
        if result is not None:
            line["result"] = result.to_dict()
            del line["result"]["question"]  # it stands in the first line, but for the domain
        else:
            line["error"] = {"type": type(error).__name__, "message": str(error)}
        self._left.append(_encoded(line))
        self._flush()

    def close(self) -> None:
        """Write what is left, and let others have the file.

        Raises
        ------
        CheckpointError
            If there is no room for it still.
        """
        try:
            self._flush()
            with suppress(OSError):
                os.fsync(self._file)
        finally:
            self._unlock()
            self._release()

    def _unlock(self) -> None:
        """Release the lock, also for processes that were forked meanwhile and share it."""
        with suppress(ImportError, OSError):
            import fcntl  # noqa: PLC0415 - POSIX has it

            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _use(self, file: int) -> None:
        self._file, self._release = file, weakref.finalize(self, os.close, file)

    def _lock(self) -> None:
        try:
            import fcntl  # noqa: PLC0415 - POSIX has it
        except ImportError:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise CheckpointError(f"another run is writing to '{self.path}'") from None
            # Some network file systems have no locks.

    def _begin(self) -> int:
        """Read and check the file, cut off an unfinished line, and return where it ends then."""
        end = 0
        failures = False
        first = True
        for start, raw in _lines(self._file):
            end = start + len(raw)
            if first:
                self._check(raw)
                first = False
                continue
            line = self._parsed(start, raw)
            if not (isinstance(line.get("index"), int) and ("result" in line) != ("error" in line)):
                raise self._damaged(start)
            if "error" in line:
                failures = True
            elif line["index"] in self._known:
                raise CheckpointError(f"'{self.path}' has two results of domain {line['index']}")
            else:
                self._known[line["index"]] = start, str(line["domain"])
        if first and os.fstat(self._file).st_size and not self._unfinished():
            raise CheckpointError(
                f"'{self.path}' is no checkpoint of lipexact: choose another file"
            )
        os.ftruncate(self._file, end)
        if first:
            head = {"format": FORMAT, "version": VERSION, "lipexact": __version__, **self._asked}
            return self._written(0, _encoded(head))
        return self._without_failures() if failures else end

    def _unfinished(self) -> bool:
        """Return whether the file holds the beginning of a first line, and nothing else."""
        begins = _encoded({"format": FORMAT})[:-2]
        os.lseek(self._file, 0, os.SEEK_SET)
        found = os.read(self._file, len(begins))
        return begins.startswith(found)

    def _check(self, raw: bytes) -> None:
        line = _decoded(raw)
        if line is None or line.get("format") != FORMAT:
            raise CheckpointError(
                f"'{self.path}' is no checkpoint of lipexact: choose another file"
            )
        if line.get("version") != VERSION:
            raise CheckpointError(
                f"'{self.path}' is of version {line.get('version')!r}; this one reads {VERSION}"
            )
        for key, what in (("model", "network"), ("question", "question")):
            if line.get(key) != self._asked[key]:
                told = (
                    "" if key == "model" else f" ({_difference(line.get(key), self._asked[key])})"
                )
                raise CheckpointError(
                    f"'{self.path}' has the results of another {what}{told}: "
                    "choose another file, or remove this one"
                )

    def _without_failures(self) -> int:
        """Leave out the lines of failures, and return where the file ends then."""
        target, old, known, end = (
            Path(os.path.realpath(self.path)),
            self._release,
            dict[int, tuple[int, str]](),
            0,
        )
        before = self._file
        aside = target.with_name(f".{target.name[:50]}.{secrets.token_hex(8)}.partial")
        try:
            self._use(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, 0o666))
            try:
                self._lock()
                for start, raw in _lines(before):
                    line = self._parsed(start, raw)
                    if "result" in line:
                        known[line["index"]] = end, str(line["domain"])
                    if "error" not in line:
                        end = self._written(end, raw)
                os.fsync(self._file)
                aside.replace(target)
            except BaseException:
                self._release()
                with suppress(OSError):  # it may have its name already
                    aside.unlink()
                raise
        except (
            OSError,
            CheckpointError,
        ):  # no room for both: the old lines stay, and newer ones count
            self._file, self._release = before, old
            return os.fstat(before).st_size
        old()
        self._known = known
        return end

    def _line(self, start: int) -> dict[str, Any]:
        with os.fdopen(os.dup(self._file), "rb") as stream:
            stream.seek(start)
            return self._parsed(start, stream.readline())

    def _parsed(self, start: int, raw: bytes) -> dict[str, Any]:
        line = _decoded(raw)
        if line is None:
            raise self._damaged(start)
        return line

    def _damaged(self, start: int) -> CheckpointError:
        return CheckpointError(
            f"'{self.path}' is damaged: at byte {start} there is no line of a checkpoint"
        )

    def _flush(self) -> None:
        while self._left:
            self._end = self._written(self._end, self._left[0])
            del self._left[0]
        if time.monotonic() - self._synced > SYNC_SECONDS:
            with suppress(OSError):
                os.fsync(self._file)
            self._synced = time.monotonic()

    def _written(self, end: int, line: bytes) -> int:
        """Write a line where the file ends, and return where it ends then."""
        done = 0
        try:
            os.lseek(self._file, end, os.SEEK_SET)
            while done < len(line):
                done += os.write(self._file, line[done:])
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, end)
            raise CheckpointError(f"'{self.path}' cannot be written: {error.strerror}") from error
        except BaseException:  # ctrl-C in the middle of a line
            os.ftruncate(self._file, end)
            raise
        return end + len(line)


def _lines(file: int) -> Iterator[tuple[int, bytes]]:
    """Yield where each finished line begins, and the line."""
    with os.fdopen(os.dup(file), "rb") as stream:
        stream.seek(0)
        start = 0
        for raw in stream:
            if not raw.endswith(b"\n"):
                return
            yield start, raw
            start += len(raw)


def digest_of(domain: Domain) -> str:
    """Return a hash of a domain, by the numbers that it is made of."""
    found = hashlib.sha256(b"reals" if isinstance(domain, Reals) else b"")
    arrays = [domain.lower, domain.upper, domain.rows, domain.limits]
    for center, radius in domain.balls:
        arrays += [center, np.array(radius)]
    for array in arrays:
        values = np.asarray(array, dtype="<f8") + 0.0
        found.update(f"{values.shape};".encode() + values.tobytes())
    return found.hexdigest()[:32]


def _asked(request: SolveRequest) -> dict[str, Any]:
    """Return what makes results comparable, and leave out how they are computed.

    Journals of release 0.1.0 hold the gap and the target only: a newer field of the stopping rule
    is left out at its default, so that they go on.
    """
    rule = {
        each.name: to_plain(getattr(request.rule, each.name))
        for each in fields(request.rule)
        if each.name in ("gap", "target") or getattr(request.rule, each.name) != each.default
    }
    return {
        "model": fingerprint(request.network),
        "question": {
            "functionals": _digest_of_set(request.functionals),
            "directions": _digest_of_set(request.directions),
            **rule,
            "relaxation": request.options.method == "lp",
        },
    }


def _digest_of_set(symmetric: SymmetricSet) -> str:
    """Return the kind of a symmetric set, and a hash of its numbers."""
    numbers = hashlib.sha256()
    kinds = []
    while True:
        kinds.append(type(symmetric).__name__)
        for name in ("dim", "factors", "points", "rows"):
            value = getattr(symmetric, name, None)
            if value is not None:
                plain = np.asarray(value, dtype="<f8") + 0.0
                numbers.update(name.encode() + plain.tobytes())
        inner = getattr(symmetric, "base", None)
        if inner is None:
            return f"{' of '.join(kinds)} {numbers.hexdigest()[:16]}"
        symmetric = inner


def _difference(there: object, here: dict[str, Any]) -> str:
    if not isinstance(there, dict):
        return "it does not say which"
    keys = dict.fromkeys([*here, *there])
    return ", ".join(key for key in keys if there.get(key) != here.get(key))


def _encoded(line: dict[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _decoded(raw: bytes) -> dict[str, Any] | None:
    """Return the object of a line; None if there is none."""
    with suppress(ValueError):
        line = json.loads(raw)
        return line if isinstance(line, dict) else None
    return None
