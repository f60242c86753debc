"""A walk over the registry of ONNX operators.

The examples in tests/operators are networks in every respect: values, derivatives, bounds,
programs. ONNX's own node tests hold.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from functools import cache

import numpy as np
import onnx
import onnx.helper
import pyomo.environ as pyo
import pytest

import lipexact as lx
from lipexact.bounds.crown import bound_nodes
from lipexact.graph.evaluate import evaluate
from lipexact.mip.solvers.base import Termination, solve
from lipexact.network import Network
from lipexact.onnx import read_onnx, supported_operators
from lipexact.onnx.constants import FLOAT_TYPES
from lipexact.onnx.registry import OPERATORS
from tests.operators import EXAMPLES, MODULES
from tests.operators.example import Example
from tests.support.graphs import stacked
from tests.support.onnx_checks import assert_agrees, assert_jacobian, assert_names
from tests.support.programs import TIGHT

operators = pytest.mark.parametrize("name", EXAMPLES)
keys = pytest.mark.parametrize("key", OPERATORS, ids=lambda key: ".".join(filter(None, key)))


@cache
def networks(name: str) -> list[Network]:
    """The examples of an operator, each of which is read once."""
    return [read_onnx(example.model()) for example in EXAMPLES[name]]


def test_every_operator_has_examples_in_the_module_of_its_name() -> None:
    assert set(EXAMPLES) == set(supported_operators())
    for module in MODULES:
        own = module.__name__.rpartition(".")[2]
        lowered = {
            operator.name
            for operator in OPERATORS.values()
            if operator.lowering.__module__ == f"lipexact.onnx.operators.{own}"
        }
        assert set(module.EXAMPLES) == lowered, own


@keys
def test_every_operator_has_examples_that_use_it_and_a_summary(key: tuple[str, str]) -> None:
    operator = OPERATORS[key]
    assert EXAMPLES[operator.name]
    for example in EXAMPLES[operator.name]:
        assert key in [(node.domain, node.op_type) for node in example.model().graph.node]
    assert operator.summary.endswith(".")
    assert "|" not in operator.summary.replace("\\|", "")  # it is a cell of a table


@operators
def test_operator_agrees_with_the_reference(name: str) -> None:
    for example, network in zip(EXAMPLES[name], networks(name), strict=True):
        assert_example(example, network)


def assert_example(example: Example, network: Network) -> None:
    """Values as in the reference implementation, derivatives as by differences, names for files."""
    points = np.random.default_rng(0).normal(size=(10, *example.x))
    known = example.reference_model()
    if example.dtype == "double":
        assert_agrees(network, known, points)
    else:
        assert_agrees(network, known, points.astype(np.float32), 1e-6)
    assert_jacobian(network, points)
    assert_names(network)


@operators
def test_operator_with_an_unknown_attribute_is_refused(name: str) -> None:
    """In the first example: all lowerings of an operator go through the same check."""
    model = EXAMPLES[name][0].model()
    node = next(
        node for node in model.graph.node if name in (node.op_type, f"{node.domain}.{node.op_type}")
    )
    node.attribute.append(onnx.helper.make_attribute("fancy", 1))
    with pytest.raises(lx.UnsupportedOperatorError, match="fancy"):
        read_onnx(model)


@pytest.mark.unwatched
@operators
def test_bounds_contain_every_node_and_the_program_reproduces_the_output(name: str) -> None:
    """For all examples of an operator side by side: one network, one set of bounds, one solve."""
    network = stacked(networks(name))
    domain = lx.Box(np.full(network.input.size, -1.0), np.full(network.input.size, 1.5))
    assert_bounds(network, domain)
    assert_program(network, domain)


def assert_bounds(network: Network, domain: lx.Box) -> None:
    """Bounds of every node contain its values at random points."""
    bounds = bound_nodes(network.graph, {network.input: domain})
    points = np.random.default_rng(0).uniform(-1.0, 1.5, (50, network.input.size))
    values = evaluate(network.graph, {network.input: points})
    for node, value in values.items():
        lower, upper = bounds[node]
        assert (lower <= value).all(), node.name
        assert (value <= upper).all(), node.name


def assert_program(network: Network, domain: lx.Box) -> None:
    """With the input pinned to a point the program has the output and the norm there."""
    functional = np.cos(np.arange(network.output.size))
    composition = lx.build(network, domain, functional=functional)
    point = np.random.default_rng(1).uniform(-1.0, 1.5, network.input.size)
    pin = composition.model.pin = pyo.ConstraintList()
    for variable, value in zip(composition.input, point.tolist(), strict=True):
        pin.add(variable == value)
    outcome = solve(composition.model, "highs", TIGHT)
    assert outcome.termination is Termination.OPTIMAL
    output = [pyo.value(entry) for entry in composition.output]
    np.testing.assert_allclose(output, network.evaluate(point), rtol=1e-6, atol=1e-6)
    norm = np.abs(functional @ network.jacobian(point)).sum()
    assert pyo.value(composition.objective) == pytest.approx(norm, rel=1e-6, abs=1e-6)


# ONNX's own node tests


@cache
def node_tests() -> dict[tuple[str, str], list]:
    """Those of onnx with a single node, by operator; they come with the package."""
    from onnx.backend.test.case.node import collect_testcases  # it takes seconds

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    found = defaultdict(list)
    for case in cases:
        if len(case.model.graph.node) == 1:
            (node,) = case.model.graph.node
            found[node.domain, node.op_type].append(case)
    return found


# Node tests that are refused, by a part of their names, and why: a part of the error.
REFUSED = {
    "resize_tf_crop": "crop",
    "antialias": "antialias",
    "exclude_outside": "exclude_outside",
    "resize_downsample_scales": "runtimes round",
    "scales_linear_half_pixel_symmetric": "runtimes round",
    "nearest_not_": "own scale",
    "shrink_hard": "not continuous",
    "thresholdedrelu": "not continuous",
    "training_mode": "training mode",
    "training_dropout": "training mode",
    "_empty_set": "known length",
    "_zero_size": "known length",
    "allowzero_reordered": "known length",
    "start_greater_than_end": "is empty",
    "start_out_of_bounds": "is empty",
    **dict.fromkeys(("elements_with_reduction_m", "scatternd_m"), "knows 'none' and 'add'"),
    **dict.fromkeys(
        ("to_FLOAT8", "to_FLOAT4", "to_UINT", "to_INT"), "floating-point type of 16 bits"
    ),
}


def arrays_of(values: list) -> list[np.ndarray]:
    return [
        onnx.numpy_helper.to_array(value)
        if isinstance(value, onnx.TensorProto)
        else np.asarray(value)
        for value in values
    ]


# Operators without a node test that has a float input, or none that is accepted.
NOT_TESTED = {
    ("", "Constant"), ("", "ThresholdedRelu"), ("", "Trilu"), ("ai.onnx.ml", "LinearRegressor"),
    ("ai.onnx.ml", "Scaler"),
}  # fmt: skip


@keys
def test_node_tests_of_onnx(key: tuple[str, str]) -> None:
    compared = 0
    for case in node_tests()[key]:
        graph = case.model.graph
        ((inputs, outputs),) = case.data_sets
        feeds = dict(zip([info.name for info in graph.input], arrays_of(inputs), strict=True))
        floats = [
            info.name for info in graph.input if info.type.tensor_type.elem_type in FLOAT_TYPES
        ]
        if not floats or (floats[0] != graph.input[0].name and key[1] != "Where"):
            continue  # integers and strings are no input of a network
        x = feeds.pop(floats[0])
        if "like" in feeds:  # of which the type alone matters
            feeds["like"] = np.zeros_like(feeds["like"])
        finite = np.isfinite(x)
        refused = next((reason for part, reason in REFUSED.items() if part in case.name), None)
        for info, expected in zip(graph.output, arrays_of(outputs), strict=True):
            if (
                refused is None
                and info.type.tensor_type.elem_type not in FLOAT_TYPES
                and key[1] not in ("Shape", "Size")
            ):
                continue  # indices, masks
            choice = {"input": floats[0], "output": info.name, "fixed": feeds, "batched": False}
            if refused is not None:
                with pytest.raises(lx.LipExactError, match=refused):
                    lx.load(case.model, **choice)
                continue
            network = lx.load(case.model, **choice)
            assert network.output_shape == expected.shape, case.name
            found = network.evaluate(np.where(finite, x, 0).astype(np.float64).ravel())
            wanted = expected.astype(np.float64).ravel()
            if not finite.all():  # casts, entry by entry
                assert key[1] in ("Cast", "CastLike"), case.name
                known = finite.ravel() & np.isfinite(wanted)  # in a smaller type some are too large
                found, wanted = found[known], wanted[known]
            # One expects a number that was written down in five digits.
            tolerance = (
                1e-2
                if "16" in str(x.dtype) + case.name
                else 1e-4
                if "starts_on_pad" in case.name
                else 1e-5
            )
            np.testing.assert_allclose(
                found,
                wanted,
                rtol=tolerance,
                atol=tolerance * max(1.0, np.abs(wanted).max(initial=0.0)),
                err_msg=case.name,
            )
            compared += 1
    assert (compared == 0) == (key in NOT_TESTED)


def test_every_refusal_is_needed() -> None:
    names = [case.name for key in OPERATORS for case in node_tests()[key]]
    for part in REFUSED:
        assert any(part in name for name in names), part
