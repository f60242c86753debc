"""The picture of estimators: relative error against time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lipexact.errors import OptionError
from lipexact.plot.labels import label_points
from lipexact.plot.style import BLACK, BLUE, ORANGE, VERMILION, get_axes
from lipexact.result import EXACT_GAP

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# By guarantees: marker, its area in square points, colour, and what the legend says. The markers
# are such that none covers all of one below it.
_GUARANTEES = {
    "upper": ("v", 70, VERMILION, "upper bound"),
    "lower": ("^", 70, BLUE, "lower bound"),
    "exact": ("*", 80, BLACK, "exact"),
    "heuristic": ("o", 22, ORANGE, "heuristic"),
}
_MAX_DECADES = 10  # with a number each
_LEAST_SECONDS = 1e-6  # which a logarithmic axis needs


class ErrorRow(Protocol):
    """What :func:`errors` draws of an estimator; :class:`.Row` has it."""

    @property
    def method(self) -> str:
        """Its name."""

    @property
    def seconds(self) -> float:
        """Wall-clock time."""

    @property
    def error(self) -> float | None:
        """The relative error; None, or infinite, where it is left out."""

    @property
    def guarantee(self) -> str:
        """One of "lower", "upper", "heuristic", "exact"."""


def errors(rows: Sequence[ErrorRow], ax: Axes | None = None) -> Axes:
    """Draw relative error against time, both logarithmic, with markers by guarantee.

    Parameters
    ----------
    rows
        Of a :class:`lipexact.Comparison`. Errors of at most 1e-9 are drawn on the line at the
        bottom.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    OptionError
        If there is no error to draw, or a guarantee is none of these, or matplotlib is missing.
    """
    shown = [row for row in rows if row.error is not None and np.isfinite(row.error)]
    known = [float(row.error) for row in shown if row.error is not None]
    _check(shown)
    ax = get_axes(ax)
    floor = min(1e-4, min((error for error in known if error > EXACT_GAP), default=1e-4) / 5)
    points = [
        (max(row.seconds, _LEAST_SECONDS), floor if error <= EXACT_GAP else error)
        for row, error in zip(shown, known, strict=True)
    ]
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(floor / 3, max(y for _, y in points) * 4)
    _draw_markers(ax, [row.guarantee for row in shown], points)
    ax.margins(x=0.16)
    ax.axhline(floor, color=BLACK, linestyle=":", linewidth=0.8, zorder=1)
    _set_decades(ax, floor)
    ax.set_xlabel("time (s)")
    ax.set_ylabel("relative error")
    above: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    ax.legend(frameon=False, fontsize=8, ncols=len(_GUARANTEES), **above)
    label_points(ax, [row.method for row in shown], points, floor)
    return ax


def _check(rows: Sequence[ErrorRow]) -> None:
    """Refuse rows that cannot be drawn.

    Raises
    ------
    OptionError
    """
    if not rows:
        how = "compare with the method 'exact' among them"
        raise OptionError(f"no estimator has a finite relative error: {how}")
    if unknown := {row.guarantee for row in rows} - set(_GUARANTEES):
        found = ", ".join(map(repr, sorted(unknown)))
        raise OptionError(f"guarantees are {', '.join(map(repr, _GUARANTEES))}, not {found}")


def _draw_markers(
    ax: Axes, guarantees: Sequence[str], points: Sequence[tuple[float, float]]
) -> None:
    """Draw points by their guarantees, those with small markers above those with large ones."""
    for order, (kind, (marker, area, colour, label)) in enumerate(_GUARANTEES.items()):
        chosen = [point for found, point in zip(guarantees, points, strict=True) if found == kind]
        if not chosen:
            continue
        edge: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.6, "zorder": 3 + order / 10}
        x, y = zip(*chosen, strict=True)
        ax.scatter(x, y, s=area, marker=marker, color=colour, label=label, **edge)


def _set_decades(ax: Axes, floor: float) -> None:
    """Write the powers of ten above the line at the bottom, which stands for errors of 0."""
    powers = np.arange(np.ceil(np.log10(2 * floor)), np.ceil(np.log10(ax.get_ylim()[1])))
    decades = 10.0 ** powers[:: max(-(-powers.size // _MAX_DECADES), 1)]
    ax.set_yticks([floor, *decades], ["< 1e-9", *(f"{decade:g}" for decade in decades)])
    ax.minorticks_off()
