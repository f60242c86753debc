"""Every estimator in the registry against the enumeration oracle, and by what is known of each."""

from __future__ import annotations

import inspect
import json
import math
import os
import warnings
from fractions import Fraction

import numpy as np
import pytest

import lipexact as lx
from lipexact.estimators import registry
from lipexact.estimators.registry import estimators
from tests.operators import all_examples
from tests.support.estimators import CHEAP, RARE
from tests.support.networks import to_network
from tests.support.paths import EXAMPLES, SHARED
from tests.support.soak import CLAIMED, CLOSE, PROVEN, ROUNDED, question

SHARED_CASES = SHARED / "cases"

PARTS = 25  # of hundreds of networks
EACH = int(os.environ.get("LIPEXACT_SEEDS", "4"))


def wrong(found: lx.Estimate, known, rounded: Fraction) -> str | None:
    """What an estimate's guarantee gets wrong; the heuristics are excluded by their label alone."""
    if math.isnan(found.value) or found.value < 0:
        return f"{found.value} is no bound"
    if found.guarantee == "heuristic":
        return None
    if math.isinf(found.value):
        return None if found.guarantee == "upper" else "a lower bound is infinite"
    value, allowed = (
        Fraction(found.value),
        rounded + (CLAIMED if found.proof == "solver" else PROVEN),
    )
    below, above = known.at_least(value / (1 + allowed)), known.at_most(value / (1 - allowed))
    if found.guarantee == "exact":
        below, above = known.at_least(value / (1 + CLOSE)), known.at_most(value / (1 - CLOSE))
    right = {"lower": below, "upper": above, "exact": below and above}[found.guarantee]
    return None if right else f"{found.guarantee} {found.value!r} against {float(known)!r}"


def asked_of_estimators(number: int):
    """The soak's question of that number, and its keywords without those of solving."""
    asked = question(number)
    kept = ("input_norm", "output_norm", "functional")
    return asked, {name: asked.keywords[name] for name in kept if name in asked.keywords}


@pytest.mark.unwatched
@pytest.mark.parametrize("part", range(PARTS))
def test_guarantees_hold(part):
    problems, answered = [], 0
    for number in range(50_000 + part, 50_000 + PARTS * EACH, PARTS):
        asked, keywords = asked_of_estimators(number)
        network, known = to_network(asked.case.weights), asked.truth()
        rounded = Fraction(0) if {type(asked.alpha), type(asked.beta)} <= {str} else ROUNDED
        for name in estimators():
            if name in RARE and number // PARTS % 5:
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", RuntimeWarning)
                    found = lx.estimate(
                        network,
                        asked.domain,
                        name,
                        time_limit=10,
                        **keywords,
                        **CHEAP.get(name, {}),
                    )
            except (lx.UnsupportedEstimateError, lx.SolverUnavailableError):
                continue
            answered += 1
            if problem := wrong(found, known, rounded):
                problems.append(f"{name}: {problem}: {asked}")
    assert not problems, "\n".join(problems)
    assert answered > 6 * EACH


def test_what_is_there():
    entries = estimators()
    assert set(entries) >= {
        "sampling", "clever", "fastlip", "recurjac", "linear", "zonotope", "liplp", "seqlip",
        "seqlip-brute-force",
        "naive", "lipsdp", "lipsdp-layer", "eclipse", "eclipse-fast", "best-upper", "exact",
    }  # fmt: skip
    assert lx.estimator_names() == list(entries)
    for entry in entries.values():
        assert entry.about.endswith(".")
        assert entry.guarantee in ("lower", "heuristic", "upper", "exact")
        assert entry.scope in ("local", "global")
        assert entry.source
        assert entry.norms
        assert entry.networks
        # An option of a name that `estimate` has itself could not be given.
        assert not set(entry.options) & set(inspect.signature(lx.estimate).parameters)


# Estimators' ratios to the exact constant that public implementations and prototypes reach.
RATIOS = {
    ("linf", "linear"): (1.030, 1.089),
    ("linf", "recurjac"): (1.084, 1.165),
    ("linf", "fastlip"): (1.084, 1.490),
    ("linf", "fastlip interval"): (1.084, 1.490),
    ("linf", "liplp"): (1.035, 1.252),
    ("linf", "naive"): (1.985, 43.26),
    ("l2", "lipsdp"): (1.029, 4.347),
    ("l2", "lipsdp-layer"): (1.056, 4.984),
    ("l2", "eclipse-fast"): (1.057, 5.8),
    ("l2", "seqlip"): (1.040, 5.472),
    ("l2", "naive"): (1.134, 9.07),
    ("l1", "linear"): (1.000, 1.000),
}


