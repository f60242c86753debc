"""Example models of the operators in `lipexact.onnx.operators.indexing`."""

from __future__ import annotations

import numpy as np

from tests.operators.example import Example, numbers

EXAMPLES: dict[str, list[Example]] = {
    "Gather": [
        Example("y = Gather <axis = 1> (x, i)", constants={"i": np.array([3, 0, -1, 3])}),
        Example(
            "y = Gather <axis = -1> (x, i)",
            x=(1, 2, 3),
            constants={"i": np.array([[0, -2], [2, 1]])},
        ),
        Example(
            "y = Gather <axis = 1> (x, i)", x=(1, 2, 3), constants={"i": np.array(1, np.int32)}
        ),
        Example("y = Gather (x, i)", x=(4,), constants={"i": np.array([1, 2])}, opset=1),
    ],
    "GatherElements": [
        Example("y = GatherElements <axis = 1> (x, i)", constants={"i": np.array([[3, 0, -1, 3]])}),
        Example(
            "y = GatherElements <axis = -1> (x, i)",
            x=(1, 2, 3),
            constants={"i": np.array([[[2, -2, 0, 0], [1, 1, -1, 0]]])},
            modern="y = GatherElements <axis = 2> (x, i)",
        ),
        Example(
            "y = GatherElements (x, i)", x=(4,), constants={"i": np.array([1, 2, 0])}, opset=11
        ),
    ],
    "GatherND": [
        Example(
            "y = GatherND (x, i)", x=(1, 2, 3), constants={"i": np.array([[0, 1, -1], [0, 0, 0]])}
        ),
        Example(
            "y = GatherND (x, i)",
            x=(1, 2, 3),
            constants={"i": np.array([[[0, 1]], [[0, 0]], [[-1, 1]]])},
        ),
        Example(
            "y = GatherND <batch_dims = 1> (x, i)",
            x=(1, 2, 3),
            constants={"i": np.array([[[1], [0]]])},
            opset=12,
        ),
        Example(
            "y = GatherND <batch_dims = 2> (x, i)",
            x=(1, 2, 3),
            constants={"i": np.array([[[-1], [0]]])},
            opset=13,
        ),
    ],
    "ScatterElements": [
        Example(
            "y = ScatterElements <axis = 1> (x, i, u)",
            x=(1, 4),
            constants={"i": np.array([[2, -4]]), "j": np.array([[2, 0]]), "u": numbers(1, 2)},
            modern="y = ScatterElements <axis = 1> (x, j, u)",
        ),
        Example(
            'r = Relu (x)\n y = ScatterElements <axis = -1, reduction = "add"> (c, i, r)',
            x=(1, 3),
            constants={"c": numbers(1, 4), "i": np.array([[2, 0, 2]])},
            opset=18,
        ),
    ],
    "ScatterND": [
        Example(
            "y = ScatterND (x, i, u)",
            x=(1, 4),
            constants={"i": np.array([[0, 3], [0, 1]]), "u": numbers(2)},
        ),
        Example(
            "r = Neg (x)\n y = ScatterND (x, i, r)",
            x=(1, 2, 3),
            constants={"i": np.array([[0]])},
            opset=11,
        ),
        Example(
            'y = ScatterND <reduction = "add"> (c, i, x)',
            x=(2,),
            constants={"c": numbers(4), "i": np.array([[2], [2]])},
            opset=16,
        ),
    ],
}
