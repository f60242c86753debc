"""Reading of ONNX models: constants, types, names, inputs, outputs, malformed files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipexact.errors import LipExactError, ModelError, UnsupportedOperatorError
from lipexact.graph.ir import Affine, Input
from lipexact.onnx import read_onnx, supported_operators
from lipexact.onnx.constants import NEWEST_OPSET
from lipexact.onnx.registry import lowers
from tests.support.onnx_checks import assert_agrees, assert_jacobian, assert_names
from tests.support.onnx_files import (
    keras_mlp,
    nnet_mlp,
    onnx_model,
    pytorch_mlp,
    pytorch_view,
    random_weights,
    sklearn_regressor,
)
from tests.support.paths import ROOT

SHARED = ROOT.parent / "shared"

# Operators


def test_supported_operators_are_sorted_names() -> None:
    assert list(supported_operators()) == sorted(supported_operators())
    assert {"Gemm", "MatMul", "Relu"} <= set(supported_operators())


def test_an_operator_is_registered_once() -> None:
    with pytest.raises(ValueError, match="Relu is registered already"):
        lowers("Relu")(lambda node, x: x)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, "bfloat16"])
def test_weights_are_read_exactly(dtype: str | type) -> None:
    kind = (
        onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        if dtype != "bfloat16"
        else onnx.TensorProto.BFLOAT16
    )
    weights = onnx.helper.make_tensor("W", kind, [3, 1], [0.1, -1 / 3, 2.5])
    names = {1: "float", 10: "float16", 11: "double", 16: "bfloat16"}
    model = onnx_model(f"({names[kind]}[1,3] x) => ({names[kind]}[1,1] y) {{ y = MatMul (x, W) }}")
    model.graph.initializer.append(weights)
    exact = onnx.numpy_helper.to_array(weights).astype(np.float64)
    np.testing.assert_array_equal(read_onnx(model).jacobian(np.zeros(3)), exact.T)


def test_sparse_weights() -> None:
    model = onnx_model(
        "(double[1,3] x) => (double[1,2] y) { p = MatMul (x, W)\n c = Constant()\n y = Add (p, c) }"
    )
    values = onnx.helper.make_tensor("W", onnx.TensorProto.DOUBLE, [2], [2.0, 3.0])
    positions = onnx.helper.make_tensor("i", onnx.TensorProto.INT64, [2], [1, 4])
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, positions, [3, 2]))
    coordinates = onnx.helper.make_tensor("i", onnx.TensorProto.INT64, [1, 2], [0, 1])
    value = onnx.helper.make_tensor("v", onnx.TensorProto.DOUBLE, [1], [5.0])
    sparse = onnx.helper.make_sparse_tensor(value, coordinates, [1, 2])
    model.graph.node[1].attribute.append(onnx.helper.make_attribute("sparse_value", sparse))
    network = read_onnx(model)
    np.testing.assert_array_equal(network.jacobian(np.zeros(3)), [[0, 0, 3], [2, 0, 0]])
    np.testing.assert_array_equal(network.evaluate(np.zeros(3)), [0, 5])


def test_constants_are_folded_in_the_types_of_the_model() -> None:
    text = (
        "(double[1,1] x) => (double[1,1] y) { p = Exp (a)\n c = Cast <to = 11> (p)\n "
        "y = Mul (x, c) }"
    )
    network = read_onnx(onnx_model(text, {"a": np.array([[0.1]], np.float32)}))
    assert network.jacobian([0.0])[0, 0] == float(np.exp(np.float32(0.1)))


def test_what_the_reference_folds_wrongly_is_lowered() -> None:
    # In opset 9 the reference takes the default momentum for a request to train.
    text = (
        "(double[1,2] x) => (double[1,2] y) { "
        "n = BatchNormalization <epsilon = 0.0> (c, s, b, m, v)\n y = Add (x, n) }"
    )
    constants = {
        "c": [[4.0, 5.0]],
        "s": [2.0, 3.0],
        "b": [0.0, 1.0],
        "m": [1.0, 2.0],
        "v": [4.0, 9.0],
    }
    model = onnx_model(
        text, {name: np.array(values) for name, values in constants.items()}, opset=9
    )
    np.testing.assert_allclose(read_onnx(model).evaluate([0.0, 0.0]), [3.0, 4.0])


def test_local_functions_are_inlined() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (double[1,3] x) => (double[1,3] y) { y = local.bent <slope = 0.5> (x) }
        <domain: "local", opset_import: ["" : 17]>
        bent <slope> (v) => (w) {
            r = Relu (v)
            s = Constant <value_float: float = @slope> ()
            t = CastLike (s, s)
            d = Cast <to = 11> (t)
            p = Mul (v, d)
            w = Add (r, p)
        }
    """)
    np.testing.assert_array_equal(read_onnx(model).evaluate([1.0, -1.0, 2.0]), [1.5, -0.5, 3.0])


