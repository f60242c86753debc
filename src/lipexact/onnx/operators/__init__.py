"""The lowerings of all operators; importing this registers them."""

from lipexact.onnx.operators import (
    activations,
    arithmetic,
    convolutions,
    identities,
    indexing,
    pooling,
    reductions,
    resizing,
    shapes,
)

__all__ = [
    "activations",
    "arithmetic",
    "convolutions",
    "identities",
    "indexing",
    "pooling",
    "reductions",
    "resizing",
    "shapes",
]
