"""Global constants, against enumeration on boxes as large as any vertex can be far, and against
other questions.
"""

from __future__ import annotations

import itertools
import os
from fractions import Fraction

import numpy as np
import pytest

import lipexact as lx
from lipexact.graph.ir import Affine, Graph, Input
from lipexact.graph.lowering import maximum, relu
from lipexact.mip.solvers.base import solver_names
from lipexact.network import network
from lipexact.problem.homogenize import Homogenization
from tests.support.networks import FAMILIES, case, random_weights, to_network
from tests.support.onnx_files import onnx_model
from tests.support.oracle import Polyhedral, constant, cross_functionals, regions, trace
from tests.support.paths import EXAMPLES, FIXTURES
from tests.support.solvers import require

pytestmark = pytest.mark.slow  # whole solves

PAIRS = tuple(itertools.product(("linf", "l1", "l2"), repeat=2))
FAR = 1e40  # vertices of such small networks are nowhere near
# More of them: nox -s pairs
SEEDS = int(os.environ.get("LIPEXACT_SEEDS", "0"))


def member(family, seed):
    """A network's weights, itself, and the number of its inputs."""
    weights = case(family, seed).weights
    net = to_network(weights)
    return weights, net, net.input.size


def known_constant(weights, input_norm, output_norm, functional=None):
    d = np.shape(weights[0][0])[1]
    return float(
        constant(regions(weights, [-FAR] * d, [FAR] * d), functional, input_norm, output_norm)
    )


def check(result, net, input_norm):
    """What a witness claims."""
    witness = result.witness
    assert witness.jacobian.shape == (net.output.size, net.input.size)
    reached = witness.functional @ witness.jacobian @ witness.direction
    assert reached == pytest.approx(result.lower, rel=1e-9, abs=1e-300)
    order = {"linf": np.inf, "l1": 1, "l2": 2}[input_norm]
    assert np.linalg.norm(witness.direction, order) <= 1 + 1e-12
    if witness.radius > 0:
        assert net.jacobian(witness.point) == pytest.approx(witness.jacobian, rel=1e-9, abs=1e-12)
        rng = np.random.default_rng(0)
        near = witness.point + min(witness.radius, 1e6) * rng.uniform(-1, 1, (20, net.input.size))
        for jacobian in net.jacobian(near):
            assert jacobian == pytest.approx(witness.jacobian, rel=1e-9, abs=1e-12)


@pytest.mark.unwatched
@pytest.mark.parametrize("seed", range(SEEDS or 3))
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_enumeration_of_regions(family, seed):
    weights, net, d = member(family, 300 + seed)
    found = regions(weights, [-FAR] * d, [FAR] * d)
    for k in range(3):  # all nine pairs, over three seeds
        pair = PAIRS[3 * seed % 9 + k]
        result = lx.lipschitz(
            net, lx.Reals(d), input_norm=pair[0], output_norm=pair[1], method="bab"
        )
        assert result.status is lx.Status.EXACT
        assert result.value == pytest.approx(float(constant(found, None, *pair)), rel=1e-9, abs=0.0)
        check(result, net, pair[0])


def test_programs_know_all_of_space(solver):
    pairs = [("linf", "linf"), ("l1", "linf"), ("linf", "l1")]
    pair = pairs[solver_names().index(solver) % 3]
    weights = random_weights(np.random.default_rng(7), (3, 5, 4, 2))
    known = known_constant(weights, *pair)
    result = lx.lipschitz(
        to_network(weights),
        lx.Reals(3),
        input_norm=pair[0],
        output_norm=pair[1],
        method="mip",
        solver=solver,
    )
    assert result.status is lx.Status.EXACT
    assert result.method in ("mip", "bounds")
    assert result.value == pytest.approx(known, rel=1e-9)
    check(result, to_network(weights), pair[0])


