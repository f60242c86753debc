"""Hostile input: each gets the right answer, an honest interval, or an error of the package's
own class.
"""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction
from functools import cache
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lipexact as lx
from lipexact.graph.ir import Affine, Graph, Input
from lipexact.graph.lowering import absolute, leaky_relu, maximum, minimum, relu
from lipexact.network import network
from tests.support.networks import Case, case, cases, duplicate, random_weights, to_network
from tests.support.onnx_files import onnx_model
from tests.support.oracle import constant, regions, trace

DUAL_ORDER = {"linf": 1, "l1": np.inf}
ORDER = {"linf": np.inf, "l1": 1}
MODES = ("forward", "reverse")
NORMS = ("linf", "l1")

both_modes = pytest.mark.parametrize("mode", MODES)


def to_onnx(weights, dtype=np.float64) -> onnx.ModelProto:
    """Gemm and Relu in turns; a bias of None is left out."""
    constants, body, source = {}, [], "x"
    for layer, (matrix, bias) in enumerate(weights):
        constants[f"W{layer}"] = np.asarray(matrix, dtype)
        last = layer == len(weights) - 1
        inputs = f"{source}, W{layer}"
        if bias is not None:
            constants[f"b{layer}"] = np.asarray(bias, dtype)
            inputs += f", b{layer}"
        target = "y" if last else f"z{layer}"
        body.append(f"{target} = Gemm <transB = 1> ({inputs})")
        if not last:
            body.append(f"h{layer} = Relu (z{layer})")
            source = f"h{layer}"
    kind = "double" if dtype is np.float64 else "float"
    sizes = np.shape(weights[0][0])[1], np.shape(weights[-1][0])[0]
    text = f"({kind}[N,{sizes[0]}] x) => ({kind}[N,{sizes[1]}] y) {{ {chr(10).join(body)} }}"
    return onnx_model(text, constants)


def solve(model, domain, *, weights=None, **options) -> lx.LipschitzResult:
    """`lx.lipschitz`, its result checked for what holds of every result."""
    result = lx.lipschitz(model, domain, **options)
    check(
        result,
        lx.load(model),
        domain,
        options.get("input_norm", "linf"),
        options.get("gap", 0.0),
        weights,
    )
    return result


def check(result, net, domain, input_norm="linf", gap=0.0, weights=None) -> None:
    assert 0 <= result.lower <= result.upper < math.inf
    assert (result.status is lx.Status.EXACT) == (
        result.upper - result.lower <= 1e-9 * result.upper
    )
    assert result.value == (result.lower if result.status is lx.Status.EXACT else result.upper)
    assert result.gap == (
        0 if result.upper == 0 else pytest.approx(1 - result.lower / result.upper, abs=1e-12)
    )
    if result.termination == "gap":
        assert result.gap <= gap
    assert result.proof in ("solver", "float")
    assert result.seconds >= 0
    assert json.loads(result.to_json(allow_nan=False)) == result.to_dict()
    witness = result.witness
    if witness is None:
        assert result.lower == 0 < result.upper
        return
    gradient = witness.functional @ witness.jacobian
    assert np.linalg.norm(gradient, DUAL_ORDER[input_norm]) == pytest.approx(
        result.lower, rel=1e-12, abs=0
    )
    assert np.linalg.norm(witness.direction, ORDER[input_norm]) == pytest.approx(1, rel=1e-12)
    assert gradient @ witness.direction == pytest.approx(result.lower, rel=1e-12, abs=0)
    assert witness.radius >= 0
    assert (domain.lower <= witness.point).all()
    assert (witness.point <= domain.upper).all()
    if witness.radius > 0:
        assert (domain.lower < witness.point).all()
        assert (witness.point < domain.upper).all()
        np.testing.assert_allclose(
            net.jacobian(witness.point), witness.jacobian, rtol=1e-9, atol=1e-300
        )
        assert [layer.size for layer in witness.pattern] == [gate.size for gate in net.gates]
    if weights is not None:
        check_differences(witness, weights, domain)


def check_differences(witness, weights, domain) -> None:
    """The network is affine, with the witness's Jacobian, on the ball of its radius: in exact
    arithmetic.
    """
    rng = np.random.default_rng(0)
    size = np.eye(witness.point.size)
    for matrix, _ in weights:
        size = np.abs(matrix) @ size
    point = [Fraction(x) for x in witness.point.tolist()]
    start = trace(weights, point)[-1]
    for _ in range(3):
        steps = [
            Fraction(s * witness.radius)
            for s in rng.choice([-1.0, 0.5, 1.0], witness.point.size).tolist()
        ]
        moved = [x + step for x, step in zip(point, steps, strict=True)]
        limits = zip(domain.lower.tolist(), moved, domain.upper.tolist(), strict=True)
        assert all(low <= x <= high for low, x, high in limits)
        rise = [end - begin for end, begin in zip(trace(weights, moved)[-1], start, strict=True)]
        for entry, slopes, bound in zip(
            rise, witness.jacobian.tolist(), size.sum(axis=1).tolist(), strict=True
        ):
            expected = sum(
                Fraction(slope) * step for slope, step in zip(slopes, steps, strict=True)
            )
            assert abs(entry - expected) <= Fraction(1e-12) * Fraction(bound) * Fraction(
                witness.radius
            )


def agree(
    weights, lower, upper, c=None, *, model=None, norms=NORMS, modes=MODES, **options
) -> float:
    """EXACT and equal to the oracle's answer, in each norm by one mode; returns the linf one.

    Which mode goes with which norm changes from network to network.
    """
    weights = [(np.array(matrix, float), np.array(bias, float)) for matrix, bias in weights]
    box = lx.Box(lower, upper)
    c = np.ones(len(weights[-1][1])) if c is None else np.array(c, float)
    found = regions(weights, box.lower.tolist(), box.upper.tolist())
    turn = crc32(b"".join(matrix.tobytes() for matrix, _ in weights))
    for k, norm in enumerate(norms):
        mode = modes[(turn + k) % len(modes)]
        known = constant(found, c.tolist(), norm)
        result = solve(
            to_network(weights) if model is None else model,
            box,
            weights=weights,
            functional=c,
            input_norm=norm,
            mode=mode,
            **options,
        )
        assert result.status is lx.Status.EXACT, result
        assert result.value == pytest.approx(known, rel=1e-9, abs=0), result
    return constant(found, c.tolist(), "linf")


def general(seed=0, sizes=(2, 5, 4, 1)):
    return random_weights(np.random.default_rng(seed), sizes)


@pytest.fixture(scope="module")
def hard():
    """A network that no solver finishes within seconds, and its box."""
    rng = np.random.default_rng(0)
    weights = [
        (rng.normal(size=(n, m)) / np.sqrt(m), rng.normal(size=n) / 4)
        for m, n in itertools.pairwise((8, 24, 24, 24, 1))
    ]
    return SimpleNamespace(
        network=to_network(weights), box=lx.Box(-np.ones(8), np.ones(8)), weights=weights
    )


@pytest.fixture(scope="module")
def small():
    """Three inputs, two outputs."""
    return to_network(general(0, (3, 4, 2)))


# --- Networks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_that_are_not_finite(bad, layer, part, dtype):
    weights = [[np.ones((3, 2)), np.ones(3)], [np.ones((1, 3)), np.ones(1)]]
    weights[layer][part].flat[-1] = bad
    with pytest.raises(lx.ModelError, match=r"NaN|infinite|finite"):
        lx.lipschitz(to_onnx(weights, dtype), lx.Box.unit(2))
    with pytest.raises(lx.ModelError, match=r"NaN|infinite"):
        to_network(weights)


