"""Files that real exporters wrote (fixtures/make_fixtures.py), against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

import lipexact as lx
from tests.support.onnx_checks import assert_jacobian, assert_names
from tests.support.paths import FIXTURES

EXPECTED = np.load(FIXTURES / "expected.npz")
FILES = sorted(path.stem for path in FIXTURES.glob("*.onnx"))

# Classifiers up to their logits; the binary one of scikit-learn has one logit.
CLASSIFIERS = {
    "dynamo_classifier": None,
    "keras_classifier": None,
    "sklearn_classifier": 1,
    "sklearn_classifier_arrays": 1,
    "sklearn_classifier_binary": 1,
    "tf2onnx_classifier": None,
    "torch_classifier": None,
}
TWO = {"dynamo_two": ("x", "z"), "torch_two": ("x0", "x1")}
REFUSED = {
    "dynamo_where": "Greater",
    "torch_where": "Greater",
}
PLAIN = [name for name in FILES if name not in {*CLASSIFIERS, *TWO, *REFUSED}]


def points_of(name: str, number: int = 0) -> np.ndarray:
    return EXPECTED[f"{name}/input{number}"]


def assert_values(network: lx.Network, points: np.ndarray, expected: np.ndarray) -> None:
    found = network.evaluate(points.reshape(len(points), -1))
    expected = expected.reshape(len(points), -1).astype(np.float64)
    np.testing.assert_allclose(
        found, expected, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(expected).max())
    )


@pytest.mark.parametrize("name", PLAIN)
def test_values_and_derivatives(name: str) -> None:
    network = lx.load(FIXTURES / f"{name}.onnx")
    assert network.relus > 0
    points = points_of(name)
    assert_values(network, points, EXPECTED[f"{name}/output0"])
    # Not at the points themselves: some of them are on kinks.
    assert_jacobian(
        network,
        points.astype(np.float64) + 0.01 * np.cos(np.arange(points.size)).reshape(points.shape),
    )
    assert_names(network)


@pytest.mark.parametrize(("name", "probabilities"), CLASSIFIERS.items())
def test_classifiers_up_to_their_logits(name: str, probabilities: int | None) -> None:
    path = FIXTURES / f"{name}.onnx"
    with pytest.raises(lx.LipExactError, match=r"drop_final=True|output="):
        lx.load(path)
    output = None
    if probabilities is not None:
        output = (
            ("label", "output_label")["arrays" not in name],
            ("probabilities", "output_probability")["arrays" not in name],
        )
        label = lx.load(path, output=output[0], drop_final=True)
        output = output[1]
    network = lx.load(path, output=output, drop_final=True)
    points = points_of(name)
    logits = network.evaluate(points.reshape(len(points), -1))
    if logits.shape[1] == 1:  # one minus the Sigmoid, and the Sigmoid
        logits = np.hstack([np.zeros_like(logits), logits])
    found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        found, EXPECTED[f"{name}/output{probabilities or 0}"][:, 0], atol=1e-5
    )
    if probabilities is not None:
        np.testing.assert_array_equal(
            label.evaluate(points.reshape(len(points), -1)),
            network.evaluate(points.reshape(len(points), -1)),
        )


@pytest.mark.parametrize(("name", "inputs"), TWO.items())
def test_two_inputs_and_two_outputs(name: str, inputs: tuple[str, str]) -> None:
    path = FIXTURES / f"{name}.onnx"
    with pytest.raises(lx.ModelError, match="2 outputs"):
        lx.load(path)
    outputs = {"dynamo_two": ("linear_2", "sub_7"), "torch_two": ("y0", "y1")}[name]
    for number, output in enumerate(outputs):
        with pytest.raises(lx.ModelError, match="2 inputs"):
            lx.load(path, output=output)
        expected = EXPECTED[f"{name}/output{number}"]
        for free, held in ((0, 1), (1, 0)):
            for k, fixed in enumerate(points_of(name, held)):
                network = lx.load(
                    path, output=output, input=inputs[free], fixed={inputs[held]: fixed}
                )
                assert_values(network, points_of(name, free)[k : k + 1], expected[k : k + 1])


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_refused(name: str, reason: str) -> None:
    with pytest.raises(lx.UnsupportedOperatorError, match=reason):
        lx.load(FIXTURES / f"{name}.onnx")


@pytest.mark.parametrize("name", ["torch_maxmin", "dynamo_maxmin"])
def test_max_and_min_of_a_pair_share_their_gate(name: str) -> None:
    assert lx.load(FIXTURES / f"{name}.onnx").relus == 6


def test_an_exact_constant_of_a_convolutional_network() -> None:
    """MaxPool, BatchNormalization, average pooling: gradients at points stay below the constant."""
    network = lx.load(FIXTURES / "torch_residual.onnx")
    center = points_of("torch_residual")[0].ravel().astype(np.float64)
    result = lx.lipschitz(network, lx.Ball(center, 0.02), functional=0)
    assert result.status is lx.Status.EXACT
    points = center + np.random.default_rng(0).uniform(-0.02, 0.02, (2000, center.size))
    sampled = np.abs(network.jacobian(points)[:, 0]).sum(axis=1).max()
    assert result.value >= sampled * (1 - 1e-9)
    assert np.abs(result.witness.jacobian[0]).sum() == pytest.approx(result.value)