def test_functionals_and_metrics():
    weights = random_weights(np.random.default_rng(8), (3, 6, 4, 3))
    net = to_network(weights)
    for norm in ("linf", "l1", "l2"):
        for functional in (1, [1.0, -2.0, 0.5]):
            row = np.eye(3)[1] if functional == 1 else functional
            result = lx.lipschitz(net, lx.Reals(3), input_norm=norm, functional=functional)
            assert result.value == pytest.approx(known_constant(weights, norm, norm, row), rel=1e-9)
        cross = lx.lipschitz(net, lx.Reals(3), input_norm=norm, functional=lx.CrossLipschitz())
        assert cross.value == pytest.approx(
            max(known_constant(weights, norm, norm, c) for c in cross_functionals(3)), rel=1e-9
        )
    # Inputs in other units: a weighted norm is a norm of the scaled network.
    units = np.array([0.5, 3.0, 1.0])
    metric = lx.PolyhedralNorm(vertices=np.vstack([np.diag(units), -np.diag(units)]))
    scaled = [(weights[0][0] * units, weights[0][1]), *weights[1:]]
    result = lx.lipschitz(net, lx.Reals(3), input_norm=metric, functional=0)
    assert result.value == pytest.approx(known_constant(scaled, "l1", "l1", [1, 0, 0]), rel=1e-9)


def test_the_relaxation_is_an_upper_bound():
    weights = random_weights(np.random.default_rng(9), (3, 6, 4, 1))
    known = known_constant(weights, "linf", "linf")
    result = lx.lipschitz(to_network(weights), lx.Reals(3), method="lp")
    assert result.lower <= known * (1 + 1e-12)
    assert result.upper >= known * (1 - 1e-12)


def test_large_boxes_come_near():
    for seed in range(4):
        weights = random_weights(np.random.default_rng(seed), (2, 5, 3, 2))
        net = to_network(weights)
        everywhere = lx.lipschitz(net, lx.Reals(2))
        small, large = (lx.lipschitz(net, lx.Box([-size] * 2, [size] * 2)) for size in (0.1, 1e6))
        assert small.lower <= large.lower * (1 + 1e-9)
        assert large.value == pytest.approx(everywhere.value, rel=1e-9)


def test_shifts_and_scales_of_the_input():
    first, *rest = random_weights(np.random.default_rng(11), (3, 6, 4, 2))
    plain = lx.lipschitz(
        to_network([first, *rest]), lx.Reals(3), input_norm="l2", output_norm="linf"
    )
    shift = np.array([1e3, -7.0, 0.3])
    moved = lx.lipschitz(
        to_network([(first[0], first[1] + first[0] @ shift), *rest]),
        lx.Reals(3),
        input_norm="l2",
        output_norm="linf",
    )
    assert moved.value == pytest.approx(plain.value, rel=1e-9)
    for size in (2.0**-40, 2.0**50):
        scaled = lx.lipschitz(
            to_network([(first[0] * size, first[1]), *rest]),
            lx.Reals(3),
            input_norm="l2",
            output_norm="linf",
        )
        assert scaled.value == pytest.approx(plain.value * size, rel=1e-9)


def test_the_identity_written_with_two_relus():
    net = lx.Network.from_layers([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, -1.0]], [0.0])])
    for method in ("bab", "mip"):
        result = lx.lipschitz(net, lx.Reals(1), method=method)
        assert (result.status, result.value) == (lx.Status.EXACT, 1.0)


def test_without_gates_or_biases():
    matrix = np.array([[1.0, -2.0], [0.5, 3.0]])
    for bias in (np.zeros(2), np.ones(2)):
        affine = lx.Network.from_layers([(matrix, bias)])
        result = lx.lipschitz(affine, lx.Reals(2))
        assert (result.status, result.value) == (lx.Status.EXACT, 3.5)
        assert 0 < result.witness.radius < np.inf
        assert result.to_json()
    weights = [
        (w, np.zeros(len(b))) for w, b in random_weights(np.random.default_rng(12), (3, 5, 4, 2))
    ]
    result = lx.lipschitz(to_network(weights), lx.Reals(3), input_norm="l1")
    local = lx.lipschitz(
        to_network(weights), lx.Box([-1] * 3, [1] * 3), input_norm="l1"
    )  # cones, around 0
    assert result.value == pytest.approx(local.value, rel=1e-9)


