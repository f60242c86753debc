"""The benchmark cases: one function each, registered under its name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np

import lipexact as lx

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
NETWORKS = Path(__file__).parent / "networks"
DATA = Path(__file__).parent / "data"
KNOWN = Path(__file__).parent / "known.json"
# Networks of others, which the project does not carry: cases of them are skipped where they are
# missing.
SHARED = Path(os.environ.get("LIPEXACT_CASES", ROOT.parent / "shared" / "cases"))


class Skipped(Exception):  # noqa: N818 - not an error
    """A case that cannot be asked here; the message says why."""


@dataclass(frozen=True)
class Case:
    """A question to :func:`lipexact.lipschitz`.

    Attributes
    ----------
    model, domain, functional, input_norm, output_norm
        As for that function.
    known
        The constant, where it is known.
    """

    model: lx.Network | Path
    domain: lx.Domain
    functional: Sequence[float] | lx.CrossLipschitz | None = None
    input_norm: str = "linf"
    output_norm: str | None = None
    known: float | None = None

    @property
    def solvers(self) -> Sequence[str]:
        """Those that can answer by a program (method "mip"); the first by default."""
        from lipexact.mip.solvers.base import (  # noqa: PLC0415 - Pyomo's import is long
            quadratic_solvers,
            solver_names,
        )

        is_quadratic = "l2" in (self.input_norm, self.output_norm)
        return quadratic_solvers() if is_quadratic else solver_names()


@dataclass(frozen=True)
class Peer:
    """The fastest other program on a case: what it was, and its seconds, or why there are none.

    For a family of cases the seconds are the mean.
    """

    name: str
    seconds: float | None
    note: str = ""


@dataclass(frozen=True)
class Entry:
    """A registered case, or one member of a family of alike cases."""

    make: Callable[[], Case]
    about: str
    family: str
    member: int = 0
    peer: Peer | None = None


CASES: dict[str, Entry] = {}
LIPMIP = "LipMIP, Gurobi 13 on 2 threads"
LIPBAB = Peer("LipBaB", 0.3)


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    """Register a case under its function's name."""
    return beside(None)(make)


def beside(peer: Peer | None) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    """Register a case that another program was measured on."""

    def register(make: Callable[[], Case]) -> Callable[[], Case]:
        CASES[make.__name__] = Entry(make, _about(make), make.__name__, peer=peer)
        return make

    return register


def family(
    count: int, peer: Peer | None
) -> Callable[[Callable[[int], Case]], Callable[[int], Case]]:
    """Register a function of 0 to count - 1 as that many cases, which reports count as one."""

    def register(make: Callable[[int], Case]) -> Callable[[int], Case]:
        for member in range(count):
            name = f"{make.__name__}_{member:0{len(str(count - 1))}}"
            CASES[name] = Entry(partial(make, member), _about(make), make.__name__, member, peer)
        return make

    return register


def _about(make: Callable[..., Case]) -> str:
    return (make.__doc__ or "").partition("\n")[0]


@cache
def known_constants() -> dict[str, float]:
    """By the names of cases."""
    constants: dict[str, float] = json.loads(KNOWN.read_text())
    return constants


def question(name: str) -> Case:
    """Return a registered case.

    Raises
    ------
    Skipped
        If what it asks about is not here.
    """
    return CASES[name].make()


def known(name: str, asked: Case) -> float | None:
    """Its constant, if that is known."""
    return known_constants().get(name) if asked.known is None else asked.known


def boxed_network(file: Path, model: str, input_norm: str, output_norm: str | None = None) -> Case:
    """Return a network on its box in a file of constants; no output norm means c = (1, -1)."""
    entry = next(
        entry for entry in json.loads(file.read_text()) if entry["model"] == f"{model}.onnx"
    )
    values = {(one["input_norm"], one["output_norm"]): one["value"] for one in entry["constants"]}
    return Case(
        file.parent / entry["model"],
        lx.Box(entry["lower"], entry["upper"]),
        (1, -1) if output_norm is None else None,
        input_norm,
        output_norm,
        known=values.get((input_norm, output_norm)),
    )


