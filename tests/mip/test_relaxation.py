"""The linear relaxation: what is believed of its bound, and that it is solved in both modes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import lipexact as lx
from lipexact.bounds.crown import bound_nodes
from lipexact.bounds.formulation import Formulation
from lipexact.mip import relaxation
from lipexact.options import Options
from lipexact.sets.domains import Box
from lipexact.state import SearchState, SearchTask
from tests.support.networks import random_weights, to_network
from tests.support.programs import HIGHS, stated

RELU = [(np.ones((1, 1)), np.zeros(1)), (np.ones((1, 1)), np.zeros(1))]


def test_the_bound_of_a_relaxation_is_believed_up_to_its_accuracy(fake):
    def run(model, settings, watch):
        found = HIGHS(model, settings, watch)
        factor = 1 - 5e-8
        return replace(found, bound=found.bound * factor, incumbent=found.incumbent * factor)

    fake(run)
    problem = stated(to_network(RELU), Box([-1.0], [1.0]), [1.0], "linf", "forward", "linf")
    formulation = Formulation(problem, bound_nodes(problem.graph, problem.sets))
    task = SearchTask(formulations=[formulation], options=Options(solver="fake"))
    start = SearchState(lower=0.0, upper=2.0)
    found = relaxation.solve_lp_relaxation(formulation, start, task)
    assert 1.0 <= found.upper <= 1 + 1e-6


def test_the_relaxation_is_solved_in_both_modes(monkeypatch):
    solve_lp_relaxation = relaxation.solve_lp_relaxation
    modes = []

    def recorded(formulation, state, task):
        modes.append(formulation.problem.mode)
        return solve_lp_relaxation(formulation, state, task)

    monkeypatch.setattr(relaxation, "solve_lp_relaxation", recorded)
    net = to_network(random_weights(np.random.default_rng(0), (4, 8, 8, 3)))
    lx.lipschitz(net, lx.Box(-np.ones(4), np.ones(4)), method="lp")
    assert sorted(modes) == ["forward", "reverse"]
