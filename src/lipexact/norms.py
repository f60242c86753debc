"""Norms, with their duals, their unit balls as polyhedra, and themselves as graphs.

One registry entry per norm; whoever needs a norm asks :func:`norm`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import scipy.sparse as sp

from lipexact.domains import Box, ConvexSet, Simplex
from lipexact.errors import NormError
from lipexact.graph.ir import Affine, Input, Value, Vector
from lipexact.graph.lower import absolute, add, reduce_max, reduce_sum


class Norm(ABC):
    """A norm on R^n for every n."""

    name: str
    dual_name: str

    @property
    def dual(self) -> Norm:
        """The norm max{w z : ||z|| <= 1} of w."""
        return norm(self.dual_name)

    @abstractmethod
    def value(self, vectors: Vector) -> Vector:
        """||z|| for each row z of an array of shape (k, n) of floats, or of any exact numbers."""

    @abstractmethod
    def attains(self, weights: Vector) -> Vector:
        """A z with ||z|| = 1 and w z = max{w z : ||z|| <= 1}, for one w of shape (n,)."""

    @abstractmethod
    def lower(self, x: Value) -> Value:
        """||x|| as a graph, of size 1."""

    @abstractmethod
    def ball(self, n: int, name: str) -> tuple[Input, ConvexSet, Value]:
        """The unit ball: a new input, the polyhedron it ranges over, and the ball's point, of size n."""


_NORMS: dict[str, Norm] = {}
_Class = TypeVar("_Class", bound=type[Norm])


def register(name: str, dual: str) -> Callable[[_Class], _Class]:
    """Add a class to the registry of norms."""

    def enter(cls: _Class) -> _Class:
        cls.name, cls.dual_name = name, dual
        _NORMS[name] = cls()
        return cls

    return enter


def norm(name: str) -> Norm:
    """The norm of that name.

    Raises
    ------
    NormError
        If there is none.
    """
    try:
        return _NORMS[name]
    except (KeyError, TypeError):
        raise NormError(f"unknown norm {name!r}; supported: {', '.join(norm_names())}") from None


def norm_names() -> list[str]:
    """The names of all registered norms."""
    return sorted(_NORMS)


@register("linf", dual="l1")
class Linf(Norm):
    """The largest absolute value."""

    def value(self, vectors: Vector) -> Vector:
        """max_i |z_i|."""
        return np.asarray(abs(vectors).max(axis=1))

    def attains(self, weights: Vector) -> Vector:
        """The signs of w."""
        return np.where(weights < 0, -1.0, 1.0)

    def lower(self, x: Value) -> Value:
        """max_i |x_i| by a tree of maxima: 2n - 1 gates."""
        return reduce_max(absolute(x, "abs"), "max")

    def ball(self, n: int, name: str) -> tuple[Input, ConvexSet, Value]:
        """The cube [-1, 1]^n."""
        point = Input(n, name)
        return point, Box(-np.ones(n), np.ones(n)), point


@register("l1", dual="linf")
class L1(Norm):
    """The sum of the absolute values."""

    def value(self, vectors: Vector) -> Vector:
        """sum_i |z_i|."""
        return np.asarray(abs(vectors).sum(axis=1))

    def attains(self, weights: Vector) -> Vector:
        """The unit vector of the largest |w_i|, with its sign."""
        index = int(np.argmax(np.abs(weights)))
        return np.asarray(np.eye(1, weights.size, index)[0] * (-1.0 if weights[index] < 0 else 1.0))

    def lower(self, x: Value) -> Value:
        """sum_i |x_i|: n gates."""
        return reduce_sum(absolute(x, "abs"), "sum")

    def ball(self, n: int, name: str) -> tuple[Input, ConvexSet, Value]:
        """{p - q : p, q >= 0, sum(p + q) <= 1}."""
        parts = Input(2 * n, f"{name}_parts")
        identity = sp.eye_array(n)
        point: Affine = add((sp.hstack([identity, -identity]), parts), name=name)
        return parts, Simplex(2 * n), point
