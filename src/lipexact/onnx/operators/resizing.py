"""Interpolation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import onnx.helper
import scipy.sparse as sp
from onnx.reference import ReferenceEvaluator

from lipexact.graph.ir import Affine, Matrix
from lipexact.onnx.nodes import Constant, OnnxNode, Tensor
from lipexact.onnx.registry import Example, lowers
from lipexact.onnx.tensors import counted_axes, integers, limit

_OLD = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


@lowers(
    "Resize",
    example=[
        Example("y = Resize (x, , s)", x=(1, 1, 2, 3), constants={"s": np.array([1, 1, 2, 2], np.float32)}),
        Example(
            'y = Resize <mode = "linear"> (x, , s)',
            x=(1, 1, 2, 3),
            constants={"s": np.array([1, 1, 1.5, 2], np.float32)},
        ),
        Example(
            'y = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (x, , , n)',
            x=(1, 1, 2, 3),
            constants={"n": np.array([1, 1, 3, 2])},
        ),
        Example(
            'y = Resize <mode = "cubic", cubic_coeff_a = -0.5, exclude_outside = 1> (x, , s)',
            x=(1, 1, 4, 3),
            constants={"s": np.array([1, 1, 1.5, 2], np.float32)},
        ),
        Example(
            'y = Resize <mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel", antialias = 1, '
            "axes = [2, 3]> (x, , s)",
            x=(1, 1, 4, 6),
            constants={"s": np.array([0.75, 0.5], np.float32)},
            opset=19,
        ),
        Example(
            'y = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (x, r, s)',
            x=(1, 1, 2, 2),
            constants={"r": np.zeros(0, np.float32), "s": np.array([1, 1, 2, 3], np.float32)},
            opset=11,
            modern='y = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (x, , s)',
        ),
        Example(
            'y = Resize <mode = "linear"> (x, s)',
            x=(1, 1, 2, 3),
            constants={"s": np.array([1, 1, 2, 2], np.float32)},
            opset=10,
            modern='y = Resize <mode = "linear", coordinate_transformation_mode = "asymmetric"> (x, , s)',
        ),
    ],
)
def _resize(
    node: OnnxNode, x: Tensor, second: Constant | None, scales: Constant | None, sizes: Constant | None
) -> Tensor:
    """Nearest, linear and cubic interpolation; cropping and keeping the aspect ratio are refused."""
    old = node.opset < 11
    if old:
        second, scales = None, second
    rule = (
        _OLD["coordinate_transformation_mode"] if old else node.string("coordinate_transformation_mode", "half_pixel")
    )
    if rule == "tf_crop_and_resize":
        raise node.unsupported("lipexact does not crop while resizing")
    if node.string("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.unsupported("lipexact resizes every axis by its own scale; export with explicit sizes")
    node.float("extrapolation_value", 0.0)  # of cropping alone
    attributes = {
        "mode": node.string("mode", "nearest"),
        "coordinate_transformation_mode": rule,
        "nearest_mode": _OLD["nearest_mode"] if old else node.string("nearest_mode", "round_prefer_floor"),
        "cubic_coeff_a": node.float("cubic_coeff_a", -0.75),
        "exclude_outside": node.int("exclude_outside", 0),
        "antialias": node.int("antialias", 0),
    }
    rank = len(x.shape)
    axes = counted_axes(node, node.ints("axes", range(rank)), rank)
    return _interpolated(node, x, axes, scales, sizes, attributes)


@lowers(
    "Upsample",
    example=[
        Example(
            "y = Upsample (x, s)",
            x=(1, 1, 2, 3),
            constants={"s": np.array([1, 1, 2, 2], np.float32)},
            opset=9,
            modern='y = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (x, , s)',
        ),
        Example(
            'y = Upsample <mode = "linear", scales = [1.0, 1.0, 2.0, 3.0]> (x)',
            x=(1, 1, 2, 2),
            constants={"s": np.array([1, 1, 2, 3], np.float32)},
            opset=7,
            modern='y = Resize <mode = "linear", coordinate_transformation_mode = "asymmetric"> (x, , s)',
        ),
    ],
)
def _upsample(node: OnnxNode, x: Tensor, scales: Constant | None) -> Tensor:
    """Nearest and linear interpolation, as Resize had it in opset 10."""
    if node.opset < 9:
        scales = np.array(node.floats("scales"), dtype=np.float32)
    attributes = {"mode": node.string("mode", "nearest"), **_OLD}
    return _interpolated(node, x, range(len(x.shape)), scales, None, attributes)


def _interpolated(
    node: OnnxNode,
    x: Tensor,
    axes: range | tuple[int, ...],
    scales: Constant | None,
    sizes: Constant | None,
    attributes: Mapping[str, Any],
) -> Tensor:
    if sizes is not None and sizes.size:
        lengths = integers(node, sizes, "sizes")
        if len(lengths) != len(axes) or min(lengths) < 1:
            raise node.malformed(f"its sizes {list(lengths)} are not {len(axes)} positive lengths")
        wanted = [(length, np.array([1, length])) for length in lengths]
    else:
        if scales is None or scales.size != len(axes) or not (node.weights(scales) > 0).all():
            raise node.malformed(f"it needs {len(axes)} positive scales, or sizes")
        factors = scales.astype(np.float32)
        wanted = [
            (math.floor(x.shape[axis] * float(factor)), np.array([1, factor], dtype=np.float32))
            for axis, factor in zip(axes, factors.ravel(), strict=True)
        ]
    matrices: dict[int, Matrix] = {}
    shape = list(x.shape)
    for axis, (length, target) in zip(axes, wanted, strict=True):
        shape[axis] = length
        limit(node, max(length, 1) * x.shape[axis])
        if length != x.shape[axis] or target[1] != 1:
            matrices[axis] = _of_axis(node, x.shape[axis], target, attributes)
    if 0 in shape:
        raise node.malformed(f"its output of shape {shape} is empty")
    parts = [matrices.get(axis, sp.eye_array(length, format="csr")) for axis, length in enumerate(x.shape)]
    limit(node, math.prod(float(part.nnz) for part in parts))
    matrix = sp.csr_array(reduce(lambda left, right: sp.kron(left, right, format="csr"), parts, sp.eye_array(1)))
    return Tensor(Affine(((matrix, x.value),), np.zeros(matrix.shape[0]), node.name), tuple(shape))


def _of_axis(node: OnnxNode, length: int, target: Constant, attributes: Mapping[str, Any]) -> Matrix:
    """What the reference implementation makes of every unit vector along an axis; it treats axes one by one."""
    names = ["x", "", "", "n"] if target.dtype.kind == "i" else ["x", "", "n"]
    if target.dtype.kind == "i":
        target = np.array([length, target[1]], dtype=np.int64)
    make = onnx.helper.make_tensor_value_info
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Resize", names, ["y"], **attributes)],
            "axis",
            [
                make("x", onnx.TensorProto.DOUBLE, [length, length]),
                make("n", onnx.helper.np_dtype_to_tensor_dtype(target.dtype), [2]),
            ],
            [make("y", onnx.TensorProto.DOUBLE, [length, None])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 19)],
        ir_version=8,
    )
    try:
        (columns,) = ReferenceEvaluator(model).run(None, {"x": np.eye(length), "n": target})
    except Exception as error:  # whatever the reference implementation raises
        raise node.unsupported(f"the reference implementation cannot interpolate so: {error}") from error
    return sp.csr_array(np.asarray(columns, dtype=np.float64).T)
