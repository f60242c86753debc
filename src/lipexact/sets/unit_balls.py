"""Symmetric convex bodies: the unit balls of norms, and the sets that functionals are taken from.

The Lipschitz constant is a maximum of c^T J v over two bodies, v in V and c in C. A program takes one of them
as variables (`ranged`), and the other one as the maximum of a linear form over it (`lower`), which is a norm
and needs gates. As both are symmetric, and c^T J v keeps its value when both signs change, one side may leave
out half of its points, or of its forms; a body stands for itself and its reflection.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import scipy.spatial

from lipexact.errors import DomainError, NormError
from lipexact.graph.ir import Affine, Input, Value
from lipexact.graph.lowering import absolute, add, reduce_max, reduce_sum, scaled, select
from lipexact.numerics.arrays import Matrix, Vector, lengths
from lipexact.numerics.rounding import gamma
from lipexact.numerics.sign_relaxation import absolute_sums, euclidean_sums
from lipexact.sets.domains import Box, ConvexSet, Domain, EuclideanBall, Polytope, Simplex

# Half-spaces that can have more vertices than that are not enumerated.
_MOST_VERTICES = 10_000
_TIGHT = 1e-11  # how well a vertex must satisfy its equations
_CHUNK = 4096
_NUMBERS = 2**22  # of unit vectors that are made at once


@dataclass(frozen=True, eq=False)
class SetVariables:
    """A point of a body as a node over new inputs, each in its set; whether -point has the same range."""

    point: Value
    sets: dict[Input, ConvexSet]
    symmetric: bool


class SymmetricSet(ABC):
    """A convex compact set B = -B in R^n.

    Attributes
    ----------
    dim
        n.
    axes
        Of an ellipsoid the half-axes, along the coordinates, shape (n,); None for polytopes, whose norms are piecewise
        linear.
    """

    dim: int
    axes: Vector | None = None

    @abstractmethod
    def support(self, forms: Vector) -> Vector:
        """max{w z : z in B} for each row w of an array of shape (k, n); attained."""

    def support_upper(self, forms: Vector) -> Vector:
        """An upper bound of `value`, equal to it up to rounding unless that came from a linear program."""
        return self.support(forms)

    @abstractmethod
    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """At least max{sum_i |m_i z| : z in B} for stacks of rows m_i, and how much each row adds to that.

        Parameters
        ----------
        rows
            Shape (b, k, n).

        Returns
        -------
        upper, shares
            Shapes (b,) and (b, k).
        """

    @abstractmethod
    def support_abs(self, sizes: Vector) -> Vector:
        """At least max{s |z| : z in B} for each row s >= 0: what an error of s in a form can make of its value."""

    def support_estimate(self, forms: Vector) -> Vector:
        """About `value`, at once even where that takes a linear program for each row."""
        return self.support(forms)

    @abstractmethod
    def argmax(self, forms: Vector) -> Vector:
        """For each row w a z in B with the largest w z, shape (k, n)."""

    @abstractmethod
    def support_graph(self, x: Value, symmetric: bool) -> Value | None:
        """max{x z : z in B} as a graph, of size 1; x itself where only its Euclidean length does it.

        Parameters
        ----------
        x
            Of size n.
        symmetric
            Whether x ranges over a symmetric set, of which half will do.

        Returns
        -------
        Value or None
            None where there is no such graph.
        """

    @abstractmethod
    def as_variables(self, name: str) -> SetVariables:
        """A point of B as a node."""

    @property
    @abstractmethod
    def vertex_count(self) -> float:
        """The number of vertices, up to sign; infinite where they are not known."""

    @abstractmethod
    def vertices(self) -> Iterator[Vector]:
        """The vertices, up to sign, in chunks of shape (k, n)."""


class Cube(SymmetricSet):
    """[-1, 1]^n."""

    def __init__(self, n: int) -> None:
        self.dim = n

    def support(self, forms: Vector) -> Vector:
        """sum_i |w_i|."""
        return np.asarray(np.abs(forms).sum(axis=1))

    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """Signs for the rows and for the coordinates."""
        return absolute_sums(rows)

    def support_abs(self, sizes: Vector) -> Vector:
        """sum_i s_i."""
        return self.support(sizes)

    def argmax(self, forms: Vector) -> Vector:
        """The signs of w."""
        return np.where(forms < 0, -1.0, 1.0)

    def support_graph(self, x: Value, symmetric: bool) -> Value:
        """sum_i |x_i|: n gates, or n - 1."""
        if not symmetric:
            return reduce_sum(absolute(x, "abs"), "sum")
        rest = absolute(select(list(range(1, self.dim)), x), "abs")
        return add((np.eye(1, self.dim), x), (np.ones((1, rest.size)), rest), name="sum")

    def as_variables(self, name: str) -> SetVariables:
        """As it is."""
        point = Input(self.dim, name)
        return SetVariables(
            point, {point: Box(-np.ones(self.dim), np.ones(self.dim))}, symmetric=True
        )

    @property
    def vertex_count(self) -> float:
        return 2.0 ** min(self.dim - 1, 1000)

    def vertices(self) -> Iterator[Vector]:
        rest = itertools.product((1.0, -1.0), repeat=self.dim - 1)
        while chunk := list(itertools.islice(rest, _CHUNK)):
            yield np.hstack(
                [np.ones((len(chunk), 1)), np.array(chunk).reshape(len(chunk), self.dim - 1)]
            )


class CrossPolytope(SymmetricSet):
    """{z : sum_i |z_i| <= 1}."""

    def __init__(self, n: int) -> None:
        self.dim = n

    def support(self, forms: Vector) -> Vector:
        """max_i |w_i|."""
        return np.asarray(np.abs(forms).max(axis=1))

    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """max_j sum_i |m_ij|."""
        return _largest_sums(np.abs(rows))

    def support_abs(self, sizes: Vector) -> Vector:
        """max_i s_i."""
        return self.support(sizes)

    def argmax(self, forms: Vector) -> Vector:
        """The unit vector of the largest |w_i|, with its sign."""
        return _signed_rows(np.eye(self.dim), forms)

    def support_graph(self, x: Value, symmetric: bool) -> Value:
        """max_i |x_i| by a tree of maxima: 2n - 1 gates, or n - 1."""
        return reduce_max(x if symmetric else absolute(x, "abs"), "max")

    def as_variables(self, name: str) -> SetVariables:
        """{p - q : p, q >= 0, sum(p + q) <= 1}."""
        return _hull(sp.eye_array(self.dim), name)

    @property
    def vertex_count(self) -> float:
        return float(self.dim)

    def vertices(self) -> Iterator[Vector]:
        step = max(_NUMBERS // self.dim, 1)
        for start in range(0, self.dim, step):
            yield np.eye(min(step, self.dim - start), self.dim, start)


class EuclideanUnitBall(SymmetricSet):
    """{z : sum_i z_i^2 <= 1}."""

    def __init__(self, n: int) -> None:
        self.dim, self.axes = n, np.ones(n)

    def support(self, forms: Vector) -> Vector:
        """The Euclidean length of w."""
        return lengths(forms)[:, 0]

    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """Signs for the rows."""
        return euclidean_sums(rows)

    def support_abs(self, sizes: Vector) -> Vector:
        """The Euclidean length of s."""
        return self.support(sizes)

    def argmax(self, forms: Vector) -> Vector:
        """W itself, made as long as 1."""
        length = lengths(forms)
        return np.where(length > 0, forms / np.where(length > 0, length, 1.0), np.eye(1, self.dim))

    def support_graph(self, x: Value, symmetric: bool) -> Value:  # noqa: ARG002
        """X itself: its length is no graph."""
        return x

    def as_variables(self, name: str) -> SetVariables:
        """As it is."""
        point = Input(self.dim, name)
        return SetVariables(point, {point: EuclideanBall(self.dim)}, symmetric=True)

    @property
    def vertex_count(self) -> float:
        return np.inf

    def vertices(self) -> Iterator[Vector]:
        raise NotImplementedError("a Euclidean ball has no vertices")


class Stretched(SymmetricSet):
    """{D z : z in B} for a body B and a diagonal matrix D.

    Parameters
    ----------
    body
        B.
    factors
        The diagonal of D, positive, of shape (n,).
    """

    def __init__(self, body: SymmetricSet, factors: Vector) -> None:
        self.body, self.factors = body, factors
        self.dim, self.axes = body.dim, None if body.axes is None else body.axes * factors

    def support(self, forms: Vector) -> Vector:
        """That of D w in B."""
        return self.body.support(forms * self.factors)

    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """Those of D m_i in B."""
        upper, shares = self.body.zonotope_radius(rows * self.factors)
        return upper * (1 + gamma(1)), shares

    def support_abs(self, sizes: Vector) -> Vector:
        """That of D s in B."""
        return self.body.support_abs(sizes * self.factors)

    def argmax(self, forms: Vector) -> Vector:
        """D z for the z of D w in B."""
        return self.body.argmax(forms * self.factors) * self.factors

    def support_graph(self, x: Value, symmetric: bool) -> Value | None:
        """That of D x in B."""
        return self.body.support_graph(add(scaled(self.factors, x), name="stretched"), symmetric)

    def as_variables(self, name: str) -> SetVariables:
        """D z."""
        free = self.body.as_variables(f"{name}_unit")
        return SetVariables(
            add(scaled(self.factors, free.point), name=name), free.sets, free.symmetric
        )

    @property
    def vertex_count(self) -> float:
        return self.body.vertex_count

    def vertices(self) -> Iterator[Vector]:
        return (chunk * self.factors for chunk in self.body.vertices())


class Leading(SymmetricSet):
    """{(z, 0) : z in B} for a body B: directions in the first coordinates.

    Parameters
    ----------
    body
        B.
    dim
        The number of all coordinates.
    """

    def __init__(self, body: SymmetricSet, dim: int) -> None:
        self.body, self.dim = body, dim
        self.axes = None if body.axes is None else np.append(body.axes, np.zeros(dim - body.dim))

    def support(self, forms: Vector) -> Vector:
        """That of the first coordinates in B."""
        return self.body.support(self._first(forms))

    def support_upper(self, forms: Vector) -> Vector:
        """That of the first coordinates in B."""
        return self.body.support_upper(self._first(forms))

    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """Those of the first coordinates in B."""
        return self.body.zonotope_radius(self._first(rows))

    def support_abs(self, sizes: Vector) -> Vector:
        """That of the first coordinates in B."""
        return self.body.support_abs(self._first(sizes))

    def support_estimate(self, forms: Vector) -> Vector:
        """That of the first coordinates in B."""
        return self.body.support_estimate(self._first(forms))

    def argmax(self, forms: Vector) -> Vector:
        """Those in B."""
        return self._padded(self.body.argmax(self._first(forms)))

    def support_graph(self, x: Value, symmetric: bool) -> Value | None:
        """That of the first entries in B."""
        return self.body.support_graph(select(list(range(self.body.dim)), x, "leading"), symmetric)

    def as_variables(self, name: str) -> SetVariables:
        """(z, 0)."""
        free = self.body.as_variables(f"{name}_leading")
        return SetVariables(
            add((sp.eye_array(self.dim, self.body.dim), free.point), name=name),
            free.sets,
            free.symmetric,
        )

    @property
    def vertex_count(self) -> float:
        return self.body.vertex_count

    def vertices(self) -> Iterator[Vector]:
        return (self._padded(chunk) for chunk in self.body.vertices())

    def _first(self, forms: Vector) -> Vector:
        return forms[..., : self.body.dim]

    def _padded(self, points: Vector) -> Vector:
        return np.hstack([points, np.zeros((len(points), self.dim - self.body.dim))])


class Hull(SymmetricSet):
    """The convex hull of points and their reflections.

    Parameters
    ----------
    points
        Of shape (k, n): one of each pair.
    """

    def __init__(self, points: Vector) -> None:
        self.points = points
        self.dim = points.shape[1]

    def support(self, forms: Vector) -> Vector:
        """max_k |p_k w|."""
        return np.asarray(np.abs(forms @ self.points.T).max(axis=1))

    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """max_k sum_i |p_k m_i|."""
        upper, shares = _largest_sums(np.abs(rows @ self.points.T))
        lost = np.abs(rows).sum(axis=1) @ np.abs(self.points.T)
        return upper + gamma(sum(rows.shape[1:])) * lost.max(axis=1), shares

    def support_abs(self, sizes: Vector) -> Vector:
        """max_k s |p_k|."""
        return np.asarray((sizes @ np.abs(self.points.T)).max(axis=1))

    def argmax(self, forms: Vector) -> Vector:
        """The point of the largest |p_k w|, with its sign."""
        return _signed_rows(self.points, forms @ self.points.T)

    def support_graph(self, x: Value, symmetric: bool) -> Value:
        """max_k |p_k x| by a tree of maxima over k points."""
        forms = add((self.points, x), name="forms")
        return reduce_max(forms if symmetric else absolute(forms, "abs"), "max")

    def as_variables(self, name: str) -> SetVariables:
        """A combination of the points and their reflections; a single point is a constant."""
        if len(self.points) == 1:
            return SetVariables(Affine((), self.points[0], name), {}, symmetric=False)
        return _hull(self.points.T, name)

    @property
    def vertex_count(self) -> float:
        return float(len(self.points))

    def vertices(self) -> Iterator[Vector]:
        for start in range(0, len(self.points), _CHUNK):
            yield self.points[start : start + _CHUNK]


class Differences(Hull):
    """The hull of e_i - e_j for all i and j: {c : sum(c) = 0, sum_i |c_i| <= 2}."""

    def __init__(self, n: int) -> None:
        first, second = np.triu_indices(n, 1)
        super().__init__(np.eye(n)[first] - np.eye(n)[second])

    def support_graph(self, x: Value, symmetric: bool) -> Value:  # noqa: ARG002
        """max_i x_i + max_j -x_j: 2 (n - 1) gates."""
        largest = reduce_max(x, "max")
        smallest = reduce_max(add((-sp.eye_array(self.dim), x), name="negative"), "minus_min")
        return add((np.ones((1, 1)), largest), (np.ones((1, 1)), smallest), name="spread")


class HalfSpaces(SymmetricSet):
    """{z : -1 <= h_k z <= 1 for all k}.

    Parameters
    ----------
    rows
        The h_k, of shape (k, n) and rank n: one of each pair.
    """

    def __init__(self, rows: Vector) -> None:
        self.rows = rows
        self.dim = rows.shape[1]

    @cached_property
    def polytope(self) -> Domain:
        """The body as a domain."""
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
        """The body by its vertices, where they are few enough to be enumerated."""
        found = vertices_of(np.vstack([self.rows, -self.rows]))
        if found is None:
            return None
        # Each vertex comes with its reflection, and more than once; it is known by the rows that are tight there.
        values = found @ self.rows.T
        tight = np.sign(values) * (np.abs(values) > 1 - 2 * _TIGHT)
        leading = np.take_along_axis(tight, (tight != 0).argmax(axis=1)[:, None], axis=1)
        _, first = np.unique(tight * leading, axis=0, return_index=True)
        return Hull(found[first])

    def support(self, forms: Vector) -> Vector:
        """By the vertices, or by a linear program for each row."""
        if self.hull is not None:
            return self.hull.support(forms)
        return np.asarray((forms * self.argmax(forms)).sum(axis=1))

    def support_upper(self, forms: Vector) -> Vector:
        """By the vertices, or by the dual of the linear program."""
        return self.hull.support(forms) if self.hull is not None else self.polytope.support(forms)

    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """By the vertices, or that of the box around the body."""
        return (
            self.hull.zonotope_radius(rows)
            if self.hull is not None
            else absolute_sums(rows * self.polytope.upper)
        )

    def support_abs(self, sizes: Vector) -> Vector:
        """By the vertices, or that of the box around the body."""
        return (
            self.hull.support_abs(sizes)
            if self.hull is not None
            else np.asarray(sizes @ self.polytope.upper)
        )

    def support_estimate(self, forms: Vector) -> Vector:
        """By the vertices, or that of the box around the body."""
        return (
            self.hull.support(forms) if self.hull is not None else self.support_abs(np.abs(forms))
        )

    def argmax(self, forms: Vector) -> Vector:
        """A vertex, or the solution of a linear program, drawn into the body."""
        if self.hull is not None:
            return self.hull.argmax(forms)
        points = self.polytope.maximisers(forms)
        outside = np.abs(points @ self.rows.T) + gamma(self.dim) * (
            np.abs(points) @ np.abs(self.rows.T)
        )
        return np.asarray(points / np.maximum(outside.max(axis=1, keepdims=True), 1.0))

    def support_graph(self, x: Value, symmetric: bool) -> Value | None:
        """By the vertices."""
        return None if self.hull is None else self.hull.support_graph(x, symmetric)

    def as_variables(self, name: str) -> SetVariables:
        """As it is."""
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
    """The vertices of a bounded polytope {z : rows z <= 1}, shape (k, n), by Qhull; some may occur twice.

    None where there may be more than 10,000, or where they cannot be told accurately.
    """
    count, n = rows.shape
    # The upper bound theorem: a cyclic polytope with as many vertices has the most facets.
    if 2 * math.comb(count - (n + 1) // 2, n // 2) > _MOST_VERTICES:
        return None
    if n == 1:
        return 1 / np.array([rows.max(axis=0), rows.min(axis=0)])
    scale = np.abs(rows).max(axis=0)
    try:
        facets = scipy.spatial.ConvexHull(rows / scale)
    except scipy.spatial.QhullError:
        return None
    # Each facet z p = 1 of the polar, which is the hull of the rows, is a vertex z.
    found = -facets.equations[:, :-1] / facets.equations[:, -1:] / scale
    tight = (rows[facets.simplices] @ found[:, :, None])[..., 0]
    told = gamma(n) * (np.abs(found) @ np.abs(rows.T)).max() < _TIGHT
    accurate = (np.abs(tight - 1) < _TIGHT).all() and (found @ rows.T < 1 + _TIGHT).all()
    return np.asarray(found) if told and accurate else None


def _hull(columns: Matrix, name: str) -> SetVariables:
    """[P, -P] z for z >= 0 with sum(z) <= 1."""
    parts = Input(2 * columns.shape[1], f"{name}_parts")
    both = (
        sp.hstack([columns, -columns]) if sp.issparse(columns) else np.hstack([columns, -columns])
    )
    return SetVariables(add((both, parts), name=name), {parts: Simplex(parts.size)}, symmetric=True)


def _largest_sums(sizes: Vector) -> tuple[Vector, Vector]:
    """max_j sum_i a_ij for stacks of numbers, rounded up, and the terms of the largest sum."""
    totals = sizes.sum(axis=1)
    best = totals.argmax(axis=1)
    shares = np.take_along_axis(sizes, best[:, None, None], axis=2)[:, :, 0]
    return totals.max(axis=1) * (1 + gamma(sizes.shape[1])), shares


def _signed_rows(points: Vector, values: Vector) -> Vector:
    """For each row of values the point with the largest |value|, times the sign of that value."""
    best = np.abs(values).argmax(axis=1)
    signs = np.where(np.take_along_axis(values, best[:, None], axis=1) < 0, -1.0, 1.0)
    return np.asarray(points[best] * signs)
