"""What rearranges the entries of a tensor, and what has no effect on them."""

from __future__ import annotations

import math

import numpy as np
import onnx

from lipexact.onnx.nodes import FLOAT_TYPES, Constant, OnnxNode, Operand, Tensor
from lipexact.onnx.registry import Example, lowers
from lipexact.onnx.tensors import (
    counted_axes,
    integers,
    reshaped,
)


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
    kind = node.int("to") if node.opset >= 6 else onnx.TensorProto.DataType.Value(node.string("to").upper())
    if kind not in FLOAT_TYPES:
        raise node.unsupported("a cast of something that depends on the input must be to a floating-point type")
    return x


@lowers(
    "Constant",
    example=[
        Example("c = Constant <value = double[2] {1.5, -2.25}> ()\n y = Add (x, c)", x=(1, 2)),
        Example("c = Constant <value_float = 1.5> ()\n y = Mul (x, c)", dtype="float"),
        Example("c = Constant <value_floats = [1.5, -0.5]> ()\n y = Mul (x, c)", x=(1, 2), dtype="float"),
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
        raise node.unsupported("Dropout in training mode is random; export the model for inference (eval mode)")
    return x, np.ones(x.shape, dtype=bool)


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


@lowers("Identity", example=Example("t = Identity (x)\n y = Relu (t)"))
def _identity(_: OnnxNode, x: Tensor) -> Tensor:
    """No effect."""
    return x


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
            raise node.malformed(f"shape {list(wanted)} copies an axis that shape {x.shape} does not have")
        wanted = tuple(length or x.shape[axis] for axis, length in enumerate(wanted))
    if wanted.count(-1) == 1 and 0 not in wanted:
        rest = -math.prod(wanted)
        wanted = tuple(math.prod(x.shape) // rest if length == -1 else length for length in wanted)
    if any(length < 0 for length in wanted):
        raise node.malformed(f"shape {list(wanted)} is not a shape")
    return reshaped(node, x, wanted)


@lowers("Shape", example=Example("s = Shape (x)\n f = Flatten <axis = 0> (x)\n y = Reshape (f, s)", x=(1, 2, 3)))
def _shape(node: OnnxNode, x: Tensor) -> Constant:
    """The shape, as a constant."""
    start, stop = node.int("start", 0), node.int("end", len(x.shape))
    return np.array(x.shape[start:stop], dtype=np.int64)


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
    return reshaped(node, x, tuple(length for axis, length in enumerate(x.shape) if axis not in dropped))


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
    new = counted_axes(node, added, rank)
    lengths = iter(x.shape)
    return reshaped(node, x, tuple(1 if axis in new else next(lengths) for axis in range(rank)))
