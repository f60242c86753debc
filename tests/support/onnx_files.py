"""Builders of small ONNX models, some in the manner of the exporters that people use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
from onnx.reference import ReferenceEvaluator

Array = npt.NDArray[np.float64]


def onnx_model(
    text: str,
    constants: Mapping[str, npt.NDArray] | None = None,
    *,
    opset: int = 17,
    ir_version: int = 8,
    imports: Mapping[str, int] | None = None,
    weights_are_inputs: bool = False,
) -> onnx.ModelProto:
    """A model from a text and arrays for its initializers.

    The text is like "(float[1,4] x) => (float[1,2] y) { y = Relu (x) }".
    """
    graph = onnx.parser.parse_graph(f"g {text}")
    for name, array in (constants or {}).items():
        tensor = onnx.numpy_helper.from_array(np.asarray(array), name)
        graph.initializer.append(tensor)
        if weights_are_inputs:
            graph.input.append(
                onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
            )
    opsets = [onnx.helper.make_opsetid(*pair) for pair in {"": opset, **(imports or {})}.items()]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def reference(model: onnx.ModelProto, points: npt.NDArray) -> Array:
    """The model's output at each of the points (n, *shape of the input), by onnx.reference."""
    evaluator = ReferenceEvaluator(model)
    name = evaluator.input_names[0]
    return np.array(
        [evaluator.run(None, {name: point})[0].astype(np.float64).ravel() for point in points]
    )


def random_weights(
    rng: np.random.Generator, sizes: Sequence[int], dtype: npt.DTypeLike
) -> dict[str, npt.NDArray]:
    """W0 (outputs, inputs), b0, W1, b1, ... for an MLP with layers of these sizes."""
    weights = {}
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        weights[f"W{layer}"] = rng.normal(size=(outputs, inputs)).astype(dtype)
        weights[f"b{layer}"] = rng.normal(size=outputs).astype(dtype)
    return weights


def pytorch_mlp(rng: np.random.Generator, sizes: Sequence[int] = (4, 6, 5, 2)) -> onnx.ModelProto:
    """PyTorch: Gemm with transB, a dynamic batch axis, Flatten, Dropout, names like paths."""

    def dense(layer: int, source: str, target: str) -> list[str]:
        return [
            f"{target} = Gemm <alpha = 1.0, beta = 1.0, transB = 1> ({source}, W{layer}, b{layer})"
        ]

    body = [
        "f = Flatten <axis = 1> (x)",
        *_layers(dense, len(sizes) - 1, "f", "d"),
        "y = Dropout (d)",
    ]
    text = (
        f"(float[batch,1,{sizes[0]}] x) => (float[batch,{sizes[-1]}] y) {{ {chr(10).join(body)} }}"
    )
    return _renamed(
        onnx_model(text, random_weights(rng, sizes, np.float32)), "/net.{}/Gemm_output_0"
    )


def keras_mlp(rng: np.random.Generator, sizes: Sequence[int] = (4, 6, 5, 2)) -> onnx.ModelProto:
    """tf2onnx: a normalisation, MatMul and Add, names like "a/b:0", opset 8.

    The weights are listed as inputs.
    """
    constants = {
        "mean": rng.normal(size=(1, sizes[0])).astype(np.float32),
        "scale": np.array([0.5], np.float32),
    }
    body = [
        "s = Sub (x, mean)",
        "m = Mul (s, scale)",
        *_layers(_matmul_add, len(sizes) - 1, "m", "y"),
    ]
    text = (
        f"(float[unk__1,{sizes[0]}] x) => (float[unk__2,{sizes[-1]}] y) {{ {chr(10).join(body)} }}"
    )
    constants |= _matmul_weights(random_weights(rng, sizes, np.float32))
    model = onnx_model(text, constants, opset=8, ir_version=3, weights_are_inputs=True)
    return _renamed(model, "sequential/dense_{}/BiasAdd:0")


