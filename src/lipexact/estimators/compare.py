"""Estimators side by side on one request."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from lipexact.bounds.formulation import checked_norm_sets
from lipexact.errors import LipExactError, OptionError
from lipexact.estimators.estimate import Estimate, estimate, estimator_names
from lipexact.estimators.registry import find
from lipexact.loading import load
from lipexact.network import Network
from lipexact.options import check_seconds
from lipexact.result import EXACT_GAP, closed
from lipexact.serialise import to_plain
from lipexact.sets.domain import Domain
from lipexact.sets.functionals import Functional
from lipexact.sets.norms import Norm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEAD = ("Estimator", "Guarantee", "Scope", "Value", "Relative error", "Seconds")


@dataclass(frozen=True)
class Row:
    """One estimator of a comparison.

    Attributes
    ----------
    method
        Its name.
    estimate
        What it found; None where it found nothing.
    reason
        Why it found nothing, else "".
    errors
        The least and the largest relative error abs(value / L - 1) for a constant L between the
        comparison's bounds: the same number where these are one. None without an estimate.
    seconds
        Wall-clock time.
    """

    method: str
    estimate: Estimate | None
    reason: str
    errors: tuple[float, float] | None
    seconds: float

    @property
    def error(self) -> float | None:
        """The largest relative error."""
        return None if self.errors is None else self.errors[1]

    @property
    def guarantee(self) -> str:
        """The guarantee of the estimate, or of the estimator where there is none."""
        return find(self.method).guarantee if self.estimate is None else self.estimate.guarantee

    @property
    def scope(self) -> str:
        """The scope of the estimator."""
        return find(self.method).scope

    def to_dict(self) -> dict[str, Any]:
        """Return strings, numbers, lists and dictionaries.

        Numbers that are not finite are the strings "inf", "-inf" and "nan".
        """
        plain: dict[str, Any] = to_plain(self)
        errors = plain.pop("errors")
        derived = {"guarantee": self.guarantee, "scope": self.scope, "relative_errors": errors}
        return {**plain, **derived, "reason": self.reason or None}


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` returns.

    Attributes
    ----------
    rows
        One for each estimator, in the order that was asked for.
    lower, upper
        The best lower and upper bound of the constant, of all that have a guarantee.
    """

    rows: tuple[Row, ...]
    lower: float
    upper: float

    @property
    def closed(self) -> bool:
        """Whether both are one number, up to 1e-9."""
        return closed(self.lower, self.upper)

    def __repr__(self) -> str:
        methods = ", ".join(row.method for row in self.rows)
        return f"Comparison({methods}; lower={self.lower!r}, upper={self.upper!r})"

    def __getitem__(self, method: str) -> Row:
        """Return the row of an estimator.

        Raises
        ------
        KeyError
            If it is not among them.
        """
        return {row.method: row for row in self.rows}[method]

    def to_dict(self) -> dict[str, Any]:
        """Return strings, numbers, lists and dictionaries.

        Numbers that are not finite are the strings "inf", "-inf" and "nan".
        """
        plain: dict[str, Any] = to_plain(replace(self, rows=()))
        return {**plain, "closed": self.closed, "rows": [row.to_dict() for row in self.rows]}

    def to_json(self, **options: Any) -> str:
        """Return `to_dict` as JSON; options as for :func:`json.dumps`."""
        return json.dumps(self.to_dict(), **options)

    def to_markdown(self) -> str:
        """Return a table, and the constant, or what is known of it."""
        lines = [_HEAD, ("---", "---", "---", "---:", "---:", "---:"), *map(_cells, self.rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        notes = "".join(f"* {note}\n" for note in self.notes)
        return f"{table}\n\n{self.summary}\n" + (f"\n{notes}" if notes else "")

    def to_rich(self) -> Table:
        """Return the table for a terminal: print it by a ``rich.console.Console``."""
        caption = "\n".join([self.summary, *self.notes])
        table = Table(caption=escape(caption), caption_justify="left")
        for name in _HEAD:
            is_number = name in _HEAD[3:]
            table.add_column(name, justify="right" if is_number else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*_cells(row))
        return table

    @property
    def summary(self) -> str:
        """The constant in a line."""
        if self.closed:
            return f"Lipschitz constant {self.upper:.9g}."
        interval = f"[{self.lower:.9g}, {self.upper:.9g}]"
        return f"Lipschitz constant in {interval}; errors are for the worst of these."

    @property
    def notes(self) -> list[str]:
        """Why some estimators found nothing, and which bounds contradict the best lower one."""
        told = [f"{row.method}: {row.reason}" for row in self.rows if row.reason]
        least = self.lower * (1 - EXACT_GAP)
        one_is_wrong = "one of the two is wrong; please report it"
        for row in self.rows:
            if row.estimate and row.guarantee == "upper" and row.estimate.value < least:
                reason = f"below what is attained, {self.lower:.9g}: {one_is_wrong}"
                told.append(f"{row.method}: {reason}")
        return told

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw relative error against time, by :func:`lipexact.plot.errors`."""
        from lipexact.plot import errors  # noqa: PLC0415 - matplotlib is an extra

        return errors(self.rows, ax=ax)


def _cells(row: Row) -> tuple[str, ...]:
    """Return a row of the table, by the columns of `_HEAD`."""
    facts = (row.method, row.guarantee, row.scope)
    if row.estimate is None:
        return (*facts, "-", "-", "-")
    error = math.inf if row.error is None else row.error
    return (*facts, f"{row.estimate.value:.6g}", _percent(error), f"{row.seconds:.2g}")


def _percent(error: float) -> str:
    if error <= EXACT_GAP:
        return "0"
    return "-" if math.isinf(error) else f"{100 * error:.3g} %"


def compare(
    model: str | os.PathLike[str] | Network | Any,
    domain: Domain,
    methods: Iterable[str] | None = None,
    *,
    input_norm: str | Norm = "linf",
    output_norm: str | Norm | None = None,
    functional: Functional = None,
    time_limit: float | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[str], object] | None = None,
) -> Comparison:
    """Run estimators on one request, and say how far each is from the constant.

    Parameters
    ----------
    model, domain, input_norm, output_norm, functional
        As for :func:`lipexact.lipschitz`.
    methods
        Names of estimators; None for all. With "exact" among them errors are relative to the
        constant, else to the best bounds that were found.
    time_limit
        Seconds of wall-clock time for each.
    options
        By the names of estimators the options that each is called with.
    progress
        Called with the name of each estimator before it begins.

    Returns
    -------
    Comparison
        Estimators that refuse the request have a row with the reason.

    Raises
    ------
    ModelError, UnsupportedOperatorError, DomainError, NormError, OptionError
        As for :func:`lipexact.estimate`.
    """
    names = estimator_names() if methods is None else _names(methods)
    extra = _options({} if options is None else options, names)
    limit = check_seconds("time_limit", time_limit)
    if progress is not None and not callable(progress):
        raise OptionError(f"progress must be a function, not {progress!r}")
    network = load(model)
    # What does not fit the network is refused at once.
    checked_norm_sets(network, domain, input_norm, output_norm, functional)
    request: dict[str, Any] = {
        "input_norm": input_norm,
        "output_norm": output_norm,
        "functional": functional,
        "time_limit": limit,
    }
    rows: list[Row] = []
    for name in names:
        if progress is not None:
            progress(name)
        start = time.perf_counter()
        found = None
        reason = ""
        try:
            found = estimate(network, domain, name, **request, **extra.get(name, {}))
        except OptionError:
            raise
        except LipExactError as error:
            reason = str(error)
        rows.append(Row(name, found, reason, None, time.perf_counter() - start))
    lower, upper = _best_bounds([row.estimate for row in rows if row.estimate is not None])
    return Comparison(tuple(_with_errors(row, lower, upper) for row in rows), lower, upper)


def _with_errors(row: Row, lower: float, upper: float) -> Row:
    """Return a row with its errors, once the bounds of the constant are known."""
    if row.estimate is None:
        return row
    return replace(row, errors=_errors(row.estimate.value, lower, upper))


def _options(options: object, names: list[str]) -> dict[str, Mapping[str, Any]]:
    """Return what each estimator is called with, checked before any work.

    Raises
    ------
    OptionError
        If there is no such estimator among the methods, or it has no such option.
    """
    if not (
        isinstance(options, Mapping) and all(isinstance(each, Mapping) for each in options.values())
    ):
        wanted = "a dictionary of dictionaries by estimators' names"
        raise OptionError(f"options must be {wanted}, not {options!r}")
    for name, each in options.items():
        if name not in names:
            raise OptionError(f"options for {name!r}, which is not among the methods")
        find(name).check(each)
    return dict(options)


def _names(methods: Iterable[str]) -> list[str]:
    """Return the names of estimators, each once, in their order.

    Raises
    ------
    OptionError
    """
    if isinstance(methods, str) or not isinstance(methods, Iterable):
        raise OptionError(f"methods must be a list of estimators' names, not {methods!r}")
    names = list(dict.fromkeys(find(method).name for method in methods))
    if not names:
        raise OptionError("methods is empty: name at least one estimator")
    return names


def _best_bounds(found: list[Estimate]) -> tuple[float, float]:
    """Return the largest lower and the least upper bound of all that have a guarantee."""
    lowers = [0.0]
    uppers = [math.inf]
    for each in found:
        if each.guarantee in ("lower", "exact"):
            lowers.append(each.value)
        elif "lower" in each.details:
            lowers.append(float(each.details["lower"]))
        if each.guarantee in ("upper", "exact"):
            uppers.append(each.value)
    lower = max(lowers)
    upper = min(uppers)
    return lower, max(lower, upper)  # an exact value may lie above a bound by rounding


def _errors(value: float, lower: float, upper: float) -> tuple[float, float]:
    """Return the least and the largest relative error for a constant L between both bounds.

    Examples
    --------
    The estimate 3 is 50 % above L = 2, and 0 % above L = 3:

    >>> _errors(3.0, 2.0, 3.0)
    (0.0, 0.5)
    """
    if lower == upper == value:
        return 0.0, 0.0
    ends = [abs(value / end - 1) if 0 < end < math.inf else math.inf for end in (lower, upper)]
    least = 0.0 if lower <= value <= upper else min(ends)
    return least, max(ends)
