"""Example models of the operators in `lipexact.onnx.operators.activations`."""

from __future__ import annotations

import numpy as np

from tests.operators.example import Example, numbers

EXAMPLES: dict[str, list[Example]] = {
    "Abs": [Example("y = Abs (x)"), Example("y = Abs (x)", x=(1, 2, 2), opset=6)],
    "Clip": [
        Example(
            "y = Clip (x, low, high)", constants={"low": np.array(-0.5), "high": np.array(0.75)}
        ),
        Example("y = Clip (x, low)", constants={"low": np.array(0.25)}),
        Example("y = Clip (x, , high)", constants={"high": np.array(0.25)}, opset=11),
        Example("y = Clip (x)"),
        Example(
            "y = Clip (x, low, high)", constants={"low": np.array(0.5), "high": np.array(-0.25)}
        ),
        Example("y = Clip <min = 0.0, max = 1.0> (x)", opset=6),
        Example("y = Clip <max = 0.5> (x)", opset=6),
        Example("y = Clip (x)", opset=6),
    ],
    "HardSigmoid": [
        Example("y = HardSigmoid (x)"),
        Example("y = HardSigmoid <alpha = 0.5, beta = 0.25> (x)"),
        Example("y = HardSigmoid <alpha = -0.75> (x)", opset=6),
    ],
    "LeakyRelu": [
        Example("y = LeakyRelu (x)"),
        Example("y = LeakyRelu <alpha = 0.25> (x)", x=(1, 2, 3)),
        Example("y = LeakyRelu <alpha = -1.5> (x)", opset=6),
        Example("y = LeakyRelu <alpha = 2.0> (x)", opset=16),
    ],
    "Max": [
        Example("y = Max (x, c)", constants={"c": numbers(6)}),
        Example("r = Neg (x)\n s = Mul (x, c)\n y = Max (x, r, s)", constants={"c": numbers(6)}),
        Example(
            "y = Max (c, x, d)",
            x=(1, 3, 1),
            constants={"c": numbers(2, 1, 2), "d": numbers(3, 1)},
            opset=13,
        ),
        Example("y = Max (x)"),
        Example(
            "t = Reshape (x, s)\n y = Max (x, t)",
            x=(1, 2, 1),
            constants={"s": np.array([1, 1, 2])},
            opset=8,
        ),
        Example("r = Neg (x)\n y = Max (x, r)", opset=6),
    ],
    "Min": [
        Example("y = Min (x, c)", constants={"c": numbers(6)}),
        Example(
            "r = Neg (x)\n s = Mul (x, c)\n y = Min (x, r, s, d)",
            constants={"c": numbers(6), "d": numbers(1)},
        ),
        Example("y = Min (c, x)", x=(1, 3, 1), constants={"c": numbers(2, 1, 2)}),
        Example("r = Neg (x)\n a = Max (x, r)\n i = Min (x, r)\n y = Sub (a, i)"),
        Example("y = Min (x)", opset=6),
    ],
    "PRelu": [
        Example("y = PRelu (x, s)", constants={"s": numbers(6)}),
        Example(
            "y = PRelu (x, s)",
            x=(1, 3, 2, 2),
            constants={"s": np.array([0.25, -0.5, 2.0]).reshape(3, 1, 1)},
        ),
        Example("y = PRelu (x, s)", x=(1, 2, 3), constants={"s": numbers(3)}, opset=9),
        Example("y = PRelu (x, s)", constants={"s": np.array(0.25)}, opset=16),
        Example(
            "y = PRelu (x, s)",
            x=(1, 3, 2),
            constants={"s": numbers(3), "axis": np.array([1])},
            opset=6,
            modern="t = Unsqueeze (s, axis)\n y = PRelu (x, t)",
        ),
        Example("y = PRelu (x, s)", x=(1, 3, 2), constants={"s": numbers(1)}, opset=6),
    ],
    "Relu": [Example("y = Relu (x)"), Example("y = Relu (x)", x=(1, 2, 3), opset=6)],
    "Shrink": [
        Example("y = Shrink <bias = 0.5> (x)"),
        Example("y = Shrink <bias = 0.25, lambd = 0.25> (x)", x=(1, 2, 3)),
        Example("y = Shrink <lambd = 0.0> (x)"),
    ],
    "ThresholdedRelu": [Example("y = ThresholdedRelu <alpha = 0.0> (x)")],
}
