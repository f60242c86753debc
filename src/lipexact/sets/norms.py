"""Norms, each given by its unit ball and by the polar of the ball.

A norm with a name is one class with :func:`register`; :func:`norm` finds it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.errors import NormError
from lipexact.numerics.arrays import Vector, dense, floats
from lipexact.sets.polyhedral import HalfSpaces, Hull
from lipexact.sets.unit_balls import CrossPolytope, Cube, EuclideanUnitBall, Stretched, SymmetricSet


class Norm(ABC):
    """A norm on R^n for every n, or for one."""

    name: str

    @abstractmethod
    def ball(self, n: int) -> SymmetricSet:
        """Return the unit ball {z : ||z|| <= 1} in R^n."""

    @abstractmethod
    def polar(self, n: int) -> SymmetricSet:
        """Return the unit ball of the dual norm, max{w z : ||z|| <= 1}.

        These are the forms w that are at most 1 on the unit ball.
        """


_NORMS: dict[str, Norm] = {}
_Class = TypeVar("_Class", bound=type[Norm])


def register(name: str) -> Callable[[_Class], _Class]:
    """Add a class to the registry of norms."""

    def enter(cls: _Class) -> _Class:
        cls.name = name
        _NORMS[name] = cls()
        return cls

    return enter


def norm(which: str | Norm) -> Norm:
    """Return the norm of that name; a norm itself is returned as it is.

    Raises
    ------
    NormError
        If there is no norm of that name.
    """
    if isinstance(which, Norm):
        return which
    try:
        return _NORMS[which]
    except (KeyError, TypeError):
        raise NormError(
            f"unknown norm {which!r}; supported: {', '.join(norm_names())}, or a PolyhedralNorm"
        ) from None


def norm_names() -> list[str]:
    """Return the names of all registered norms."""
    return sorted(_NORMS)


@register("linf")
class Linf(Norm):
    """The largest absolute value."""

    def ball(self, n: int) -> SymmetricSet:
        """Return the cube."""
        return _segment() if n == 1 else Cube(n)

    def polar(self, n: int) -> SymmetricSet:
        """Return the cross-polytope."""
        return _segment() if n == 1 else CrossPolytope(n)


@register("l1")
class L1(Norm):
    """The sum of the absolute values."""

    def ball(self, n: int) -> SymmetricSet:
        """Return the cross-polytope."""
        return _segment() if n == 1 else CrossPolytope(n)

    def polar(self, n: int) -> SymmetricSet:
        """Return the cube."""
        return _segment() if n == 1 else Cube(n)


@register("l2")
class L2(Norm):
    """The Euclidean norm."""

    def ball(self, n: int) -> SymmetricSet:
        """Return the Euclidean ball."""
        return _segment() if n == 1 else EuclideanUnitBall(n)

    def polar(self, n: int) -> SymmetricSet:
        """Return the Euclidean ball, which is its own polar."""
        return self.ball(n)


class PolyhedralNorm(Norm):
    """A norm whose unit ball is a polytope, given by its half-spaces or by its vertices.

    Parameters
    ----------
    halfspaces
        H of shape (k, n): the ball is {z : H z <= 1}, and the norm max_k h_k z.
    vertices
        P of shape (k, n): the ball is the hull of the rows.

    Raises
    ------
    NormError
        Unless exactly one of the two is given, as a finite matrix whose rows come in pairs h and -h
        and span R^n.

    Examples
    --------
    The norm ``max(|z_1| / 2, |z_2|)``, under which the first entry may change twice as far:

    >>> H = np.array([[0.5, 0], [0, 1]])
    >>> weighted = PolyhedralNorm(halfspaces=np.vstack([H, -H]))
    >>> weighted.polar(2).support(np.array([[2.0, 0.0]]))
    array([1.])
    """

    name = "polyhedral"

    def __init__(
        self, *, halfspaces: npt.ArrayLike | None = None, vertices: npt.ArrayLike | None = None
    ) -> None:
        if (halfspaces is None) == (vertices is None):
            raise NormError(
                "give a PolyhedralNorm either halfspaces=H, for the ball H z <= 1, or vertices=P"
            )
        what = "halfspaces" if vertices is None else "vertices"
        self.rows = _half(vertices if halfspaces is None else halfspaces, what)
        self.by_vertices = halfspaces is None

    @property
    def dim(self) -> int:
        """The dimension n of the space that it measures."""
        return int(self.rows.shape[1])

    def ball(self, n: int) -> SymmetricSet:
        """Return the ball by half-spaces or by vertices, as given."""
        return self._symmetric_set(n, self.by_vertices)

    def polar(self, n: int) -> SymmetricSet:
        """Return the polar: the normals of the half-spaces are its vertices, and vice versa."""
        return self._symmetric_set(n, not self.by_vertices)

    def _symmetric_set(self, n: int, by_vertices: bool) -> SymmetricSet:
        if n != self.dim:
            raise NormError(
                f"a PolyhedralNorm of {self.dim} dimensions does not measure {n} entries; the "
                "norms of inputs and outputs are chosen by input_norm and output_norm"
            )
        if n == 1:
            return Stretched(
                _segment(), self.rows.max(axis=0) if by_vertices else 1 / self.rows.max(axis=0)
            )
        if (np.count_nonzero(self.rows, axis=1) == 1).all():  # a weighted l1 or linf norm
            sizes = np.abs(self.rows).max(axis=0)
            return (
                Stretched(CrossPolytope(n), sizes) if by_vertices else Stretched(Cube(n), 1 / sizes)
            )
        return Hull(self.rows) if by_vertices else HalfSpaces(self.rows)

    def __repr__(self) -> str:
        what = "vertices" if self.by_vertices else "half-spaces"
        return f"PolyhedralNorm({2 * len(self.rows)} {what} in {self.dim} dimensions)"


def _segment() -> SymmetricSet:
    """Return [-1, 1], the unit ball of every norm on R."""
    return Hull(np.ones((1, 1)))


def _half(values: npt.ArrayLike | None, what: str) -> Vector:
    """Check the rows of a matrix, and return one of each pair h and -h."""
    rows = floats(
        dense(values) if sp.issparse(values) else values,
        f"a PolyhedralNorm's matrix of {what}",
        NormError,
    )
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise NormError(
            f"a PolyhedralNorm's {what} are a finite matrix of shape (k, n), "
            f"not of shape {rows.shape}"
        )
    rows = np.unique(rows[rows.any(axis=1)] + 0.0, axis=0)
    if {row.tobytes() for row in rows} != {(0.0 - row).tobytes() for row in rows}:
        raise NormError(
            f"a PolyhedralNorm's {what} must come in pairs h and -h, since a norm is symmetric: "
            f"add the missing ones, as by np.vstack([H, -H])"
        )
    # The rank does not depend on the units of the coordinates, but its tolerance does.
    units = np.abs(rows).max(axis=0, initial=0.0)
    if not units.all() or np.linalg.matrix_rank(rows / units) < rows.shape[1]:
        shape = "unbounded" if what == "halfspaces" else "flat"
        raise NormError(
            "the ball of a PolyhedralNorm must be bounded, with interior; "
            f"these {what} leave it {shape}"
        )
    return np.asarray(rows[rows.shape[0] // 2 :])
