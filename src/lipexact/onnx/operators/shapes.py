"""Shapes, and rearrangements of entries: parts, repetitions, padding, orders of axes."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp

from lipexact.graph import lowering as lower
from lipexact.graph.ir import Value
from lipexact.numerics.arrays import Matrix
from lipexact.onnx import constants
from lipexact.onnx.nodes import Constant, Indices, OnnxNode, Operand, Tensor
from lipexact.onnx.registry import lowers
from lipexact.onnx.tensors import (
    axis_of,
    common_shape,
    counted_axes,
    integers,
    limit,
    limit_entries,
    one_integer,
    positions_of,
    rearranged,
    reshaped,
)


@lowers("Concat")
def _concat(node: OnnxNode, *operands: Operand) -> Operand:
    """Join the operands along an axis."""
    if not operands:
        raise node.malformed("it has no input")
    rank = len(operands[0].shape)
    axis = axis_of(node, node.int("axis", 1 if node.opset < 4 else None), rank)
    if len({(len(x.shape), x.shape[:axis], x.shape[axis + 1 :]) for x in operands}) > 1:
        listed = ", ".join(str(x.shape) for x in operands)
        raise node.malformed(f"the shapes {listed} differ in more than axis {axis}")
    ends = np.cumsum([x.shape[axis] for x in operands])
    shape = (*operands[0].shape[:axis], int(ends[-1]), *operands[0].shape[axis + 1 :])
    # A matrix for each operand that is not constant, with a number for each row of the output.
    limit(node, math.prod(shape) * sum(isinstance(x, Tensor) for x in operands))
    limit_entries(node, math.prod(shape))
    parts = np.split(np.arange(math.prod(shape)).reshape(shape), ends[:-1], axis)
    terms: list[tuple[Matrix, Value]] = []
    bias = np.zeros(math.prod(shape))
    for x, part in zip(operands, parts, strict=True):
        if isinstance(x, Tensor):
            entries = (np.ones(part.size), (part.ravel(), np.arange(part.size)))
            terms.append((sp.csr_array(entries, shape=(bias.size, part.size)), x.value))
        else:
            bias[part] = node.weights(x)
    return Tensor(lower.add(*terms, bias=bias, name=node.name), shape)


@lowers("DepthToSpace")
def _depth_to_space(node: OnnxNode, x: Operand) -> Operand:
    """Rearrange channels into blocks of pixels, in either mode."""
    size, mode = _blocks(node, x)
    n, channels, height, width = x.shape
    depth = channels // size**2
    if depth * size**2 != channels:
        raise node.malformed(f"blocks of {size} x {size} do not divide {channels} channels")
    if mode == "DCR":
        blocks = (
            positions_of(x).reshape(n, size, size, depth, height, width).transpose(0, 3, 4, 1, 5, 2)
        )
    else:
        blocks = (
            positions_of(x).reshape(n, depth, size, size, height, width).transpose(0, 1, 4, 2, 5, 3)
        )
    return rearranged(node, x, blocks.reshape(n, depth, height * size, width * size))


def _blocks(node: OnnxNode, x: Operand) -> tuple[int, str]:
    """Return the side of a block in pixels, and the mode."""
    size = node.int("blocksize")
    mode = node.string("mode", "DCR")
    if size < 1 or mode not in ("DCR", "CRD"):
        raise node.malformed(
            f"blocksize {size} and mode '{mode}'; the size must be positive, the mode DCR or CRD"
        )
    if len(x.shape) != 4:
        raise node.malformed(f"its input must be of rank 4, not of shape {x.shape}")
    return size, mode


@lowers("Expand")
def _expand(node: OnnxNode, x: Operand, shape: Constant) -> Operand:
    """Repeat along axes of length 1."""
    wanted = integers(node, shape, "shape")
    if min(wanted, default=0) < 0:
        raise node.malformed(f"shape {list(wanted)} is not a shape")
    result = common_shape(node, x.shape, wanted)
    limit_entries(node, math.prod(result))
    return rearranged(node, x, np.broadcast_to(positions_of(x), result))


@lowers("Flatten")
def _flatten(node: OnnxNode, x: Operand) -> Operand:
    """Join the axes before the given one, and those from it on."""
    rank = len(x.shape)
    axis = node.int("axis", 1)
    if not -rank <= axis <= rank:
        raise node.malformed(f"axis {axis} is not an axis of a tensor of rank {rank}")
    return reshaped(node, x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@lowers("Pad")
def _pad(
    node: OnnxNode, x: Operand, pads: Constant | None, value: Constant | None, axes: Constant | None
) -> Operand:
    """Add entries around, in all modes, or take some away. Widths and value must be constant."""
    rank = len(x.shape)
    mode = node.string("mode", "constant")
    fill = 0.0
    if node.opset < 11:
        widths = node.ints("pads" if node.opset > 1 else "paddings")
        fill = float(node.weights(np.array(node.float("value", 0.0))))
    elif pads is None:
        raise node.malformed("its input 'pads' is missing")
    else:
        widths = integers(node, pads, "pads")
    if value is not None:
        if value.size != 1:
            raise node.malformed(f"its value should be one number, not of shape {value.shape}")
        fill = float(node.weights(value.ravel())[0])
    padded = counted_axes(node, range(rank) if axes is None else integers(node, axes, "axes"), rank)
    if len(widths) != 2 * len(padded):
        raise node.malformed(f"it has {len(widths)} widths of padding for {len(padded)} axes")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise node.unsupported(f"lipexact does not know the mode '{mode}'")
    around = {axis: (widths[k], widths[k + len(padded)]) for k, axis in enumerate(padded)}
    lengths = [length + sum(around.get(axis, ())) for axis, length in enumerate(x.shape)]
    if min(lengths, default=0) < 0:
        raise node.malformed(
            f"its padding {list(widths)} takes away more than a tensor of shape {x.shape} has"
        )
    limit_entries(node, math.prod(map(max, lengths, x.shape)))
    positions = positions_of(x)
    for axis, (before, after) in around.items():
        positions = _padded(node, positions, axis, before, after, mode)
    return rearranged(node, x, positions, fill)


def _padded(
    node: OnnxNode, positions: Indices, axis: int, before: int, after: int, mode: str
) -> Indices:
    """Return the positions padded along one axis; -1 stands for the fill value.

    Negative widths take entries away, before the other side is padded. In the mode "reflect" the
    entries (0, 1, 2), padded by 2 before, become (2, 1, 0, 1, 2).
    """
    length = positions.shape[axis]
    kept = slice(max(-before, 0), length - max(-after, 0))
    positions = positions[(*[slice(None)] * axis, kept)]
    length = positions.shape[axis]
    before = max(before, 0)
    after = max(after, 0)
    if mode == "constant" or not before + after:
        widths = [(before, after) if each == axis else (0, 0) for each in range(positions.ndim)]
        return np.pad(positions, widths, constant_values=-1)
    if not length:
        raise node.malformed(f"axis {axis} has no entries to pad with")
    places = np.arange(-before, length + after)
    if mode == "edge":
        places = np.clip(places, 0, length - 1)
    elif mode == "wrap":
        places %= length
    elif mode == "reflect":
        period = max(2 * (length - 1), 1)
        places = (
            np.abs((places + length - 1) % period - (length - 1))
            if length > 1
            else np.zeros_like(places)
        )
    return np.take(positions, places, axis)


@lowers("Reshape")
def _reshape(node: OnnxNode, x: Operand, shape: Constant | None) -> Operand:
    """Give another shape, in which 0 and -1 stand for lengths that follow from the input's."""
    if node.opset < 5:
        wanted = node.ints("shape")
    elif shape is None:
        raise node.malformed("its input 'shape' is missing")
    else:
        wanted = integers(node, shape, "shape")
    if not node.int("allowzero", 0):
        if any(length == 0 and axis >= len(x.shape) for axis, length in enumerate(wanted)):
            raise node.malformed(
                f"shape {list(wanted)} copies an axis that shape {x.shape} does not have"
            )
        wanted = tuple(length or x.shape[axis] for axis, length in enumerate(wanted))
    if wanted.count(-1) == 1 and 0 not in wanted:
        rest = -math.prod(wanted)
        wanted = tuple(math.prod(x.shape) // rest if length == -1 else length for length in wanted)
    if any(length < 0 for length in wanted):
        raise node.malformed(f"shape {list(wanted)} is not a shape")
    return reshaped(node, x, wanted)


@lowers("Shape")
def _shape(node: OnnxNode, x: Tensor) -> Constant:
    """Return the shape, as a constant."""
    start = node.int("start", 0)
    stop = node.int("end", len(x.shape))
    return np.array(x.shape[start:stop], dtype=np.int64)


@lowers("Size")
def _size(_: OnnxNode, x: Tensor) -> Constant:
    """Return the number of entries, as a constant."""
    return np.array(x.value.size, dtype=np.int64)


@lowers("Slice")
def _slice(
    node: OnnxNode,
    x: Operand,
    starts: Constant | None,
    ends: Constant | None,
    axes: Constant | None,
    steps: Constant | None,
) -> Operand:
    """Take a part, with a step along each axis. Bounds and steps must be constant."""
    if node.opset < 10:
        first = node.ints("starts")
        last = node.ints("ends")
        cut = node.ints("axes", ()) or tuple(range(len(first)))
    elif starts is None or ends is None:
        raise node.malformed("its starts or ends are missing")
    else:
        first = integers(node, starts, "starts")
        last = integers(node, ends, "ends")
        cut = tuple(range(len(first))) if axes is None else integers(node, axes, "axes")
    by = (1,) * len(first) if steps is None else integers(node, steps, "steps")
    if not len(first) == len(last) == len(cut) == len(by):
        raise node.malformed(
            f"it has {len(first)} starts, {len(last)} ends, {len(cut)} axes and {len(by)} steps"
        )
    if 0 in by:
        raise node.malformed("a step is 0")
    positions = positions_of(x)
    for axis, start, end, step in zip(
        counted_axes(node, cut, len(x.shape)), first, last, by, strict=True
    ):
        length = x.shape[axis]
        # Steps backwards begin at the last entry at most, and their end may lie before the first
        # one.
        low, high = (0, length) if step > 0 else (-1, length - 1)
        begin = min(max(start + length if start < 0 else start, 0), high)
        stop = min(max(end + length if end < 0 else end, low), high)
        positions = np.take(positions, np.array(range(begin, stop, step), dtype=np.int64), axis)
    return rearranged(node, x, positions)


@lowers("SpaceToDepth")
def _space_to_depth(node: OnnxNode, x: Operand) -> Operand:
    """Rearrange blocks of pixels into channels, in either mode."""
    size, mode = _blocks(node, x)
    n, channels, height, width = x.shape
    if height % size or width % size:
        raise node.malformed(f"blocks of {size} x {size} do not divide {height} x {width} pixels")
    blocks = positions_of(x).reshape(n, channels, height // size, size, width // size, size)
    turned = blocks.transpose((0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4))
    return rearranged(node, x, turned.reshape(n, channels * size**2, height // size, width // size))


@lowers("Split")
def _split(node: OnnxNode, x: Operand, split: Constant | None) -> tuple[Operand, ...]:
    """Split along an axis into parts of equal or given lengths."""
    axis = axis_of(node, node.int("axis", 0), len(x.shape))
    length = x.shape[axis]
    count = len(node.proto.output)
    if node.opset >= 18 and node.int("num_outputs", count) != count:
        raise node.malformed(f"it has {count} outputs and num_outputs = {node.int('num_outputs')}")
    if split is not None:
        lengths = integers(node, split, "split")
    elif node.opset < 13 and node.has("split"):
        lengths = node.ints("split")
    else:
        chunk = -(-length // count)
        lengths = (*[chunk] * (count - 1), length - chunk * (count - 1))
        if node.opset < 18 and length % count:
            raise node.malformed(
                f"an axis of length {length} does not split into {count} equal parts"
            )
    if len(lengths) != count or sum(lengths) != length or min(lengths) < 0:
        raise node.malformed(
            f"the lengths {list(lengths)} do not split an axis of length {length} into {count} "
            "parts"
        )
    parts = np.split(positions_of(x), np.cumsum(lengths)[:-1], axis)
    # Parts that no node reads cost nothing: only nodes that the output depends on are kept.
    return tuple(rearranged(node, x, part) for part in parts)


@lowers("Squeeze")
def _squeeze(node: OnnxNode, x: Operand, axes: Constant | None) -> Operand:
    """Drop axes of length 1."""
    rank = len(x.shape)
    if node.has("axes") and node.opset < 13:
        dropped = counted_axes(node, node.ints("axes"), rank)
    elif axes is not None:
        dropped = counted_axes(node, integers(node, axes, "axes"), rank)
    else:
        dropped = tuple(axis for axis in range(rank) if x.shape[axis] == 1)
    return reshaped(
        node, x, tuple(length for axis, length in enumerate(x.shape) if axis not in dropped)
    )


@lowers("Tile")
def _tile(node: OnnxNode, x: Operand, repeats: Constant, axis: Constant | None) -> Operand:
    """Repeat along the axes."""
    rank = len(x.shape)
    if node.opset < 6:
        if axis is None:
            raise node.malformed("its input 'axis' is missing")
        # The type of both is that of x.
        count, along = (
            one_integer(node, each.astype(np.int64), "tiles, axis") for each in (repeats, axis)
        )
        times = tuple(count if each == axis_of(node, along, rank) else 1 for each in range(rank))
    else:
        times = integers(node, repeats, "repeats")
    if len(times) != rank or min(times, default=0) < 0:
        raise node.malformed(f"the repeats {list(times)} do not fit a tensor of shape {x.shape}")
    limit_entries(node, math.prod(x.shape) * math.prod(times))
    if 0 in times:
        return rearranged(
            node, x, np.zeros([a * b for a, b in zip(x.shape, times, strict=True)], dtype=np.int64)
        )
    return rearranged(node, x, np.tile(positions_of(x), times))


@lowers("Transpose")
def _transpose(node: OnnxNode, x: Operand) -> Operand:
    """Permute the axes."""
    rank = len(x.shape)
    order = node.ints("perm", range(rank)[::-1])
    if sorted(order) != list(range(rank)):
        raise node.malformed(
            f"{list(order)} is not an order of the axes of a tensor of rank {rank}"
        )
    return rearranged(node, x, positions_of(x).transpose(order))


@lowers("Trilu")
def _trilu(node: OnnxNode, x: Operand, k: Constant | None) -> Operand:
    """Set the entries of matrices below or above a diagonal to 0."""
    if len(x.shape) < 2:
        raise node.malformed(f"its input must be of rank 2 or more, not of shape {x.shape}")
    triangle = np.triu if node.int("upper", 1) else np.tril
    rows, columns = x.shape[-2:]
    diagonal = 0 if k is None else min(max(one_integer(node, k, "k"), -rows), columns)
    # Positions are counted from 1 for a moment, so that 0 stands for what is left out.
    return rearranged(node, x, triangle(positions_of(x) + 1, diagonal) - 1)


@lowers("Unsqueeze")
def _unsqueeze(node: OnnxNode, x: Operand, axes: Constant | None) -> Operand:
    """Add axes of length 1."""
    if node.opset < 13:
        added = node.ints("axes")
    elif axes is None:
        raise node.malformed("its input 'axes' is missing")
    else:
        added = integers(node, axes, "axes")
    rank = len(x.shape) + len(added)
    if rank > constants.MAX_AXES:
        raise node.malformed(f"its output has {rank} axes")
    new = counted_axes(node, added, rank)
    lengths = iter(x.shape)
    return reshaped(node, x, tuple(1 if axis in new else next(lengths) for axis in range(rank)))
