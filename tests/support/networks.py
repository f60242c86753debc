"""Weights of small test networks, in general position and not, and their `lipexact.Network`.

A generator takes a seeded `numpy.random.Generator` and returns a :class:`Case`: plain weights
``[(W0, b0), ..., (WL, bL)]`` with a ReLU between the layers, and a box. `FAMILIES` holds them by
name;
`DEGENERATE` names those on which choosing the gates freely at kinks overestimates for most seeds.
All have at most 3 inputs and 12 neurons, which suits :mod:`oracle`. `EXTREME` are the further ones
of :mod:`soak`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from lipexact.network import Network
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Ball, Polytope
from tests.support.oracle import HalfSpace, l1_ball_halfspaces

Layers = list[tuple[np.ndarray, np.ndarray]]


class Case(NamedTuple):
    """A network and the box to study it on."""

    weights: Layers
    lower: np.ndarray
    upper: np.ndarray


def to_network(weights: Sequence[tuple[Any, Any]], name: str = "net") -> Network:
    """The network with these layers and a ReLU between them."""
    return Network.from_layers(weights, name)


def random_weights(rng: np.random.Generator, sizes: Sequence[int]) -> Layers:
    """Gaussian weights; every hidden neuron's kink passes near a random point of [-0.8, 0.8]^d.

    Parameters
    ----------
    rng
        The source of randomness.
    sizes
        The widths (inputs, hidden layers, outputs).
    """
    weights: Layers = []
    for index, (columns, rows) in enumerate(itertools.pairwise(sizes)):
        matrix = rng.normal(size=(rows, columns)) * np.sqrt(2.0 / columns)
        if index == len(sizes) - 2:
            bias = rng.normal(size=rows)
        else:
            points = hidden(weights, rng.uniform(-0.8, 0.8, (rows, sizes[0])))
            # Without the noise, a neuron could be zero on a region where those below are constant.
            bias = 0.05 * rng.normal(size=rows) - np.einsum("rc,rc->r", matrix, points)
        weights.append((matrix, bias))
    return weights


def hidden(weights: Layers, points: np.ndarray) -> np.ndarray:
    """The activations after the last of these layers, all of which end in a ReLU; one row for
    each point.
    """
    for matrix, bias in weights:
        points = np.maximum(points @ matrix.T + bias, 0.0)
    return points


def forward(weights: Layers, points: np.ndarray) -> np.ndarray:
    """f at each row of `points`."""
    matrix, bias = weights[-1]
    return hidden(weights[:-1], points) @ matrix.T + bias


def duplicate(weights: Layers, layer: int, neuron: int, split: np.ndarray) -> Layers:
    """The same function with hidden neuron `neuron` of `layer` twice, its outgoing weights w as
    (w + split, -split).
    """
    matrix, bias = weights[layer]
    above, offset = weights[layer + 1]
    joined = np.column_stack([above, -split])
    joined[:, neuron] += split
    changed = list(weights)
    changed[layer] = (np.vstack([matrix, matrix[neuron]]), np.append(bias, bias[neuron]))
    changed[layer + 1] = (joined, offset)
    return changed


def linearize(weights: Layers, layer: int, neuron: int) -> Layers:
    """The network with relu(z) of one hidden neuron replaced by z, as relu(z) - relu(-z)."""
    matrix, bias = weights[layer]
    above, offset = weights[layer + 1]
    changed = list(weights)
    changed[layer] = (np.vstack([matrix, -matrix[neuron]]), np.append(bias, -bias[neuron]))
    changed[layer + 1] = (np.column_stack([above, -above[:, neuron]]), offset)
    return changed


def general(rng: np.random.Generator) -> Case:
    """General position: the control, on which the chain rule with free gates is exact."""
    return _in_unit_ball(random_weights(rng, _sizes(rng, 10)))


def duplicated(rng: np.random.Generator) -> Case:
    """One or two neurons occur twice, with outgoing weights that nearly cancel."""
    weights = random_weights(rng, _sizes(rng, 8))
    for _ in range(rng.integers(1, 3)):
        layer = int(rng.integers(len(weights) - 1))
        above = weights[layer + 1][0]
        split = (
            rng.choice((-1.0, 1.0), above.shape[0]) * rng.uniform(2.0, 4.0) * np.abs(above).max()
        )
        weights = duplicate(weights, layer, int(rng.integers(above.shape[1])), split)
    return _in_unit_ball(weights)


def sign_pairs(rng: np.random.Generator) -> Case:
    """relu(z) - relu(-z) for one or two neurons, with strong outgoing weights."""
    weights = random_weights(rng, _sizes(rng, 8))
    for _ in range(rng.integers(1, 3)):
        layer = int(rng.integers(len(weights) - 1))
        neuron = int(rng.integers(len(weights[layer][1])))
        weights[layer + 1][0][:, neuron] *= 4.0
        weights = linearize(weights, layer, neuron)
    return _in_unit_ball(weights)


def small_integers(rng: np.random.Generator) -> Case:
    """Weights and biases from -2 to 2 over an integer box: ties of every sort."""
    sizes = _sizes(rng, 9)
    weights = [
        (
            rng.integers(-2, 3, (rows, columns)).astype(np.float64),
            rng.integers(-2, 3, rows).astype(np.float64),
        )
        for columns, rows in itertools.pairwise(sizes)
    ]
    size = float(rng.integers(1, 3))
    return Case(weights, np.full(sizes[0], -size * rng.integers(2)), np.full(sizes[0], size))


def bias_free(rng: np.random.Generator) -> Case:
    """No biases: all kinks meet at 0, which is the centre or a corner of the box."""
    weights = [
        (matrix, np.zeros_like(bias)) for matrix, bias in random_weights(rng, _sizes(rng, 8))
    ]
    size = weights[0][0].shape[1]
    return Case(weights, np.full(size, -1.0 * rng.integers(2)), np.ones(size))


def concurrent(rng: np.random.Generator) -> Case:
    """More first-layer kinks through one inner point than there are inputs."""
    inputs, outputs = int(rng.integers(2, 4)), int(rng.integers(1, 4))
    rows = rng.integers(-8, 9, (inputs + int(rng.integers(2, 5)), inputs)).astype(np.float64)
    point = rng.integers(-3, 4, inputs) / 4.0
    above = rng.normal(size=(outputs, len(rows)))
    return Case(
        [(rows, -rows @ point), (above, rng.normal(size=outputs))],
        -np.ones(inputs),
        np.ones(inputs),
    )


def identically_zero(rng: np.random.Generator) -> Case:
    """Neurons that are zero on the whole box or on a region, with strong outgoing weights.

    One first-layer neuron has no weights at all; second-layer neurons read a single neuron h >=
    0 with a negative weight and no bias, so that they are never positive.
    """
    inputs, width, outputs = (
        int(rng.integers(1, 4)),
        int(rng.integers(2, 5)),
        int(rng.integers(1, 4)),
    )
    (first, first_bias), (second, second_bias), (last, last_bias) = random_weights(
        rng, (inputs, width, 2, outputs)
    )
    first, first_bias = np.vstack([first, np.zeros(inputs)]), np.append(first_bias, 0.0)
    second = np.column_stack([second, rng.normal(size=2)])
    nonpositive = -np.eye(width + 1)[rng.choice(width, 2, replace=False)] * rng.uniform(0.5, 2.0)
    strong = 4.0 * rng.normal(size=(outputs, 2))
    return _in_unit_ball(
        [
            (first, first_bias),
            (np.vstack([second, nonpositive]), np.append(second_bias, [0.0, 0.0])),
            (np.column_stack([last, strong]), last_bias),
        ]
    )


def dead(rng: np.random.Generator) -> Case:
    """Some neurons are always off and some always on, with room to spare."""
    weights = random_weights(rng, _sizes(rng, 10))
    for matrix, bias in weights[:-1]:
        stuck = int(rng.integers(len(bias)))
        bias[stuck] = rng.choice((-1.0, 1.0)) * 100.0 * (1.0 + np.abs(matrix).sum())
    return _in_unit_ball(weights)


def border(rng: np.random.Generator) -> Case:
    """Kinks that touch the box [0, 1]^d in a facet or a corner only; the neurons are off inside."""
    inputs, outputs = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    (inner, inner_bias), (above, offset) = random_weights(rng, (inputs, 3, outputs))
    facet = np.eye(inputs)[int(rng.integers(inputs))]
    touching = np.vstack([facet, -facet, np.ones(inputs), -np.ones(inputs)])
    strong = 4.0 * rng.normal(size=(outputs, 4))
    return Case(
        [
            (np.vstack([touching, inner]), np.concatenate([[-1.0, 0.0, -inputs, 0.0], inner_bias])),
            (np.column_stack([strong, above]), offset),
        ],
        np.zeros(inputs),
        np.ones(inputs),
    )


def relu_of_relu(rng: np.random.Generator) -> Case:
    """A second layer that repeats the first twice, relu(relu(z)), with outgoing weights that
    nearly cancel.
    """
    inputs, width, outputs = (
        int(rng.integers(1, 4)),
        int(rng.integers(2, 5)),
        int(rng.integers(1, 4)),
    )
    first, (above, offset) = random_weights(rng, (inputs, width, outputs))
    split = 3.0 * rng.choice((-1.0, 1.0), above.shape) * np.abs(above).max()
    second = (np.vstack([np.eye(width), np.eye(width)]), np.zeros(2 * width))
    return _in_unit_ball([first, second, (np.column_stack([above + split, -split]), offset)])


def late_coincidence(rng: np.random.Generator) -> Case:
    """Second-layer neurons p and q with q = -p only where a first-layer neuron h is off;
    elsewhere q = -p - h/4.

    They enter as relu(p) - relu(q), and the common kink p = q = 0 meets the part where h is off.
    """
    inputs, outputs = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    (first, first_bias), (second, second_bias), (last, last_bias) = random_weights(
        rng, (inputs, 4, 3, outputs)
    )
    point = rng.uniform(-0.8, 0.8, inputs)
    values = first @ point + first_bias
    neuron, other = int(np.argmin(values)), int(np.argmax(values))
    first_bias[neuron] -= max(0.0, values[neuron] + 0.1)
    first_bias[other] += max(0.0, 0.1 - values[other])
    second_bias[0] = -second[0] @ hidden([(first, first_bias)], point)
    partner = -second[0] - 0.25 * np.eye(4)[neuron]
    last[:, 0] *= 4.0
    return _in_unit_ball(
        [
            (first, first_bias),
            (np.vstack([second, partner]), np.append(second_bias, -second_bias[0])),
            (np.column_stack([last, -last[:, 0]]), last_bias),
        ]
    )


# Seen only by soak.py: families that are exactly degenerate in other ways, and badly conditioned
# ones, on which an interval may remain.


def four_inputs(rng: np.random.Generator) -> Case:
    """General position with one input more than elsewhere."""
    widths = [(int(rng.integers(3, 8)),), (int(rng.integers(2, 5)), int(rng.integers(2, 4)))][
        rng.integers(2)
    ]
    return _in_unit_ball(random_weights(rng, (4, *widths, int(rng.integers(1, 4)))))


def quantised(rng: np.random.Generator) -> Case:
    """Weights of 4 bits: multiples of 1/4 up to 2, biases that let every kink of the first layer
    pass a grid point.
    """
    weights = [
        (np.clip(np.round(4 * matrix), -8, 8) / 4, np.clip(np.round(4 * bias), -8, 8) / 4)
        for matrix, bias in random_weights(rng, _sizes(rng, 9))
    ]
    matrix = weights[0][0]
    points = rng.integers(-4, 5, matrix.shape) / 4.0
    weights[0] = (matrix, -np.einsum("rc,rc->r", matrix, points))
    return _in_unit_ball(weights)


def through_corners(rng: np.random.Generator) -> Case:
    """Kinks of both layers through corners of the box, which split it or only touch it."""
    inputs, width, outputs = (
        int(rng.integers(1, 4)),
        int(rng.integers(2, 6)),
        int(rng.integers(1, 4)),
    )
    first = rng.integers(-8, 9, (width, inputs)).astype(np.float64)
    corners = rng.choice((-1.0, 1.0), (2, inputs))
    bias = -np.einsum("rc,rc->r", first, corners[rng.integers(2, size=width)])
    second = rng.integers(-4, 5, (int(rng.integers(1, 4)), width)).astype(np.float64)
    offset = -second @ hidden([(first, bias)], corners[0])
    above = 4.0 * rng.normal(size=(outputs, len(second)))
    return _in_unit_ball([(first, bias), (second, offset), (above, rng.normal(size=outputs))])


def towers(rng: np.random.Generator) -> Case:
    """relu(relu(relu(z))) and relu(relu(relu(-z))), of two or three z, with strong outgoing
    weights.
    """
    inputs, width, outputs = (
        int(rng.integers(1, 4)),
        int(rng.integers(1, 3)),
        int(rng.integers(1, 4)),
    )
    (first, bias), (above, offset) = random_weights(rng, (inputs, width, outputs))
    both = (np.vstack([first, -first]), np.concatenate([bias, -bias]))
    through = [(np.eye(2 * width), np.zeros(2 * width)) for _ in range(rng.integers(1, 3))]
    return _in_unit_ball([both, *through, (4.0 * np.column_stack([above, -above]), offset)])


def vanishing(rng: np.random.Generator) -> Case:
    """Neurons that cancel to 0 wherever one looks, and relu(z) - relu(-z) - z below them; strong
    outgoing weights.

    The second layer reads h twice, once of half the size, as h - 2 (h / 2), with both signs; and
    with h = relu(z) the sum relu(z) - relu(-z) - z, which is 0, or as small as the rounding of a
    bias.
    """
    inputs, width, outputs = (
        int(rng.integers(1, 4)),
        int(rng.integers(2, 5)),
        int(rng.integers(1, 4)),
    )
    (first, bias), (second, offset), (above, last) = random_weights(
        rng, (inputs, width, 2, outputs)
    )
    if rng.random() < 0.5:
        bias[0] = np.round(64 * bias[0]) / 64  # with it, the sum of both biases is exact
    shift = np.ceil(np.abs(first[0]).sum() + np.abs(bias[0])) + 1.0
    # z, its half and its negative, and z again, shifted so far that it is on everywhere.
    rows = np.vstack([first, first[0] / 2, -first[0], first[0]])
    biases = np.concatenate([bias, [bias[0] / 2, -bias[0], bias[0]]])
    below = [np.zeros(width + 3) for _ in range(3)]
    below[0][[0, width]] = 1.0, -2.0
    below[1][[0, width + 1, width + 2]] = 1.0, -1.0, -1.0
    below[2][[0, width]] = -1.0, 2.0
    inner = (rows, biases + np.eye(width + 3)[-1] * shift)
    middle = (
        np.vstack([np.column_stack([second, np.zeros((2, 3))]), *below]),
        np.append(offset, [0.0, shift, 0.0]),
    )
    strong = 4.0 * rng.normal(size=(outputs, 3))
    return _in_unit_ball([inner, middle, (np.column_stack([above, strong]), last)])


def badly_scaled(rng: np.random.Generator) -> Case:
    """Neurons and inputs in units from 1e-8 to 1e8; what reads them makes up for it, but for
    some of the neurons.
    """
    weights = random_weights(rng, _sizes(rng, 8))
    units = 10.0 ** rng.uniform(-8, 8, weights[0][0].shape[1])
    weights[0] = (weights[0][0] / units, weights[0][1])
    for layer in range(len(weights) - 1):
        (matrix, bias), (above, offset) = weights[layer : layer + 2]
        sizes = 10.0 ** rng.uniform(-8, 8, len(bias))
        undone = np.where(rng.random(len(bias)) < 0.75, sizes, 1.0)
        weights[layer : layer + 2] = [
            (matrix * sizes[:, None], bias * sizes),
            (above / undone, offset),
        ]
    return Case(weights, -units, units)


def all_sizes(rng: np.random.Generator) -> Case:
    """Entries of 1e-8, 1 and 1e8 in one matrix: values that tie up to 1e-8, and regions 1e-17
    wide.
    """
    return _in_unit_ball(
        [
            (
                matrix * 10.0 ** rng.choice([-8, 0, 8], matrix.shape),
                bias * 10.0 ** rng.choice([-8, 0, 8], bias.shape),
            )
            for matrix, bias in random_weights(rng, _sizes(rng, 7))
        ]
    )


def near_parallel(rng: np.random.Generator) -> Case:
    """One or two neurons twice, but for changes of 1e-15 to 1e-3, with outgoing weights that
    nearly cancel.
    """
    weights = random_weights(rng, _sizes(rng, 7))
    for _ in range(rng.integers(1, 3)):
        layer = int(rng.integers(len(weights) - 1))
        above = weights[layer + 1][0]
        split = (
            rng.choice((-1.0, 1.0), above.shape[0]) * rng.uniform(2.0, 4.0) * np.abs(above).max()
        )
        weights = duplicate(weights, layer, int(rng.integers(above.shape[1])), split)
        matrix, bias = weights[layer]
        change = 10.0 ** rng.uniform(-15, -3)
        matrix[-1] *= 1.0 + change * rng.normal(size=matrix.shape[1])
        bias[-1] *= 1.0 + change * rng.normal() * rng.integers(2)
    return _in_unit_ball(weights)


def near_border(rng: np.random.Generator) -> Case:
    """Kinks within 1e-16 to 1e-8 of a facet or a corner of the box [-1, 1]^d, on either side of
    it.
    """
    inputs, outputs = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    (inner, inner_bias), (above, offset) = random_weights(rng, (inputs, 3, outputs))
    count = int(rng.integers(1, 5))
    corners = rng.choice((-1.0, 1.0), (count, inputs))
    # All entries: the kink cuts a corner off. One: a facet.
    facets = np.eye(inputs)[rng.integers(inputs, size=count)]
    rows = (
        corners
        * np.where(rng.random((count, 1)) < 0.5, facets, 1.0)
        * rng.uniform(0.5, 2.0, (count, 1))
    )
    away = rng.choice((-1.0, 1.0), count) * 10.0 ** rng.uniform(-16, -8, count)
    bias = away - np.einsum("rc,rc->r", rows, corners)
    strong = 4.0 * rng.normal(size=(outputs, count))
    return _in_unit_ball(
        [
            (np.vstack([rows, inner]), np.concatenate([bias, inner_bias])),
            (np.column_stack([strong, above]), offset),
        ]
    )


def slivers(rng: np.random.Generator) -> Case:
    """More first-layer kinks than there are inputs, through one point but for 1e-14 to 1e-3:
    regions of that size.
    """
    (rows, bias), last = concurrent(rng).weights
    bias = bias + 10.0 ** rng.uniform(-14, -3) * rng.normal(size=bias.shape)
    return _in_unit_ball([(rows, bias), last])


def cancelling(rng: np.random.Generator) -> Case:
    """Neurons twice, with outgoing weights up to 1e10 times as large that nearly cancel, or
    leave nothing at all.
    """
    weights = random_weights(rng, _sizes(rng, 7))
    if rng.random() < 0.2:
        weights[-1] = (0.0 * weights[-1][0], weights[-1][1])
    for _ in range(rng.integers(1, 3)):
        layer = int(rng.integers(len(weights) - 1))
        above = weights[layer + 1][0]
        split = rng.normal(size=above.shape[0]) * 10.0 ** rng.uniform(2, 10)
        weights = duplicate(weights, layer, int(rng.integers(above.shape[1])), split)
    return _in_unit_ball(weights)


def halfspaces_of(domain: Domain) -> list[HalfSpace]:
    """What cuts the domain out of its bounding box."""
    cut = list(zip(domain.rows.tolist(), domain.limits.tolist(), strict=True))
    return cut + [
        half for center, radius in domain.balls for half in l1_ball_halfspaces(center, radius)
    ]


CUTS = ("ball", "clipped", "two balls", "polytope", "bare", "both")


def cut_domain(kind: str, low: np.ndarray, high: np.ndarray, seed: int) -> Domain:
    """A domain that is no box, about as large as this one; of even seeds all numbers are
    multiples of 1/4.
    """
    rng = np.random.default_rng(seed)

    def number(values: np.ndarray) -> np.ndarray:
        return values if seed % 2 else np.round(values * 4) / 4

    d, width = low.size, high - low
    center = number(low + rng.uniform(0.25, 0.75, d) * width)
    size = float(np.max(width)) * 0.75
    rows = number(rng.normal(size=(3, d)))
    rows[~rows.any(axis=1)] = 1.0
    limits = rows @ center + 0.25 * np.abs(rows) @ width
    match kind:
        case "ball":
            return Ball(center, size, "l1")
        case "clipped":
            return Ball(center, size, "l1", clip=(low, high))
        case "two balls":
            return Ball(center, size, "l1") & Ball(
                number(center + rng.uniform(-0.25, 0.25, d) * width), size, "l1"
            )
        case "polytope":
            return Polytope(rows, limits, low, high)
        case "bare":
            return Polytope(
                np.vstack([rows, np.eye(d), -np.eye(d)]), np.concatenate([limits, high, -low])
            )
        case _:
            return Ball(center, size, "l1") & Polytope(rows, limits, low, high)


FAMILIES: dict[str, Callable[[np.random.Generator], Case]] = {
    family.__name__: family
    for family in (
        general,
        dead,
        duplicated,
        sign_pairs,
        small_integers,
        bias_free,
        concurrent,
        identically_zero,
        border,
        relu_of_relu,
        late_coincidence,
    )
}
EXTREME: dict[str, Callable[[np.random.Generator], Case]] = {
    family.__name__: family
    for family in (
        four_inputs,
        quantised,
        through_corners,
        towers,
        vanishing,
        badly_scaled,
        all_sizes,
        near_parallel,
        near_border,
        slivers,
        cancelling,
    )
}
DEGENERATE = tuple(name for name in FAMILIES if name not in ("general", "dead"))


def case(family: str, seed: int) -> Case:
    """The case of a family that this seed gives."""
    return FAMILIES[family](np.random.default_rng(seed))


def cases() -> st.SearchStrategy[Case]:
    """Cases of all families."""
    return st.builds(case, st.sampled_from(sorted(FAMILIES)), st.integers(0, 2**32 - 1))


@st.composite
def integer_cases(draw: st.DrawFn, max_inputs: int = 3, max_neurons: int = 7) -> Case:
    """Small integer weights that shrink towards zero, on [0, 1]^d, [-1, 1]^d or [-2, 1]^d."""
    inputs = draw(st.integers(1, max_inputs))
    widths = draw(
        st.lists(st.integers(1, 4), min_size=1, max_size=3).filter(
            lambda sizes: sum(sizes) <= max_neurons
        )
    )
    sizes = [inputs, *widths, draw(st.integers(1, 2))]
    entries = st.integers(-2, 2)
    weights = []
    for columns, rows in itertools.pairwise(sizes):
        matrix = draw(
            st.lists(
                st.lists(entries, min_size=columns, max_size=columns), min_size=rows, max_size=rows
            )
        )
        bias = draw(st.lists(entries, min_size=rows, max_size=rows))
        weights.append((np.array(matrix, dtype=np.float64), np.array(bias, dtype=np.float64)))
    lower = draw(st.sampled_from((0.0, -1.0, -2.0)))
    return Case(weights, np.full(inputs, lower), np.ones(inputs))


def _sizes(rng: np.random.Generator, neurons: int) -> list[int]:
    """Widths: 1 to 3 inputs, 1 to 3 hidden layers with at most `neurons` in total, 1 to 3
    outputs.
    """
    depth = int(rng.integers(1, 4))
    widths = [int(rng.integers(2, neurons // depth + 1)) for _ in range(depth)]
    return [int(rng.integers(1, 4)), *widths, int(rng.integers(1, 4))]


def _in_unit_ball(weights: Layers) -> Case:
    size = weights[0][0].shape[1]
    return Case(weights, -np.ones(size), np.ones(size))
