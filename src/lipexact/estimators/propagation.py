"""Upper bounds by propagation through the Jacobian: intervals, level lines, chords, zonotopes.

All of them fold the functionals into the last layer first, where they are few: the maximum over c
of the bounds of J^T c keeps the coupling between outputs, which a box around J loses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.crown_batched import GateBounds, NormBounds
from lipexact.bounds.interval import Bounds, intervals, magnitude
from lipexact.bounds.zonotope import zonotope_bounds
from lipexact.errors import NormError, UnsupportedEstimateError
from lipexact.estimators.constants import MAX_FOLDED_FUNCTIONALS
from lipexact.estimators.norms import absolute_norm
from lipexact.estimators.registry import (
    ALL_NETWORKS,
    ALL_NORMS,
    EstimateRequest,
    EstimatorOutput,
    Preactivations,
    estimator,
)
from lipexact.graph.derivative import reverse
from lipexact.graph.ir import Affine, Graph
from lipexact.numerics.arrays import Vector
from lipexact.sets.polyhedral import Hull
from lipexact.sets.unit_balls import SymmetricSet


@estimator(
    "fastlip",
    "upper",
    "local",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="Weng et al., ICML 2018; pre-activations by CROWN, Zhang et al., NeurIPS 2018",
)
def fastlip(
    request: EstimateRequest, *, preactivations: Preactivations = "linear"
) -> EstimatorOutput:
    """Bound the Jacobian's entries by intervals, from bounds of the pre-activations.

    Parameters
    ----------
    request
        The network, the domain and the norms.
    preactivations
        How the pre-activations are bounded: "linear" by back-substitution (CROWN), or "interval".
    """
    known = request.preactivations(preactivations)
    return EstimatorOutput(_norm_of_entries(request, lambda graph: intervals(graph.nodes, known)))


@estimator(
    "recurjac",
    "upper",
    "local",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="Zhang, Zhang and Hsieh, AAAI 2019",
)
def recurjac(
    request: EstimateRequest, *, preactivations: Preactivations = "linear"
) -> EstimatorOutput:
    """Bound the Jacobian's entries by recursion where signs are known, and intervals where not.

    Parameters
    ----------
    request
        The network, the domain and the norms.
    preactivations
        How the pre-activations are bounded: "linear" by back-substitution (CROWN), or "interval".
    """
    known = request.preactivations(preactivations)
    return EstimatorOutput(_norm_of_entries(request, _by_crown(request, known, flat=True)))


@estimator(
    "linear",
    "upper",
    "local",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="Shi et al., NeurIPS 2022; forward mode: ADR 0002 of this package",
    best_upper_rank=10,
)
def linear(request: EstimateRequest) -> EstimatorOutput:
    """Relax the Jacobian linearly, the norm kept in the graph, in forward and in reverse mode."""

    def norm_bound(functionals: SymmetricSet) -> float:
        try:
            return min(each.root_bound for each in request.formulations(functionals))
        except NormError:  # neither norm has a graph
            return np.inf

    entries = _by_crown(request, request.bounds, flat=False)
    if request.functionals.vertex_count > MAX_FOLDED_FUNCTIONALS:
        joint = norm_bound(request.functionals)
        return EstimatorOutput(min(joint, _norm_of_entries(request, entries)))
    value = 0.0
    for c in np.vstack(list(request.functionals.vertices())):
        row = _gradient_magnitude(request, entries, c)[None, :]
        by_entries = absolute_norm(row, _ONE, request.bounded.directions)
        value = max(value, min(norm_bound(Hull(c[None, :])), by_entries))
    return EstimatorOutput(value)


@estimator(
    "zonotope",
    "upper",
    "local",
    norms="those of which one side has few vertices",
    networks=ALL_NETWORKS,
    source="ADR 0012 of this package; signs relaxed as by Shor and Nesterov, 1998",
    best_upper_rank=30,
)
def zonotope(request: EstimateRequest) -> EstimatorOutput:
    """Compute the root bound of branch and bound: a free sign for each open gate's half.

    The relaxations of "linear" are in the minimum, too.
    """
    bounded = request.bounded
    formulations = request.formulations()
    if min(each.root_bound for each in formulations) == 0:
        return EstimatorOutput(0.0)  # a constant network has no derivative to bound
    signs = zonotope_bounds(formulations[0].problem)
    if signs is None:
        raise UnsupportedEstimateError(
            "zonotope needs functionals or directions with at most 64 vertices: a functional, "
            "output_norm='linf', or input_norm='l1'"
        )
    bounds = [each.root_bound for each in formulations]
    if bounded.network.gates:
        gate_bounds = GateBounds(bounded.network, bounded.domain, request.bounds)
        states = [layer[None, :] for layer in gate_bounds.root]
        bounds += [
            NormBounds(each.problem, each.bounds).upper(states)[0][0] for each in formulations
        ]
        bounds.append(signs.upper(states)[0][0])
    return EstimatorOutput(float(min(bounds)))


# The functional of a network whose functional is in the graph already: the number 1.
_ONE = Hull(np.ones((1, 1)))

# From a graph of the derivative to bounds of its nodes.
_BoundNodes = Callable[[Graph], Bounds]


def _by_crown(request: EstimateRequest, known: Bounds, *, flat: bool) -> _BoundNodes:
    """Return the bounds of a derivative's nodes by back-substitution.

    Parameters
    ----------
    request
        The network and the domain.
    known
        The bounds of the network's own nodes.
    flat
        True for constants in place of chords where the sign of a gradient is open.
    """
    bounded = request.bounded
    sets = {bounded.network.input: bounded.domain}

    def entries(graph: Graph) -> Bounds:
        return bound_nodes(graph, sets, shared=known, deadline=request.deadline, flat=flat)

    return entries


def _norm_of_entries(request: EstimateRequest, entries: _BoundNodes) -> float:
    """Bound the norm of a Jacobian by those of its entries; few functionals are folded in."""
    directions = request.bounded.directions
    if request.functionals.vertex_count <= MAX_FOLDED_FUNCTIONALS:
        vertices = np.vstack(list(request.functionals.vertices()))
        return max(
            absolute_norm(_gradient_magnitude(request, entries, c)[None, :], _ONE, directions)
            for c in vertices
        )
    units = np.eye(request.network.output.size)
    rows = np.stack([_gradient_magnitude(request, entries, unit) for unit in units])
    return absolute_norm(rows, request.functionals, directions)


def _gradient_magnitude(
    request: EstimateRequest, entries: _BoundNodes, functional: Vector
) -> Vector:
    """Return upper bounds of the absolute values of J^T c, shape (d,)."""
    network = request.bounded.network
    gradient = reverse(network.graph, network.output, network.input, Affine((), functional, "c"))
    with np.errstate(over="ignore", invalid="ignore"):
        bounds = entries(Graph((network.input,), (gradient,)))
    sizes = magnitude(bounds[gradient])
    return np.where(np.isnan(sizes), np.inf, sizes)