def test_graphs_that_read_their_input_in_several_places():
    x = Input(2)
    rng = np.random.default_rng(13)
    direct = relu(x)
    hidden = relu(
        Affine(
            ((rng.normal(size=(3, 2)), x), (rng.normal(size=(3, 2)), direct)), rng.normal(size=3)
        )
    )
    top = maximum(
        Affine(((rng.normal(size=(2, 3)), hidden),), rng.normal(size=2)),
        Affine(((rng.normal(size=(2, 2)), x),), rng.normal(size=2)),
    )
    for output in (direct, Affine(((np.eye(2), direct), (np.eye(2), x)), np.zeros(2)), top):
        net = network(
            Graph((x,), (output,)), input_shape=(2,), output_shape=(output.size,), name="direct"
        )
        whole = Homogenization(net)
        assert [gate.size for gate in whole.network.gates] == [gate.size for gate in net.gates]
        points = rng.normal(size=(50, 2)) * 10
        lifted = np.hstack([points / whole.scale, np.ones((50, 1))])
        assert whole.network.evaluate(lifted) == pytest.approx(
            net.evaluate(points), rel=1e-12, abs=1e-12
        )
        by_tree, by_program = (
            lx.lipschitz(net, lx.Reals(2), method=method) for method in ("bab", "mip")
        )
        assert by_tree.value == pytest.approx(by_program.value, rel=1e-9)
        sampled = np.abs(net.jacobian(rng.normal(size=(2000, 2)) * 5)).sum(axis=2).max()
        assert sampled <= by_tree.value * (1 + 1e-9)


def test_an_example_by_both_methods():
    path = EXAMPLES / "wine_13_16_16_3.onnx"
    results = [
        lx.lipschitz(path, lx.Reals(13), input_norm="l1", functional=2, method=method)
        for method in ("bab", "mip")
    ]
    assert [result.status for result in results] == [lx.Status.EXACT] * 2
    assert results[0].value == pytest.approx(results[1].value, rel=1e-9)
    assert results[0].value == pytest.approx(11.557384143, rel=1e-9)


def test_a_time_limit_leaves_an_interval():
    net = to_network(random_weights(np.random.default_rng(14), (8, 30, 30, 2)))
    result = lx.lipschitz(net, lx.Reals(8), time_limit=0.5)
    assert result.termination == "time limit"
    sampled = (
        np.abs(net.jacobian(np.random.default_rng(0).normal(size=(2000, 8)) * 3)).sum(axis=2).max()
    )
    assert 0 < result.lower <= result.upper
    assert sampled <= result.upper


@pytest.mark.parametrize("size", [0, -1, True, 2.5, "2", None])
def test_a_dimension_that_is_none(size):
    with pytest.raises(lx.DomainError, match="positive integer"):
        lx.Reals(size)


def test_intersections():
    box = lx.Box([0, 1], [2, 3])
    for both in (box & lx.Reals(2), lx.Reals(2) & box):
        assert (both.lower == box.lower).all()
        assert (both.upper == box.upper).all()
        assert both.is_box
    assert isinstance(lx.Reals(2) & lx.Reals(2), lx.Reals)
    for one, other in ((lx.Reals(3), box), (box, lx.Reals(3)), (lx.Reals(2), lx.Reals(3))):
        with pytest.raises(lx.DomainError, match="do not intersect"):
            one & other


def test_where_bounds_are_needed():
    net = to_network(random_weights(np.random.default_rng(15), (2, 3, 2)))
    for call in (lx.build, lx.general_position_report):
        with pytest.raises(lx.DomainError, match="no bounds"):
            call(net, lx.Reals(2))
    with pytest.raises(lx.NormError, match="bounded set"):
        lx.lipschitz(net, lx.Box.unit(2), functional=lx.Reals(2))
    with pytest.raises(lx.DomainError, match="3 dimensions"):
        lx.lipschitz(net, lx.Reals(3))


