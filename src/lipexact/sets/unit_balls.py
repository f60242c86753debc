"""Symmetric convex bodies: the unit balls of norms, and the sets that functionals are taken from.

The Lipschitz constant is a maximum of c^T J v over two bodies, v in V and c in C. A program takes one of them
as variables (`ranged`), and the other one as the maximum of a linear form over it (`lower`), which is a norm
and needs gates. As both are symmetric, and c^T J v keeps its value when both signs change, one side may leave
out half of its points, or of its forms; a body stands for itself and its reflection.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from lipexact.graph.ir import Input, Value
from lipexact.graph.lowering import absolute, add, reduce_max, reduce_sum, scaled, select
from lipexact.numerics.arrays import Matrix, Vector, lengths
from lipexact.numerics.rounding import gamma
from lipexact.numerics.sign_relaxation import absolute_sums, euclidean_sums
from lipexact.sets import constants
from lipexact.sets.convex import ConvexSet, EuclideanBall, Simplex
from lipexact.sets.domains import Box


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
        while chunk := list(itertools.islice(rest, constants.MAX_CHUNK_VERTICES)):
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
        return largest_sums(np.abs(rows))

    def support_abs(self, sizes: Vector) -> Vector:
        """max_i s_i."""
        return self.support(sizes)

    def argmax(self, forms: Vector) -> Vector:
        """The unit vector of the largest |w_i|, with its sign."""
        return signed_rows(np.eye(self.dim), forms)

    def support_graph(self, x: Value, symmetric: bool) -> Value:
        """max_i |x_i| by a tree of maxima: 2n - 1 gates, or n - 1."""
        return reduce_max(x if symmetric else absolute(x, "abs"), "max")

    def as_variables(self, name: str) -> SetVariables:
        """{p - q : p, q >= 0, sum(p + q) <= 1}."""
        return hull_variables(sp.eye_array(self.dim), name)

    @property
    def vertex_count(self) -> float:
        return float(self.dim)

    def vertices(self) -> Iterator[Vector]:
        step = max(constants.MAX_CHUNK_NUMBERS // self.dim, 1)
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


def hull_variables(columns: Matrix, name: str) -> SetVariables:
    """[P, -P] z for z >= 0 with sum(z) <= 1."""
    parts = Input(2 * columns.shape[1], f"{name}_parts")
    both = (
        sp.hstack([columns, -columns]) if sp.issparse(columns) else np.hstack([columns, -columns])
    )
    return SetVariables(add((both, parts), name=name), {parts: Simplex(parts.size)}, symmetric=True)


def largest_sums(sizes: Vector) -> tuple[Vector, Vector]:
    """max_j sum_i a_ij for stacks of numbers, rounded up, and the terms of the largest sum."""
    totals = sizes.sum(axis=1)
    best = totals.argmax(axis=1)
    shares = np.take_along_axis(sizes, best[:, None, None], axis=2)[:, :, 0]
    return totals.max(axis=1) * (1 + gamma(sizes.shape[1])), shares


def signed_rows(points: Vector, values: Vector) -> Vector:
    """For each row of values the point with the largest |value|, times the sign of that value."""
    best = np.abs(values).argmax(axis=1)
    signs = np.where(np.take_along_axis(values, best[:, None], axis=1) < 0, -1.0, 1.0)
    return np.asarray(points[best] * signs)
