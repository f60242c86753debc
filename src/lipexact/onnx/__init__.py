"""Reading of ONNX models: the only floor that knows shapes, batch axes and operators."""

from lipexact.onnx.operators import supported_operators
from lipexact.onnx.reader import read_onnx

__all__ = ["read_onnx", "supported_operators"]