def nnet_mlp(rng: np.random.Generator, sizes: Sequence[int] = (5, 7, 7, 5)) -> onnx.ModelProto:
    """A converted NNet file, as of ACAS Xu: input 1x1x1x5, Sub, Flatten, MatMul and Add.

    The weights are listed as inputs.
    """
    constants = {"mean": rng.normal(size=(1, 1, 1, sizes[0])).astype(np.float32)}
    body = [
        "s = Sub (x, mean)",
        "f = Flatten <axis = 1> (s)",
        *_layers(_matmul_add, len(sizes) - 1, "f", "y"),
    ]
    text = f"(float[1,1,1,{sizes[0]}] x) => (float[1,{sizes[-1]}] y) {{ {chr(10).join(body)} }}"
    constants |= _matmul_weights(random_weights(rng, sizes, np.float32))
    return onnx_model(text, constants, opset=8, ir_version=3, weights_are_inputs=True)


def sklearn_regressor(rng: np.random.Generator) -> onnx.ModelProto:
    """skl2onnx of an MLPRegressor: Cast, MatMul, Add, Relu, and a Reshape to a column."""
    weights = random_weights(rng, (4, 5, 1), np.float32)
    constants = {
        "coefficient": weights["W0"].T.copy(),
        "intercepts": weights["b0"].reshape(1, -1),
        "coefficient1": weights["W1"].T.copy(),
        "intercepts1": weights["b1"].reshape(1, -1),
        "shape_tensor": np.array([-1, 1]),
    }
    return onnx_model(
        """(float[N,4] X) => (float[N,1] variable) {
            cast_input = Cast <to = 1> (X)
            mul_result = MatMul (cast_input, coefficient)
            add_result = Add (mul_result, intercepts)
            next_activations = Relu (add_result)
            mul_result1 = MatMul (next_activations, coefficient1)
            add_result1 = Add (mul_result1, intercepts1)
            variable = Reshape (add_result1, shape_tensor)
        }""",
        constants,
    )


def pytorch_view(rng: np.random.Generator) -> onnx.ModelProto:
    """PyTorch's x.view(x.size(0), -1): a chain of Shape, Gather, Unsqueeze and Concat."""
    return onnx_model(
        """(float[batch,2,3] x) => (float[batch,2] y) {
            shape = Shape (x)
            zero = Constant <value = int64 {0}> ()
            size = Gather <axis = 0> (shape, zero)
            axes = Constant <value_ints = [0]> ()
            first = Unsqueeze (size, axes)
            rest = Constant <value = int64[1] {-1}> ()
            target = Concat <axis = 0> (first, rest)
            flat = Reshape (x, target)
            turned = Transpose <perm = [1, 0]> (W)
            product = MatMul (flat, turned)
            y = Relu (product)
        }""",
        {"W": rng.normal(size=(2, 6)).astype(np.float32)},
    )


def _matmul_weights(weights: Mapping[str, npt.NDArray]) -> dict[str, npt.NDArray]:
    return {
        name: array.T.copy() if name.startswith("W") else array for name, array in weights.items()
    }


def _matmul_add(layer: int, source: str, target: str) -> list[str]:
    return [f"p{layer} = MatMul ({source}, W{layer})", f"{target} = Add (p{layer}, b{layer})"]


def _layers(
    dense: Callable[[int, str, str], list[str]], count: int, source: str, target: str
) -> list[str]:
    # Dense layers with Relu between them, from `source` to `target`.
    body = []
    for layer in range(count - 1):
        body += [*dense(layer, source, f"z{layer}"), f"h{layer} = Relu (z{layer})"]
        source = f"h{layer}"
    return [*body, *dense(count - 1, source, target)]


def _renamed(model: onnx.ModelProto, pattern: str) -> onnx.ModelProto:
    # Inner tensors under the awkward names of an exporter.
    ends = {info.name for info in (*model.graph.input, *model.graph.output)}
    ends |= {tensor.name for tensor in model.graph.initializer}
    inner = [name for node in model.graph.node for name in node.output if name not in ends]
    names = {name: pattern.format(number) for number, name in enumerate(inner)}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model
