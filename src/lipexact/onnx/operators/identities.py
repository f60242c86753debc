"""Operators that change no number: casts, constants, and what acts in training alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper

from lipexact.onnx.constants import FLOAT_TYPES
from lipexact.onnx.nodes import Constant, OnnxNode, Operand, Tensor
from lipexact.onnx.registry import lowers

_CAST = (
    "a cast of something that depends on the input must be to a floating-point type of 16 bits or "
    "more"
)


@lowers("Cast")
def _cast(node: OnnxNode, x: Tensor) -> Tensor:
    """Leave the numbers as they are. What depends on the input can be cast to floats only."""
    # These two attributes say how to round to an 8-bit float, which is refused.
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


@lowers("CastLike")
def _cast_like(node: OnnxNode, x: Operand, target: Operand) -> Operand:
    """Leave the numbers as they are. What depends on the input can be cast to floats only."""
    node.int("saturate", 1)
    node.string("round_mode", "up")
    if isinstance(target, Tensor):
        return x if isinstance(x, Tensor) else x.astype(np.float64)
    if onnx.helper.np_dtype_to_tensor_dtype(target.dtype) not in FLOAT_TYPES:
        raise node.unsupported(_CAST)
    return x


@lowers("Constant")
def _constant(node: OnnxNode) -> Constant:
    """Return a tensor of the model."""
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


@lowers("Dropout")
def _dropout(
    node: OnnxNode,
    x: Operand,
    ratio: Operand | None,  # noqa: ARG001 - an input, which like the seed has no effect in inference
    training_mode: Constant | None,
) -> tuple[Operand, Constant]:
    """Leave the numbers as they are. Refused in training mode."""
    node.float("ratio", 0.5)
    node.int("seed", 0)
    training = bool(training_mode.any()) if training_mode is not None else False
    if training or (node.opset < 7 and not node.int("is_test", 0)):
        raise node.unsupported(
            "Dropout in training mode is random; export the model for inference (eval mode)"
        )
    return x, np.ones(x.shape, dtype=bool)


@lowers("Identity")
def _identity(_: OnnxNode, x: Tensor) -> Tensor:
    """Leave the numbers as they are."""
    return x
