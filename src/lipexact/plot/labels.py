"""Names beside points, where they cover nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Left, bottom, right and top, in points.
_Box: TypeAlias = Sequence[float]

_FONT_POINTS = 7.5
_LETTER_WIDTH = 0.56  # of the size of the font, on average
_LINE_POINTS = 1.15 * _FONT_POINTS
_REACHES_POINTS = (7, 16, 26, 38, 52)  # how far from its point a name may stand, nearest first
_ARROW_POINTS = 10  # from here on an arrow says which point a name belongs to
_MARKER_POINTS = 4  # half the width of what a point takes


def label_points(
    ax: Axes, names: Sequence[str], points: Sequence[tuple[float, float]], floor: float
) -> None:
    """Write names beside points, each where it covers no other name or point, nor the line below.

    Names are placed one after the other, from the top, each where the area that it covers of others
    or that lies outside of the axes is least.

    Parameters
    ----------
    ax
        Axes whose scales and limits are final.
    names, points
        The names, and where their points are, in the units of the axes.
    floor
        Where the line at the bottom is.
    """
    figure: Any = ax.figure
    figure.canvas.figure.draw_without_rendering()  # so that margins are known
    dots = figure.dpi
    places = ax.transData.transform(points) * 72 / dots
    line = float(ax.transData.transform((points[0][0], floor))[1] * 72 / dots)
    window = ax.get_window_extent()
    inside = [each * 72 / dots for each in (window.x0, window.y0, window.x1, window.y1)]
    taken: list[_Box] = [(-1e6, line - 1, 1e6, line + 1)]
    taken += [
        (x - _MARKER_POINTS, y - _MARKER_POINTS, x + _MARKER_POINTS, y + _MARKER_POINTS)
        for x, y in places
    ]
    for k in np.argsort(-places[:, 1], kind="stable").tolist():
        width = _LETTER_WIDTH * _FONT_POINTS * len(names[k])
        boxes = _candidates(width, *places[k])
        clashes = {
            offset: sum(_overlap(box, other) for other in taken)
            + width * _LINE_POINTS
            - _overlap(box, inside)
            for offset, box in boxes.items()
        }
        offset = min(clashes, key=lambda each: clashes[each])
        taken.append(boxes[offset])
        _write(ax, names[k], points[k], offset)


def _candidates(width: float, x: float, y: float) -> dict[tuple[float, float], _Box]:
    """Return the boxes that a name may take, by its offset from its point at (x, y)."""
    boxes: dict[tuple[float, float], _Box] = {}
    for dx, dy in _offsets():
        left = x + dx - (width if dx < 0 else width / 2 if dx == 0 else 0)
        bottom = y + dy - _LINE_POINTS / 2
        boxes[dx, dy] = (left, bottom, left + width, bottom + _LINE_POINTS)
    return boxes


def _offsets() -> Iterator[tuple[float, float]]:
    """Yield the offsets at which a name may stand, the best ones first."""
    for reach in _REACHES_POINTS:
        yield from ((reach, 0), (-reach, 0), (0, reach), (0, -reach))
        yield from ((reach, reach), (reach, -reach), (-reach, reach), (-reach, -reach))


def _write(ax: Axes, name: str, point: tuple[float, float], offset: tuple[float, float]) -> None:
    """Write a name at its offset from its point."""
    dx, dy = offset
    arrow: dict[str, Any] | None = None
    if max(abs(dx), abs(dy)) > _ARROW_POINTS:
        arrow = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
    text = ax.annotate(
        name,
        point,
        xytext=offset,
        textcoords="offset points",
        fontsize=_FONT_POINTS,
        ha="right" if dx < 0 else "center" if dx == 0 else "left",
        va="center",
        arrowprops=arrow,
        zorder=4,
    )
    text.set_in_layout(False)  # or the margins would move under the names


def _overlap(a: _Box, b: _Box) -> float:
    """Return the area that two boxes share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)
