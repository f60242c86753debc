"""A search for the maximum: its two bounds, when it is done, and what it tells on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from lipexact.regions.heuristics import Incumbent
from lipexact.result import closed

UNDECIDED, TARGET, RELAXATION = "undecided", "target", "relaxation"


class Termination(str, Enum):
    """Why a solve stopped."""

    OPTIMAL = "optimal"  # within the gap that was asked for
    INFEASIBLE = "infeasible"
    TIME_LIMIT = "time limit"
    INTERRUPTED = "interrupted"
    LIMIT = "limit"  # nodes, memory, solutions: any limit but time
    FAILED = "failed"


@dataclass(frozen=True)
class Progress:
    """A moment of a running solve, in the objective's own sense; None where the solver has not said."""

    seconds: float
    incumbent: float | None
    bound: float | None
    nodes: int | None


ProgressCallback = Callable[[Progress], bool | None]


@dataclass(frozen=True)
class StoppingRule:
    """When a bracket is narrow enough: its relative gap, or its position to a target."""

    gap: float = 0.0
    target: float | None = None

    def target_is_decided(self, lower: float, upper: float) -> bool:
        """Whether the target is known to be an upper bound, or known to be none."""
        return self.target is not None and (upper <= self.target or lower > self.target)

    def is_met(self, lower: float, upper: float) -> bool:
        """Whether there is nothing left to do."""
        return closed(lower, upper, self.gap) or self.target_is_decided(lower, upper)


@dataclass
class SearchState:
    """Bounds of the maximum, the region that attains the lower one, and how they were found.

    `proof` is "float" while the upper bound is from :mod:`lipexact.bounds`, "solver" after.
    """

    lower: float
    upper: float
    incumbent: Incumbent | None
    proof: str = "float"
    termination: str = Termination.OPTIMAL.value
    stats: dict[str, Any] = field(default_factory=dict)
