"""Mutated ONNX models: the reader raises errors of lipexact alone, in bounded time and memory.

The mutations serve test_fuzz.py; on its own, ``python -m tests.support.fuzz_reader --seconds 600``
runs them for as long as one likes, each reading within a limit of time and memory.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from lipexact.errors import LipExactError
from lipexact.onnx import read_onnx
from lipexact.onnx.registry import OPERATORS
from tests.operators import all_examples
from tests.support.onnx_files import (
    keras_mlp,
    nnet_mlp,
    pytorch_mlp,
    pytorch_view,
    sklearn_regressor,
)
from tests.support.paths import FIXTURES

INTEGERS = (
    -(2**63),
    -(2**31),
    -1000,
    -7,
    -3,
    -2,
    -1,
    0,
    1,
    2,
    3,
    5,
    17,
    1000,
    10**6,
    2**31,
    10**12,
    2**63 - 1,
)
FLOATS = (float("nan"), float("inf"), float("-inf"), 0.0, -0.0, -1.0, 1e-300, 1e300, 0.5, 3.0)
WORDS = (
    "",
    "NOTSET",
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "constant",
    "reflect",
    "edge",
    "wrap",
    "DCR",
    "CRD",
    "junk",
)


def seeds() -> list[onnx.ModelProto]:
    """Whole networks of exporters, and the examples of every operator."""
    rng = np.random.default_rng(0)
    models = [
        build(rng) for build in (keras_mlp, nnet_mlp, pytorch_mlp, pytorch_view, sklearn_regressor)
    ]
    models += [onnx.load(path) for path in sorted(FIXTURES.glob("*.onnx"))]
    models += [example.model() for example in all_examples()]
    return models


def mutated(seed: onnx.ModelProto, rng: random.Random) -> onnx.ModelProto:
    """The model with one to three changes; it may be no model any more."""
    model = onnx.ModelProto()
    model.CopyFrom(seed)
    for _ in range(rng.randint(1, 3)):
        rng.choice(_MUTATIONS)(model, rng)
    return model


def _attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    if not attributes:
        return
    attribute = rng.choice(attributes)
    match attribute.type:
        case onnx.AttributeProto.INT:
            attribute.i = rng.choice(INTEGERS)
        case onnx.AttributeProto.FLOAT:
            attribute.f = np.float32(np.clip(rng.choice(FLOATS), -3e38, 3e38)).item()
        case onnx.AttributeProto.STRING:
            attribute.s = rng.choice(WORDS).encode()
        case onnx.AttributeProto.INTS:
            numbers = list(attribute.ints)
            where = rng.randint(0, len(numbers))
            numbers[where : where + rng.randint(0, 1)] = [rng.choice(INTEGERS)] * rng.randint(0, 2)
            attribute.ints[:] = numbers
        case onnx.AttributeProto.TENSOR:
            _tensor(attribute.t, rng)
        case _:
            attribute.type = rng.randint(0, 14)


def _new_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    names = (
        "axis",
        "axes",
        "pads",
        "strides",
        "dilations",
        "kernel_shape",
        "group",
        "keepdims",
        "auto_pad",
        "ceil_mode",
    )
    value = rng.choice(
        (
            rng.choice(INTEGERS),
            [rng.choice(INTEGERS) for _ in range(rng.randint(1, 4))],
            rng.choice(WORDS),
        )
    )
    rng.choice(model.graph.node).attribute.append(
        onnx.helper.make_attribute(rng.choice(names), value)
    )


def _drop_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    if node.attribute:
        del node.attribute[rng.randrange(len(node.attribute))]


def _operator(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    node.domain, node.op_type = rng.choice(
        [*OPERATORS, ("", "Softmax"), ("", "If"), ("", "Loop"), ("", "NonZero"), ("", "")]
    )


def _wires(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    graph = model.graph
    names = [name for each in graph.node for name in (*each.input, *each.output)]
    names += [
        "",
        "nowhere",
        *(tensor.name for tensor in graph.initializer),
        *(info.name for info in graph.input),
    ]
    where = rng.randint(0, len(node.input))
    inputs = list(node.input)
    inputs[where : where + rng.randint(0, 1)] = [rng.choice(names)] * rng.randint(0, 2)
    node.input[:] = inputs
    if rng.random() < 0.2 and node.output:
        node.output[rng.randrange(len(node.output))] = rng.choice(names)


def _tensor(tensor: onnx.TensorProto, rng: random.Random) -> None:
    change = rng.randrange(4)
    if change == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(INTEGERS)
    elif change == 1:
        tensor.data_type = rng.randint(0, 24)
    elif change == 2:
        tensor.raw_data = tensor.raw_data[: rng.randint(0, len(tensor.raw_data))]
    else:
        try:
            array = onnx.numpy_helper.to_array(tensor).copy()
        except Exception:  # noqa: BLE001 - it was broken before
            return
        if array.size and array.dtype.kind in "iuf":
            with np.errstate(all="ignore"):
                value = np.array(
                    rng.choice(INTEGERS if array.dtype.kind in "iu" else FLOATS)
                ).astype(array.dtype)
            array.flat[rng.randrange(array.size)] = value
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def _initializer(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.graph.initializer:
        _tensor(rng.choice(model.graph.initializer), rng)


def _interface(model: onnx.ModelProto, rng: random.Random) -> None:
    change = rng.randrange(5)
    info = rng.choice(model.graph.input)
    if change == 0 and info.type.tensor_type.shape.dim:
        rng.choice(info.type.tensor_type.shape.dim).dim_value = rng.choice(INTEGERS)
    elif change == 1:
        info.type.tensor_type.elem_type = rng.randint(0, 24)
    elif change == 2:
        info.type.tensor_type.shape.dim.add().dim_value = rng.choice(INTEGERS)
    elif change == 3:
        rng.choice(model.opset_import).version = rng.choice(
            (-1, 0, 1, 5, 7, 9, 10, 11, 13, 18, 19, 22, 23, 2**62)
        )
    else:
        model.graph.output[0].name = rng.choice(
            [name for node in model.graph.node for name in node.output] or ["x"]
        )


def _order(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    if rng.random() < 0.5:
        rng.shuffle(nodes)
    else:
        nodes.insert(rng.randrange(len(nodes) + 1), rng.choice(nodes))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


_MUTATIONS: Sequence[Callable[[onnx.ModelProto, random.Random], None]] = (
    *[_attribute] * 3,
    _new_attribute,
    _drop_attribute,
    _operator,
    *[_wires] * 2,
    *[_initializer] * 3,
    _interface,
    _order,
)


def outcome(model: onnx.ModelProto, **options: object) -> str:
    """How the reader takes a model: "read", or the name of an error of lipexact."""
    try:
        network = read_onnx(model, **options)
    except LipExactError as error:
        if not str(error) or len(str(error)) > 2000:
            raise AssertionError(f"no sentence that helps: {error!r}") from error
        return type(error).__name__
    value = network.evaluate(np.full(network.input.size, 0.25))
    if value.shape != (network.output.size,):
        raise AssertionError(f"{value.shape} values of {network.output.size}")
    return "read"


def main() -> int:
    """Mutate until the time is up; the return code is the number of failures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=20, help="seconds for one model")
    parser.add_argument("--memory", type=float, default=8.0, help="GB of address space")
    options = parser.parse_args()
    limit = int(options.memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    models, rng = seeds(), random.Random(options.seed)
    counts: Counter[str] = Counter()
    failures, slowest, start = 0, 0.0, time.perf_counter()

    def alarm(*_: object) -> None:
        raise TimeoutError(f"still reading after {options.each} s")

    signal.signal(signal.SIGALRM, alarm)
    while time.perf_counter() < start + options.seconds:
        model = mutated(rng.choice(models), rng)
        began = time.perf_counter()
        signal.alarm(options.each)
        try:
            choice = {"batched": rng.random() < 0.8, "drop_final": rng.random() < 0.05}
            counts[outcome(model, **choice)] += 1
        except BaseException:  # noqa: BLE001 - whatever it is, it is a failure
            failures += 1
            path = Path(f"fuzz-failure-{options.seed}-{failures}.onnx")
            path.write_bytes(model.SerializeToString())
            print(f"--- {path} {choice}\n{traceback.format_exc(limit=-6)}", file=sys.stderr)
        signal.alarm(0)
        slowest = max(slowest, time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{dict(counts)}, {failures} failures, slowest {slowest:.1f} s, peak {peak:.2f} GB")
    return min(failures, 100)


if __name__ == "__main__":
    sys.exit(main())