@pytest.mark.unwatched
@pytest.mark.parametrize("seed", range(SEEDS or 1))
@pytest.mark.parametrize("family", FAMILIES)
def test_programs_equal_the_enumeration_of_regions(family, seed):
    weights, net, d = member(family, 600 + seed)
    turn = sorted(FAMILIES).index(family) + seed
    solver = require(solver_names()[turn % len(solver_names())])
    pair = [pair for pair in PAIRS if "l2" not in pair][turn % 3]
    known = known_constant(weights, *pair)
    result = lx.lipschitz(
        net,
        lx.Reals(d),
        input_norm=pair[0],
        output_norm=pair[1],
        method="mip",
        solver=solver,
        time_limit=120,
    )
    assert result.status is lx.Status.EXACT
    assert result.method in ("mip", "bounds")
    assert result.value == pytest.approx(known, rel=1e-9, abs=0.0)
    relaxed = lx.lipschitz(
        net, lx.Reals(d), input_norm=pair[0], output_norm=pair[1], method="lp", solver=solver
    )
    assert relaxed.lower <= known * (1 + 1e-12)
    assert relaxed.upper >= known * (1 - 1e-13)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_witness_is_in_the_region_that_it_says(family):
    """In rationals: the signs all over its ball, and the derivative there."""
    for seed in range(3):
        weights, net, d = member(family, 700 + seed)
        norm = ("linf", "l1", "l2")[seed]
        result = lx.lipschitz(net, lx.Reals(d), input_norm=norm)
        witness = result.witness
        assert (witness.functional @ witness.jacobian @ witness.direction) == pytest.approx(
            result.lower, rel=1e-12
        )
        assert np.linalg.norm(
            witness.direction, {"linf": np.inf, "l1": 1, "l2": 2}[norm]
        ) == pytest.approx(1)
        assert 0 < witness.radius < np.inf
        point, radius = (
            [Fraction(entry) for entry in witness.point.tolist()],
            Fraction(witness.radius),
        )
        rng = np.random.default_rng(seed)
        steps = np.vstack(
            [np.zeros((1, d)), rng.choice((-1.0, 1.0), (5, d)), rng.uniform(-1, 1, (5, d))]
        )
        for step in steps.tolist():
            near = [
                entry + radius * Fraction(part) for entry, part in zip(point, step, strict=True)
            ]
            for values, gates in zip(
                trace(weights, near), witness.pattern, strict=False
            ):  # the last ones are f
                for value, on in zip(values, gates.tolist(), strict=True):
                    assert value >= 0 if on else value <= 0
        assert net.jacobian(witness.point) == pytest.approx(witness.jacobian, rel=1e-12, abs=1e-12)


def test_units_of_each_input():
    rng = np.random.default_rng(16)
    for exponents in ([-30, 0, 30], [20, 5, -7]):
        (matrix, bias), *rest = random_weights(rng, (3, 5, 3, 2))
        units = np.ldexp(1.0, exponents)
        weights = [(matrix * units, bias), *rest]
        net = to_network(weights)
        whole = Homogenization(net)
        assert whole.scale.min() < 2.0**-5
        assert whole.scale.max() > 2.0**5
        points = rng.normal(size=(50, 3)) / units
        lifted = np.hstack([points / whole.scale, np.ones((50, 1))]) * rng.uniform(0.1, 10, (50, 1))
        assert whole.network.jacobian(lifted)[:, :, :3] == pytest.approx(
            net.jacobian(points) * whole.scale, rel=1e-12
        )
        for pair in (("linf", "l1"), ("l1", "l2"), ("l2", "linf"), ("l2", "l2")):
            result = lx.lipschitz(net, lx.Reals(3), input_norm=pair[0], output_norm=pair[1])
            assert result.status is lx.Status.EXACT
            assert result.value == pytest.approx(known_constant(weights, *pair), rel=1e-9)
            check(result, net, pair[0])
    rows = (
        np.vstack([np.eye(3), [[1.0, 0.5, -0.25]]]) * units
    )  # in the last units, a cube without two corners
    rows = np.vstack([rows, -rows])
    result = lx.lipschitz(
        net, lx.Reals(3), input_norm=lx.PolyhedralNorm(halfspaces=rows), functional=0
    )
    assert result.value == pytest.approx(
        known_constant(weights, Polyhedral(halfspaces=rows), None, [1, 0]), rel=1e-9
    )


