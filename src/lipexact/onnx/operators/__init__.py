"""The lowerings of all operators; importing this registers them."""

from lipexact.onnx.operators import (
    activations,
    arithmetic,
    convolutions,
    pooling,
    reductions,
    resizing,
    shapes,
)

__all__ = [
    "activations",
    "arithmetic",
    "convolutions",
    "pooling",
    "reductions",
    "resizing",
    "shapes",
]
