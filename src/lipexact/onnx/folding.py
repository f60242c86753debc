"""Evaluation of nodes whose inputs are all constant, by the reference implementation of ONNX.

It computes in the model's own types: float32 constants are rounded as a runtime would round them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference
from onnx.reference import ReferenceEvaluator

from lipexact.errors import LipExactError
from lipexact.onnx import constants
from lipexact.onnx.constants import RANDOM, SIZED_BY_VALUES, UNBOUNDED
from lipexact.onnx.nodes import Constant, OnnxNode, Operand, Tensor, held_here, subgraphs
from lipexact.onnx.tensors import limit


def is_foldable(node: OnnxNode, operands: Sequence[Operand | None]) -> bool:
    """Return whether a node is a function of constants alone, of at least one."""
    return (
        not any(isinstance(operand, Tensor) for operand in operands)
        and any(operand is not None for operand in operands)
        and not subgraphs(node.proto)
        and node.proto.op_type not in RANDOM
    )


def fold(
    node: OnnxNode, operands: Sequence[Constant | None], ir_version: int
) -> tuple[Constant, ...]:
    """Return the outputs of a node, computed by the reference implementation.

    Parameters
    ----------
    node
        A node without subgraphs.
    operands
        Its inputs; None for an optional one that is missing.
    ir_version
        The version of ONNX's file format in which the model is written.

    Raises
    ------
    LipExactError
        If the node needs too much memory, or the reference implementation fails.
    """
    feeds = {
        name: array
        for name, array in zip(node.proto.input, operands, strict=True)
        if array is not None
    }
    entries = sum(array.size for array in operands if array is not None)
    _check_feeds(node, feeds, entries)
    try:
        model = _model_of(node, feeds, ir_version)
        propagate = entries <= constants.MAX_PROPAGATED_ENTRIES
        _check_size(node, _output_entries(model, feeds, propagate=propagate))
        results = ReferenceEvaluator(model).run(None, feeds)
        arrays = iter([np.asarray(result) for result in results])
    except LipExactError:
        raise
    except Exception as error:  # whatever the implementation of that operator raises
        raise node.unsupported(
            f"it cannot be evaluated on its constant inputs, perhaps for its opset: {error}"
        ) from error
    return tuple(next(arrays) if name else np.zeros(1) for name in node.proto.output)


def _model_of(node: OnnxNode, feeds: Mapping[str, Constant], ir_version: int) -> onnx.ModelProto:
    """Return a model of the one node."""
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in feeds.items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.proto.output if name]
    return onnx.helper.make_model(
        onnx.helper.make_graph([node.proto], "folded", inputs, outputs),
        opset_imports=[onnx.helper.make_opsetid(node.domain, node.opset)],
        ir_version=max(ir_version, 3),
    )


def _check_feeds(node: OnnxNode, feeds: Mapping[str, Constant], entries: int) -> None:
    """Refuse what the reference implementation had better not be given."""
    limit(node, entries)
    if node.operator in UNBOUNDED:
        raise node.unsupported(
            "lipexact does not evaluate it, not on constants either: it may take any time or memory"
        )
    if node.operator != "Identity" and any(array.dtype.kind in "OSUT" for array in feeds.values()):
        raise node.unsupported("it cannot be evaluated on its constant inputs, which are strings")
    for attribute in node.proto.attribute:
        for tensor in (attribute.t, *attribute.tensors, attribute.sparse_tensor.values):
            held_here(tensor, f"{node}: attribute '{attribute.name}'")


def _check_size(node: OnnxNode, entries: int | None) -> None:
    """Refuse an output that is too large, or whose size ONNX cannot tell in advance."""
    if entries is None and node.operator in SIZED_BY_VALUES:
        raise node.unsupported(
            "it cannot be evaluated on its constant inputs: how large its output is, ONNX cannot "
            "tell"
        )
    limit(node, entries or 0)


def _output_entries(
    model: onnx.ModelProto, feeds: Mapping[str, Constant], *, propagate: bool
) -> int | None:
    """Return how many entries the largest output of a model of one node has.

    None if ONNX cannot tell without computing it. With `propagate`, values of constants are
    propagated, too, which takes hundreds of bytes for each entry of the inputs.
    """
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    sized.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name)
        for name, array in feeds.items()
        if array.dtype.kind in "iuf" and array.size <= constants.MAX_PROPAGATED_ARRAY
    )
    try:
        inferred = onnx.shape_inference.infer_shapes(sized, data_prop=propagate)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return None  # the reference implementation will say what is wrong
    tensors = [info.type.tensor_type for info in inferred.graph.output]
    if not all(tensor.HasField("shape") for tensor in tensors):
        return None
    shapes = [tensor.shape.dim for tensor in tensors]
    if not all(dim.HasField("dim_value") for shape in shapes for dim in shape):
        return None
    return max((math.prod(dim.dim_value for dim in shape) for shape in shapes), default=0)
