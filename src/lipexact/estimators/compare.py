"""Estimators side by side on one question."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from lipexact.bounds.formulation import checked_norm_sets
from lipexact.errors import LipExactError, OptionError
from lipexact.estimators.estimate import Estimate, estimate, estimator_names, plain
from lipexact.estimators.registry import find
from lipexact.loading import load
from lipexact.network import Network
from lipexact.options import check_seconds
from lipexact.result import EXACT_GAP, closed
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
        The least and the largest relative error abs(value / L - 1) for a constant L in the comparison's bracket: the
        same number where that is closed. None without an estimate.
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
        """That of the estimate, or of the estimator."""
        return find(self.method).guarantee if self.estimate is None else self.estimate.guarantee

    @property
    def scope(self) -> str:
        """That of the estimator."""
        return find(self.method).scope

    def to_dict(self) -> dict[str, Any]:
        """Strings, numbers, lists and dictionaries; numbers that are not finite are None."""
        found = None if self.estimate is None else self.estimate.to_dict()
        return {
            "method": self.method,
            "guarantee": self.guarantee,
            "scope": self.scope,
            "relative_errors": plain(self.errors),
            "seconds": self.seconds,
            "estimate": found,
            "reason": self.reason or None,
        }


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

    def __getitem__(self, method: str) -> Row:
        """The row of an estimator; KeyError where it is not among them."""
        return {row.method: row for row in self.rows}[method]

    def to_dict(self) -> dict[str, Any]:
        """Strings, numbers, lists and dictionaries."""
        return {
            "lower": self.lower,
            "upper": plain(self.upper),
            "closed": self.closed,
            "rows": [row.to_dict() for row in self.rows],
        }

    def to_json(self, **options: Any) -> str:
        """`to_dict` as JSON; options as for :func:`json.dumps`."""
        return json.dumps(self.to_dict(), **options)

    def to_markdown(self) -> str:
        """A table, and the constant, or what is known of it."""
        lines = [_HEAD, ("---", "---", "---", "---:", "---:", "---:"), *map(_cells, self.rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        notes = "".join(f"* {note}\n" for note in self.notes)
        return f"{table}\n\n{self.summary}\n" + (f"\n{notes}" if notes else "")

    def to_rich(self) -> Table:
        """The same for a terminal: print it by a ``rich.console.Console``."""
        caption = "\n".join([self.summary, *self.notes])
        table = Table(caption=escape(caption), caption_justify="left")
        for name in _HEAD:
            table.add_column(
                name, justify="right" if name in _HEAD[3:] else "left", overflow="fold"
            )
        for row in self.rows:
            table.add_row(*_cells(row))
        return table

    @property
    def summary(self) -> str:
        """The constant in a line."""
        if self.closed:
            return f"Lipschitz constant {self.upper:.9g}."
        return f"Lipschitz constant in [{self.lower:.9g}, {self.upper:.9g}]; errors are for the worst of these."

    @property
    def notes(self) -> list[str]:
        """Why some estimators found nothing, and which bounds contradict the best one on the other side."""
        told = [f"{row.method}: {row.reason}" for row in self.rows if row.reason]
        least = self.lower * (1 - EXACT_GAP)
        uppers = {
            row.method: row.estimate.value
            for row in self.rows
            if row.estimate and row.guarantee == "upper"
        }
        wrong = [method for method, value in uppers.items() if value < least]
        reason = (
            f"below what is attained, {self.lower:.9g}: one of the two is wrong; please report it"
        )
        return told + [f"{method}: {reason}" for method in wrong]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Relative error against time: see :func:`lipexact.plot.errors`."""
        from lipexact.plot import errors  # noqa: PLC0415 - matplotlib is an extra

        return errors(self.rows, ax=ax)


def _cells(row: Row) -> tuple[str, ...]:
    if row.estimate is None:
        return row.method, row.guarantee, row.scope, "-", "-", "-"
    return (
        row.method,
        row.guarantee,
        row.scope,
        f"{row.estimate.value:.6g}",
        _percent(row.errors[1] if row.errors else math.inf),
        f"{row.seconds:.2g}",
    )


def _percent(error: float) -> str:
    return "0" if error <= EXACT_GAP else "-" if math.isinf(error) else f"{100 * error:.3g} %"


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
    """Run estimators on one question, and say how far each is from the constant.

    Parameters
    ----------
    model, domain, input_norm, output_norm, functional
        As for :func:`lipexact.lipschitz`.
    methods
        Names of estimators; None for all. With "exact" among them errors are relative to the constant, else to the best
        bounds that were found.
    time_limit
        Seconds of wall-clock time for each.
    options
        By the names of estimators the options that each is called with.
    progress
        Called with the name of each estimator before it begins.

    Returns
    -------
    Comparison
        Estimators that do not take the question have a row with the reason.

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
    checked_norm_sets(
        network, domain, input_norm, output_norm, functional
    )  # refuses at once what does not fit the network
    tried: list[tuple[str, Estimate | None, str, float]] = []
    for name in names:
        if progress is not None:
            progress(name)
        start = time.perf_counter()
        found, reason = None, ""
        try:
            found = estimate(
                network,
                domain,
                name,
                input_norm=input_norm,
                output_norm=output_norm,
                functional=functional,
                time_limit=limit,
                **extra.get(name, {}),
            )
        except OptionError:
            raise
        except LipExactError as error:
            reason = str(error)
        tried.append((name, found, reason, time.perf_counter() - start))
    lower, upper = _bracket([found for _, found, _, _ in tried if found is not None])
    rows = (
        Row(
            name,
            found,
            reason,
            None if found is None else _errors(found.value, lower, upper),
            seconds,
        )
        for name, found, reason, seconds in tried
    )
    return Comparison(tuple(rows), lower, upper)


def _options(options: object, names: list[str]) -> dict[str, Mapping[str, Any]]:
    """What each estimator is called with; refused before any work where one does not take it."""
    if not (
        isinstance(options, Mapping) and all(isinstance(each, Mapping) for each in options.values())
    ):
        raise OptionError(
            f"options must be a dictionary of dictionaries by estimators' names, not {options!r}"
        )
    for name, each in options.items():
        if name not in names:
            raise OptionError(f"options for {name!r}, which is not among the methods")
        find(name).check(each)
    return dict(options)


def _names(methods: Iterable[str]) -> list[str]:
    if isinstance(methods, str) or not isinstance(methods, Iterable):
        raise OptionError(f"methods must be a list of estimators' names, not {methods!r}")
    names = list(dict.fromkeys(find(method).name for method in methods))
    if not names:
        raise OptionError("methods is empty: name at least one estimator")
    return names


def _bracket(found: list[Estimate]) -> tuple[float, float]:
    """The best bounds of all that have a guarantee."""
    lowers, uppers = [0.0], [math.inf]
    for each in found:
        if each.guarantee in ("lower", "exact"):
            lowers.append(each.value)
        elif "lower" in each.details:
            lowers.append(float(each.details["lower"]))
        if each.guarantee in ("upper", "exact"):
            uppers.append(each.value)
    lower, upper = max(lowers), min(uppers)
    return lower, max(lower, upper)  # an exact value may lie above a bound by rounding


def _errors(value: float, lower: float, upper: float) -> tuple[float, float]:
    """The range of the relative error for L in the bracket."""
    if lower == upper == value:
        return 0.0, 0.0
    ends = [abs(value / end - 1) if 0 < end < math.inf else math.inf for end in (lower, upper)]
    least = 0.0 if lower <= value <= upper else min(ends)
    return least, max(ends)
