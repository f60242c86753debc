"""The picture of a constant over training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lipexact.errors import OptionError
from lipexact.numerics.arrays import Vector, floats
from lipexact.plot.style import BLACK, BLUE, GREEN, ORANGE, VERMILION, WIDE_SPAN, get_axes
from lipexact.result import EXACT_GAP, LipschitzResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colour and marker of the first curve in the axes, of the second, and so on.
_CURVES = ((BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (ORANGE, "D"), (BLACK, "v"))
_CURVE_ID = "lipexact-training"  # by which the curves in the axes are counted


def training(
    steps: Sequence[float],
    results: Sequence[LipschitzResult | tuple[float, float]],
    ax: Axes | None = None,
    *,
    label: str = "Lipschitz constant",
    xlabel: str = "epoch",
) -> Axes:
    """Draw the constant over training: points where it is exact, bars where it is an interval.

    Parameters
    ----------
    steps
        When, shape (k,).
    results
        The constant at each, or pairs of a lower and an upper bound, which may be infinite.
    ax
        Where to draw; None for a new figure. Several calls draw several curves.
    label, xlabel
        Of the curve, and of the axis.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    OptionError
        If the lengths differ, or are 0, or a pair is none of bounds, or matplotlib is missing.
    """
    when, lower, upper = _checked(steps, results)
    unbounded = np.isinf(upper)
    upper = np.where(unbounded, lower, upper)
    exact = ~unbounded & (upper - lower <= EXACT_GAP * upper)
    middle = np.where(exact, lower, lower + (upper - lower) / 2)
    ax = get_axes(ax)
    number = sum(line.get_gid() == _CURVE_ID for line in ax.lines)
    colour, marker = _CURVES[number % len(_CURVES)]
    shown = np.where(unbounded, np.nan, 1.0)  # where there is no interval to draw
    ax.plot(when, shown * middle, linewidth=1.2, color=colour, gid=_CURVE_ID)
    ax.fill_between(when, shown * lower, shown * upper, color=colour, alpha=0.15, linewidth=0)
    points: dict[str, Any] = {"linestyle": "none", "color": colour}
    ax.plot(when[exact], lower[exact], marker=marker, label=label, **points)
    between = ~exact & ~unbounded
    if between.any():
        bars = np.stack([middle - lower, upper - middle])[:, between]
        points |= {"marker": marker, "markerfacecolor": "white", "capsize": 3}
        told = f"{label}: an interval"
        ax.errorbar(when[between], middle[between], bars, label=told, **points)
    if unbounded.any():
        arrow: dict[str, Any] = {"marker": r"$\uparrow$", "markersize": 11}
        arrow |= {"linestyle": "none", "color": colour}
        told = f"{label}: a lower bound only"
        ax.plot(when[unbounded], lower[unbounded], label=told, **arrow)
    if lower.min() > 0 and upper.max() > WIDE_SPAN * lower.min():
        ax.set_yscale("log")
    ax.set_xlabel(xlabel)
    ax.set_ylabel("Lipschitz constant (output per input)")
    ax.legend(frameon=False)
    return ax


def _checked(
    steps: Sequence[float], results: Sequence[LipschitzResult | tuple[float, float]]
) -> tuple[Vector, Vector, Vector]:
    """Return the steps, and the lower and the upper bound at each.

    Raises
    ------
    OptionError
    """
    pairs = [
        (each.lower, each.upper) if isinstance(each, LipschitzResult) else each for each in results
    ]
    if len(steps) != len(pairs) or not pairs:
        told = f"{len(steps)} steps and {len(pairs)} results"
        raise OptionError(f"{told}: give one result for each of one step or more")
    when = floats(steps, "steps", OptionError)
    both = floats(pairs, "results", OptionError)
    are_bounds = (
        both.shape == (len(when), 2)
        and not (both[:, 0] > both[:, 1]).any()
        and np.isfinite(both[:, 0]).all()
    )
    if not are_bounds:
        wanted = "those of lipschitz, or pairs of a lower and an upper bound of it"
        raise OptionError(f"results must be {wanted}")
    return when, both[:, 0], both[:, 1]
