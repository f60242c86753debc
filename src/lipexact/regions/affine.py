"""The affine maps of a linear region: what each node is as a function of the input, under a pattern."""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from typing_extensions import assert_never

from lipexact.bounds.interval import point_bounds
from lipexact.graph.evaluate import evaluate, product
from lipexact.graph.ir import Affine, Conditional, Input, Node, Switch
from lipexact.graph.pattern import FREE, ON, Pattern
from lipexact.network import Network
from lipexact.numerics.arrays import Matrix, Vector, dense
from lipexact.numerics.rational import Numbers, to_fractions

# Numbers in the affine forms of all neurons, beyond which they are not made.
_FORMS = 2**26


def is_compact(network: Network) -> bool:
    """Whether the network is small enough for :func:`affine_forms`."""
    return network.input.size * sum(node.size for node in network.graph.nodes) <= _FORMS


def affine_forms(
    network: Network, pattern: Pattern, *, exact: bool = False, sizes: bool = False
) -> dict[Node, tuple[Numbers, Numbers]]:
    """G and g with node = G x + g under the pattern, for the affine nodes and switches.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    pattern
        The gates' states; free gates count as off.
    exact
        Whether to compute in Fractions.
    sizes
        Whether to take the absolute values of all weights and biases: what rounding errors are in proportion to.

    Returns
    -------
    dict
        Arrays of shape (size, d) and (size,) by node.
    """
    states = dict(zip(network.gates, pattern, strict=True))
    convert, times = (to_fractions, exact_product) if exact else (np.asarray, operator.matmul)
    forms: dict[Node, tuple[Numbers, Numbers]] = {}
    for node in network.graph.nodes:
        match node:
            case Input():
                readers = (
                    each for each in network.graph.nodes if isinstance(each, Conditional | Switch)
                )
                if node is network.output or any(reader.x is node for reader in readers):
                    forms[node] = convert(np.eye(node.size)), convert(np.zeros(node.size))
            case Affine():
                linear, constant = (
                    convert(np.zeros((node.size, network.input.size))),
                    convert(node.bias),
                )
                constant = np.abs(constant) if sizes else constant
                for weight, x in node.terms:
                    weight = abs(weight) if sizes else weight  # noqa: PLW2901
                    if isinstance(x, Input):  # no product with an identity of the input's size
                        linear = linear + convert(dense(weight))
                        continue
                    below, offset = forms[x]
                    linear = linear + times(weight, below)
                    constant = constant + times(weight, offset[:, None])[:, 0]
                forms[node] = linear, constant
            case Conditional():
                pass
            case Switch():
                on = (states[node.gate] == ON).astype(int)
                below, offset = forms[node.x]
                forms[node] = below * on[:, None], offset * on
            case _:
                assert_never(node)
    return forms


def gate_forms(
    network: Network, pattern: Pattern, layer: int, chosen: npt.NDArray[np.intp]
) -> tuple[Vector, Vector]:
    """What some gates of a layer read, as G x + g under the pattern, without the forms of all the others.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    pattern
        The gates' states; free gates count as off.
    layer, chosen
        The index of the layer in `network.gates`, and k indices of gates in it.

    Returns
    -------
    linear, constant
        Shapes (k, d) and (k,).
    """
    states = dict(zip(network.gates, pattern, strict=True))
    target, rows = network.gates[layer].x, np.arange(chosen.size)
    pending: dict[Node, Matrix] = {
        target: sp.csr_array(
            (np.ones(chosen.size), (rows, chosen)), shape=(chosen.size, target.size)
        )
    }
    constant = np.zeros(chosen.size)
    for node in reversed(network.graph.nodes):
        if node is network.input or (above := pending.pop(node, None)) is None:
            continue
        if isinstance(node, Affine):
            constant = constant + above @ node.bias
        on = (
            sp.diags_array((states[node.gate] == ON).astype(np.float64))
            if isinstance(node, Switch)
            else None
        )
        terms = (
            node.terms
            if isinstance(node, Affine)
            else ((on, node.x),)
            if isinstance(node, Switch)
            else ()
        )
        for weight, x in terms:
            below = above @ weight
            pending[x] = pending[x] + below if x in pending else below
    linear = pending.get(network.input)
    return np.zeros((chosen.size, network.input.size)) if linear is None else dense(
        linear
    ), constant


