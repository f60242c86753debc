"""What :func:`lipexact.lipschitz` returns."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from lipexact import serialise
from lipexact.certificates.certificate import Certificate
from lipexact.numerics.arrays import summary

# An upper and a lower bound this close, relative to the upper one, are one number.
EXACT_GAP = 1e-9


class _Word(str, Enum):
    """An enum whose members are strings and print as such."""

    def __str__(self) -> str:
        return str(self.value)


class Status(_Word):
    """What is known of the constant."""

    EXACT = "EXACT"
    BOUNDED = "BOUNDED"


class Termination(_Word):
    """Why a search, or a solver, stopped."""

    OPTIMAL = "optimal"  # of a result: the bounds are one number; of a solver: it is done
    GAP = "gap"
    TARGET = "target"
    RELAXATION = "relaxation"  # the linear relaxation is solved, which is all that was asked for
    TIME_LIMIT = "time limit"
    INTERRUPTED = "interrupted"
    LIMIT = "limit"  # of size, memory, nodes or solutions: any limit but time
    UNDECIDED = "undecided"  # the method can do no more
    INFEASIBLE = "infeasible"  # said by a solver
    FAILED = "failed"


# A search that ended so has done all that the caller asked for.
AS_ASKED = frozenset(
    {Termination.OPTIMAL, Termination.GAP, Termination.TARGET, Termination.RELAXATION}
)


class Proof(_Word):
    """What an upper bound rests on."""

    FLOAT = "float"  # the package's own arithmetic, rounded outward
    SOLVER = "solver"  # a solver's claim in floating-point arithmetic
    CERTIFICATE = "certificate"  # exact arithmetic
    NONE = "none"  # a heuristic proves nothing


@dataclass(frozen=True)
class Diagnostic:
    """Something that went wrong, or was left out, during a solve.

    Attributes
    ----------
    source
        The part that reports it: "bab", "mip", "workers", "certificate", or a solver's name.
    message
        What happened, and what it means for the result.
    """

    source: str
    message: str

    def __str__(self) -> str:
        return f"{self.source}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class SearchStats(Mapping[str, Any]):
    """Counts and seconds of a solve; None where a number does not apply.

    A mapping, too: ``stats["nodes"]``, over the numbers that apply.

    Attributes
    ----------
    read_seconds, bounds_seconds, primal_seconds, certificate_seconds
        For reading the network, bounding it, finding an incumbent, and making the certificate.
    nodes
        Nodes of the search tree, of branch and bound or of the solver.
    leaves, lps, decided, tree_seconds, relax_seconds, sample_seconds, lp_seconds, decide_seconds
        Branch and bound: regions reached, linear programs solved, exact decisions made, and the
        seconds of the whole tree, of bounds, local search, linear programs and exact decisions.
    variables, binaries, constraints, rounds, excluded
        A program: its sizes, the rounds of the outer approximation, and the patterns cut off.
    build_seconds, solve_seconds, certify_seconds
        A program: for building it, in the solver, and for checking patterns.
    """

    read_seconds: float | None = None
    bounds_seconds: float | None = None
    primal_seconds: float | None = None
    certificate_seconds: float | None = None
    nodes: int | None = None
    leaves: int | None = None
    lps: int | None = None
    decided: int | None = None
    tree_seconds: float | None = None
    relax_seconds: float | None = None
    sample_seconds: float | None = None
    lp_seconds: float | None = None
    decide_seconds: float | None = None
    variables: int | None = None
    binaries: int | None = None
    constraints: int | None = None
    rounds: int | None = None
    excluded: int | None = None
    build_seconds: float | None = None
    solve_seconds: float | None = None
    certify_seconds: float | None = None
    message: str | None = None  # the last diagnostic, for one release

    def __getitem__(self, name: str) -> Any:
        if name == "message":
            told = 'stats["message"] becomes the list `diagnostics` of the result'
            warnings.warn(told, DeprecationWarning, stacklevel=3)
        value = getattr(self, name) if name in _STATS or name == "message" else None
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for name in _STATS if getattr(self, name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        told = (f"{name}={value:.3g}" for name, value in self.items())
        return f"SearchStats({', '.join(told)})"


_STATS = tuple(each.name for each in fields(SearchStats) if each.name != "message")


@dataclass(frozen=True, eq=False)
class Witness:
    """A linear region whose Jacobian shows the lower bound.

    Attributes
    ----------
    point
        A point in the interior of the region and of the domain, shape (d,).
    pattern
        For each layer of gates of the network, the states of its gates there, booleans of shape
        (size,).
    jacobian
        The network's Jacobian in the region, shape (m, d).
    direction
        A direction v of norm 1 with c^T J v = `lower`; shape (d,).
    functional
        c: the functional that was asked for, or the one among several, or among those of dual norm
        1, that attains the norm; shape (m,).
    radius
        The network is affine on the linf ball of this radius around `point`, which lies in the
        domain; 0.0 where the region is too thin for a float inside it.
    """

    point: npt.NDArray[np.float64]
    pattern: tuple[npt.NDArray[np.bool_], ...]
    jacobian: npt.NDArray[np.float64]
    direction: npt.NDArray[np.float64]
    functional: npt.NDArray[np.float64]
    radius: float

    def __repr__(self) -> str:
        return (
            f"Witness(point={summary(self.point)}, jacobian={summary(self.jacobian)}, "
            f"radius={self.radius:.3g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return lists and numbers only."""
        plain: dict[str, Any] = serialise.to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Witness:
        """Return the inverse of `to_dict`, to the last bit."""
        return serialise.from_plain(data, cls)


