"""What a batch yields, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from lipexact.result import LipschitzResult
from lipexact.sets.domain import Domain


@dataclass(frozen=True, eq=False)
class BatchResult:
    """What became of one domain of a batch.

    Attributes
    ----------
    index
        Its place in the domains, from 0.
    domain
        The domain; None where it could not be made.
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
        told = self.result if self.error is None else repr(self.error)
        return f"BatchResult({self.index}, {told})"

    def to_dict(self) -> dict[str, Any]:
        """Return `index`, and either `result` or `error`, as plain data."""
        if self.result is not None:
            return {"index": self.index, "result": self.result.to_dict()}
        error = {"type": type(self.error).__name__, "message": str(self.error)}
        return {"index": self.index, "error": error}


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
        An estimate of the seconds that are left, by those that domains took so far; None where
        there is none.
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


def _duration(seconds: float) -> str:
    """Return hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
