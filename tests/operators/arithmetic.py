"""Example models of the operators in `lipexact.onnx.operators.arithmetic`."""

from __future__ import annotations

import numpy as np

from tests.operators.example import Example, numbers

EXAMPLES: dict[str, list[Example]] = {
    "Add": [
        Example("y = Add (x, c)", constants={"c": numbers(6)}),
        Example("y = Add (c, x)", x=(1, 3, 1), constants={"c": numbers(2, 1, 4)}),
        Example("r = Relu (x)\n y = Add (x, r)", x=(4,)),
        Example(
            "s = Flatten <axis = 0> (x)\n t = Reshape (x, v) y = Add (s, t)",
            constants={"v": np.array([6, 1])},
        ),
        Example(
            "y = Add <broadcast = 1, axis = 1> (x, c)",
            x=(1, 3, 2),
            constants={"c": numbers(3), "axis": np.array([1])},
            opset=6,
            modern="d = Unsqueeze (c, axis)\n y = Add (x, d)",
        ),
    ],
    "Div": [
        Example("y = Div (x, c)", constants={"c": numbers(6)}),
        Example("y = Div (x, c)", x=(1, 3), constants={"c": numbers(2, 1)}),
        Example(
            "y = Div <broadcast = 1> (x, c)",
            constants={"c": numbers()},
            opset=6,
            modern="y = Div (x, c)",
        ),
    ],
    "Einsum": [
        Example(
            'y = Einsum <equation = "bi,oi->bo"> (x, W)', x=(1, 3), constants={"W": numbers(2, 3)}
        ),
        Example(
            'y = Einsum <equation = "ij, bkj"> (W, x)', x=(1, 2, 3), constants={"W": numbers(2, 3)}
        ),
        Example('y = Einsum <equation = "bii->bi"> (x)', x=(1, 3, 3)),
        Example(
            'y = Einsum <equation = "...i,i...k"> (x, W)',
            x=(1, 2, 3),
            constants={"W": numbers(3, 2, 2)},
        ),
        Example(
            'y = Einsum <equation = "i,bij,jk->kb"> (u, x, W)',
            x=(1, 2, 3),
            constants={"u": numbers(2), "W": numbers(3, 2)},
        ),
    ],
    "Gemm": [
        Example("y = Gemm (x, W, b)", constants={"W": numbers(6, 3), "b": numbers(3)}),
        Example("y = Gemm <transB = 1> (x, W)", constants={"W": numbers(3, 6)}),
        Example(
            "y = Gemm <alpha = 0.7, beta = 1.3, transA = 1, transB = 1> (x, W, b)",
            x=(1, 6),
            constants={"W": numbers(3, 1), "b": numbers(6, 1)},
        ),
        Example("y = Gemm <alpha = 2.0> (A, x, b)", constants={"A": numbers(3, 1), "b": numbers()}),
        Example(
            "y = Gemm <transA = 1, beta = -1.0> (A, B, x)",
            constants={"A": numbers(2, 3), "B": numbers(2, 6)},
        ),
        Example(
            "y = Gemm <broadcast = 1> (x, W, b)",
            constants={"W": numbers(6, 2), "b": numbers(2)},
            opset=6,
        ),
    ],
    "MatMul": [
        Example("y = MatMul (x, W)", constants={"W": numbers(6, 3)}),
        Example("y = MatMul (W, x)", x=(1, 3, 2), constants={"W": numbers(4, 3)}),
        Example("y = MatMul (x, W)", x=(1, 2, 3), constants={"W": numbers(2, 1, 3, 2)}),
        Example("y = MatMul (x, w)", x=(1, 2, 3), constants={"w": numbers(3)}),
        Example("y = MatMul (W, x)", x=(3,), constants={"W": numbers(2, 4, 3)}),
        Example("y = MatMul (w, x)", x=(1, 3, 2), constants={"w": numbers(3)}),
        Example("y = MatMul (x, w)", x=(3,), constants={"w": numbers(3)}),
    ],
    "Mean": [
        Example("r = Relu (x)\n y = Mean (x, c, r)", constants={"c": numbers(6)}),
        Example("y = Mean (x, c)", x=(1, 3, 1), constants={"c": numbers(1, 3, 1)}, opset=8),
        Example("y = Mean (x)", opset=6),
    ],
    "Mul": [
        Example("y = Mul (x, c)", constants={"c": numbers(6)}),
        Example("y = Mul (c, x)", x=(1, 3, 1), constants={"c": numbers(2, 3, 2)}),
        Example("y = Mul (x, c)", x=(3,), constants={"c": np.array([0.0, 1.0, -2.0])}),
        Example(
            "y = Mul <broadcast = 1, axis = 0> (c, x)",
            x=(1,),
            constants={"c": numbers(1, 3)},
            opset=6,
            modern="y = Mul (c, x)",
        ),
    ],
    "Neg": [Example("y = Neg (x)"), Example("y = Neg (x)", x=(1, 2, 3), opset=6)],
    "Sub": [
        Example("y = Sub (x, c)", constants={"c": numbers(6)}),
        Example("y = Sub (c, x)", constants={"c": numbers(1, 1)}),
        Example("r = Relu (x)\n y = Sub (r, x)"),
        Example(
            "y = Sub <broadcast = 1, axis = 0> (x, c)",
            x=(1, 3),
            constants={"c": numbers(1)},
            opset=6,
            modern="y = Sub (x, c)",
        ),
    ],
    "Sum": [
        Example("r = Relu (x)\n y = Sum (x, c, r)", constants={"c": numbers(6)}),
        Example(
            "y = Sum (c, x, d)",
            x=(1, 3, 1),
            constants={"c": numbers(2, 1, 2), "d": numbers(1)},
            opset=8,
        ),
        Example("y = Sum (x)", opset=6),
    ],
    "Where": [
        Example("y = Where (m, x, c)", constants={"m": np.arange(6) % 2 > 0, "c": numbers(1, 6)}),
        Example(
            "r = Relu (x)\n y = Where (m, r, x)",
            x=(1, 3),
            constants={"m": np.array([[True], [False]])},
        ),
        Example(
            "y = Where (m, c, x)",
            x=(1, 3, 1),
            constants={"m": np.array([True, False]), "c": np.array([[[-np.inf]], [[2.0]]])[1:]},
            opset=9,
        ),
    ],
    "ai.onnx.ml.LinearRegressor": [
        Example(
            "y = ai.onnx.ml.LinearRegressor <coefficients = [0.5, -1.5, 2.0], intercepts = "
            "[0.25]> (x)",
            x=(1, 3),
            imports={"ai.onnx.ml": 1},
            dtype="float",
        ),
        Example(
            "y = ai.onnx.ml.LinearRegressor <coefficients = [0.5, -1.5, 2.0, 1.0], intercepts = "
            "[0.25, -1.0], "
            'targets = 2, post_transform = "NONE"> (x)',
            x=(1, 2),
            imports={"ai.onnx.ml": 3},
            dtype="float",
        ),
    ],
    "ai.onnx.ml.Scaler": [
        Example(
            "y = ai.onnx.ml.Scaler <offset = [0.5, -1.5, 2.0], scale = [0.25, 3.0, -1.0]> (x)",
            x=(1, 3),
            imports={"ai.onnx.ml": 1},
            dtype="float",
        ),
        Example(
            "y = ai.onnx.ml.Scaler <offset = [0.5], scale = [0.25]> (x)",
            x=(1, 3),
            imports={"ai.onnx.ml": 3},
            dtype="float",
        ),
    ],
}
