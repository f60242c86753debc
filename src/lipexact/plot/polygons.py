"""The linear regions of networks with two inputs, as polygons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np
from typing_extensions import assert_never

from lipexact.errors import ModelError
from lipexact.graph.evaluate import evaluate
from lipexact.graph.ir import Affine, Conditional, Graph, Input, Node, Switch
from lipexact.network import Network
from lipexact.numerics.arrays import Vector
from lipexact.problem.problem import check_domain
from lipexact.sets.domain import Domain

_MAX_REGIONS = 20_000  # more are not to be told apart in a picture
_POLYGONS_AT_ONCE = 512  # whose vertices are evaluated together
# Relative to a neuron's largest value on a polygon: nearer to 0 is 0, or there would be slivers.
_THIN = 1e-10
# Relative to the sum of the absolute values behind a number: less is rounding.
_ROUNDING = 2.0**-46

# Vertices in their order around a region, shape (k, 2).
Polygon: TypeAlias = Vector


def linear_regions(network: Network, domain: Domain) -> list[Polygon]:
    """Return the linear regions of a network with two inputs, as polygons.

    The domain is cut along the kinks of one layer of gates after the other: on a polygon on which
    all earlier gates are fixed, a gate's pre-activation is affine, and known by its values at the
    vertices. Cuts are made in floating-point arithmetic: regions too thin for it are missing, which
    no picture would show.

    Parameters
    ----------
    network
        f: R^2 -> R^m.
    domain
        A bounded domain.

    Returns
    -------
    list of numpy.ndarray
        Vertices in their order around each region, shape (k, 2): one polygon for each pattern of
        the gates, even where a kink leaves no trace in the output.

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
    polygons = [_domain_polygon(domain)]
    for gate in network.gates:
        pieces: list[Polygon] = []
        for start in range(0, len(polygons), _POLYGONS_AT_ONCE):
            chunk = polygons[start : start + _POLYGONS_AT_ONCE]
            for part in _cut_by_gate(network, gate.x, chunk):
                pieces.append(part)
                if len(pieces) > _MAX_REGIONS:
                    told = f"more than {_MAX_REGIONS} linear regions are not drawn"
                    raise ModelError(f"{told}: take a smaller domain")
        polygons = pieces
    return polygons


def _cut_by_gate(
    network: Network, pre_activation: Node, polygons: list[Polygon]
) -> Iterator[Polygon]:
    """Yield the parts of polygons on each of which no entry of a node changes sign."""
    corners = np.vstack(polygons)
    values = evaluate(network.graph, {network.input: corners})
    rounding = _ROUNDING * _magnitudes(network.graph, values)[pre_activation]
    ends = np.cumsum([len(polygon) for polygon in polygons])[:-1]
    # What is known at a vertex are columns beside its coordinates: cuts interpolate all of them.
    table = np.hstack([corners, values[pre_activation], rounding])
    for piece in np.split(table, ends):
        yield from _parts_of_one_sign(piece)


def _parts_of_one_sign(piece: Vector) -> Iterator[Polygon]:
    """Yield the parts of a polygon on each of which no neuron changes sign.

    Rows are vertices; columns are two coordinates, the neurons' values, and how much of each may be
    rounding.
    """
    todo = [piece]
    while todo:
        piece = todo.pop()
        values, rounding = np.split(piece[:, 2:], 2, axis=1)
        zero = np.maximum(rounding, _THIN * np.abs(values).max(axis=0))
        crossed = (values > zero).any(axis=0) & (values < -zero).any(axis=0)
        if not crossed.any():
            yield piece[:, :2]
            continue
        first = int(crossed.argmax())
        # A neuron that keeps its sign here keeps it on all parts.
        kept = np.concatenate([[True, True], crossed, crossed])
        todo += [part[:, kept] for part in _cut(piece, 2 + first, zero[:, first])]


def _magnitudes(graph: Graph, values: Mapping[Node, Vector]) -> dict[Node, Vector]:
    """Return the sums of the absolute values behind each node's, of the same shapes.

    Rounding is in proportion to them.
    """
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
                # It counts as on where rounding may have hidden that it is.
                sizes[node] = (values[node.x] > -_ROUNDING * sizes[node.x]).astype(np.float64)
            case Switch():
                sizes[node] = sizes[node.x] * sizes[node.gate]
            case _:
                assert_never(node)
    return sizes


def _domain_polygon(domain: Domain) -> Polygon:
    """Return a bounded domain in two dimensions by its vertices."""
    (left, bottom), (right, top) = domain.lower, domain.upper
    polygon = np.array([[left, bottom], [right, bottom], [right, top], [left, top]])
    sides = list(zip(domain.rows, domain.limits, strict=True))
    for center, reach in domain.balls:  # of the norm l1
        signs = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        sides += [(row, reach + center @ row) for row in signs]
    for row, limit in sides:
        values = limit - polygon @ row
        zero = _THIN * np.abs(values).max()
        polygon = _cut(np.column_stack([polygon, values]), 2, zero)[0][:, :2]
    return polygon


def _cut(piece: Vector, column: int, zero: Vector) -> list[Vector]:
    """Return the parts of a polygon where a column is positive, and where it is negative.

    Rows are vertices in their order; on an edge between two of them all columns are affine, and so
    its point where the column is 0 has the share v / (v - w) of the step from the first vertex,
    with the values v and w of the column at both.

    Parameters
    ----------
    piece
        The polygon, shape (k, 2 + n).
    column
        The column by whose sign it is cut.
    zero
        Values of at most this, one number or one for each vertex, count as 0.

    Examples
    --------
    A square whose column is its first coordinate less 0.25 is cut at 0.25:

    >>> square = np.array([[0, 0, -0.25], [1, 0, 0.75], [1, 1, 0.75], [0, 1, -0.25]])
    >>> right, left = _cut(square, 2, 0.0)
    >>> left[:, :2].tolist()
    [[0.0, 0.0], [0.25, 0.0], [0.25, 1.0], [0.0, 1.0]]
    """
    values = piece[:, column]
    above = values > zero
    below = values < -zero
    if not (above.any() and below.any()):
        return [piece]
    following = np.roll(piece, -1, axis=0)
    after = following[:, column]
    crossing = (above & np.roll(below, -1)) | (below & np.roll(above, -1))
    share = np.divide(values, values - after, out=np.zeros_like(values), where=crossing)[:, None]
    between = piece + share * (following - piece)
    both = np.stack([piece, between], axis=1).reshape(2 * len(piece), -1)
    return [both[np.column_stack([~out, crossing]).ravel()] for out in (below, above)]
