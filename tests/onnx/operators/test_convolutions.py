"""Convolutions and pooling against plain loops, at their edges, and where they are refused."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from lipexact.errors import LipExactError, ModelError, UnsupportedOperatorError
from lipexact.graph.evaluate import evaluate
from lipexact.graph.ir import Affine, Graph, Input
from lipexact.graph.lowering import window_maximum
from lipexact.network import Network
from lipexact.onnx import read_onnx

Array = np.ndarray
Ints = Sequence[int]


def model(
    operator: str,
    shape: Ints,
    *constants: Array,
    opset: int = 22,
    outputs: Sequence[str] = ("y",),
    **attributes: Any,
) -> onnx.ModelProto:
    names = [f"c{k}" for k in range(len(constants))]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, ["x", *names], outputs, **attributes)],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, shape)],
        [onnx.helper.make_empty_tensor_value_info(outputs[-1])],
        [
            onnx.numpy_helper.from_array(np.asarray(array), name)
            for name, array in zip(names, constants, strict=True)
        ],
    )
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8
    )


def read(operator: str, shape: Ints, *constants: Array, **options: Any) -> Network:
    return read_onnx(model(operator, shape, *constants, **options), batched=False)


# Plain loops, one window at a time


def padded(x: Array, before: Ints, after: Ints) -> Array:
    return np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)])


def windows(shape: Ints, kernel: Ints, strides: Ints, dilations: Ints) -> Iterator[tuple[Any, Any]]:
    """The index of every window in the output, and that of its entries in the padded input."""
    for at in itertools.product(*map(range, shape)):
        where = zip(at, kernel, strides, dilations, strict=True)
        yield (..., *at), (..., *(slice(i * s, i * s + (k - 1) * d + 1, d) for i, k, s, d in where))


def convolution(
    x: Array, W: Array, b: Array, groups: int, strides: Ints, dilations: Ints, pads: Ints
) -> Array:
    rank = W.ndim - 2
    x = padded(x, pads[:rank], pads[rank:])
    spans = [(k - 1) * d + 1 for k, d in zip(W.shape[2:], dilations, strict=True)]
    shape = [(n - w) // s + 1 for n, w, s in zip(x.shape[2:], spans, strides, strict=True)]
    y = np.empty((x.shape[0], W.shape[0], *shape))
    for m in range(W.shape[0]):
        start = m // (W.shape[0] // groups) * W.shape[1]
        group = x[:, start : start + W.shape[1]]
        for at, entries in windows(shape, W.shape[2:], strides, dilations):
            y[:, m][at] = (group[entries] * W[m]).reshape(len(x), -1).sum(axis=1) + b[m]
    return y


def transposed(
    x: Array,
    W: Array,
    b: Array,
    groups: int,
    strides: Ints,
    dilations: Ints,
    pads: Ints,
    extra: Ints,
) -> Array:
    rank = W.ndim - 2
    spans = [(k - 1) * d + 1 for k, d in zip(W.shape[2:], dilations, strict=True)]
    full = [
        (n - 1) * s + w + e for n, s, w, e in zip(x.shape[2:], strides, spans, extra, strict=True)
    ]
    y = np.zeros((x.shape[0], W.shape[1] * groups, *full))
    for c, m in itertools.product(range(x.shape[1]), range(W.shape[1])):
        channel = c // (x.shape[1] // groups) * W.shape[1] + m
        for at, entries in windows(x.shape[2:], W.shape[2:], strides, dilations):
            y[:, channel][entries] += x[:, c][at].reshape(-1, *[1] * rank) * W[c, m]
    kept = tuple(slice(p, n - q) for p, q, n in zip(pads[:rank], pads[rank:], full, strict=True))
    return y[(..., *kept)] + b.reshape(-1, *[1] * rank)


def pooled(
    x: Array, kernel: Ints, strides: Ints, dilations: Ints, pads: Ints, up: int, include: int
) -> tuple[Array, Array]:
    """Averages and maxima."""
    rank = len(kernel)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    shape = []
    for n, w, s, p, q in zip(x.shape[2:], spans, strides, pads[:rank], pads[rank:], strict=True):
        starts = range(0, n + p if up else n + p + q - w + 1, s)
        # The last window may begin anywhere, and is one too many if the one before reached the end.
        shape.append(sum(1 for i in starts if i == 0 or i - s + w < n + p + q))
    beyond = [s * k + w for s, k, w in zip(strides, shape, spans, strict=True)]
    inside = padded(np.ones_like(x), pads[:rank], pads[rank:])
    weights = padded(np.ones_like(inside) if include else inside, [0] * rank, beyond)
    inside, values = (
        padded(padded(a, pads[:rank], pads[rank:]), [0] * rank, beyond)
        for a in (np.ones_like(x), x)
    )
    average = np.empty((*x.shape[:2], *shape))
    maximum = np.empty_like(average)
    axes = tuple(range(2, 2 + rank))
    for at, entries in windows(shape, kernel, strides, dilations):
        with np.errstate(invalid="ignore"):
            average[at] = values[entries].sum(axis=axes) / weights[entries].sum(axis=axes)
        maximum[at] = np.where(inside[entries] > 0, values[entries], -np.inf).max(axis=axes)
    return average, maximum


def same_pads(mode: str, lengths: Ints, kernel: Ints, strides: Ints, dilations: Ints) -> list[int]:
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    totals = [
        max((-(-n // s) - 1) * s + w - n, 0)
        for n, w, s in zip(lengths, spans, strides, strict=True)
    ]
    less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return [*less, *more] if mode == "SAME_UPPER" else [*more, *less]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_random_attributes_agree_with_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.choice([1, 1, 2, 2, 3]))
    kernel, strides, dilations, extra = (
        rng.integers(1, high, rank).tolist() for high in (4, 4, 4, 3)
    )
    lengths, groups = rng.integers(1, 6, rank).tolist(), int(rng.integers(1, 4))
    inner, outer = (int(count) for count in rng.integers(1, 3, 2))
    x = rng.normal(size=(int(rng.integers(1, 3)), inner * groups, *lengths))
    pads = rng.integers(0, 3, 2 * rank).tolist()
    options: dict[str, Any] = {"strides": strides, "dilations": dilations}
    match operator := str(rng.choice(["Conv", "ConvTranspose", "AveragePool", "MaxPool"])):
        case "Conv":
            mode = str(rng.choice(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
            W, b = (
                rng.normal(size=(outer * groups, inner, *kernel)),
                rng.normal(size=outer * groups),
            )
            if mode == "VALID":
                pads = [0] * len(pads)
            elif mode != "NOTSET":
                pads = same_pads(mode, lengths, kernel, strides, dilations)
            constants, expected = (
                (W, b),
                lambda: convolution(x, W, b, groups, strides, dilations, pads),
            )
            options |= {"group": groups, "auto_pad": mode} | (
                {"pads": pads} if mode == "NOTSET" else {}
            )
        case "ConvTranspose":
            W, b = (
                rng.normal(size=(inner * groups, outer, *kernel)),
                rng.normal(size=outer * groups),
            )
            extra = [min(e - 1, s - 1) for e, s in zip(extra, strides, strict=True)]
            constants, expected = (
                (W, b),
                lambda: transposed(x, W, b, groups, strides, dilations, pads, extra),
            )
            options |= {"group": groups, "output_padding": extra, "pads": pads}
        case _:
            up, include = (int(flag) for flag in rng.integers(0, 2, 2))
            constants = ()
            options |= {"kernel_shape": kernel, "ceil_mode": up, "pads": pads}
            options |= {"count_include_pad": include} if operator == "AveragePool" else {}

            def expected() -> Array:
                return pooled(x, kernel, strides, dilations, pads, up, include)[
                    operator == "MaxPool"
                ]

    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    room = [n + p + q for n, p, q in zip(lengths, pads[:rank], pads[rank:], strict=True)]
    short = [s if options.get("ceil_mode") else 1 for s in strides]
    if operator != "ConvTranspose" and any(
        n - w <= -s for n, w, s in zip(room, spans, short, strict=True)
    ):
        with pytest.raises(ModelError, match="does not fit into axis"):
            read(operator, x.shape, *constants, **options)
        return
    y = expected()
    if y.size == 0 or not np.isfinite(y).all():
        with pytest.raises(ModelError, match=r"leave nothing|in the padding"):
            read(operator, x.shape, *constants, **options)
        return
    network = read(operator, x.shape, *constants, **options)
    assert network.output_shape == y.shape
    np.testing.assert_allclose(network.evaluate(x.ravel()), y.ravel(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pooling_of_a_batch(operator: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 2, 2))
    network = read(operator, x.shape)
    assert network.output_shape == (2, 3, 1, 1, 1)
    plain = x.max if operator == "GlobalMaxPool" else x.mean
    np.testing.assert_allclose(
        network.evaluate(x.ravel()), plain(axis=(2, 3, 4)).ravel(), rtol=1e-14
    )


def test_batch_normalization_of_float32_constants_is_in_float64() -> None:
    s, b, m, v = (np.array([value], np.float32) for value in (0.1, 0.3, 0.7, 1.1))
    network = read("BatchNormalization", (1, 1, 1), s, b, m, v, opset=15, epsilon=0.01)
    s, b, m, v, epsilon = (float(np.float32(value)) for value in (0.1, 0.3, 0.7, 1.1, 0.01))
    assert network.jacobian([0.0])[0, 0] == pytest.approx(s / math.sqrt(v + epsilon), rel=1e-15)
    assert network.evaluate([0.0])[0] == pytest.approx(
        b - m * s / math.sqrt(v + epsilon), rel=1e-14
    )


def test_batch_normalization_of_one_axis() -> None:
    network = read("BatchNormalization", (3,), *np.array([[2.0], [1.0], [0.5], [4.0]]), epsilon=0.0)
    np.testing.assert_allclose(network.evaluate([0.5, 1.5, -1.5]), [1.0, 2.0, -1.0], rtol=1e-15)


# Sizes


def the_matrix(network: Network) -> sp.csr_array:
    assert isinstance(network.output, Affine)
    ((matrix, _),) = network.output.terms
    assert isinstance(matrix, sp.csr_array)
    return matrix


def test_a_convolution_is_one_sparse_matrix_without_zeros() -> None:
    W = np.random.default_rng(0).normal(size=(3, 2, 3, 3))
    W[1, :, 1] = 0.0
    matrix = the_matrix(read("Conv", (1, 2, 8, 8), W, np.ones(3), pads=[1, 1, 1, 1]))
    # Along an axis of 8 there are 22 pairs of window and entry; the middle row of the kernel has 8
    # of its 22.
    assert matrix.nnz == 2 * 2 * 22 * 22 + 2 * 14 * 22
    assert matrix.data.all()
    assert matrix.indices.dtype == np.int32
    assert matrix.has_sorted_indices


def test_a_convolution_needs_little_memory_beside_its_matrix() -> None:
    convolutional = model(
        "Conv", (1, 16, 16, 16), np.ones((16, 16, 3, 3), np.float32), pads=[1, 1, 1, 1]
    )
    read_onnx(convolutional)
    tracemalloc.start()
    try:
        matrix = the_matrix(read_onnx(convolutional))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.3 * (matrix.data.nbytes + matrix.indices.nbytes)


# The maximum over windows


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_window_maximum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size, count, longest = (int(high) for high in rng.integers(1, 9, 3))
    positions = rng.integers(-1, size, (count, longest))
    positions[:, 0] = np.where((positions < 0).all(axis=1), 0, positions[:, 0])
    x = Input(size)
    largest = window_maximum(x, positions)
    points = rng.normal(size=(5, size))
    graph = Graph((x,), (largest,))
    expected = np.stack([points[:, row[row >= 0]].max(axis=1) for row in positions], axis=1)
    np.testing.assert_allclose(
        evaluate(graph, {x: points})[largest], expected, rtol=1e-14, atol=1e-14
    )
    assert sum(gate.size for gate in graph.gates) <= sum(
        len(set(row[row >= 0].tolist())) - 1 for row in positions
    )


def test_window_maximum_over_nothing_is_refused() -> None:
    for positions in ([[0, 1], [-1, -1]], np.zeros((2, 0), int), np.zeros((0, 2), int)):
        with pytest.raises(ModelError, match="no entries"):
            window_maximum(Input(2), np.asarray(positions))
    with pytest.raises(ModelError, match="cannot read the entry 2 of 2"):
        window_maximum(Input(2), np.array([[0, 2]]))


@pytest.mark.parametrize(
    ("options", "gates"),
    [
        ({"kernel_shape": [2, 2], "strides": [2, 2]}, 3 * 9),
        # Of the 36 entries only 16 are read.
        ({"kernel_shape": [2, 2], "strides": [3, 3]}, 3 * 4),
        # Two gates along each row that is read, which windows share; then two for each window.
        ({"kernel_shape": [3, 3]}, 2 * 4 * 6 + 2 * 4 * 4),
        (
            {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0]},
            2 * 3 * 6 - 6 + 2 * 3 * 3 - 3,
        ),
        ({"kernel_shape": [1, 1], "strides": [2, 1]}, 0),
        # Windows of 1 to 6 entries from the first one on: 3 pairs, then 2 and 2.
        ({"kernel_shape": [6, 6], "pads": [5, 0, 0, 0]}, 6 * 5 + 7),
    ],
)
def test_windows_share_gates(options: dict[str, Any], gates: int) -> None:
    assert read("MaxPool", (1, 1, 6, 6), **options).relus == gates


# What is refused

KERNEL = np.ones((1, 1, 3, 3))
ONES = np.ones(1)


@pytest.mark.parametrize(
    ("operator", "constants", "options", "error", "message"),
    [
        (
            "Conv",
            [KERNEL],
            {"strides": [-1, 1]},
            ModelError,
            "'strides' should be 2 positive integers",
        ),
        ("Conv", [KERNEL], {"dilations": [1]}, ModelError, "'dilations' should be 2 positive"),
        ("Conv", [KERNEL], {"pads": [1, 1]}, ModelError, "'pads' should be 4 integers"),
        ("Conv", [KERNEL], {"pads": [-1, 0, 0, 0]}, ModelError, "'pads' should be 4 integers"),
        (
            "Conv",
            [KERNEL],
            {"pads": [1, 1, 1, 1], "auto_pad": "VALID"},
            ModelError,
            "both the pads",
        ),
        ("Conv", [KERNEL], {"auto_pad": "SAME"}, ModelError, "'auto_pad' should be NOTSET"),
        ("Conv", [KERNEL], {"group": 2}, ModelError, "1 channels in 2 groups"),
        ("Conv", [KERNEL], {"group": 0}, ModelError, "in 0 groups"),
        ("Conv", [KERNEL], {"kernel_shape": [3, 2]}, ModelError, "is not that of W"),
        ("Conv", [KERNEL], {"ceil_mode": 1}, UnsupportedOperatorError, "ceil_mode"),
        ("Conv", [np.ones((1, 2, 3, 3))], {}, ModelError, "does not fit an input with 1 channels"),
        ("Conv", [np.ones((1, 1, 3))], {}, ModelError, "does not fit an input of shape"),
        ("Conv", [np.ones((0, 1, 3, 3))], {}, ModelError, "does not fit an input of shape"),
        (
            "Conv",
            [np.ones((1, 1, 5, 5))],
            {},
            ModelError,
            "spans 5 entries does not fit into axis 2 of 4",
        ),
        ("Conv", [KERNEL, np.ones(2)], {}, ModelError, "one number for each of the 1 channels"),
        ("Conv", [KERNEL * np.inf], {}, ModelError, "NaN or infinite"),
        ("Conv", [KERNEL], {"pads": [10**9] * 4}, UnsupportedOperatorError, "coefficients"),
        (
            "Conv",
            [KERNEL],
            {"pads": [2**62] * 4, "strides": [2**62] * 2},
            UnsupportedOperatorError,
            "coefficients",
        ),
        ("Conv", [KERNEL], {"dilations": [10**12] * 2}, ModelError, "spans 2000000000001 entries"),
        (
            "ConvTranspose",
            [KERNEL],
            {"output_padding": [1, 0]},
            ModelError,
            "less than stride or dilation",
        ),
        (
            "ConvTranspose",
            [KERNEL],
            {"output_shape": [1, 1, 6, 6]},
            ModelError,
            "'output_shape' should be 2",
        ),
        (
            "ConvTranspose",
            [KERNEL],
            {"output_shape": [8, 6]},
            UnsupportedOperatorError,
            "runtimes disagree",
        ),
        (
            "ConvTranspose",
            [KERNEL],
            {"auto_pad": "SAME_UPPER", "strides": [4, 1]},
            UnsupportedOperatorError,
            "disagree",
        ),
        (
            "ConvTranspose",
            [KERNEL],
            {"pads": [6, 0, 0, 0]},
            ModelError,
            "leave nothing of the 6 entries",
        ),
        (
            "ConvTranspose",
            [KERNEL],
            {"strides": [10**12, 1]},
            UnsupportedOperatorError,
            "coefficients",
        ),
        ("ConvTranspose", [np.ones((2, 1, 3, 3))], {}, ModelError, "1 channels in 1 groups"),
        ("AveragePool", [], {}, ModelError, "'kernel_shape' is missing"),
        ("AveragePool", [], {"kernel_shape": [0, 1]}, ModelError, "'kernel_shape' should be"),
        (
            "AveragePool",
            [],
            {"kernel_shape": [1, 1], "pads": [1, 0, 0, 0]},
            ModelError,
            "in the padding altogether",
        ),
        (
            "AveragePool",
            [],
            {"kernel_shape": [10**7, 1], "auto_pad": "SAME_UPPER"},
            UnsupportedOperatorError,
            "coeffic",
        ),
        (
            "MaxPool",
            [],
            {"kernel_shape": [2, 2], "pads": [2, 0, 0, 0]},
            ModelError,
            "padding of axis 2 altogether",
        ),
        (
            "MaxPool",
            [],
            {"kernel_shape": [2, 2], "pads": [10**9] * 4},
            UnsupportedOperatorError,
            "coefficients",
        ),
        (
            "MaxPool",
            [],
            {"kernel_shape": [3, 3], "strides": [2, 1], "auto_pad": "VALID", "ceil_mode": 1},
            UnsupportedOperatorError,
            "disagree on auto_pad VALID",
        ),
        (
            "MaxPool",
            [],
            {"kernel_shape": [2, 2], "dilations": [2, 1], "auto_pad": "SAME_LOWER"},
            UnsupportedOperatorError,
            "disagree on auto_pad SAME_LOWER",
        ),
        (
            "AveragePool",
            [],
            {"kernel_shape": [1, 1], "strides": [2, 1], "auto_pad": "SAME_UPPER"},
            UnsupportedOperatorError,
            "disagree on auto_pad SAME_UPPER",
        ),
        (
            "BatchNormalization",
            [ONES] * 4,
            {"training_mode": 1},
            UnsupportedOperatorError,
            "training",
        ),
        ("BatchNormalization", [ONES] * 4, {"opset": 6}, UnsupportedOperatorError, "training"),
        (
            "BatchNormalization",
            [ONES, ONES, ONES, -ONES],
            {},
            ModelError,
            "variance is not positive",
        ),
        ("BatchNormalization", [ONES, ONES, np.ones(2), ONES], {}, ModelError, "'mean' of shape"),
    ],
)
def test_refused(
    operator: str,
    constants: list[Array],
    options: dict[str, Any],
    error: type[LipExactError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        read(operator, (1, 1, 4, 4), *constants, **options)


def test_inputs_without_spatial_axes_are_refused() -> None:
    for operator, options in (
        ("Conv", {}),
        ("MaxPool", {"kernel_shape": [1]}),
        ("GlobalMaxPool", {}),
        ("GlobalAveragePool", {}),
    ):
        constants = [np.ones((1, 4))] if operator == "Conv" else []
        with pytest.raises(ModelError, match="after those of batch and channels"):
            read(operator, (1, 4), *constants, **options)


def test_weights_that_depend_on_the_input_are_refused() -> None:
    convolutional = model("Conv", (1, 1, 3, 3))
    convolutional.graph.node[0].input.append("x")
    with pytest.raises(UnsupportedOperatorError, match="'W', depends on the input"):
        read_onnx(convolutional)


def test_the_indices_of_maxima_are_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match="does not compute its output 'i'"):
        read("MaxPool", (1, 1, 4), kernel_shape=[2], outputs=("y", "i"))


@pytest.mark.parametrize("opset", [7, 9])
def test_statistics_of_training_are_refused(opset: int) -> None:
    with pytest.raises(UnsupportedOperatorError, match="training"):
        read("BatchNormalization", (1, 1, 4), *[ONES] * 4, opset=opset, outputs=("y", "m", "v"))