def test_products_of_weights_that_overflow():
    model = onnx_model(
        "(double[N,2] x) => (double[N,1] y) { a = MatMul (x, A)\n y = MatMul (a, B) }",
        {"A": np.full((2, 2), 1e200), "B": np.full((2, 1), 1e200)},
    )
    with pytest.raises(lx.LipExactError):
        lx.lipschitz(model, lx.Box.unit(2))


def test_a_constant_that_overflows():
    with pytest.raises(lx.LipExactError):
        lx.lipschitz(to_network([([[1e200]], [0.0]), ([[1e200]], [0.0])]), lx.Box([-1], [1]))


@pytest.mark.parametrize("inputs", ["double[N,2] x, double[N,2] z", ""])
def test_two_inputs_and_none(inputs):
    source = "Add (x, z)" if inputs else "Identity (W)"
    model = onnx_model(f"({inputs}) => (double[N,2] y) {{ y = {source} }}", {"W": np.ones((1, 2))})
    with pytest.raises(lx.ModelError, match="input"):
        lx.load(model)


def test_no_outputs_and_two():
    model = to_onnx(general())
    del model.graph.output[:]
    with pytest.raises(lx.ModelError, match="no output"):
        lx.load(model)
    two = onnx_model(
        "(double[N,2] x) => (double[N,2] y, double[N,2] z) { y = Relu (x)\n z = Relu (x) }"
    )
    with pytest.raises(lx.ModelError, match="2 outputs"):
        lx.load(two)