@dataclass(frozen=True, eq=False)
class LipschitzResult:
    """An exact constant, or an interval that holds it.

    Attributes
    ----------
    lower
        The norm of the witness's Jacobian; accurate to rounding.
    upper
        An upper bound; `proof` says what it rests on.
    status
        EXACT when `upper` - `lower` <= 1e-9 `upper`, else BOUNDED.
    termination
        Why the search stopped: "optimal", "gap", "target", "relaxation", "time limit",
        "interrupted", "limit", "undecided" or "failed". `diagnostics` say more.
    proof
        "certificate": the certificate proves both bounds in exact arithmetic; "float": the upper
        bound comes from the package's own arithmetic alone, rounded outward; "solver": it rests on
        a solver's claim in floating-point arithmetic.
    witness
        Where the lower bound is attained; None when no region was found.
    target
        The number that the constant was compared with, if any.
    method
        The engine that computed it: "bab", "mip" or "lp"; "bounds" where the first bounds and the
        first incumbent answered before an engine began.
    mode, solver
        The mode of the program and its solver; None where no program was made, as in branch and
        bound.
    seconds
        Wall-clock time of the whole call.
    stats
        Counts, and the seconds of each phase.
    diagnostics
        What went wrong or was left out, in order.
    question
        What was asked: network, domain, norms, functional and options, as plain data.
    certificate
        The proof, where one was asked for: see :func:`lipexact.check`.
    """

    lower: float
    upper: float
    status: Status
    termination: Termination
    proof: Proof
    witness: Witness | None
    target: float | None
    method: str
    mode: str | None
    solver: str | None
    seconds: float
    stats: SearchStats = field(default_factory=SearchStats)
    diagnostics: tuple[Diagnostic, ...] = ()
    question: Mapping[str, Any] | None = None
    certificate: Certificate | None = None

    @property
    def value(self) -> float:
        """The constant when `status` is EXACT, else `upper`."""
        return self.lower if self.status is Status.EXACT else self.upper

    @property
    def within_target(self) -> bool | None:
        """Whether the constant is at most `target`; None where that is not known or not asked."""
        if self.target is None or self.lower <= self.target < self.upper:
            return None
        return self.upper <= self.target

    @property
    def gap(self) -> float:
        """(upper - lower) / upper, 0.0 when both are 0."""
        return (self.upper - self.lower) / self.upper if self.upper > 0 else 0.0

    def __repr__(self) -> str:
        if self.status is Status.EXACT:
            told = [f"value={self.value!r}"]
        else:
            told = [f"lower={self.lower!r}", f"upper={self.upper!r}"]
        told += [f"termination={self.termination.value!r}", f"method={self.method!r}"]
        told += [f"mode={self.mode!r}"] if self.mode is not None else []
        told += [f"solver={self.solver!r}"] if self.solver is not None else []
        return f"LipschitzResult({self.status}, {', '.join(told)}, seconds={self.seconds:.3g})"

    def to_dict(self) -> dict[str, Any]:
        """Return strings, numbers, lists and dictionaries; the certificate is a file of its own.

        Numbers that are not finite are the strings "inf", "-inf" and "nan".
        """
        derived = {"value": self.value, "gap": self.gap, "within_target": self.within_target}
        plain: dict[str, Any] = serialise.to_plain(replace(self, certificate=None))
        del plain["certificate"]
        return {**plain, **serialise.to_plain(derived)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LipschitzResult:
        """Return the inverse of `to_dict`, to the last bit, but without a certificate.

        Raises
        ------
        KeyError, TypeError, ValueError
            If this is no such dictionary.
        """
        stats = {name: each for name, each in dict(data["stats"]).items() if name in _STATS}
        result = serialise.from_plain({**data, "stats": stats}, cls)
        if result.status is Status.EXACT and not closed(result.lower, result.upper):
            raise ValueError("it says EXACT, and its bounds are apart")
        return result

    def to_json(self, **options: Any) -> str:
        """Return `to_dict` as JSON; options as for :func:`json.dumps`."""
        return json.dumps(self.to_dict(), **options)


def closed(lower: float, upper: float, gap: float = 0.0) -> bool:
    """Return whether the bounds are one number, or within a relative gap."""
    return math.isfinite(upper) and upper - lower <= max(EXACT_GAP, gap) * upper
