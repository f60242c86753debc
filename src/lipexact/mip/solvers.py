"""One adapter for every MIP solver that Pyomo reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Termination(str, Enum):
    """Why a solve stopped."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    TIME_LIMIT = "time limit"
    INTERRUPTED = "interrupted"
    LIMIT = "limit"  # nodes, memory, solutions: any limit but time
    FAILED = "failed"


@dataclass(frozen=True)
class SolveOptions:
    """What a caller may ask of any solver; `extra` goes to the solver under its own names."""

    time_limit: float | None = None
    gap: float = 0.0
    threads: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """A moment of a running solve, in the objective's own sense."""

    seconds: float
    incumbent: float | None
    bound: float | None
    nodes: int | None


@dataclass(frozen=True)
class Outcome:
    """What a solver claims about a minimisation.

    `bound` is a lower bound on the optimum (None: no claim), `incumbent` the objective of the
    solution that was loaded into the model's variables (None: there is no solution).
    """

    termination: Termination
    bound: float | None
    incumbent: float | None
    nodes: int | None
    seconds: float
    message: str = ""


ProgressCallback = Callable[[Progress], None]
