"""Example models of the operators in `lipexact.onnx.operators.identities`."""

from __future__ import annotations

import numpy as np

from tests.operators.example import Example

EXAMPLES: dict[str, list[Example]] = {
    "Cast": [
        Example("f = Cast <to = 11> (x)\n y = Cast <to = 1> (f)", dtype="float"),
        Example('y = Cast <to = "DOUBLE"> (x)', opset=5, modern="y = Identity (x)"),
        Example("y = Cast <to = 11, saturate = 0> (x)", opset=19),
    ],
    "CastLike": [
        Example("y = CastLike (x, c)", constants={"c": np.zeros(2)}, opset=15),
        Example("d = CastLike (c, x)\n y = Mul (x, d)", constants={"c": np.array(3)}, opset=19),
        Example("r = Relu (x)\n y = CastLike <saturate = 0> (x, r)", opset=19),
    ],
    "Constant": [
        Example("c = Constant <value = double[2] {1.5, -2.25}> ()\n y = Add (x, c)", x=(1, 2)),
        Example("c = Constant <value_float = 1.5> ()\n y = Mul (x, c)", dtype="float"),
        Example(
            "c = Constant <value_floats = [1.5, -0.5]> ()\n y = Mul (x, c)", x=(1, 2), dtype="float"
        ),
        Example("s = Constant <value_ints = [3, -1]> ()\n y = Reshape (x, s)"),
        Example("a = Constant <value_int = 1> ()\n y = Unsqueeze (x, a)"),
    ],
    "Dropout": [
        Example("y = Dropout (x)"),
        Example("y = Dropout (x, r, t)", constants={"r": np.array(0.5), "t": np.array(False)}),
        Example("y, m = Dropout <ratio = 0.25> (x)", opset=10),
        Example("y = Dropout <is_test = 1> (x)", opset=6, modern="y = Dropout (x)"),
    ],
    "Identity": [Example("t = Identity (x)\n y = Relu (t)")],
}
