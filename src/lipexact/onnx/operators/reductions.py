"""Sums, extremes and order along axes."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp

from lipexact.graph import lowering as lower
from lipexact.graph.ir import Value
from lipexact.onnx.nodes import Constant, Indices, OnnxNode, Operand, Shape, Tensor
from lipexact.onnx.registry import lowers
from lipexact.onnx.tensors import axis_of, counted_axes, integers, limit, one_integer, rearranged


def _windows(
    node: OnnxNode, x: Tensor, axes: Constant | None, inputs_since: int
) -> tuple[Indices, Shape]:
    """Return the positions that are reduced to one, and the shape of the result.

    The positions have a row for each entry of the result. Axes are an input from the opset
    `inputs_since` on, and an attribute before.
    """
    rank = len(x.shape)
    if node.opset >= inputs_since:
        named = integers(node, axes, "axes") if axes is not None else ()
    elif axes is None:
        named = node.ints("axes", ())
    else:
        raise node.malformed(f"before opset {inputs_since} its axes are an attribute, not an input")
    idle = node.opset >= inputs_since and node.int("noop_with_empty_axes", 0)
    reduced = counted_axes(node, named or (() if idle else range(rank)), rank)
    kept = [axis for axis in range(rank) if axis not in reduced]
    windows = x.positions.transpose(*kept, *reduced).reshape(
        math.prod(x.shape[axis] for axis in kept), -1
    )
    if node.int("keepdims", 1):
        return windows, tuple(
            1 if axis in reduced else length for axis, length in enumerate(x.shape)
        )
    return windows, tuple(x.shape[axis] for axis in kept)


def _window_sums(
    node: OnnxNode, x: Tensor, windows: Indices, shape: Shape, factor: float = 1.0
) -> Tensor:
    """Return factor times the sum over each window, as a tensor of the given shape."""
    rows, length = windows.shape
    entries = (
        np.full(windows.size, factor),
        windows.ravel(),
        np.arange(0, windows.size + 1, length),
    )
    return Tensor(
        lower.add((sp.csr_array(entries, shape=(rows, x.value.size)), x.value), name=node.name),
        shape,
    )


def _negative(x: Value, name: str = "") -> Value:
    return lower.add(lower.scaled(-1.0, x), name=name)


@lowers("CumSum")
def _cumsum(node: OnnxNode, x: Tensor, axis: Constant) -> Tensor:
    """Sum all entries up to each one along an axis. The axis must be constant."""
    along = axis_of(node, one_integer(node, axis, "axis"), len(x.shape))
    length = x.shape[along]
    limit(node, x.value.size * length)
    summed = np.tril(np.ones((length, length), dtype=bool), -1 if node.int("exclusive", 0) else 0)
    to, of = (summed.T if node.int("reverse", 0) else summed).nonzero()
    lines = np.moveaxis(x.positions, along, -1).reshape(-1, length)
    entries = (np.ones(lines.shape[0] * to.size), (lines[:, to].ravel(), lines[:, of].ravel()))
    matrix = sp.csr_array(entries, shape=(x.value.size, x.value.size))
    return Tensor(lower.add((matrix, x.value), name=node.name), x.shape)


@lowers("ReduceL1")
def _reduce_l1(node: OnnxNode, x: Tensor, axes: Constant | None) -> Tensor:
    """Sum the absolute values along axes. The axes must be constant."""
    absolute = Tensor(lower.absolute(x.value, f"{node.name}_abs"), x.shape)
    return _window_sums(node, absolute, *_windows(node, x, axes, 18))


@lowers("ReduceMax")
def _reduce_max(node: OnnxNode, x: Tensor, axes: Constant | None) -> Tensor:
    """Take the largest entry along axes. The axes must be constant."""
    windows, shape = _windows(node, x, axes, 18)
    return Tensor(lower.window_maximum(x.value, windows, node.name), shape)


@lowers("ReduceMean")
def _reduce_mean(node: OnnxNode, x: Tensor, axes: Constant | None) -> Tensor:
    """Take the mean along axes. The axes must be constant."""
    windows, shape = _windows(node, x, axes, 18)
    return _window_sums(node, x, windows, shape, 1.0 / windows.shape[1])


@lowers("ReduceMin")
def _reduce_min(node: OnnxNode, x: Tensor, axes: Constant | None) -> Tensor:
    """Take the smallest entry along axes. The axes must be constant."""
    windows, shape = _windows(node, x, axes, 18)
    return Tensor(lower.window_maximum(x.value, windows, node.name, sign=-1.0), shape)


@lowers("ReduceSum")
def _reduce_sum(node: OnnxNode, x: Tensor, axes: Constant | None) -> Tensor:
    """Sum along axes. The axes must be constant."""
    return _window_sums(node, x, *_windows(node, x, axes, 13))


@lowers("TopK")
def _topk(node: OnnxNode, x: Tensor, k: Constant | None) -> Operand:
    """Take the k largest or smallest entries along an axis, in order.

    k must be constant; the output of indices is refused.
    """
    axis = axis_of(node, node.int("axis", -1), len(x.shape))
    if node.opset < 10:
        count = node.int("k")
    elif k is None:
        raise node.malformed("its input 'K' is missing")
    else:
        count = one_integer(node, k, "K")
    length = x.shape[axis]
    smallest = not node.int("largest", 1)
    if not 1 <= count <= length:
        raise node.malformed(f"K = {count} entries of an axis of length {length}")
    if not node.int("sorted", 1) and count > 1:
        raise node.unsupported("with sorted = 0 the order of its output is not defined")
    depth = (length - 1).bit_length()
    limit(node, x.value.size * max(depth * (depth + 1) // 2, 1))
    lines = np.moveaxis(x.positions, axis, -1)
    value = lower.largest(
        _negative(x.value) if smallest else x.value, lines.reshape(-1, length), count, node.name
    )
    result = Tensor(_negative(value, node.name) if smallest else value, (*lines.shape[:-1], count))
    return rearranged(node, result, np.moveaxis(result.positions, -1, axis))
