"""Operators of ONNX beyond their examples: edges of definitions, refusals, random parameters."""

from __future__ import annotations

import math
import re
import tracemalloc
from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipexact.errors import LipExactError, ModelError, UnsupportedOperatorError
from lipexact.graph import lowering as lower
from lipexact.graph.evaluate import evaluate
from lipexact.graph.ir import Graph, Input
from lipexact.network import Network
from lipexact.onnx import read_onnx
from lipexact.onnx.constants import FINAL_ACTIVATIONS
from tests.support.onnx_files import onnx_model, reference

Constants = Mapping[str, np.ndarray]

HUGE = np.iinfo(np.int64)


def model_of(
    body: str, shape: tuple[int, ...], constants: Constants | None = None, opset: int = 17
) -> onnx.ModelProto:
    text = f"(double[{','.join(map(str, shape))}] x) => (double y) {{ {body} }}"
    imports = {domain: 1 for domain in ("ai.onnx.ml", "com.microsoft") if domain in body}
    model = onnx_model(text, constants, opset=opset, imports=imports)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def read(
    body: str, shape: tuple[int, ...], constants: Constants | None = None, opset: int = 17
) -> Network:
    return read_onnx(model_of(body, shape, constants, opset), batched=False)


def value(
    body: str, x: np.ndarray, constants: Constants | None = None, opset: int = 17
) -> np.ndarray:
    """The output of a body at x, in its shape."""
    x = np.asarray(x, np.float64)
    network = read(body, x.shape, constants, opset)
    return network.evaluate(x.ravel()).reshape(network.output_shape)


def arange(*shape: int) -> np.ndarray:
    return np.arange(1.0, 1 + np.prod(shape)).reshape(shape)


# Activations


def test_leaky_relu_on_both_sides() -> None:
    np.testing.assert_array_equal(value("y = LeakyRelu <alpha = 2.0> (x)", [-1.0, 3.0]), [-2, 3])
    np.testing.assert_array_equal(value("y = LeakyRelu <alpha = -1.0> (x)", [-1.0, 3.0]), [1, 3])
    # The default is the float32 next to 0.01, as in every runtime.
    assert value("y = LeakyRelu (x)", [-1.0])[0] == -float(np.float32(0.01))


def test_prelu_slopes() -> None:
    slopes = {"s": np.array([0.25, 1.0, 3.0, -2.0])}
    np.testing.assert_array_equal(value("y = PRelu (x, s)", [-1.0] * 4, slopes), [-0.25, -1, -3, 2])
    np.testing.assert_array_equal(value("y = PRelu (x, s)", [2.0] * 4, slopes), [2] * 4)
    # One slope for each channel: before opset 7 without, and since then with the axes behind it.
    x = -np.ones((1, 2, 2))
    channels = np.array([0.5, 4.0])
    expected = [[[-0.5, -0.5], [-4, -4]]]
    np.testing.assert_array_equal(value("y = PRelu (x, s)", x, {"s": channels}, opset=6), expected)
    np.testing.assert_array_equal(
        value("y = PRelu (x, s)", x, {"s": channels[:, None]}, opset=9), expected
    )


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-1.0, 2.0),
        (2.0, -1.0),
        (None, 0.5),
        (0.5, None),
        (-np.inf, np.inf),
        (-1e30, 1e30),
        (0.0, 1e300),
        (0.0, 0.0),
    ],
)
def test_clip(low: float | None, high: float | None) -> None:
    x = np.array([-1e9, -3.0, -1.0, -1e-7, 0.0, 0.3, 2.0, 5.0, 1e9])
    constants = {
        name: np.array(bound) for name, bound in (("l", low), ("h", high)) if bound is not None
    }
    body = f"y = Clip (x, {'l' if low is not None else ''}{', h' if high is not None else ''})"
    expected = np.minimum(
        np.maximum(x, -np.inf if low is None else low), np.inf if high is None else high
    )
    np.testing.assert_allclose(value(body, x, constants), expected, rtol=1e-15, atol=1e-15)


def test_clip_without_bounds_has_no_gates() -> None:
    assert read("y = Clip (x)", (3,)).relus == 0
    lowest = {"l": np.array(np.finfo(np.float32).min), "h": np.array(np.inf, np.float32)}
    assert read("y = Clip (x, l, h)", (3,), lowest).relus == 0
    assert read("y = Clip <min = -3.4028235e38, max = 6.0> (x)", (3,), opset=6).relus == 3


def test_maximum_with_the_lowest_float() -> None:
    c = np.array([np.finfo(np.float32).min, 0.5, -1e25, np.finfo(np.float64).min])
    x = np.array([0.25, 0.25, -1e-3, 1.0])
    np.testing.assert_array_equal(value("y = Max (x, c)", x, {"c": c}), np.maximum(x, c))
    np.testing.assert_array_equal(value("y = Min (x, c)", x, {"c": -c}), np.minimum(x, -c))


