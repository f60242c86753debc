"""What holds of every network that is read from a file."""

from __future__ import annotations

import re

import numpy as np

from lipexact.network import Network


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
