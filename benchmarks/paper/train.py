"""Train the networks of the paper's experiments.

Run it by `python -m benchmarks.paper.train [synthetic] [epochs]`.

The data are those of the paper's authors' scripts: random points of the unit cube, some of them
leaders of a random class each, the others of the class of the nearest leader. Adam at 1e-3, batches
of 128, cross-entropy.

* synthetic (Table 1): ten networks 10-20-30-20-2 on 1,000 points with 50 leaders, 500 epochs;
* epochs (Figure 1): 2-20-40-20-2 on 256 points with ten leaders, 500 epochs, kept after some of
  them, with each
  regulariser of :data:`REGULARISERS`, in three seeds.

The seeds are fixed; another version of PyTorch may still give other weights.

Run: pip install "lipexact[bench]" && python -m benchmarks.paper.train
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.paper import archive
from benchmarks.train import exported, perceptron

BATCH = 128
KEPT = (0, 25, 50, 100, 200, 300, 400, 500)
Loss = Callable[[nn.Sequential, torch.Tensor, torch.Tensor], torch.Tensor]


def clusters(
    dim: int, points: int, leaders: int, apart: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of the unit cube, no two of them closer than `apart`, and their classes, 0 or 1."""
    rng = np.random.default_rng(seed)
    chosen = np.empty((0, dim))
    while len(chosen) < points:
        point = rng.random(dim)
        if not len(chosen) or np.linalg.norm(chosen - point, axis=1).min() >= apart:
            chosen = np.vstack([chosen, point])
    classes = rng.permutation(np.arange(leaders) % 2)  # half of the leaders each
    nearest = np.linalg.norm(chosen[:, None] - chosen[None, :leaders], axis=2).argmin(axis=1)
    return torch.tensor(chosen, dtype=torch.float32), torch.tensor(classes[nearest])


def plain(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cross-entropy."""
    return cross_entropy(model(x), y)


def weights(order: float, scale: float) -> Loss:
    """And the norms of the weights: the sums over all entries of |w|, or the Frobenius norms."""

    def loss(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        norms = [
            layer.weight.flatten().norm(order) for layer in model if isinstance(layer, nn.Linear)
        ]
        return plain(model, x, y) + scale * torch.stack(norms).sum()

    return loss


def attacked(radius: float) -> Loss:
    """Return the cross-entropy at points moved by the sign of its gradient (FGSM).

    Source: Goodfellow, Shlens and Szegedy, ICLR 2015.
    """

    def loss(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        moved = x.clone().requires_grad_(requires_grad=True)
        (gradient,) = torch.autograd.grad(plain(model, moved, y), moved)
        return plain(model, (x + radius * gradient.sign()).clamp(0, 1), y)

    return loss


def gradients(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Add the mean and the largest l1 norm of the gradients in the batch.

    Source: Finlay, Oberman and Abbasi, 2018.
    """
    watched = x.clone().requires_grad_(requires_grad=True)
    loss = plain(model, watched, y)
    (gradient,) = torch.autograd.grad(loss, watched, create_graph=True)
    norms = gradient.abs().sum(dim=1)
    return loss + 0.1 * norms.mean() + 0.1 * norms.max()


# The strengths of the authors' scripts, which leave some of these networks constant, and milder
# ones.
REGULARISERS: Mapping[str, Loss] = {
    "none": plain,
    "l1 weights": weights(1, 1e-3),
    "l2 weights": weights(2, 1e-2),
    "FGSM": attacked(0.1),
    "gradient": gradients,
    "mild l1 weights": weights(1, 1e-4),
    "mild l2 weights": weights(2, 1e-3),
    "mild FGSM": attacked(0.02),
}


def trained(
    model: nn.Sequential, x: torch.Tensor, y: torch.Tensor, loss: Loss, epochs: int
) -> Iterator[tuple[int, float]]:
    """Train, and yield each epoch's number with the share of points in the right class."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(epochs + 1):
        with torch.no_grad():
            yield epoch, (model(x).argmax(dim=1) == y).double().mean().item()
        for batch in torch.split(torch.randperm(len(x)), BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(loss(model, x[batch], y[batch]))
            optimizer.step()


def synthetic() -> None:
    """Train the networks of Table 1."""
    files, known = {}, {}
    for seed in range(10):
        x, y = clusters(10, 1000, 50, 0.1, seed)
        model = perceptron((10, 20, 30, 20, 2), seed)
        *_, (_, right) = trained(model, x, y, plain, 500)
        name = f"synthetic_{seed}"
        files[name], known[name] = exported(model), {"seed": seed, "accuracy": right}
        print(name, known[name], flush=True)
    archive.write("paper_synthetic", files, known)


def epochs() -> None:
    """Train the networks of Figure 1."""
    files, known = {}, {}
    for seed in range(3):
        x, y = clusters(2, 256, 10, 0.02, seed)
        for regulariser, loss in REGULARISERS.items():
            model = perceptron((2, 20, 40, 20, 2), seed)
            for epoch, right in trained(model, x, y, loss, KEPT[-1]):
                if epoch in KEPT:
                    name = f"{regulariser.replace(' ', '_')}_{seed}_{epoch:03d}"
                    files[name] = exported(model)
                    known[name] = {
                        "regulariser": regulariser,
                        "seed": seed,
                        "epoch": epoch,
                        "accuracy": right,
                    }
            print(name, known[name], flush=True)
    archive.write("paper_epochs", files, known)


MADE: Mapping[str, Callable[[], None]] = {"synthetic": synthetic, "epochs": epochs}


def main(arguments: Sequence[str] | None = None) -> None:
    """Those that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper.train", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of {', '.join(MADE)}; all by default")
    for name in parser.parse_args(arguments).name or MADE:
        MADE[name]()


if __name__ == "__main__":
    main()
