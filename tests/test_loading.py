"""Which function of a model is read: inputs and outputs by name, fixed inputs, branches, and
what is left out.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper
import pytest

import lipexact as lx
from lipexact.onnx.constants import MAX_COEFFICIENTS
from tests.support.onnx_files import onnx_model

RNG = np.random.default_rng(0)
W = RNG.normal(size=(3, 2))
V = RNG.normal(size=(3, 2))
X = RNG.normal(size=(5, 3))


def two_inputs() -> onnx.ModelProto:
    """p = a W + b V; q = relu(p); r depends on a alone, s on nothing."""
    model = onnx_model(
        """(double[N,3] a, double[N,3] b) => (double[N,2] q, double[N,2] r) {
            l = MatMul (a, W)
            m = MatMul (b, V)
            p = Add (l, m)
            q = Relu (p)
            r = Abs (l)
        }""",
        {"W": W, "V": V},
    )
    for name in ("p", "l"):
        assert name in {output for node in model.graph.node for output in node.output}
    return model


# Inputs and outputs


def test_outputs_by_name() -> None:
    model = two_inputs()
    np.testing.assert_allclose(lx.load(model, output="r").evaluate(X), np.abs(X @ W))
    # An output that depends on one input needs no choice of the input.
    assert lx.load(model, output="r").input.name == "a"
    with pytest.raises(lx.ModelError, match=r"2 outputs \('q', 'r'\).*output='q'"):
        lx.load(model)
    with pytest.raises(lx.ModelError, match=r"no tensor 'Q'; its outputs are 'q', 'r'"):
        lx.load(model, output="Q")


def test_inner_tensors_are_outputs() -> None:
    np.testing.assert_allclose(lx.load(two_inputs(), output="l").evaluate(X), X @ W)
    model = onnx_model(
        "(double[1,3] x) => (double[1,3] y) { hidden_1 = Relu (x)\n y = Exp (hidden_1) }"
    )
    np.testing.assert_array_equal(lx.load(model, output="hidden_1").evaluate([1, -1, 2]), [1, 0, 2])
    with pytest.raises(lx.ModelError, match="did you mean 'hidden_1'"):
        lx.load(model, output="hidden1")
    np.testing.assert_array_equal(lx.load(model, output="x").jacobian(np.zeros(3)), np.eye(3))


@pytest.mark.parametrize(
    "fixed", [V[:, 0], V[:, 0][None], list(V[:, 0]), V[:, 0].astype(np.float32)]
)
def test_inputs_are_fixed(fixed) -> None:
    network = lx.load(two_inputs(), output="q", fixed={"b": fixed})
    assert network.input.name == "a"
    np.testing.assert_allclose(
        network.evaluate(X), np.maximum(X @ W + np.asarray(fixed).reshape(1, 3) @ V, 0)
    )
    assert lx.load(two_inputs(), output="q", input="b", fixed={"a": np.zeros(3)}).input.name == "b"


def test_the_constant_depends_on_the_fixed_input() -> None:
    far = lx.load(two_inputs(), output="q", fixed={"b": 100 * V[:, 0] + 100 * V[:, 1]})
    result = lx.lipschitz(far, lx.Box.unit(3))
    assert result.status is lx.Status.EXACT
    assert result.value == pytest.approx(np.abs(W).sum(axis=0).max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "q"}, r"2 inputs \('a', 'b'\).*input='a', fixed=\{'b'"),
        ({"output": "q", "input": "a"}, r"depends on the input 'b', too.*fixed=\{'b'"),
        ({"output": "q", "input": "z"}, "no input 'z': 'a', 'b'"),
        ({"output": "q", "fixed": {"z": 1.0}}, "not an input of the model: 'a', 'b'"),
        ({"output": "q", "input": "a", "fixed": {"a": np.zeros(3)}}, "both"),
        ({"output": "q", "fixed": {"a": np.zeros(3), "b": np.zeros(3)}}, "leave one of them free"),
        ({"output": "q", "fixed": {"b": np.zeros(4)}}, r"shape \(4,\); it needs \[1, 3\]"),
        ({"output": "q", "fixed": {"b": np.zeros((2, 3))}}, r"shape \(2, 3\)"),
        ({"output": "q", "fixed": {"b": ["one", "two", "three"]}}, "'b' does not fit its type"),
        ({"output": "q", "fixed": {"b": [np.nan, 0, 0]}}, "'b' does not fit its type"),
        ({"output": "q", "fixed": {"b": [1j, 0, 0]}}, "'b' does not fit its type"),
        ({"output": "q", "fixed": {"b": None}}, "'b' does not fit its type"),
    ],
)
def test_inputs_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(lx.ModelError, match=message):
        lx.load(two_inputs(), **options)


@pytest.mark.parametrize("value", [[3.7, 1], [np.nan, 1], [2**70, 1], [1e30, 1]])
def test_an_integer_is_not_rounded(value: list[float]) -> None:
    model = onnx_model("(double[1,3] x, int64[2] s) => (double[3,1] y) { y = Reshape (x, s) }")
    with pytest.raises(lx.ModelError, match="'s' does not fit its type"):
        lx.load(model, fixed={"s": value})


def test_a_number_too_large_for_its_type() -> None:
    model = onnx_model("(float[1,3] x, float[1,3] b) => (float[1,3] y) { y = Add (x, b) }")
    with pytest.raises(lx.ModelError, match="'b' does not fit its type"):
        lx.load(model, input="x", fixed={"b": 1e300})


def test_one_number_for_all_entries_and_matrices_without_a_batch_axis() -> None:
    model = onnx_model("(double[N,2,2] x, double[N,2,2] b) => (double[N,2,2] y) { y = Add (x, b) }")
    grid = np.arange(4.0).reshape(2, 2)
    for fixed, expected in (
        (7.0, np.full(4, 7.0)),
        (grid, grid.ravel()),
        (grid[None], grid.ravel()),
    ):
        network = lx.load(model, input="x", fixed={"b": fixed})
        np.testing.assert_array_equal(network.evaluate(np.zeros((2, 2))), expected)
    with pytest.raises(lx.ModelError, match="shape"):
        lx.load(model, input="x", fixed={"b": np.zeros((4, 1))})


@pytest.mark.parametrize(
    "options",
    [
        {"input": 1},
        {"output": b"q"},
        {"fixed": [1.0]},
        {"drop_final": "no"},
        {"batched": np.ones(2)},
    ],
)
def test_options_of_other_types(options: dict) -> None:
    with pytest.raises(lx.OptionError):
        lx.load(two_inputs(), **options)


def test_options_are_for_files() -> None:
    network = lx.load(two_inputs(), output="r")
    assert lx.load(network) is network
    with pytest.raises(lx.OptionError, match="for files"):
        lx.load(network, output="r")
    with pytest.raises(lx.OptionError, match="for files"):
        lx.load(network, fixed=np.zeros(3))


@pytest.mark.parametrize("operator", ["Identity", "Flatten", "Dropout"])
def test_the_constant_of_an_identity(operator: str) -> None:
    network = lx.load(onnx_model(f"(double[1,3] x) => (double[1,3] y) {{ y = {operator} (x) }}"))
    result = lx.lipschitz(network, lx.Box.unit(3), input_norm="l1")
    assert (result.status, result.value) == (lx.Status.EXACT, 1.0)
    np.testing.assert_array_equal(result.witness.jacobian, np.eye(3))


def test_an_output_that_is_a_probability_is_suggested() -> None:
    model = onnx_model(
        "(double[1,3] x) => (int64[1,1] label, double[1,3] p) { p = Softmax (x)\n label = "
        "ArgMax (p) }"
    )
    with pytest.raises(lx.ModelError, match=r"output='p'.*drop_final=True"):
        lx.load(model)


def test_the_hint_names_no_input_as_an_output() -> None:
    with pytest.raises(lx.UnsupportedOperatorError, match="not piecewise linear") as caught:
        lx.load(onnx_model("(double[1,3] x) => (double[1,3] y) { y = Exp (x) }"))
    assert "output=" not in str(caught.value)
    with pytest.raises(lx.UnsupportedOperatorError, match="output='h'"):
        lx.load(onnx_model("(double[1,3] x) => (double[1,3] y) { h = Relu (x)\n y = Exp (h) }"))


def test_an_input_that_is_an_integer_can_be_fixed() -> None:
    model = onnx_model("(double[1,3] x, int64[2] s) => (double[3,1] y) { y = Reshape (x, s) }")
    assert lx.load(model, fixed={"s": [3, 1]}).output_shape == (3, 1)


def test_an_initializer_that_is_an_input_can_be_fixed() -> None:
    model = onnx_model(
        "(double[1,3] x) => (double[1,2] y) { y = MatMul (x, W) }",
        {"W": W},
        ir_version=3,
        weights_are_inputs=True,
    )
    np.testing.assert_allclose(lx.load(model, fixed={"W": V}).evaluate(X), X @ V)


def test_without_a_batch_axis() -> None:
    model = onnx_model("(double[3,2] x) => (double[2,2] y) { y = MatMul (A, x) }", {"A": W.T})
    with pytest.raises(lx.ModelError, match="batched=False"):
        lx.load(model)
    network = lx.load(model, batched=False)
    assert (network.input_shape, network.output_shape) == ((3, 2), (2, 2))
    np.testing.assert_allclose(network.evaluate(V), (W.T @ V).ravel())
    kept = lx.load(onnx_model("(double[1,2] x) => (double[1,2] y) { y = Relu (x) }"), batched=False)
    assert (kept.input_shape, kept.output_shape) == ((1, 2), (1, 2))


# What is left out


@pytest.mark.parametrize(
    "final", ["Softmax", "LogSoftmax", "Sigmoid", "Tanh", "Softplus", "ArgMax", "Hardmax"]
)
def test_drop_final(final: str) -> None:
    text = f"(double[1,3] x) => (double[1,2] y) {{ l = MatMul (x, W)\n y = {final} (l) }}"
    model = onnx_model(text, {"W": W})
    with pytest.raises(lx.UnsupportedOperatorError, match=f"{final}.*drop_final=True.*output='l'"):
        lx.load(model)
    np.testing.assert_allclose(lx.load(model, drop_final=True).evaluate(X), X @ W)


def test_drop_final_and_what_reshapes_it() -> None:
    text = """(double[1,3] x) => (float[2] y) {
        l = MatMul (x, W)
        p = Softmax <axis = 1> (l)
        s = Squeeze (p)
        a = Sigmoid (s)
        c = Cast <to = 1> (a)
        y = Identity (c)
    }"""
    network = lx.load(onnx_model(text, {"W": W}), drop_final=True)
    np.testing.assert_allclose(network.evaluate(X), X @ W)
    assert network.output_shape == (2,)


def test_drop_final_before_a_dynamic_reshape() -> None:
    text = """(double[N,3] x) => (double[N,2] y) {
        l = MatMul (x, W)
        p = Softmax (l)
        s = Shape (p)
        n = Gather (s, zero)
        m = Unsqueeze (n, axes)
        t = Concat <axis = 0> (m, rest)
        y = Reshape (p, t)
    }"""
    constants = {"W": W, "zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    np.testing.assert_allclose(
        lx.load(onnx_model(text, constants), drop_final=True).evaluate(X), X @ W
    )


@pytest.mark.parametrize(
    "body",
    [
        "s = Sigmoid (x)\n y = Concat <axis = 1> (s, x)",
        "s = Sigmoid (x)\n y = Sub (x, s)",
        "s = Sigmoid (x)\n y = Sub (s, x)",
        "s = Sigmoid (x)\n t = Tanh (x)\n y = Concat <axis = 1> (s, t)",
        "s = Sigmoid (x)\n y = Add (x, s)",
        "y = Softmax ()",
    ],
)
def test_drop_final_of_what_is_not_all_that_there_is(body: str) -> None:
    with pytest.raises(lx.ModelError, match="drop_final"):
        lx.load(onnx_model(f"(double[1,3] x) => (double y) {{ {body} }}"), drop_final=True)


def test_drop_final_without_one() -> None:
    model = onnx_model("(double[1,3] x) => (double[1,3] y) { p = Softmax (x)\n y = Relu (p) }")
    with pytest.raises(lx.ModelError, match="'y' ends in Relu"):
        lx.load(model, drop_final=True)
    with pytest.raises(lx.ModelError, match="'x' is an input"):
        lx.load(model, output="x", drop_final=True)


# Branches


def branches(condition: str, **constants: np.ndarray) -> onnx.ModelProto:
    then = "(double[1,3] b) { h = MatMul (x, S)\n b = Relu (h) }"
    other = "(double[1,3] b) { h = Neg (g)\n b = Add (h, k) }"
    text = f"""(double[1,3] x) => (double[1,3] y) {{
        g = Abs (x)
        {condition}
        z = If (c) <then_branch = then () => {then}, else_branch = other () => {other}>
        y = Add (z, x)
    }}"""
    return onnx_model(text, {"S": 2 * np.eye(3), "k": np.ones((1, 3)), **constants})


def test_a_constant_condition_chooses_a_branch() -> None:
    shapes = "s = Shape (x)\n i = Gather (s, one)\n c = Equal (i, length)"
    chosen = lx.load(branches(shapes, one=np.array(1), length=np.array(3)))
    np.testing.assert_allclose(chosen.evaluate(X), 2 * np.maximum(X, 0) + X)
    other = lx.load(branches(shapes, one=np.array(1), length=np.array(4)))
    np.testing.assert_allclose(other.evaluate(X), 1 - np.abs(X) + X)


def test_a_condition_that_depends_on_the_input_is_refused() -> None:
    with pytest.raises(lx.UnsupportedOperatorError):
        lx.load(branches("m = ReduceMax <keepdims = 0> (x)\n c = Cast <to = 9> (m)"))


# What is not computed, and what is too large


def test_a_second_output_that_nobody_computes() -> None:
    model = onnx_model(
        "(double[1,4] x) => (int64[1,2] i) { v, i = TopK (x, k) }", {"k": np.array([2])}
    )
    assert lx.load(model, output="v").output_shape == (2,)
    with pytest.raises(lx.UnsupportedOperatorError, match=r"TopK.*output 'i'"):
        lx.load(model)


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("e = ConstantOfShape (n)\n y = Add (x, e)", {"n": np.array([10**6, 20000])}),
        ("e = Expand (o, n)\n y = Add (x, e)", {"n": np.array([10**6, 20000]), "o": np.ones(1)}),
        ("e = Tile (o, n)\n y = Add (x, e)", {"n": np.array([10**12]), "o": np.ones(1)}),
        (
            "e = Range (zero, n, one)\n y = Add (x, e)",
            {"zero": np.array(0.0), "n": np.array(1e12), "one": np.array(1.0)},
        ),
        (
            "e = MatMul (o, p)\n y = Add (x, e)",
            {"o": np.ones((10**5, 1)), "p": np.ones((1, 10**5))},
        ),
        ("y = MatMul (o, x)", {"o": np.ones((MAX_COEFFICIENTS // 20000 + 1, 1))}),
        ("y = Add (x, o)", {"o": np.ones((MAX_COEFFICIENTS // 20000 + 1, 1))}),
    ],
)
def test_blown_up_tensors_are_refused_before_they_are_made(
    body: str, constants: dict[str, np.ndarray]
) -> None:
    with pytest.raises(lx.UnsupportedOperatorError, match="coefficients"):
        lx.load(onnx_model(f"(double[1,20000] x) => (double y) {{ {body} }}", constants))


def test_a_huge_input_is_refused() -> None:
    with pytest.raises(lx.ModelError, match="more than"):
        lx.load(onnx_model("(double[1,100000,100000] x) => (double y) { y = Relu (x) }"))
