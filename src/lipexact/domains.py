"""Convex sets: the domains of networks, and the balls that directions range over.

Every set here is a polyhedron {z : lower <= z <= upper, A z <= b} and knows its support function,
which is all that the bounds (:mod:`lipexact.bounds`) and the programs (:mod:`lipexact.mip`) ask of it.
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lipexact.errors import DomainError
from lipexact.graph.ir import Matrix, Vector, dense


class ConvexSet(ABC):
    """A bounded polyhedron in R^n.

    Attributes
    ----------
    lower, upper
        The bounding box, each of shape (n,).
    """

    lower: Vector
    upper: Vector

    @property
    def dim(self) -> int:
        """The dimension n of the space around the set."""
        return int(self.lower.size)

    @abstractmethod
    def inequalities(self) -> tuple[Matrix, Vector]:
        """A of shape (k, n) and b of shape (k,): the rows A z <= b beyond the bounding box."""

    @abstractmethod
    def support(self, weights: Matrix) -> Vector:
        """max{w z : z in the set} for each row w of `weights`, shape (k, n); rounded to nearest."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, count: int) -> Vector:
        """`count` random points of the set, shape (count, n)."""


@dataclass(frozen=True, eq=False, init=False)
class Box(ConvexSet):
    """The points between two corners.

    Parameters
    ----------
    lower, upper
        The corners, of any one shape with as many entries as the network's input; flattened in C
        order.

    Raises
    ------
    DomainError
        If a corner is not a number or infinite, the shapes differ, the box is empty, or it is flat
        (an equal lower and upper entry): a set without interior has no Lipschitz constant.

    Examples
    --------
    >>> Box([0, 0], [1, 2]).upper
    array([1., 2.])
    >>> Box([0, 0], [1, 0])
    Traceback (most recent call last):
    ...
    lipexact.errors.DomainError: the box is flat in coordinate 1 (lower = upper = 0.0): ...
    """

    lower: Vector
    upper: Vector

    def __init__(self, lower: npt.ArrayLike, upper: npt.ArrayLike) -> None:
        corners = []
        for what, corner in (("lower", lower), ("upper", upper)):
            array = _numbers(corner, f"the box's {what} corner")
            if not np.isfinite(array).all():
                raise DomainError(
                    f"the box's {what} corner is infinite in coordinate {np.argmin(np.isfinite(array))}: "
                    "the method needs bounded inputs; give finite limits"
                )
            corners.append(array)
        low, high = corners
        if low.shape == high.shape and not (np.abs(np.subtract(high / 2, low / 2)) < 2.0**1000).all():
            raise DomainError("the box is too wide for floating-point arithmetic; scale the inputs")
        if low.shape != high.shape:
            raise DomainError(f"the box's corners have different shapes: {low.shape} and {high.shape}")
        if (low > high).any():
            index = int(np.argmax(low > high))
            raise DomainError(
                f"the box is empty: lower {low.flat[index]} > upper {high.flat[index]} in coordinate {index}"
            )
        if (low == high).any():
            index = int(np.argmax(low == high))
            raise DomainError(
                f"the box is flat in coordinate {index} (lower = upper = {low.flat[index]}): a set without "
                "interior has no Lipschitz constant; widen it, or fix that input to a constant in the network"
            )
        object.__setattr__(self, "lower", _frozen(low.ravel()))
        object.__setattr__(self, "upper", _frozen(high.ravel()))

    @classmethod
    def unit(cls, d: int) -> Box:
        """The unit cube [0, 1]^d."""
        if isinstance(d, bool) or not isinstance(d, numbers.Integral) or d < 1:
            raise DomainError(f"the unit cube's dimension must be a positive integer, not {d!r}")
        return cls(np.zeros(d), np.ones(d))

    def inequalities(self) -> tuple[Matrix, Vector]:
        """No rows: the box is its bounding box."""
        return np.zeros((0, self.dim)), np.zeros(0)

    def support(self, weights: Matrix) -> Vector:
        """max{w z}: each coordinate at the corner that its weight likes."""
        positive, negative = split_signs(weights)
        return np.asarray(positive @ self.upper + negative @ self.lower)

    def sample(self, rng: np.random.Generator, count: int) -> Vector:
        """Uniform points."""
        return rng.uniform(self.lower, self.upper, (count, self.dim))


