"""Sliding windows of convolutions and pooling: attributes, positions and matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lipexact.graph.ir import Affine
from lipexact.numerics.arrays import Matrix, Vector
from lipexact.onnx.nodes import Indices, OnnxNode, Shape, Tensor
from lipexact.onnx.tensors import limit, limit_entries


@dataclass(frozen=True)
class Axis:
    """Windows along one axis.

    Attributes
    ----------
    length
        The entries that the windows slide over, without padding.
    windows
        How many windows there are.
    kernel, stride, dilation
        The number of entries that a window reads, the step from window to window, and the step from
        entry to entry in a window.
    before, after
        The padding.
    """

    length: int
    windows: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def span(self) -> int:
        """The number of entries from the first to the last one that a window reads."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def coordinates(self) -> Indices:
        """The positions that every window reads, of shape (windows, kernel).

        Those in the padding are below 0 or not below the length. Two windows of 3 entries, stride 2
        and padding 1 read (-1, 0, 1) and (1, 2, 3).
        """
        starts = np.arange(self.windows, dtype=np.int64)[:, None] * self.stride - self.before
        return np.asarray(starts + np.arange(self.kernel, dtype=np.int64) * self.dilation)

    @property
    def taps(self) -> Indices:
        """The coordinates, with -1 for those in the padding."""
        taps = self.coordinates
        taps[(taps < 0) | (taps >= self.length)] = -1
        return taps

    @property
    def counted(self) -> npt.NDArray[np.int64]:
        """How many coordinates of every window lie before the end of the padding.

        Those beyond, which rounding up adds, do not count in averages.
        """
        return np.asarray((self.coordinates < self.length + self.after).sum(axis=1))


def positive(node: OnnxNode, name: str, count: int, default: int | None = 1) -> Shape:
    """Return an attribute with a positive integer for each axis, required without a default."""
    values = node.ints(name, None if default is None else [default] * count)
    if len(values) != count or min(values) < 1:
        raise node.malformed(
            f"its attribute '{name}' should be {count} positive integers, not {list(values)}"
        )
    return values


def spatial(node: OnnxNode, shape: Shape) -> Shape:
    """Return the lengths of the axes after those of batch and channels; there must be some."""
    if len(shape) < 3:
        raise node.malformed(
            f"its input of shape {shape} should have an axis after those of batch and channels"
        )
    return shape[2:]


def padding(node: OnnxNode, count: int) -> tuple[str, Shape]:
    """Return the attributes 'auto_pad' and 'pads', of which at most one may be set."""
    mode = node.string("auto_pad", "NOTSET")
    pads = node.ints("pads", [0] * (2 * count))
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise node.malformed(
            "its attribute 'auto_pad' should be NOTSET, VALID, SAME_UPPER or SAME_LOWER, not "
            f"{mode}"
        )
    if len(pads) != 2 * count or min(pads) < 0:
        raise node.malformed(
            f"its attribute 'pads' should be {2 * count} integers from 0 on, not {list(pads)}"
        )
    if mode != "NOTSET" and any(pads):
        raise node.malformed(
            f"it has both the pads {list(pads)} and auto_pad {mode}; ONNX allows one of them"
        )
    return mode, pads


