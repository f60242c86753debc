"""Convex sets: the domains of networks, and what directions and functionals range over.

Bounds (:mod:`lipexact.bounds`) ask a set for its support function, programs (:mod:`lipexact.mip`) for a
system of inequalities whose shadow it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.errors import DomainError
from lipexact.numerics.arrays import Matrix, Vector, alike, dense, floats, read_only
from lipexact.numerics.lp import LinearProgram, System, largest_slack
from lipexact.numerics.rounding import TINY, down, gamma, up
from lipexact.sets import constants
from lipexact.sets.convex import ConvexSet, ball_support, box_support, stack_blocks
from lipexact.sets.corners import (
    bounding_box,
    broadcast_corner,
    check_corners,
    check_dimension,
    check_finite,
)


@dataclass(frozen=True, eq=False, init=False)
class Domain(ConvexSet):
    """What a network's input ranges over: {x : lower <= x <= upper, A x <= b}, cut by balls of the l1 norm.

    Made by :class:`Box`, :class:`Ball`, :class:`Polytope`, :class:`Reals`, and ``&``, which intersects two of them.

    Attributes
    ----------
    lower, upper
        The bounding box, each of shape (d,).
    rows, limits
        A, of shape (k, d), and b, of shape (k,).
    balls
        Pairs of a centre, of shape (d,), and a radius.
    shape
        That of the arrays it was made of, before they were flattened: a network with other axes refuses it.
    """

    lower: Vector
    upper: Vector
    rows: Vector
    limits: Vector
    balls: tuple[tuple[Vector, float], ...]
    shape: tuple[int, ...]

    def __init__(self) -> None:
        raise DomainError("a domain is made by Box, Ball, Polytope, and & between them")

    def _fill(
        self,
        lower: Vector,
        upper: Vector,
        rows: Vector | None = None,
        limits: Vector | None = None,
        balls: tuple[tuple[Vector, float], ...] = (),
        what: str = "the domain",
        shape: tuple[int, ...] | None = None,
    ) -> None:
        check_corners(lower, upper, what)
        object.__setattr__(self, "shape", lower.shape if shape is None else shape)
        object.__setattr__(self, "lower", read_only(lower.ravel()))
        object.__setattr__(self, "upper", read_only(upper.ravel()))
        object.__setattr__(
            self, "rows", read_only(np.zeros((0, self.dim)) if rows is None else rows)
        )
        object.__setattr__(self, "limits", read_only(np.zeros(0) if limits is None else limits))
        object.__setattr__(self, "balls", balls)
        if not self.is_box and not self.margin(self.centre[None, :])[0] > 0:
            raise DomainError(
                f"{what} is empty, flat, or too thin for floating-point arithmetic: no point was found "
                "in its interior, and a set without interior has no Lipschitz constant"
            )

    def __and__(self, other: Domain) -> Domain:
        """The intersection of two domains of the same dimension.

        Raises
        ------
        DomainError
            If the dimensions or the order of the axes differ, or nothing with interior is left.
        """
        if not isinstance(other, Domain):
            return NotImplemented
        if other.dim != self.dim:
            raise DomainError(f"domains of {self.dim} and {other.dim} dimensions do not intersect")
        if not alike(self.shape, other.shape):
            raise DomainError(
                f"domains of arrays of the shapes {self.shape} and {other.shape} have other axes"
            )
        both = object.__new__(Domain)
        both._fill(
            np.maximum(self.lower, other.lower),
            np.minimum(self.upper, other.upper),
            np.vstack([self.rows, other.rows]),
            np.concatenate([self.limits, other.limits]),
            (*self.balls, *other.balls),
            "the intersection",
            self.shape if len(self.shape) > 1 else other.shape,
        )
        return both

    @property
    def is_box(self) -> bool:
        """Whether the domain is its bounding box."""
        return not (self.limits.size or self.balls)

    @cached_property
    def centre(self) -> Vector:
        """A point deep inside, shape (d,)."""
        middle, half = self.lower / 2 + self.upper / 2, self.upper / 2 - self.lower / 2
        if self.is_box:
            return middle
        system = self.system()
        centre, reach = system.lower / 2 + system.upper / 2, system.upper / 2 - system.lower / 2
        found = largest_slack(
            -system.rows @ sp.diags_array(reach),
            np.asarray(system.limits - system.rows @ centre, dtype=np.float64),
        )
        if found is None:
            return middle
        # Off the borders of the box by half of the slack.
        shrunk = found.point[: self.dim] * (1 - max(min(found.slack, 1.0), 0.0) / 2)
        return np.asarray(middle + half * shrunk)

    def system(self) -> System:
        """Rows for A x <= b, and for each ball z >= |x - center|, sum(z) <= radius, with z of its own."""
        d, count = self.dim, len(self.balls)
        identity, none = sp.eye_array(d), None
        blocks: list[list[Matrix | None]] = []
        limits: list[Vector] = []
        if self.limits.size:
            blocks.append([sp.csr_array(self.rows), *[none] * count])
            limits.append(self.limits)
        for k, (center, radius) in enumerate(self.balls):
            before, after = [none] * k, [none] * (count - k - 1)
            blocks.append([identity, *before, -identity, *after])
            blocks.append([-identity, *before, -identity, *after])
            blocks.append([none, *before, sp.csr_array(np.ones((1, d))), *after])
            limits += [center, -center, np.array([radius])]
        if not blocks:
            return super().system()
        radii = [np.full(d, radius) for _, radius in self.balls]
        return System(
            np.concatenate([self.lower, np.zeros(count * d)]),
            np.concatenate([self.upper, *radii]),
            stack_blocks(blocks, [d] * (1 + count)),
            np.concatenate(limits),
        )

    def support(self, weights: Matrix) -> Vector:
        """At least max{w x}: in closed form for boxes and for balls around a point of their box, else by LP."""
        if self.is_box:
            return box_support(weights, self.lower, self.upper)
        weights = dense(weights)
        if self._is_ball:
            center, radius = self.balls[0]
            return ball_support(weights, center, radius, self.lower, self.upper)
        system, program = self._system, self._program
        duals = np.zeros((len(weights), system.limits.size))
        padding = np.zeros(system.lower.size - self.dim)
        for k, row in enumerate(weights):
            found = program.maximise(np.concatenate([row, padding]))
            if found is not None:
                duals[k] = found[1]
        return np.minimum(
            self.dual_bound(weights, duals), box_support(weights, self.lower, self.upper)
        )

    def dual_bound(self, weights: Vector, multipliers: Vector) -> Vector:
        """At least max{w x}, by multipliers of the rows of `system`, of shape (k, rows), whatever they are if >= 0.

        Weak duality: for every mu >= 0, w y <= mu b + max over the box of (w - mu A) y.
        """
        if self.is_box:
            return box_support(weights, self.lower, self.upper)
        system = self._system
        padded = np.hstack([weights, np.zeros((len(weights), system.lower.size - self.dim))])
        left = padded - multipliers @ system.rows
        sizes, reach = self._sizes
        error = gamma(system.limits.size + 2) * (np.abs(padded) + multipliers @ sizes)
        total = multipliers @ system.limits + box_support(left, system.lower, system.upper)
        spread = multipliers @ np.abs(system.limits) + np.abs(left) @ reach
        bound = up(total, spread, system.limits.size) + 1.01 * (error @ reach)
        return np.asarray(
            bound + TINY * (1 + reach.sum()) * weights.any(axis=1)
        )  # coefficients may underflow

    @cached_property
    def _system(self) -> System:
        return self.system()

    @cached_property
    def _sizes(self) -> tuple[Matrix, Vector]:
        """The absolute values of the system's rows, and at least those of its variables."""
        system = self._system
        return abs(system.rows), np.maximum(np.abs(system.lower), np.abs(system.upper))

    @property
    def _is_ball(self) -> bool:
        if self.limits.size or len(self.balls) != 1:
            return False
        center, _ = self.balls[0]
        return bool((self.lower <= center).all() and (center <= self.upper).all())

    @property
    def quick(self) -> Domain:
        """The domain itself, or the box around it where `support` would take linear programs."""
        return self if self.is_box or self._is_ball else Box(self.lower, self.upper)

    @cached_property
    def _program(self) -> LinearProgram:
        return LinearProgram(self._system)

    def __getstate__(self) -> dict[str, object]:
        """Without the linear program, which another process makes anew."""
        return {name: value for name, value in self.__dict__.items() if name != "_program"}

    def margin(self, points: Vector) -> Vector:
        """For each row x, at most the radius of the largest linf ball around x in the domain; < 0 or 0 outside."""
        sides = np.minimum(points - self.lower, self.upper - points).min(axis=1)
        sides = np.where(sides > 0, sides * (1 - 2.0**-52), sides)
        if self.limits.size:
            values = (
                up(points @ self.rows.T, np.abs(points) @ np.abs(self.rows.T), self.dim + 1) + TINY
            )
            left = down(self.limits - values, np.abs(self.limits) + np.abs(values), 2)
            sides = np.minimum(
                sides, (left / np.abs(self.rows).sum(axis=1)).min(axis=1) * (1 - 1e-9)
            )
        for center, radius in self.balls:
            distance = np.abs(points - center).sum(axis=1) * (1 + gamma(self.dim + 2))
            sides = np.minimum(sides, (radius - distance) / self.dim * (1 - 1e-9))
        return np.asarray(sides)

    def maximisers(self, weights: Vector) -> Vector:
        """For each row w a point of the domain, up to the tolerance of a linear program, with the largest w x."""
        if self.is_box:
            return np.where(weights < 0, self.lower, self.upper)
        padding = np.zeros(self.system().lower.size - self.dim)
        found = (self._program.maximise(np.concatenate([row, padding])) for row in weights)
        return np.array([self.centre if each is None else each[0][: self.dim] for each in found])

    def pull(self, points: Vector) -> Vector:
        """The points, those outside moved inside: into the box, then towards the centre."""
        width = self.upper - self.lower
        inset = np.minimum(width * 1e-9, width / 4)
        points = np.clip(points, self.lower + inset, self.upper - inset)
        if self.is_box:
            return np.asarray(points)
        away = points - self.centre
        factor = np.minimum(
            1.0, self._reach(np.broadcast_to(self.centre, points.shape), away) * (1 - 1e-9)
        )
        return np.asarray(self.centre + factor[:, None] * away)

    def sample(self, rng: np.random.Generator, count: int) -> Vector:
        """Random points of the interior, shape (count, d): uniform in a box, by hit-and-run in other domains."""
        if self.is_box:
            return rng.uniform(self.lower, self.upper, (count, self.dim))
        points = np.repeat(self.centre[None, :], count, axis=0)
        for _ in range(constants.WALK_STEPS):
            step = rng.normal(size=points.shape) * (self.upper - self.lower)
            ahead, back = self._reach(points, step), self._reach(points, -step)
            points = points + rng.uniform(-back, ahead)[:, None] * step
        return self.pull(points)

    def extremes(self, rng: np.random.Generator, count: int) -> Vector:
        """Points a little inside of random vertices, where gradients of trained networks are often largest."""
        if self.is_box:
            width = self.upper - self.lower
            inset = width * rng.uniform(1e-9, 1e-3, (count, self.dim))
            return np.where(
                rng.random((count, self.dim)) < 0.5, self.lower + inset, self.upper - inset
            )
        weights = rng.normal(size=(min(count, constants.MAX_DIRECTIONS), self.dim)) / (
            self.upper - self.lower
        )
        vertices = self.maximisers(weights)
        vertices = np.repeat(vertices, -(-count // len(vertices)), axis=0)[:count]
        inset = rng.uniform(1e-9, 1e-3, (len(vertices), 1))
        return self.pull(self.centre + (1 - inset) * (vertices - self.centre))

    def _reach(self, points: Vector, steps: Vector) -> Vector:
        """About how far each point, inside the domain, can go in the direction of its step, in steps."""
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(steps > 0, self.upper - points, self.lower - points) / steps
            far = np.where(steps != 0, room, np.inf).min(axis=1)
            if self.limits.size:
                speed = steps @ self.rows.T
                room = (self.limits - points @ self.rows.T) / speed
                far = np.minimum(far, np.where(speed > 0, room, np.inf).min(axis=1))
        far = np.clip(far, 0.0, 1e300)
        for center, radius in self.balls:
            # The distance from the centre is convex along a step: Newton's method from outside ends at its border.
            for _ in range(constants.NEWTON_STEPS):
                away = points + far[:, None] * steps - center
                over = np.abs(away).sum(axis=1) - radius
                speed = (np.sign(away) * steps).sum(axis=1)
                far = np.where(
                    (over > 0) & (speed > 0),
                    np.maximum(far - over / np.where(speed > 0, speed, 1), 0),
                    far,
                )
        return np.asarray(far)


@dataclass(frozen=True, eq=False, init=False)
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

    @classmethod
    def unit(cls, d: int) -> Box:
        """The unit cube [0, 1]^d."""
        d = check_dimension(d, "the unit cube's dimension")
        return cls(np.zeros(d), np.ones(d))


@dataclass(frozen=True, eq=False, init=False)
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
    The corners of a ball in linf are `center` - `radius` and `center` + `radius`, rounded to float64.
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
                f"{reach.size} radii do not fit a centre of {middle.size} entries in the norm {norm!r}"
            )
        shape, middle, reach = middle.shape, middle.ravel(), reach.ravel()
        with np.errstate(over="ignore", invalid="ignore"):  # infinite corners are refused
            low, high = middle - reach, middle + reach
            if norm == "l1":  # here it is the ball that counts: its box may be larger, not smaller
                low, high = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
        if clip is not None:
            if (
                isinstance(clip, str)
                or not isinstance(clip, Sequence | np.ndarray)
                or len(clip) != 2
            ):
                raise DomainError(f"the ball's clip must be a pair (lo, hi), not {clip!r}")
            least, most = (floats(limit, "the ball's clip", DomainError) for limit in clip)
            for limit in (least, most):
                if limit.size not in (1, middle.size):
                    raise DomainError(
                        f"a clip of {limit.size} entries does not fit a centre of {middle.size}"
                    )
            low, high = np.maximum(low, least.ravel()), np.minimum(high, most.ravel())
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


@dataclass(frozen=True, eq=False, init=False)
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
        If a number is not finite, the shapes do not fit, or the polytope is unbounded, empty or flat.

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


@dataclass(frozen=True, eq=False, init=False)
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

    def __and__(self, other: Domain) -> Domain:
        """The other one."""
        if isinstance(other, Reals) and other.dim == self.dim:
            return other
        return super().__and__(other)

    def margin(self, points: Vector) -> Vector:
        """As large as floats go."""
        return np.full(len(points), np.finfo(np.float64).max)
