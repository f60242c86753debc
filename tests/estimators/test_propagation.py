"""FastLip, RecurJac and linear relaxation beside each other."""

from __future__ import annotations

import numpy as np

import lipexact as lx
from tests.support.networks import random_weights, to_network


def test_chords_are_closer_than_constants_and_these_than_intervals():
    net = to_network(random_weights(np.random.default_rng(11), (6, 12, 12, 12, 1)))
    ball = lx.Ball([0.1] * 6, 0.1)
    exact = lx.lipschitz(net, ball).value
    linear, recurjac, fastlip = (
        lx.estimate(net, ball, name).value for name in ("linear", "recurjac", "fastlip")
    )
    assert exact * (1 - 1e-12) <= linear < 0.99 * recurjac < 0.98 * fastlip
    # Of the largest entry there is no sum that chords are joined in: what is closer are they.
    chords, constants = (
        lx.estimate(net, ball, name, input_norm="l1").value for name in ("linear", "recurjac")
    )
    assert chords < 0.995 * constants
    wide = lx.estimate(net, ball, "fastlip", preactivations="interval").value
    assert fastlip < wide