@pytest.mark.parametrize("form", ["halfspaces", "vertices"])
def test_norms_that_undo_the_units_of_the_inputs(form):
    (matrix, bias), *rest = random_weights(np.random.default_rng(20), (3, 5, 3, 2))
    units = np.ldexp(1.0, [-30, 0, 30])
    known = known_constant(
        [(matrix, bias), *rest], "linf" if form == "halfspaces" else "l1", "linf", [1, 0]
    )
    rows = np.diag(units if form == "halfspaces" else 1 / units)
    metric = lx.PolyhedralNorm(**{form: np.vstack([rows, -rows])})
    result = lx.lipschitz(
        to_network([(matrix * units, bias), *rest]), lx.Reals(3), input_norm=metric, functional=0
    )
    assert result.value == pytest.approx(known, rel=1e-9)


@pytest.mark.parametrize("method", ["bab", "mip"])
@pytest.mark.parametrize(
    ("last", "known"), [([9, -8, 1, 0], 9), ([1, -3, 20, 0], 18), ([1, 1, -1, -16], 16)]
)
def test_kinks_far_away_and_side_by_side(method, last, known):
    """Kinks at 0, 2^-16 and 2^16, from the left, and at -2^16, from the right."""
    far = 2.0**16
    net = lx.Network.from_layers(
        [([[1.0]] * 3 + [[-1.0]], [0.0, -1 / far, -far, -far]), ([last], [0.0])]
    )
    result = lx.lipschitz(net, lx.Reals(1), method=method)
    assert (result.status, result.value) == (lx.Status.EXACT, float(known))


def test_kinks_beyond_all_boxes():
    for s in (2.0**40, 2.0**60):
        # Slopes 0, -8 between 0 and 1 / s, 1, and 4 from s on.
        net = lx.Network.from_layers(
            [([[1.0]] * 3, [0.0, -1 / s, -s]), ([[-8.0, 9.0, 3.0]], [0.0])]
        )
        whole = lx.lipschitz(net, lx.Reals(1))
        assert (whole.status, whole.value) == (lx.Status.EXACT, 8.0)
        net = lx.Network.from_layers([([[1.0]] * 2, [0.0, -s]), ([[1.0, 3.0]], [0.0])])
        assert lx.lipschitz(net, lx.Box([-1e6], [1e6])).value == 1.0
        whole = lx.lipschitz(net, lx.Reals(1))
        assert (whole.status, whole.value) == (lx.Status.EXACT, 4.0)
        assert whole.witness.point[0] > s


@pytest.mark.parametrize("family", ["small_integers", "bias_free", "general"])
def test_boxes_grow_up_to_all_of_space(family):
    for seed in range(4):
        net = to_network(case(family, 800 + seed).weights)
        d = net.input.size
        whole = lx.lipschitz(net, lx.Reals(d), input_norm="l1", output_norm="linf")
        values = [
            lx.lipschitz(
                net, lx.Box([-size] * d, [size] * d), input_norm="l1", output_norm="linf"
            ).value
            for size in (0.25, 4.0, 1e5)
        ]
        steps = [*values, whole.value]
        assert all(one <= other * (1 + 1e-9) for one, other in itertools.pairwise(steps))
        if family == "small_integers":
            assert whole.value == values[2] == round(whole.value)  # a column of whole numbers


def residual(rng):
    """Two blocks, the second one with a projection."""
    return onnx_model(
        """(double[N,3] x) => (double[N,2] y) {
            a = MatMul (x, A)\n b = Add (a, k)\n r = Relu (b)\n s = Add (r, x)
            c = MatMul (s, B)\n d = Add (c, l)\n t = Relu (d)\n p = MatMul (s, P)\n y = Add (t, p)
        }""",
        {
            "A": rng.normal(size=(3, 3)),
            "k": rng.normal(size=3),
            "B": rng.normal(size=(3, 2)),
            "l": rng.normal(size=2),
            "P": rng.normal(size=(3, 2)),
        },
    )


