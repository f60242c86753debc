"""Symmetric polytopes, given by their vertices or by their half-spaces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import scipy.spatial

from lipexact.errors import DomainError, NormError
from lipexact.graph.ir import Affine, Input, Value
from lipexact.graph.lowering import absolute, add, reduce_max
from lipexact.numerics.arrays import Vector
from lipexact.numerics.rounding import gamma
from lipexact.numerics.sign_relaxation import absolute_sums
from lipexact.sets import constants
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Box, Polytope
from lipexact.sets.unit_balls import (
    SetVariables,
    SymmetricSet,
    hull_variables,
    largest_sums,
    signed_rows,
)


class Hull(SymmetricSet):
    """The convex hull of points and their reflections.

    Parameters
    ----------
    points
        Shape (k, n): one point of each pair.
    """

    def __init__(self, points: Vector) -> None:
        self.points = points
        self.dim = points.shape[1]

    def support(self, forms: Vector) -> Vector:
        """Return max_k |p_k w|."""
        return np.asarray(np.abs(forms @ self.points.T).max(axis=1))

    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """Return max_k sum_i |p_k m_i|, rounded up."""
        upper, shares = largest_sums(np.abs(rows @ self.points.T))
        lost = np.abs(rows).sum(axis=1) @ np.abs(self.points.T)
        return upper + gamma(sum(rows.shape[1:])) * lost.max(axis=1), shares

    def support_abs(self, sizes: Vector) -> Vector:
        """Return max_k s |p_k|."""
        return np.asarray((sizes @ np.abs(self.points.T)).max(axis=1))

    def argmax(self, forms: Vector) -> Vector:
        """Return the point of the largest |p_k w|, with the sign of p_k w."""
        return signed_rows(self.points, forms @ self.points.T)

    def support_graph(self, x: Value, symmetric: bool) -> Value:
        """Return max_k |p_k x| by a tree of maxima over the points."""
        forms = add((self.points, x), name="forms")
        return reduce_max(forms if symmetric else absolute(forms, "abs"), "max")

    def as_variables(self, name: str) -> SetVariables:
        """Return a convex combination of the points and their reflections.

        A single point is a constant: its reflection is left out.
        """
        if len(self.points) == 1:
            return SetVariables(Affine((), self.points[0], name), {}, symmetric=False)
        return hull_variables(self.points.T, name)

    @property
    def vertex_count(self) -> float:
        return float(len(self.points))

    def vertices(self) -> Iterator[Vector]:
        for start in range(0, len(self.points), constants.MAX_CHUNK_VERTICES):
            yield self.points[start : start + constants.MAX_CHUNK_VERTICES]


class Differences(Hull):
    """The hull of e_i - e_j for all i and j, which is {c : sum(c) = 0, sum_i |c_i| <= 2}."""

    def __init__(self, n: int) -> None:
        first, second = np.triu_indices(n, 1)
        super().__init__(np.eye(n)[first] - np.eye(n)[second])

    def support_graph(self, x: Value, symmetric: bool) -> Value:  # noqa: ARG002
        """Return max_i x_i + max_j -x_j, which takes 2 (n - 1) gates."""
        largest = reduce_max(x, "max")
        smallest = reduce_max(add((-sp.eye_array(self.dim), x), name="negative"), "minus_min")
        return add((np.ones((1, 1)), largest), (np.ones((1, 1)), smallest), name="spread")


class HalfSpaces(SymmetricSet):
    """The set {z : -1 <= h_k z <= 1 for all k}.

    Parameters
    ----------
    rows
        The h_k, of shape (k, n) and rank n: one row of each pair.
    """

    def __init__(self, rows: Vector) -> None:
        self.rows = rows
        self.dim = rows.shape[1]

    @cached_property
    def polytope(self) -> Domain:
        """The set as a domain."""
        single = (self.rows != 0).sum(axis=1) == 1
        with np.errstate(divide="ignore"):
            reach = np.nextafter(1 / np.abs(self.rows[single]).max(axis=0, initial=0.0), np.inf)
        rest = self.rows[~single]
        if not rest.size:
            return Box(-reach, reach)
        try:
            return Polytope(np.vstack([rest, -rest]), np.ones(2 * len(rest)), -reach, reach)
        except DomainError as error:
            raise NormError(f"the ball of a polyhedral norm cannot be handled: {error}") from None

    @cached_property
    def hull(self) -> Hull | None:
        """The set by its vertices; None where there may be too many to enumerate."""
        found = vertices_of(np.vstack([self.rows, -self.rows]))
        if found is None:
            return None
        # Each vertex comes with its reflection, and more than once. The rows that are tight there,
        # with their signs, tell vertices apart.
        values = found @ self.rows.T
        tight = np.sign(values) * (np.abs(values) > 1 - 2 * constants.VERTEX_TOLERANCE)
        leading = np.take_along_axis(tight, (tight != 0).argmax(axis=1)[:, None], axis=1)
        _, first = np.unique(tight * leading, axis=0, return_index=True)
        return Hull(found[first])

    def support(self, forms: Vector) -> Vector:
        """Return the maximum, by the vertices or by a linear program for each row."""
        if self.hull is not None:
            return self.hull.support(forms)
        return np.asarray((forms * self.argmax(forms)).sum(axis=1))

    def support_upper(self, forms: Vector) -> Vector:
        """Bound the maximum, by the vertices or by the dual of a linear program for each row."""
        return self.hull.support(forms) if self.hull is not None else self.polytope.support(forms)

    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """Bound the maximum, by the vertices or over the bounding box."""
        return (
            self.hull.zonotope_radius(rows)
            if self.hull is not None
            else absolute_sums(rows * self.polytope.upper)
        )

    def support_abs(self, sizes: Vector) -> Vector:
        """Bound the maximum, by the vertices or over the bounding box."""
        return (
            self.hull.support_abs(sizes)
            if self.hull is not None
            else np.asarray(sizes @ self.polytope.upper)
        )

    def support_estimate(self, forms: Vector) -> Vector:
        """Estimate the maximum, by the vertices or over the bounding box."""
        return (
            self.hull.support(forms) if self.hull is not None else self.support_abs(np.abs(forms))
        )

    def argmax(self, forms: Vector) -> Vector:
        """Return a vertex, or the solution of a linear program, scaled so that the set has it."""
        if self.hull is not None:
            return self.hull.argmax(forms)
        points = self.polytope.maximisers(forms)
        outside = np.abs(points @ self.rows.T) + gamma(self.dim) * (
            np.abs(points) @ np.abs(self.rows.T)
        )
        return np.asarray(points / np.maximum(outside.max(axis=1, keepdims=True), 1.0))

    def support_graph(self, x: Value, symmetric: bool) -> Value | None:
        """Return the graph for the vertices."""
        return None if self.hull is None else self.hull.support_graph(x, symmetric)

    def as_variables(self, name: str) -> SetVariables:
        """Return an input that ranges over the set."""
        point = Input(self.dim, name)
        return SetVariables(point, {point: self.polytope}, symmetric=True)

    @property
    def vertex_count(self) -> float:
        return np.inf if self.hull is None else self.hull.vertex_count

    def vertices(self) -> Iterator[Vector]:
        if self.hull is None:
            raise NotImplementedError("too many half-spaces to enumerate the vertices")
        return self.hull.vertices()


def vertices_of(rows: Vector) -> Vector | None:
    """Enumerate the vertices of a bounded polytope {z : rows z <= 1} by Qhull.

    The polar of the polytope is the convex hull of the rows. Each facet {p : z p = 1} of the polar
    is a vertex z of the polytope.

    Parameters
    ----------
    rows
        Shape (m, n).

    Returns
    -------
    Vector or None
        Shape (k, n); some vertices may occur twice. None where there may be more than 10,000, or
        where floating-point numbers are not accurate enough.

    Examples
    --------
    >>> square = vertices_of(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, -0.5]]))
    >>> sorted(square.tolist())
    [[-1.0, -2.0], [-1.0, 2.0], [1.0, -2.0], [1.0, 2.0]]
    """
    count, n = rows.shape
    # The upper bound theorem: a cyclic polytope with as many vertices has the most facets.
    if 2 * math.comb(count - (n + 1) // 2, n // 2) > constants.MAX_VERTICES:
        return None
    if n == 1:
        return 1 / np.array([rows.max(axis=0), rows.min(axis=0)])
    scale = np.abs(rows).max(axis=0)
    try:
        facets = scipy.spatial.ConvexHull(rows / scale)
    except scipy.spatial.QhullError:
        return None
    vertices = -facets.equations[:, :-1] / facets.equations[:, -1:] / scale
    values = (rows[facets.simplices] @ vertices[:, :, None])[..., 0]
    tolerance = constants.VERTEX_TOLERANCE
    decidable = gamma(n) * (np.abs(vertices) @ np.abs(rows.T)).max() < tolerance
    tight = (np.abs(values - 1) < tolerance).all()
    feasible = (vertices @ rows.T < 1 + tolerance).all()
    return np.asarray(vertices) if decidable and tight and feasible else None
