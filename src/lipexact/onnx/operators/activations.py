"""Functions with kinks, entry by entry."""

from __future__ import annotations

from lipexact.graph import lower
from lipexact.onnx.nodes import OnnxNode, Tensor
from lipexact.onnx.registry import Example, lowers


@lowers("Relu", example=[Example("y = Relu (x)"), Example("y = Relu (x)", x=(1, 2, 3), opset=6)])
def _relu(node: OnnxNode, x: Tensor) -> Tensor:
    """max(x, 0)."""
    return Tensor(lower.relu(x.value, node.name), x.shape)