def pooled(rng):
    return onnx_model(
        """(double[1,1,2,3] x) => (double[2] y) {
            c = Conv <pads = [1, 1, 1, 1]> (x, K, k)\n r = Relu (c)
            m = MaxPool <kernel_shape = [2, 2]> (r)\n f = Flatten <axis = 0> (m)
            z = MatMul (f, W)\n o = Constant <value_ints = [2]> ()\n y = Reshape (z, o)
        }""",
        {"K": rng.normal(size=(1, 1, 3, 3)), "k": rng.normal(size=1), "W": rng.normal(size=(2, 2))},
    )


MODELS = {
    "residual": residual,
    "pool": pooled,
    "MaxMin": lambda rng: FIXTURES / "torch_maxmin.onnx",
    "GroupSort": lambda rng: FIXTURES / "torch_groupsort.onnx",
    "branches": lambda rng: FIXTURES / "torch_branching.onnx",
}


@pytest.mark.parametrize("kind", MODELS)
def test_models_of_other_operators(kind):
    rng = np.random.default_rng(17)
    net = lx.load(MODELS[kind](rng))
    d = net.input.size
    for norm, order in (("linf", np.inf), ("l1", 1)):
        tree = lx.lipschitz(net, lx.Reals(d), input_norm=norm, functional=0, method="bab")
        assert tree.status is lx.Status.EXACT
        if norm == "linf":
            program = lx.lipschitz(net, lx.Reals(d), input_norm=norm, functional=0, method="mip")
            assert program.status is lx.Status.EXACT
            assert tree.value == pytest.approx(program.value, rel=1e-9)
        points = rng.normal(size=(2000, d)) * 10.0 ** rng.uniform(-1, 3, (2000, 1))
        gradients = net.jacobian(points)[:, 0]
        sampled = np.abs(gradients).sum(axis=1) if norm == "linf" else np.abs(gradients).max(axis=1)
        assert sampled.max() <= tree.value * (1 + 1e-9)
        assert sampled.max() >= 0.5 * tree.value
        check(tree, net, norm)
        assert np.linalg.norm(tree.witness.direction, order) == pytest.approx(1)


def test_an_output_that_is_the_input():
    net = lx.load(onnx_model("(float[3] x) => (float[3] y) { y = Identity (x) }"))
    assert net.output is net.input
    for method in ("bab", "mip"):
        for pair, known in ((("linf", "linf"), 1.0), (("linf", "l1"), 3.0), (("l1", "l2"), 1.0)):
            result = lx.lipschitz(
                net, lx.Reals(3), input_norm=pair[0], output_norm=pair[1], method=method
            )
            assert (result.status, result.value) == (lx.Status.EXACT, known)
            assert result.to_json()


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_both_modes(mode):
    weights = random_weights(np.random.default_rng(18), (3, 4, 3, 2))
    known = known_constant(weights, "l1", "linf")
    question = {"input_norm": "l1", "output_norm": "linf", "mode": mode}
    for method in ("bab", "mip", "lp"):
        result = lx.lipschitz(to_network(weights), lx.Reals(3), method=method, **question)
        assert result.mode in ((None,) if result.method in ("bab", "bounds") else (mode,))
        assert result.lower <= known * (1 + 1e-12)
        assert result.upper >= known * (1 - 1e-13)
        if method != "lp":
            assert result.value == pytest.approx(known, rel=1e-9)


def test_hardly_any_time_leaves_an_interval_that_holds():
    for family in FAMILIES:
        weights = case(family, 900).weights
        known = known_constant(weights, "linf", "linf")
        for method in ("bab", "mip", "lp"):
            result = lx.lipschitz(
                to_network(weights), lx.Reals(len(weights[0][0][0])), method=method, time_limit=1e-6
            )
            assert result.lower <= known * (1 + 1e-12)
            assert result.upper >= known * (1 - 1e-13)


def test_a_target_everywhere():
    weights = random_weights(np.random.default_rng(19), (3, 6, 4, 1))
    known = known_constant(weights, "linf", "linf")
    for factor in (0.5, 0.999, 1.001, 2.0):
        told = lx.lipschitz(to_network(weights), lx.Reals(3), target=factor * known)
        assert told.within_target is (factor > 1)
