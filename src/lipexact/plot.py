"""Pictures of solves, regions, radii, training and estimators, by matplotlib: ``pip install 'lipexact[plot]'``.

Every function draws into `ax`, or a new figure, and returns the axes; nothing is shown, saved or set globally. What
colours say, markers and lines say, too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from lipexact.api import load
from lipexact.arrays import Vector
from lipexact.bracket import Progress
from lipexact.domains import Domain
from lipexact.errors import ModelError, OptionError
from lipexact.functionals import Functional
from lipexact.graph.evaluate import evaluate
from lipexact.matrix_norm import estimate
from lipexact.network import Network
from lipexact.norms import Norm
from lipexact.problem import check_domain
from lipexact.programs import bodies_of
from lipexact.result import EXACT_GAP, LipschitzResult, Status
from lipexact.robustness import CertifiedRadius

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind readers tell apart.
_BLUE, _ORANGE, _GREEN, _VERMILION, _BLACK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#000000"
_CURVES = ((_BLUE, "o"), (_VERMILION, "s"), (_GREEN, "^"), (_ORANGE, "D"), (_BLACK, "v"))
_CURVE = "lipexact-training"
_MAP = "cividis"
_SIZE = (6.4, 4.2)  # inches
_WIDE = 30.0  # spans of numbers from which on an axis is logarithmic
_NARROW = 1e-3  # relative: closer bounds are one line, on an axis from 0
_MOST_REGIONS = 20_000
_ROUNDING = 1e-10  # relative to a neuron's largest value: nearer to 0 is 0

# By guarantees: marker, colour, and what the legend says.
_KINDS = {
    "lower": ("^", _BLUE, "lower bound"),
    "upper": ("v", _VERMILION, "upper bound"),
    "heuristic": ("o", _ORANGE, "heuristic"),
    "exact": ("*", _BLACK, "exact"),
}

Polygon: TypeAlias = Vector


def bounds(history: Sequence[Progress], result: LipschitzResult | None = None, ax: Axes | None = None) -> Axes:
    """The two bounds of a solve over time.

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
    moments = [(each.seconds, each.incumbent or 0.0, _number(each.bound)) for each in history]
    if result is not None:
        moments.append((result.seconds, result.lower, result.upper))
    if not moments:
        raise OptionError(
            "no bounds to draw: collect them by lipschitz(..., progress=history.append), or give the result"
        )
    seconds, lower, upper = (np.array(column) for column in zip(*moments, strict=True))
    lower, upper = np.maximum.accumulate(lower), np.fmin.accumulate(upper)
    ax = _axes(ax)
    ax.step(
        seconds, upper, where="post", color=_VERMILION, linestyle="-", marker="v", markersize=4, label="upper bound"
    )
    ax.step(seconds, lower, where="post", color=_BLUE, linestyle="--", marker="^", markersize=4, label="lower bound")
    ax.fill_between(seconds, lower, upper, step="post", color=_BLACK, alpha=0.08, linewidth=0)
    if result is not None and result.status is Status.EXACT:
        ax.axhline(result.value, color=_BLACK, linestyle=":", linewidth=1, label=f"constant {result.value:.6g}")
    if len(seconds) > 1 and seconds[0] > 0 and seconds[-1] > _WIDE * seconds[0]:
        ax.set_xscale("log")
    known = upper[np.isfinite(upper)]
    if known.size and known.max() > _WIDE * max(known.min(), 1e-300) > 0 and (lower[lower > 0]).size:
        ax.set_yscale("log")
    elif known.size and known.max() - lower.min() < _NARROW * known.max():
        ax.set_ylim(0, 1.3 * known.max())
    ax.set_xlabel("time (s)")
    ax.set_ylabel("Lipschitz constant")
    ax.legend(frameon=False)
    return ax


