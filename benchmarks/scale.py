"""Loads and bounds a convolutional network of CIFAR's size, with 106,596 ReLUs.

Each phase runs in a process of its own, after what it needs, and prints its seconds and the
process's peak memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import lipexact as lx
from lipexact.bounds.crown import bound_nodes
from lipexact.problem.problem import MODES, lipschitz_problem
from lipexact.sets.functionals import functional_set
from lipexact.sets.norms import norm

SHAPE = (3, 32, 32)
CHANNELS = (
    (32, 1),
    (32, 1),
    (64, 2),
    (64, 1),
    (128, 2),
)  # of 3 x 3 convolutions, and their strides
SMALL = ((4, 2), (8, 2))
HIDDEN, OUTPUTS = 100, 10
FUNCTIONAL = np.eye(OUTPUTS)[0] - np.eye(OUTPUTS)[1]
PIXEL = 1 / 255
PHASES = ("load", "ball", "box", *MODES, "lipschitz")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the phases that the command line asks for; the number of failures."""
    options = parser().parse_args(arguments)
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        onnx.save(model(SMALL if options.smoke else CHANNELS, seed=0), path)
        for phase in options.phase or PHASES:
            process = multiprocessing.get_context("spawn").Process(
                target=run, args=(phase, path, options.seconds)
            )
            process.start()
            process.join()
            if process.exitcode != 0:
                failures.append(f"{phase}: {ending(process.exitcode)}")
    for failure in failures:  # at the end, where it is seen
        print(f"benchmarks.scale: FAILED: {failure}", file=sys.stderr)
    return len(failures)


def ending(code: int | None) -> str:
    """Return what a process's exit code says."""
    if code is None or code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"exit code {code}, by the signal {name}" + (
        ": out of memory?" if name == "SIGKILL" else ""
    )


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    result.add_argument("--smoke", action="store_true", help="with a small network")
    result.add_argument(
        "--phase", action="append", choices=PHASES, help="may be repeated; all by default"
    )
    result.add_argument("--seconds", type=float, default=60.0, help="time limit of `lipschitz`")
    return result


def model(channels: Sequence[tuple[int, int]], seed: int) -> onnx.ModelProto:
    """Convolutions and two dense layers with a ReLU between each two.

    Initialised as He and others do.
    """
    rng = np.random.default_rng(seed)
    nodes, weights = [], []
    value, (depth, height, width) = "x", SHAPE

    def constant(name: str, shape: tuple[int, ...], scale: float) -> str:
        weights.append(
            numpy_helper.from_array((scale * rng.normal(size=shape)).astype(np.float32), name)
        )
        return name

    for k, (out, stride) in enumerate(channels):
        kernel = constant(f"w{k}", (out, depth, 3, 3), float(np.sqrt(2 / (9 * depth))))
        inputs = [value, kernel, constant(f"b{k}", (out,), 0.05)]
        nodes.append(
            helper.make_node("Conv", inputs, [f"z{k}"], pads=[1, 1, 1, 1], strides=[stride, stride])
        )
        nodes.append(helper.make_node("Relu", [f"z{k}"], [f"a{k}"]))
        value, depth, height, width = f"a{k}", out, -(-height // stride), -(-width // stride)
    nodes.append(helper.make_node("Flatten", [value], ["flat"]))
    size = depth * height * width
    nodes.append(
        helper.make_node(
            "Gemm", ["flat", constant("w", (size, HIDDEN), float(np.sqrt(2 / size))), "b"], ["z"]
        )
    )
    constant("b", (HIDDEN,), 0.05)
    nodes.append(helper.make_node("Relu", ["z"], ["a"]))
    last = constant("v", (HIDDEN, OUTPUTS), float(np.sqrt(1 / HIDDEN)))
    nodes.append(helper.make_node("MatMul", ["a", last], ["y"]))
    graph = helper.make_graph(
        nodes,
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, OUTPUTS])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(phase: str, path: Path, seconds: float) -> None:
    """One phase, with its time and the process's memory."""
    start = time.perf_counter()
    network = lx.load(path)
    ball = lx.Ball(np.random.default_rng(1).random(network.input.size), PIXEL)
    if phase == "load":
        told = f"{network.relus} ReLUs"
    else:
        start = time.perf_counter()
        told = answer(phase, network, ball, seconds)
    elapsed, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In kilobytes, but for macOS.
    gigabytes = peak / (1e9 if sys.platform == "darwin" else 1e6)
    print(f"{phase:10} {elapsed:7.1f} s {gigabytes:6.2f} GB  {told}", flush=True)


def answer(phase: str, network: lx.Network, ball: lx.Domain, seconds: float) -> str:
    """Return what a phase finds out."""
    if phase == "lipschitz":
        return repr(lx.lipschitz(network, ball, functional=FUNCTIONAL, time_limit=seconds))
    if phase in MODES:
        linf = norm("linf")
        bodies = functional_set(FUNCTIONAL, linf, OUTPUTS), linf.ball(network.input.size)
        problem = lipschitz_problem(network, ball, *bodies, mode=phase)
        if problem is None:
            raise lx.NormError(f"no program in mode {phase}")
        return f"at most {bound_nodes(problem.graph, problem.sets)[problem.objective][1][0]:.6g}"
    bounds = bound_nodes(
        network.graph, {network.input: lx.Box.unit(network.input.size) if phase == "box" else ball}
    )
    sides = [bounds[gate.x] for gate in network.gates]
    opened = sum(int(((lower < 0) & (upper > 0)).sum()) for lower, upper in sides)
    lower, upper = bounds[network.output]
    return f"{opened} of {network.relus} gates open, outputs within {(upper - lower).mean():.6g}"


if __name__ == "__main__":
    sys.exit(min(main(), 1))