@pytest.mark.parametrize("model", ["iris_4_5_5_3", "sd_10_15_10_3"])
@pytest.mark.skipif(
    not (SHARED_CASES / "expected.json").is_file(), reason="the networks of others are not here"
)
def test_published_ratios(model):
    entry = next(
        one
        for one in json.loads((SHARED_CASES / "expected.json").read_text())
        if one["model"] == f"{model}.onnx"
    )
    network = lx.load(SHARED_CASES / f"{model}.onnx")
    box = lx.Box(entry["lower"], entry["upper"])
    exact = {
        one["input_norm"]: one["value"]
        for one in entry["constants"]
        if one["input_norm"] == one["output_norm"]
    }
    for (name, words), ratios in RATIOS.items():
        method, *which = words.split()
        # The table's are global bounds; those here make use of the box unless there is none.
        domain = lx.Reals(box.dim) if method.startswith("lipsdp") else box
        found = lx.estimate(
            network,
            domain,
            method,
            input_norm=name,
            **({"preactivations": which[0]} if which else {}),
        )
        ratio = found.value / exact[name]
        assert ratio <= ratios[model.startswith("sd")] * 1.01, (name, method, ratio)
        assert ratio >= 1 - 1e-12
    sampled = lx.estimate(network, box, "sampling", samples=100_000)
    assert sampled.value / exact["linf"] >= (0.999, 0.95)[model.startswith("sd")]
    local = lx.estimate(network, box, "lipsdp", input_norm="l2")
    assert exact["l2"] * (1 - 1e-12) <= local.value <= exact["l2"] * 1.001


def test_convolutions_and_residual_connections():
    net = lx.load(EXAMPLES / "digits_residual_8x8.onnx")
    ball = lx.Ball([0.5] * 64, 0.01, clip=(0, 1))
    question = {"input_norm": "l2", "functional": [0.0, 1.0, *[0.0] * 5, -1.0, 0.0, 0.0]}
    exact = lx.estimate(net, ball, "exact", **question)
    assert exact.guarantee == "exact"
    for name, entry in estimators().items():
        if name in ("exact", "best-upper"):
            continue
        try:
            found = lx.estimate(net, ball, name, **question, **CHEAP.get(name, {}))
        except lx.UnsupportedEstimateError:
            told = f"{name} refuses branches: begin its networks= with registry.CHAINS"
            assert entry.networks.startswith(registry.CHAINS), told
            with pytest.raises(lx.UnsupportedEstimateError, match="branches"):
                lx.estimate(net, ball, name, **question)
            continue
        except lx.SolverUnavailableError:
            assert name == "liplp"
            continue
        if entry.guarantee == "lower":
            assert found.value <= exact.value * (1 + 1e-9)
        elif entry.guarantee == "upper":
            assert found.value >= exact.value * (1 - 1e-9)
    assert found.method == "zonotope"


@pytest.mark.unwatched
@pytest.mark.parametrize("start", range(8))
def test_every_operator(start):
    """The examples of all ONNX operators: branches, maxima, and networks without a gate."""
    examples = all_examples()
    for number in range(start, len(examples), 8):
        network = lx.load(examples[number].model())
        box = lx.Box(np.full(network.input.size, -1.0), np.full(network.input.size, 1.5))
        functional = np.cos(np.arange(network.output.size))
        question_ = {"input_norm": ("linf", "l2", "l1")[number % 3], "functional": functional}
        # A third of them go on to the best of the neighbouring regions, which takes long.
        ascent = number // 3 % 3 == 0
        least = lx.estimate(network, box, "sampling", samples=50, ascent=ascent, **question_).value
        # Of the dear ones, each takes its turn.
        dear = ("lipsdp", "seqlip-brute-force")[number // 8 % 2]
        for name in ("naive", "recurjac", "fastlip", "eclipse-fast", dear):
            try:
                found = lx.estimate(network, box, name, **question_)
            except lx.UnsupportedEstimateError:
                continue
            assert found.value >= least * (1 - 1e-12), (examples[number], name)


def test_groupsort_and_maxima():
    net = lx.load(EXAMPLES / "wine_groupsort_13_16_16_3.onnx")
    ball = lx.Ball([0.5] * 13, 0.05)
    exact = lx.lipschitz(net, ball, input_norm="l2", functional=[1.0, -1.0, 0.0]).value
    for name in ("naive", "lipsdp", "linear", "recurjac"):
        assert lx.estimate(
            net, ball, name, input_norm="l2", functional=[1.0, -1.0, 0.0]
        ).value >= exact * (1 - 1e-9)
