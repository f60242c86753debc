"""The benchmark cases: one function each, registered under its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

import lipexact as lx

EXAMPLES = Path(__file__).parent.parent / "examples"
NETWORKS = Path(__file__).parent / "networks"


@dataclass(frozen=True)
class Case:
    """A question to :func:`lipexact.lipschitz`."""

    model: lx.Network
    domain: lx.Domain
    functional: Sequence[float] | lx.CrossLipschitz | None = None
    input_norm: str = "linf"
    output_norm: str | None = None
    solvers: Sequence[str] = ("highs", "scip", "cbc", "gurobi")


CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    """Register a case under its function's name."""
    CASES[make.__name__] = make
    return make


def trained_network(model: str, input_norm: str = "linf") -> Case:
    """A network of `networks/`, on the box for which `constants.json` knows its constants."""
    known = next(
        entry for entry in json.loads((NETWORKS / "constants.json").read_text()) if entry["model"] == f"{model}.onnx"
    )
    return Case(lx.load(NETWORKS / known["model"]), lx.Box(known["lower"], known["upper"]), (1, -1), input_norm)


def random_network(sizes: Sequence[int], seed: int) -> lx.Network:
    """Gaussian weights and biases, ReLUs between the layers of the given widths."""
    rng = np.random.default_rng(seed)
    layers = [
        (rng.normal(size=(rows, columns)) * np.sqrt(2 / columns), rng.normal(size=rows))
        for columns, rows in pairwise(sizes)
    ]
    return lx.Network.from_layers(layers, "random_" + "_".join(map(str, sizes)))


@case
def wine_13_16_16_3() -> Case:
    """The example network, trained, on all of its inputs."""
    return Case(lx.load(EXAMPLES / "wine_13_16_16_3.onnx"), lx.Box.unit(13), (1, -1, 0))


@case
def random_4_8_8_2() -> Case:
    """Few inputs, all of them moving far: most gates are open."""
    return Case(random_network((4, 8, 8, 2), seed=0), lx.Box([-1.0] * 4, [1.0] * 4), (1, -1))


@case
def random_64_16_16_2() -> Case:
    """Many inputs in a small ball: few gates are open, and reverse mode has many signs to settle."""
    return Case(random_network((64, 16, 16, 2), seed=0), lx.Ball([0.0] * 64, radius=0.05), (1, -1))


@case
def random_64_16_16_2_l1() -> Case:
    """The same network with the norm l1 on its inputs."""
    return Case(random_network((64, 16, 16, 2), seed=0), lx.Ball([0.0] * 64, radius=0.05), (1, -1), "l1")


@case
def digits17_64_20_20_20_2() -> Case:
    """Trained to tell the digits 1 and 7 apart, 8 by 8 pixels, in a ball of radius 0.1."""
    return trained_network("digits17_64_20_20_20_2")


@case
def digits17_64_20_20_20_2_l1() -> Case:
    """The same network with the norm l1 on its inputs."""
    return trained_network("digits17_64_20_20_20_2", "l1")


@case
def synthetic_2_20_40_20_2() -> Case:
    """Trained on points of the unit square; the box is all of it."""
    return trained_network("synthetic_2_20_40_20_2")


@case
def synthetic_10_20_30_20_2() -> Case:
    """Trained on points of the unit cube in 10 dimensions, where most gates are open: half a minute or more."""
    return trained_network("synthetic_10_20_30_20_2")


@case
def mnist17_784_20_20_20_2() -> Case:
    """Trained on MNIST's digits 1 and 7, in a ball of radius 0.1."""
    return trained_network("mnist17_784_20_20_20_2")


@case
def wine_groupsort_13_16_16_3() -> Case:
    """GroupSort in pairs, trained: a gate for each pair, on a ball."""
    return Case(lx.load(EXAMPLES / "wine_groupsort_13_16_16_3.onnx"), lx.Ball([0.5] * 13, 0.1), (1, -1, 0))


@case
def digits_residual_8x8() -> Case:
    """Convolutions around a residual connection, batch normalisation and average pooling, trained on 8 by 8 pixels."""
    margin = [0.0, 1.0, *[0.0] * 5, -1.0, 0.0, 0.0]
    return Case(lx.load(EXAMPLES / "digits_residual_8x8.onnx"), lx.Ball([0.5] * 64, 0.02, clip=(0, 1)), margin)


@case
def wine_13_16_16_3_cross() -> Case:
    """All differences of two outputs."""
    return Case(lx.load(EXAMPLES / "wine_13_16_16_3.onnx"), lx.Ball([0.5] * 13, 0.2), lx.CrossLipschitz())


@case
def wine_13_16_16_3_l1_linf() -> Case:
    """The largest entry of the Jacobian, on a ball of the norm l1."""
    ball = lx.Ball([0.5] * 13, 1.0, norm="l1", clip=(0, 1))
    return Case(lx.load(EXAMPLES / "wine_13_16_16_3.onnx"), ball, input_norm="l1", output_norm="linf")


@case
def wine_13_16_16_3_l2() -> Case:
    """One functional in the Euclidean norm: a quadratic program."""
    ball = lx.Ball([0.5] * 13, 0.1)
    return Case(lx.load(EXAMPLES / "wine_13_16_16_3.onnx"), ball, (1, -1, 0), "l2", solvers=("scip", "gurobi"))


@case
def random_30_16_16_4_linf() -> Case:
    """The whole output of a network with many inputs in a small ball."""
    return Case(random_network((30, 16, 16, 4), seed=0), lx.Ball([0.0] * 30, radius=0.05))


@case
def random_10_20_10_cross() -> Case:
    """Ten classes, and so 45 differences."""
    return Case(random_network((10, 20, 10), seed=0), lx.Ball([0.0] * 10, radius=0.1), lx.CrossLipschitz())
