"""Make the networks of the cases that none of the other scripts made.

Run it by `python -m benchmarks.train [NAME ...]`.

* mnist17_seed0_784_20_20_20_2: MNIST's digits 1 and 7, Adam at 1e-3, batches of 100, cross-entropy,
  as many steps as ten epochs of all 13,007 training digits would take; with it the 20 test digits
  of `data/mnist17_points.npz`. With --full all of MNIST's digits 1 and 7 take the place of those in
  `data/`: scikit-learn fetches them from OpenML;
* untrained_10_20_30_20_2_seed0 to _seed2: PyTorch's default initialisation, no training;
* regression_9_16_16_1: Friedman's first function of five of nine inputs, with noise;
* regression_11_24_24_1: scores of 11 measurements, like those of wines: rounded, with saturation
  and noise.

The seeds are fixed; another version of PyTorch may still give other weights, and with them other
constants.

Run: pip install "lipexact[bench]" && python -m benchmarks.train
"""

from __future__ import annotations

import argparse
import io
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import fetch_openml, make_friedman1
from torch import nn

FOLDER = Path(__file__).parent
NETWORKS, DATA = FOLDER / "networks", FOLDER / "data"
BATCH = 100
TESTED, POINTS = 500, 20

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def perceptron(sizes: Sequence[int], seed: int) -> nn.Sequential:
    """ReLUs between linear layers of PyTorch's default initialisation."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for columns, rows in pairwise(sizes):
        layers += [nn.Linear(columns, rows), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def fit(model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Loss, epochs: int) -> None:
    """Adam at 1e-3 over shuffled batches."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(x)), BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(loss(model(x[batch]), y[batch]))
            optimizer.step()


def exported(model: nn.Sequential) -> bytes:
    """Return the network as an ONNX file."""
    first = model[0]
    assert isinstance(first, nn.Linear)
    target = io.BytesIO()
    with warnings.catch_warnings():
        # The newer exporter needs a further package; this one says that it is the older one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(1, first.in_features),),
            target,  # type: ignore[arg-type] # its stubs know file names only
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        )
    return target.getvalue()


def save(model: nn.Sequential, name: str, told: str) -> None:
    """Write the network, and say how good it is."""
    data = exported(model)
    (NETWORKS / f"{name}.onnx").write_bytes(data)
    print(f"{name}.onnx: {told}, {len(data)} bytes")


def all_of_mnist() -> dict[str, npt.NDArray[np.uint8]]:
    """MNIST's 15,170 digits 1 and 7, fetched from OpenML."""
    pixels, digits = fetch_openml("mnist_784", version=1, as_frame=False, return_X_y=True)
    wanted = np.isin(digits, ["1", "7"])
    return {"x": pixels[wanted].astype(np.uint8), "y": digits[wanted].astype(np.uint8)}


def mnist17(*, full: bool = False) -> None:
    """Train the network, and keep the points around which its constants are asked."""
    data = all_of_mnist() if full else np.load(DATA / "mnist_1_vs_7.npz")
    order = np.random.default_rng(0).permutation(len(data["y"]))
    test, train = order[:TESTED], order[TESTED:]
    np.savez_compressed(
        DATA / "mnist17_points.npz", x=data["x"][test[:POINTS]], y=data["y"][test[:POINTS]]
    )
    x = torch.tensor(data["x"] / 255, dtype=torch.float32)
    y = torch.tensor((data["y"] == 7).astype(np.int64))
    model = perceptron((784, 20, 20, 20, 2), seed=0)
    fit(model, x[train], y[train], nn.functional.cross_entropy, epochs=10 * 13007 // len(train))
    right = (model(x[test]).argmax(dim=1) == y[test]).double().mean().item()
    save(model, "mnist17_seed0_784_20_20_20_2", f"{right:.3f} of {TESTED} test digits right")


def untrained() -> None:
    """Three networks as they are before training."""
    for seed in range(3):
        save(
            perceptron((10, 20, 30, 20, 2), seed),
            f"untrained_10_20_30_20_2_seed{seed}",
            "not trained",
        )


def friedman() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Nine inputs, uniform, standardised; the target standardised too."""
    x, y = make_friedman1(n_samples=2000, n_features=9, noise=1.0, random_state=0)
    return (x - 0.5) * np.sqrt(12), (y - y.mean()) / y.std()


def scores() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """11 correlated measurements, and a score from 0 to 10 for each row, standardised."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 11)) @ (np.eye(11) + 0.2 * rng.normal(size=(11, 11)))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    taste = (
        0.5 * x[:, 10]
        - 0.4 * x[:, 1]
        + 0.4 * np.tanh(2 * x[:, 9])
        - 0.3 * np.abs(x[:, 8])
        + 0.2 * x[:, 5] * x[:, 6]
    )
    y = np.clip(np.rint(6 + taste + 0.5 * rng.normal(size=2000)), 0, 10)
    return x, (y - y.mean()) / y.std()


def regression(
    sizes: Sequence[int],
    data: Callable[[], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]],
) -> None:
    """100 epochs on three quarters of the data."""
    x, y = (torch.tensor(part, dtype=torch.float32) for part in data())
    split = 3 * len(x) // 4
    model = perceptron(sizes, seed=0)
    fit(model, x[:split], y[:split, None], nn.functional.mse_loss, epochs=100)
    error = nn.functional.mse_loss(model(x[split:]), y[split:, None]).item()
    save(
        model,
        "regression_" + "_".join(map(str, sizes)),
        f"{1 - error:.3f} of the variance of the test points explained",
    )


MADE: dict[str, Callable[[], None]] = {
    "mnist17": mnist17,
    "untrained": untrained,
    "regression_9": lambda: regression((9, 16, 16, 1), friedman),
    "regression_11": lambda: regression((11, 24, 24, 1), scores),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Those that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(MADE)}; all by default")
    parser.add_argument(
        "--full", action="store_true", help="train mnist17 on all of MNIST's digits 1 and 7"
    )
    options = parser.parse_args(arguments)
    for name in options.name or MADE:
        mnist17(full=options.full) if name == "mnist17" else MADE[name]()


if __name__ == "__main__":
    main()
