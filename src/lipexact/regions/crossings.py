"""Hyperplanes that meet in a higher dimension than general position allows, in Fractions.

Hyperplanes in general position meet in dimension d - k for every k of them, and not at all for
k > d. Three lines of the plane through one point violate that: x = 0, y = 0 and x + y = 0 have the
rank 2, and meet in dimension 2 - 2 = 0, where three lines must not meet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from lipexact.numerics.rational import (
    Numbers,
    hyperplane_intersections,
    row_echelon,
    to_fractions,
)
from lipexact.regions import constants
from lipexact.regions.position_report import Crossing, Neuron
from lipexact.sets.domain import Domain

Point: TypeAlias = tuple[Fraction, ...]


@dataclass(frozen=True)
class CrossingSearch:
    """What :func:`find_crossings` found.

    Attributes
    ----------
    crossings
        Groups of kernels that meet inside the domain in too high a dimension.
    undecided
        Neurons whose kernels touch the border of the domain, or meet there in too high a dimension.
    complete
        False if there were too many kernels to look everywhere.
    """

    crossings: list[Crossing]
    undecided: list[Neuron]
    complete: bool


def find_crossings(kernels: Mapping[Neuron, Numbers], domain: Domain) -> CrossingSearch:
    """Find kernels that meet inside the domain in a higher dimension than they may.

    Parameters
    ----------
    kernels
        Hyperplanes w x + b = 0, as (w_1, ..., w_d, b) in Fractions, none of them equal; at least
        one.
    domain
        X. The sides of its bounding box are taken into account.

    Notes
    -----
    Where dependent hyperplanes, sides included, meet in the closed box, they do so in a vertex: a
    point that d of the hyperplanes determine, with more than d of them through it. So it suffices
    to look at all vertices. Intersections of dimension 1 or more have several vertices, on the
    border of the box; the mean of these may lie inside.
    """
    neurons = list(kernels)
    rows = np.array(list(kernels.values()), dtype=object)
    points, complete = _candidate_points(rows, domain)
    through = _overdetermined(points, rows, domain)
    groups = {a & b for a in set(through.values()) for b in set(through.values())}
    found: dict[frozenset[int], Crossing] = {}
    for group in sorted(groups, key=lambda group: (-len(group), sorted(group))):
        rank = len(row_echelon(rows[sorted(group)], domain.dim))
        if rank == len(group) or any(group <= other for other in found):
            continue
        point = _inner_point([point for point, kinks in through.items() if group <= kinks], domain)
        if point is not None:
            members = tuple(neurons[k] for k in sorted(group))
            found[group] = Crossing(members, domain.dim - rank, point)
    rest = {k for group in groups if not any(group <= other for other in found) for k in group}
    return CrossingSearch(list(found.values()), [neurons[k] for k in sorted(rest)], complete)


def _candidate_points(rows: Numbers, domain: Domain) -> tuple[Iterable[Point], bool]:
    """Return points in which too many hyperplanes may meet, and whether these are all.

    They are the vertices of all hyperplanes and sides of the box, if there are few enough; else
    the origin, the centre, and the intersection of the first independent hyperplanes.
    """
    count = len(rows)
    d = domain.dim
    low = to_fractions(domain.lower)
    high = to_fractions(domain.upper)
    if math.comb(count + 2 * d, d) <= constants.MAX_SUBSETS:
        unit = to_fractions(np.eye(d))
        sides = [*np.column_stack([unit, -low]), *np.column_stack([unit, -high])]
        return set(hyperplane_intersections([*rows, *sides], d)), True
    points = {tuple(to_fractions(np.zeros(d))), tuple(to_fractions(domain.centre))}
    if d < count <= constants.MAX_POSITION_FRACTIONS / d**2:
        independent = list(row_echelon(rows, d).values())
        points.update(hyperplane_intersections(independent, d))
    return points, False


def _overdetermined(
    points: Iterable[Point], rows: Numbers, domain: Domain
) -> dict[Point, frozenset[int]]:
    """Return the points of the closed box with more than d hyperplanes and sides through them.

    The values are the indices of the hyperplanes, without the sides.
    """
    d = domain.dim
    low = to_fractions(domain.lower)
    high = to_fractions(domain.upper)
    through: dict[Point, frozenset[int]] = {}
    for point in points:
        if (low <= point).all() and (point <= high).all():
            zero = rows[:, :d] @ point + rows[:, d] == 0
            if zero.sum() + (low == point).sum() + (high == point).sum() > d:
                through[point] = frozenset(np.flatnonzero(zero).tolist())
    return through


def _inner_point(points: list[Point], domain: Domain) -> tuple[float, ...] | None:
    """Return the mean of some points, rounded, if it is proven to lie inside the domain.

    The rounded mean is inside by its margin, and rounding moves it by less than that.
    """
    shared = np.array(points)
    mean = shared.sum(axis=0) / len(shared)
    rounded = mean.astype(np.float64)
    margin = Fraction(float(domain.margin(rounded[None, :])[0]))
    return tuple(rounded.tolist()) if max(abs(mean - to_fractions(rounded))) < margin else None
