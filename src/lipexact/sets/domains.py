"""Domains of networks: boxes, balls, polytopes, their intersections, and all of R^d."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.errors import DomainError
from lipexact.numerics.arrays import Matrix, Vector, dense, floats, read_only, summary
from lipexact.sets.corners import (
    bounding_box,
    broadcast_corner,
    check_dimension,
    check_finite,
)
from lipexact.sets.domain import Domain


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Box(Domain):
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

    def __init__(self, lower: npt.ArrayLike, upper: npt.ArrayLike) -> None:
        low, high = (
            check_finite(
                floats(corner, f"the box's {what} corner", DomainError), f"the box's {what} corner"
            )
            for what, corner in (("lower", lower), ("upper", upper))
        )
        if low.shape != high.shape:
            raise DomainError(
                f"the box's corners have different shapes: {low.shape} and {high.shape}"
            )
        self._fill(low, high, what="the box")

    def __repr__(self) -> str:
        return f"Box({summary(self.lower)}, {summary(self.upper)})"

    @classmethod
    def unit(cls, d: int) -> Box:
        """Return the unit cube [0, 1]^d."""
        d = check_dimension(d, "the unit cube's dimension")
        return cls(np.zeros(d), np.ones(d))


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Ball(Domain):
    """The ball of a radius around a centre.

    Parameters
    ----------
    center
        The centre, of any shape with as many entries as the network's input.
    radius
        A positive number, or, in the linf norm, one radius per coordinate.
    norm
        "linf" or "l1".
    clip
        A pair (lo, hi) of numbers or arrays: the ball is cut to lo <= x <= hi, as for pixels.

    Raises
    ------
    DomainError
        If the centre or radius is not a number, infinite, or the radius not positive; if the cut
        leaves nothing or something flat.

    Notes
    -----
    The corners of an linf ball are `center` - `radius` and `center` + `radius`, rounded to
    float64.
    """

    center: Vector
    radius: float | Vector
    norm: str

    def __init__(
        self,
        center: npt.ArrayLike,
        radius: npt.ArrayLike,
        norm: str = "linf",
        clip: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    ) -> None:
        if norm not in ("linf", "l1"):
            raise DomainError(
                f"a ball is one of norm 'linf' or 'l1', not {norm!r}; for others use a Polytope"
            )
        middle = floats(center, "the ball's centre", DomainError)
        reach = floats(radius, "the ball's radius", DomainError)
        if not (np.isfinite(reach).all() and (reach > 0).all()):
            raise DomainError(f"the ball's radius must be positive and finite, not {radius!r}")
        if reach.size != 1 and (norm == "l1" or reach.size != middle.size):
            raise DomainError(
                f"{reach.size} radii do not fit a centre of {middle.size} entries "
                f"in the norm {norm!r}"
            )
        shape = middle.shape
        middle = middle.ravel()
        reach = reach.ravel()
        low, high = _ball_corners(middle, reach, norm)
        if clip is not None:
            least, most = _clip_limits(clip, middle.size)
            low = np.maximum(low, least)
            high = np.minimum(high, most)
        for corner in (low, high):
            check_finite(corner, "the ball's corner")
        size = float(reach[0]) if reach.size == 1 else read_only(reach)
        balls = ((read_only(middle), float(reach[0])),) if norm == "l1" else ()
        self._fill(
            low,
            high,
            balls=balls,
            what="the ball" if clip is None else "the clipped ball",
            shape=shape,
        )
        object.__setattr__(self, "center", read_only(middle))
        object.__setattr__(self, "radius", size)
        object.__setattr__(self, "norm", norm)

    def __repr__(self) -> str:
        low, high = _ball_corners(self.center, np.ravel(self.radius), self.norm)
        clipped = not (np.array_equal(low, self.lower) and np.array_equal(high, self.upper))
        clip = f", clip=({summary(self.lower)}, {summary(self.upper)})" if clipped else ""
        return f"Ball({summary(self.center)}, {summary(self.radius)}, norm={self.norm!r}{clip})"


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Polytope(Domain):
    """The points with A x <= b, between two corners where they are given.

    Parameters
    ----------
    A
        Shape (k, d), dense or sparse.
    b
        Shape (k,).
    lower, upper
        Numbers or corners of shape (d,); None, or infinite entries, where A x <= b alone bounds x.

    Raises
    ------
    DomainError
        If a number is not finite, the shapes do not fit, or the polytope is unbounded, empty or
        flat.

    Examples
    --------
    >>> triangle = Polytope([[1, 1]], [1], lower=0)
    >>> triangle.upper.round(6)
    array([1., 1.])
    """

    def __init__(
        self,
        A: npt.ArrayLike | Matrix,
        b: npt.ArrayLike,
        lower: npt.ArrayLike | None = None,
        upper: npt.ArrayLike | None = None,
    ) -> None:
        matrix = dense(A) if sp.issparse(A) else A
        rows = check_finite(floats(matrix, "the polytope's A", DomainError), "the polytope's A")
        limits = check_finite(floats(b, "the polytope's b", DomainError), "the polytope's b")
        if rows.ndim != 2 or limits.shape != (len(rows),):
            raise DomainError(
                f"A of shape {rows.shape} and b of shape {limits.shape} are no system A x <= b"
            )
        low = broadcast_corner(lower, rows.shape[1], -np.inf, "the polytope's lower corner")
        high = broadcast_corner(upper, rows.shape[1], np.inf, "the polytope's upper corner")
        empty = ~rows.any(axis=1)
        if (limits[empty] < 0).any():
            raise DomainError("the polytope is empty: a row of A is 0, and its limit below 0")
        rows, limits = rows[~empty], limits[~empty]
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            low, high = bounding_box(low, high, rows, limits)
        self._fill(low, high, rows, limits, what="the polytope")

    def __repr__(self) -> str:
        return (
            f"Polytope({summary(self.rows)}, {summary(self.limits)}, "
            f"lower={summary(self.lower)}, upper={summary(self.upper)})"
        )


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Reals(Domain):
    """All of R^d, for the global constant; ``&`` with another domain is that domain.

    Parameters
    ----------
    d
        The dimension.

    Raises
    ------
    DomainError
        If that is no positive integer.

    Examples
    --------
    >>> Reals(2).dim
    2
    """

    def __init__(self, d: int) -> None:
        d = check_dimension(d, "the dimension of Reals")
        object.__setattr__(self, "shape", (d,))
        object.__setattr__(self, "lower", read_only(np.full(d, -np.inf)))
        object.__setattr__(self, "upper", read_only(np.full(d, np.inf)))
        object.__setattr__(self, "rows", read_only(np.zeros((0, d))))
        object.__setattr__(self, "limits", read_only(np.zeros(0)))
        object.__setattr__(self, "balls", ())

    def __repr__(self) -> str:
        return f"Reals({self.dim})"

    def __and__(self, other: Domain) -> Domain:
        """Return the other domain."""
        if isinstance(other, Reals) and other.dim == self.dim:
            return other
        return super().__and__(other)

    def margin(self, points: Vector) -> Vector:
        """Return the largest float for each point."""
        return np.full(len(points), np.finfo(np.float64).max)


def _ball_corners(center: Vector, radii: Vector, norm: str) -> tuple[Vector, Vector]:
    """Return the corners of the box around a ball, which may be infinite.

    In linf the rounded corners define the ball. In l1 the ball counts: its box may be too large,
    but not too small.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # infinite corners are refused later
        low = center - radii
        high = center + radii
        if norm == "l1":
            low = np.nextafter(low, -np.inf)
            high = np.nextafter(high, np.inf)
    return low, high


def _clip_limits(clip: tuple[npt.ArrayLike, npt.ArrayLike], d: int) -> tuple[Vector, Vector]:
    """Return the two limits of a clip, of one entry or of d entries each.

    Raises
    ------
    DomainError
        If the clip is no pair, or a limit is no array of numbers or of another size.
    """
    if isinstance(clip, str) or not isinstance(clip, Sequence | np.ndarray) or len(clip) != 2:
        raise DomainError(f"the ball's clip must be a pair (lo, hi), not {clip!r}")
    least, most = (floats(limit, "the ball's clip", DomainError) for limit in clip)
    for limit in (least, most):
        if limit.size not in (1, d):
            raise DomainError(f"a clip of {limit.size} entries does not fit a centre of {d}")
    return least.ravel(), most.ravel()
