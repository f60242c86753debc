"""Example models of every registered operator of ONNX, which the tests run.

There is one module for each module of ``lipexact.onnx.operators``, of the same name. Its
``EXAMPLES`` has for each operator there the models that use it in all the ways that differ.
``test_conformance.py`` fails if an operator has no entry here, or has it in another module.
"""

from __future__ import annotations

from collections import ChainMap

from tests.operators import (
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
from tests.operators.example import Example

MODULES = (
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

EXAMPLES: dict[str, list[Example]] = dict(
    sorted(ChainMap(*(module.EXAMPLES for module in MODULES)).items())
)
"""The examples by the operator's name, which has its domain unless that is ONNX's own."""


def all_examples() -> list[Example]:
    """Return the examples of all operators."""
    return [example for examples in EXAMPLES.values() for example in examples]