def trained_network(model: str, input_norm: str = "linf") -> Case:
    """Return a network of `networks/`, on its box."""
    return boxed_network(NETWORKS / "constants.json", model, input_norm)


def shared_network(model: str, norm: str) -> Case:
    """Return a network of others on its box, its whole output, in one norm."""
    file = SHARED / "expected.json"
    if not (file.is_file() and (SHARED / f"{model}.onnx").is_file()):
        raise Skipped(f"{model}.onnx is not here: LIPEXACT_CASES names its folder")
    return boxed_network(file, model, norm, norm)


def global_constant(model: str, dim: int) -> Case:
    """Return a network of `networks/` on all of R^d, in the Euclidean norm."""
    return Case(NETWORKS / f"{model}.onnx", lx.Reals(dim), input_norm="l2")


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
    """Return the example network, trained, on all of its inputs."""
    return Case(EXAMPLES / "wine_13_16_16_3.onnx", lx.Box.unit(13), (1, -1, 0))


@case
def random_4_8_8_2() -> Case:
    """Few inputs, all of them moving far: most gates are open."""
    return Case(random_network((4, 8, 8, 2), seed=0), lx.Box([-1.0] * 4, [1.0] * 4), (1, -1))


@case
def random_64_16_16_2() -> Case:
    """Many inputs in a small ball.

    Few gates are open, and reverse mode has many signs to settle.
    """
    return Case(random_network((64, 16, 16, 2), seed=0), lx.Ball([0.0] * 64, radius=0.05), (1, -1))


@case
def random_64_16_16_2_l1() -> Case:
    """Return the same network with the norm l1 on its inputs."""
    return Case(
        random_network((64, 16, 16, 2), seed=0), lx.Ball([0.0] * 64, radius=0.05), (1, -1), "l1"
    )


@beside(Peer(LIPMIP, 22.3))
def digits17_64_20_20_20_2() -> Case:
    """Trained to tell the digits 1 and 7 apart, 8 by 8 pixels, in a ball of radius 0.1."""
    return trained_network("digits17_64_20_20_20_2")


@case
def digits17_64_20_20_20_2_l1() -> Case:
    """Return the same network with the norm l1 on its inputs."""
    return trained_network("digits17_64_20_20_20_2", "l1")


@beside(Peer(LIPMIP, 6.2))
def synthetic_2_20_40_20_2() -> Case:
    """Trained on points of the unit square; the box is all of it."""
    return trained_network("synthetic_2_20_40_20_2")


@beside(Peer(LIPMIP, 35.8))
def synthetic_10_20_30_20_2() -> Case:
    """Trained on points of the unit cube in 10 dimensions, where most gates are open.

    Half a minute or more.
    """
    return trained_network("synthetic_10_20_30_20_2")


@case
def synthetic_10_wide() -> Case:
    """Return the network in a ball of radius 1.5 around the middle of its cube: minutes of work."""
    return replace(synthetic_10_20_30_20_2(), domain=lx.Ball(np.full(10, 0.5), 1.5), known=None)


@case
def mnist17_784_20_20_20_2() -> Case:
    """Trained on MNIST's digits 1 and 7, in a ball of radius 0.1."""
    return trained_network("mnist17_784_20_20_20_2")


@family(20, Peer("LipMIP, Gurobi, the paper's networks and machine", 69.0, "mean of 20 balls"))
def mnist17_ball(member: int) -> Case:
    """MNIST's digits 1 and 7, 784-20-20-20-2, in a ball of radius 0.1, not clipped.

    Around a test digit.
    """
    center = np.load(DATA / "mnist17_points.npz")["x"][member] / 255
    return Case(NETWORKS / "mnist17_seed0_784_20_20_20_2.onnx", lx.Ball(center, 0.1), (1, -1))


