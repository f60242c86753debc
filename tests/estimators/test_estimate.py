"""The call of an estimator: what is refused, limits, and what is returned."""

from __future__ import annotations

import json
import math
import time
import warnings

import numpy as np
import pytest

import lipexact as lx
from lipexact.estimators import constants
from tests.support.estimators import BOX, CHEAP, NET, RARE
from tests.support.networks import random_weights, to_network


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"method": "magic"}, lx.OptionError, "no estimator"),
        ({"method": 3}, lx.OptionError, "no estimator"),
        (
            {"method": "fastlip", "samples": 3},
            lx.OptionError,
            "no option 'samples'.*preactivations",
        ),
        ({"method": "fastlip", "preactivations": "magic"}, lx.OptionError, "none of"),
        ({"method": "sampling", "samples": 0}, lx.OptionError, "samples must be"),
        ({"method": "sampling", "samples": True}, lx.OptionError, "samples must be"),
        ({"method": "sampling", "seed": -1}, lx.OptionError, "seed must be"),
        ({"method": "sampling", "ascent": 1}, lx.OptionError, "ascent must be"),
        ({"method": "clever", "batches": 1.5}, lx.OptionError, "batches must be"),
        ({"method": "liplp", "mode": "both"}, lx.OptionError, "none of"),
        ({"method": "liplp", "solver": ["highs"]}, lx.OptionError, "must be a name"),
        (
            {"method": "fastlip", "preactivations": ["linear", "interval"]},
            lx.OptionError,
            "none of",
        ),
        ({"method": "liplp", "solver": "magic"}, lx.OptionError, "unknown solver"),
        ({"method": "linear", "time_limit": 0}, lx.OptionError, "positive number of seconds"),
        ({"method": "linear", "input_norm": "l3"}, lx.NormError, "unknown norm"),
        ({"method": "linear", "functional": 9}, lx.NormError, "names no output"),
        ({"method": "linear", "functional": 0, "output_norm": "l1"}, lx.NormError, "leave it out"),
        ({"method": "lipsdp"}, lx.UnsupportedEstimateError, "input norm must be l2"),
        (
            {"method": "eclipse", "input_norm": "l1"},
            lx.UnsupportedEstimateError,
            "input norm must be l2",
        ),
        (
            {"method": "seqlip", "input_norm": "linf", "output_norm": "l2"},
            lx.UnsupportedEstimateError,
            "l2",
        ),
        (
            {"method": "zonotope", "input_norm": "l2"},
            lx.UnsupportedEstimateError,
            "few vertices|64 vertices",
        ),
    ],
)
def test_what_is_refused(options, error, text):
    with pytest.raises(error, match=text):
        lx.estimate(NET, BOX, **options)


def test_sizes_that_are_refused(monkeypatch):
    wide = to_network(random_weights(np.random.default_rng(0), (2, 200, 1)))
    with pytest.raises(lx.UnsupportedEstimateError, match="200 open gates"):
        lx.estimate(wide, lx.Reals(2), "lipsdp", input_norm="l2")
    with pytest.raises(lx.UnsupportedEstimateError, match="eclipse-fast"):
        lx.estimate(wide, lx.Reals(2), "eclipse", input_norm="l2")
    some = to_network(random_weights(np.random.default_rng(0), (2, 50, 1)))
    with pytest.raises(lx.UnsupportedEstimateError, match="50 open gates, too long"):
        lx.estimate(some, lx.Reals(2), "lipsdp", input_norm="l2", time_limit=0.1)
    late = lx.estimate(some, lx.Reals(2), "eclipse", input_norm="l2", time_limit=0.1).value
    assert late == pytest.approx(
        lx.estimate(some, lx.Reals(2), "eclipse-fast", input_norm="l2").value
    )
    with pytest.raises(lx.UnsupportedEstimateError, match="all patterns of a layer"):
        lx.estimate(wide, lx.Reals(2), "seqlip-brute-force", input_norm="l2")
    monkeypatch.setattr(constants, "MAX_PROOF_SIZE", 100)
    with pytest.raises(lx.UnsupportedEstimateError, match="up to 100 together"):
        lx.estimate(wide, lx.Reals(2), "eclipse-fast", input_norm="l2")
    outputs = to_network(random_weights(np.random.default_rng(0), (2, 3, 20)))
    with pytest.raises(lx.UnsupportedEstimateError, match="at most 16"):
        lx.estimate(outputs, lx.Reals(2), "lipsdp", input_norm="l2", output_norm="linf")


