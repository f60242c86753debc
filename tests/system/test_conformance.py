"""A walk over the registry of ONNX operators: examples are networks in every respect, ONNX's own node tests hold.

The examples against the reference implementation and against finite differences are in test_onnx.py.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from functools import cache

import numpy as np
import onnx
import pyomo.environ as pyo
import pytest

import lipexact as lx
from lipexact.bounds.crown import bound_nodes
from lipexact.graph.evaluate import evaluate
from lipexact.mip.solvers.base import Termination, solve
from lipexact.onnx.nodes import FLOAT_TYPES
from lipexact.onnx.registry import OPERATORS, Example
from tests.support.programs import TIGHT

EXAMPLES = [
    pytest.param(example, id=f"{operator.name}-{number}")
    for operator in OPERATORS.values()
    for number, example in enumerate(operator.examples)
]


@pytest.mark.parametrize("key", OPERATORS, ids=lambda key: ".".join(filter(None, key)))
def test_every_operator_has_examples_and_a_summary(key: tuple[str, str]) -> None:
    operator = OPERATORS[key]
    assert operator.examples
    for example in operator.examples:
        assert key in [(node.domain, node.op_type) for node in example.model().graph.node]
    assert operator.summary.endswith(".")
    assert "|" not in operator.summary.replace("\\|", "")  # it is a cell of a table


@pytest.mark.unwatched
@pytest.mark.parametrize("example", EXAMPLES)
def test_bounds_contain_every_node(example: Example) -> None:
    network = lx.load(example.model())
    domain = lx.Box(np.full(network.input.size, -1.0), np.full(network.input.size, 1.5))
    bounds = bound_nodes(network.graph, {network.input: domain})
    points = np.random.default_rng(0).uniform(-1.0, 1.5, (50, network.input.size))
    values = evaluate(network.graph, {network.input: points})
    for node, value in values.items():
        lower, upper = bounds[node]
        assert (lower <= value).all(), node.name
        assert (value <= upper).all(), node.name


@pytest.mark.unwatched
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_program_with_a_pinned_input_reproduces_the_output(example: Example) -> None:
    network = lx.load(example.model())
    d = network.input.size
    functional = np.cos(np.arange(network.output.size))
    composition = lx.build(
        network, lx.Box(np.full(d, -1.0), np.full(d, 1.5)), functional=functional
    )
    point = np.random.default_rng(1).uniform(-1.0, 1.5, d)
    pin = composition.model.pin = pyo.ConstraintList()
    for variable, value in zip(composition.input, point.tolist(), strict=True):
        pin.add(variable == value)
    outcome = solve(composition.model, "highs", TIGHT)
    assert outcome.termination is Termination.OPTIMAL
    found = [pyo.value(entry) for entry in composition.output]
    np.testing.assert_allclose(found, network.evaluate(point), rtol=1e-6, atol=1e-6)
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


@pytest.mark.parametrize("key", OPERATORS, ids=lambda key: ".".join(filter(None, key)))
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
                found, wanted, rtol=tolerance, atol=tolerance * max(1.0, np.abs(wanted).max(initial=0.0)),
                err_msg=case.name,
            )  # fmt: skip
            compared += 1
    assert (compared == 0) == (key in NOT_TESTED)


def test_every_refusal_is_needed() -> None:
    names = [case.name for key in OPERATORS for case in node_tests()[key]]
    for part in REFUSED:
        assert any(part in name for name in names), part
