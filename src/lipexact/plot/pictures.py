"""Pictures of solves, regions, radii, training and estimators, by matplotlib: ``pip install 'lipexact[plot]'``.

Every function draws into `ax`, or a new figure, and returns the axes; nothing is shown, saved or set globally. What
colours say, markers and lines say, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from typing_extensions import assert_never

from lipexact.bounds.crown_batched import slices
from lipexact.bounds.formulation import checked_norm_sets
from lipexact.errors import ModelError, OptionError
from lipexact.graph.evaluate import evaluate
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch
from lipexact.loading import load
from lipexact.network import Network
from lipexact.numerics.arrays import Vector, floats
from lipexact.problem.problem import check_domain
from lipexact.regions.operator_norm import estimate_norms
from lipexact.result import EXACT_GAP, LipschitzResult, Status
from lipexact.robustness import CertifiedRadius
from lipexact.sets.domains import Domain
from lipexact.sets.functionals import Functional
from lipexact.sets.norms import Norm
from lipexact.sets.unit_balls import SymmetricSet
from lipexact.state import Progress

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
_THIN = 1e-10  # relative to a neuron's largest value on a polygon: nearer to 0 is 0, or there would be slivers
_ROUNDING = 2.0**-46  # relative to the sum of the absolute values behind a number: less is rounding
_CHUNK = 512  # polygons whose vertices are evaluated at once
_MOST_VERTICES = 4096  # of a body, for norms by its vertices
_NUMBERS = 2**22  # of derivatives that are made at once

# By guarantees: marker, its area in square points, colour, and what the legend says. None covers all of one below it.
_KINDS = {
    "upper": ("v", 70, _VERMILION, "upper bound"),
    "lower": ("^", 70, _BLUE, "lower bound"),
    "exact": ("*", 80, _BLACK, "exact"),
    "heuristic": ("o", 22, _ORANGE, "heuristic"),
}
_MOST_DECADES = 10  # with a number each

Polygon: TypeAlias = Vector


def bounds(
    history: Sequence[Progress], result: LipschitzResult | None = None, ax: Axes | None = None
) -> Axes:
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
        seconds,
        upper,
        where="post",
        color=_VERMILION,
        linestyle="-",
        marker="v",
        markersize=4,
        label="upper bound",
    )
    ax.step(
        seconds,
        lower,
        where="post",
        color=_BLUE,
        linestyle="--",
        marker="^",
        markersize=4,
        label="lower bound",
    )
    ax.fill_between(seconds, lower, upper, step="post", color=_BLACK, alpha=0.08, linewidth=0)
    if result is not None and result.status is Status.EXACT:
        ax.axhline(
            result.value,
            color=_BLACK,
            linestyle=":",
            linewidth=1,
            label=f"constant {result.value:.6g}",
        )
    if len(seconds) > 1 and seconds[0] > 0 and seconds[-1] > _WIDE * seconds[0]:
        ax.set_xscale("log")
    known = upper[np.isfinite(upper)]
    if (
        known.size
        and known.max() > _WIDE * max(known.min(), 1e-300) > 0
        and (lower[lower > 0]).size
    ):
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

    Where both norms have more than 4096 vertices and are not Euclidean (as l2 to l1 with 14 outputs), the norms are
    estimates from below.

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
    _matplotlib()
    network = load(model)
    polygons = linear_regions(network, domain)
    functionals, directions = checked_norm_sets(
        network, domain, input_norm, output_norm, functional
    )
    centres = np.array([polygon.mean(axis=0) for polygon in polygons])
    norms = _norms(network.jacobian(centres).reshape(len(polygons), -1, 2), functionals, directions)
    ax = _axes(ax)
    from matplotlib.collections import PolyCollection  # noqa: PLC0415 - an extra
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    width = 0.4 if len(polygons) < 2000 else 0.1
    shapes = PolyCollection(polygons, array=norms, cmap=_MAP, edgecolor="white", linewidth=width)
    if norms.max() - norms.min() <= EXACT_GAP * norms.max():
        shapes.set_clim(0, norms.max() or 1.0)  # one colour, on a scale from 0
    ax.add_collection(shapes)
    ax.set_xlim(domain.lower[0], domain.upper[0])
    ax.set_ylim(domain.lower[1], domain.upper[1])
    ax.set_aspect("equal" if 0.2 < np.divide(*(domain.upper - domain.lower)) < 5 else "auto")
    figure: Any = ax.figure
    figure.colorbar(shapes, ax=ax, label="norm of the Jacobian (output per input)")
    if result is not None and result.witness is not None:
        point, radius = result.witness.point, result.witness.radius
        corner = point[0] - radius, point[1] - radius
        ax.add_patch(
            Rectangle(
                corner, 2 * radius, 2 * radius, fill=False, edgecolor=_VERMILION, linewidth=1.2
            )
        )
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
    settled, what a gate reads is affine, and known by its values at the vertices. Cuts are made in floating-point
    arithmetic: regions too thin for it are missing, which no picture would show.

    Parameters
    ----------
    network
        f: R^2 -> R^m.
    domain
        A bounded domain.

    Returns
    -------
    list of numpy.ndarray
        Vertices in their order around each region, shape (k, 2): one polygon for each pattern of the gates, even where
        a kink leaves no trace in the output.

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
        pieces: list[Polygon] = []
        for start in range(0, len(polygons), _CHUNK):
            chunk = polygons[start : start + _CHUNK]
            corners = np.vstack(chunk)
            values = evaluate(network.graph, {network.input: corners})
            lost = _ROUNDING * _magnitudes(network.graph, values)[gate.x]
            ends = np.cumsum([len(polygon) for polygon in chunk])[:-1]
            # What is known at a vertex are columns beside its coordinates: cuts interpolate all of them.
            for piece in np.split(np.hstack([corners, values[gate.x], lost]), ends):
                for part in _settled(piece):
                    pieces.append(part)
                    if len(pieces) > _MOST_REGIONS:
                        raise ModelError(
                            f"more than {_MOST_REGIONS} linear regions are not drawn: take a smaller domain"
                        )
        polygons = pieces
    return polygons


def _settled(piece: Vector) -> Iterator[Polygon]:
    """The parts of a polygon on each of which no neuron changes sign.

    Rows are vertices; columns are two coordinates, the neurons' values, and how much of each may be rounding.
    """
    todo = [piece]
    while todo:
        piece = todo.pop()
        values, lost = np.split(piece[:, 2:], 2, axis=1)
        nothing = np.maximum(lost, _THIN * np.abs(values).max(axis=0))
        crossed = (values > nothing).any(axis=0) & (values < -nothing).any(axis=0)
        if not crossed.any():
            yield piece[:, :2]
            continue
        first = int(crossed.argmax())
        # A neuron that keeps its sign here keeps it on all parts.
        kept = np.concatenate([[True, True], crossed, crossed])
        todo += [part[:, kept] for part in _cut(piece, 2 + first, nothing[:, first])]


def _magnitudes(graph: Graph, values: Mapping[Node, Vector]) -> dict[Node, Vector]:
    """The sums of the absolute values behind each node's, shapes as those: rounding is in proportion to them."""
    sizes: dict[Node, Vector] = {}
    for node in graph.nodes:
        match node:
            case Input():
                sizes[node] = np.abs(values[node])
            case Affine():
                total = np.abs(node.bias)[None, :]
                for weight, x in node.terms:
                    total = total + (abs(weight) @ sizes[x].T).T
                sizes[node] = total
            case Conditional():
                # On where rounding may have hidden that it is.
                sizes[node] = (values[node.x] > -_ROUNDING * sizes[node.x]).astype(np.float64)
            case Switch():
                sizes[node] = sizes[node.x] * sizes[node.gate]
            case _:
                assert_never(node)
    return sizes


