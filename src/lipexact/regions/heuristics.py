"""Primal heuristics: lower bounds of the Lipschitz constant from sampling and local search."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lipexact.graph.evaluate import batches, evaluate
from lipexact.network import Network
from lipexact.numerics.arrays import Vector
from lipexact.regions import constants
from lipexact.regions.affine import gate_forms, pattern_at
from lipexact.regions.feasibility import LinearRegion, decide_region
from lipexact.regions.operator_norm import OperatorNorm, estimate_norms, jacobian_norm
from lipexact.sets.domain import Domain
from lipexact.sets.unit_balls import SymmetricSet


@dataclass(frozen=True, eq=False)
class Incumbent:
    """A linear region, and the operator norm of its Jacobian: a lower bound of L."""

    norm: OperatorNorm
    region: LinearRegion


def best_region(
    network: Network,
    domain: Domain,
    functionals: SymmetricSet,
    directions: SymmetricSet,
    *,
    deadline: float,
    kinks: Sequence[npt.NDArray[np.bool_]] | None = None,
    seed: int = 0,
) -> Incumbent | None:
    """Search for the linear region whose Jacobian has the largest operator norm.

    The search evaluates Jacobians in batches: at random points, then at points next to vertices of
    the domain, then around the incumbent at scales from the whole domain down to a millionth of it.
    As long as that improves, it goes on in the regions next to the incumbent's. The region that is
    returned is checked by interval arithmetic (:func:`.pattern_at`).

    Parameters
    ----------
    network, domain, functionals, directions
        f, X, and the sets of c and v in the operator norm max c^T J v.
    deadline
        A time of `time.perf_counter`, in seconds, at which to stop with what is there. One batch,
        of as many points as fit into some memory, is always evaluated.
    kinks
        For each layer of gates which of them may change inside the domain; None for all.
    seed
        Of the random numbers.

    Returns
    -------
    Incumbent or None
        None if no point could be shown to be in a region with interior.
    """
    rng = np.random.default_rng(seed)
    search = LocalSearch(network, domain, functionals, directions, deadline, kinks=kinks)
    points = domain.sample(rng, constants.SEARCH_SAMPLES)
    search.improve(points)
    if not search.over:
        search.improve(domain.extremes(rng, constants.SEARCH_SAMPLES))
    for scale in np.geomspace(1.0, constants.SMALLEST_SCALE, constants.SEARCH_ROUNDS):
        if search.incumbent is None or search.over:
            break
        search.improve(_points_around(domain, rng, search.incumbent.region.point, scale))
        search.walk()
    if search.incumbent is None:
        # Every point has a pre-activation near 0: the most promising ones are decided exactly.
        return search.decide_best(points)
    if np.isinf(search.incumbent.norm.upper) and time.perf_counter() < deadline:
        # The norm was computed with few vertices; more may be tried for the final region.
        region = search.incumbent.region
        return Incumbent(jacobian_norm(network, functionals, directions, region.pattern), region)
    return search.incumbent


class LocalSearch:
    """A local search over linear regions, which keeps the best one so far.

    Parameters
    ----------
    network, domain, functionals, directions
        f, X, and the sets of c and v in the operator norm max c^T J v.
    deadline
        A time of `time.perf_counter`, in seconds.
    incumbent
        A region to start with.
    kinks
        For each layer of gates which of them may change inside the domain; None for all.

    Attributes
    ----------
    incumbent
        The best region so far; None before the first one.
    deadline
        May be changed between calls.
    """

    def __init__(
        self,
        network: Network,
        domain: Domain,
        functionals: SymmetricSet,
        directions: SymmetricSet,
        deadline: float,
        incumbent: Incumbent | None = None,
        *,
        kinks: Sequence[npt.NDArray[np.bool_]] | None = None,
    ) -> None:
        self.network = network
        self.domain = domain
        self.functionals = functionals
        self.directions = directions
        self.deadline = deadline
        self.incumbent = incumbent
        self._cotangent, self._gradient = network.pullback
        self._kinks = [np.arange(gate.size) for gate in network.gates]
        if kinks is not None:
            self._kinks = [np.flatnonzero(mask) for mask in kinks]

    @property
    def over(self) -> bool:
        """True if the time is up, or the network has no gates, so that any point has its norm."""
        return time.perf_counter() > self.deadline or not self.network.gates

    def improve(self, points: Vector) -> bool:
        """Make the best of some points the incumbent, if it is better and can be checked.

        Parameters
        ----------
        points
            Shape (k, d); those outside the domain's interior are ignored.

        Returns
        -------
        bool
            Whether there is a new incumbent.
        """
        norms = np.full(len(points), -np.inf)  # of points that are not evaluated in time
        for part in batches(self._gradient, len(points)):
            if part.start and self.over:
                break
            norms[part] = self.norms(points[part])
        inside = self.domain.margin(points) > 0
        order = np.argsort(-np.where(inside, norms, -np.inf))
        for index in order[: constants.CHECKED_POINTS].tolist():
            if not inside[index] or np.isneginf(norms[index]):
                return False
            if self.incumbent is not None and norms[index] <= self.incumbent.norm.lower:
                return False
            if self._accept(points[index]):
                return True
        return False

    def _accept(self, point: Vector) -> bool:
        """Make the region around a point the incumbent, if it is certain and better."""
        pattern = pattern_at(self.network, point)
        if pattern is None:
            return False
        norm = jacobian_norm(
            self.network,
            self.functionals,
            self.directions,
            pattern,
            max_vertices=constants.MAX_SEARCH_VERTICES,
        )
        if self.incumbent is not None and norm.lower <= self.incumbent.norm.lower:
            return False
        self.incumbent = Incumbent(norm, LinearRegion(point, pattern))
        return True

    def walk(self) -> None:
        """Move the incumbent to the best of the adjacent regions, as long as that improves."""
        kinks = sum(chosen.size for chosen in self._kinks)
        if kinks * self.domain.dim > constants.MAX_BORDER_NUMBERS:
            return
        while self.incumbent is not None and not self.over:
            region = self.incumbent.region
            if not self.improve(_points_across(self.network, self.domain, region, self._kinks)):
                return

    def climb(self, points: Vector) -> None:
        """Walk from the best of some points, and keep the incumbent if that is better."""
        before = self.incumbent
        self.incumbent = None
        try:
            self.improve(points)
            self.walk()
        finally:
            after = self.incumbent
            if before is not None and (after is None or after.norm.lower <= before.norm.lower):
                self.incumbent = before

    def decide_best(self, points: Vector) -> Incumbent | None:
        """Decide exactly on the patterns at the most promising points; one is always tried.

        Parameters
        ----------
        points
            Shape (k, d); only as many are looked at as fit into one batch.

        Returns
        -------
        Incumbent or None
            The best of the regions with interior. It does not become the incumbent.
        """
        best: Incumbent | None = None
        part = batches(self._gradient, len(points))[0]
        for index in np.argsort(-self.norms(points[part]))[: constants.DECIDED_POINTS].tolist():
            values = evaluate(self.network.graph, {self.network.input: points[index : index + 1]})
            pattern = tuple(values[gate][0].astype(np.int8) for gate in self.network.gates)
            region = decide_region(self.network, self.domain, pattern)
            if isinstance(region, LinearRegion):
                norm = jacobian_norm(
                    self.network, self.functionals, self.directions, region.pattern
                )
                if best is None or norm.lower > best.norm.lower:
                    best = Incumbent(norm, region)
            if self.over:
                break
        return best

    def norms(self, points: Vector) -> Vector:
        """Estimate the operator norms of the Jacobians at points of shape (k, d)."""
        if self.functionals.vertex_count == 1:
            (rows,) = self.functionals.vertices()
            return self.directions.support_estimate(self._gradients(points, rows[0]))
        units = np.eye(self.network.output.size)
        jacobians = np.stack([self._gradients(points, unit) for unit in units], axis=1)
        return estimate_norms(jacobians, self.functionals, self.directions)

    def _gradients(self, points: Vector, functional: Vector) -> Vector:
        """Return c^T J at points, shape (k, d)."""
        inputs = {self.network.input: points, self._cotangent: functional[None, :]}
        values = evaluate(self._gradient, inputs)[self._gradient.outputs[0]]
        return np.broadcast_to(values, points.shape)


def _points_around(domain: Domain, rng: np.random.Generator, point: Vector, scale: float) -> Vector:
    """Draw points around one, each moved in a random share of its coordinates.

    The moves are uniform, up to `scale` times the width of the domain's bounding box.
    """
    shape = (constants.SEARCH_MOVES, domain.dim)
    moved = rng.random(shape) < rng.random((constants.SEARCH_MOVES, 1))
    width = domain.upper - domain.lower
    return domain.pull(point + moved * rng.uniform(-scale, scale, shape) * width)


def _points_across(
    network: Network, domain: Domain, region: LinearRegion, kinks: Sequence[npt.NDArray[np.intp]]
) -> Vector:
    """Return points just across each of the nearest borders of a region, and further that way.

    A border is where the pre-activation z of a gate is 0. Measured in the widths of the domain's
    box, it is reached soonest by moving every coordinate by the same share of its width, with the
    sign that makes |z| smaller. That share is |z| / sum_j |dz/dx_j| width_j: for z = 3 x_0 - x_1 at
    the point (1, 1) of [0, 2]^2 it is 2 / (3 * 2 + 1 * 2) = 1/4, and the border is met at
    (1/2, 3/2).
    """
    width = domain.upper - domain.lower
    forms = [
        gate_forms(network, region.pattern, layer, chosen) for layer, chosen in enumerate(kinks)
    ]
    linear = np.vstack([slopes for slopes, _ in forms])
    values = np.concatenate([slopes @ region.point + constant for slopes, constant in forms])
    speed = np.abs(linear) @ width
    distance = np.abs(values) / np.where(speed > 0, speed, 1.0)
    nearest = np.argsort(np.where(speed > 0, distance, np.inf))[: constants.SEARCH_MOVES]
    nearest = nearest[(speed[nearest] > 0) & (distance[nearest] <= 1.0)]
    steps = -np.sign(values[nearest])[:, None] * np.sign(linear[nearest]) * width
    moved = [
        region.point + (stride * distance[nearest])[:, None] * steps for stride in constants.STRIDES
    ]
    return domain.pull(np.vstack([region.point[None, :], *moved]))