def test_layers_that_do_not_fit():
    model = onnx_model(
        "(double[N,2] x) => (double[N,1] y) { y = Gemm <transB = 1> (x, W) }",
        {"W": np.ones((1, 3))},
    )
    with pytest.raises(lx.ModelError):
        lx.load(model)


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"not a model", b"\xff" * 100, b"PK\x03\x04", b"{}"]
)
@pytest.mark.parametrize("name", ["model.onnx", "model", "model.txt", "with space.onnx"])
def test_a_file_that_is_no_model(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(lx.ModelError, match=r"model|with space"):
        lx.load(path)


@pytest.mark.parametrize("cut", range(1, 400, 13))
def test_a_truncated_file(tmp_path, cut):
    data = to_onnx(general(), np.float32).SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(data[:-cut])
    try:
        lx.load(path)
    except lx.LipExactError:
        pass
    else:  # what is cut off was not needed: the operator sets stand at the end
        assert cut < 20


@pytest.mark.parametrize("seed", range(40))
def test_a_file_with_wrong_bytes(tmp_path, seed):
    rng = np.random.default_rng(seed)
    data = bytearray(to_onnx(general(), np.float32).SerializeToString())
    for position in rng.integers(0, len(data), 3):
        data[position] = rng.integers(256)
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    try:
        net = lx.load(path)
    except lx.LipExactError:
        return
    assert np.isfinite(net.evaluate(np.zeros(net.input.size))).all()


@pytest.mark.parametrize(
    "path", ["nowhere.onnx", "", ".", "a\0b", "x" * 5000, None, 1, 1.5, b"x", [], object()]
)
def test_a_path_that_leads_nowhere(path):
    with pytest.raises(lx.ModelError):
        lx.lipschitz(path, lx.Box.unit(2))


def test_weights_in_a_file_beside_the_model_that_is_missing(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save_model(
        to_onnx(general()),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert lx.load(path).input.size == 2
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(lx.ModelError):
        lx.load(path)


def test_no_hidden_layer():
    weights = [([[3.0, -4.0], [1.0, 1.0]], [5.0, 0.0])]
    assert agree(weights, [-1, -1], [1, 1], [1, 0], model=to_onnx(weights)) == 7
    assert solve(to_onnx(weights), lx.Box.unit(2), functional=0, input_norm="l1").value == 4


@pytest.mark.parametrize(
    "body",
    [
        "y = Identity (W)",
        "z = Mul (x, Z)\n y = Add (z, W)",
        "z = Relu (x)\n s = Sub (z, z)\n y = Add (s, W)",
        "y = Constant <value = double[1,2] {3, 4}> ()",
    ],
)
@both_modes
def test_a_constant_network(body, mode):
    model = onnx_model(
        f"(double[1,2] x) => (double[1,2] y) {{ {body} }}",
        {"W": np.ones((1, 2)), "Z": np.zeros((1, 2))},
    )
    for functional in (0, 1, [1, -1]):
        result = solve(model, lx.Box.unit(2), functional=functional, mode=mode)
        assert (result.status, result.value, result.upper) == (lx.Status.EXACT, 0, 0)
        assert result.witness is not None
    assert lx.build(model, lx.Box.unit(2), functional=0, mode=mode).model is not None


def test_dead_neurons():
    weights = [
        ([[1.0, 2.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]], [0.5, -9.0, 1.0, -1.0]),
        ([[1.0, 100.0, 100.0, 100.0]], [0.0]),
    ]
    assert agree(weights, [-1, -1], [1, 1], model=to_onnx(weights)) == 3


def test_all_neurons_dead():
    weights = [(np.eye(2), [-2.0, -1.0]), ([[5.0, 5.0]], [1.0])]
    assert agree(weights, [-1, -1], [1, 1], model=to_onnx(weights)) == 0


def test_kinks_on_the_border_of_the_box():
    weights = [
        ([[1.0, 0.0], [0.0, -1.0], [1.0, 1.0], [1.0, -1.0]], [-1.0, 0.0, -2.0, 0.0]),
        ([[5.0, 5.0, 5.0, 1.0]], [0.0]),
    ]
    assert agree(weights, [0, 0], [1, 1], model=to_onnx(weights)) == 2
    assert agree(weights, [0, 0], [1.25, 1], model=to_onnx(weights)) == 15


def test_neurons_above_kinks_on_the_border_of_the_box():
    """The second layer is 0 on the box, but for what rounding adds to its bounds."""
    weights = [([[1.0, -1.0], [0.0, 1.0]], [-2.0, -1.0]), ([[1.0, -1.0]], [0.0]), ([[1.0]], [0.0])]
    assert agree(weights, [-1, -1], [1, 1], model=to_onnx(weights)) == 0
    weights[0] = ([[1.0, -1.0], [0.0, 1.0]], [-1.875, -1.0])
    assert agree(weights, [-1, -1], [1, 1], model=to_onnx(weights)) == 2


@pytest.mark.unwatched
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("lower", [-1, 0])
def test_layers_without_bias(seed, lower):
    """All kinks meet at 0: the box's centre, or its corner."""
    weights = [(matrix, np.zeros(len(matrix))) for matrix, _ in general(seed, (2, 4, 3, 1))]
    agree(
        weights,
        [lower] * 2,
        [1, 1],
        model=to_onnx([(matrix, None) for matrix, _ in weights]),
        norms=["linf"],
    )


def test_one_input_one_neuron_one_output():
    assert agree([([[2.0]], [0.0]), ([[-3.0]], [0.0])], [-1], [1]) == 6
    assert agree([([[2.0]], [0.0]), ([[-3.0]], [0.0])], [-1], [0]) == 0


def test_identities_written_with_two_relus():
    weights = [([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, -1.0]], [0.0])]
    assert agree(weights, [-1], [1], model=to_onnx(weights)) == 1


def test_an_output_that_ignores_some_inputs():
    weights = [([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]], [0.1, -0.1]), ([[1.0, 1.0]], [0.0])]
    assert agree(weights, [-1] * 3, [1] * 3, model=to_onnx(weights)) == 3


@pytest.mark.parametrize("silent", [0, 1])
def test_an_output_that_ignores_all_inputs(silent):
    weights = general()
    weights[silent] = (np.zeros_like(weights[silent][0]), weights[silent][1])
    assert agree(weights, [-1, -1], [1, 1], model=to_onnx(weights)) == 0


@both_modes
def test_outputs_that_are_equal(mode):
    *below, (matrix, bias) = general()
    weights = [*below, (np.vstack([matrix, matrix]), np.append(bias, bias))]
    agree(weights, [-1, -1], [1, 1], [1, 1], model=to_onnx(weights))
    for model in (to_onnx(weights), to_network(weights)):
        result = solve(model, lx.Box([-1, -1], [1, 1]), functional=(1, -1), mode=mode)
        assert (result.status, result.value, result.upper) == (lx.Status.EXACT, 0, 0)


def test_neurons_that_are_equal_and_cancel():
    weights = [([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.0] * 3), ([[1.0, -1.0, 0.0]], [0.0])]
    assert agree(weights, [-1, -1], [1, 1], model=to_onnx(weights)) == 0


@pytest.mark.unwatched
@pytest.mark.parametrize("scale", [2.0**-27, 1e-8, 1e8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_weights_huge_or_tiny(scale, dtype):
    weights = [
        (
            (scale * matrix).astype(dtype).astype(float),
            (scale ** (layer + 1) * bias).astype(dtype).astype(float),
        )
        for layer, (matrix, bias) in enumerate(general(1))
    ]
    agree(weights, [-1, -1], [1, 1], model=to_onnx(weights, dtype), norms=["linf"])


@pytest.mark.unwatched
@pytest.mark.parametrize("seed", [0, 1, 4, 5, 8, 17])
@both_modes
def test_entries_of_1e_minus_8_and_1e8_in_one_matrix(seed, mode):
    """Values that tie up to 1e-8, and regions 1e-17 wide: the constant, or an interval that
    holds it.
    """
    rng = np.random.default_rng(seed)
    weights = [
        (
            matrix * 10.0 ** rng.choice([-8, 0, 8], matrix.shape),
            bias * 10.0 ** rng.choice([-8, 0, 8], bias.shape),
        )
        for matrix, bias in general(seed)
    ]
    known = constant(regions(weights, [-1, -1], [1, 1]))
    result = solve(to_onnx(weights), lx.Box([-1, -1], [1, 1]), weights=weights, mode=mode)
    assert result.lower <= known * (1 + 1e-9)
    assert result.upper >= known * (1 - 1e-9)


@pytest.mark.unwatched
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [1e-8, 1e8])
def test_layers_of_1e_minus_8_and_1e8_in_one_network(seed, size):
    """They make up for each other."""
    (first, bias), (second, offset), *above = general(seed)
    weights = [(first * size, bias * size), (second / size, offset), *above]
    agree(weights, [-1, -1], [1, 1], model=to_onnx(weights), norms=["linf"])


@pytest.mark.parametrize("seed", range(4))
def test_neurons_of_size_1e_minus_8_and_1e8_in_one_layer(seed):
    """Their outgoing weights make up for it, so that all neurons matter."""
    (first, bias), (second, offset), *above = general(seed)
    sizes = 10.0 ** np.random.default_rng(seed).choice([-8, 8], len(bias))
    weights = [(first * sizes[:, None], bias * sizes), (second / sizes, offset), *above]
    agree(weights, [-1, -1], [1, 1], model=to_onnx(weights), norms=["linf"])


@cache
def of_the_general_network(mode):
    return solve(to_network(general()), lx.Box([-1, -1], [1, 1]), mode=mode)


@pytest.mark.unwatched
@pytest.mark.parametrize("scale", [1e-200, 1e-8, 1e-3, 1e8, 1e200])
@both_modes
def test_scaling_the_last_layer_scales_the_constant(scale, mode):
    *below, (matrix, bias) = general()
    before = of_the_general_network(mode)
    after = solve(
        to_network([*below, (matrix * scale, bias * scale)]), lx.Box([-1, -1], [1, 1]), mode=mode
    )
    assert before.status is after.status is lx.Status.EXACT
    assert after.value == pytest.approx(scale * before.value, rel=1e-9, abs=0)


@pytest.mark.unwatched
@pytest.mark.parametrize("scale", [1e-200, 1e-8, 1e-3, 1e8, 1e200])
@both_modes
def test_scaling_the_input_scales_the_constant(scale, mode):
    (matrix, bias), *above = general()
    before = of_the_general_network(mode)
    box = lx.Box([-1 / scale] * 2, [1 / scale] * 2)
    after = solve(to_network([(matrix * scale, bias), *above]), box, mode=mode)
    assert before.status is after.status is lx.Status.EXACT
    assert after.value == pytest.approx(scale * before.value, rel=1e-9, abs=0)


@pytest.mark.parametrize("method", ["bab", "mip"])
@pytest.mark.parametrize("scales", [(-530, -535, 1000), (-535, -530, 900)])
@pytest.mark.parametrize("seed", [500061, 500256])
def test_products_that_underflow_before_they_grow(seed, scales, method):
    # Coefficients of the lower layers are subnormal, or 0, and count in full at the top.
    weights = random_weights(np.random.default_rng(seed), [2, 4, 4, 2])
    known = float(constant(regions(weights, [-1, -1], [1, 1]), None, "linf", "linf"))
    layers, total = [], 400
    for (matrix, bias), scale in zip(weights, scales, strict=True):
        total += scale
        layers.append((np.ldexp(matrix, scale), np.ldexp(bias, total)))
    box = lx.Box([-(2.0**400)] * 2, [2.0**400] * 2)
    result = lx.lipschitz(lx.Network.from_layers(layers), box, method=method, time_limit=20)
    size = 2.0 ** sum(scales)
    assert result.lower / size <= known * (1 + 1e-9)
    assert result.upper / size >= known * (1 - 1e-9)
    assert result.status is lx.Status.BOUNDED or result.value / size == pytest.approx(
        known, rel=1e-9
    )


@pytest.mark.parametrize("domain", [lx.Box.unit(2), lx.Reals(2)])
@pytest.mark.parametrize("size", [1e-170, 1e165, 1e172, 1e290])
def test_squares_that_overflow_or_underflow(size, domain):
    first, last = np.array([[1.0, 2], [3, -1], [1, 1]]), np.array([[1.0, 2, -1], [1, -1, 2]])
    bias = np.array([0.1, 0, -0.2])
    exact = lx.lipschitz(
        lx.Network.from_layers([(first, bias), (last, np.zeros(2))]), domain, input_norm="l2"
    )
    scaled = lx.Network.from_layers([(first * size, bias * size), (last, np.zeros(2))])
    result = lx.lipschitz(scaled, domain, input_norm="l2")
    assert result.status is exact.status is lx.Status.EXACT
    assert result.value == pytest.approx(exact.value * size, rel=1e-9)


@pytest.mark.parametrize(
    ("layers", "known"),
    [
        ([([[1.0], [2.0**-700]], [2.0**-390, 0.0]), ([[1.0, 2.0**700]], [0.0])], 2.0),
        ([([[1.0], [1.7 * 2.0**-690]], [2.0**-384, 0.0]), ([[1.0, 2.0**690]], [0.0])], 2.7),
        ([([[2.0**350]], [0.0]), ([[2.0**-550]], [0.0]), ([[2.0**-550]], [0.0])], 2.0**-750),
        (
            [([[1.0]], [0.0]), ([[1e-20]], [-1e300]), ([[1.0]], [0.0])],
            1e-20,
        ),  # the kink is at 1e320
        ([([[1e200]], [1e-200]), ([[1e-100]], [0.0])], 1e100),
    ],
)
def test_global_constants_at_the_ends_of_floating_point(layers, known):
    result = lx.lipschitz(lx.Network.from_layers(layers), lx.Reals(1))
    assert result.status is lx.Status.EXACT
    assert result.value == pytest.approx(known, rel=1e-9, abs=0.0)
    assert np.isfinite(result.witness.point).all()


@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0, 2.0, -0.5, 1e-8, 1e8])
@both_modes
def test_leaky_relu_equals_two_relus(slope, mode):
    (first, bias), (last, offset) = general(3, (2, 4, 1))
    x = Input(2)
    net = graph_of(x, Affine(((last, leaky_relu(Affine(((first, x),), bias), slope)),), offset))
    expanded = [
        (np.vstack([first, -first]), np.append(bias, -bias)),
        (np.hstack([last, -slope * last]), offset),
    ]
    known = constant(regions(expanded, [-1, -1], [1, 1]))
    result = solve(net, lx.Box([-1, -1], [1, 1]), mode=mode)
    assert result.status is lx.Status.EXACT
    assert result.value == pytest.approx(known, rel=1e-9, abs=0)


