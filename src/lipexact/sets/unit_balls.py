"""Symmetric convex sets: the unit balls of norms, and the operations on them.

The Lipschitz constant is a maximum of c^T J v over two symmetric sets, v in V and c in C. A
mixed-integer program takes one of them as variables (`as_variables`). Of the other one it takes the
maximum of a linear form over it (`support_graph`), which is a norm and needs gates.

Both sets are symmetric, and c^T J v keeps its value when c and v both change their signs. So one of
the two sides may leave out half of its points, or of its forms.
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
    """A point of a symmetric set as a node over new inputs.

    Attributes
    ----------
    point
        The node.
    sets
        The set that each of the new inputs ranges over.
    symmetric
        True if -point has the same range as point.
    """

    point: Value
    sets: dict[Input, ConvexSet]
    symmetric: bool


class SymmetricSet(ABC):
    """A convex compact set B = -B in R^n.

    Attributes
    ----------
    dim
        The dimension n.
    axes
        The half-axes of an ellipsoid, along the coordinates, shape (n,); None for polytopes, whose
        norms are piecewise linear.
    """

    dim: int
    axes: Vector | None = None

    @abstractmethod
    def support(self, forms: Vector) -> Vector:
        """Return the support function max{w z : z in B} for each row w.

        Parameters
        ----------
        forms
            Shape (k, n).

        Returns
        -------
        Vector
            Shape (k,): values that are attained, up to rounding.
        """

    def support_upper(self, forms: Vector) -> Vector:
        """Bound the support function from above.

        The bound is `support` up to rounding, unless that came from a linear program.
        """
        return self.support(forms)

    @abstractmethod
    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """Bound max{sum_i |m_i z| : z in B} from above for stacks of rows m_i.

        It is the support function of B at the zonotope of the m_i: the largest value that a sum of
        the rows with signs has on B.

        Parameters
        ----------
        rows
            Shape (b, k, n).

        Returns
        -------
        upper, shares
            Shapes (b,) and (b, k): the bounds, and how much each row adds to them.
        """

    @abstractmethod
    def support_abs(self, sizes: Vector) -> Vector:
        """Bound max{s |z| : z in B} from above for each row s >= 0.

        A form whose coefficients are off by s has a value that is off by at most so much.
        """

    def support_estimate(self, forms: Vector) -> Vector:
        """Estimate the support function, without linear programs."""
        return self.support(forms)

    @abstractmethod
    def argmax(self, forms: Vector) -> Vector:
        """Return a point z of B with the largest w z for each row w; shape (k, n)."""

    @abstractmethod
    def support_graph(self, x: Value, symmetric: bool) -> Value | None:
        """Return max{x z : z in B} as a node of size 1.

        A Euclidean ball returns x itself: its length is not piecewise linear.

        Parameters
        ----------
        x
            A node of size n.
        symmetric
            True if x ranges over a symmetric set, so that half of the forms is enough.

        Returns
        -------
        Value or None
            None where there is no such graph.
        """

    @abstractmethod
    def as_variables(self, name: str) -> SetVariables:
        """Return a point of B as a node over new inputs, called after `name`."""

    @property
    @abstractmethod
    def vertex_count(self) -> float:
        """The number of vertices, up to sign; infinite where they are not known."""

    @abstractmethod
    def vertices(self) -> Iterator[Vector]:
        """Yield the vertices, up to sign, in chunks of shape (k, n)."""


class Cube(SymmetricSet):
    """The cube [-1, 1]^n."""

    def __init__(self, n: int) -> None:
        self.dim = n

    def support(self, forms: Vector) -> Vector:
        """Return sum_i |w_i|."""
        return np.asarray(np.abs(forms).sum(axis=1))

    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """Bound the sum by signs for the rows and for the coordinates."""
        return absolute_sums(rows)

    def support_abs(self, sizes: Vector) -> Vector:
        """Return sum_i s_i."""
        return self.support(sizes)

    def argmax(self, forms: Vector) -> Vector:
        """Return the signs of w."""
        return np.where(forms < 0, -1.0, 1.0)

    def support_graph(self, x: Value, symmetric: bool) -> Value:
        """Return sum_i |x_i|, which takes n gates, or n - 1."""
        if not symmetric:
            return reduce_sum(absolute(x, "abs"), "sum")
        rest = absolute(select(list(range(1, self.dim)), x), "abs")
        return add((np.eye(1, self.dim), x), (np.ones((1, rest.size)), rest), name="sum")

    def as_variables(self, name: str) -> SetVariables:
        """Return an input that ranges over the set."""
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
    """The cross-polytope {z : sum_i |z_i| <= 1}."""

    def __init__(self, n: int) -> None:
        self.dim = n

    def support(self, forms: Vector) -> Vector:
        """Return max_i |w_i|."""
        return np.asarray(np.abs(forms).max(axis=1))

    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """Return max_j sum_i |m_ij|, rounded up."""
        return largest_sums(np.abs(rows))

    def support_abs(self, sizes: Vector) -> Vector:
        """Return max_i s_i."""
        return self.support(sizes)

    def argmax(self, forms: Vector) -> Vector:
        """Return the unit vector of the largest |w_i|, with the sign of w_i."""
        return signed_rows(np.eye(self.dim), forms)

    def support_graph(self, x: Value, symmetric: bool) -> Value:
        """Return max_i |x_i| by a tree of maxima, which takes 2n - 1 gates, or n - 1."""
        return reduce_max(x if symmetric else absolute(x, "abs"), "max")

    def as_variables(self, name: str) -> SetVariables:
        """Return p - q for p, q >= 0 with sum(p + q) <= 1."""
        return hull_variables(sp.eye_array(self.dim), name)

    @property
    def vertex_count(self) -> float:
        return float(self.dim)

    def vertices(self) -> Iterator[Vector]:
        step = max(constants.MAX_CHUNK_NUMBERS // self.dim, 1)
        for start in range(0, self.dim, step):
            yield np.eye(min(step, self.dim - start), self.dim, start)


class EuclideanUnitBall(SymmetricSet):
    """The Euclidean ball {z : sum_i z_i^2 <= 1}."""

    def __init__(self, n: int) -> None:
        self.dim = n
        self.axes = np.ones(n)

    def support(self, forms: Vector) -> Vector:
        """Return the Euclidean length of w."""
        return lengths(forms)[:, 0]

    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """Bound the sum by signs for the rows."""
        return euclidean_sums(rows)

    def support_abs(self, sizes: Vector) -> Vector:
        """Return the Euclidean length of s."""
        return self.support(sizes)

    def argmax(self, forms: Vector) -> Vector:
        """Return w, divided by its length; a unit vector where w is 0."""
        length = lengths(forms)
        return np.where(length > 0, forms / np.where(length > 0, length, 1.0), np.eye(1, self.dim))

    def support_graph(self, x: Value, symmetric: bool) -> Value:  # noqa: ARG002
        """Return x itself, since its length is not piecewise linear."""
        return x

    def as_variables(self, name: str) -> SetVariables:
        """Return an input that ranges over the set."""
        point = Input(self.dim, name)
        return SetVariables(point, {point: EuclideanBall(self.dim)}, symmetric=True)

    @property
    def vertex_count(self) -> float:
        return np.inf

    def vertices(self) -> Iterator[Vector]:
        raise NotImplementedError("a Euclidean ball has no vertices")


class Stretched(SymmetricSet):
    """The set {D z : z in B} for a symmetric set B and a diagonal matrix D.

    Parameters
    ----------
    base
        B.
    factors
        The diagonal of D, of shape (n,); positive.
    """

    def __init__(self, base: SymmetricSet, factors: Vector) -> None:
        self.base = base
        self.factors = factors
        self.dim = base.dim
        self.axes = None if base.axes is None else base.axes * factors

    def support(self, forms: Vector) -> Vector:
        """Return the support function of B at D w."""
        return self.base.support(forms * self.factors)

    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """Bound the sum for the rows D m_i over B."""
        upper, shares = self.base.zonotope_radius(rows * self.factors)
        return upper * (1 + gamma(1)), shares

    def support_abs(self, sizes: Vector) -> Vector:
        """Bound the maximum for D s over B."""
        return self.base.support_abs(sizes * self.factors)

    def argmax(self, forms: Vector) -> Vector:
        """Return D z for the point z of B with the largest w D z."""
        return self.base.argmax(forms * self.factors) * self.factors

    def support_graph(self, x: Value, symmetric: bool) -> Value | None:
        """Return the node of B for D x."""
        return self.base.support_graph(add(scaled(self.factors, x), name="stretched"), symmetric)

    def as_variables(self, name: str) -> SetVariables:
        """Return D z for a point z of B."""
        free = self.base.as_variables(f"{name}_unit")
        return SetVariables(
            add(scaled(self.factors, free.point), name=name), free.sets, free.symmetric
        )

    @property
    def vertex_count(self) -> float:
        return self.base.vertex_count

    def vertices(self) -> Iterator[Vector]:
        return (chunk * self.factors for chunk in self.base.vertices())


class Leading(SymmetricSet):
    """The set {(z, 0) : z in B} for a symmetric set B: directions in the first coordinates.

    Parameters
    ----------
    base
        B.
    dim
        The number of coordinates of the whole space.
    """

    def __init__(self, base: SymmetricSet, dim: int) -> None:
        self.base = base
        self.dim = dim
        self.axes = None if base.axes is None else np.append(base.axes, np.zeros(dim - base.dim))

    def support(self, forms: Vector) -> Vector:
        """Return the support function of B at the first coordinates."""
        return self.base.support(self._first(forms))

    def support_upper(self, forms: Vector) -> Vector:
        """Bound the support function of B at the first coordinates."""
        return self.base.support_upper(self._first(forms))

    def zonotope_radius(self, rows: Vector) -> tuple[Vector, Vector]:
        """Bound the sum for the first coordinates over B."""
        return self.base.zonotope_radius(self._first(rows))

    def support_abs(self, sizes: Vector) -> Vector:
        """Bound the maximum for the first coordinates over B."""
        return self.base.support_abs(self._first(sizes))

    def support_estimate(self, forms: Vector) -> Vector:
        """Estimate the support function of B at the first coordinates."""
        return self.base.support_estimate(self._first(forms))

    def argmax(self, forms: Vector) -> Vector:
        """Return (z, 0) for the point z of B."""
        return self._padded(self.base.argmax(self._first(forms)))

    def support_graph(self, x: Value, symmetric: bool) -> Value | None:
        """Return the node of B for the first entries of x."""
        return self.base.support_graph(select(list(range(self.base.dim)), x, "leading"), symmetric)

    def as_variables(self, name: str) -> SetVariables:
        """Return (z, 0) for a point z of B."""
        free = self.base.as_variables(f"{name}_leading")
        return SetVariables(
            add((sp.eye_array(self.dim, self.base.dim), free.point), name=name),
            free.sets,
            free.symmetric,
        )

    @property
    def vertex_count(self) -> float:
        return self.base.vertex_count

    def vertices(self) -> Iterator[Vector]:
        return (self._padded(chunk) for chunk in self.base.vertices())

    def _first(self, forms: Vector) -> Vector:
        return forms[..., : self.base.dim]

    def _padded(self, points: Vector) -> Vector:
        return np.hstack([points, np.zeros((len(points), self.dim - self.base.dim))])


def hull_variables(columns: Matrix, name: str) -> SetVariables:
    """Return [P, -P] z for z >= 0 with sum(z) <= 1: the hull of the columns of P and -P."""
    parts = Input(2 * columns.shape[1], f"{name}_parts")
    both = (
        sp.hstack([columns, -columns]) if sp.issparse(columns) else np.hstack([columns, -columns])
    )
    return SetVariables(add((both, parts), name=name), {parts: Simplex(parts.size)}, symmetric=True)


def largest_sums(sizes: Vector) -> tuple[Vector, Vector]:
    """Return max_j sum_i a_ij for stacks of numbers, rounded up, and the terms of the largest sum.

    Parameters
    ----------
    sizes
        The a_ij, of shape (b, k, n).
    """
    totals = sizes.sum(axis=1)
    best = totals.argmax(axis=1)
    shares = np.take_along_axis(sizes, best[:, None, None], axis=2)[:, :, 0]
    return totals.max(axis=1) * (1 + gamma(sizes.shape[1])), shares


def signed_rows(points: Vector, values: Vector) -> Vector:
    """Return the point with the largest |value| for each row, times the sign of that value."""
    best = np.abs(values).argmax(axis=1)
    signs = np.where(np.take_along_axis(values, best[:, None], axis=1) < 0, -1.0, 1.0)
    return np.asarray(points[best] * signs)
