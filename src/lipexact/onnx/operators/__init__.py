"""The lowerings of all operators; importing this registers them."""

from lipexact.onnx.operators import activations, arithmetic, shapes

__all__ = ["activations", "arithmetic", "shapes"]
