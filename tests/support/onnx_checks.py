"""What holds of every network that is read from a file."""

from __future__ import annotations

import re

import numpy as np
import onnx

from lipexact.network import Network
from tests.support.onnx_files import reference


def assert_agrees(
    network: Network, model: onnx.ModelProto, points: np.ndarray, tolerance: float = 1e-12
) -> None:
    """The network and the model have the same values; `points` are inputs with their batch axis."""
    expected = reference(model, points)
    found = network.evaluate(points.reshape(len(points), -1))
    np.testing.assert_allclose(
        found, expected, rtol=tolerance, atol=tolerance * max(1.0, np.abs(expected).max())
    )


def assert_jacobian(network: Network, points: np.ndarray) -> None:
    """The Jacobian is that of central differences, where no kink lies within the step."""
    step = 1e-6
    for point in points.reshape(len(points), -1):
        steps = step * np.eye(point.size)
        differences = (network.evaluate(point + steps) - network.evaluate(point - steps)).T / (
            2 * step
        )
        np.testing.assert_allclose(
            network.jacobian(point), differences, atol=1e-8 * max(1.0, np.abs(differences).max())
        )


def assert_names(network: Network) -> None:
    names = [node.name for node in network.graph.nodes]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) for name in names)