def test_maximum_of_many_broadcasts() -> None:
    rng = np.random.default_rng(0)
    c, d = rng.normal(size=(3, 1)), rng.normal(size=(2, 1, 1))
    x = rng.normal(size=(1, 2))
    body = "r = Neg (x)\n t = Mul (x, c)\n y = OP (c, x, r, t, d)"
    for operator, function in (("Max", np.max), ("Min", np.min)):
        expected = function(np.array(np.broadcast_arrays(c, x, -x, x * c, d)), axis=0)
        np.testing.assert_allclose(
            value(body.replace("OP", operator), x, {"c": c, "d": d}), expected, atol=1e-15
        )


@pytest.mark.parametrize(
    "body",
    [
        "a, b = Split <axis = 0, num_outputs = 2> (x)\n u = Max (a, b)\n v = Min (a, b)\n "
        "y = Concat <axis = 0> (u, v)",
        "u = ReduceMax (x, a)\n v = ReduceMin (x, a)\n y = Concat <axis = 0> (u, v)",
    ],
)
def test_maximum_and_minimum_of_a_pair_share_their_gate(body: str) -> None:
    network = read(body, (2, 3), {"a": np.array([0])} if "Reduce" in body else {}, opset=18)
    (gate,) = network.gates
    assert gate.size == 3
    points = np.random.default_rng(0).normal(size=(5, 2, 3))
    expected = np.stack([points.max(axis=1), points.min(axis=1)], axis=1)
    np.testing.assert_allclose(
        network.evaluate(points.reshape(5, 6)), expected.reshape(5, 6), atol=1e-15
    )


def test_soft_shrink() -> None:
    x = np.array([-2.0, -0.5, 0.0, 0.25, 3.0])
    np.testing.assert_array_equal(
        value("y = Shrink <lambd = 0.5, bias = 0.5> (x)", x), [-1.5, 0, 0, 0, 2.5]
    )


# Arithmetic


def test_where_broadcasts_all_three() -> None:
    condition = np.array([[True], [False]])
    c = np.array([[[np.inf]], [[np.nan]]])
    with pytest.raises(ModelError, match="NaN or infinite"):
        value("y = Where (m, x, c)", np.ones(2), {"m": condition, "c": c})
    c = np.array([[[1.0, 2.0], [np.inf, -np.inf]]])
    x = np.array([5.0, 6.0])
    expected = np.where(condition, c, x)
    np.testing.assert_array_equal(
        value("y = Where (m, c, x)", x, {"m": condition, "c": c}), expected
    )


def test_linear_models_of_scikit_learn() -> None:
    body = "y = ai.onnx.ml.LinearRegressor <coefficients = [2.0, -1.0], intercepts = [0.5]> (x)"
    np.testing.assert_array_equal(value(body, [[1.0, 3.0]]), [[-0.5]])
    np.testing.assert_array_equal(value(body, [1.0, 3.0]), [[-0.5]])
    np.testing.assert_array_equal(
        value("y = ai.onnx.ml.Scaler <offset = [1.0], scale = [2.0]> (x)", [[1.0, 3]]), [[0, 4]]
    )


