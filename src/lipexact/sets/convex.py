"""Convex sets, given by their support functions and by systems of inequalities.

Bounds (:mod:`lipexact.bounds`) ask a set for its support function. Mixed-integer programs
(:mod:`lipexact.mip`) ask it for a system of inequalities whose projection it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from lipexact.numerics.arrays import Matrix, Vector, dense, read_only
from lipexact.numerics.lp import System
from lipexact.numerics.rounding import TINY, gamma, up


class ConvexSet(ABC):
    """A convex set in R^n; only :class:`~lipexact.sets.domains.Reals` is unbounded.

    Attributes
    ----------
    lower, upper
        The bounding box, each of shape (n,).
    euclidean_radius
        The points have at most this Euclidean norm; None where `system` says all.
    """

    lower: Vector
    upper: Vector
    euclidean_radius: float | None = None

    @property
    def dim(self) -> int:
        """The dimension n of the space around the set."""
        return int(self.lower.size)

    def system(self) -> System:
        """Return a polyhedron in R^(n + k) whose projection to the first n coordinates is the set.

        The constraint of `euclidean_radius` is not linear, and comes on top.
        """
        return System(self.lower, self.upper, sp.csr_array((0, self.dim)), np.zeros(0))

    @abstractmethod
    def support(self, weights: Matrix) -> Vector:
        """Bound max{w z : z in the set} from above for each row w of `weights`.

        Parameters
        ----------
        weights
            Shape (k, n).

        Returns
        -------
        Vector
            Shape (k,): the maximum, up to rounding (and up to the dual of a linear program).
        """


@dataclass(frozen=True, eq=False, init=False)
class Simplex(ConvexSet):
    """{z >= 0 : z_1 + ... + z_n <= 1}.

    Its image under [P, -P] is the convex hull of the columns of P and of -P.
    """

    lower: Vector
    upper: Vector

    def __init__(self, n: int) -> None:
        object.__setattr__(self, "lower", read_only(np.zeros(n)))
        object.__setattr__(self, "upper", read_only(np.ones(n)))

    def system(self) -> System:
        """Return one row: the sum is at most 1."""
        return System(self.lower, self.upper, sp.csr_array(np.ones((1, self.dim))), np.ones(1))

    def support(self, weights: Matrix) -> Vector:
        """Return max{w z}, which is the largest weight, or 0."""
        positive, _ = split_signs(weights)
        return dense(positive.max(axis=1)).ravel()


@dataclass(frozen=True, eq=False, init=False)
class EuclideanBall(ConvexSet):
    """{z : z_1^2 + ... + z_n^2 <= 1}."""

    lower: Vector
    upper: Vector

    def __init__(self, n: int) -> None:
        object.__setattr__(self, "lower", read_only(-np.ones(n)))
        object.__setattr__(self, "upper", read_only(np.ones(n)))
        object.__setattr__(self, "euclidean_radius", 1.0)

    def support(self, weights: Matrix) -> Vector:
        """Bound max{w z}, the Euclidean norm of w, from above."""
        weights = dense(weights)
        largest = np.abs(weights).max(axis=1, initial=0.0)
        scale = np.where(largest > 0, largest, 1.0)
        length = scale * np.sqrt(((weights / scale[:, None]) ** 2).sum(axis=1))
        return np.asarray(length * (1 + gamma(self.dim + 8)) + TINY * weights.any(axis=1))


def split_signs(weights: Matrix) -> tuple[Matrix, Matrix]:
    """Return the positive and the negative part of a dense or sparse matrix, which add up to it."""
    positive = weights.maximum(0) if hasattr(weights, "tocsr") else np.maximum(weights, 0.0)
    return positive, weights - positive


def box_support(weights: Matrix, lower: Vector, upper: Vector) -> Vector:
    """Bound max{w z : lower <= z <= upper} from above for each row w.

    Positive weights take the upper corner, negative ones the lower corner.

    Examples
    --------
    2 z_1 - 3 z_2 on [0, 1] x [-1, 2] is at most 2 * 1 - 3 * -1 = 5:

    >>> box_support(np.array([[2.0, -3.0]]), np.array([0.0, -1.0]), np.array([1.0, 2.0])).round(9)
    array([5.])
    """
    positive, negative = split_signs(weights)
    total = positive @ upper + negative @ lower
    bound = up(
        np.asarray(total), abs(weights) @ np.maximum(np.abs(lower), np.abs(upper)), lower.size
    )
    return np.asarray(bound + TINY * (abs(weights).sum(axis=1) > 0))


def ball_support(
    weights: Vector, center: Vector, radius: float, lower: Vector, upper: Vector
) -> Vector:
    """Bound max{w x} from above over an l1 ball, cut by a box that holds its centre.

    This is a fractional knapsack problem: the coordinates with the largest |w| move first, each as
    far as the box allows, until the radius is used up. The bound is the value of its dual,
    w c + price r + sum_i room_i max(|w_i| - price, 0), which is valid for every price >= 0.

    Examples
    --------
    For w = (3, 2) on the ball of radius 1 around 0, cut to [-1/2, 1/2]^2, both coordinates move by
    1/2. The price is 2, the weight of the coordinate that moves last: 2 * 1 + 1/2 * (3 - 2) = 5/2.

    >>> corner = np.full(2, 0.5)
    >>> ball_support(np.array([[3.0, 2.0]]), np.zeros(2), 1.0, -corner, corner).round(9)
    array([2.5])
    """
    size = np.abs(weights)
    room = np.where(weights > 0, upper - center, center - lower) * (1 + 2.0**-52)
    order = np.argsort(-size, axis=1)
    used = np.cumsum(np.take_along_axis(room, order, axis=1), axis=1)
    last = np.argmax(used >= radius, axis=1)
    price = np.take_along_axis(np.take_along_axis(size, order, axis=1), last[:, None], axis=1)[:, 0]
    price = np.where(used[:, -1] >= radius, price, 0.0)
    gain = (np.maximum(size - price[:, None], 0.0) * room).sum(axis=1)
    total = weights @ center + price * radius + gain
    magnitude = size @ np.abs(center) + price * radius + gain
    return up(total, magnitude, 2 * center.size + 4) + TINY * size.any(axis=1)


def stack_blocks(blocks: Sequence[Sequence[Matrix | None]], widths: Sequence[int]) -> Matrix:
    """Assemble a sparse matrix of rows of blocks; None is a block of zeros."""
    filled = []
    for row in blocks:
        height = next(block.shape[0] for block in row if block is not None)
        filled.append(
            [
                sp.csr_array((height, width)) if block is None else block
                for block, width in zip(row, widths, strict=True)
            ]
        )
    return sp.block_array(filled, format="csr")