def steepness(network: Network, pattern: Pattern) -> dict[Node, Vector]:
    """For each affine node and switch the l1 norms of its gradients under the pattern.

    At least these where the network is too large for :func:`affine_forms`.
    """
    if is_compact(network):
        forms = affine_forms(network, pattern)
        return {node: np.abs(linear).sum(axis=1) for node, (linear, _) in forms.items()}
    states = dict(zip(network.gates, pattern, strict=True))
    slopes: dict[Node, Vector] = {network.input: np.ones(network.input.size)}
    for node in network.graph.nodes:
        if isinstance(node, Affine):
            slopes[node] = sum(
                (abs(weight) @ slopes[x] for weight, x in node.terms), np.zeros(node.size)
            )
        elif isinstance(node, Switch):
            slopes[node] = slopes[node.x] * (states[node.gate] == ON)
    return slopes


def pattern_at(network: Network, point: Vector) -> Pattern | None:
    """The pattern of the region around a point, or None where a kink is so near that rounding may hide it.

    A neuron whose input is 0 all around the point, as all that it reads is switched off, counts as off.
    """
    bounds = point_bounds(network.graph.nodes, network.input, point)
    layers = []
    zero: dict[Node, npt.NDArray[np.bool_]] = {}
    for node in network.graph.nodes:
        match node:
            case Input():
                zero[node] = np.zeros(node.size, dtype=bool)
            case Affine():
                zero[node] = node.bias == 0
                for weight, x in node.terms:
                    zero[node] &= abs(weight) @ ~zero[x] == 0
            case Conditional():
                lower, upper = bounds[node.x]
                if not ((lower > 0) | (upper < 0) | zero[node.x]).all():
                    return None
                layers.append((lower > 0).astype(np.int8))
            case Switch():
                zero[node] = zero[node.x] | (bounds[node.gate.x][0] <= 0)
            case _:
                assert_never(node)
    return tuple(layers)


def depends_on_free(network: Network, pattern: Pattern) -> dict[Node, npt.NDArray[np.bool_]]:
    """Which coordinates depend on a free gate."""
    states = dict(zip(network.gates, pattern, strict=True))
    unknown: dict[Node, npt.NDArray[np.bool_]] = {}
    for node in network.graph.nodes:
        match node:
            case Input():
                unknown[node] = np.zeros(node.size, dtype=bool)
            case Affine():
                unknown[node] = np.zeros(node.size, dtype=bool)
                for weight, x in node.terms:
                    unknown[node] |= abs(weight) @ unknown[x] > 0
            case Conditional():
                pass
            case Switch():
                gate = states[node.gate]
                unknown[node] = (gate == FREE) | ((gate == ON) & unknown[node.x])
            case _:
                assert_never(node)
    return unknown


def exact_states(network: Network, point: Numbers) -> Pattern:
    """The gates at a point of Fractions; off where the gate's input is 0."""
    return tuple((values > 0).astype(np.int8) for values in gate_inputs(network, point))


def gate_inputs(network: Network, point: Numbers) -> tuple[Numbers, ...]:
    """What each layer of gates reads at a point, in Fractions."""
    values = evaluate(network.graph, {network.input: point[None, :]}, to_fractions)
    return tuple(values[gate.x][0] for gate in network.gates)


def agrees_with(found: Pattern, pattern: Pattern) -> bool:
    """Return True if a complete pattern has the states of another one wherever that is not free."""
    return all(bool(((p == FREE) | (f == p)).all()) for f, p in zip(found, pattern, strict=True))


def exact_product(weight: Matrix, values: Numbers) -> Numbers:
    """Return the product weight @ values in Fractions."""
    return product(weight, values, to_fractions)
