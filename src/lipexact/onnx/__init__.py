"""Reading of ONNX models: the only floor that knows shapes, batch axes and operators."""

import lipexact.onnx.operators  # noqa: F401 - which registers them
from lipexact.onnx.reader import read_onnx
from lipexact.onnx.registry import supported_operators

__all__ = ["read_onnx", "supported_operators"]
