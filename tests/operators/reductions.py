"""Example models of the operators in `lipexact.onnx.operators.reductions`."""

from __future__ import annotations

import numpy as np

from tests.operators.example import Example


def _examples(operator: str, inputs_since: int) -> list[Example]:
    """Return the forms that all reductions have; axes are an input from that opset on."""
    newest = max(inputs_since, 18)
    last = inputs_since - 1
    axes = {"a": np.array([1])}
    return [
        Example(f"y = {operator} (x, a)", x=(1, 2, 3), constants=axes, opset=newest),
        Example(
            f"y = {operator} <keepdims = 0> (x, a)",
            x=(1, 2, 3),
            constants={"a": np.array([-1, 0])},
            opset=newest,
        ),
        Example(f"y = {operator} (x)", x=(1, 2, 2), opset=newest),
        Example(f"y = {operator} <noop_with_empty_axes = 1> (x)", x=(1, 4), opset=newest),
        Example(
            f"y = {operator} <keepdims = 0> (x, a)",
            x=(1, 4),
            constants={"a": np.zeros(0, np.int64)},
            opset=newest,
        ),
        Example(f"y = {operator} <axes = [-1]> (x)", x=(1, 2, 3), opset=last),
        Example(f"y = {operator} <axes = [1], keepdims = 0> (x)", x=(1, 5), opset=last),
        Example(f"y = {operator} <keepdims = 0> (x)", x=(1, 3), opset=1),
    ]


EXAMPLES: dict[str, list[Example]] = {
    "CumSum": [
        Example("y = CumSum (x, a)", x=(1, 4), constants={"a": np.array(1)}),
        Example(
            "y = CumSum <exclusive = 1> (x, a)",
            x=(1, 3, 2),
            constants={"a": np.array(-2)},
            opset=11,
        ),
        Example(
            "y = CumSum <reverse = 1> (x, a)", x=(1, 3, 2), constants={"a": np.array(1, np.int32)}
        ),
        Example(
            "y = CumSum <exclusive = 1, reverse = 1> (x, a)", x=(4,), constants={"a": np.array(0)}
        ),
    ],
    "ReduceL1": _examples("ReduceL1", 18),
    "ReduceMax": _examples("ReduceMax", 18),
    "ReduceMean": _examples("ReduceMean", 18),
    "ReduceMin": _examples("ReduceMin", 18),
    "ReduceSum": _examples("ReduceSum", 13),
    "TopK": [
        Example("y, i = TopK (x, k)", x=(1, 6), constants={"k": np.array([6])}),
        Example(
            "y, i = TopK <axis = 1> (x, k)", x=(1, 5, 2), constants={"k": np.array([2])}, opset=10
        ),
        Example(
            "y, i = TopK <largest = 0, axis = -2> (x, k)",
            x=(1, 4, 2),
            constants={"k": np.array([3])},
        ),
        Example(
            "y, i = TopK <sorted = 0> (x, k)",
            x=(1, 7),
            constants={"k": np.array([1])},
            opset=11,
            modern="y, i = TopK (x, k)",
        ),
        Example("y, i = TopK <k = 2> (x)", x=(1, 3), opset=1),
    ],
}