@pytest.mark.parametrize("seed", range(3))
@both_modes
def test_absolute_value_equals_two_relus(seed, mode):
    (first, bias), (last, offset) = general(seed, (2, 4, 1))
    x = Input(2)
    net = graph_of(x, Affine(((last, absolute(Affine(((first, x),), bias))),), offset))
    expanded = [
        (np.vstack([first, -first]), np.append(bias, -bias)),
        (np.hstack([last, last]), offset),
    ]
    known = constant(regions(expanded, [-1, -1], [1, 1]))
    assert solve(net, lx.Box([-1, -1], [1, 1]), mode=mode).value == pytest.approx(
        known, rel=1e-9, abs=0
    )


@pytest.mark.parametrize("seed", range(3))
@both_modes
def test_maximum_and_minimum_equal_relus(seed, mode):
    """max(p, q) = q + relu(p - q), min(p, q) = p - relu(p - q), and q = relu(q) - relu(-q)."""
    (first, bias), (second, offset), (last, end) = (
        *general(seed, (2, 3, 1)),
        *general(seed + 9, (2, 3, 3)),
    )[:3]
    second, offset, last, end = last, end, np.random.default_rng(seed).normal(size=(2, 3)), 0.25
    x = Input(2)
    p, q = Affine(((first, x),), bias, "p"), Affine(((second, x),), offset, "q")
    net = graph_of(x, Affine(((last[:1], maximum(p, q)), (last[1:], minimum(p, q))), [end]))
    expanded = [
        (
            np.vstack([first - second, first, -first, second, -second]),
            np.concatenate([bias - offset, bias, -bias, offset, -offset]),
        ),
        (np.hstack([last[:1] - last[1:], last[1:], -last[1:], last[:1], -last[:1]]), [end]),
    ]
    known = constant(regions(expanded, [-1, -1], [1, 1]))
    assert solve(net, lx.Box([-1, -1], [1, 1]), mode=mode).value == pytest.approx(
        known, rel=1e-9, abs=0
    )


def graph_of(x, y):
    return network(Graph((x,), (y,)), input_shape=(x.size,), output_shape=(y.size,), name="lowered")


# --- Domains --------------------------------------------------------------------------------------

BAD_BOXES = {
    "infinite": ([-np.inf, 0], [1, 1]),
    "infinite above": ([0, 0], [1, np.inf]),
    "all space": ([-np.inf] * 2, [np.inf] * 2),
    "not a number": ([0, np.nan], [1, 1]),
    "empty": ([0, 2], [1, 1]),
    "flat": ([0, 1], [1, 1]),
    "a point": ([1, 1], [1, 1]),
    "no entries": ([], []),
    "other shapes": ([0, 0], [1, 1, 1]),
    "a number and a vector": (0, [1, 1]),
    "text": ("ab", "cd"),
    "ragged": ([[0], [0, 0]], [1, 1]),
    "nothing": (None, [1, 1]),
    "complex": ([1j, 0], [2, 2]),
    "complex array": (np.array([1j, 0]), [2, 2]),
    "beyond the largest float": ([-1e400, 0], [1, 1]),
}


@pytest.mark.parametrize("name", BAD_BOXES)
def test_a_box_that_is_none(name):
    with pytest.raises(lx.DomainError):
        lx.Box(*BAD_BOXES[name])


BAD_BALLS = {
    "centre not a number": ([0, np.nan], 1),
    "centre infinite": ([0, np.inf], 1),
    "centre empty": ([], 1),
    "centre text": ("ab", 1),
    "radius zero": ([0, 0], 0),
    "radius negative": ([0, 0], -1),
    "radius not a number": ([0, 0], np.nan),
    "radius infinite": ([0, 0], np.inf),
    "radius text": ([0, 0], "a"),
    "radius missing": ([0, 0], None),
    "one radius zero": ([0, 0], [1, 0]),
    "three radii": ([0, 0], [1, 1, 1]),
    "two radii in l1": ([0, 0], [1, 1], "l1"),
    "an l1 ball that the clip empties": ([5, 5], 1, "l1", (0, 1)),
    "an l1 ball that a corner of the clip touches": ([2, 2], 2, "l1", (0, 1)),
    "an l1 ball that the clip flattens": ([0.5, 2], 1, "l1", (0, 1)),
    "radius lost beside the centre": ([1e20, 0], 1),
    "overflow": ([1.5e308, 0], 1.5e308),
    "unknown norm": ([0, 0], 1, "l7"),
    "norm missing": ([0, 0], 1, None),
    "clip empties": ([5, 5], 1, "linf", (0, 1)),
    "clip flattens": ([0.5, 2], 1, "linf", (0, 1)),
    "clip turned around": ([0, 0], 1, "linf", (1, 0)),
    "clip not a number": ([0, 0], 1, "linf", (0, np.nan)),
    "clip of three": ([0, 0], 1, "linf", (0, 1, 2)),
    "clip of one": ([0, 0], 1, "linf", (0,)),
    "clip a number": ([0, 0], 1, "linf", 1),
    "clip of other size": ([0, 0], 1, "linf", ([0, 0, 0], 1)),
}


@pytest.mark.parametrize("name", BAD_BALLS)
def test_a_ball_that_is_none(name):
    with pytest.raises(lx.DomainError):
        lx.Ball(*BAD_BALLS[name])


BAD_POLYTOPES = {
    "unbounded": ([[1, 1]], [1]),
    "unbounded to one side": ([[1, 1], [-1, 0]], [1, 0]),
    "empty": ([[1, 0], [-1, 0]], [0, -1], 0, 1),
    "empty, unbounded": ([[1, 1], [-1, -1]], [0, -1]),
    "flat": ([[1, 1], [-1, -1]], [1, -1], 0, 1),
    "a point": ([[1, 1]], [0], 0, 1),
    "other shapes": ([[1, 1]], [1, 2], 0, 1),
    "a vector": ([1, 1], [1], 0, 1),
    "no rows": (np.zeros((0, 2)), np.zeros(0), 0, 1),
    "not a number": ([[1, np.nan]], [1], 0, 1),
    "infinite": ([[1, 1]], [np.inf], 0, 1),
    "a limit that is none": ([[0, 0]], [-1], 0, 1),
    "corners turned around": ([[1, 1]], [1], 1, 0),
    "a corner of three": ([[1, 1]], [1], [0, 0, 0], 1),
    "a corner that is no number": ([[1, 1]], [1], np.nan, 1),
    "text": ("ab", [1], 0, 1),
    "nothing": (None, [1], 0, 1),
    "ragged": ([[1, 1], [1]], [1, 1], 0, 1),
    "complex": ([[1j, 1]], [1], 0, 1),
}


