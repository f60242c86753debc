"""What rearranges the entries of a tensor, and what has no effect on them."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx.helper
import scipy.sparse as sp

from lipexact.graph import lowering as lower
from lipexact.graph.ir import Value
from lipexact.numerics.arrays import Matrix
from lipexact.onnx.nodes import FLOAT_TYPES, MOST_AXES, Constant, Indices, OnnxNode, Operand, Tensor
from lipexact.onnx.registry import Example, lowers
from lipexact.onnx.tensors import (
    axis_of,
    common_shape,
    counted_axes,
    indices_of,
    integers,
    limit,
    limit_entries,
    numbers,
    one_integer,
    picked,
    positions_of,
    rearranged,
    reshaped,
)

_CAST = "a cast of something that depends on the input must be to a floating-point type of 16 bits or more"


@lowers(
    "Cast",
    example=[
        Example("f = Cast <to = 11> (x)\n y = Cast <to = 1> (f)", dtype="float"),
        Example('y = Cast <to = "DOUBLE"> (x)', opset=5, modern="y = Identity (x)"),
        Example("y = Cast <to = 11, saturate = 0> (x)", opset=19),
    ],
)
def _cast(node: OnnxNode, x: Tensor) -> Tensor:
    """No effect; of what depends on the input, to types of floats only."""
    # Real numbers stay real numbers; these two say how to round to an 8-bit float, which is refused.
    node.int("saturate", 1)
    node.string("round_mode", "up")
    kind = (
        node.int("to")
        if node.opset >= 6
        else onnx.TensorProto.DataType.Value(node.string("to").upper())
    )
    if kind not in FLOAT_TYPES:
        raise node.unsupported(_CAST)
    return x


@lowers(
    "CastLike",
    example=[
        Example("y = CastLike (x, c)", constants={"c": np.zeros(2)}, opset=15),
        Example("d = CastLike (c, x)\n y = Mul (x, d)", constants={"c": np.array(3)}, opset=19),
        Example("r = Relu (x)\n y = CastLike <saturate = 0> (x, r)", opset=19),
    ],
)
def _cast_like(node: OnnxNode, x: Operand, target: Operand) -> Operand:
    """No effect; of what depends on the input, to types of floats only."""
    node.int("saturate", 1)
    node.string("round_mode", "up")
    if isinstance(target, Tensor):
        return x if isinstance(x, Tensor) else x.astype(np.float64)
    if onnx.helper.np_dtype_to_tensor_dtype(target.dtype) not in FLOAT_TYPES:
        raise node.unsupported(_CAST)
    return x


@lowers(
    "Concat",
    example=[
        Example("r = Relu (x)\n y = Concat <axis = 1> (x, c, r)", constants={"c": numbers(1, 2)}),
        Example("r = Relu (x)\n y = Concat <axis = -1> (r, x, x)", x=(1, 2, 2)),
        Example("y = Concat <axis = 0> (x)"),
        Example(
            "r = Neg (x)\n y = Concat <axis = -2> (c, x, r)",
            x=(1, 3, 2),
            constants={"c": numbers(1, 1, 2)},
        ),
        Example(
            "r = Neg (x)\n y = Concat (x, r)",
            opset=3,
            modern="r = Neg (x)\n y = Concat <axis = 1> (x, r)",
        ),
    ],
)
def _concat(node: OnnxNode, *operands: Operand) -> Operand:
    """The operands one after the other along an axis."""
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


@lowers(
    "Constant",
    example=[
        Example("c = Constant <value = double[2] {1.5, -2.25}> ()\n y = Add (x, c)", x=(1, 2)),
        Example("c = Constant <value_float = 1.5> ()\n y = Mul (x, c)", dtype="float"),
        Example(
            "c = Constant <value_floats = [1.5, -0.5]> ()\n y = Mul (x, c)", x=(1, 2), dtype="float"
        ),
        Example("s = Constant <value_ints = [3, -1]> ()\n y = Reshape (x, s)"),
        Example("a = Constant <value_int = 1> ()\n y = Unsqueeze (x, a)"),
    ],
)
def _constant(node: OnnxNode) -> Constant:
    """A tensor of the model."""
    # A string can only feed a node that is of no use here, which then says so.
    if node.has("value"):
        return node.tensor("value")
    if node.has("sparse_value"):
        return node.sparse_tensor("sparse_value")
    if node.has("value_float"):
        return np.array(node.float("value_float"), dtype=np.float32)
    if node.has("value_floats"):
        return np.array(node.floats("value_floats"), dtype=np.float32)
    if node.has("value_int"):
        return np.array(node.int("value_int"), dtype=np.int64)
    if node.has("value_ints"):
        return np.array(node.ints("value_ints"), dtype=np.int64)
    if node.has("value_string"):
        return np.array(node.string("value_string"))
    return np.array(node.strings("value_strings"))


@lowers(
    "DepthToSpace",
    example=[
        Example("y = DepthToSpace <blocksize = 2> (x)", x=(1, 8, 1, 2)),
        Example('y = DepthToSpace <blocksize = 2, mode = "CRD"> (x)', x=(1, 8, 2, 1)),
        Example('y = DepthToSpace <blocksize = 1, mode = "DCR"> (x)', x=(1, 2, 1, 2)),
    ],
)
def _depth_to_space(node: OnnxNode, x: Operand) -> Operand:
    """Channels rearranged into blocks of pixels, in either mode."""
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
    size, mode = node.int("blocksize"), node.string("mode", "DCR")
    if size < 1 or mode not in ("DCR", "CRD"):
        raise node.malformed(
            f"blocksize {size} and mode '{mode}'; the size must be positive, the mode DCR or CRD"
        )
    if len(x.shape) != 4:
        raise node.malformed(f"its input must be of rank 4, not of shape {x.shape}")
    return size, mode


@lowers(
    "Dropout",
    example=[
        Example("y = Dropout (x)"),
        Example("y = Dropout (x, r, t)", constants={"r": np.array(0.5), "t": np.array(False)}),
        Example("y, m = Dropout <ratio = 0.25> (x)", opset=10),
        Example("y = Dropout <is_test = 1> (x)", opset=6, modern="y = Dropout (x)"),
    ],
)
def _dropout(
    node: OnnxNode,
    x: Operand,
    ratio: Operand | None,  # noqa: ARG001 - an input, which like the seed has no effect in inference
    training_mode: Constant | None,
) -> tuple[Operand, Constant]:
    """No effect; refused in training mode."""
    node.float("ratio", 0.5)
    node.int("seed", 0)
    training = bool(training_mode.any()) if training_mode is not None else False
    if training or (node.opset < 7 and not node.int("is_test", 0)):
        raise node.unsupported(
            "Dropout in training mode is random; export the model for inference (eval mode)"
        )
    return x, np.ones(x.shape, dtype=bool)


@lowers(
    "Expand",
    example=[
        Example("y = Expand (x, s)", x=(1, 3, 1), constants={"s": np.array([2, 1, 2])}),
        Example("y = Expand (x, s)", x=(1, 3), constants={"s": np.array([2, 1, 1])}),
        Example("y = Expand (x, s)", x=(2, 3)[1:], constants={"s": np.array([2, 3])}),
        Example("y = Expand (x, s)", x=(1, 3), constants={"s": np.array([3])}, opset=8),
    ],
)
def _expand(node: OnnxNode, x: Operand, shape: Constant) -> Operand:
    """Repeated along axes of length 1."""
    wanted = integers(node, shape, "shape")
    if min(wanted, default=0) < 0:
        raise node.malformed(f"shape {list(wanted)} is not a shape")
    result = common_shape(node, x.shape, wanted)
    limit_entries(node, math.prod(result))
    return rearranged(node, x, np.broadcast_to(positions_of(x), result))


@lowers(
    "Flatten",
    example=[
        Example("y = Flatten (x)", x=(1, 2, 3)),
        Example("y = Flatten <axis = 2> (x)", x=(1, 2, 3)),
        Example("y = Flatten <axis = -1> (x)", x=(1, 2, 3)),
        Example("y = Flatten <axis = 0> (x)", x=(3,)),
    ],
)
def _flatten(node: OnnxNode, x: Operand) -> Operand:
    """Another shape."""
    rank = len(x.shape)
    axis = node.int("axis", 1)
    if not -rank <= axis <= rank:
        raise node.malformed(f"axis {axis} is not an axis of a tensor of rank {rank}")
    return reshaped(node, x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@lowers(
    "Gather",
    example=[
        Example("y = Gather <axis = 1> (x, i)", constants={"i": np.array([3, 0, -1, 3])}),
        Example(
            "y = Gather <axis = -1> (x, i)",
            x=(1, 2, 3),
            constants={"i": np.array([[0, -2], [2, 1]])},
        ),
        Example(
            "y = Gather <axis = 1> (x, i)", x=(1, 2, 3), constants={"i": np.array(1, np.int32)}
        ),
        Example("y = Gather (x, i)", x=(4,), constants={"i": np.array([1, 2])}, opset=1),
    ],
)
def _gather(node: OnnxNode, x: Operand, indices: Constant) -> Operand:
    """The entries at constant indices along an axis."""
    axis = axis_of(node, node.int("axis", 0), len(x.shape))
    limit_entries(node, math.prod(x.shape) // max(x.shape[axis], 1) * indices.size)
    return rearranged(
        node, x, np.take(positions_of(x), indices_of(node, indices, x.shape[axis]), axis)
    )


@lowers(
    "GatherElements",
    example=[
        Example("y = GatherElements <axis = 1> (x, i)", constants={"i": np.array([[3, 0, -1, 3]])}),
        Example(
            "y = GatherElements <axis = -1> (x, i)",
            x=(1, 2, 3),
            constants={"i": np.array([[[2, -2, 0, 0], [1, 1, -1, 0]]])},
            modern="y = GatherElements <axis = 2> (x, i)",
        ),
        Example(
            "y = GatherElements (x, i)", x=(4,), constants={"i": np.array([1, 2, 0])}, opset=11
        ),
    ],
)
def _gather_elements(node: OnnxNode, x: Operand, indices: Constant) -> Operand:
    """For every constant index along an axis the entry there."""
    rank = len(x.shape)
    axis = axis_of(node, node.int("axis", 0), rank)
    outside = [each for each in range(rank) if each != axis]
    if indices.ndim != rank or any(indices.shape[each] > x.shape[each] for each in outside):
        raise node.malformed(
            f"the indices of shape {indices.shape} do not fit a tensor of shape {x.shape}"
        )
    rows = tuple(
        slice(None) if each == axis else slice(indices.shape[each]) for each in range(rank)
    )
    places = indices_of(node, indices, x.shape[axis])
    return rearranged(node, x, np.take_along_axis(positions_of(x)[rows], places, axis))


@lowers(
    "GatherND",
    example=[
        Example(
            "y = GatherND (x, i)", x=(1, 2, 3), constants={"i": np.array([[0, 1, -1], [0, 0, 0]])}
        ),
        Example(
            "y = GatherND (x, i)",
            x=(1, 2, 3),
            constants={"i": np.array([[[0, 1]], [[0, 0]], [[-1, 1]]])},
        ),
        Example(
            "y = GatherND <batch_dims = 1> (x, i)",
            x=(1, 2, 3),
            constants={"i": np.array([[[1], [0]]])},
            opset=12,
        ),
        Example(
            "y = GatherND <batch_dims = 2> (x, i)",
            x=(1, 2, 3),
            constants={"i": np.array([[[-1], [0]]])},
            opset=13,
        ),
    ],
)
def _gather_nd(node: OnnxNode, x: Operand, indices: Constant) -> Operand:
    """The entries, or parts, at tuples of constant indices."""
    batch = node.int("batch_dims", 0)
    if not 0 <= batch < min(indices.ndim, len(x.shape)) or indices.shape[:batch] != x.shape[:batch]:
        raise node.malformed(
            f"{batch} batch axes do not fit the shapes {x.shape} and {indices.shape}"
        )
    depth = indices.shape[-1]
    if not 1 <= depth <= len(x.shape) - batch:
        raise node.malformed(f"tuples of {depth} indices do not fit a tensor of shape {x.shape}")
    limit_entries(node, indices.size // depth * math.prod(x.shape[batch + depth :]))
    places: list[Indices] = list(np.ogrid[tuple(slice(length) for length in x.shape[:batch])])
    places = [place.reshape(*place.shape, *[1] * (indices.ndim - 1 - batch)) for place in places]
    places += [indices_of(node, indices[..., k], x.shape[batch + k]) for k in range(depth)]
    return rearranged(node, x, positions_of(x)[tuple(places)])


@lowers("Identity", example=Example("t = Identity (x)\n y = Relu (t)"))
def _identity(_: OnnxNode, x: Tensor) -> Tensor:
    """No effect."""
    return x


@lowers(
    "Pad",
    example=[
        Example("y = Pad (x, p)", x=(1, 3), constants={"p": np.array([0, 1, 0, 2])}),
        Example(
            "y = Pad (x, p, v)",
            x=(1, 3),
            constants={
                "p": np.array([0, -1, 1, 2]),
                "v": np.array(0.5),
                "q": np.array([0, 0, 1, 2]),
                "b": np.array([0, 1]),
                "e": np.array([1, 3]),
            },
            modern="s = Slice (x, b, e)\n y = Pad (s, q, v)",
        ),
        Example(
            "y = Pad (x, p, v, a)",
            x=(1, 2, 3),
            constants={"p": np.array([1, 0, 0, 2]), "v": np.array(-1.5), "a": np.array([-1, 1])},
            opset=18,
        ),
        Example(
            "y = Pad (x, p, , a)",
            x=(1, 3),
            constants={"p": np.array([2, 1]), "a": np.array([1])},
            opset=21,
        ),
        Example(
            'y = Pad <mode = "reflect"> (x, p)',
            x=(1, 2, 3),
            constants={"p": np.array([0, 1, 2, 0, 0, 1])},
        ),
        Example(
            'y = Pad <mode = "edge"> (x, p)',
            x=(1, 2, 2),
            constants={"p": np.array([0, 1, 2, 1, 0, 3])},
        ),
        Example(
            'y = Pad <mode = "wrap"> (x, p)',
            x=(1, 3),
            constants={"p": np.array([0, 2, 0, 4])},
            opset=19,
        ),
        Example(
            'y = Pad <pads = [0, 1, 0, 2], value = 0.25, mode = "constant"> (x)', x=(1, 3), opset=2
        ),
        Example("y = Pad <paddings = [0, 1, 0, 2]> (x)", x=(1, 3), opset=1),
    ],
)
def _pad(
    node: OnnxNode, x: Operand, pads: Constant | None, value: Constant | None, axes: Constant | None
) -> Operand:
    """More entries around, in all modes, or fewer; sizes and value must be constant."""
    rank, mode, fill = len(x.shape), node.string("mode", "constant"), 0.0
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
    # First what is taken away, and then what is added to the rest.
    length = positions.shape[axis]
    kept = slice(max(-before, 0), length - max(-after, 0))
    positions = positions[(*[slice(None)] * axis, kept)]
    length, before, after = positions.shape[axis], max(before, 0), max(after, 0)
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


@lowers(
    "Reshape",
    example=[
        Example("y = Reshape (x, s)", constants={"s": np.array([3, -1])}),
        Example("y = Reshape (x, s)", x=(1, 2, 3), constants={"s": np.array([0, 3, 2])}),
        Example("y = Reshape (x, s)", x=(1, 2, 3), constants={"s": np.array([1, 0, 1, -1])}),
        Example("y = Reshape <allowzero = 1> (x, s)", x=(1, 2, 3), constants={"s": np.array([-1])}),
        Example(
            "y = Reshape <shape = [0, 2, -1]> (x)",
            constants={"s": np.array([0, 2, -1])},
            opset=1,
            modern="y = Reshape (x, s)",
        ),
    ],
)
def _reshape(node: OnnxNode, x: Operand, shape: Constant | None) -> Operand:
    """Another shape, with 0 and -1."""
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


@lowers(
    "ScatterElements",
    example=[
        Example(
            "y = ScatterElements <axis = 1> (x, i, u)",
            x=(1, 4),
            constants={"i": np.array([[2, -4]]), "j": np.array([[2, 0]]), "u": numbers(1, 2)},
            modern="y = ScatterElements <axis = 1> (x, j, u)",
        ),
        Example(
            'r = Relu (x)\n y = ScatterElements <axis = -1, reduction = "add"> (c, i, r)',
            x=(1, 3),
            constants={"c": numbers(1, 4), "i": np.array([[2, 0, 2]])},
            opset=18,
        ),
    ],
)
def _scatter_elements(node: OnnxNode, x: Operand, indices: Constant, updates: Operand) -> Operand:
    """Entries at constant indices along an axis replaced, or added to; no other reduction."""
    rank = len(x.shape)
    axis = axis_of(node, node.int("axis", 0), rank)
    fits = indices.ndim == rank and all(
        each == axis or indices.shape[each] <= x.shape[each] for each in range(indices.ndim)
    )
    if not fits or indices.shape != updates.shape:
        raise node.malformed(
            f"indices {indices.shape} and updates {updates.shape} do not fit the shape {x.shape}"
        )
    places: list[Indices] = list(np.ogrid[tuple(slice(length) for length in indices.shape)])
    places[axis] = indices_of(node, indices, x.shape[axis])
    return _scattered(node, x, positions_of(x)[tuple(places)], updates)


@lowers(
    "ScatterND",
    example=[
        Example(
            "y = ScatterND (x, i, u)",
            x=(1, 4),
            constants={"i": np.array([[0, 3], [0, 1]]), "u": numbers(2)},
        ),
        Example(
            "r = Neg (x)\n y = ScatterND (x, i, r)",
            x=(1, 2, 3),
            constants={"i": np.array([[0]])},
            opset=11,
        ),
        Example(
            'y = ScatterND <reduction = "add"> (c, i, x)',
            x=(2,),
            constants={"c": numbers(4), "i": np.array([[2], [2]])},
            opset=16,
        ),
    ],
)
def _scatter_nd(node: OnnxNode, x: Operand, indices: Constant, updates: Operand) -> Operand:
    """Entries, or parts, at tuples of constant indices replaced, or added to; no other reduction."""
    depth = indices.shape[-1] if indices.ndim else 0
    if not 1 <= depth <= len(x.shape) or updates.shape != (*indices.shape[:-1], *x.shape[depth:]):
        raise node.malformed(
            f"indices {indices.shape} and updates {updates.shape} do not fit the shape {x.shape}"
        )
    places = tuple(indices_of(node, indices[..., k], x.shape[k]) for k in range(depth))
    return _scattered(node, x, positions_of(x)[places], updates)


def _scattered(node: OnnxNode, x: Operand, places: Indices, updates: Operand) -> Operand:
    reduction, places = node.string("reduction", "none"), places.ravel()
    if reduction not in ("none", "add"):
        raise node.unsupported(
            f"lipexact does not know the reduction '{reduction}'; it knows 'none' and 'add'"
        )
    if reduction == "none" and np.unique(places).size < places.size:
        raise node.malformed("its indices name an entry twice")
    kept = np.ones(x.shape)
    if reduction == "none":
        kept.ravel()[places] = 0.0
    moved = sp.csr_array(
        (np.ones(places.size), (places, np.arange(places.size))), shape=(kept.size, places.size)
    )
    terms: list[tuple[Matrix, Value]] = []
    bias = np.zeros(kept.size)
    if isinstance(x, Tensor):
        terms.append(picked(x, x.positions, kept))
    else:
        bias += (kept * node.weights(x)).ravel()
    if isinstance(updates, Tensor):
        terms.append((moved, updates.value))
    else:
        bias += moved @ node.weights(updates).ravel()
    return Tensor(lower.add(*terms, bias=bias, name=node.name), x.shape)


@lowers(
    "Shape",
    example=[
        Example("s = Shape (x)\n f = Flatten <axis = 0> (x)\n y = Reshape (f, s)", x=(1, 2, 3)),
        Example("s = Shape <start = -2, end = 9> (x)\n y = Reshape (x, s)", x=(1, 2, 3)),
        Example(
            "s = Shape (x)\n b = Gather <axis = 0> (s, i)\n u = Unsqueeze (b, a)\n t = Concat <axis = 0> (u, m)\n"
            "y = Reshape (x, t)",
            x=(1, 2, 3),
            constants={"i": np.array(0), "a": np.array([0]), "m": np.array([-1])},
        ),
        Example(
            "s = Shape (x)\n o = ConstantOfShape <value = double[1] {1.5}> (s)\n y = Sub (x, o)"
        ),
    ],
)
def _shape(node: OnnxNode, x: Tensor) -> Constant:
    """The shape, as a constant."""
    start, stop = node.int("start", 0), node.int("end", len(x.shape))
    return np.array(x.shape[start:stop], dtype=np.int64)


@lowers(
    "Size",
    example=Example(
        "n = Size (x)\n s = Reshape (n, o)\n y = Reshape (x, s)", constants={"o": np.array([1])}
    ),
)
def _size(_: OnnxNode, x: Tensor) -> Constant:
    """The number of entries, as a constant."""
    return np.array(x.value.size, dtype=np.int64)


@lowers(
    "Slice",
    example=[
        Example("y = Slice (x, s, e)", constants={"s": np.array([0, 1]), "e": np.array([1, 4])}),
        Example(
            "y = Slice (x, s, e, a, t)",
            x=(1, 4, 5),
            constants={
                "s": np.array([-1, 1]),
                "e": np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max]),
                "a": np.array([-1, 1]),
                "t": np.array([-2, 2]),
            },
        ),
        Example(
            "y = Slice (x, s, e, , t)",
            x=(5,),
            constants={"s": np.array([-2]), "e": np.array([-100]), "t": np.array([-1])},
        ),
        Example(
            "y = Slice (x, s, e, a)",
            x=(1, 4),
            constants={
                "s": np.array([-3], np.int32),
                "e": np.array([-1], np.int32),
                "a": np.array([1], np.int32),
            },
            opset=10,
        ),
        Example("y = Slice <axes = [1], starts = [2], ends = [2147483647]> (x)", opset=9),
        Example("y = Slice <starts = [0, -5], ends = [7, -1]> (x)", opset=1),
    ],
)
def _slice(
    node: OnnxNode,
    x: Operand,
    starts: Constant | None,
    ends: Constant | None,
    axes: Constant | None,
    steps: Constant | None,
) -> Operand:
    """A part, with a step along each axis; bounds and steps must be constant."""
    if node.opset < 10:
        first, last = node.ints("starts"), node.ints("ends")
        cut = node.ints("axes", ()) or tuple(range(len(first)))
    elif starts is None or ends is None:
        raise node.malformed("its starts or ends are missing")
    else:
        first, last = integers(node, starts, "starts"), integers(node, ends, "ends")
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
        # A step backwards begins at the last entry at most, and its end may lie before the first one.
        low, high = (0, length) if step > 0 else (-1, length - 1)
        begin = min(max(start + length if start < 0 else start, 0), high)
        stop = min(max(end + length if end < 0 else end, low), high)
        positions = np.take(positions, np.array(range(begin, stop, step), dtype=np.int64), axis)
    return rearranged(node, x, positions)


@lowers(
    "SpaceToDepth",
    example=[
        Example("y = SpaceToDepth <blocksize = 2> (x)", x=(1, 2, 2, 4)),
        Example(
            'y = SpaceToDepth <blocksize = 2, mode = "CRD"> (x)',
            x=(1, 2, 2, 2),
            constants={"s": np.array([1, 2, 1, 2, 1, 2]), "t": np.array([1, 8, 1, 1])},
            opset=28,
            modern="r = Reshape (x, s)\n p = Transpose <perm = [0, 1, 3, 5, 2, 4]> (r)\n y = Reshape (p, t)",
        ),
        Example(
            'y = SpaceToDepth <blocksize = 2, mode = "DCR"> (x)',
            x=(1, 2, 2, 2),
            constants={"s": np.array([1, 2, 1, 2, 1, 2]), "t": np.array([1, 8, 1, 1])},
            opset=28,
            modern="r = Reshape (x, s)\n p = Transpose <perm = [0, 3, 5, 1, 2, 4]> (r)\n y = Reshape (p, t)",
        ),
    ],
)
def _space_to_depth(node: OnnxNode, x: Operand) -> Operand:
    """Blocks of pixels rearranged into channels, in either mode."""
    size, mode = _blocks(node, x)
    n, channels, height, width = x.shape
    if height % size or width % size:
        raise node.malformed(f"blocks of {size} x {size} do not divide {height} x {width} pixels")
    blocks = positions_of(x).reshape(n, channels, height // size, size, width // size, size)
    turned = blocks.transpose((0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4))
    return rearranged(node, x, turned.reshape(n, channels * size**2, height // size, width // size))


@lowers(
    "Split",
    example=[
        Example("a, b, c = Split <axis = 1> (x)\n y = Concat <axis = 1> (c, a, b)"),
        Example("a, y = Split <axis = -1> (x, s)", constants={"s": np.array([2, 4])}),
        Example("a, b = Split <axis = 1, split = [1, 5]> (x)\n y = Sub (a, b)", opset=11),
        Example("a, b = Split (x)\n y = Sub (a, b)", x=(4,), opset=2),
        Example("a, y = Split <axis = 1> (x)", opset=1, modern="a, y = Split <axis = 1> (x)"),
        Example("a, b, y = Split <axis = 1, num_outputs = 3> (x)", x=(1, 5), opset=18),
        Example(
            "a, b, y = Split <axis = 1> (x, s)",
            x=(1, 5),
            constants={"s": np.array([2, 0, 3])},
            opset=18,
        ),
    ],
)
def _split(node: OnnxNode, x: Operand, split: Constant | None) -> tuple[Operand, ...]:
    """Parts along an axis, of equal or given lengths."""
    axis = axis_of(node, node.int("axis", 0), len(x.shape))
    length, count = x.shape[axis], len(node.proto.output)
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
            f"the lengths {list(lengths)} do not split an axis of length {length} into {count} parts"
        )
    parts = np.split(positions_of(x), np.cumsum(lengths)[:-1], axis)
    # Parts that nobody reads cost nothing: nodes are made here, but only those below the output are kept.
    return tuple(rearranged(node, x, part) for part in parts)


@lowers(
    "Squeeze",
    example=[
        Example("y = Squeeze (x, a)", x=(1, 3, 1), constants={"a": np.array([-1])}),
        Example("y = Squeeze (x)", x=(1, 3, 1)),
        Example("y = Squeeze <axes = [2]> (x)", x=(1, 3, 1), opset=11),
    ],
)
def _squeeze(node: OnnxNode, x: Operand, axes: Constant | None) -> Operand:
    """Another shape."""
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


@lowers(
    "Tile",
    example=[
        Example("y = Tile (x, r)", x=(1, 3), constants={"r": np.array([2, 2])}),
        Example("y = Tile (x, r)", x=(1, 2, 2), constants={"r": np.array([1, 3, 1])}, opset=6),
        Example(
            "y = Tile (x, n, a)",
            x=(1, 2, 2),
            constants={"n": np.array([3.0]), "a": np.array([1.0]), "r": np.array([1, 3, 1])},
            opset=1,
            modern="y = Tile (x, r)",
        ),
    ],
)
def _tile(node: OnnxNode, x: Operand, repeats: Constant, axis: Constant | None) -> Operand:
    """Repeated along the axes."""
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


@lowers(
    "Transpose",
    example=[
        Example("y = Transpose (x)", x=(1, 2, 3)),
        Example("y = Transpose <perm = [0, 2, 1]> (x)", x=(1, 2, 3)),
        Example("y = Transpose <perm = [2, 0, 3, 1]> (x)", x=(1, 2, 1, 3), opset=1),
    ],
)
def _transpose(node: OnnxNode, x: Operand) -> Operand:
    """The axes in another order."""
    rank = len(x.shape)
    order = node.ints("perm", range(rank)[::-1])
    if sorted(order) != list(range(rank)):
        raise node.malformed(
            f"{list(order)} is not an order of the axes of a tensor of rank {rank}"
        )
    return rearranged(node, x, positions_of(x).transpose(order))


@lowers(
    "Trilu",
    example=[
        Example("y = Trilu (x)", x=(1, 3, 3)),
        Example("y = Trilu <upper = 0> (x, k)", x=(1, 2, 4), constants={"k": np.array(1)}),
    ],
)
def _trilu(node: OnnxNode, x: Operand, k: Constant | None) -> Operand:
    """Zeros below or above a diagonal of matrices."""
    if len(x.shape) < 2:
        raise node.malformed(f"its input must be of rank 2 or more, not of shape {x.shape}")
    triangle = np.triu if node.int("upper", 1) else np.tril
    rows, columns = x.shape[-2:]
    diagonal = 0 if k is None else min(max(one_integer(node, k, "k"), -rows), columns)
    # Positions are counted from 1 for a moment, so that 0 stands for what is left out.
    return rearranged(node, x, triangle(positions_of(x) + 1, diagonal) - 1)


@lowers(
    "Unsqueeze",
    example=[
        Example("y = Unsqueeze (x, a)", x=(1, 3), constants={"a": np.array([0, -1])}),
        Example("y = Unsqueeze <axes = [2]> (x)", x=(1, 3), opset=11),
    ],
)
def _unsqueeze(node: OnnxNode, x: Operand, axes: Constant | None) -> Operand:
    """Another shape."""
    if node.opset < 13:
        added = node.ints("axes")
    elif axes is None:
        raise node.malformed("its input 'axes' is missing")
    else:
        added = integers(node, axes, "axes")
    rank = len(x.shape) + len(added)
    if rank > MOST_AXES:
        raise node.malformed(f"its output has {rank} axes")
    new = counted_axes(node, added, rank)
    lengths = iter(x.shape)
    return reshaped(node, x, tuple(1 if axis in new else next(lengths) for axis in range(rank)))
