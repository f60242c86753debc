"""Axes, colours and ticks that all pictures share."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lipexact.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
VERMILION = "#D55E00"
BLACK = "#000000"

WIDE_SPAN = 30.0  # ratio of an axis's largest number to its least: from here on it is logarithmic

_SIZE_INCHES = (6.4, 4.2)


def get_axes(ax: Axes | None) -> Axes:
    """Return the axes that were given, or those of a new figure.

    Raises
    ------
    OptionError
        If matplotlib is missing.
    """
    require_matplotlib()
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra

    _, made = plt.subplots(figsize=_SIZE_INCHES, layout="constrained")
    return made


def require_matplotlib() -> None:
    """Refuse to go on without matplotlib.

    Raises
    ------
    OptionError
    """
    try:
        import_module("matplotlib")
    except ImportError:
        raise OptionError("plots need matplotlib: pip install 'lipexact[plot]'") from None


def set_plain_ticks(ax: Axes) -> None:
    """Write numbers without powers on logarithmic axes, as many as there is room for."""
    from matplotlib.ticker import LogLocator, MaxNLocator  # noqa: PLC0415 - an extra

    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        span = high / low
        axis.set_major_locator(MaxNLocator(6) if span < 5 else LogLocator(subs=_digits(span)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")


def _digits(span: float) -> tuple[float, ...]:
    """Return the leading digits of the numbers that have a tick."""
    if span < 30:
        return (1.0, 2.0, 3.0, 5.0, 7.0)
    if span < 300:
        return (1.0, 2.0, 5.0)
    return (1.0,)
