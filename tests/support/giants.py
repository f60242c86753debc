"""Small model files that ask for more memory than there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import (
    make_empty_tensor_value_info,
    make_graph,
    make_model,
    make_node,
    make_opsetid,
    make_tensor_value_info,
)
from onnx.numpy_helper import from_array

from lipexact.onnx import read_onnx


def model(
    nodes: Sequence[onnx.NodeProto],
    tensors: Sequence[TensorProto] = (),
    *,
    x: Sequence[int] = (1, 4),
    output: str = "y",
    opset: int = 17,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    inputs = [make_tensor_value_info("x", TensorProto.FLOAT, x)]
    graph = make_graph(nodes, "g", inputs, [make_empty_tensor_value_info(output)], tensors)
    opsets = [make_opsetid("", opset), make_opsetid("local", 1)]
    return make_model(graph, opset_imports=opsets, ir_version=9, functions=functions)


def relu(source: str = "x", target: str = "y") -> onnx.NodeProto:
    return make_node("Relu", [source], [target])


def tensor(name: str, value: object, dtype: object = np.float32) -> TensorProto:
    return from_array(np.array(value, dtype), name)


def sizes(*values: int, name: str = "s") -> TensorProto:
    return tensor(name, values, np.int64)


HUGE = 10**12


def folded(
    *nodes: onnx.NodeProto, tensors: Sequence[TensorProto] = (), opset: int = 17
) -> onnx.ModelProto:
    """A network that adds the largest entry of w, which the nodes compute from constants."""
    last = [make_node("ReduceMax", ["w"], ["m"]), make_node("Add", ["x", "m"], ["y"])]
    return model([*nodes, *last], tensors, opset=opset)


def doubling(operator: str, first: str, **attributes: object) -> onnx.ModelProto:
    nodes = [make_node(operator, [first] * 2, ["a0"], **attributes)]
    nodes += [make_node(operator, [f"a{k}"] * 2, [f"a{k + 1}"], **attributes) for k in range(60)]
    nodes += [make_node("ReduceMax", ["a60"], ["m"]), make_node("Add", ["x", "m"], ["y"])]
    return model(nodes, [tensor("c", [1.0] * 4)])


def grown(
    operator: str, *values: int, x: Sequence[int] = (1, 4), count: int = 0
) -> onnx.ModelProto:
    """An operator on x whose second (or later) input says how large its output is."""
    return model([make_node(operator, ["x", *[""] * count, "s"], ["y"])], [sizes(*values)], x=x)


def many(operator: str, *tensors: TensorProto) -> onnx.ModelProto:
    """Sixty large tensors at once, none of which is too large by itself."""
    nodes = [
        make_node(operator, [each.name or "x" for each in tensors], [f"a{k}"]) for k in range(60)
    ]
    nodes += [make_node("ReduceMax", [f"a{k}"], [f"b{k}"]) for k in range(60)]
    nodes += [make_node("Sum", ["x", *(f"b{k}" for k in range(60))], ["y"])]
    return model(nodes, [each for each in tensors if each.name])


def fixed(proto: onnx.ModelProto) -> object:
    proto.graph.input.append(make_tensor_value_info("z", TensorProto.FLOAT, (10**6, 10**6)))
    return read_onnx(proto, fixed={"z": 1.0})


GIANTS: dict[str, tuple[Callable[[], object], str]] = {
    "input": (lambda: model([relu()], x=(1, HUGE)), "has more than"),
    "input of many axes": (lambda: model([relu()], x=(1,) * 1000), "1000 axes"),
    "wide input": (lambda: model([relu()], x=(1, 10**8)), "has more than"),
    "fixed": (lambda: fixed(model([make_node("Add", ["x", "z"], ["y"])])), "has more than"),
    "ConstantOfShape": (
        lambda: folded(make_node("ConstantOfShape", ["s"], ["w"]), tensors=[sizes(HUGE)]),
        "1e",
    ),
    "Expand": (lambda: grown("Expand", HUGE, 1), "coefficients"),
    "Tile": (lambda: grown("Tile", 1, HUGE), "coefficients"),
    "wide Tile": (lambda: grown("Tile", 1, 10**7), "entries"),
    "Pad": (lambda: grown("Pad", 0, HUGE, 0, 0), "coefficients"),
    "wide Pad": (lambda: grown("Pad", 0, 10**8, 0, 0), "entries"),
    "Reshape": (lambda: grown("Reshape", 2**62, 2**62, 4), "does not fit"),
    "Resize": (
        lambda: grown("Resize", 1, 1, 10**6, 10**6, x=(1, 1, 2, 2), count=2),
        "coefficients",
    ),
    "long Resize": (
        lambda: grown("Resize", 1, 1, 1, 10**7, x=(1, 1, 1, 2), count=2),
        "coefficients",
    ),
    "Unsqueeze": (lambda: grown("Unsqueeze", *range(60000)), "axes"),
    "Reshape of a long shape": (
        lambda: model(
            [
                make_node("ConstantOfShape", ["n"], ["s"], value=sizes(1, name="")),
                make_node("Reshape", ["x", "s"], ["y"]),
            ],
            [sizes(10**7, name="n")],
        ),
        "integers",
    ),
    "Conv": (
        lambda: model(
            [make_node("Conv", ["x", "W"], ["y"], pads=[4000] * 4)],
            [tensor("W", np.ones((1, 1, 1, 1)))],
            x=(1, 1, 2, 2),
        ),
        "entries",
    ),
    "MaxPool": (
        lambda: model(
            [make_node("MaxPool", ["x"], ["y"], kernel_shape=[2], pads=[HUGE] * 2)], x=(1, 1, 8)
        ),
        "coefficients",
    ),
    "MatMul": (
        lambda: model(
            [make_node("MatMul", ["c", "x"], ["y"])], [tensor("c", np.ones((5000, 1)))], x=(1, 4000)
        ),
        "entries",
    ),
    "Range": (
        lambda: folded(
            make_node("Range", ["a", "b", "d"], ["w"]),
            tensors=[
                tensor("a", 0, np.int64),
                tensor("b", HUGE, np.int64),
                tensor("d", 1, np.int64),
            ],
        ),
        "coefficients",
    ),
    "Range of small floats": (
        lambda: folded(
            make_node("Range", ["a", "b", "d"], ["w"]),
            tensors=[
                tensor("a", 0, np.float16),
                tensor("b", 6e4, np.float16),
                tensor("d", 6e-5, np.float16),
            ],
        ),
        "ONNX cannot tell",
    ),
    "OneHot": (
        lambda: folded(
            make_node("OneHot", ["i", "n", "v"], ["w"]),
            tensors=[sizes(1, name="i"), tensor("n", HUGE, np.int64), tensor("v", [0, 1])],
        ),
        "coefficients",
    ),
    "RoiAlign": (
        lambda: folded(
            make_node(
                "RoiAlign",
                ["c", "r", "i"],
                ["w"],
                output_height=2,
                output_width=2,
                sampling_ratio=10**6,
            ),
            tensors=[
                tensor("c", np.ones((1, 1, 2, 2))),
                tensor("r", np.ones((1, 4))),
                sizes(0, name="i"),
            ],
        ),
        "any time or memory",
    ),
    "text": (
        lambda: folded(
            make_node("Constant", [], ["t"], value_string="a" * 10**6),
            make_node("Expand", ["t", "s"], ["w"]),
            tensors=[sizes(10**5)],
        ),
        "strings",
    ),
    "Concat of itself": (lambda: doubling("Concat", "x", axis=1), "0.25 GiB"),
    "Concat of a constant with itself": (lambda: doubling("Concat", "c", axis=0), "coefficients"),
    "Concat of a constant, many times": (
        lambda: folded(
            make_node("Concat", ["c"] * 20000, ["w"], axis=0), tensors=[tensor("c", np.ones(40000))]
        ),
        "coefficients",
    ),
    "Concat of many": (
        lambda: model([make_node("Concat", ["x"] * 20000, ["y"], axis=1)]),
        "coefficients",
    ),
    "many constants": (lambda: many("ConstantOfShape", sizes(25 * 10**6)), "0.25 GiB"),
    "many tensors": (lambda: many("Tile", TensorProto(), sizes(1, 500000)), "0.25 GiB"),
}
