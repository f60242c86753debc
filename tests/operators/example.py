"""A small model that shows an operator of ONNX at work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnx

from tests.support.onnx_files import onnx_model


@dataclass(frozen=True)
class Example:
    """A model of one or a few nodes that shows an operator at work.

    Attributes
    ----------
    body
        Nodes in ONNX's text syntax, one a line; they read x and write y.
    x
        The shape of the input x.
    constants
        Arrays by name, which become initializers.
    opset
        The version of ONNX's own operator set.
    imports
        The versions of further operator sets, by domain.
    dtype
        The element type of x.
    modern
        The same function in opset 17, for the reference implementation, where that does not know
        `opset` or is wrong about `body`.
    """

    body: str
    x: tuple[int, ...] = (1, 6)
    constants: Mapping[str, npt.NDArray] = field(default_factory=dict)
    opset: int = 17
    imports: Mapping[str, int] = field(default_factory=dict)
    dtype: str = "double"
    modern: str = ""

    def model(self) -> onnx.ModelProto:
        """Return the example as an ONNX model."""
        dims = ", ".join(map(str, self.x))
        text = f"({self.dtype}[{dims}] x) => ({self.dtype} y) {{ {self.body} }}"
        model = onnx_model(text, self.constants, opset=self.opset, imports=self.imports)
        model.graph.output[0].type.tensor_type.ClearField("shape")
        return model

    def reference_model(self) -> onnx.ModelProto:
        """Return a model of the same function that the reference implementation evaluates right."""
        return replace(self, body=self.modern, opset=17).model() if self.modern else self.model()


def numbers(*shape: int) -> npt.NDArray[np.float64]:
    """Return irregular numbers of both signs, none of them zero, to serve as weights."""
    return np.cos(1.0 + 2.3 * np.arange(math.prod(shape))).reshape(shape)