@pytest.mark.parametrize(
    ("equation", "shape", "others"),
    [
        ("bij,jk->bik", (2, 3, 4), [(4, 2)]),
        ("ij,ij", (2, 3), [(2, 3)]),
        ("i,j->ij", (3,), [(2,)]),
        ("...ij->...ji", (2, 3, 4), []),
        ("...i,...i->...", (2, 2, 3), [(2, 3)]),
        ("ii", (3, 3), []),
        ("ab,bc,cd->ad", (2, 3), [(3, 2), (2, 4)]),
        ("i j , j -> i", (2, 3), [(3,)]),
    ],
)
def test_einsum(equation: str, shape: tuple[int, ...], others: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(0)
    x, constants = (
        rng.normal(size=shape),
        {f"c{k}": rng.normal(size=each) for k, each in enumerate(others)},
    )
    for order in (["x", *constants], [*constants, "x"]):
        terms, arrow, output = equation.partition("->")
        turned = ",".join(
            terms.split(",") if order[0] == "x" else [*terms.split(",")[1:], terms.split(",")[0]]
        )
        found = value(
            f'y = Einsum <equation = "{turned}{arrow}{output}"> ({", ".join(order)})', x, constants
        )
        arrays = [x if name == "x" else constants[name] for name in order]
        np.testing.assert_allclose(
            found, np.einsum(f"{turned}{arrow}{output}", *arrays), atol=1e-14
        )


# Shapes


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_slice_as_the_standard_says(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    axes = data.draw(st.lists(st.sampled_from(range(len(shape))), unique=True, min_size=1))
    bound = st.integers(-7, 7) | st.sampled_from([HUGE.max, HUGE.min, 2**31 - 1, -(2**31)])
    starts, ends = (
        data.draw(st.lists(bound, min_size=len(axes), max_size=len(axes))) for _ in "se"
    )
    steps = data.draw(
        st.lists(st.sampled_from([-3, -2, -1, 1, 2, 5]), min_size=len(axes), max_size=len(axes))
    )
    x = arange(*shape)
    expected = x
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        n = shape[axis]
        begin, stop = (bound + n if bound < 0 else bound for bound in (start, end))
        first = min(max(begin, 0), n if step > 0 else n - 1)
        last = min(max(stop, 0 if step > 0 else -1), n if step > 0 else n - 1)
        expected = np.take(expected, np.arange(first, last, step), axis)
    signed = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    constants = {
        "s": np.array(starts),
        "e": np.array(ends),
        "a": np.array(signed),
        "t": np.array(steps),
    }
    if expected.size:
        np.testing.assert_array_equal(value("y = Slice (x, s, e, a, t)", x, constants), expected)
    else:
        with pytest.raises(ModelError, match="is empty"):
            read("y = Slice (x, s, e, a, t)", shape, constants)


def test_a_step_backwards_from_before_the_beginning() -> None:
    # The standard clamps the start into the axis, as onnxruntime does; the reference implementation
    # gives nothing.
    constants = {
        "s": np.array([-9]),
        "e": np.array([HUGE.min]),
        "a": np.array([0]),
        "t": np.array([-1]),
    }
    np.testing.assert_array_equal(value("y = Slice (x, s, e, a, t)", arange(3), constants), [1])


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_pad_takes_away_and_then_adds(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    mode = data.draw(st.sampled_from(["constant", "edge", "reflect", "wrap"]))
    widths = [[data.draw(st.integers(-1, 5)) for _ in range(2)] for _ in shape]
    kept = [
        n + min(before, 0) + min(after, 0) for n, (before, after) in zip(shape, widths, strict=True)
    ]
    x = arange(*shape)
    body = f'y = Pad <mode = "{mode}"> (x, p, {"v" * (mode == "constant")})'
    constants = {
        "p": np.array(widths).T.ravel(),
        **({"v": np.array(-7.0)} if mode == "constant" else {}),
    }
    if min(kept) < 1:
        try:
            read(body, shape, constants)
        except ModelError:
            return
    cropped = x[
        tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(shape, widths, strict=True))
    ]
    more = {"constant_values": -7.0} if mode == "constant" else {}
    expected = np.pad(cropped, np.maximum(widths, 0), mode=mode, **more)
    np.testing.assert_array_equal(value(body, x, constants, opset=19), expected)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_gather_tile_and_expand(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    rank = len(shape)
    x = arange(*shape)
    axis = data.draw(st.integers(-rank, rank - 1))
    index = st.integers(-shape[axis], shape[axis] - 1)
    indices = np.array(
        data.draw(
            index
            | st.lists(index, min_size=1)
            | st.lists(st.lists(index, min_size=2, max_size=2), min_size=1)
        )
    )
    found = value(f"y = Gather <axis = {axis}> (x, i)", x, {"i": indices})
    np.testing.assert_array_equal(found, np.take(x, indices, axis))
    lengths = [
        data.draw(st.integers(1, 2)) if each == axis % rank else n for each, n in enumerate(shape)
    ]
    several = np.array(
        data.draw(st.lists(index, min_size=math.prod(lengths), max_size=math.prod(lengths)))
    ).reshape(lengths)
    found = value(f"y = GatherElements <axis = {axis}> (x, i)", x, {"i": several})
    np.testing.assert_array_equal(
        found, np.take_along_axis(x, np.where(several < 0, several + shape[axis], several), axis)
    )
    repeats = data.draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    np.testing.assert_array_equal(
        value("y = Tile (x, r)", x, {"r": np.array(repeats)}), np.tile(x, repeats)
    )
    wanted = [data.draw(st.sampled_from([1, n] if n > 1 else [1, 2, 3])) for n in shape][
        data.draw(st.integers(0, rank)) :
    ]
    wanted = [*data.draw(st.lists(st.integers(1, 2), max_size=2 * (len(wanted) == rank))), *wanted]
    expected = x * np.ones(wanted)
    np.testing.assert_array_equal(
        value("y = Expand (x, s)", x, {"s": np.array(wanted, np.int64)}), expected
    )


def test_gather_elements_reads_the_first_rows_only() -> None:
    found = value("y = GatherElements <axis = 1> (x, i)", arange(2, 3), {"i": np.array([[2, 0]])})
    np.testing.assert_array_equal(found, [[3, 1]])


def test_uneven_split() -> None:
    body = "a, b, c = Split <num_outputs = 3> (x)\n y = Concat <axis = 0> (c, b, a)"
    np.testing.assert_array_equal(value(body, arange(7), opset=18), [7, 4, 5, 6, 1, 2, 3])
    empty = "a, b, c = Split (x, s)\n y = Concat <axis = 0> (c, b, a)"
    np.testing.assert_array_equal(value(empty, arange(3), {"s": np.array([1, 0, 2])}), [2, 3, 1])


def test_what_is_empty_is_a_constant() -> None:
    constants = {"s": np.array([2]), "e": np.array([2]), "c": np.array([7.0])}
    body = "n = Slice (x, s, e)\n t = Concat <axis = 0> (n, c, n)\n y = Concat <axis = 0> (t, x)"
    np.testing.assert_array_equal(value(body, arange(2), constants), [7, 1, 2])


def test_rearrangements_without_effect_cost_nothing() -> None:
    body = (
        "t = Transpose <perm = [1, 0, 2]> (x)\n e = Expand (t, s)\n n = Pad (e, p)\n y = Relu (n)"
    )
    network = read(body, (1, 3, 2), {"s": np.array([3, 1, 2]), "p": np.zeros(6, np.int64)})
    assert len(network.graph.nodes) == 3


def test_a_shape_computed_by_the_model() -> None:
    body = """s = Shape (x)
        h = Gather <axis = 0> (s, one)
        n = Size (x)
        r = Div (n, h)
        u = Unsqueeze (r, zero)
        v = Unsqueeze (h, zero)
        t = Concat <axis = 0> (u, v)
        y = Reshape (x, t)"""
    x = arange(2, 3, 2)
    found = value(body, x, {"one": np.array(1), "zero": np.array([0])})
    np.testing.assert_array_equal(found, x.reshape(4, 3))


# Reductions and order


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_reductions(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    rank = len(shape)
    functions = {
        "ReduceL1": lambda x, **kw: np.abs(x).sum(**kw),
        "ReduceMax": np.max,
        "ReduceMean": np.mean,
        "ReduceMin": np.min,
        "ReduceSum": np.sum,
    }
    operator = data.draw(st.sampled_from(sorted(functions)))
    axes = data.draw(st.none() | st.lists(st.integers(0, rank - 1), unique=True))
    signed = (
        None
        if axes is None
        else [axis - rank if data.draw(st.booleans()) else axis for axis in axes]
    )
    keepdims, noop, opset = (
        data.draw(st.booleans()),
        data.draw(st.booleans()),
        data.draw(st.sampled_from([12, 18])),
    )
    x = np.random.default_rng(0).normal(size=shape)
    settings = [f"keepdims = {int(keepdims)}"]
    constants = {}
    if opset == 18:
        settings.append(f"noop_with_empty_axes = {int(noop)}")
        constants = {} if signed is None else {"a": np.array(signed, np.int64)}
    elif signed:
        settings.append(f"axes = {signed}")
    body = f"y = {operator} <{', '.join(settings)}> (x{', a' * bool(constants)})"
    reduced = tuple(axes) if axes else () if noop and opset == 18 else tuple(range(rank))
    expected = functions[operator](x, axis=reduced, keepdims=keepdims)
    np.testing.assert_allclose(value(body, x, constants, opset), expected, rtol=1e-13, atol=1e-13)


@given(st.integers(1, 20), st.data())
@settings(max_examples=80, deadline=None)
def test_topk(length: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, length))
    axis = data.draw(st.integers(0, 2))
    largest = data.draw(st.booleans())
    # Many ties: of equal entries each is as good as the other.
    x = np.random.default_rng(length).integers(-3, 4, np.insert([2, 3], axis, length)).astype(float)
    found = value(
        f"y, i = TopK <axis = {axis - 3}, largest = {int(largest)}> (x, k)", x, {"k": np.array([k])}
    )
    ordered = np.sort(x, axis) if not largest else -np.sort(-x, axis)
    np.testing.assert_array_equal(found, np.take(ordered, np.arange(k), axis))


@pytest.mark.parametrize(
    ("wires", "count", "gates"),
    [(8, 8, 19), (16, 16, 63), (8, 1, 7), (9, 1, 8), (4, 2, 5), (1, 1, 0)],
)
def test_sorting_takes_the_gates_of_batchers_network(wires: int, count: int, gates: int) -> None:
    x = Input(2 * wires)
    y = lower.largest(x, np.arange(2 * wires).reshape(2, wires), count)
    assert sum(gate.size for gate in Graph((x,), (y,)).gates) == 2 * gates


def test_sorting_is_right_for_every_order_of_zeros_and_ones() -> None:
    # By the 0-1 principle the network then sorts everything.
    for wires in range(1, 12):
        x = Input(wires)
        y = lower.largest(x, np.arange(wires)[None], wires)
        points = (np.arange(2**wires)[:, None] >> np.arange(wires) & 1).astype(float)
        np.testing.assert_array_equal(
            evaluate(Graph((x,), (y,)), {x: points})[y], -np.sort(-points)
        )


@pytest.mark.parametrize(
    "body",
    [
        "y, i = TopK (t, two)",
        "u = ReduceMax <axes = [2]> (t)\n v = ReduceMin <axes = [2]> (t)\n "
        "y = Concat <axis = 2> (u, v)",
        "a, b = Split <axis = 2> (t)\n u = Max (a, b)\n v = Min (a, b)\n "
        "y = Concat <axis = 2> (u, v)",
    ],
)
def test_group_sort_in_all_its_exports(body: str) -> None:
    x = np.random.default_rng(0).normal(size=(1, 8))
    text = f"t = Reshape (x, s)\n {body.replace('y', 'z')}\n y = Flatten (z)"
    found = value(
        text, x, {"s": np.array([1, 4, 2]), **({"two": np.array([2])} if "two" in body else {})}
    )
    np.testing.assert_allclose(found, -np.sort(-x.reshape(4, 2)).reshape(1, 8), atol=1e-15)


# Refusals


@pytest.mark.parametrize(
    ("body", "constants", "message"),
    [
        ("y = Clip (x, l)", {"l": np.zeros(3)}, "'min' should be one number"),
        ("y = Clip (x, l)", {"l": np.array(np.nan)}, "NaN"),
        ("y = PRelu (x, s)", {"s": np.ones((2, 1, 1))}, "do not broadcast to the shape"),
        ("y = PRelu (x, s)", {"s": np.ones(4)}, "do not broadcast"),
        ("y = Max ()", {}, "no input"),
        ("y = Sum ()", {}, "no input"),
        ("y = Mean ()", {}, "no input"),
        ("y = Max (x, c)", {"c": np.ones(4)}, "do not broadcast"),
        ("y = Where (m, x, x)", {"m": np.ones(3)}, "type bool"),
        ("y = Concat (x, x)", {}, "'axis' is missing"),
        ("y = Concat <axis = 2> (x, x)", {}, "axis 2 is not an axis"),
        ("y = Concat <axis = 0> (x, c)", {"c": np.ones((2, 2))}, "differ in more than axis 0"),
        ("y = Concat <axis = 1> (x, c)", {"c": np.ones(2)}, "differ in more than axis 1"),
        ("y = Concat <axis = 0> ()", {}, "no input"),
        ("y, z = Split <axis = 1> (x)", {}, "does not split into 2 equal parts"),
        (
            "y, z = Split <axis = 1> (x, s)",
            {"s": np.array([1, 1])},
            r"lengths \[1, 1\] do not split",
        ),
        ("y, z = Split <axis = 1> (x, s)", {"s": np.array([4, -1])}, "do not split"),
        ("y, z = Split <axis = 1> (x, s)", {"s": np.array([1.0, 2.0])}, "integers"),
        ("y = Slice (x, s, e, a, t)", {"s": [0], "e": [2], "a": [1], "t": [0]}, "a step is 0"),
        ("y = Slice (x, s, e, a)", {"s": [0], "e": [2], "a": [2]}, "axes"),
        ("y = Slice (x, s, e, a)", {"s": [0, 0], "e": [2, 2], "a": [1, -1]}, "distinct"),
        ("y = Slice (x, s, e)", {"s": [0, 0], "e": [2]}, "2 starts, 1 ends"),
        ("y = Slice (x, s)", {"s": [0]}, "missing"),
        ("y = Slice (x, s, e)", {"s": np.array([0.5]), "e": [2]}, "integers"),
        ("y = Gather <axis = 1> (x, i)", {"i": [3]}, "index 3 lies outside an axis of length 3"),
        ("y = Gather <axis = 1> (x, i)", {"i": [-4]}, "index -4"),
        ("y = Gather <axis = -3> (x, i)", {"i": [0]}, "axis -3"),
        ("y = Gather (x, i)", {"i": np.array([0.5])}, "indices should be integers"),
        ("y = GatherElements (x, i)", {"i": [0]}, "do not fit"),
        ("y = GatherElements (x, i)", {"i": [[5, 0, 0]]}, "index 5"),
        ("y = GatherND (x, i)", {"i": [[0, 0, 0]]}, "tuples of 3"),
        ("y = GatherND (x, i)", {"i": [[0, 3]]}, "index 3"),
        ("y = GatherND <batch_dims = 1> (x, i)", {"i": [[0], [0]]}, "batch axes"),
        ("y = Pad (x)", {}, "'pads' is missing"),
        ("y = Pad (x, p)", {"p": [0, 1]}, "2 widths of padding for 2 axes"),
        ("y = Pad (x, p)", {"p": [0, -2, 0, -2]}, "takes away more"),
        ("y = Pad (x, p)", {"p": [0, -3, 0, 0]}, "is empty"),
        ('y = Pad <mode = "edge"> (x, p)', {"p": [0, -3, 0, 1]}, "no entries to pad with"),
        ("y = Pad (x, p, v)", {"p": [0, 0, 0, 1], "v": np.ones(2)}, "one number"),
        ("y = Pad (x, p, v)", {"p": [0, 0, 0, 1], "v": np.array(np.inf)}, "infinite"),
        ("y = Transpose <perm = [0, 0]> (x)", {}, "not an order of the axes"),
        ("y = Transpose <perm = [1]> (x)", {}, "not an order of the axes"),
        ("y = Expand (x, s)", {"s": [-1, 3]}, "not a shape"),
        ("y = Expand (x, s)", {"s": [2]}, "do not broadcast"),
        ("y = Expand (x, s)", {"s": [0, 3]}, "is empty"),
        ("y = Tile (x, r)", {"r": [2]}, "do not fit"),
        ("y = Tile (x, r)", {"r": [1, -1]}, "do not fit"),
        ("y = Tile (x, r)", {"r": [10**12, 0]}, "is empty"),
        ("y = DepthToSpace <blocksize = 2> (x)", {}, "rank 4"),
        ("y = SpaceToDepth <blocksize = 0> (x)", {}, "must be positive"),
        ("y = Trilu (x, k)", {"k": [1, 2]}, "one integer"),
        ("y = CumSum (x, a)", {"a": np.array(2)}, "axis 2"),
        ('y = Einsum <equation = "i,i"> (x)', {}, "does not fit operands of rank"),
        ('y = Einsum <equation = "i"> (x)', {}, "does not fit operands of rank"),
        ('y = Einsum <equation = "i......"> (x)', {}, "does not fit operands of rank"),
        ('y = Einsum <equation = "ij->ik"> (x)', {}, "does not fit operands of rank"),
        ('y = Einsum <equation = "ij->ii"> (x)', {}, "twice"),
        ('y = Einsum <equation = "ii"> (x)', {}, "two lengths"),
        ("y = ScatterND (x, i, u)", {"i": [[0, 1], [0, 1]], "u": np.ones(2)}, "an entry twice"),
        ("y = ScatterND (x, i, u)", {"i": [[0, 3]], "u": np.ones(1)}, "index 3"),
        ("y = ScatterND (x, i, u)", {"i": [[0, 1]], "u": np.ones(2)}, "do not fit"),
        (
            "y = ScatterElements <axis = 1> (x, i, u)",
            {"i": [[0, -3]], "u": np.ones((1, 2))},
            "an entry twice",
        ),
        ("y = ScatterElements (x, i, u)", {"i": [0], "u": np.ones(1)}, "do not fit"),
        (
            "y = ScatterElements <axis = 1> (x, i, u)",
            {"i": [[0], [1]], "u": np.ones((2, 1))},
            "do not fit",
        ),
        ("y = ReduceSum (x, a)", {"a": [0, -2]}, "distinct"),
        ("y = ReduceSum (x, a)", {"a": [0.5]}, "integers"),
        ("y = ReduceMean (x, a)", {"a": [0]}, "attribute, not an input"),
        ("y = ReduceMax <axes = [2]> (x)", {}, "axes"),
        ("y, i = TopK (x, k)", {"k": [4]}, "K = 4 entries of an axis of length 3"),
        ("y, i = TopK (x, k)", {"k": [0]}, "K = 0"),
        ("y, i = TopK (x, k)", {"k": [1, 2]}, "one integer"),
        ("y, i = TopK (x)", {}, "'K' is missing"),
        ("y = ai.onnx.ml.Scaler <scale = [1.0, 2.0]> (x)", {}, "2 scales do not fit"),
        (
            "y = ai.onnx.ml.LinearRegressor <coefficients = [1.0, 2.0]> (x)",
            {},
            "cannot be multiplied",
        ),
        (
            "y = ai.onnx.ml.LinearRegressor <coefficients = [1.0, 2.0, 3.0], targets = 2> (x)",
            {},
            "do not fit 2 targets",
        ),
    ],
)
def test_malformed_nodes(body: str, constants: Mapping[str, list], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read(body, (1, 3), {name: np.asarray(each) for name, each in constants.items()})


@pytest.mark.parametrize(
    ("body", "constants", "message"),
    [
        ("y = ThresholdedRelu (x)", {}, "alpha 1 it is not continuous"),
        ("y = Shrink (x)", {}, "bias 0 and lambd 0.5 it is not continuous; bias = lambd >= 0 is"),
        ("y = Shrink <bias = -1.0, lambd = -1.0> (x)", {}, "not continuous"),
        ("r = Relu (x)\n y = PRelu (x, r)", {}, "'slope', depends on the input"),
        ("r = Relu (x)\n y = Clip (x, r)", {}, "'low', depends on the input"),
        ("y = Gather (x, x)", {}, "'indices', depends on the input"),
        ('y = Pad <mode = "fancy"> (x, p)', {"p": [0, 1, 0, 1]}, "mode 'fancy'"),
        (
            'y = ScatterND <reduction = "max"> (x, i, u)',
            {"i": [[0, 1]], "u": np.ones(1)},
            "reduction 'max'",
        ),
        ('r = Relu (x)\n y = Einsum <equation = "ij,ij"> (x, r)', {}, "product of two tensors"),
        ("y, i = TopK <sorted = 0> (x, k)", {"k": [2]}, "order of its output is not defined"),
        ("v, y = TopK (x, k)", {"k": [2]}, "does not compute its output 'y'"),
        ("y = CastLike (x, i)", {"i": [0]}, "floating-point"),
        ("y = HardSwish (x)", {}, "not piecewise linear: between its kinks it is quadratic"),
        ("y = Elu (x)", {}, "Elu is not supported because it is not piecewise linear"),
        ("h = Neg (x)\n y = Erf (h)", {}, r"output='h'\) reads the network that comes before it"),
        (
            "c = Greater (x, z)\n y = Where (c, x, z)",
            {"z": [0.0]},
            "Greater is not supported because it is not continuous",
        ),
        (
            'y = ai.onnx.ml.Normalizer <norm = "L2"> (x)',
            {},
            "Normalizer is not supported because it is not piecewise",
        ),
        ("y = ai.onnx.ml.TreeEnsembleRegressor (x)", {}, "not continuous"),
        (
            "y = ai.onnx.ml.LinearRegressor <coefficients = [1.0, 1.0, 1.0], "
            'post_transform = "LOGISTIC"> (x)',
            {},
            "LOGISTIC is not piecewise linear",
        ),
    ],
)
def test_refusals(body: str, constants: Mapping[str, list], message: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=message):
        read(body, (1, 3), {name: np.asarray(each) for name, each in constants.items()})


@pytest.mark.parametrize("operator", sorted(FINAL_ACTIVATIONS))
def test_what_to_do_about_a_final_layer(operator: str) -> None:
    model = model_of(f"logits = Relu (x)\n y = {operator} (logits)", (1, 3))
    with pytest.raises(UnsupportedOperatorError, match=re.escape("drop_final=True")) as caught:
        read_onnx(model)
    assert "output='logits'" in str(caught.value)
    assert read_onnx(model, drop_final=True).relus == read_onnx(model, output="logits").relus == 3


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("y = Expand (x, s)", {"s": [10**12, 1, 3]}),
        ("y = Expand (x, s)", {"s": [2**62, 2**62, 1, 3]}),
        ("y = Tile (x, r)", {"r": [10**6, 10**6]}),
        ("y = Tile (x, r)", {"r": [2**62, 2**62]}),
        ("y = Pad (x, p)", {"p": [0, 10**12, 0, 0]}),
        ("y = Pad (x, p)", {"p": [10**12, -3, 0, 0]}),
        ("y = Pad (x, p)", {"p": [HUGE.max, HUGE.max, HUGE.max, HUGE.max]}),
        ('y = Pad <mode = "wrap"> (x, p)', {"p": [0, 10**12, 0, 10**12]}),
        ("y = Pad (x, p)", {"p": [HUGE.min, HUGE.min, HUGE.min, HUGE.min]}),
        (
            "y = Slice (x, s, e, a, t)",
            {"s": [HUGE.min], "e": [HUGE.max], "a": [0], "t": [HUGE.min]},
        ),
        ('y = Einsum <equation = "ij,kl,mn"> (x, c, c)', {"c": np.ones((1000, 1000))}),
        ("t = Expand (x, s)\n y = CumSum (t, a)", {"s": [10**5, 3], "a": np.array(0)}),
        ("t = Expand (x, s)\n y, i = TopK <axis = 0> (t, k)", {"s": [10**6, 3], "k": [10**6]}),
        ("t = Expand (x, s)\n u = Transpose (t)\n y = Add (t, u)", {"s": [10**5, 3]}),
        ("y = Where (m, x, c)", {"m": np.ones((20000, 1, 1), bool), "c": np.ones((20000, 3))}),
    ],
)
def test_huge_sizes_are_refused_at_once(body: str, constants: Mapping[str, list]) -> None:
    model = model_of(body, (1, 3), {name: np.asarray(each) for name, each in constants.items()})
    tracemalloc.start()
    try:
        with pytest.raises(LipExactError):
            read_onnx(model, batched=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500e6  # of a result, each would take gigabytes


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("t = Slice (x, s, e)\n y = Relu (t)", {"s": np.array([1, 0]), "e": np.array([3, 2])}),
        ("t = Transpose <perm = [1, 0]> (x)\n y = MatMul (W, t)", {"W": np.ones((2, 4))}),
        ("y, i = TopK <axis = 0> (x, k)", {"k": np.array([2])}),
    ],
)
def test_opsets_before_and_after(body: str, constants: Constants) -> None:
    points = np.random.default_rng(0).normal(size=(5, 3, 4))
    for opset in (11, 13, 17, 21, 25):
        model = model_of(body, (3, 4), constants, opset)
        found = read_onnx(model, batched=False).evaluate(points.reshape(5, -1))
        np.testing.assert_allclose(found, reference(model, points), atol=1e-14)


# Interpolation, against numpy's own


@pytest.mark.parametrize(
    ("old", "new"), [(5, 8), (7, 10), (7, 3), (4, 6), (6, 9), (3, 1), (1, 4), (9, 2)]
)
@pytest.mark.parametrize(
    "rule", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
)
def test_linear_resize_is_that_of_numpy(old: int, new: int, rule: str) -> None:
    text = f"""(double[1,1,{old}] x) => (double[1,1,{new}] y) {{
        y = Resize <mode = "linear", coordinate_transformation_mode = "{rule}"> (x, , , n)
    }}"""
    network = read_onnx(onnx_model(text, {"n": np.array([1, 1, new])}))
    places = {
        "half_pixel": (np.arange(new) + 0.5) * old / new - 0.5,
        "pytorch_half_pixel": (np.arange(new) + 0.5) * old / new - 0.5 if new > 1 else np.zeros(1),
        "align_corners": np.linspace(0, old - 1, new),
        "asymmetric": np.arange(new) * old / new,
    }[rule]
    x = np.random.default_rng(old).normal(size=old)
    np.testing.assert_allclose(
        network.evaluate(x), np.interp(places, np.arange(old), x), atol=1e-12
    )


def test_nearest_resize() -> None:
    text = """(double[1,1,7] x) => (double[1,1,10] y) {
        y = Resize <
            coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"
        > (x, , , n)
    }"""
    network = read_onnx(onnx_model(text, {"n": np.array([1, 1, 10])}))
    np.testing.assert_array_equal(network.evaluate(np.arange(7.0)), np.arange(10) * 7 // 10)


@pytest.mark.parametrize(
    ("attributes", "scale", "opset", "message"),
    [
        ('mode = "linear"', 1.5, 17, "runtimes round"),  # of 7 entries 10.5
        ('nearest_mode = "floor"', 3 / 7, 17, "border"),  # the middle one lies at 3
        ('mode = "nearest"', 5 / 7, 10, "opset 11"),
        ('mode = "linear", antialias = 1', 2, 18, "antialiasing"),
        ('mode = "cubic", exclude_outside = 1', 2, 18, "exclude_outside"),
        ('mode = "sinc"', 2, 18, "sinc"),
        ('mode = "linear"', -2, 18, "positive"),
        ('mode = "linear"', 1e12, 18, "coefficients"),
    ],
)
def test_resize_is_refused_where_runtimes_differ(
    attributes: str, scale: float, opset: int, message: str
) -> None:
    inputs = "x, s" if opset == 10 else "x, , s"
    text = f"(double[1,1,7] x) => (double[1,1,M] y) {{ y = Resize <{attributes}> ({inputs}) }}"
    with pytest.raises(LipExactError, match=message):
        read_onnx(onnx_model(text, {"s": np.array([1, 1, scale], np.float32)}, opset=opset))


def test_reshape_with_allowzero_takes_a_zero_for_a_length() -> None:
    model = onnx_model(
        "(double[1,3] x) => (double y) { y = Reshape <allowzero = 1> (x, s) }",
        {"s": np.array([0, 3])},
    )
    with pytest.raises(LipExactError):
        read_onnx(model)
