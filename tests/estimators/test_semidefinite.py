"""LipSDP and ECLipsE: what multipliers prove, and where they come from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lipexact as lx
from lipexact.estimators import semidefinite_programs
from lipexact.estimators.lipsdp import block_sizes
from lipexact.estimators.lure import LureSystem, all_open, lure_system
from lipexact.estimators.multipliers import (
    bound_from_rho,
    least_rho,
    positive_definite,
    proven_bound,
)
from tests.support.estimators import masks
from tests.support.networks import random_weights, to_network
from tests.support.paths import EXAMPLES


def one_system(weights) -> LureSystem:
    net = to_network(weights)
    return lure_system(net, all_open(net), 1000, "test")


@given(st.integers(0, 2**32), st.sampled_from([1e-6, 1e-2, 1.0, 1e2, 1e6]))
def test_whatever_the_multipliers_a_bound_that_they_prove_is_one(seed, size):
    rng = np.random.default_rng(seed)
    weights = random_weights(rng, (2, 3, 2, 2))
    system = one_system(weights)
    multipliers = (
        rng.normal(size=system.gates) * size * 10.0 ** rng.uniform(-2, 2, system.gates) + size
    )
    found = proven_bound(system, multipliers)
    known = max(
        np.linalg.norm(
            weights[2][0] @ (b[:, None] * weights[1][0]) @ (a[:, None] * weights[0][0]), 2
        )
        for a in masks(3)
        for b in masks(2)
    )
    assert found >= known * (1 - 1e-12)


def test_what_is_less_than_the_multipliers_prove_is_not_proven():
    system = one_system(random_weights(np.random.default_rng(1), (3, 4, 3, 2)))
    multipliers = np.array([300.0, 300.0, 300.0, 300.0, 9.0, 9.0, 9.0])
    rho = least_rho(system, multipliers)
    assert rho is not None
    assert bound_from_rho(system, multipliers, rho) == pytest.approx(math.sqrt(rho), rel=1e-6)
    assert bound_from_rho(system, multipliers, 0.99 * rho) == math.inf
    assert proven_bound(system, multipliers) == pytest.approx(math.sqrt(rho), rel=1e-6)


def test_multipliers_that_prove_nothing():
    system = one_system(random_weights(np.random.default_rng(0), (2, 3, 2)))
    for multipliers in (np.zeros(3), np.full(3, np.nan), np.full(3, np.inf), -np.ones(3)):
        assert proven_bound(system, multipliers) == math.inf


def test_positive_definite_is_proven_or_not():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(5, 5))
    definite = half @ half.T + np.eye(5)
    none = np.zeros((5, 5))
    assert positive_definite(definite, none)
    assert positive_definite(1e-200 * definite, none)
    assert not positive_definite(definite, np.full((5, 5), 100.0))
    assert not positive_definite(-definite, none)
    values, vectors = np.linalg.eigh(half @ half.T)
    values[0] = -1e-13 * values[-1]
    assert not positive_definite((vectors * values) @ vectors.T, none)
    singular = np.outer(half[0], half[0])
    assert not positive_definite(singular + singular.T, none)


def test_eclipse_fast_is_its_closed_form():
    (first, _), (last, _) = weights = random_weights(np.random.default_rng(2), (3, 6, 2))
    lam = 2 / np.linalg.norm(first, 2) ** 2
    x = lam * np.eye(6) - lam**2 / 4 * first @ first.T
    known = math.sqrt(np.linalg.eigvalsh(last @ np.linalg.solve(x, last.T))[-1])
    found = lx.estimate(to_network(weights), lx.Box.unit(3), "eclipse-fast", input_norm="l2")
    assert found.value == pytest.approx(known, rel=1e-6)
    full = lx.estimate(to_network(weights), lx.Box.unit(3), "eclipse", input_norm="l2")
    layer, neuron = (
        lx.estimate(to_network(weights), lx.Reals(3), name, input_norm="l2")
        for name in ("lipsdp-layer", "lipsdp")
    )
    # With one hidden layer ECLipsE is LipSDP, and its fast form the best single multiplier.
    assert full.value == pytest.approx(neuron.value, rel=1e-4)
    assert neuron.value <= layer.value * (1 + 1e-6) <= found.value * (1 + 1e-5)


def test_lipsdp_uses_the_gates_that_the_domain_settles():
    net = to_network(random_weights(np.random.default_rng(5), (4, 8, 6, 2)))
    ball = lx.Ball([0.3] * 4, 0.05)
    everywhere, local = (
        lx.estimate(net, where, "lipsdp", input_norm="l2").value for where in (lx.Reals(4), ball)
    )
    exact = lx.lipschitz(net, ball, input_norm="l2").value
    assert exact * (1 - 1e-9) <= local < 0.9 * everywhere
    assert lx.estimate(
        net, lx.Ball([0.3] * 4, 1e-6), "lipsdp", input_norm="l2"
    ).value == pytest.approx(np.linalg.norm(net.jacobian([0.3] * 4), 2), rel=1e-9)


def test_lipsdp_of_many_inputs_is_that_of_the_few_directions_that_count():
    (first, bias), *rest = random_weights(np.random.default_rng(8), (2, 5, 2))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(30, 2)))[0].T  # orthonormal rows
    narrow = lx.estimate(to_network([(first, bias), *rest]), lx.Reals(2), "lipsdp", input_norm="l2")
    wide = lx.estimate(
        to_network([(first @ turn, bias), *rest]), lx.Reals(30), "lipsdp", input_norm="l2"
    )
    assert wide.value == pytest.approx(narrow.value, rel=1e-5)


def test_blocks_are_pairs_of_layers_where_there_are_no_branches():
    system = one_system(random_weights(np.random.default_rng(0), (9, 4, 5, 3, 2)))
    assert block_sizes(system) == [9 + 4, 4 + 5, 5 + 3]
    net = lx.load(EXAMPLES / "digits_residual_8x8.onnx")
    whole = lure_system(net, all_open(net), 1000, "test")
    assert block_sizes(whole) == [64 + whole.gates]


def test_where_clarabel_fails_the_product_of_norms_is_left(monkeypatch):
    net = to_network(random_weights(np.random.default_rng(9), (3, 5, 2)))
    monkeypatch.setattr(semidefinite_programs, "solve_program", lambda *_: "it broke down")
    found = lx.estimate(net, lx.Reals(3), "lipsdp", input_norm="l2")
    assert found.value == lx.estimate(net, lx.Reals(3), "naive", input_norm="l2").value
    assert "no bound" in found.details["message"]
    assert found.details["solver_status"] == ["it broke down"]