@pytest.mark.parametrize("name", BAD_POLYTOPES)
def test_a_polytope_that_is_none(name):
    with pytest.raises(lx.DomainError):
        lx.Polytope(*BAD_POLYTOPES[name])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lx.Box.unit(2), lx.Box([1, 0], [2, 1])),
        (lx.Box.unit(2), lx.Box([2, 0], [3, 1])),
        (lx.Box.unit(2), lx.Box.unit(3)),
        (lx.Box.unit(2), lx.Ball([-1, 0], 1, "l1")),
        (lx.Ball([0, 0], 1, "l1"), lx.Ball([1, 1], 1, "l1")),
        (lx.Ball([0, 0], 1, "l1"), lx.Polytope([[-1, -1]], [-1], 0, 2)),
    ],
)
def test_an_intersection_without_interior(one, other):
    for first, second in ((one, other), (other, one)):
        with pytest.raises(lx.DomainError):
            first & second


def test_a_domain_intersects_domains_only():
    for other in (None, 1, [[0, 0], [1, 1]]):
        with pytest.raises(TypeError):
            lx.Box.unit(2) & other


@pytest.mark.parametrize("size", [0, -1, 1.5, "2", None])
def test_a_unit_cube_of_no_dimension(size):
    with pytest.raises(lx.DomainError):
        lx.Box.unit(size)


@pytest.mark.parametrize("call", [lx.lipschitz, lx.build])
@pytest.mark.parametrize(
    "domain", [lx.Box.unit(2), lx.Box.unit(4), None, ([0] * 3, [1] * 3), "box", np.zeros((2, 3))]
)
def test_a_domain_that_does_not_fit(small, call, domain):
    with pytest.raises(lx.DomainError):
        call(small, domain, functional=0)


def test_a_clip_may_be_infinite_or_an_array():
    ball = lx.Ball([0.5, 0.5], 1, clip=(0, np.inf))
    assert (ball.lower.tolist(), ball.upper.tolist()) == ([0, 0], [1.5, 1.5])
    ball = lx.Ball([0.5, 0.5], [1, 2], clip=([-0.5, -9], [1, 2]))
    assert (ball.lower.tolist(), ball.upper.tolist()) == ([-0.5, -1.5], [1, 2])


@pytest.mark.parametrize(
    "corners",
    [
        ([0, 0, 0, 0], [1, 1, 1, 1]),
        ((0.0,) * 4, (1.0,) * 4),
        (np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)),
        (np.zeros((1, 2, 2), np.int8), np.ones((1, 2, 2), np.uint8)),
        ([[False, False], [False, False]], [[True, True], [True, True]]),
        (np.zeros(4)[::-1], np.asfortranarray(np.ones((2, 2))).ravel()),
    ],
)
def test_the_same_box_in_other_words(corners):
    (first, bias), (last, offset) = general(2, (4, 3, 1))
    model = onnx_model(
        "(double[N,2,2] x) => (double[N,1] y) { f = Flatten (x)\n z = Gemm <transB = 1> "
        "(f, W, b)\n h = Relu (z)\n "
        "y = Gemm <transB = 1> (h, V, c) }",
        {"W": first, "b": bias, "V": last, "c": offset},
    )
    box = lx.Box(*corners)
    known = constant(regions([(first, bias), (last, offset)], [0] * 4, [1] * 4))
    assert solve(model, box).value == pytest.approx(known, rel=1e-9)


def test_a_box_does_not_follow_its_arrays():
    lower, upper = np.zeros(2), np.ones(2)
    box = lx.Box(lower, upper)
    lower[:] = 9
    assert box.lower.tolist() == [0, 0]
    with pytest.raises(ValueError, match="read-only"):
        box.upper[0] = 2


@pytest.mark.unwatched
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("half", [1.0, 1e-2, 1e-4])
def test_a_box_around_1e6(seed, half):
    agree(*moved(seed, 1e6, half), norms=["linf"])


@pytest.mark.unwatched
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("half", [1e-6, 1e-9, 1e-12])
def test_a_tiny_box(seed, half):
    agree(*moved(seed, 0.3, half), norms=["linf"])


@pytest.mark.parametrize("seed", range(3))
def test_a_tiny_box_around_a_kink_of_all_neurons(seed):
    """Weights of ordinary size; the first layer's kinks meet in the middle of a box 1e-9 wide."""
    (matrix, _), *above = general(seed)
    point = np.array([0.3, 0.4])
    agree([(matrix, -matrix @ point), *above], point - 5e-10, point + 5e-10, norms=["linf"])


@pytest.mark.parametrize("seed", range(2))
def test_a_box_of_a_few_floats(seed):
    """There is no float inside, or one."""
    (matrix, _), *above = general(seed)
    point = np.array([0.3, 0.4])
    weights = [(matrix, -matrix @ point), *above]
    for steps in (1, 2):
        upper = point
        for _ in range(steps):
            upper = np.nextafter(upper, 1)
        known = constant(regions(weights, point.tolist(), upper.tolist()))
        result = solve(to_network(weights), lx.Box(point, upper))
        assert result.lower <= known * (1 + 1e-9)
        assert result.upper >= known * (1 - 1e-9)


@pytest.mark.unwatched
@pytest.mark.parametrize("half", [1e3, 1e9])
def test_a_wide_box(half):
    agree(general(), [-half] * 2, [half] * 2, norms=["linf"])


def test_a_box_that_is_wide_and_thin():
    agree(general(), [-1e-6, -1e3], [1e-6, 1e3], norms=["linf"])


@pytest.mark.parametrize("half", [1e300, 1.7e308])
def test_a_box_as_wide_as_floats_reach(half):
    """Refused, or an honest interval; on any machine within a minute."""
    weights = general()
    try:
        result = solve(to_network(weights), lx.Box([-half] * 2, [half] * 2), time_limit=2)
    except lx.LipExactError:
        return
    known = constant(regions(weights, [-half] * 2, [half] * 2))
    assert result.lower <= known * (1 + 1e-9)
    assert result.upper >= known * (1 - 1e-9)
    assert result.seconds < 60


def moved(seed, offset, half):
    """A network with kinks all over the box of this half width around this point."""
    (matrix, bias), *above = general(seed)
    weights = [(matrix / half, bias - matrix @ np.full(2, offset) / half), *above]
    return weights, [offset - half] * 2, [offset + half] * 2


# --- Norms and functionals ------------------------------------------------------------------------


@pytest.mark.parametrize("call", [lx.lipschitz, lx.build])
@pytest.mark.parametrize("name", ["input_norm", "output_norm"])
@pytest.mark.parametrize("norm", ["l7", "", "LINF", 1, 2, np.inf, ["l1"]])
def test_an_unknown_norm(small, call, name, norm):
    with pytest.raises(lx.NormError):
        call(small, lx.Box.unit(3), functional=0, **{name: norm})


def test_an_input_norm_is_needed(small):
    with pytest.raises(lx.NormError):
        lx.lipschitz(small, lx.Box.unit(3), functional=0, input_norm=None)


