"""The picture of a network's linear regions, coloured by the norm of the Jacobian."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from lipexact.bounds.crown_batched import slices
from lipexact.bounds.formulation import checked_norm_sets
from lipexact.loading import load
from lipexact.network import Network
from lipexact.numerics.arrays import Vector
from lipexact.plot.polygons import Polygon, linear_regions
from lipexact.plot.style import VERMILION, get_axes, require_matplotlib
from lipexact.regions.operator_norm import estimate_norms
from lipexact.result import EXACT_GAP, LipschitzResult, Witness
from lipexact.sets.domain import Domain
from lipexact.sets.functionals import Functional
from lipexact.sets.norms import Norm
from lipexact.sets.unit_balls import SymmetricSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOUR_MAP = "cividis"
_MANY_REGIONS = 2000  # from here on their edges are thin
_MAX_VERTICES = 4096  # of a symmetric set, for norms that are computed by its vertices
_MAX_ARRAY_NUMBERS = 2**22  # of derivatives that are made at once


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
    """Draw the linear regions of a network with two inputs, coloured by the norm of the Jacobian.

    Where both norms have more than 4096 vertices and are not Euclidean (as l2 to l1 with 14
    outputs), the norms are estimates from below.

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
    require_matplotlib()
    network = load(model)
    polygons = linear_regions(network, domain)
    norm_sets = checked_norm_sets(network, domain, input_norm, output_norm, functional)
    centres = np.array([polygon.mean(axis=0) for polygon in polygons])
    jacobians = network.jacobian(centres).reshape(len(polygons), -1, 2)
    ax = get_axes(ax)
    _draw_polygons(ax, polygons, jacobian_norms(jacobians, *norm_sets))
    ax.set_xlim(domain.lower[0], domain.upper[0])
    ax.set_ylim(domain.lower[1], domain.upper[1])
    ax.set_aspect("equal" if 0.2 < np.divide(*(domain.upper - domain.lower)) < 5 else "auto")
    if result is not None and result.witness is not None:
        _draw_witness(ax, result.witness, result.lower)
    ax.set_xlabel("input 0")
    ax.set_ylabel("input 1")
    return ax


def _draw_polygons(ax: Axes, polygons: list[Polygon], norms: Vector) -> None:
    """Draw polygons in the colours of the norms, and a bar that tells which is which."""
    from matplotlib.collections import PolyCollection  # noqa: PLC0415 - an extra

    width = 0.4 if len(polygons) < _MANY_REGIONS else 0.1
    shapes = PolyCollection(
        polygons, array=norms, cmap=_COLOUR_MAP, edgecolor="white", linewidth=width
    )
    if norms.max() - norms.min() <= EXACT_GAP * norms.max():
        shapes.set_clim(0, norms.max() or 1.0)  # one colour, on a scale from 0
    ax.add_collection(shapes)
    figure: Any = ax.figure
    figure.colorbar(shapes, ax=ax, label="norm of the Jacobian (output per input)")


def _draw_witness(ax: Axes, witness: Witness, norm: float) -> None:
    """Draw a star at the witness, and the square around it that lies in its region."""
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - an extra

    x, y = witness.point
    radius = witness.radius
    square: dict[str, Any] = {"fill": False, "edgecolor": VERMILION, "linewidth": 1.2}
    ax.add_patch(Rectangle((x - radius, y - radius), 2 * radius, 2 * radius, **square))
    star: dict[str, Any] = {
        "marker": "*",
        "markersize": 13,
        "markerfacecolor": VERMILION,
        "markeredgecolor": "white",
    }
    ax.plot(x, y, linestyle="none", label=f"witness, norm {norm:.6g}", **star)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def jacobian_norms(
    jacobians: Vector, functionals: SymmetricSet, directions: SymmetricSet
) -> Vector:
    """Return the operator norms of Jacobians of shape (k, m, 2).

    They are computed by the vertices of one set where it has few enough: estimates may end in a
    local maximum, as from l2 to l1.
    """
    vertices = min(functionals.vertex_count, directions.vertex_count, _MAX_VERTICES)
    step = max(_MAX_ARRAY_NUMBERS // int(vertices * jacobians[0].size), 1)
    norms = [
        estimate_norms(jacobians[part], functionals, directions, max_vertices=_MAX_VERTICES)
        for part in slices(len(jacobians), step)
    ]
    return np.concatenate(norms)
