"""The affine maps of a linear region: what each node is as a function of the input.

Under a pattern every switch either passes its value on or is 0, so that every node is an affine
function G x + g of the network's input x. For f(x) = relu(2 x_0 - x_1 + 1) with the gate on, the
output has G = (2, -1) and g = 1; with the gate off both are 0.
"""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from typing_extensions import assert_never

from lipexact.bounds.interval import point_bounds
from lipexact.graph.evaluate import evaluate, product
from lipexact.graph.ir import Affine, Conditional, Input, Node, Switch, Value
from lipexact.graph.pattern import FREE, ON, Pattern
from lipexact.network import Network
from lipexact.numerics.arrays import Matrix, Vector, dense
from lipexact.numerics.rational import Numbers, to_fractions
from lipexact.regions import constants


def is_compact(network: Network) -> bool:
    """Return True if the network is small enough for :func:`affine_forms`."""
    nodes = sum(node.size for node in network.graph.nodes)
    return network.input.size * nodes <= constants.MAX_FORM_NUMBERS


def affine_forms(
    network: Network, pattern: Pattern, *, exact: bool = False, absolute: bool = False
) -> dict[Node, tuple[Numbers, Numbers]]:
    """Return G and g with node = G x + g under a pattern, for the affine nodes and switches.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    pattern
        The gates' states; free gates count as off.
    exact
        Whether to compute in Fractions.
    absolute
        Whether to replace all weights and biases by their absolute values. Rounding errors of the
        forms are in proportion to the result.

    Returns
    -------
    dict
        Arrays of shape (size, d) and (size,) by node.
    """
    states = dict(zip(network.gates, pattern, strict=True))
    convert = to_fractions if exact else np.asarray
    forms: dict[Node, tuple[Numbers, Numbers]] = {}
    for node in network.graph.nodes:
        match node:
            case Input():
                if _input_form_is_read(network):
                    forms[node] = convert(np.eye(node.size)), convert(np.zeros(node.size))
            case Affine():
                forms[node] = _affine_node_form(
                    node, forms, network.input.size, exact=exact, absolute=absolute
                )
            case Conditional():
                pass
            case Switch():
                on = (states[node.gate] == ON).astype(int)
                below, offset = forms[node.x]
                forms[node] = below * on[:, None], offset * on
            case _:
                assert_never(node)
    return forms


def _input_form_is_read(network: Network) -> bool:
    """Return True if the input's own form, an identity of its size, is needed."""
    if network.input is network.output:
        return True
    readers = (each for each in network.graph.nodes if isinstance(each, Conditional | Switch))
    return any(reader.x is network.input for reader in readers)


def _affine_node_form(
    node: Affine,
    forms: dict[Node, tuple[Numbers, Numbers]],
    inputs: int,
    *,
    exact: bool,
    absolute: bool,
) -> tuple[Numbers, Numbers]:
    """Return the form of an affine node from the forms of what it reads."""
    convert = to_fractions if exact else np.asarray
    times = exact_product if exact else operator.matmul
    linear = convert(np.zeros((node.size, inputs)))
    constant = convert(node.bias)
    constant = np.abs(constant) if absolute else constant
    for weight, x in node.terms:
        factor = abs(weight) if absolute else weight
        if isinstance(x, Input):  # no product with an identity of the input's size
            linear = linear + convert(dense(factor))
            continue
        below, offset = forms[x]
        linear = linear + times(factor, below)
        constant = constant + times(factor, offset[:, None])[:, 0]
    return linear, constant


def gate_forms(
    network: Network, pattern: Pattern, layer: int, chosen: npt.NDArray[np.intp]
) -> tuple[Vector, Vector]:
    """Return the pre-activations of some gates as G x + g, without the forms of other nodes.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    pattern
        The gates' states; free gates count as off.
    layer
        The index of the gates' layer in `network.gates`.
    chosen
        Indices of gates in the layer, shape (k,).

    Returns
    -------
    linear, constant
        Shapes (k, d) and (k,).

    Notes
    -----
    The rows go backwards through the network. `pending` holds, for each node that is still to be
    replaced by what it reads, the matrix M with pre-activation = constant + sum of M @ node.
    """
    states = dict(zip(network.gates, pattern, strict=True))
    target = network.gates[layer].x
    entries = (np.ones(chosen.size), (np.arange(chosen.size), chosen))
    pending: dict[Node, Matrix] = {
        target: sp.csr_array(entries, shape=(chosen.size, target.size)),
    }
    constant = np.zeros(chosen.size)
    for node in reversed(network.graph.nodes):
        if node is network.input or (above := pending.pop(node, None)) is None:
            continue
        terms: tuple[tuple[Matrix, Value], ...] = ()
        if isinstance(node, Affine):
            constant = constant + above @ node.bias
            terms = node.terms
        elif isinstance(node, Switch):
            on = sp.diags_array((states[node.gate] == ON).astype(np.float64))
            terms = ((on, node.x),)
        for weight, x in terms:
            below = above @ weight
            pending[x] = pending[x] + below if x in pending else below
    linear = pending.get(network.input)
    if linear is None:
        return np.zeros((chosen.size, network.input.size)), constant
    return dense(linear), constant


def steepness(network: Network, pattern: Pattern) -> dict[Node, Vector]:
    """Return the l1 norms of the gradients of affine nodes and switches under a pattern.

    Where the network is too large for :func:`affine_forms`, the numbers are upper bounds of the
    norms, from the absolute values of all weights.
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


# --- Patterns ------------------------------------------------------------------------------------


def pattern_at(network: Network, point: Vector) -> Pattern | None:
    """Return the pattern of the region around a point, or None where rounding may hide a kink.

    It is computed by interval arithmetic: the sign of every pre-activation is certain. A gate whose
    pre-activation is 0 all around the point, since all that it reads is switched off, counts as
    off.

    Parameters
    ----------
    network
        f: R^d -> R^m.
    point
        Shape (d,).
    """
    bounds = point_bounds(network.graph.nodes, network.input, point)
    layers = []
    zero: dict[Node, npt.NDArray[np.bool_]] = {}  # which coordinates are 0 all around the point
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


def exact_pattern(network: Network, point: Numbers) -> Pattern:
    """Return the gates' states at a point of Fractions, shape (d,); off where a gate reads 0."""
    return tuple((values > 0).astype(np.int8) for values in gate_inputs(network, point))


def gate_inputs(network: Network, point: Numbers) -> tuple[Numbers, ...]:
    """Return the pre-activations of each layer of gates at a point of Fractions, shape (d,)."""
    values = evaluate(network.graph, {network.input: point[None, :]}, to_fractions)
    return tuple(values[gate.x][0] for gate in network.gates)


def depends_on_free(network: Network, pattern: Pattern) -> dict[Node, npt.NDArray[np.bool_]]:
    """Return for each affine node and switch which coordinates depend on a free gate."""
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


def agrees_with(complete: Pattern, pattern: Pattern) -> bool:
    """Return True if a complete pattern has the states of another one wherever that is not free."""
    return all(
        bool(((asked == FREE) | (states == asked)).all())
        for states, asked in zip(complete, pattern, strict=True)
    )


def exact_product(weight: Matrix, values: Numbers) -> Numbers:
    """Return the product weight @ values in Fractions, for values that are Fractions."""
    return product(weight, values, to_fractions)
