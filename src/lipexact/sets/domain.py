"""The base class of all domains: a polyhedron, intersected with l1 balls."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from lipexact.errors import DomainError
from lipexact.numerics.arrays import Matrix, Vector, alike, dense, read_only, summary
from lipexact.numerics.lp import LinearProgram, System, largest_slack
from lipexact.numerics.rounding import TINY, down, gamma, up
from lipexact.sets import constants
from lipexact.sets.convex import ConvexSet, ball_support, box_support, stack_blocks
from lipexact.sets.corners import (
    check_corners,
)


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Domain(ConvexSet):
    """The set of inputs {x : lower <= x <= upper, A x <= b}, intersected with l1 balls.

    It is made by :class:`Box`, :class:`Ball`, :class:`Polytope` and :class:`Reals`, and by ``&``,
    which intersects two domains.

    Attributes
    ----------
    lower, upper
        The bounding box, each of shape (d,).
    rows, limits
        A, of shape (k, d), and b, of shape (k,).
    balls
        Pairs of a centre, of shape (d,), and a radius.
    shape
        The shape of the arrays it was made of, before they were flattened. A network whose input
        has other axes refuses the domain.
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
                f"{what} is empty, flat, or too thin for floating-point arithmetic: no point was "
                "found in its interior, and a set without interior has no Lipschitz constant"
            )

    def __repr__(self) -> str:
        parts = {"lower": self.lower, "upper": self.upper}
        if self.limits.size:
            parts |= {"rows": self.rows, "limits": self.limits}
        shown = [f"{name}={summary(array)}" for name, array in parts.items()]
        balls = [f"({summary(center)}, {radius})" for center, radius in self.balls]
        if balls:
            shown.append(f"balls=[{', '.join(balls)}]")
        return f"Domain({', '.join(shown)})"

    def __and__(self, other: Domain) -> Domain:
        """Intersect two domains of the same dimension.

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
        """True if the domain is its bounding box."""
        return not (self.limits.size or self.balls)

    @cached_property
    def centre(self) -> Vector:
        """A point deep inside, shape (d,)."""
        middle = self.lower / 2 + self.upper / 2
        half = self.upper / 2 - self.lower / 2
        if self.is_box:
            return middle
        system = self.system()
        centre = system.lower / 2 + system.upper / 2
        half_widths = system.upper / 2 - system.lower / 2
        optimum = largest_slack(
            -system.rows @ sp.diags_array(half_widths),
            np.asarray(system.limits - system.rows @ centre, dtype=np.float64),
        )
        if optimum is None:
            return middle
        # Away from the sides of the box by half of the slack.
        shrunk = optimum.point[: self.dim] * (1 - max(min(optimum.slack, 1.0), 0.0) / 2)
        return np.asarray(middle + half * shrunk)

    def system(self) -> System:
        """Return rows for A x <= b, and for each ball rows z >= |x - center|, sum(z) <= radius.

        Each ball has variables z of its own.
        """
        d = self.dim
        count = len(self.balls)
        identity = sp.eye_array(d)
        none = None
        blocks: list[list[Matrix | None]] = []
        limits: list[Vector] = []
        if self.limits.size:
            blocks.append([sp.csr_array(self.rows), *[none] * count])
            limits.append(self.limits)
        for k, (center, radius) in enumerate(self.balls):
            before = [none] * k
            after = [none] * (count - k - 1)
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
        """Bound max{w x} from above for each row w of `weights`.

        Boxes, and balls around a point of their box, have closed forms. Other domains take a linear
        program for each row, whose multipliers give the bound.
        """
        if self.is_box:
            return box_support(weights, self.lower, self.upper)
        weights = dense(weights)
        if self._is_ball:
            center, radius = self.balls[0]
            return ball_support(weights, center, radius, self.lower, self.upper)
        system = self._system
        duals = np.zeros((len(weights), system.limits.size))
        padding = np.zeros(system.lower.size - self.dim)
        for k, row in enumerate(weights):
            optimum = self._program.maximise(np.concatenate([row, padding]))
            if optimum is not None:
                duals[k] = optimum[1]
        return np.minimum(
            self.dual_bound(weights, duals), box_support(weights, self.lower, self.upper)
        )

    def dual_bound(self, weights: Vector, multipliers: Vector) -> Vector:
        """Bound max{w x} from above for each row w, by multipliers of the rows of `system`.

        By weak duality, w y <= mu b + max over the box of (w - mu A) y for every mu >= 0.

        Parameters
        ----------
        weights
            Shape (k, d).
        multipliers
            Shape (k, rows); any numbers >= 0.

        Examples
        --------
        On the triangle {x >= 0 : x_1 + x_2 <= 1}, the multiplier 1 proves x_1 + x_2 <= 1, and the
        multiplier 0 proves only what the bounding box says:

        >>> from lipexact.sets.domains import Polytope
        >>> triangle = Polytope([[1, 1]], [1], lower=0)
        >>> triangle.dual_bound(np.ones((2, 2)), np.array([[1.0], [0.0]])).round(6)
        array([1., 2.])
        """
        if self.is_box:
            return box_support(weights, self.lower, self.upper)
        system = self._system
        padded = np.hstack([weights, np.zeros((len(weights), system.lower.size - self.dim))])
        left = padded - multipliers @ system.rows
        sizes, extent = self._sizes
        error = gamma(system.limits.size + 2) * (np.abs(padded) + multipliers @ sizes)
        total = multipliers @ system.limits + box_support(left, system.lower, system.upper)
        magnitude = multipliers @ np.abs(system.limits) + np.abs(left) @ extent
        bound = up(total, magnitude, system.limits.size) + 1.01 * (error @ extent)
        # Coefficients of `left` may underflow.
        return np.asarray(bound + TINY * (1 + extent.sum()) * weights.any(axis=1))

    @cached_property
    def _system(self) -> System:
        return self.system()

    @cached_property
    def _sizes(self) -> tuple[Matrix, Vector]:
        """The absolute values of the system's rows, and bounds of those of its variables."""
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
        if self.is_box or self._is_ball:
            return self
        box = object.__new__(Domain)
        box._fill(self.lower, self.upper)
        return box

    @cached_property
    def _program(self) -> LinearProgram:
        return LinearProgram(self._system)

    def __getstate__(self) -> dict[str, object]:
        """Leave out the linear program, which another process makes anew."""
        return {name: value for name, value in self.__dict__.items() if name != "_program"}

    def margin(self, points: Vector) -> Vector:
        """Bound the radius of the largest linf ball around each point in the domain from below.

        Parameters
        ----------
        points
            Shape (k, d).

        Returns
        -------
        Vector
            Shape (k,); 0 or less for points outside.
        """
        sides = np.minimum(points - self.lower, self.upper - points).min(axis=1)
        sides = np.where(sides > 0, sides * (1 - 2.0**-52), sides)
        if self.limits.size:
            magnitude = np.abs(points) @ np.abs(self.rows.T)
            values = up(points @ self.rows.T, magnitude, self.dim + 1) + TINY
            left = down(self.limits - values, np.abs(self.limits) + np.abs(values), 2)
            sides = np.minimum(
                sides, (left / np.abs(self.rows).sum(axis=1)).min(axis=1) * (1 - 1e-9)
            )
        for center, radius in self.balls:
            distance = np.abs(points - center).sum(axis=1) * (1 + gamma(self.dim + 2))
            sides = np.minimum(sides, (radius - distance) / self.dim * (1 - 1e-9))
        return np.asarray(sides)

    def maximisers(self, weights: Vector) -> Vector:
        """Return a point of the domain with the largest w x for each row w.

        The points may be outside by the tolerance of a linear program.
        """
        if self.is_box:
            return np.where(weights < 0, self.lower, self.upper)
        padding = np.zeros(self.system().lower.size - self.dim)
        optima = (self._program.maximise(np.concatenate([row, padding])) for row in weights)
        return np.array([self.centre if each is None else each[0][: self.dim] for each in optima])

    def pull(self, points: Vector) -> Vector:
        """Move points outside into the domain: into the bounding box, then towards the centre."""
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
        """Draw random points of the interior, shape (count, d).

        They are uniform in a box, and come from a hit-and-run walk in other domains.
        """
        if self.is_box:
            return rng.uniform(self.lower, self.upper, (count, self.dim))
        points = np.repeat(self.centre[None, :], count, axis=0)
        for _ in range(constants.WALK_STEPS):
            step = rng.normal(size=points.shape) * (self.upper - self.lower)
            ahead = self._reach(points, step)
            back = self._reach(points, -step)
            points = points + rng.uniform(-back, ahead)[:, None] * step
        return self.pull(points)

    def extremes(self, rng: np.random.Generator, count: int) -> Vector:
        """Draw points close to random vertices, shape (count, d).

        Gradients of trained networks are often largest there.
        """
        if self.is_box:
            width = self.upper - self.lower
            inset = width * rng.uniform(1e-9, 1e-3, (count, self.dim))
            return np.where(
                rng.random((count, self.dim)) < 0.5, self.lower + inset, self.upper - inset
            )
        directions = min(count, constants.MAX_DIRECTIONS)
        weights = rng.normal(size=(directions, self.dim)) / (self.upper - self.lower)
        vertices = self.maximisers(weights)
        vertices = np.repeat(vertices, -(-count // len(vertices)), axis=0)[:count]
        inset = rng.uniform(1e-9, 1e-3, (len(vertices), 1))
        return self.pull(self.centre + (1 - inset) * (vertices - self.centre))

    def _reach(self, points: Vector, steps: Vector) -> Vector:
        """Estimate how many steps each point, inside the domain, can go before it leaves it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(steps > 0, self.upper - points, self.lower - points) / steps
            far = np.where(steps != 0, room, np.inf).min(axis=1)
            if self.limits.size:
                speed = steps @ self.rows.T
                room = (self.limits - points @ self.rows.T) / speed
                far = np.minimum(far, np.where(speed > 0, room, np.inf).min(axis=1))
        far = np.clip(far, 0.0, 1e300)
        for center, radius in self.balls:
            # The distance from the centre is convex along a step, so that Newton's method from
            # outside ends at the border of the ball.
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
