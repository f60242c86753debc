"""Gradients of functionals under a pattern, with bounds of their rounding errors."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lipexact.graph.ir import Affine, Input, Node, Switch, Value
from lipexact.graph.pattern import ON, Pattern
from lipexact.network import Network
from lipexact.numerics.arrays import Matrix, Vector, entries, most_terms
from lipexact.numerics.rational import Numbers, to_fractions
from lipexact.numerics.rounding import (
    SMALLEST,
    TINY,
    gamma,
    rounded,
    smallest,
    twofold_product,
    twofold_sum,
)
from lipexact.regions.affine import exact_product

# Multiplications of Fractions that a gradient may take, a second or so for each million.
_FRACTIONS = 3e6


def gradients(
    network: Network, functionals: Vector, pattern: Pattern, *, exact: bool = False
) -> tuple[Vector, Vector]:
    """c^T J under the pattern for each row c, accurate to rounding of the largest entry, and what it may be off.

    In floats where these do not cancel much, else in twice their precision, else in Fractions, unless that would take
    very many of them.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    functionals
        Shape (k, m).
    pattern
        The gates' states.
    exact
        In Fractions in any case, every entry rounded once.

    Returns
    -------
    values, errors
        Shape (k, d) each.
    """
    cotangent, graph = network.pullback
    (pulled,), nodes = graph.outputs, graph.nodes

    def pull(rows: Numbers, times: Callable[[Matrix, Numbers], Numbers]) -> Numbers:
        return _pull(nodes, pulled, network, pattern, {cotangent: rows.T}, times).T

    def doubtful() -> npt.NDArray[np.bool_]:
        allowed = gamma(1) * np.abs(values) if exact else 1e-12 * np.abs(values).max(initial=0.0)
        return np.asarray(~(errors <= allowed).all(axis=1))

    weights = [weight for node in nodes if isinstance(node, Affine) for weight, _ in node.terms]
    # What underflow can lose is no more than rounding unless numbers get as small as these.
    tiny = SMALLEST if smallest(functionals) * math.prod(map(smallest, weights)) < SMALLEST else 0.0
    values = np.array(pull(functionals, operator.matmul), dtype=np.float64)
    errors = np.array(
        pull(np.abs(functionals), lambda weight, x: abs(weight) @ x + tiny), dtype=np.float64
    )
    errors *= gamma(sum(most_terms(weight) + 1 for weight in weights))
    if (rows := doubtful()).any():
        values[rows], errors[rows] = _pull_twofold(
            nodes, pulled, network, pattern, cotangent, functionals[rows]
        )
    if (rows := doubtful()).any() and sum(map(entries, weights)) * int(rows.sum()) <= _FRACTIONS:
        exactly = pull(to_fractions(functionals[rows]), exact_product)
        values[rows] = np.vectorize(rounded, otypes=[np.float64])(exactly)
        errors[rows] = np.where(exactly == 0, 0.0, gamma(1) * np.abs(values[rows]) + TINY)
    return values, errors


def _pull_twofold(
    nodes: tuple[Node, ...],
    pulled: Value,
    network: Network,
    pattern: Pattern,
    cotangent: Input,
    functionals: Vector,
) -> tuple[Vector, Vector]:
    """The gradients of functionals, each entry rounded from twice the precision, and what it may be off."""
    states = dict(zip(network.gates, pattern, strict=True))
    values: dict[Node, tuple[Vector, Vector, Vector]] = {
        cotangent: (functionals.T, np.zeros(functionals.T.shape), np.zeros(functionals.T.shape))
    }
    for node in nodes:
        if isinstance(node, Affine) and all(x in values for _, x in node.terms):
            high, low, error = (np.zeros((node.size, len(functionals))) for _ in range(3))
            for weight, x in node.terms:
                above, below, before = values[x]
                above, below, lost = twofold_product(weight, above, below)
                high, low, rounded = twofold_sum((high, low), (above, below))
                error = (error + lost + rounded + abs(weight) @ before) * (1 + gamma(x.size + 3))
            values[node] = high, low, error
        elif isinstance(node, Switch) and node.x in values:
            on = (states[node.gate] == ON).astype(np.float64)[:, None]
            high, low, error = values[node.x]
            values[node] = high * on, low * on, error * on
    high, low, error = values[pulled]
    return high.T, (error + np.abs(low)).T


def _pull(
    nodes: tuple[Node, ...],
    pulled: Value,
    network: Network,
    pattern: Pattern,
    values: dict[Node, Numbers],
    times: Callable[[Matrix, Numbers], Numbers],
) -> Numbers:
    """The value of a derivative's node for a batch of columns, with `times` to multiply them by weights."""
    states = dict(zip(network.gates, pattern, strict=True))
    count = next(iter(values.values())).shape[1]
    for node in nodes:
        if isinstance(node, Affine) and all(x in values for _, x in node.terms):
            total = np.zeros((node.size, count), dtype=int)
            for weight, x in node.terms:
                total = total + times(weight, values[x])
            values[node] = total
        elif isinstance(node, Switch) and node.x in values:
            values[node] = values[node.x] * (states[node.gate] == ON).astype(int)[:, None]
    return values[pulled]
