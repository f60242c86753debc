"""Train the example networks and check what was written.

* wine_13_16_16_3.onnx: scikit-learn's wine data, 13 measurements scaled to [0, 1], to 3 cultivars,
  with two hidden
  layers of 16 ReLUs;
* wine_groupsort_13_16_16_3.onnx: the same with GroupSort in pairs instead of ReLU (Anil, Lucas and
  Grosse, ICML 2019),
  which PyTorch exports as Reshape and TopK;
* digits_residual_8x8.onnx: scikit-learn's digits, 8 by 8 pixels scaled to [0, 1], with a
  convolution, a residual block
  of two, batch normalisation and average pooling, to 10 classes.

The seeds are fixed; another version of PyTorch may still give other weights, and with them other
constants.

Run: pip install "lipexact[bench]" && python examples/train_example.py
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits, load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler
from torch import nn

FOLDER = Path(__file__).parent
Data = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class GroupSort(nn.Module):
    """Sorts each pair of neighbouring neurons."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (batch, features) to the same."""
        return x.view(x.shape[0], -1, 2).sort(dim=-1).values.view(x.shape)


class Residual(nn.Module):
    """relu(x + block(x)) for a block of two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (batch, channels, height, width) to the same."""
        return torch.relu(x + self.block(x))


def wine() -> Data:
    """178 wines: train and test points and labels."""
    data, labels = load_wine(return_X_y=True)
    return _split(MinMaxScaler().fit_transform(data), labels)


def digits() -> Data:
    """1797 digits, as images of one channel."""
    data, labels = load_digits(return_X_y=True)
    return _split((data / 16).reshape(-1, 1, 8, 8), labels)


def perceptron(activation: type[nn.Module]) -> nn.Module:
    """13-16-16-3."""
    return nn.Sequential(
        nn.Linear(13, 16), activation(), nn.Linear(16, 16), activation(), nn.Linear(16, 3)
    )


def residual() -> nn.Module:
    """Four channels of 4 by 4 pixels between a strided convolution and average pooling."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        Residual(4),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def train(name: str, make: Callable[[], nn.Module], data: Data, epochs: int) -> None:
    """Train, export and report."""
    torch.manual_seed(0)
    model = make()
    train_x, train_y, test_x, test_y = data
    # Weight decay keeps the constant, and the time to find it, small.
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-3)
    for _ in range(epochs):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(train_x), train_y).backward()
        optimizer.step()
    model.eval()
    accuracy = (model(test_x).argmax(dim=1) == test_y).double().mean().item()

    target = FOLDER / f"{name}.onnx"
    with warnings.catch_warnings():
        # The newer exporter needs a further package; this one says that it is the older one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (test_x[:1],),
            target,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        )
    onnx.checker.check_model(onnx.load(target), full_check=True)
    print(
        f"{target.name}: accuracy {accuracy:.3f} on {len(test_y)} test points, "
        f"{target.stat().st_size} bytes"
    )


def _split(data: np.ndarray, labels: np.ndarray) -> Data:
    parts = train_test_split(
        data.astype(np.float32), labels, test_size=0.25, random_state=0, stratify=labels
    )
    train_x, test_x, train_y, test_y = map(torch.from_numpy, parts)
    return train_x, train_y, test_x, test_y


def main() -> None:
    """All three."""
    train("wine_13_16_16_3", lambda: perceptron(nn.ReLU), wine(), 300)
    train("wine_groupsort_13_16_16_3", lambda: perceptron(GroupSort), wine(), 300)
    train("digits_residual_8x8", residual, digits(), 300)


if __name__ == "__main__":
    main()