@pytest.mark.parametrize("norm", [None, "linf", "l1"])
def test_an_output_norm_is_the_absolute_value_on_one_output(norm):
    weights = random_weights(np.random.default_rng(0), (3, 5, 1))
    known = solve(to_network(weights), lx.Box.unit(3), functional=0).value
    assert solve(to_network(weights), lx.Box.unit(3), output_norm=norm).value == pytest.approx(
        known, rel=1e-12
    )


@pytest.mark.parametrize("norm", ["linf", "l1", "l2"])
def test_an_output_norm_beside_a_functional_is_refused(small, norm):
    with pytest.raises(lx.NormError, match="leave it out"):
        solve(small, lx.Box.unit(3), functional=0, output_norm=norm)


BAD_FUNCTIONALS = {
    "index too large": 2,
    "index too small": -3,
    "one entry": [1],
    "three entries": [1, 2, 3],
    "a column": [[1], [2]],
    "a matrix of three columns": [[1, 2, 3]],
    "three dimensions": [[[1, 2]]],
    "a matrix without rows": np.zeros((0, 2)),
    "a matrix with a number that is none": [[1, 2], [np.nan, 1]],
    "rows of other lengths": [[1, 2], [1]],
    "empty": [],
    "not a number": [np.nan, 1],
    "infinite": [np.inf, 0],
    "true": True,
    "numpy's true": np.True_,
    "a float": 1.0,
    "text": "x",
    "a dictionary": {0: 1},
    "complex": [1j, 0],
    "complex array": np.array([1, 1j]),
    "objects": [object(), object()],
    "a label too large": lx.CrossLipschitz(2),
    "a label too small": lx.CrossLipschitz(-3),
    "a label that is a float": lx.CrossLipschitz(1.0),
    "a label that is true": lx.CrossLipschitz(True),
    "a label that is text": lx.CrossLipschitz("0"),
}


@pytest.mark.parametrize("call", [lx.lipschitz, lx.build])
@pytest.mark.parametrize("name", BAD_FUNCTIONALS)
def test_a_functional_that_does_not_fit(small, call, name):
    with pytest.raises(lx.NormError):
        call(small, lx.Box.unit(3), functional=BAD_FUNCTIONALS[name])


@pytest.mark.parametrize(
    "functional",
    [
        1,
        -1,
        np.int64(1),
        np.uint8(1),
        np.int32(-1),
        [0, 1],
        (0.0, 1.0),
        np.array([0, 1], np.int8),
        np.float32([0, 1]),
    ],
)
def test_one_output_in_many_words(small, functional):
    known = constant(regions(general(0, (3, 4, 2)), [0] * 3, [1] * 3), [0, 1])
    assert solve(small, lx.Box.unit(3), functional=functional).value == pytest.approx(
        known, rel=1e-9
    )


@pytest.mark.unwatched
@both_modes
@pytest.mark.parametrize(
    ("input_norm", "output_norm"), [*itertools.product(NORMS, NORMS), ("l1", None)]
)
def test_a_functional_that_is_missing_means_the_whole_output(small, mode, input_norm, output_norm):
    cells = regions(general(0, (3, 4, 2)), [0] * 3, [1] * 3)
    known = constant(cells, None, input_norm, output_norm)
    result = solve(small, lx.Box.unit(3), input_norm=input_norm, output_norm=output_norm, mode=mode)
    assert result.status is lx.Status.EXACT
    assert result.value == pytest.approx(known, rel=1e-9)
    assert (
        lx.build(
            small, lx.Box.unit(3), input_norm=input_norm, output_norm=output_norm, mode=mode
        ).model
        is not None
    )


@pytest.mark.unwatched
@pytest.mark.parametrize(
    "functional",
    [
        [[1, 2]],
        [[1, 2], [1, 2]],
        [[1, 2], [-1, -2]],
        [[1, 2], [0, 0]],
        np.float32([[1, 2], [0.5, 1]]),
    ],
)
@both_modes
def test_a_matrix_of_functionals_that_says_no_more_than_one(small, mode, functional):
    known = solve(small, lx.Box.unit(3), functional=[1, 2]).value
    result = solve(small, lx.Box.unit(3), functional=functional, mode=mode)
    assert result.status is lx.Status.EXACT
    assert result.value == pytest.approx(known, rel=1e-9)


@both_modes
def test_cross_lipschitz_in_other_words(small, mode):
    known = solve(small, lx.Box.unit(3), functional=[1, -1]).value
    for functional in (
        lx.CrossLipschitz(),
        lx.CrossLipschitz(0),
        lx.CrossLipschitz(-1),
        lx.CrossLipschitz(np.int64(1)),
    ):
        assert solve(
            small, lx.Box.unit(3), functional=functional, mode=mode
        ).value == pytest.approx(known, rel=1e-9)


def test_cross_lipschitz_needs_two_outputs():
    with pytest.raises(lx.NormError, match="two outputs"):
        lx.lipschitz(to_network(general()), lx.Box.unit(2), functional=lx.CrossLipschitz())


@both_modes
@pytest.mark.parametrize("norm", NORMS)
def test_the_functional_zero(small, mode, norm):
    result = solve(small, lx.Box.unit(3), functional=[0, 0], mode=mode, input_norm=norm)
    assert (result.status, result.value, result.upper) == (lx.Status.EXACT, 0, 0)
    assert lx.build(small, lx.Box.unit(3), functional=[0, 0], mode=mode).model is not None


@pytest.mark.parametrize("scale", [1e-300, 1e-8, -1.0, 1e8, 1e300])
def test_a_scaled_functional(small, scale):
    known = solve(small, lx.Box.unit(3), functional=[1, -1]).value
    result = solve(small, lx.Box.unit(3), functional=[scale, -scale])
    assert result.status is lx.Status.EXACT
    assert result.value == pytest.approx(abs(scale) * known, rel=1e-9, abs=0)


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1.7e308])
def test_a_functional_at_the_ends_of_the_floats(small, scale):
    """Refused, or an honest interval."""
    weights = general(0, (3, 4, 2))
    try:
        result = lx.lipschitz(small, lx.Box.unit(3), functional=[scale, scale])
    except lx.LipExactError:
        return
    unit = Fraction(constant(regions(weights, [0] * 3, [1] * 3), [1, 1]))
    assert Fraction(result.lower) <= unit * Fraction(scale) * Fraction(1.01) + Fraction(1e-322)
    assert Fraction(result.upper) >= unit * Fraction(scale) * Fraction(0.99)


# --- Options --------------------------------------------------------------------------------------

BAD_OPTIONS = [
    *[("method", value) for value in ("simplex", "", None, 1, [])],
    *[("mode", value) for value in ("sideways", "", None, 1, [])],
    *[("solver", value) for value in ("abacus", "", "HIGHS", None, 1, ["highs"])],
    *[("time_limit", value) for value in (0, -1, -0.0, np.nan, -np.inf, "5", [1])],
    *[("gap", value) for value in (-1, -1e-300, 1, 2, np.nan, np.inf, "x", None, [0.1])],
    *[("threads", value) for value in (0, -1, 1.5, "2", [1])],
    *[("target", value) for value in (-1, -1e-300, np.nan, "x", [0.1], True)],
    *[("solver_options", value) for value in ("abc", [1], 7)],
]


@pytest.mark.parametrize(("name", "value"), BAD_OPTIONS)
def test_an_option_that_is_not_valid(small, name, value):
    with pytest.raises(lx.OptionError):
        lx.lipschitz(small, lx.Box.unit(3), functional=0, **{name: value})


@pytest.mark.parametrize("mode", ["sideways", None, []])
def test_build_checks_the_mode(small, mode):
    with pytest.raises(lx.OptionError):
        lx.build(small, lx.Box.unit(3), functional=0, mode=mode)


