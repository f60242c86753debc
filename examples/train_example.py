"""Train the example network, wine_13_16_16_3.onnx, and check what was written.

A classifier of the wine data set of scikit-learn: 13 measurements, scaled to [0, 1], to 3 cultivars,
with two hidden layers of 16 ReLUs. The seed is fixed; another version of PyTorch may still give other
weights, and with them another constant.

Run: pip install "lipexact[bench]" && python examples/train_example.py
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler

TARGET = Path(__file__).with_name("wine_13_16_16_3.onnx")


def main() -> None:
    """Train, export and report."""
    torch.manual_seed(0)
    data, labels = load_wine(return_X_y=True)
    scaled = MinMaxScaler().fit_transform(data).astype(np.float32)
    train_x, test_x, train_y, test_y = map(
        torch.from_numpy, train_test_split(scaled, labels, test_size=0.25, random_state=0, stratify=labels)
    )
    model = torch.nn.Sequential(
        torch.nn.Linear(13, 16),
        torch.nn.ReLU(),
        torch.nn.Linear(16, 16),
        torch.nn.ReLU(),
        torch.nn.Linear(16, 3),
    )
    # Weight decay keeps the constant, and the time to find it, small.
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-3)
    for _ in range(300):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(train_x), train_y).backward()
        optimizer.step()
    model.eval()
    accuracy = (model(test_x).argmax(dim=1) == test_y).double().mean().item()

    with warnings.catch_warnings():
        # The newer exporter needs a further package; this one says that it is the older one.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (test_x[:1],),
            TARGET,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        )
    onnx.checker.check_model(onnx.load(TARGET), full_check=True)
    print(f"{TARGET.name}: accuracy {accuracy:.3f} on {len(test_y)} test points, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
