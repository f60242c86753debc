"""The picture of how a radius was certified."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lipexact.errors import OptionError
from lipexact.plot.style import BLACK, BLUE, GREEN, ORANGE, VERMILION, get_axes, set_plain_ticks
from lipexact.robustness import CertifiedRadius, RadiusStep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# By what a step showed: marker, colour, and what the legend says.
_VERDICTS = {
    True: ("o", GREEN, "certified"),
    False: ("x", VERMILION, "not certified"),
    None: ("s", ORANGE, "open"),
}
_CURVE_POINTS = 200


def radius(certified: CertifiedRadius, ax: Axes | None = None) -> Axes:
    """Draw how a radius was certified: constants on balls of the radii tried, against 1 / r.

    A decision holds within r while the local constant of the margins, each divided by its value at
    x, is at most 1 / r. Each radius that was tried is a bar from the constant's lower to its upper
    bound, marked at the upper one, by which it is certified or not. The certified radii are shaded,
    and above a dotted line none can be certified by a local constant.

    Parameters
    ----------
    certified
        What :func:`lipexact.certified_radius` returned.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    OptionError
        If no radius was tried, or matplotlib is missing.
    """
    steps = [
        step for step in certified.steps if np.isfinite([step.radius, step.result.upper]).all()
    ]
    if not steps:
        raise OptionError("no radius was tried: there is nothing to draw")
    ends = [end for end in (certified.radius, certified.upper) if 0 < end < np.inf]
    shown = np.array([step.radius for step in steps] + ends)
    left = float(shown.min()) / 1.5
    right = float(shown.max()) * 1.5
    ax = get_axes(ax)
    line = np.geomspace(left, right, _CURVE_POINTS)
    label = "1 / r: certified below"
    ax.plot(line, 1 / line, color=BLACK, linestyle="--", linewidth=1, label=label)
    _draw_steps(ax, steps)
    _draw_interval(ax, certified, left, right)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(left, right)
    set_plain_ticks(ax)
    ax.set_xlabel("radius r of the ball around x (input units)")
    ax.set_ylabel("constant of the margins / margin at x\n(1 / input units)")
    ax.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return ax


def _draw_steps(ax: Axes, steps: list[RadiusStep]) -> None:
    """Draw a bar for each radius that was tried, by what it showed."""
    for verdict, (marker, colour, label) in _VERDICTS.items():
        chosen = [step for step in steps if step.certified is verdict]
        if not chosen:
            continue
        x = [step.radius for step in chosen]
        lower = [step.result.lower for step in chosen]
        upper = [step.result.upper for step in chosen]
        ax.vlines(x, lower, upper, color=colour, linewidth=2, alpha=0.6)
        ax.plot(x, upper, linestyle="none", marker=marker, color=colour, label=label)


def _draw_interval(ax: Axes, certified: CertifiedRadius, left: float, right: float) -> None:
    """Shade the certified radii, and draw the radius above which none can be certified."""
    if certified.radius > 0:
        told = f"{certified.radius:.4g}" if np.isfinite(certified.radius) else "infinite"
        end = min(certified.radius, right)
        ax.axvspan(left, end, color=BLUE, alpha=0.12, linewidth=0)
        ax.axvline(end, color=BLUE, linewidth=1, label=f"certified radius {told}")
    if np.isfinite(certified.upper):
        label = f"none above {certified.upper:.4g}"
        ax.axvline(certified.upper, color=BLACK, linewidth=1, linestyle=":", label=label)