@family(3, Peer(LIPMIP, None, "[0.39, 3.9] after 300 s, seed 0"))
def untrained_10_20_30_20_2(member: int) -> Case:
    """PyTorch's default initialisation, not trained, on the unit cube.

    Nearly all gates are open.
    """
    return Case(NETWORKS / f"untrained_10_20_30_20_2_seed{member}.onnx", lx.Box.unit(10), (1, -1))


@beside(Peer("ExLipBaB, its own network of this shape", 104.0))
def regression_9_16_16_1() -> Case:
    """Trained on Friedman's first function: the global constant in the Euclidean norm."""
    return global_constant("regression_9_16_16_1", 9)


@beside(Peer("ExLipBaB, its own network of this shape", None, "no answer"))
def regression_11_24_24_1() -> Case:
    """Trained on scores of 11 measurements: the global constant in the Euclidean norm."""
    return global_constant("regression_11_24_24_1", 11)


@beside(LIPBAB)
def sd_10_15_10_3_linf() -> Case:
    """Return a classifier of LipBaB's authors, whole output."""
    return shared_network("sd_10_15_10_3", "linf")


@beside(LIPBAB)
def sd_10_15_10_3_l1() -> Case:
    """Return the same network in the norm l1."""
    return shared_network("sd_10_15_10_3", "l1")


@beside(LIPBAB)
def sd_10_15_10_3_l2() -> Case:
    """Return the same network in the Euclidean norm."""
    return shared_network("sd_10_15_10_3", "l2")


@case
def iris_4_5_5_3() -> Case:
    """LipBaB's classifier of irises, whole output."""
    return shared_network("iris_4_5_5_3", "linf")


@case
def wine_groupsort_13_16_16_3() -> Case:
    """GroupSort in pairs, trained: a gate for each pair, on a ball."""
    return Case(EXAMPLES / "wine_groupsort_13_16_16_3.onnx", lx.Ball([0.5] * 13, 0.1), (1, -1, 0))


@case
def digits_residual_8x8() -> Case:
    """Convolutions around a residual connection, batch normalisation and average pooling.

    Trained on 8 by 8 pixels.
    """
    margin = [0.0, 1.0, *[0.0] * 5, -1.0, 0.0, 0.0]
    return Case(
        EXAMPLES / "digits_residual_8x8.onnx", lx.Ball([0.5] * 64, 0.02, clip=(0, 1)), margin
    )


@case
def wine_13_16_16_3_cross() -> Case:
    """All differences of two outputs."""
    return Case(EXAMPLES / "wine_13_16_16_3.onnx", lx.Ball([0.5] * 13, 0.2), lx.CrossLipschitz())


@case
def wine_13_16_16_3_l1_linf() -> Case:
    """Return the largest entry of the Jacobian, on a ball of the norm l1."""
    ball = lx.Ball([0.5] * 13, 1.0, norm="l1", clip=(0, 1))
    return Case(EXAMPLES / "wine_13_16_16_3.onnx", ball, input_norm="l1", output_norm="linf")


@case
def wine_13_16_16_3_l2() -> Case:
    """One functional in the Euclidean norm: a quadratic program."""
    ball = lx.Ball([0.5] * 13, 0.1)
    return Case(EXAMPLES / "wine_13_16_16_3.onnx", ball, (1, -1, 0), "l2")


@case
def random_30_16_16_4_linf() -> Case:
    """Return the whole output of a network with many inputs in a small ball."""
    return Case(random_network((30, 16, 16, 4), seed=0), lx.Ball([0.0] * 30, radius=0.05))


@case
def random_10_20_10_cross() -> Case:
    """Ten classes, and so 45 differences."""
    return Case(
        random_network((10, 20, 10), seed=0), lx.Ball([0.0] * 10, radius=0.1), lx.CrossLipschitz()
    )
