"""Lower bounds of the Lipschitz constant: sampled Jacobians, improved by local search."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lipexact.graph.evaluate import batches, evaluate
from lipexact.network import Network
from lipexact.numerics.arrays import Vector
from lipexact.regions.affine import gate_forms, pattern_at
from lipexact.regions.feasibility import LinearRegion, decide_region
from lipexact.regions.operator_norm import OperatorNorm, estimate_norms, jacobian_norm
from lipexact.sets.domains import Domain
from lipexact.sets.unit_balls import SymmetricSet

_SAMPLES = 1024  # spread over the whole domain, and near its vertices
_MOVES = 256  # around the best point, in each of so many rounds
_ROUNDS = 24
_DECIDED = 3  # points that are looked at exactly where no other way helps
_MOST_VERTICES = 4096.0  # tried for each region that looks better
_MOST_SLOPES = 2**24  # of all borders together
_STRIDES = (1.001, 1.5, 3.0)  # across a border, in multiples of its distance


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
    """The best of many linear regions.

    Random points and points next to vertices of the domain, then points around the best one at scales from
    the whole domain down to a millionth of it, and, as long as that helps, points in the regions next to its own.
    Jacobians are evaluated in batches; what is returned is checked (:func:`lipexact.regions.affine.pattern_at`).

    Parameters
    ----------
    network, domain, functionals, directions
        f, X, C and V.
    deadline
        A time of `time.perf_counter` at which to stop with what is there; one batch, of as many points as fit into
        some memory, is always done.
    kinks
        For each layer of gates which of them may change inside the domain; None for all.
    seed
        Of the random numbers.

    Returns
    -------
    Found or None
        None if no region could be shown to be one.
    """
    rng = np.random.default_rng(seed)
    search = LocalSearch(network, domain, functionals, directions, deadline, kinks=kinks)
    points = domain.sample(rng, _SAMPLES)
    search.improve(points)
    if not search.over:
        search.improve(domain.extremes(rng, _SAMPLES))
    for scale in np.geomspace(1.0, 1e-6, _ROUNDS):
        if search.best is None or search.over:
            break
        search.improve(_around(domain, rng, search.best.region.point, scale))
        search.walk()
    if (
        search.best is None
    ):  # every point had a neuron near 0: the best of them are looked at exactly
        return search.decide_best(points)
    if np.isinf(search.best.norm.upper) and time.perf_counter() < deadline:
        region = search.best.region
        return Incumbent(jacobian_norm(network, functionals, directions, region.pattern), region)
    return search.best


class LocalSearch:
    """The best region so far."""

    def __init__(
        self,
        network: Network,
        domain: Domain,
        functionals: SymmetricSet,
        directions: SymmetricSet,
        deadline: float,
        best: Incumbent | None = None,
        *,
        kinks: Sequence[npt.NDArray[np.bool_]] | None = None,
    ) -> None:
        self.network, self.domain, self.deadline = network, domain, deadline
        self.borders = [np.arange(gate.size) for gate in network.gates]
        if kinks is not None:
            self.borders = list(map(np.flatnonzero, kinks))
        self.functionals, self.directions = functionals, directions
        self.cotangent, self.graph = network.pullback
        self.best = best

    @property
    def over(self) -> bool:
        """Whether the time is up, or one point says it all."""
        return time.perf_counter() > self.deadline or not self.network.gates

    def improve(self, points: Vector) -> bool:
        """Take the best of the points that can be checked, if it is better than the best so far."""
        sizes = np.full(len(points), -np.inf)  # of those past the deadline
        for part in batches(self.graph, len(points)):
            if part.start and self.over:
                break
            sizes[part] = self.norms(points[part])
        inside = self.domain.margin(points) > 0
        for index in np.argsort(-np.where(inside, sizes, -np.inf))[:3].tolist():
            hopeless = self.best is not None and sizes[index] <= self.best.norm.lower
            if not inside[index] or np.isneginf(sizes[index]) or hopeless:
                return False
            pattern = pattern_at(self.network, points[index])
            if pattern is not None:
                norm = jacobian_norm(
                    self.network, self.functionals, self.directions, pattern, most=_MOST_VERTICES
                )
                if self.best is None or norm.lower > self.best.norm.lower:
                    self.best = Incumbent(norm, LinearRegion(points[index], pattern))
                    return True
        return False

    def walk(self) -> None:
        """Go on to the best of the regions next to the best one, as long as that helps."""
        if sum(chosen.size for chosen in self.borders) * self.domain.dim > _MOST_SLOPES:
            return
        while self.best is not None and not self.over:
            if not self.improve(_across(self.network, self.domain, self.best.region, self.borders)):
                return

    def climb(self, points: Vector) -> None:
        """Walk from the best of some points, wherever the best region is."""
        best, self.best = self.best, None
        try:
            self.improve(points)
            self.walk()
        finally:
            if best is not None and (self.best is None or self.best.norm.lower <= best.norm.lower):
                self.best = best

    def decide_best(self, points: Vector) -> Incumbent | None:
        """The best region of the most promising points, of which at least one is tried."""
        part, best = next(iter(batches(self.graph, len(points)))), None
        for index in np.argsort(-self.norms(points[part]))[:_DECIDED].tolist():
            values = evaluate(self.network.graph, {self.network.input: points[index : index + 1]})
            pattern = tuple(values[gate][0].astype(np.int8) for gate in self.network.gates)
            region = decide_region(self.network, self.domain, pattern)
            if isinstance(region, LinearRegion):
                found = Incumbent(
                    jacobian_norm(self.network, self.functionals, self.directions, region.pattern),
                    region,
                )
                best = found if best is None or found.norm.lower > best.norm.lower else best
            if self.over:
                break
        return best

    def norms(self, points: Vector) -> Vector:
        """About the operator norms of the Jacobians at points."""
        functionals, m = self.functionals, self.network.output.size
        if functionals.vertex_count == 1:
            (rows,) = functionals.vertices()
            pulled = self._pull(points, rows[0])
            return self.directions.support_estimate(pulled)
        jacobians = np.stack([self._pull(points, unit) for unit in np.eye(m)], axis=1)
        return estimate_norms(jacobians, functionals, self.directions)

    def _pull(self, points: Vector, functional: Vector) -> Vector:
        inputs = {self.network.input: points, self.cotangent: functional[None, :]}
        return np.broadcast_to(evaluate(self.graph, inputs)[self.graph.outputs[0]], points.shape)


def _around(domain: Domain, rng: np.random.Generator, point: Vector, scale: float) -> Vector:
    """Points around one, each moved in a random share of its coordinates."""
    shape = (_MOVES, domain.dim)
    moved = rng.random(shape) < rng.random((_MOVES, 1))
    return domain.pull(
        point + moved * rng.uniform(-scale, scale, shape) * (domain.upper - domain.lower)
    )


def _across(
    network: Network, domain: Domain, region: LinearRegion, borders: Sequence[npt.NDArray[np.intp]]
) -> Vector:
    """Points just across each of the nearest borders of a region, and further on in that direction.

    A neuron's border is reached soonest, in the box's own units, by moving every coordinate with the sign of its
    slope.
    """
    width = domain.upper - domain.lower
    forms = [
        gate_forms(network, region.pattern, layer, chosen) for layer, chosen in enumerate(borders)
    ]
    linear = np.vstack([slopes for slopes, _ in forms])
    values = np.concatenate([slopes @ region.point + constant for slopes, constant in forms])
    speed = np.abs(linear) @ width
    distance = np.abs(values) / np.where(speed > 0, speed, 1.0)
    nearest = np.argsort(np.where(speed > 0, distance, np.inf))[:_MOVES]
    nearest = nearest[(speed[nearest] > 0) & (distance[nearest] <= 1.0)]
    steps = -np.sign(values[nearest])[:, None] * np.sign(linear[nearest]) * width
    moved = [region.point + (factor * distance[nearest])[:, None] * steps for factor in _STRIDES]
    return domain.pull(np.vstack([region.point[None, :], *moved]))
