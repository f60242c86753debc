"""Averages and maxima over windows."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp

from lipexact.graph import lowering as lower
from lipexact.onnx.nodes import OnnxNode, Operand, Tensor
from lipexact.onnx.registry import lowers
from lipexact.onnx.tensors import limit, limit_entries, rearranged
from lipexact.onnx.windows import Axis, convolution, mapped, positive, repeated, sliding, spatial


@lowers("AveragePool")
def _average_pool(node: OnnxNode, x: Tensor) -> Tensor:
    """Average over every window.

    Entries beyond the padding, which ceil_mode adds, do not count.
    """
    axes = _windows(node, x)
    matrix = convolution(node, np.ones((1, 1, *(axis.kernel for axis in axes))), axes)
    entries = np.diff(matrix.indptr)
    counts = entries
    if node.int("count_include_pad", 0):
        counts = np.ones(1)
        for axis in axes:
            counts = np.multiply.outer(counts, axis.counted).ravel()
    if not counts.all():
        raise node.malformed("a window lies in the padding altogether, where there is no average")
    matrix.data /= np.repeat(counts, entries)
    shape = (*x.shape[:2], *(axis.windows for axis in axes))
    return mapped(node, repeated(node, matrix, math.prod(x.shape[:2])), x, shape)


@lowers("GlobalAveragePool")
def _global_average_pool(node: OnnxNode, x: Tensor) -> Tensor:
    """Average over every channel."""
    lengths = spatial(node, x.shape)
    size = math.prod(lengths)
    row = sp.csr_array(np.full((1, size), 1.0 / size))
    return mapped(
        node, repeated(node, row, math.prod(x.shape[:2])), x, x.shape[:2] + (1,) * len(lengths)
    )


@lowers("MaxPool")
def _max_pool(node: OnnxNode, x: Tensor) -> Operand:
    """Take the maximum over every window, of its entries alone. The output Indices is refused."""
    node.int("storage_order", 0)  # of the indices
    axes = _windows(node, x)
    limit_entries(node, math.prod(x.shape[:2]) * math.prod(axis.windows for axis in axes))
    positions = x.positions
    taps = []
    for k, axis in enumerate(axes, start=2):
        tap = axis.taps
        if (tap < 0).all(axis=1).any():
            raise node.malformed(
                f"a window lies in the padding of axis {k} altogether, where there is no maximum"
            )
        # Only what some window reads is carried along.
        read = np.unique(tap[tap >= 0])
        positions = positions.take(read, axis=k)
        taps.append(np.where(tap < 0, -1, np.searchsorted(read, tap)))
    if all(axis.kernel == 1 for axis in axes):
        return rearranged(node, x, positions)
    # The maximum over a box is that of its rows' maxima, and boxes share rows. The axis that
    # shrinks most goes first.
    value = x.value
    for k in sorted(range(len(axes)), key=lambda k: axes[k].windows / positions.shape[k + 2]):
        if axes[k].kernel == 1:
            continue
        limit(node, 8 * positions.size // positions.shape[k + 2] * taps[k].size)
        missing = (taps[k] < 0).reshape(*taps[k].shape, *[1] * (len(axes) - 1 - k))
        windows = np.moveaxis(np.where(missing, -1, positions.take(taps[k], axis=k + 2)), k + 3, -1)
        value = lower.window_maximum(
            value, windows.reshape(-1, axes[k].kernel), f"{node.name}_axis{k + 2}"
        )
        positions = np.arange(value.size).reshape(windows.shape[:-1])
    return Tensor(value, positions.shape)


@lowers("GlobalMaxPool")
def _global_max_pool(node: OnnxNode, x: Tensor) -> Tensor:
    """Take the maximum of every channel."""
    lengths = spatial(node, x.shape)
    windows = x.positions.reshape(-1, math.prod(lengths))
    return Tensor(
        lower.window_maximum(x.value, windows, node.name), x.shape[:2] + (1,) * len(lengths)
    )


def _windows(node: OnnxNode, x: Tensor) -> list[Axis]:
    """Return the windows along all axes; those on which runtimes disagree are refused."""
    lengths = spatial(node, x.shape)
    up = bool(node.int("ceil_mode", 0))
    axes = sliding(node, lengths, positive(node, "kernel_shape", len(lengths), None), up=up)
    mode = node.string("auto_pad", "NOTSET")
    for axis in axes:
        # Here onnxruntime, the reference implementation and the formulas of ONNX have different
        # results.
        reach = (axis.windows - 1) * axis.stride + axis.span
        if mode.startswith("SAME") and (axis.span > axis.kernel or reach < axis.length):
            raise node.unsupported(
                f"runtimes disagree on auto_pad {mode} with dilations, or with strides that pass "
                "over the end; set pads instead"
            )
        if mode == "VALID" and up and reach < axis.length:
            raise node.unsupported(
                "runtimes disagree on auto_pad VALID with ceil_mode; set pads instead"
            )
    return axes
