"""The picture of a solve: both bounds over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lipexact.errors import OptionError
from lipexact.numerics.arrays import Vector
from lipexact.plot.style import BLACK, BLUE, VERMILION, WIDE_SPAN, get_axes
from lipexact.result import LipschitzResult, Status
from lipexact.state import Progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Bounds that are closer than this, relative to the upper one, are one line, on an axis from 0.
_NARROW_SPAN = 1e-3


def bounds(
    history: Sequence[Progress], result: LipschitzResult | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the two bounds of a solve over time.

    Parameters
    ----------
    history
        What ``lipschitz(..., progress=history.append)`` has put into a list.
    result
        What it returned, which ends the curves.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    OptionError
        If there is nothing to draw, or matplotlib is missing.
    """
    seconds, lower, upper = _curves(history, result)
    ax = get_axes(ax)
    steps: dict[str, Any] = {"where": "post", "markersize": 4}
    ax.step(
        seconds, upper, color=VERMILION, linestyle="-", marker="v", label="upper bound", **steps
    )
    ax.step(seconds, lower, color=BLUE, linestyle="--", marker="^", label="lower bound", **steps)
    ax.fill_between(seconds, lower, upper, step="post", color=BLACK, alpha=0.08, linewidth=0)
    if result is not None and result.status is Status.EXACT:
        label = f"constant {result.value:.6g}"
        ax.axhline(result.value, color=BLACK, linestyle=":", linewidth=1, label=label)
    _scale_axes(ax, seconds, lower, upper)
    ax.set_xlabel("time (s)")
    ax.set_ylabel("Lipschitz constant")
    ax.legend(frameon=False)
    return ax


def _curves(
    history: Sequence[Progress], result: LipschitzResult | None
) -> tuple[Vector, Vector, Vector]:
    """Return the seconds, and the best lower and upper bound so far at each."""
    moments = [
        (each.seconds, each.incumbent or 0.0, np.nan if each.bound is None else each.bound)
        for each in history
    ]
    if result is not None:
        moments.append((result.seconds, result.lower, result.upper))
    if not moments:
        how = "collect them by lipschitz(..., progress=history.append), or give the result"
        raise OptionError(f"no bounds to draw: {how}")
    seconds, lower, upper = (np.array(column) for column in zip(*moments, strict=True))
    return seconds, np.maximum.accumulate(lower), np.fmin.accumulate(upper)


def _scale_axes(ax: Axes, seconds: Vector, lower: Vector, upper: Vector) -> None:
    """Make axes logarithmic that span much; let that of bounds that are close begin at 0."""
    if len(seconds) > 1 and seconds[0] > 0 and seconds[-1] > WIDE_SPAN * seconds[0]:
        ax.set_xscale("log")
    known = upper[np.isfinite(upper)]
    if not known.size:
        return
    largest = known.max()
    is_wide = largest > WIDE_SPAN * max(known.min(), 1e-300) > 0
    if is_wide and (lower > 0).any():
        ax.set_yscale("log")
    elif largest - lower.min() < _NARROW_SPAN * largest:
        ax.set_ylim(0, 1.3 * largest)