def _norms(jacobians: Vector, functionals: SymmetricSet, directions: SymmetricSet) -> Vector:
    """The operator norms of Jacobians of shape (k, m, 2).

    By the vertices of one body where it has few enough: estimates may end in a local maximum, as from l2 to l1.
    """
    vertices = min(functionals.vertex_count, directions.vertex_count, _MOST_VERTICES)
    step = max(_NUMBERS // int(vertices * jacobians[0].size), 1)
    parts = slices(len(jacobians), step)
    return np.concatenate(
        [
            estimate_norms(jacobians[part], functionals, directions, max_vertices=_MOST_VERTICES)
            for part in parts
        ]
    )


def radius(certified: CertifiedRadius, ax: Axes | None = None) -> Axes:
    """How a radius was certified: constants of the margins on balls of the radii that were tried, against 1 / r.

    A decision holds within r while the local constant of the margins, each divided by its value at x, is at most 1 / r.
    Each radius that was tried is a bar from the constant's lower to its upper bound, marked at the upper one, by which
    it is certified or not. The certified radii are shaded, and a dotted line is where none above can be certified by a
    local constant.

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
    left, right = float(shown.min()) / 1.5, float(shown.max()) * 1.5
    ax = _axes(ax)
    line = np.geomspace(left, right, 200)
    ax.plot(
        line, 1 / line, color=_BLACK, linestyle="--", linewidth=1, label="1 / r: certified below"
    )
    kinds = {
        True: ("o", _GREEN, "certified"),
        False: ("x", _VERMILION, "not certified"),
        None: ("s", _ORANGE, "open"),
    }
    for kind, (marker, colour, label) in kinds.items():
        chosen = [step for step in steps if step.certified is kind]
        if not chosen:
            continue
        x = [step.radius for step in chosen]
        lower, upper = (
            [getattr(step.result, side) for step in chosen] for side in ("lower", "upper")
        )
        ax.vlines(x, lower, upper, color=colour, linewidth=2, alpha=0.6)
        ax.plot(x, upper, linestyle="none", marker=marker, color=colour, label=label)
    if certified.radius > 0:
        said = f"{certified.radius:.4g}" if np.isfinite(certified.radius) else "infinite"
        ax.axvspan(left, min(certified.radius, right), color=_BLUE, alpha=0.12, linewidth=0)
        ax.axvline(
            min(certified.radius, right), color=_BLUE, linewidth=1, label=f"certified radius {said}"
        )
    if np.isfinite(certified.upper):
        ax.axvline(
            certified.upper,
            color=_BLACK,
            linewidth=1,
            linestyle=":",
            label=f"none above {certified.upper:.4g}",
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(left, right)
    _plain_ticks(ax)
    ax.set_xlabel("radius r of the ball around x (input units)")
    ax.set_ylabel("constant of the margins / margin at x\n(1 / input units)")
    ax.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
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
    pairs = [
        (each.lower, each.upper) if isinstance(each, LipschitzResult) else each for each in results
    ]
    if len(steps) != len(pairs) or not pairs:
        raise OptionError(
            f"{len(steps)} steps and {len(pairs)} results: give one result for each of one step or more"
        )
    when, both = floats(steps, "steps", OptionError), floats(pairs, "results", OptionError)
    if (
        both.shape != (len(when), 2)
        or (both[:, 0] > both[:, 1]).any()
        or not np.isfinite(both[:, 0]).all()
    ):
        raise OptionError(
            "results must be those of lipschitz, or pairs of a lower and an upper bound of it"
        )
    lower, upper = both.T
    unbounded = np.isinf(upper)
    upper = np.where(unbounded, lower, upper)
    exact = ~unbounded & (upper - lower <= EXACT_GAP * upper)
    between = ~exact & ~unbounded
    ax = _axes(ax)
    middle = np.where(exact, lower, lower + (upper - lower) / 2)
    number = sum(line.get_gid() == _CURVE for line in ax.lines)
    colour, marker = _CURVES[number % len(_CURVES)]
    gaps = np.where(unbounded, np.nan, 1.0)  # where there is no interval to draw
    ax.plot(when, gaps * middle, linewidth=1.2, color=colour, gid=_CURVE)
    ax.fill_between(when, gaps * lower, gaps * upper, color=colour, alpha=0.15, linewidth=0)
    ax.plot(when[exact], lower[exact], linestyle="none", marker=marker, color=colour, label=label)
    loose: dict[str, Any] = {"linestyle": "none", "color": colour}
    if between.any():
        bars = np.stack([middle - lower, upper - middle])[:, between]
        told = f"{label}: an interval"
        hollow: dict[str, Any] = {"marker": marker, "markerfacecolor": "white", "capsize": 3}
        ax.errorbar(when[between], middle[between], bars, label=told, **hollow, **loose)
    if unbounded.any():
        told = f"{label}: a lower bound only"
        ax.plot(
            when[unbounded],
            lower[unbounded],
            marker=r"$\uparrow$",
            markersize=11,
            label=told,
            **loose,
        )
    if lower.min() > 0 and upper.max() > _WIDE * lower.min():
        ax.set_yscale("log")
    ax.set_xlabel(xlabel)
    ax.set_ylabel("Lipschitz constant (output per input)")
    ax.legend(frameon=False)
    return ax


class ErrorRow(Protocol):
    """What :func:`errors` draws of an estimator: those of :class:`lipexact.estimators.compare.Row`."""

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
        If there is no error to draw, or a guarantee is none of these, or matplotlib is missing.
    """
    shown = [
        (row, float(row.error)) for row in rows if row.error is not None and np.isfinite(row.error)
    ]
    if not shown:
        raise OptionError(
            "no estimator has a finite relative error: compare with the method 'exact' among them"
        )
    if unknown := {row.guarantee for row, _ in shown} - set(_KINDS):
        raise OptionError(
            f"guarantees are {', '.join(map(repr, _KINDS))}, not {', '.join(map(repr, sorted(unknown)))}"
        )
    ax = _axes(ax)
    floor = min(1e-4, min((error for _, error in shown if error > EXACT_GAP), default=1e-4) / 5)
    points = [
        (max(row.seconds, 1e-6), floor if error <= EXACT_GAP else error) for row, error in shown
    ]
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(floor / 3, max(y for _, y in points) * 4)
    for order, (kind, (marker, size, colour, label)) in enumerate(_KINDS.items()):
        chosen = [
            point for (row, _), point in zip(shown, points, strict=True) if row.guarantee == kind
        ]
        if chosen:
            edge: dict[str, Any] = {
                "edgecolor": "white",
                "linewidth": 0.6,
                "zorder": 3 + order / 10,
            }
            x, y = zip(*chosen, strict=True)
            ax.scatter(x, y, s=size, marker=marker, color=colour, label=label, **edge)
    ax.margins(x=0.16)
    ax.axhline(floor, color=_BLACK, linestyle=":", linewidth=0.8, zorder=1)
    powers = np.arange(np.ceil(np.log10(2 * floor)), np.ceil(np.log10(ax.get_ylim()[1])))
    decades = 10.0 ** powers[:: max(-(-powers.size // _MOST_DECADES), 1)]
    ax.set_yticks([floor, *decades], ["< 1e-9", *(f"{decade:g}" for decade in decades)])
    ax.minorticks_off()
    ax.set_xlabel("time (s)")
    ax.set_ylabel("relative error")
    ax.legend(
        frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(_KINDS)
    )
    _labelled(ax, [row.method for row, _ in shown], points, floor)
    return ax


def _plain_ticks(ax: Axes) -> None:
    """Numbers without powers on logarithmic axes, as many as there is room for."""
    from matplotlib.ticker import LogLocator, MaxNLocator  # noqa: PLC0415 - an extra

    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        span = high / low
        digits = (
            (1.0, 2.0, 3.0, 5.0, 7.0) if span < 30 else (1.0, 2.0, 5.0) if span < 300 else (1.0,)
        )
        axis.set_major_locator(MaxNLocator(6) if span < 5 else LogLocator(subs=digits))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")


def _labelled(
    ax: Axes, names: Sequence[str], points: Sequence[tuple[float, float]], floor: float
) -> None:
    """Names beside points, each where it covers no other name or point, nor the line at the bottom."""
    size = 7.5
    figure: Any = ax.figure
    figure.canvas.figure.draw_without_rendering()  # so that margins are known
    pixels = ax.transData.transform(points) * 72 / figure.dpi
    line = float(ax.transData.transform((points[0][0], floor))[1] * 72 / figure.dpi)
    taken = [(-1e6, line - 1, 1e6, line + 1), *((x - 4, y - 4, x + 4, y + 4) for x, y in pixels)]
    window = ax.get_window_extent()
    inside = [each * 72 / figure.dpi for each in (window.x0, window.y0, window.x1, window.y1)]
    places = [(dx, dy) for reach in (7, 16, 26, 38, 52) for dx, dy in _around(reach)]
    for k in np.argsort(-pixels[:, 1], kind="stable").tolist():
        (x, y), width, height = pixels[k], 0.56 * size * len(names[k]), 1.15 * size
        boxes = {
            (dx, dy): (
                x + dx - (width if dx < 0 else width / 2 if dx == 0 else 0),
                y + dy - height / 2,
                width,
                height,
            )
            for dx, dy in places
        }
        corners = {place: (a, b, a + w, b + h) for place, (a, b, w, h) in boxes.items()}
        clashes = {
            place: sum(_overlap(box, other) for other in taken)
            + width * height
            - _overlap(box, inside)
            for place, box in corners.items()
        }
        (dx, dy) = min(places, key=lambda place: clashes[place])
        taken.append(corners[dx, dy])
        side = "right" if dx < 0 else "center" if dx == 0 else "left"
        far = max(abs(dx), abs(dy)) > 10
        arrow: dict[str, Any] | None = (
            {"arrowstyle": "-", "color": "0.6", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
            if far
            else None
        )
        name = ax.annotate(names[k], points[k], xytext=(dx, dy), textcoords="offset points", fontsize=size, ha=side,
                           va="center", arrowprops=arrow, zorder=4)  # fmt: skip
        name.set_in_layout(False)  # or the margins would move under the names


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
        sides += [
            (np.array(signs), reach + center @ signs)
            for signs in ((1.0, 1), (1.0, -1), (-1.0, 1), (-1.0, -1))
        ]
    for row, limit in sides:
        values = limit - polygon @ row
        polygon = _cut(np.column_stack([polygon, values]), 2, _THIN * np.abs(values).max())[0][
            :, :2
        ]
    return polygon


def _cut(piece: Vector, column: int, nothing: Vector) -> list[Vector]:
    """The parts of a polygon where a column is positive, and where it is negative; of vertices (rows) in their order.

    Values of at most `nothing`, one number or one for each vertex, count as 0.
    """
    values = piece[:, column]
    above, below = values > nothing, values < -nothing
    if not (above.any() and below.any()):
        return [piece]
    following = np.roll(piece, -1, axis=0)
    after = following[:, column]
    crossing = (above & np.roll(below, -1)) | (below & np.roll(above, -1))
    share = np.divide(values, values - after, out=np.zeros_like(values), where=crossing)[:, None]
    between = piece + share * (following - piece)
    both = np.stack([piece, between], axis=1).reshape(2 * len(piece), -1)
    return [both[np.column_stack([~out, crossing]).ravel()] for out in (below, above)]


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _axes(ax: Axes | None) -> Axes:
    """The axes that were given, or new ones."""
    _matplotlib()
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra

    _, made = plt.subplots(figsize=_SIZE, layout="constrained")
    return made


def _matplotlib() -> None:
    """Refuse to go on without it.

    Raises
    ------
    OptionError
    """
    try:
        import_module("matplotlib")
    except ImportError:
        raise OptionError("plots need matplotlib: pip install 'lipexact[plot]'") from None
