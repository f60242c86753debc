"""Lower bounds of the Lipschitz constant: sampled gradients, improved by local search."""

from __future__ import annotations

import time

import numpy as np

from lipexact.domains import Box
from lipexact.graph.derivative import reverse
from lipexact.graph.evaluate import evaluate
from lipexact.graph.ir import Affine, Graph, Vector
from lipexact.network import Network
from lipexact.norms import Norm
from lipexact.pattern import Pattern
from lipexact.regions import Region, affine_forms, decide, gradient, pattern_at

_SAMPLES = 1024  # spread over the whole box, and near its corners
_MOVES = 256  # around the best point, in each of so many rounds
_ROUNDS = 24
_STRIDES = (1.001, 1.5, 3.0)  # across a border, in multiples of its distance


def best_region(
    network: Network, box: Box, functional: Vector, norm: Norm, *, deadline: float, seed: int = 0
) -> tuple[float, Region] | None:
    """The best of many linear regions, with the dual norm of its gradient: a lower bound of L.

    Uniform points and points next to corners of the box, then points around the best one at scales from
    the whole box down to a millionth of it, and, as long as that helps, points in the regions next to its own.
    Gradients are evaluated in batches; what is returned is checked (:func:`lipexact.regions.pattern_at`).

    Parameters
    ----------
    network, box, functional, norm
        f, X, c and the input norm alpha.
    deadline
        A time of `time.perf_counter` at which to stop with what is there; one batch is always done.
    seed
        Of the random numbers.

    Returns
    -------
    tuple or None
        The bound and its region; None if no region could be shown to be one.
    """
    rng = np.random.default_rng(seed)
    search = _Search(network, functional, norm, deadline)
    points = box.sample(rng, _SAMPLES)
    search.improve(points)
    if not search.over:
        search.improve(_near_corners(box, rng))
    for scale in np.geomspace(1.0, 1e-6, _ROUNDS):
        if search.best is None or search.over:
            break
        search.improve(_around(box, rng, search.best[1].point, scale))
        while not search.over and search.improve(_across(network, box, search.best[1])):
            pass
    if search.best is None:  # every point had a neuron near 0: one of them is looked at exactly
        values = evaluate(network.graph, {network.input: points[:1]})
        found = decide(network, box, tuple(values[gate][0].astype(np.int8) for gate in network.gates))
        if isinstance(found, Region):
            return norm_of_gradient(network, functional, norm, found.pattern), found
    return search.best


class _Search:
    """The best region so far."""

    def __init__(self, network: Network, functional: Vector, norm: Norm, deadline: float) -> None:
        self.network, self.functional, self.norm, self.deadline = network, functional, norm, deadline
        self.gradient = reverse(network.graph, network.output, network.input, Affine((), functional, "c"))
        self.graph = Graph(network.graph.inputs, (self.gradient,))
        self.best: tuple[float, Region] | None = None

    @property
    def over(self) -> bool:
        """Whether the time is up, or one point says it all."""
        return time.perf_counter() > self.deadline or not self.network.gates

    def improve(self, points: Vector) -> bool:
        """Take the best of the points that can be checked, if it is better than the best so far."""
        gradients = evaluate(self.graph, {self.network.input: points})[self.gradient]
        sizes = self.norm.dual.value(np.broadcast_to(gradients, points.shape))
        for index in np.argsort(-sizes)[:3].tolist():
            if self.best is not None and sizes[index] <= self.best[0]:
                return False
            pattern = pattern_at(self.network, points[index])
            if pattern is not None:
                value = norm_of_gradient(self.network, self.functional, self.norm, pattern)
                if self.best is None or value > self.best[0]:
                    self.best = value, Region(points[index], pattern)
                    return True
        return False


def norm_of_gradient(network: Network, functional: Vector, norm: Norm, pattern: Pattern) -> float:
    """||J^T c||_alpha* under a pattern, accurate to rounding."""
    return float(norm.dual.value(gradient(network, functional, pattern)[None, :])[0])


def _near_corners(box: Box, rng: np.random.Generator) -> Vector:
    """Points a little inside of random corners, where gradients of trained networks are often largest."""
    width = box.upper - box.lower
    inset = width * rng.uniform(1e-9, 1e-3, (_SAMPLES, box.dim))
    return np.where(rng.random((_SAMPLES, box.dim)) < 0.5, box.lower + inset, box.upper - inset)


def _around(box: Box, rng: np.random.Generator, point: Vector, scale: float) -> Vector:
    """Points around one, each moved in a random share of its coordinates."""
    width = box.upper - box.lower
    moved = rng.random((_MOVES, box.dim)) < rng.random((_MOVES, 1))
    points = point + moved * rng.uniform(-scale, scale, (_MOVES, box.dim)) * width
    inset = np.minimum(width * 1e-9, width / 4)
    return np.clip(points, box.lower + inset, box.upper - inset)


def _across(network: Network, box: Box, region: Region) -> Vector:
    """Points just across each of the nearest borders of a region, and further on in that direction.

    A neuron's border is reached soonest, in the box's own units, by moving every coordinate with the sign of its
    slope.
    """
    width = box.upper - box.lower
    forms = affine_forms(network, region.pattern)
    linear = np.vstack([forms[gate.x][0] for gate in network.gates])
    values = np.concatenate([forms[gate.x][0] @ region.point + forms[gate.x][1] for gate in network.gates])
    speed = np.abs(linear) @ width
    distance = np.abs(values) / np.where(speed > 0, speed, 1.0)
    nearest = np.argsort(np.where(speed > 0, distance, np.inf))[:_MOVES]
    nearest = nearest[(speed[nearest] > 0) & (distance[nearest] <= 1.0)]
    steps = -np.sign(values[nearest])[:, None] * np.sign(linear[nearest]) * width
    moved = [region.point + (factor * distance[nearest])[:, None] * steps for factor in _STRIDES]
    inset = np.minimum(width * 1e-9, width / 4)
    return np.asarray(np.clip(np.vstack([region.point[None, :], *moved]), box.lower + inset, box.upper - inset))