# Shapes


@pytest.mark.parametrize(
    ("text", "input_shape", "output_shape"),
    [
        ("(double[1,4] x) => (double[1,4] y) { y = Relu (x) }", (4,), (4,)),
        ("(double[N,4] x) => (double[N,4] y) { y = Relu (x) }", (4,), (4,)),
        ("(double[?,4] x) => (double[?,4] y) { y = Relu (x) }", (4,), (4,)),
        ("(double[4] x) => (double[4] y) { y = Relu (x) }", (4,), (4,)),
        ("(double[1,1,1,5] x) => (double[1,5] y) { y = Flatten (x) }", (1, 1, 5), (5,)),
        ("(double[1,2,3] x) => (double[6] y) { f = Flatten (x)\n y = Squeeze (f) }", (2, 3), (6,)),
        ("(double[1,2,3] x) => (double[3,2] y) { y = Reshape (x, s) }", (2, 3), (3, 2)),
        ("(double[3] x) => (double[1,3] y) { y = Unsqueeze (x, a) }", (3,), (1, 3)),
        ("(double[1,3] x) => (double[] y) { f = Squeeze (x)\n y = MatMul (f, w) }", (3,), ()),
    ],
)
def test_shapes_are_without_the_batch_axis(
    text: str, input_shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> None:
    constants = {"s": np.array([3, 2]), "a": np.array([0]), "w": np.ones(3)}
    network = read_onnx(
        onnx_model(text, {name: array for name, array in constants.items() if f"{name})" in text})
    )
    assert network.input_shape == input_shape
    assert network.output_shape == output_shape


@pytest.mark.parametrize("length", [0, -1])
def test_a_batch_axis_of_unknown_length_is_one(length: int) -> None:
    model = onnx_model("(double[1,4] x) => (double[1,4] y) { y = Relu (x) }")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = length
    assert read_onnx(model).input_shape == (4,)


# Whole networks


@pytest.mark.parametrize(
    "build", [pytorch_mlp, keras_mlp, sklearn_regressor, nnet_mlp, pytorch_view]
)
def test_models_of_exporters(build, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    model = build(rng)
    onnx.save(model, tmp_path / "exported.onnx")
    network = read_onnx(tmp_path / "exported.onnx")
    assert network.name == "exported"
    points = rng.normal(size=(20, 1, *network.input_shape))
    assert_agrees(network, model, points.astype(np.float32), 1e-5)
    assert_jacobian(network, points)
    assert_names(network)
    # Nothing is left between the gates but one affine map.
    assert sum(isinstance(node, Affine) for node in network.graph.nodes) <= len(network.gates) + 1


def test_external_data(tmp_path: Path) -> None:
    model = pytorch_mlp(np.random.default_rng(2))
    points = np.random.default_rng(3).normal(size=(5, 4))
    expected = read_onnx(model).evaluate(points)
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, size_threshold=0, location="weights")
    np.testing.assert_array_equal(read_onnx(path).evaluate(points), expected)
    np.testing.assert_array_equal(read_onnx(str(path)).evaluate(points), expected)
    with pytest.raises(ModelError, match="pass the path"):
        read_onnx(onnx.load(path, load_external_data=False))
    (tmp_path / "weights").unlink()
    with pytest.raises(ModelError, match=r"net\.onnx"):
        read_onnx(path)


def test_constant_network() -> None:
    text = (
        "(double[1,3] x) => (double[1,2] y) { s = Shape (x)\n c = Cast <to = 11> (s)\n "
        "y = Mul (c, w) }"
    )
    network = read_onnx(onnx_model(text, {"w": np.array([[0.5, 2.0]])}))
    np.testing.assert_array_equal(network.evaluate(np.zeros((4, 3))), [[0.5, 6.0]] * 4)
    np.testing.assert_array_equal(network.jacobian(np.zeros(3)), np.zeros((2, 3)))
    assert isinstance(network.input, Input)
    assert network.relus == 0


def test_identity_network() -> None:
    network = read_onnx(onnx_model("(double[1,3] x) => (double[1,3] y) { y = Identity (x) }"))
    np.testing.assert_array_equal(network.jacobian(np.zeros(3)), np.eye(3))


def test_only_what_the_output_depends_on_is_read() -> None:
    text = "(double[1,3] x) => (double[1,3] y) { p = Softmax (x)\n q = Sigmoid (p)\n y = Relu (x) }"
    assert read_onnx(onnx_model(text, {"unused": np.array([np.nan])})).relus == 3


def test_nodes_in_any_order() -> None:
    text = "(double[1,3] x) => (double[1,3] y) { y = Relu (h)\n h = Add (x, c) }"
    np.testing.assert_array_equal(
        read_onnx(onnx_model(text, {"c": np.ones(3)})).evaluate([1, -2, 0]), [2, 0, 1]
    )


def test_empty_constants_and_outputs_without_a_name() -> None:
    body = "d, m = Dropout (x)\n h, n = Dropout (d)\n i = Identity (s)\n y = Reshape (h, i)"
    model = onnx_model(
        f"(double[1] x) => (double[] y) {{ {body} }}", {"s": np.zeros(0, np.int64)}, opset=11
    )
    for node in model.graph.node[:2]:
        node.output[1] = ""
    network = read_onnx(model)
    assert network.output_shape == ()


def test_names_are_unique_letters_digits_and_underscores() -> None:
    model = onnx_model(
        "(double[1,2] x) => (double[1,2] y) { a = Relu (x)\n b = Relu (a)\n c = Relu (b)\n "
        "y = Relu (c) }"
    )
    for old, new in {
        "a": "/net/relu:0",
        "b": "net_relu.0",
        "c": "net_relu_0_gate",
        "y": "9",
    }.items():
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
    model.graph.output[0].name = "9"
    network = read_onnx(model)
    assert_names(network)
    assert [node.name for node in network.graph.nodes if not node.name.endswith("gate")][:2] == [
        "x",
        "net_relu_0",
    ]
    assert network.output.name == "t9"


def test_fifty_layers() -> None:
    body = "\n".join(f"z{k} = Gemm (h{k}, W, b)\n h{k + 1} = Relu (z{k})" for k in range(50))
    model = onnx_model(
        f"(double[1,3] x) => (double[1,3] y) {{ h0 = Identity (x)\n {body}\n y = Identity (h50) }}",
        {"W": np.eye(3), "b": np.zeros(3)},
    )
    np.testing.assert_array_equal(read_onnx(model).evaluate([1.0, -1.0, 2.0]), [1.0, 0.0, 2.0])


STEPS = (
    "gemm", "gemm_transposed", "matmul", "matmul_left", "add", "sub", "sub_from", "mul", "div",
    "relu", "relu", "identity", "dropout", "cast", "reshape", "squeeze", "residual", "difference",
)  # fmt: skip


def random_model(steps: list[str], width: int, seed: int) -> onnx.ModelProto:
    """A chain of steps on a tensor of shape (1, width), with random weights."""
    rng = np.random.default_rng(seed)
    constants: dict[str, np.ndarray] = {"last": np.array([1, -1]), "axis": np.array([1])}
    body: list[str] = []
    names = ["x"]
    for number, step in enumerate(steps):
        h, new, c, d = names[-1], f"h{number}", f"c{number}", f"d{number}"
        wider = int(rng.integers(1, 6))
        row = rng.choice([1, width])
        match step:
            case "gemm" | "matmul":
                constants |= {
                    c: rng.normal(size=(width, wider)),
                    d: rng.normal(size=rng.choice([1, wider])),
                }
                body.append(
                    f"{new} = Gemm <alpha = 0.7, beta = -1.5> ({h}, {c}, {d})"
                    if step == "gemm"
                    else f"{new} = MatMul ({h}, {c})"
                )
                width = wider
            case "gemm_transposed":
                # The network is a column on the way.
                constants |= {c: rng.normal(size=(width, wider))}
                body += [
                    f"t{new} = Gemm <transA = 1, transB = 1> ({c}, {h})",
                    f"{new} = Reshape (t{new}, last)",
                ]
                width = wider
            case "matmul_left":
                constants |= {c: rng.normal(size=(wider, width)), d: np.array([-1, 1])}
                body += [
                    f"t{new} = Reshape ({h}, {d})",
                    f"u{new} = MatMul ({c}, t{new})",
                    f"{new} = Flatten <axis = 0> (u{new})",
                ]
                width = wider
            case "add" | "sub" | "mul" | "div":
                constants[c] = rng.uniform(0.5, 2.0, size=row) * rng.choice([-1.0, 1.0])
                body.append(f"{new} = {step.capitalize()} ({h}, {c})")
            case "sub_from":
                constants[c] = rng.normal(size=(1, row))
                body.append(f"{new} = Sub ({c}, {h})")
            case "reshape":
                body.append(f"{new} = Reshape ({h}, last)")
            case "squeeze":
                body += [f"t{new} = Unsqueeze ({h}, axis)", f"{new} = Squeeze (t{new}, axis)"]
            case "cast":
                body.append(f"{new} = Cast <to = 11> ({h})")
            case "residual" | "difference":
                body += [
                    f"t{new} = Relu ({h})",
                    f"{new} = {'Add' if step == 'residual' else 'Sub'} (t{new}, {h})",
                ]
            case _:
                body.append(f"{new} = {step.capitalize()} ({h})")
        names.append(new)
    body.append(f"y = Identity ({names[-1]})")
    return onnx_model(
        f"(double[N,{SIZE}] x) => (double[N,{width}] y) {{ {chr(10).join(body)} }}", constants
    )


SIZE = 4


@given(st.lists(st.sampled_from(STEPS), max_size=10), st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_random_networks_agree_with_the_reference(steps: list[str], seed: int) -> None:
    model = random_model(steps, SIZE, seed)
    network = read_onnx(model)
    points = np.random.default_rng(seed).normal(size=(6, 1, SIZE))
    assert_agrees(network, model, points)
    assert_names(network)


# Refusals


@pytest.mark.parametrize(
    ("text", "constants", "message"),
    [
        (
            "(double[1,3] x, double[1,3] z) => (double[1,3] y) { y = Add (x, z) }",
            {},
            "2 inputs .*'x', 'z'",
        ),
        ("() => (double[1,3] y) { y = Relu (c) }", {"c": np.ones((1, 3))}, "no input"),
        ("(double[1,3] x) => () { y = Relu (x) }", {}, "no output"),
        (
            "(double[1,3] x) => (double[1,3] y, double[1,3] z) { y = Relu (x)\n z = Relu (y) }",
            {},
            "2 outputs",
        ),
        ("(int64[1,3] x) => (int64[1,3] y) { y = Identity (x) }", {}, "INT64"),
        ("(seq(double[1,3]) x) => (double[1,3] y) { y = Identity (x) }", {}, "sequence_type"),
        ("(double[N] x) => (double[N] y) { y = Relu (x) }", {}, r"shape \[N\]"),
        ("(double[N,K] x) => (double[N,K] y) { y = Relu (x) }", {}, r"shape \[N, K\]"),
        ("(double[1,3,?] x) => (double[1,3,?] y) { y = Relu (x) }", {}, r"shape \[1, 3, \?\]"),
        ("(double[7,3] x) => (double[7,3] y) { y = Relu (x) }", {}, "batch of 7"),
        ("(double[1,3] x) => (double[1,3] y) { y = Relu (h) }", {}, "tensor 'h'"),
        ("(double[1,3] x) => (double[1,3] z) { y = Relu (x) }", {}, "tensor 'z'"),
        ("(double[1,3] x) => (double[1,3] y) { y = Relu (x)\n y = Relu (x) }", {}, "'y' twice"),
        ("(double[1,3] x) => (double[1,3] y) { a = Add (x, y)\n y = Relu (a) }", {}, "cycle"),
        (
            "(double[1,3] x) => (double[1,2] y) { y = MatMul (x, W) }",
            {"W": np.ones((4, 2))},
            r"\(1, 3\) and \(4, 2\)",
        ),
        (
            "(double[1,3] x) => (double[1,2] y) { y = Gemm (x, W) }",
            {"W": np.ones((2, 3))},
            r"\(1, 3\) and \(2, 3\)",
        ),
        (
            "(double[1,3] x) => (double[1,2] y) { y = Gemm (x, W, c) }",
            {"W": np.ones((3, 2)), "c": np.ones((4, 2))},
            "C of",
        ),
        (
            "(double[1,3,1] x) => (double[1,2] y) { y = Gemm (x, W) }",
            {"W": np.ones((3, 2))},
            "must be matrices",
        ),
        (
            "(double[1,3] x) => (double[1,3] y) { y = Add (x, c) }",
            {"c": np.ones(4)},
            "do not broadcast",
        ),
        (
            "(double[1,3] x) => (double[1,0] y) { y = MatMul (x, W) }",
            {"W": np.ones((3, 0))},
            "is empty",
        ),
        ("(double[1,3] x) => (double[0] y) { y = Identity (c) }", {"c": np.ones(0)}, "is empty"),
        (
            "(double[1,3] x) => (double[1,3] y) { y = MatMul (x, c) }",
            {"c": np.array(2.0)},
            "scalar",
        ),
        (
            "(double[1,3] x) => (double[1,3] y) { y = Add (x, c) }",
            {"c": np.array([1, np.nan, 1])},
            "NaN or infinite",
        ),
        (
            "(double[1,3] x) => (double[1,3] y) { y = Mul (x, c) }",
            {"c": np.array(np.inf)},
            "NaN or infinite",
        ),
        (
            "(double[1,3] x) => (double[1,3] y) { y = Div (x, c) }",
            {"c": np.array([1.0, 0, 1])},
            "divides by zero",
        ),
        (
            "(double[1,3] x) => (double[1,3] y) { y = Div (x, c) }",
            {"c": np.array(1e-320)},
            "NaN or infinite",
        ),
        (
            "(double[1,3] x) => (double[1,3] y) { y = Reshape (x, s) }",
            {"s": np.array([2, 2])},
            "does not fit",
        ),
        (
            "(double[1,3] x) => (double[1,3] y) { y = Reshape (x, s) }",
            {"s": np.array([-1, -1])},
            "not a shape",
        ),
        (
            "(double[1,3] x) => (double[1,3] y) { y = Reshape (x, s) }",
            {"s": np.array([1, 3, 0])},
            "copies an axis",
        ),
        (
            "(double[1,3] x) => (double[1,3] y) { y = Reshape (x, s) }",
            {"s": np.array([1.0])},
            "integers",
        ),
        ("(double[1,3] x) => (double[1,3] y) { y = Reshape (x) }", {}, "'shape' is missing"),
        ("(double[1,3] x) => (double[1,3] y) { y = Unsqueeze (x) }", {}, "'axes' is missing"),
        (
            "(double[1,3] x) => (double[1,3] y) { y = Unsqueeze (x, a) }",
            {"a": np.array([7])},
            "axes",
        ),
        (
            "(double[1,3] x) => (double[1,3] y) { y = Squeeze (x, a) }",
            {"a": np.array([1])},
            "does not fit",
        ),
        ("(double[1,3] x) => (double[1,3] y) { y = Flatten <axis = 5> (x) }", {}, "axis 5"),
        (
            "(double[1,3] x) => (double[1,3] y) { y = Flatten <axis = 0.5> (x) }",
            {},
            "type INT, not FLOAT",
        ),
        ("(double[1,3] x) => (double[1,3] y) { y = Cast (x) }", {}, "'to' is missing"),
        ("(double[1,3] x) => (double[1,3] y) { y = Relu () }", {}, "input 1, 'x', is missing"),
        (
            "(double[1,3] x) => (string[1] y) { y = Identity (s) }",
            {"s": np.array(["a"], object)},
            "not of real numbers",
        ),
        (
            "(double[1,3] x) => (double[1,3] y) { y = Add (x, c) }",
            {"c": np.array(1j)},
            "not of real numbers",
        ),
        (
            "(double[1,3] x) => (double[1,3] y) { y = Add (x, s) }",
            {"s": np.array(["a"], object)},
            "not of real numbers",
        ),
    ],
)
def test_malformed_models(text: str, constants: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_onnx(onnx_model(text, constants))


@pytest.mark.parametrize(
    ("text", "constants", "message"),
    [
        ("y = Sigmoid (x)", {}, r"\(Sigmoid, opset 17\).*not piecewise linear.*Gemm, .*Relu"),
        ("y = Floor (x)", {}, "not continuous"),
        ("y = Scan (x)", {}, "Scan is not supported"),
        (
            "y = com.microsoft.FusedGemm (x, c)",
            {"c": np.ones((3, 3))},
            r"operator com.microsoft.FusedGemm is not",
        ),
        ("r = Relu (x)\n y = Mul (x, r)", {}, "product .* not piecewise linear"),
        (
            "r = Relu (x)\n t = Reshape (r, s)\n y = MatMul (x, t)",
            {"s": np.array([3, 1])},
            "product",
        ),
        ("y = Div (c, x)", {"c": np.ones(3)}, "quotient .* not piecewise linear"),
        ("y = Dropout (x, r, t)", {"r": np.array(0.5), "t": np.array(True)}, "training mode"),
        ("y = Cast <to = 7> (x)", {}, "floating-point"),
        ("s = Reshape (x, x)\n y = Relu (s)", {}, "'shape', depends on the input"),
        ("y = Relu (x, x)", {}, "with 2 inputs"),
        ("y = Relu <alpha = 1.0> (x)", {}, "attributes alpha"),
        ("r = RandomNormal <shape = [3]> ()\n y = Add (x, r)", {}, "RandomNormal is not supported"),
        (
            "r = RandomNormalLike (c)\n y = Add (x, r)",
            {"c": np.ones(3)},
            "RandomNormalLike is not supported",
        ),
        (
            "r = Transpose <perm = [5]> (c)\n y = Add (x, r)",
            {"c": np.ones(3)},
            "cannot be evaluated",
        ),
        (
            'c = Constant <value_string = "a"> ()\n r = StringNormalizer (c)\n y = Add (x, r)',
            {},
            "cannot be evaluated",
        ),
    ],
)
def test_unsupported_models(text: str, constants: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=re.compile(message, re.DOTALL)):
        read_onnx(
            onnx_model(
                f"(double[1,3] x) => (double[1,3] y) {{ {text} }}",
                constants,
                imports={"com.microsoft": 1},
            )
        )


def test_subgraphs_are_not_folded() -> None:
    body = (
        "(int64 i, bool c, double[1,3] v) => (bool d, double[1,3] w) { d = Identity (c)\n "
        "w = Exp (v) }"
    )
    text = (
        f"(double[1,3] x) => (double[1,3] y) {{ e = Loop (n, t, c) <body = b {body}>\n "
        "y = Add (x, e) }"
    )
    constants = {"n": np.array(2), "t": np.array(True), "c": np.ones((1, 3))}
    with pytest.raises(UnsupportedOperatorError, match="operator Loop"):
        read_onnx(onnx_model(text, constants))


def test_old_dropout_in_training_mode() -> None:
    with pytest.raises(UnsupportedOperatorError, match="training mode"):
        read_onnx(onnx_model("(double[1,3] x) => (double[1,3] y) { y = Dropout (x) }", opset=6))


def test_newer_opset() -> None:
    with pytest.raises(UnsupportedOperatorError, match=f"opset {NEWEST_OPSET + 1}"):
        read_onnx(
            onnx_model(
                "(double[1,3] x) => (double[1,3] y) { y = Relu (x) }", opset=NEWEST_OPSET + 1
            )
        )


def test_unknown_rank() -> None:
    model = onnx_model("(double[1,3] x) => (double[1,3] y) { y = Relu (x) }")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ModelError, match="shape unknown"):
        read_onnx(model)


def test_unknown_element_type() -> None:
    model = onnx_model("(double[1,3] x) => (double[1,3] y) { y = Relu (x) }")
    model.graph.input[0].type.tensor_type.elem_type = 66
    with pytest.raises(ModelError, match="unknown type"):
        read_onnx(model)


def test_initializer_of_the_wrong_size() -> None:
    model = onnx_model("(double[1,3] x) => (double[1,3] y) { y = Add (x, c) }", {"c": np.ones(3)})
    model.graph.initializer[0].dims[0] = 4
    with pytest.raises(ModelError, match="initializer 'c' is corrupt"):
        read_onnx(model)


@pytest.mark.parametrize(
    "content", [b"", b"hello, world", bytes(100), b"\x08\x07", bytes(range(256))]
)
def test_files_that_are_not_onnx(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        read_onnx(path)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.onnx.*No such file"):
        read_onnx(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="cannot read"):
        read_onnx(tmp_path)
    with pytest.raises(ModelError, match="not int"):
        read_onnx(3)
    with pytest.raises(ModelError, match="empty"):
        read_onnx(onnx.ModelProto())


@given(st.integers(0, 10**6), st.binary(min_size=0, max_size=4), st.booleans())
@settings(max_examples=200, deadline=None)
def test_corrupt_files_raise_our_errors_only(place: int, junk: bytes, cut: bool) -> None:
    content = bytearray(keras_mlp(np.random.default_rng(0), (2, 2, 2)).SerializeToString())
    place %= len(content)
    content[place : len(content) if cut else place + len(junk)] = junk
    try:
        model = onnx.load_model_from_string(bytes(content))
    except Exception:  # noqa: BLE001 - protobuf's errors; a file takes the same way in read_onnx
        return
    try:
        network = read_onnx(model)
    except LipExactError:
        return
    assert np.isfinite(network.evaluate(np.zeros(network.input.size))).all()


# Files


def runtime(path: Path, points: np.ndarray) -> np.ndarray:
    """The outputs of onnxruntime for points with their batch axis."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    dtype = np.float64 if source.type == "tensor(double)" else np.float32
    return np.array(
        [session.run(None, {source.name: point.astype(dtype)})[0].ravel() for point in points]
    )


FILES = [
    *sorted((ROOT / "examples").glob("*.onnx")),
    *[SHARED / "models" / f"{name}.onnx" for name in ("acasxu_1_1", "cartpole", "fc1")],
    *(sorted((SHARED / "cases").glob("*.onnx")) or [SHARED / "cases" / "identity_kink.onnx"]),
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_agree_with_onnxruntime(path: Path) -> None:
    if not path.exists():
        pytest.skip("this file is not part of the repository")
    network = read_onnx(path)
    points = np.random.default_rng(0).normal(size=(20, 1, *network.input_shape))
    expected = runtime(path, points)
    assert np.abs(network.evaluate(points[:, 0]) - expected).max() <= 1e-5 * np.abs(expected).max()
    assert_names(network)


def test_shared_weights_between_models() -> None:
    # Two reads do not share state, and do not change the model.
    model = onnx_model(
        "(double[1,2] x) => (double[1,2] y) { z = Gemm <transB = 1> (x, W0, b0)\n y = Relu (z) }",
        random_weights(np.random.default_rng(0), (2, 2), np.float64),
    )
    before = model.SerializeToString()
    np.testing.assert_array_equal(
        read_onnx(model).jacobian([1, 1]), read_onnx(model).jacobian([1, 1])
    )
    assert model.SerializeToString() == before