@pytest.mark.parametrize("options", [{"no_such_option": 1}, {"threads": "many"}, {1: 2}])
def test_solver_options_that_the_solver_does_not_know(hard, options):
    with pytest.raises(lx.OptionError, match="HiGHS does not take"):
        lx.lipschitz(hard.network, hard.box, solver_options=options)


@pytest.mark.parametrize("threads", [None, 1, 2, np.int64(1)])
def test_threads(threads):
    weights = case("general", 0).weights
    width = weights[0][0].shape[1]
    agree(weights, [-1] * width, [1] * width, norms=["linf"], modes=["forward"], threads=threads)


@pytest.mark.parametrize("limit", [None, np.inf, 60, np.float64(60), np.int64(60)])
def test_time_limits_that_are_long_enough(limit):
    agree(general(), [-1, -1], [1, 1], norms=["linf"], modes=["forward"], time_limit=limit)


@pytest.mark.parametrize("limit", [1e-3, 1e-9, 5e-324])
@both_modes
def test_hardly_any_time_leaves_an_honest_interval(hard, limit, mode):
    result = solve(hard.network, hard.box, weights=hard.weights, time_limit=limit, mode=mode)
    assert result.status is lx.Status.BOUNDED
    assert result.termination == "time limit"
    assert 0 < result.lower < result.upper
    assert result.seconds < 60  # on any machine, and far from the minutes without a limit
    gradients = np.abs(
        hard.network.jacobian(hard.box.sample(np.random.default_rng(1), 2000))[:, 0]
    ).sum(axis=1)
    assert gradients.max() <= result.upper


@pytest.mark.unwatched
@pytest.mark.parametrize("gap", [0, 1e-12, 1e-6, 0.01, 0.3, 0.999, np.float32(0.25)])
def test_the_gap_is_kept_and_the_interval_holds_the_constant(gap):
    weights = general(0, (3, 6, 5, 1))
    known = constant(regions(weights, [-1] * 3, [1] * 3))
    result = solve(to_network(weights), lx.Box([-1] * 3, [1] * 3), gap=gap, weights=weights)
    assert result.gap <= max(float(gap), 1e-9)
    assert result.lower <= known * (1 + 1e-9)
    assert result.upper >= known * (1 - 1e-9)
    assert result.termination == ("optimal" if result.status is lx.Status.EXACT else "gap")


def test_a_node_limit_leaves_an_honest_interval():
    weights = general(0, (4, 8, 8, 1))
    result = solve(
        to_network(weights),
        lx.Box([-1] * 4, [1] * 4),
        weights=weights,
        solver_options={"mip_max_nodes": 1},
    )
    assert result.status is lx.Status.BOUNDED
    assert result.termination == "limit"


# --- Progress -------------------------------------------------------------------------------------


def test_progress_has_sane_bounds(hard, capfd):
    moments = []

    def report(moment):
        moments.append(moment)
        return len(moments) >= 4

    result = solve(hard.network, hard.box, progress=report)
    assert len(moments) >= 4
    assert all(0 < moment.incumbent <= moment.bound < np.inf for moment in moments)
    for earlier, later in itertools.pairwise(moments):
        assert earlier.seconds < later.seconds
        assert earlier.incumbent <= later.incumbent
        assert earlier.bound >= later.bound
    assert moments[-1].bound >= result.lower
    assert moments[-1].incumbent <= result.upper
    assert "".join(capfd.readouterr()) == ""


def test_progress_on_stderr(hard, capfd):
    for limit in (1.2, 6, 30):  # longer on a machine too slow to have any news
        lx.lipschitz(hard.network, hard.box, time_limit=limit, progress=True)
        out, err = capfd.readouterr()
        assert out == ""
        if err:
            break
    assert all("lower" in line and "upper" in line and "gap" in line for line in err.splitlines())
    assert err


def test_a_callback_that_raises(hard):
    class Stop(Exception):  # noqa: N818
        pass

    def stop(moment):
        raise Stop("enough")

    with pytest.raises(Stop, match="enough"):
        lx.lipschitz(hard.network, hard.box, progress=stop)
    # Nothing is left behind that would spoil the next call.
    agree(general(), [-1, -1], [1, 1], norms=["linf"])


def test_an_interrupt_leaves_an_honest_interval(hard):
    def interrupt(moment):
        raise KeyboardInterrupt

    result = solve(hard.network, hard.box, weights=hard.weights, progress=interrupt)
    assert result.status is lx.Status.BOUNDED
    assert result.termination == "interrupted"
    assert 0 < result.lower < result.upper


# --- What rewriting a network does to its constant ------------------------------------------------


def some(examples):
    """A few examples, always the same: a busy machine is no failure, and neither is another day."""
    return settings(
        deadline=None,
        max_examples=examples,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )


def value(drawn: Case, c, mode="auto", norm="linf") -> float:
    weights = [(np.asarray(matrix), np.asarray(bias)) for matrix, bias in drawn.weights]
    result = solve(
        to_network(weights),
        lx.Box(drawn.lower, drawn.upper),
        weights=weights,
        functional=c,
        mode=mode,
        input_norm=norm,
    )
    assert result.status is lx.Status.EXACT, result
    return result.value


def functional_of(drawn: Case) -> np.ndarray:
    return np.array([1.0, -1.0, 0.5])[: len(drawn.weights[-1][1])]


def close(expected):
    # Where the true constant is 0, cancellation may leave rounding.
    return pytest.approx(expected, rel=1e-9, abs=1e-12)


modes, norms = st.sampled_from(MODES), st.sampled_from(NORMS)


@pytest.mark.unwatched
@some(6)
@given(cases(), st.floats(1e-6, 1e6), st.sampled_from([-1, 1]), modes, norms)
def test_scaling_the_output(drawn, size, sign, mode, norm):
    c = functional_of(drawn)
    *below, (matrix, bias) = drawn.weights
    scaled = drawn._replace(weights=[*below, (sign * size * matrix, sign * size * bias)])
    assert value(scaled, c, mode, norm) / size == close(value(drawn, c, mode, norm))


@pytest.mark.unwatched
@some(6)
@given(cases(), st.integers(-20, 20), modes, norms)
def test_scaling_the_input(drawn, power, mode, norm):
    c, size = functional_of(drawn), 2.0**power
    (matrix, bias), *above = drawn.weights
    scaled = Case([(size * matrix, bias), *above], drawn.lower / size, drawn.upper / size)
    assert value(scaled, c, mode, norm) / size == close(value(drawn, c, mode, norm))


@some(6)
@given(cases(), st.randoms(use_true_random=False), modes, norms)
def test_turning_the_inputs_around(drawn, random, mode, norm):
    c, d = functional_of(drawn), drawn.weights[0][0].shape[1]
    order, signs = random.sample(range(d), d), np.array(random.choices([-1.0, 1.0], k=d))
    (matrix, bias), *above = drawn.weights
    corners = signs * drawn.lower[order], signs * drawn.upper[order]
    turned = Case(
        [(matrix[:, order] * signs, bias), *above], np.minimum(*corners), np.maximum(*corners)
    )
    assert value(turned, c, mode, norm) == close(value(drawn, c, mode, norm))


@some(6)
@given(cases(), st.randoms(use_true_random=False), modes, norms)
def test_a_smaller_box_has_no_larger_constant(drawn, random, mode, norm):
    c = functional_of(drawn)
    width = drawn.upper - drawn.lower
    inset = [
        width * [random.uniform(0, 0.45) * random.choice([0, 1]) for _ in width] for _ in range(2)
    ]
    smaller = drawn._replace(lower=drawn.lower + inset[0], upper=drawn.upper - inset[1])
    assert value(smaller, c, mode, norm) <= value(drawn, c, mode, norm) * (1 + 1e-9) + 1e-12