def sliding(
    node: OnnxNode, lengths: Sequence[int], kernel: Sequence[int], *, up: bool = False
) -> list[Axis]:
    """Return the windows along all axes by the strides, dilations, pads and auto_pad of a node.

    Parameters
    ----------
    node
        The node with these attributes.
    lengths
        The lengths of the axes that the windows slide over.
    kernel
        How many entries along each axis a window reads.
    up
        Whether the number of windows is rounded up.
    """
    rank = len(lengths)
    strides = positive(node, "strides", rank)
    dilations = positive(node, "dilations", rank)
    mode, pads = padding(node, rank)
    axes = []
    for k, (length, size, stride, dilation) in enumerate(
        zip(lengths, kernel, strides, dilations, strict=True)
    ):
        span = (size - 1) * dilation + 1
        before = pads[k]
        after = pads[rank + k]
        if mode.startswith("SAME"):
            windows = -(-length // stride)
            total = max((windows - 1) * stride + span - length, 0)
            before = total // 2 if mode == "SAME_UPPER" else total - total // 2
            after = total - before
        else:
            room = before + length + after - span
            # VALID is not rounded up.
            windows = (-(-room // stride) if up and mode == "NOTSET" else room // stride) + 1
            if up:  # windows that would start in the padding on the right are left out
                windows = min(windows, -(-(before + length) // stride))
            if windows < 1:
                raise node.malformed(
                    f"a window that spans {span} entries does not fit into axis {k + 2} of "
                    f"{length} entries with padding of {before} and {after}"
                )
        limit(node, before + length + after + span)
        limit(node, windows * size)
        axes.append(Axis(length, windows, size, stride, dilation, before, after))
    return axes


def convolution(
    node: OnnxNode, weights: npt.NDArray[np.float64], axes: Sequence[Axis], groups: int = 1
) -> Matrix:
    """Return the matrix of a convolution, from (channels, *entries) to (channels, *windows).

    The weights (1, 2) and 2 windows over 3 entries without padding give the rows (1, 2, 0) and
    (0, 1, 2).

    Parameters
    ----------
    node
        The node that is being lowered.
    weights
        Of shape (channels after, channels before / groups, *kernel).
    axes
        The windows along each axis.
    groups
        The number of groups of channels, each of which is convolved by itself.

    Returns
    -------
    scipy.sparse.csr_array
        With sorted indices, without zeros.
    """
    outer, inner = weights.shape[:2]
    rows = math.prod(axis.windows for axis in axes)
    kernel = math.prod(axis.kernel for axis in axes)
    length = math.prod(axis.length for axis in axes)
    limit(node, rows * max(outer, kernel))
    limit_entries(node, rows * outer)
    taps = [axis.taps for axis in axes]
    limit(node, outer * inner * math.prod(int((tap >= 0).sum()) for tap in taps))
    # The positions that every window reads in one channel, of shape (rows, kernel).
    positions: Indices = np.zeros((1, 1), dtype=np.int64)
    inside = np.ones((1, 1), dtype=bool)
    for axis, tap in zip(axes, taps, strict=True):
        size = len(positions) * axis.windows, -1
        positions = (positions[:, None, :, None] * axis.length + tap[:, None, :]).reshape(size)
        inside = (inside[:, None, :, None] & (tap >= 0)[:, None, :]).reshape(size)
    weights = weights.reshape(outer, inner, kernel)
    used = weights != 0
    counts = used.sum(axis=1, dtype=np.float64) @ inside.T.astype(np.float64)
    indptr = np.concatenate([[0], np.cumsum(counts.ravel())]).astype(np.int64)
    columns = inner * groups * length
    kind = _index_type(columns, int(indptr[-1]))
    # Filled channel by channel, which takes little memory beside the result.
    indices = np.empty(indptr[-1], dtype=kind)
    data = np.empty(indptr[-1])
    channel = (positions[:, None, :] + np.arange(inner)[:, None] * length).astype(kind)
    for m in range(outer):
        group = m // (outer // groups)
        part = slice(indptr[m * rows], indptr[(m + 1) * rows])
        read = inside[:, None, :] & used[m]
        indices[part] = channel[read] + kind(group * inner * length)
        data[part] = np.broadcast_to(weights[m], read.shape)[read]
    return sp.csr_array((data, indices, indptr.astype(kind)), shape=(outer * rows, columns))


def repeated(node: OnnxNode, matrix: Matrix, count: int) -> Matrix:
    """Return the block diagonal matrix of `count` equal blocks."""
    if count == 1:
        return matrix
    limit(node, count * matrix.nnz)
    limit_entries(node, count * matrix.shape[0])
    shape = count * matrix.shape[0], count * matrix.shape[1]
    kind = _index_type(shape[1], count * matrix.nnz)
    columns, entries = (
        np.arange(count, dtype=kind)[:, None] * step for step in (matrix.shape[1], matrix.nnz)
    )
    indptr = np.append((matrix.indptr[:-1] + entries).ravel(), count * matrix.nnz).astype(kind)
    return sp.csr_array(
        (np.tile(matrix.data, count), (matrix.indices + columns).ravel(), indptr), shape=shape
    )


def _index_type(columns: int, entries: int) -> type[np.int32] | type[np.int64]:
    """Return the integer type of the indices of a sparse matrix."""
    return np.int32 if max(columns, entries) < 2**31 else np.int64


def mapped(
    node: OnnxNode, matrix: Matrix, x: Tensor, shape: Shape, bias: Vector | None = None
) -> Tensor:
    """Return the tensor of the given shape whose entries are matrix x + bias.

    The matrix becomes read-only, and must not be used again.
    """
    # Read-only, or Affine would copy it.
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.setflags(write=False)
    offset = np.zeros(matrix.shape[0]) if bias is None else bias
    return Tensor(Affine(((matrix, x.value),), offset, node.name), shape)