@pytest.mark.parametrize(
    "sizes", [(1e160, 1.0), (1.0, 1e160), (1e-160, 1.0), (1e-160, 1e160), (1e80, 1e80)]
)
def test_squares_that_overflow_or_underflow(sizes):
    first, last = sizes
    net = to_network([([[first], [-first / 2]], [0, first / 3]), ([[last, last]], [0])])
    known = lx.lipschitz(net, lx.Box([-1], [1])).value
    for name in (
        "lipsdp",
        "lipsdp-layer",
        "eclipse",
        "eclipse-fast",
        "seqlip-brute-force",
        "naive",
        "best-upper",
    ):
        found = lx.estimate(net, lx.Box([-1], [1]), name, input_norm="l2").value
        assert known * (1 - 1e-12) <= found <= max(3 * known, 1e-157), (
            name,
            found,
        )  # the root of TINY


@pytest.mark.parametrize("size", [1e160, 1e250])
def test_numbers_that_overflow_are_no_bounds(size):
    weights = [
        (weight * size, bias)
        for weight, bias in random_weights(np.random.default_rng(0), (2, 3, 3, 2))
    ]
    net = to_network(weights)
    for pair in (("linf", "linf"), ("l2", "l2"), ("l1", "l2")):
        for name in lx.estimator_names():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", RuntimeWarning)
                    keywords = {
                        "input_norm": pair[0],
                        "output_norm": pair[1],
                        **CHEAP.get(name, {}),
                    }
                    found = lx.estimate(net, BOX, name, time_limit=5, **keywords)
            except lx.LipExactError:
                continue
            assert found.guarantee in ("lower", "heuristic") or found.value > 1e300, (name, found)


def test_many_functionals_are_bounded_by_the_entries():
    net = to_network(
        random_weights(np.random.default_rng(0), (2, 4, 9))
    )  # 256 signs for the norm l1
    exact = lx.lipschitz(net, BOX, input_norm="l1").value
    for name in ("fastlip", "recurjac", "linear"):
        found = lx.estimate(net, BOX, name, input_norm="l1").value
        assert exact * (1 - 1e-12) <= found <= 2 * exact


def test_without_cvxpy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cvxpy", None)
    with pytest.raises(lx.SolverUnavailableError, match=r"lipexact\[sdp\]"):
        lx.estimate(NET, BOX, "lipsdp", input_norm="l2")
    found = lx.estimate(NET, BOX, input_norm="l2")  # the others do
    assert "lipsdp" in found.details["refused"]


def test_an_estimate_as_json():
    for name in lx.estimator_names():
        found = (
            lx.estimate(NET, BOX, name, functional=0, **CHEAP.get(name, {}))
            if name in RARE
            else None
        )
        if found is not None:
            again = json.loads(found.to_json())
            assert (again["method"], again["value"], again["guarantee"]) == (
                name,
                found.value,
                found.guarantee,
            )
    assert "value" in repr(found)


def test_the_best_upper_bound_is_the_least():
    for pair in (("linf", "linf"), ("l2", "l2")):
        keywords = {"input_norm": pair[0], "output_norm": pair[1]}
        found = lx.estimate(NET, BOX, **keywords)
        least = min(
            lx.estimate(NET, BOX, name, **keywords).value
            for name in found.details["upper_bounds"]
            if name != "liplp"
        )
        assert found.value <= least
        assert found.value == found.details["upper_bounds"][found.details["best"]]
    assert found.method == "best-upper"


def test_time_limits_are_kept():
    net = to_network(random_weights(np.random.default_rng(0), (20, 60, 60, 60, 10)))
    box = lx.Box([-1.0] * 20, [1.0] * 20)
    for name in ("best-upper", "sampling", "clever", "linear"):
        start = time.perf_counter()
        found = lx.estimate(net, box, name, time_limit=0.1)
        assert time.perf_counter() - start < 20  # a rail, not a measurement
        assert math.isfinite(found.value)
    assert lx.estimate(net, box, "exact", time_limit=0.1).guarantee == "upper"
    few = lx.estimate(net, box, "sampling", time_limit=1e-6)
    assert 0 < few.details["samples"] < 100_000
