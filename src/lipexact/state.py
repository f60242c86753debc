"""What a search knows and hands on, and what an engine is.

An engine takes a :class:`SearchState`, whose bounds hold, and returns another one whose bounds hold
and are at least as tight. Neither it nor anyone else changes a state: each step makes a new one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from lipexact.bounds.formulation import Formulation
from lipexact.options import Options
from lipexact.regions.feasibility import Multipliers
from lipexact.regions.heuristics import Incumbent
from lipexact.result import Diagnostic, Proof, SearchStats, Termination, closed


@dataclass(frozen=True)
class Progress:
    """A moment of a running solve; None where a solver has not said.

    Attributes
    ----------
    seconds
        Since the solve began.
    incumbent, bound
        The best value found and the bound of all values, in the constant's own units.
    nodes
        Nodes of the search tree so far.
    """

    seconds: float
    incumbent: float | None
    bound: float | None
    nodes: int | None

    def __str__(self) -> str:
        lower = self.incumbent or 0.0
        upper = np.inf if self.bound is None else self.bound
        gap = (upper - lower) / upper if upper > 0 else 0.0
        bounds = f"lower {lower:.9g}  upper {upper:.9g}  gap {100 * gap:.3f} %"
        return f"{self.seconds:8.1f} s  {bounds}"


ProgressCallback: TypeAlias = Callable[[Progress], bool | None]


@dataclass(frozen=True, kw_only=True)
class StoppingRule:
    """When the bounds are tight enough: their relative gap, or their position to a target.

    A field is an option of the same name. Engines may read one to prune, or to tell a solver, which
    saves time and decides nothing.
    """

    gap: float = 0.0
    target: float | None = None

    @classmethod
    def of(cls, options: Options) -> StoppingRule:
        """Return the rule that the options of a solve ask for."""
        return cls(**{each.name: getattr(options, each.name) for each in fields(cls)})

    def target_is_decided(self, lower: float, upper: float) -> bool:
        """Return whether the target is known to be an upper bound, or known to be none."""
        return self.target is not None and (upper <= self.target or lower > self.target)

    def is_met(self, lower: float, upper: float) -> bool:
        """Return whether there is nothing left to do."""
        return closed(lower, upper, self.gap) or self.target_is_decided(lower, upper)

    def termination(self, lower: float, upper: float) -> Termination | None:
        """Return which part of the rule the bounds meet; None where they meet none."""
        if closed(lower, upper):
            return Termination.OPTIMAL
        if closed(lower, upper, self.gap):
            return Termination.GAP
        if self.target_is_decided(lower, upper):
            return Termination.TARGET
        return None


# Which gate (layer, index) was given which state by branching; in the order of layers.
Decisions: TypeAlias = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, eq=False)
class Deduction:
    """A gate's state that follows from decisions.

    Attributes
    ----------
    layer, index, state
        The gate and its state.
    multipliers
        What rules the other state out; None where exact arithmetic did.
    """

    layer: int
    index: int
    state: int
    multipliers: Multipliers | None


@dataclass(frozen=True, eq=False)
class TraceStep:
    """What became of a search node, for whoever proves it again.

    Attributes
    ----------
    deductions
        Gates that linear programs fixed, in this order; the opposite of the last decision says that
        nothing is left of the node.
    split
        Layer and index of the gate that it was split by, or None.
    bound
        The bound of its norms when it was split.
    """

    deductions: tuple[Deduction, ...] = ()
    split: tuple[int, int] | None = None
    bound: float = np.inf


# The steps of branch and bound, by the decisions of the node.
Trace: TypeAlias = dict[Decisions, TraceStep]


@dataclass(frozen=True, kw_only=True)
class SearchState:
    """Two bounds of the constant, the region that attains the lower one, and how they were found.

    Attributes
    ----------
    lower, upper
        The constant lies between them.
    incumbent
        The best region found; None as long as there is none.
    proof
        What the upper bound rests on.
    termination
        Why the last step ended.
    engine, mode, solver
        What searched: None where no engine ran, and where an engine used no program.
    diagnostics
        What went wrong or was left out, in order.
    stats
        Counts and seconds.
    trace
        How branch and bound split its nodes, where that was asked for.
    """

    lower: float
    upper: float
    incumbent: Incumbent | None = None
    proof: Proof = Proof.FLOAT
    termination: Termination = Termination.OPTIMAL
    engine: str | None = None
    mode: str | None = None
    solver: str | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    stats: SearchStats = field(default_factory=SearchStats)
    trace: Trace | None = None

    def with_incumbent(self, found: Incumbent | None) -> SearchState:
        """Return the state with a better region, if it is one."""
        if found is None:
            return self
        best = self.incumbent
        if best is not None and found.norm.lower <= best.norm.lower:
            return self
        return replace(self, incumbent=found, lower=max(self.lower, found.norm.lower))

    def with_upper(self, upper: float, proof: Proof) -> SearchState:
        """Return the state with a smaller upper bound, if it is one, and what that rests on."""
        return replace(self, upper=upper, proof=proof) if upper < self.upper else self

    def with_stats(self, **numbers: Any) -> SearchState:
        """Return the state with some counts and seconds set."""
        return replace(self, stats=replace(self.stats, **numbers))

    def with_diagnostic(self, source: str, message: str) -> SearchState:
        """Return the state with one more diagnostic."""
        return replace(self, diagnostics=(*self.diagnostics, Diagnostic(source, message)))

    def stopped(self, termination: Termination) -> SearchState:
        """Return the state with the reason why the search ended."""
        return replace(self, termination=termination)

    def meets(self, rule: StoppingRule) -> bool:
        """Return whether the bounds are tight enough."""
        return rule.is_met(self.lower, self.upper)


@dataclass(frozen=True, kw_only=True)
class SearchTask:
    """What an engine is given beside the state to start from.

    Attributes
    ----------
    formulations
        The problem in the mode that was asked for, or in both, each with the bounds of its nodes.
    rule
        When to stop.
    options
        The options of the solve.
    deadline
        A time of `time.perf_counter`, or infinity.
    solver_threads
        How many threads a solver may have where the options name no number.
    executor
        Whose workers take part, if any.
    on_progress
        Called now and then with both bounds; True stops the search.
    keep_trace
        Whether to keep how nodes are split, for a certificate.
    """

    formulations: Sequence[Formulation]
    rule: StoppingRule = field(default_factory=StoppingRule)
    options: Options = field(default_factory=Options)
    deadline: float = np.inf
    solver_threads: int | None = None
    executor: Executor | None = None
    on_progress: ProgressCallback | None = None
    keep_trace: bool = False

    def without_rule(self) -> SearchTask:
        """Return the task without a gap or a target at which to stop."""
        return replace(self, rule=StoppingRule())

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(self.deadline - time.perf_counter(), 0.0)


class Engine(Protocol):
    """A method of search: from a state to one whose bounds are at least as tight.

    An engine is one module in :mod:`lipexact.engines`, whose name is the method's.
    """

    def prepare(self, options: Options, executor: Executor | None = None) -> None:
        """Refuse options that the engine cannot use, and import what takes long to import.

        Raises
        ------
        OptionError, SolverUnavailableError
        """

    def search(self, state: SearchState, task: SearchTask) -> SearchState:
        """Return a state with bounds that are at least as tight, as far as time allows."""


_E = TypeVar("_E", bound=type[Engine])
ENGINES: dict[str, Engine] = {}


def engine(name: str) -> Callable[[_E], _E]:
    """Register a class as the engine of a name."""

    def enter(made: _E) -> _E:
        ENGINES[name] = made()
        return made

    return enter
