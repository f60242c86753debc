"""How a Lipschitz constant is to be computed: one frozen set of options, checked once.

Every function that solves takes these options as keywords. They are defined here and nowhere else:
the API, the command line, batches, and journals derive their keywords from :class:`Options`.
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, TypedDict, TypeVar

from lipexact.errors import OptionError

Mode = Literal["auto", "forward", "reverse"]
MODES: tuple[Mode, ...] = ("auto", "forward", "reverse")
DEFAULT_SOLVER = "highs"

_F = TypeVar("_F", bound=Callable[..., Any])
_PLACEHOLDER = "**options"


def _option(
    default: Any, check: Callable[[str, Any], Any], about: str, *, factory: Any = None
) -> Any:
    """Declare one option: its default, the function that checks it, and its documentation."""
    metadata = {"check": check, "about": inspect.cleandoc(about)}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def check_name(what: str, value: object) -> str:
    """Return a name; raise OptionError if it is not a string."""
    if not isinstance(value, str):
        raise OptionError(f"{what} must be a name, not {value!r}")
    return value


def check_mode(what: str, value: object) -> str:
    """Return a mode of differentiation; raise OptionError if there is no such mode."""
    if not (isinstance(value, str) and value in MODES):
        raise OptionError(f"{what}={value!r} is none of {', '.join(map(repr, MODES))}")
    return value


def check_seconds(what: str, value: object) -> float | None:
    """Return a positive number of seconds, or None for no limit; raise OptionError otherwise."""
    if value is None:
        return None
    if not (is_number(value) and value > 0):  # type: ignore[operator]
        raise OptionError(f"{what} must be a positive number of seconds, not {value!r}")
    return float(value)  # type: ignore[arg-type]


def check_count(what: str, value: object) -> int | None:
    """Return a positive integer, or None for none; raise OptionError otherwise."""
    if value is None:
        return None
    if not (isinstance(value, numbers.Integral) and is_number(value) and int(value) >= 1):
        raise OptionError(f"{what} must be a positive integer, not {value!r}")
    return int(value)


def is_number(value: object) -> bool:
    """Return whether a value is a real number; booleans are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_gap(what: str, value: object) -> float:
    if not (is_number(value) and 0 <= value < 1):  # type: ignore[operator]
        raise OptionError(f"{what} must be a number, at least 0 and below 1, not {value!r}")
    return float(value)  # type: ignore[arg-type]


def _check_target(what: str, value: object) -> float | None:
    if value is None:
        return None
    if not (is_number(value) and value >= 0):  # type: ignore[operator]
        raise OptionError(f"{what} must be a number, at least 0, not {value!r}")
    return float(value)  # type: ignore[arg-type]


def _check_solver_options(what: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise OptionError(f"{what} must be a dictionary of the solver's own options, not {value!r}")
    return dict(value)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a solve; constructing them checks them.

    Attributes
    ----------
    Each field, as for :func:`lipexact.lipschitz`.

    Raises
    ------
    OptionError
        If a value has the wrong type or lies outside its range.
    """

    method: str = _option(
        "auto",
        check_name,
        """
        The engine: "bab", branch and bound on the network's gates, which needs no solver but HiGHS
        for small linear programs and takes all norms; "mip", a mixed-integer program for `solver`;
        "lp", its linear relaxation alone, which gives an upper bound (LipLP; with an l2 norm its
        squares remain); or "auto": "bab", unless the network is too large for it, or `solver`,
        `mode` or `solver_options` say how a program is to be solved.
        """,
    )
    solver: str = _option(
        DEFAULT_SOLVER,
        check_name,
        """
        The name of a solver, such as "highs", "scip", "cbc" or "gurobi". Where an l2 norm makes the
        program quadratic, one that solves quadratic programs, such as "scip" or "gurobi".
        """,
    )
    mode: Mode = _option(
        "auto",
        check_mode,
        """
        How the derivative is encoded: "forward" as J v over directions v, "reverse" as J^T c over
        functionals c; "auto" chooses by an estimate of the cost, or, with the methods "bab" and
        "lp", uses both.
        """,
    )
    time_limit: float | None = _option(
        None,
        check_seconds,
        """
        Seconds of wall-clock time for the whole call; None for no limit. Solvers overstay at times,
        and reading the network, rough bounds in one mode and some samples come first in any case.
        """,
    )
    gap: float = _option(
        0.0, _check_gap, "Stop as soon as (upper - lower) / upper is at most this."
    )
    target: float | None = _option(
        None,
        _check_target,
        """
        Stop as soon as L <= target or L > target is known; the result's `within_target` says which.
        """,
    )
    threads: int | None = _option(
        None,
        check_count,
        """
        For a solver the number of threads, None leaves it to the solver; for "bab" the number of
        processes that share the tree, None for one; with an executor the number of its workers,
        None to ask it.
        """,
    )
    solver_options: Mapping[str, Any] = _option(
        None, _check_solver_options, "Passed through under the solver's own names.", factory=dict
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            checked = each.metadata["check"](each.name, getattr(self, each.name))
            object.__setattr__(self, each.name, checked)

    @property
    def prescribes_program(self) -> bool:
        """Whether solver, mode or solver_options differ from their defaults.

        They say how a mixed-integer program is to be solved, so whoever sets one wants one.
        """
        return self.solver != DEFAULT_SOLVER or self.mode != "auto" or bool(self.solver_options)


class OptionKeywords(TypedDict, total=False):
    """The same options, as the types of keywords."""

    method: str
    solver: str
    mode: Mode
    time_limit: float | None
    gap: float
    target: float | None
    threads: int | None
    solver_options: Mapping[str, Any] | None


def takes_options(
    *, leave_out: tuple[str, ...] = (), instead: Mapping[str, str] | None = None
) -> Callable[[_F], _F]:
    """Expand ``**options`` in the signature and the docstring of a function into single keywords.

    A new option then appears in every public function without a change to any of them.

    Parameters
    ----------
    leave_out
        Options that the function sets itself.
    instead
        Documentation that differs from that of :class:`Options`, by the option's name.
    """
    shown = [each for each in fields(Options) if each.name not in leave_out]
    about = {each.name: each.metadata["about"] for each in shown} | dict(instead or {})

    def decorate(function: _F) -> _F:
        signature = inspect.signature(function)
        kept = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        added = [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None if each.default is MISSING else each.default,
                annotation=OptionKeywords.__annotations__[each.name].__forward_arg__,
            )
            for each in shown
        ]
        function.__signature__ = signature.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]
        function.__doc__ = _documented(inspect.cleandoc(function.__doc__ or ""), about)
        return function

    return decorate


def _documented(doc: str, about: Mapping[str, str]) -> str:
    """Replace the entry of ``**options`` in a docstring by one entry for each option."""
    lines = doc.split("\n")
    if _PLACEHOLDER not in lines:
        return doc
    at = lines.index(_PLACEHOLDER)
    end = at + 1
    while end < len(lines) and lines[end].startswith(" "):
        end += 1
    entries = []
    for name, text in about.items():
        entries += [name, *(f"    {line}" for line in inspect.cleandoc(text).split("\n"))]
    return "\n".join([*lines[:at], *entries, *lines[end:]])
