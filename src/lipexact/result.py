"""What :func:`lipexact.lipschitz` returns."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from lipexact.certificates.certificate import Certificate

# Upper and lower bounds that are this close, relative to the upper one, are one number.
EXACT_GAP = 1e-9


class Status(str, Enum):
    """What is known of the constant."""

    EXACT = "EXACT"
    BOUNDED = "BOUNDED"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, eq=False)
class Witness:
    """A linear region whose Jacobian shows the lower bound.

    Attributes
    ----------
    point
        A point in the interior of the region and of the domain, shape (d,).
    pattern
        For each layer of gates of the network, the states of its gates there, booleans of shape (size,).
    jacobian
        The network's Jacobian in the region, shape (m, d).
    direction
        A direction v of norm 1 with c^T J v = `lower`; shape (d,).
    functional
        c: the functional that was asked for, or the one among several, or among those of dual norm 1, that attains the
        norm; shape (m,).
    radius
        The network is affine on the linf ball of this radius around `point`, which lies in the domain;
        0.0 where the region is too thin for a float inside it.
    """

    point: npt.NDArray[np.float64]
    pattern: tuple[npt.NDArray[np.bool_], ...]
    jacobian: npt.NDArray[np.float64]
    direction: npt.NDArray[np.float64]
    functional: npt.NDArray[np.float64]
    radius: float

    def to_dict(self) -> dict[str, Any]:
        """Lists and numbers only."""
        return {
            "point": self.point.tolist(),
            "pattern": [layer.astype(int).tolist() for layer in self.pattern],
            "jacobian": self.jacobian.tolist(),
            "direction": self.direction.tolist(),
            "functional": self.functional.tolist(),
            "radius": self.radius,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Witness:
        """The inverse of `to_dict`, to the last bit."""
        arrays = {
            name: np.array(data[name], dtype=np.float64)
            for name in ("point", "jacobian", "direction")
        }
        return cls(
            **arrays,
            functional=np.array(data["functional"], dtype=np.float64),
            pattern=tuple(np.array(layer, dtype=bool) for layer in data["pattern"]),
            radius=float(data["radius"]),
        )


@dataclass(frozen=True, eq=False)
class LipschitzResult:
    """An exact constant, or an interval that holds it.

    Attributes
    ----------
    lower
        The norm of the witness's Jacobian; accurate to rounding.
    upper
        An upper bound; what it rests on is said by `proof`.
    status
        EXACT when `upper` - `lower` <= 1e-9 `upper`, else BOUNDED.
    termination
        Why the search stopped: "optimal", "time limit", "gap", "target", "relaxation", "undecided", "interrupted",
        "limit" (the program is too large to be built, or a solver's own limit; ``stats["message"]`` says which), ...
    proof
        "certificate": the certificate proves both bounds in exact arithmetic; "float": the upper bound comes from the
        package's own arithmetic alone, rounded outward; "solver": it rests on a solver's claim in floating-point
        arithmetic.
    witness
        Where the lower bound is attained; None when nothing was found.
    target
        The number that the constant was to be compared with, if any.
    method, mode, solver
        How it was computed. Branch and bound uses both modes; the mode is then that which a program would have had.
    seconds
        Wall-clock time of the whole call.
    stats
        Sizes of the program, nodes, rounds, and the seconds of each phase.
    certificate
        The proof, where one was asked for: see :func:`lipexact.check`.
    """

    lower: float
    upper: float
    status: Status
    termination: str
    proof: str
    witness: Witness | None
    target: float | None
    method: str
    mode: str
    solver: str
    seconds: float
    stats: dict[str, Any] = field(default_factory=dict)
    certificate: Certificate | None = None

    @property
    def value(self) -> float:
        """The constant when `status` is EXACT, else `upper`."""
        return self.lower if self.status is Status.EXACT else self.upper

    @property
    def within_target(self) -> bool | None:
        """Whether the constant is at most `target`; None where that is not known, or was not asked."""
        if self.target is None or self.lower <= self.target < self.upper:
            return None
        return self.upper <= self.target

    @property
    def gap(self) -> float:
        """(upper - lower) / upper, 0.0 when both are 0."""
        return (self.upper - self.lower) / self.upper if self.upper > 0 else 0.0

    def __repr__(self) -> str:
        numbers = (
            f"value={self.value!r}"
            if self.status is Status.EXACT
            else f"lower={self.lower!r}, upper={self.upper!r}"
        )
        return (
            f"LipschitzResult({self.status}, {numbers}, termination={self.termination!r}, mode={self.mode!r}, "
            f"solver={self.solver!r}, seconds={self.seconds:.3g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as strings, numbers, lists and dictionaries; the certificate is a file of its own."""
        return {
            "status": self.status.value,
            "value": self.value,
            "lower": self.lower,
            "upper": self.upper,
            "gap": self.gap,
            "termination": self.termination,
            "proof": self.proof,
            "target": self.target,
            "within_target": self.within_target,
            "method": self.method,
            "mode": self.mode,
            "solver": self.solver,
            "seconds": self.seconds,
            "stats": self.stats,
            "witness": None if self.witness is None else self.witness.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LipschitzResult:
        """The inverse of `to_dict`, to the last bit; without a certificate, which is a file of its own.

        Raises
        ------
        KeyError, TypeError, ValueError
            If this is no such dictionary.
        """
        witness = data["witness"]
        if data["status"] == Status.EXACT.value and not closed(
            float(data["lower"]), float(data["upper"])
        ):
            raise ValueError("it says EXACT, and its bounds are apart")
        plain = ("termination", "proof", "target", "method", "mode", "solver", "seconds")
        return cls(
            lower=float(data["lower"]),
            upper=float(data["upper"]),
            status=Status(data["status"]),
            witness=None if witness is None else Witness.from_dict(witness),
            stats=dict(data["stats"]),
            **{name: data[name] for name in plain},
        )

    def to_json(self, **options: Any) -> str:
        """`to_dict` as JSON; options as for :func:`json.dumps`."""
        return json.dumps(self.to_dict(), **options)


def closed(lower: float, upper: float, gap: float = 0.0) -> bool:
    """Whether the bounds are one number, or within the relative gap that was asked for."""
    return math.isfinite(upper) and upper - lower <= max(EXACT_GAP, gap) * upper
