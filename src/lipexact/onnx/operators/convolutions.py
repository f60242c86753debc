"""Convolutions, and the normalisation of their channels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lipexact.onnx.nodes import Constant, OnnxNode, Operand, Shape, Tensor
from lipexact.onnx.registry import lowers
from lipexact.onnx.tensors import limit, limit_entries, weighted_sum
from lipexact.onnx.windows import (
    Axis,
    convolution,
    mapped,
    padding,
    positive,
    repeated,
    sliding,
    spatial,
)


@lowers("Conv")
def _conv(node: OnnxNode, x: Tensor, W: Constant, B: Constant | None) -> Tensor:
    """Convolve along any number of axes. W and B must be constant."""
    weights, groups = _kernel(node, x, W, 0)
    axes = sliding(node, spatial(node, x.shape), weights.shape[2:])
    matrix = repeated(node, convolution(node, weights, axes, groups), x.shape[0])
    shape = (x.shape[0], weights.shape[0], *(axis.windows for axis in axes))
    return mapped(node, matrix, x, shape, _bias(node, B, shape))


@lowers("ConvTranspose")
def _conv_transpose(node: OnnxNode, x: Tensor, W: Constant, B: Constant | None) -> Tensor:
    """Apply the transpose of a convolution. W and B must be constant."""
    weights, groups = _kernel(node, x, W, 1)
    axes = _transposed_axes(node, spatial(node, x.shape), weights.shape[2:])
    channels = weights.shape[1] * groups
    shape = (x.shape[0], channels, *(axis.length for axis in axes))
    limit_entries(node, math.prod(shape))
    matrix = convolution(node, weights, axes, groups).T.tocsr()
    return mapped(node, repeated(node, matrix, x.shape[0]), x, shape, _bias(node, B, shape))


def _transposed_axes(node: OnnxNode, lengths: Shape, kernel: Shape) -> list[Axis]:
    """Return the axes of the convolution of which this is the transpose.

    Its windows slide over the output, and there is one for each entry of x.
    """
    rank = len(lengths)
    strides = positive(node, "strides", rank)
    dilations = positive(node, "dilations", rank)
    mode, pads = padding(node, rank)
    extra = node.ints("output_padding", [0] * rank)
    if len(extra) != rank or not all(
        0 <= e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)
    ):
        raise node.malformed(
            f"its attribute 'output_padding' should be {rank} integers from 0 on, less than stride "
            f"or dilation, not {list(extra)}"
        )
    shape = positive(node, "output_shape", rank) if node.has("output_shape") else None
    axes = []
    for k, (length, size, stride, dilation) in enumerate(
        zip(lengths, kernel, strides, dilations, strict=True)
    ):
        full = (length - 1) * stride + extra[k] + (size - 1) * dilation + 1
        if shape is None and not mode.startswith("SAME"):
            before = pads[k]
            total = full - pads[k] - pads[rank + k]
        else:
            # Opset 1 has the odd entry on the other side; runtimes follow opset 11, whatever the
            # opset.
            total = length * stride if shape is None else shape[k]
            cut = full - total
            before = cut // 2 if mode == "SAME_UPPER" else cut - cut // 2
            if cut < 0:
                # Without auto_pad, onnxruntime and the reference implementation fill up at the
                # end, although the standard says otherwise.
                if mode.startswith("SAME") or -cut >= stride:
                    raise node.unsupported(
                        f"its output of {total} entries along axis {k + 2} is longer than the "
                        f"{full} that it reaches, and runtimes disagree on where they are; set "
                        "pads and output_padding instead"
                    )
                before = 0
        if total < 1:
            raise node.malformed(
                f"its pads leave nothing of the {full} entries along axis {k + 2} of the output"
            )
        limit(node, full + before + total)
        limit(node, length * size)
        axes.append(Axis(total, length, size, stride, dilation, before))
    return axes


def _kernel(
    node: OnnxNode, x: Tensor, W: Constant, axis: int
) -> tuple[npt.NDArray[np.float64], int]:
    """Return the weights and the number of groups.

    `axis` says which side of the convolution x is on: 0 for its input, 1 for its output.
    """
    rank = 2 + len(spatial(node, x.shape))
    groups = node.int("group", 1)
    if W.ndim != rank or W.size == 0:
        raise node.malformed(f"W of shape {W.shape} does not fit an input of shape {x.shape}")
    channels = x.shape[1]
    if (
        groups < 1
        or W.shape[0] % groups
        or channels != (W.shape[1] * groups if axis == 0 else W.shape[0])
    ):
        raise node.malformed(
            f"W of shape {W.shape} does not fit an input with {channels} channels in {groups} "
            "groups"
        )
    if node.has("kernel_shape") and node.ints("kernel_shape") != W.shape[2:]:
        raise node.malformed(
            f"its kernel_shape {list(node.ints('kernel_shape'))} is not that of W, {W.shape[2:]}"
        )
    return node.weights(W), groups


def _bias(node: OnnxNode, B: Constant | None, shape: Shape) -> npt.NDArray[np.float64] | None:
    """Return the bias of every entry of the output; None if the node has no bias."""
    if B is None:
        return None
    if B.shape != (shape[1],):
        raise node.malformed(
            f"B of shape {B.shape} should hold one number for each of the {shape[1]} channels"
        )
    return np.tile(np.repeat(node.weights(B), math.prod(shape[2:])), shape[0])


@lowers("BatchNormalization")
def _batch_normalization(
    node: OnnxNode, x: Tensor, scale: Constant, B: Constant, mean: Constant, var: Constant
) -> Operand:
    """Apply the affine map of inference.

    The statistics must be constant; training mode is refused.
    """
    node.float("momentum", 0.9)
    # From opset 7 to 13 further outputs mean training; later an attribute says so, and without
    # training further outputs are not computed.
    if node.opset < 7:
        training = not node.int("is_test", 0)
    else:
        training = (
            any(node.proto.output[1:]) if node.opset < 14 else node.int("training_mode", 0) != 0
        )
    if training:
        raise node.unsupported(
            "BatchNormalization in training mode depends on the whole batch; export the model for "
            "inference (eval mode)"
        )
    # An input with a single axis has one entry, of one channel, for each example of the batch.
    channels = x.shape[1:2] or (1,)
    if node.opset < 9 and not node.int("spatial", 1):
        channels = x.shape[1:]
    ones = (1,) * (len(x.shape) - 1 - len(channels))
    for name, constant in {"scale": scale, "B": B, "mean": mean, "var": var}.items():
        if constant.shape != channels:
            raise node.malformed(
                f"its input '{name}' of shape {constant.shape} should be of shape {channels}"
            )
    variance = node.weights(var) + node.float("epsilon", float(np.float32(1e-5)))
    if not (variance > 0).all():
        raise node.malformed("its variance is not positive")
    factor = node.weights(scale) / np.sqrt(variance)
    shift = node.weights(B) - node.weights(mean) * factor
    return weighted_sum(
        node, (factor.reshape(channels + ones), x), (1.0, shift.reshape(channels + ones))
    )