@dataclass(frozen=True, eq=False, init=False)
class Ball(Box):
    """The ball of a radius around a centre, in the linf norm.

    Parameters
    ----------
    center
        The centre, of any shape with as many entries as the network's input.
    radius
        A positive number, or one radius per coordinate.
    norm
        "linf".
    clip
        A pair (lo, hi) of numbers or arrays: the ball is cut to lo <= x <= hi, as for pixels.

    Raises
    ------
    DomainError
        If the centre or radius is not a number, infinite, or the radius not positive; if the cut
        leaves nothing or something flat.
    """

    center: Vector
    radius: float | Vector

    def __init__(
        self,
        center: npt.ArrayLike,
        radius: npt.ArrayLike,
        norm: str = "linf",
        clip: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    ) -> None:
        if norm != "linf":
            raise DomainError(f"balls in the norm {norm!r} are not supported yet; use norm='linf'")
        middle = _numbers(center, "the ball's centre")
        reach = _numbers(radius, "the ball's radius")
        if not (np.isfinite(reach).all() and (reach > 0).all()):
            raise DomainError(f"the ball's radius must be positive and finite, not {radius!r}")
        if reach.size not in (1, middle.size):
            raise DomainError(f"{reach.size} radii do not fit a centre of {middle.size} entries")
        middle = middle.ravel()
        reach = reach.ravel()
        with np.errstate(over="ignore", invalid="ignore"):  # infinite corners are refused by the box
            low, high = middle - reach, middle + reach
        if clip is not None:
            if not isinstance(clip, Sequence) or len(clip) != 2:
                raise DomainError(f"the ball's clip must be a pair (lo, hi), not {clip!r}")
            least, most = (_numbers(limit, "the ball's clip") for limit in clip)
            for limit in (least, most):
                if limit.size not in (1, middle.size):
                    raise DomainError(f"a clip of {limit.size} entries does not fit a centre of {middle.size}")
            low, high = np.maximum(low, least.ravel()), np.minimum(high, most.ravel())
        super().__init__(low, high)
        object.__setattr__(self, "center", _frozen(middle))
        object.__setattr__(self, "radius", float(reach[0]) if reach.size == 1 else _frozen(reach))


@dataclass(frozen=True, eq=False, init=False)
class Simplex(ConvexSet):
    """{z >= 0 : z_1 + ... + z_n <= 1}, whose image under [I, -I] is the unit ball of l1."""

    lower: Vector
    upper: Vector

    def __init__(self, n: int) -> None:
        object.__setattr__(self, "lower", _frozen(np.zeros(n)))
        object.__setattr__(self, "upper", _frozen(np.ones(n)))

    def inequalities(self) -> tuple[Matrix, Vector]:
        """One row: the sum is at most 1."""
        return np.ones((1, self.dim)), np.ones(1)

    def support(self, weights: Matrix) -> Vector:
        """max{w z}: the largest weight, or 0."""
        positive, _ = split_signs(weights)
        largest = positive.max(axis=1)
        return dense(largest).ravel()

    def sample(self, rng: np.random.Generator, count: int) -> Vector:
        """Uniform points."""
        return rng.dirichlet(np.ones(self.dim + 1), count)[:, 1:]


def split_signs(weights: Matrix) -> tuple[Matrix, Matrix]:
    """The positive and the negative part of a dense or sparse matrix; their sum is the matrix."""
    positive = weights.maximum(0) if hasattr(weights, "tocsr") else np.maximum(weights, 0.0)
    return positive, weights - positive


def _numbers(values: npt.ArrayLike, what: str) -> Vector:
    try:
        array = np.array(values)
        if not np.iscomplexobj(array):
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DomainError(f"{what} is not an array of numbers: {error}") from None
    if np.iscomplexobj(array):
        raise DomainError(f"{what} has complex numbers")
    if array.size == 0:
        raise DomainError(f"{what} is empty")
    if np.isnan(array).any():
        raise DomainError(f"{what} is NaN in coordinate {int(np.argmax(np.isnan(array)))}")
    return array


def _frozen(array: Vector) -> Vector:
    array.setflags(write=False)
    return array