def regions(
    model: str | os.PathLike[str] | Network | Any,
    domain: Domain,
    result: LipschitzResult | None = None,
    *,
    input_norm: str | Norm = "linf",
    output_norm: str | Norm | None = None,
    functional: Functional = None,
    ax: Axes | None = None,
) -> Axes:
    """The linear regions of a network with two inputs, coloured by the norm of the Jacobian.

    Parameters
    ----------
    model, domain, input_norm, output_norm, functional
        As for :func:`lipexact.lipschitz`; d = 2.
    result
        Whose witness is marked, with the ball in which it is known to stay in its region.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ModelError
        If the network has other than two inputs, or too many regions to draw.
    DomainError, NormError
        As for :func:`lipexact.lipschitz`; the domain is bounded.
    OptionError
        If matplotlib is missing.
    """
    network = load(model)
    polygons = linear_regions(network, domain)
    functionals, directions = bodies_of(network, domain, input_norm, output_norm, functional)
    centres = np.array([polygon.mean(axis=0) for polygon in polygons])
    norms = estimate(network.jacobian(centres).reshape(len(polygons), -1, 2), functionals, directions)
    ax = _axes(ax)
    from matplotlib.collections import PolyCollection  # noqa: PLC0415 - an extra
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    width = 0.4 if len(polygons) < 2000 else 0.1
    shapes = PolyCollection(polygons, array=norms, cmap=_MAP, edgecolor="white", linewidth=width)
    ax.add_collection(shapes)
    ax.set_xlim(domain.lower[0], domain.upper[0])
    ax.set_ylim(domain.lower[1], domain.upper[1])
    ax.set_aspect("equal" if 0.2 < np.divide(*(domain.upper - domain.lower)) < 5 else "auto")
    figure: Any = ax.figure
    figure.colorbar(shapes, ax=ax, label="norm of the Jacobian (output per input)")
    if result is not None and result.witness is not None:
        point, radius = result.witness.point, result.witness.radius
        corner = point[0] - radius, point[1] - radius
        ax.add_patch(Rectangle(corner, 2 * radius, 2 * radius, fill=False, edgecolor=_VERMILION, linewidth=1.2))
        label = f"witness, norm {result.lower:.6g}"
        star: dict[str, Any] = {
            "marker": "*",
            "markersize": 13,
            "markerfacecolor": _VERMILION,
            "markeredgecolor": "white",
        }
        ax.plot(point[0], point[1], linestyle="none", label=label, **star)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    ax.set_xlabel("input 0")
    ax.set_ylabel("input 1")
    return ax


def linear_regions(network: Network, domain: Domain) -> list[Polygon]:
    """The linear regions of a network with two inputs, as polygons.

    The domain is cut along the kinks of one layer of gates after the other: on a polygon on which all earlier gates are
    settled, what a gate reads is affine, and known by its values at the vertices.

    Parameters
    ----------
    network
        f: R^2 -> R^m.
    domain
        A bounded domain.

    Returns
    -------
    list of numpy.ndarray
        Vertices in their order around each region, shape (k, 2). Parts of one region that a kink of a neuron without
        weight in the output divides are several.

    Raises
    ------
    ModelError
        If d is not 2, or there are more than 20,000.
    DomainError
        If the domain is all of R^2, or of another dimension.
    """
    check_domain(network, domain)
    if network.input.size != 2:
        raise ModelError(f"regions are drawn of networks with two inputs, not {network.input.size}")
    polygons = [_polygon(domain)]
    for gate in network.gates:
        corners = np.vstack(polygons)
        values = evaluate(network.graph, {network.input: corners})[gate.x]
        scale = _ROUNDING * np.abs(values).max(axis=0)
        ends = np.cumsum([len(polygon) for polygon in polygons])[:-1]
        # The values at a vertex are columns beside its coordinates: cuts interpolate both.
        pieces = np.split(np.hstack([corners, values]), ends)
        for neuron in range(gate.size):
            pieces = [part for piece in pieces for part in _cut(piece, 2 + neuron, float(scale[neuron]))]
            if len(pieces) > _MOST_REGIONS:
                raise ModelError(f"more than {_MOST_REGIONS} linear regions are not drawn: take a smaller domain")
        polygons = [piece[:, :2] for piece in pieces]
    return polygons


