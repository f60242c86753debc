"""Upper bounds by propagation through the Jacobian: intervals, level lines, chords, zonotopes.

All fold the functionals into the last layer first, where they are few: the largest bound over c of J^T c keeps the
coupling between outputs, which a box around J loses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.crown_batched import GateBounds, NormBounds
from lipexact.bounds.interval import Bounds, intervals, magnitude
from lipexact.bounds.zonotope import zonotope_bounds
from lipexact.errors import NormError, UnsupportedEstimateError
from lipexact.estimators.norms import absolute_norm
from lipexact.estimators.registry import (
    ALL_NETWORKS,
    ALL_NORMS,
    FOLDED,
    EstimateRequest,
    EstimatorOutput,
    Preactivations,
    estimator,
)
from lipexact.graph.derivative import reverse
from lipexact.graph.ir import Affine, Graph
from lipexact.numerics.arrays import Vector
from lipexact.sets.unit_balls import Hull, SymmetricSet


@estimator(
    "fastlip",
    "upper",
    "local",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="Weng et al., ICML 2018; pre-activations by CROWN, Zhang et al., NeurIPS 2018",
)
def fastlip(
    question: EstimateRequest, *, preactivations: Preactivations = "linear"
) -> EstimatorOutput:
    """Interval bounds of the Jacobian, from those of the gates.

    Parameters
    ----------
    question
        What is asked.
    preactivations
        How the gates' inputs are bounded: "linear" by back-substitution (CROWN), "interval".
    """
    known = question.preactivations(preactivations)

    return EstimatorOutput(_by_entries(question, lambda graph: intervals(graph.nodes, known)))


@estimator(
    "recurjac",
    "upper",
    "local",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="Zhang, Zhang and Hsieh, AAAI 2019",
)
def recurjac(
    question: EstimateRequest, *, preactivations: Preactivations = "linear"
) -> EstimatorOutput:
    """Bounds of the Jacobian's entries by recursion where signs are known, and intervals where not.

    Parameters
    ----------
    question
        What is asked.
    preactivations
        How the gates' inputs are bounded: "linear" by back-substitution (CROWN), "interval".
    """
    return EstimatorOutput(
        _by_entries(
            question, _relaxed(question, question.preactivations(preactivations), flat=True)
        )
    )


@estimator(
    "linear",
    "upper",
    "local",
    norms=ALL_NORMS,
    networks=ALL_NETWORKS,
    source="Shi et al., NeurIPS 2022; forward mode: ADR 0002 of this package",
)
def linear(question: EstimateRequest) -> EstimatorOutput:
    """Linear relaxation of the Jacobian, the norm kept in the graph, in forward and in reverse mode."""

    def joint(functionals: SymmetricSet) -> float:
        try:
            return min(program.root_bound for program in question.formulations(functionals))
        except NormError:  # neither norm has a graph
            return np.inf

    entries = _relaxed(question, question.bounds, flat=False)
    if question.functionals.vertex_count > FOLDED:
        return EstimatorOutput(min(joint(question.functionals), _by_entries(question, entries)))
    least = 0.0
    for c in np.vstack(list(question.functionals.vertices())):
        body = Hull(c[None, :])
        by_entries = absolute_norm(
            _row(question, entries, c)[None, :], _ONE, question.bounded.directions
        )
        least = max(least, min(joint(body), by_entries))
    return EstimatorOutput(least)


@estimator(
    "zonotope",
    "upper",
    "local",
    norms="those of which one side has few vertices",
    networks=ALL_NETWORKS,
    source="ADR 0012 of this package; signs relaxed as by Shor and Nesterov, 1998",
)
def zonotope(question: EstimateRequest) -> EstimatorOutput:
    """The root bound of branch and bound: each open gate's half as a free sign, and the relaxations of "linear"."""
    bounded, programs = question.bounded, question.formulations()
    if (
        min(program.root_bound for program in programs) == 0
    ):  # a constant network has no derivative to bound
        return EstimatorOutput(0.0)
    signs = zonotope_bounds(programs[0].problem)
    if signs is None:
        raise UnsupportedEstimateError(
            "zonotope needs functionals or directions with at most 64 vertices: a functional, output_norm='linf', or "
            "input_norm='l1'"
        )
    found = [program.root_bound for program in programs]
    if bounded.network.gates:
        states = [
            layer[None, :]
            for layer in GateBounds(bounded.network, bounded.domain, question.bounds).root
        ]
        found += [
            NormBounds(program.problem, program.bounds).upper(states)[0][0] for program in programs
        ]
        found.append(signs.upper(states)[0][0])
    return EstimatorOutput(float(min(found)))


_ONE = Hull(np.ones((1, 1)))
_Entries = Callable[[Graph], Bounds]


def _relaxed(question: EstimateRequest, known: Bounds, *, flat: bool) -> _Entries:
    """Bounds of a derivative's nodes by back-substitution, those of the network being known."""
    bounded = question.bounded
    sets = {bounded.network.input: bounded.domain}

    def entries(graph: Graph) -> Bounds:
        return bound_nodes(graph, sets, shared=known, deadline=question.deadline, flat=flat)

    return entries


def _by_entries(question: EstimateRequest, entries: _Entries) -> float:
    """The largest norm of a Jacobian whose entries are as large as they may be, functionals folded where few."""
    directions, outputs = question.bounded.directions, question.network.output.size
    if question.functionals.vertex_count <= FOLDED:
        vertices = np.vstack(list(question.functionals.vertices()))
        return max(
            absolute_norm(_row(question, entries, c)[None, :], _ONE, directions) for c in vertices
        )
    rows = np.stack([_row(question, entries, unit) for unit in np.eye(outputs)])
    return absolute_norm(rows, question.functionals, directions)


def _row(question: EstimateRequest, entries: _Entries, functional: Vector) -> Vector:
    """At least the absolute values of J^T c, shape (d,)."""
    network = question.bounded.network
    gradient = reverse(network.graph, network.output, network.input, Affine((), functional, "c"))
    with np.errstate(over="ignore", invalid="ignore"):
        bounds = entries(Graph((network.input,), (gradient,)))
    sizes = magnitude(bounds[gradient])
    return np.where(np.isnan(sizes), np.inf, sizes)