@some(6)
@given(cases(), st.randoms(use_true_random=False), modes, norms)
def test_permuting_hidden_neurons(drawn, random, mode, norm):
    c = functional_of(drawn)
    weights = list(drawn.weights)
    for layer in range(len(weights) - 1):
        (matrix, bias), (above, offset) = weights[layer : layer + 2]
        order = random.sample(range(len(bias)), len(bias))
        weights[layer : layer + 2] = [(matrix[order], bias[order]), (above[:, order], offset)]
    assert value(drawn._replace(weights=weights), c, mode, norm) == close(
        value(drawn, c, mode, norm)
    )


@some(6)
@given(cases(), st.randoms(use_true_random=False), modes, norms)
def test_adding_dead_neurons(drawn, random, mode, norm):
    c = functional_of(drawn)
    weights = list(drawn.weights)
    layer = random.randrange(len(weights) - 1)
    (matrix, bias), (above, offset) = weights[layer : layer + 2]
    dead = np.array(
        [[random.choice([-1.0, 0.0, 1.0]) for _ in matrix[0]], np.zeros(matrix.shape[1])]
    )
    strong = np.array([[random.uniform(-9, 9) for _ in range(2)] for _ in offset])
    weights[layer : layer + 2] = [
        (np.vstack([matrix, dead]), np.append(bias, [-1e6, 0.0])),
        (np.hstack([above, strong]), offset),
    ]
    assert value(drawn._replace(weights=weights), c, mode, norm) == close(
        value(drawn, c, mode, norm)
    )


@some(6)
@given(cases(), st.randoms(use_true_random=False), modes, norms)
def test_two_neurons_with_half_the_weights(drawn, random, mode, norm):
    c = functional_of(drawn)
    layer = random.randrange(len(drawn.weights) - 1)
    neuron = random.randrange(len(drawn.weights[layer][1]))
    # w + split and -split are both w / 2.
    split = drawn.weights[layer + 1][0][:, neuron] / -2
    doubled = drawn._replace(weights=duplicate(drawn.weights, layer, neuron, split))
    assert value(doubled, c, mode, norm) == close(value(drawn, c, mode, norm))


@some(6)
@given(cases(), modes, norms)
def test_the_triangle_inequality_of_functionals(drawn, mode, norm):
    m = len(drawn.weights[-1][1])
    parts = [value(drawn, row, mode, norm) for row in np.eye(m)]
    c = functional_of(drawn)
    assert value(drawn, c, mode, norm) <= np.abs(c) @ parts * (1 + 1e-9) + 1e-12


def test_the_same_call_gives_the_same_answer():
    weights = general(4)
    results = [lx.lipschitz(to_onnx(weights), lx.Box([-1, -1], [1, 1])) for _ in range(2)]
    assert results[0].value == results[1].value
    assert results[0].witness.point.tolist() == results[1].witness.point.tolist()


def test_the_arrays_of_the_caller_stay_as_they_are():
    c, center = np.array([1.0, -1.0]), np.zeros(3)
    rows, limits, corner = np.ones((1, 3)), np.ones(1), np.full(3, 2.0)
    domains = [
        lx.Ball(center, 1),
        lx.Ball(center, 1, "l1", (-corner, corner)),
        lx.Polytope(rows, limits, -1, corner),
    ]
    for domain in (*domains, domains[0] & domains[1] & domains[2]):
        for functional in (c, c[None]):
            lx.lipschitz(to_network(general(0, (3, 4, 2))), domain, functional=functional)
    assert c.tolist() == [1, -1]
    assert center.tolist() == [0, 0, 0]
    assert (rows == 1).all()
    assert (limits == 1).all()
    assert (corner == 2).all()
    # And they are still the caller's to write to, but the domains do not follow.
    for array in (c, center, rows, limits, corner):
        array.flat[0] = 5.0
    assert domains[1].balls[0][0].tolist() == [0, 0, 0]
    assert domains[1].upper.max() < 2
    assert (domains[2].rows.max(), domains[2].limits.max(), domains[2].upper.max()) == (1, 1, 2)


def test_build_of_a_hostile_model_fails_as_lipschitz_does(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(lx.ModelError):
        lx.build(path, lx.Box.unit(2))


# --- What folding and underflow lose --------------------------------------------------------------


@both_modes
def test_skip_branches_that_cancel_where_they_are_folded(mode):
    """y = a1 h1 + a2 h2 + e relu(h1 - t) + e relu(h2 - t), h = b sum(x): a1 b1 + a2 b2 is
    rounding, and so small.
    """
    (a1, b1), (a2, b2), e, t = (
        (0.97, 0.75),
        (-0.59, 1.23305085483),
        -2.1748499667850752e-17,
        1.49999999999985,
    )
    x = Input(2)
    first, second = (Affine(((np.full((1, 2), b), x),), np.zeros(1)) for b in (b1, b2))
    kinks = [relu(Affine(((np.eye(1), h),), np.array([-t]))) for h in (first, second)]
    terms = zip((a1, a2, e, e), (first, second, *kinks), strict=True)
    y = Affine(tuple((np.array([[w]]), h) for w, h in terms), np.zeros(1))
    net = network(Graph((x,), (y,)), input_shape=(2,), output_shape=(1,), name="cancels")
    slope = Fraction(a1) * Fraction(b1) + Fraction(a2) * Fraction(b2)
    exact = 2 * abs(
        slope + Fraction(e) * (Fraction(b1) + Fraction(b2))
    )  # where both kinks are passed
    result = lx.lipschitz(net, lx.Box.unit(2), functional=0, mode=mode)
    holds(result, exact)
    assert result.upper <= float(exact) * (1 + 1e-4)


def test_a_residual_of_two_branches_is_rounded_once():
    x = Input(1)
    inner = Affine(((np.array([[0.3]]), x),), np.zeros(1))
    y = Affine(((np.array([[0.1]]), inner), (np.array([[-0.03]]), x)), np.zeros(1))
    net = network(Graph((x,), (y,)), input_shape=(1,), output_shape=(1,), name="residual")
    exact = float(Fraction(0.1) * Fraction(0.3) - Fraction(0.03))
    assert exact != 0.0
    assert net.jacobian([0.0])[0, 0] == exact
    assert solve(net, lx.Box.unit(1)).value == abs(exact)


@pytest.mark.parametrize(
    "scales",
    [
        (1e250, 1e-200, 1e-200),
        (1.25e-160, 1e-160, 1.25e200),
        (1e-200, 1e-200, 1e300),
        (1e-320, 1.0, 1.0),
    ],
)
@both_modes
def test_products_of_weights_that_underflow_on_the_way(scales, mode):
    net = to_network([(np.array([[scale]]), np.zeros(1)) for scale in scales])
    exact = math.prod(map(Fraction, scales))
    holds(lx.lipschitz(net, lx.Box([-1], [1]), mode=mode), exact)


def holds(result: lx.LipschitzResult, exact: Fraction) -> None:
    """The interval holds the constant, up to rounding, and an EXACT one is it."""
    assert Fraction(result.lower) <= exact * (1 + Fraction(1, 10**12))
    assert Fraction(result.upper) >= exact * (1 - Fraction(1, 10**12))
    if result.status is lx.Status.EXACT:
        assert result.value == pytest.approx(float(exact), rel=1e-9, abs=0.0)