def radius(certified: CertifiedRadius, ax: Axes | None = None) -> Axes:
    """How a radius was certified: constants of the margins on balls of the radii that were tried, against 1 / r.

    A decision holds within r while the local constant of the margins, each divided by its value at x, is at most 1 / r.

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
    steps = sorted(certified.steps, key=lambda step: step.radius)
    steps = [step for step in steps if np.isfinite(step.radius) and np.isfinite(step.result.upper)]
    if not steps:
        raise OptionError("no radius was tried: there is nothing to draw")
    radii = np.array([step.radius for step in steps])
    ax = _axes(ax)
    line = np.geomspace(radii.min() / 1.5, radii.max() * 1.5, 200)
    ax.plot(line, 1 / line, color=_BLACK, linestyle="--", linewidth=1, label="1 / r: certified below")
    kinds = {True: ("o", _GREEN, "certified"), False: ("x", _VERMILION, "not certified"), None: ("s", _ORANGE, "open")}
    for kind, (marker, colour, label) in kinds.items():
        chosen = [step for step in steps if step.certified is kind]
        if not chosen:
            continue
        x = [step.radius for step in chosen]
        lower, upper = ([getattr(step.result, side) for step in chosen] for side in ("lower", "upper"))
        ax.vlines(x, lower, upper, color=colour, linewidth=2, alpha=0.6)
        ax.plot(x, upper, linestyle="none", marker=marker, color=colour, label=label)
    if 0 < certified.radius < np.inf:
        ax.axvline(certified.radius, color=_BLUE, linewidth=1, label=f"certified radius {certified.radius:.4g}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    _plain_ticks(ax)
    ax.set_xlabel("radius r of the ball around x (input units)")
    ax.set_ylabel("constant of the margins / margin at x\n(1 / input units)")
    ax.legend(frameon=False)
    return ax


def training(
    steps: Sequence[float],
    results: Sequence[LipschitzResult | tuple[float, float]],
    ax: Axes | None = None,
    *,
    label: str = "Lipschitz constant",
    xlabel: str = "epoch",
) -> Axes:
    """The constant over training: points where it is exact, bars where it is an interval.

    Parameters
    ----------
    steps
        When, shape (k,).
    results
        The constant at each, or pairs of a lower and an upper bound.
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
        If the lengths differ, or are 0, or matplotlib is missing.
    """
    pairs = [(each.lower, each.upper) if isinstance(each, LipschitzResult) else each for each in results]
    if len(steps) != len(pairs) or not pairs:
        raise OptionError(f"{len(steps)} steps and {len(pairs)} results: give one result for each of one step or more")
    when, (lower, upper) = np.asarray(steps, dtype=np.float64), np.array(pairs, dtype=np.float64).T
    exact = upper - lower <= EXACT_GAP * upper
    ax = _axes(ax)
    middle = np.where(exact, lower, (lower + upper) / 2)
    number = sum(line.get_gid() == _CURVE for line in ax.lines)
    colour, marker = _CURVES[number % len(_CURVES)]
    ax.plot(when, middle, linewidth=1.2, color=colour, gid=_CURVE)
    ax.fill_between(when, lower, upper, color=colour, alpha=0.15, linewidth=0)
    ax.plot(when[exact], lower[exact], linestyle="none", marker=marker, color=colour, label=label)
    if not exact.all():
        bars = np.stack([middle - lower, upper - middle])[:, ~exact]
        hollow: dict[str, Any] = {"marker": marker, "markerfacecolor": "white", "color": colour, "capsize": 3}
        ax.errorbar(when[~exact], middle[~exact], bars, linestyle="none", label=f"{label}: an interval", **hollow)
    if lower.min() > 0 and upper.max() > _WIDE * lower.min():
        ax.set_yscale("log")
    ax.set_xlabel(xlabel)
    ax.set_ylabel("Lipschitz constant (output per input)")
    ax.legend(frameon=False)
    return ax


class ErrorRow(Protocol):
    """What :func:`errors` draws of an estimator: those of :class:`lipexact.comparison.Row`."""

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
    """Relative error against time, both logarithmic, with markers by guarantee.

    Parameters
    ----------
    rows
        Of a :class:`lipexact.Comparison`. Errors of at most 1e-9 are drawn on the line at the bottom.
    ax
        Where to draw; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    OptionError
        If there is no error to draw, or matplotlib is missing.
    """
    shown = [(row, float(row.error)) for row in rows if row.error is not None and np.isfinite(row.error)]
    if not shown:
        raise OptionError("no estimator has a finite relative error: compare with the method 'exact' among them")
    ax = _axes(ax)
    floor = min(1e-4, min((error for _, error in shown if error > EXACT_GAP), default=1e-4) / 5)
    points = [(max(row.seconds, 1e-6), floor if error <= EXACT_GAP else error) for row, error in shown]
    for kind, (marker, colour, label) in _KINDS.items():
        x, y = (
            [point[k] for (row, _), point in zip(shown, points, strict=True) if row.guarantee == kind] for k in (0, 1)
        )
        if x:
            edge: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.6}
            ax.scatter(
                x, y, s=90 if kind == "exact" else 55, marker=marker, color=colour, label=label, zorder=3, **edge
            )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.margins(0.16)
    ax.axhline(floor, color=_BLACK, linestyle=":", linewidth=0.8, zorder=1)
    ax.set_ylim(floor / 3, max(y for _, y in points) * 4)
    decades = 10.0 ** np.arange(np.ceil(np.log10(2 * floor)), np.ceil(np.log10(ax.get_ylim()[1])))
    ax.set_yticks([floor, *decades], [f"< {EXACT_GAP:g}", *(f"{decade:g}" for decade in decades)])
    ax.minorticks_off()
    _labelled(ax, [row.method for row, _ in shown], points, floor)
    ax.set_xlabel("time (s)")
    ax.set_ylabel("relative error")
    ax.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(_KINDS))
    return ax


def _plain_ticks(ax: Axes) -> None:
    """Numbers without powers on logarithmic axes of about one decade."""
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}" if high < 8 * low else "")


def _labelled(ax: Axes, names: Sequence[str], points: Sequence[tuple[float, float]], floor: float) -> None:
    """Names beside points, each where it covers no other name or point, nor the line at the bottom."""
    size = 7.5
    figure: Any = ax.figure
    figure.canvas.draw()  # so that margins are known
    pixels = ax.transData.transform(points) * 72 / figure.dpi
    line = float(ax.transData.transform((points[0][0], floor))[1] * 72 / figure.dpi)
    taken = [(-1e6, line - 1, 1e6, line + 1), *((x - 4, y - 4, x + 4, y + 4) for x, y in pixels)]
    window = ax.get_window_extent()
    inside = [each * 72 / figure.dpi for each in (window.x0, window.y0, window.x1, window.y1)]
    places = [(dx, dy) for reach in (7, 16, 26, 38, 52) for dx, dy in _around(reach)]
    for k in np.argsort(-pixels[:, 1], kind="stable").tolist():
        (x, y), width, height = pixels[k], 0.56 * size * len(names[k]), 1.15 * size
        boxes = {
            (dx, dy): (x + dx - (width if dx < 0 else width / 2 if dx == 0 else 0), y + dy - height / 2, width, height)
            for dx, dy in places
        }
        corners = {place: (a, b, a + w, b + h) for place, (a, b, w, h) in boxes.items()}
        clashes = {
            place: sum(_overlap(box, other) for other in taken) + width * height - _overlap(box, inside)
            for place, box in corners.items()
        }
        (dx, dy) = min(places, key=lambda place: clashes[place])
        taken.append(corners[dx, dy])
        side = "right" if dx < 0 else "center" if dx == 0 else "left"
        far = max(abs(dx), abs(dy)) > 10
        arrow: dict[str, Any] | None = (
            {"arrowstyle": "-", "color": "0.6", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3} if far else None
        )
        ax.annotate(names[k], points[k], xytext=(dx, dy), textcoords="offset points", fontsize=size, ha=side,
                    va="center", arrowprops=arrow, zorder=4)  # fmt: skip


def _around(reach: float) -> list[tuple[float, float]]:
    return [
        (reach, 0),
        (-reach, 0),
        (0, reach),
        (0, -reach),
        (reach, reach),
        (reach, -reach),
        (-reach, reach),
        (-reach, -reach),
    ]


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _polygon(domain: Domain) -> Polygon:
    """A bounded domain in two dimensions by its vertices."""
    (left, bottom), (right, top) = domain.lower, domain.upper
    polygon = np.array([[left, bottom], [right, bottom], [right, top], [left, top]])
    sides = [(row, limit) for row, limit in zip(domain.rows, domain.limits, strict=True)]
    for center, reach in domain.balls:  # of the norm l1
        sides += [(np.array(signs), reach + center @ signs) for signs in ((1.0, 1), (1.0, -1), (-1.0, 1), (-1.0, -1))]
    for row, limit in sides:
        values = limit - polygon @ row
        polygon = _cut(np.column_stack([polygon, values]), 2, _ROUNDING * float(np.abs(values).max()))[0][:, :2]
    return polygon


def _cut(piece: Vector, column: int, nothing: float) -> list[Vector]:
    """The parts of a polygon where a column is positive, and where it is negative; of vertices (rows) in their order.

    Values of at most `nothing` count as 0.
    """
    values = piece[:, column]
    above, below = values > nothing, values < -nothing
    if not (above.any() and below.any()):
        return [piece]
    following = np.roll(piece, -1, axis=0)
    after = np.roll(values, -1)
    crossing = (above & (after < -nothing)) | (below & (after > nothing))
    share = np.divide(values, values - after, out=np.zeros_like(values), where=crossing)[:, None]
    between = piece + share * (following - piece)
    parts: list[npt.NDArray[np.float64]] = []
    for out in (below, above):
        rows = [row for k in range(len(piece)) for row in _corner(piece[k], between[k], not out[k], bool(crossing[k]))]
        parts.append(np.array(rows))
    return parts


def _corner(vertex: Vector, crossing: Vector, kept: bool, crossed: bool) -> list[Vector]:
    return [each for each, wanted in ((vertex, kept), (crossing, crossed)) if wanted]


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _axes(ax: Axes | None) -> Axes:
    """The axes that were given, or new ones.

    Raises
    ------
    OptionError
        If matplotlib is missing.
    """
    try:
        from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra
    except ImportError:
        raise OptionError("pictures need matplotlib: pip install 'lipexact[plot]'") from None
    if ax is not None:
        return ax
    _, made = plt.subplots(figsize=_SIZE, layout="constrained")
    return made
