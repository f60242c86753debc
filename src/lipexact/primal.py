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
from lipexact.regions import Region, gradient, pattern_at

_SAMPLES = 1024  # spread over the whole box, and near its corners
_MOVES = 256  # around the best point, in each of so many rounds
_ROUNDS = 24


def best_region(
    network: Network, box: Box, functional: Vector, norm: Norm, *, deadline: float, seed: int = 0
) -> tuple[float, Region] | None:
    """The best of many linear regions, with the dual norm of its gradient: a lower bound of L.

    Uniform points and points next to corners of the box, then points around the best one at scales from
    the whole box down to a millionth of it. Gradients are evaluated in batches; what is returned is checked
    (:func:`lipexact.regions.pattern_at`).

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
        The bound and its region; None if every sampled point was on a kink.
    """
    rng = np.random.default_rng(seed)
    pulled = reverse(network.graph, network.output, network.input, Affine((), functional, "c"))
    gradients = Graph(network.graph.inputs, (pulled,))
    best: tuple[float, Region] | None = None
    for scale in (None, 0.0, *np.geomspace(1.0, 1e-6, _ROUNDS)):
        if scale is None:
            points = box.sample(rng, _SAMPLES)
        elif scale == 0.0 or best is None:
            points = _near_corners(box, rng)
        else:
            points = _around(box, rng, best[1].point, scale)
        values = evaluate(gradients, {network.input: points})[pulled]
        sizes = norm.dual.value(np.broadcast_to(values, (len(points), network.input.size)))
        for index in np.argsort(-sizes)[:3].tolist():
            if best is not None and sizes[index] <= best[0]:
                break
            pattern = pattern_at(network, points[index])
            if pattern is not None:
                value = norm_of_gradient(network, functional, norm, pattern)
                if best is None or value > best[0]:
                    best = value, Region(points[index], pattern)
                break
        if time.perf_counter() > deadline or not network.gates:
            break
    return best


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
