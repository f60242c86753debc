"""Each engine on one network of each family, against the enumeration oracle."""

from __future__ import annotations

import json
from functools import cache

import pytest

import lipexact as lx
from lipexact.engines import engine_names
from tests.support.networks import FAMILIES, Case, case, to_network
from tests.support.oracle import constant, regions

FAMILY_NAMES = sorted(FAMILIES)
NORMS = ("linf", "l1")


@cache
def known(family: str, norm: str) -> tuple[Case, float]:
    """A network of a family, and its constant by enumeration."""
    network = case(family, 1)
    return network, constant(regions(*network), None, norm)


@pytest.mark.parametrize("engine", engine_names())
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_one_network_of_each_family(family: str, engine: str) -> None:
    norm = NORMS[(FAMILY_NAMES.index(family) + engine_names().index(engine)) % 2]
    (weights, lower, upper), truth = known(family, norm)
    net = to_network(weights)
    result = lx.lipschitz(net, lx.Box(lower, upper), input_norm=norm, method=engine)
    assert result.lower <= truth * (1 + 1e-9)
    assert truth <= result.upper * (1 + 1e-9)
    assert result.witness is not None
    if engine != "lp":  # the relaxation alone promises no more than an interval
        assert result.status is lx.Status.EXACT
        assert result.value == pytest.approx(truth, rel=1e-9, abs=0.0)
    reread = lx.LipschitzResult.from_dict(json.loads(result.to_json()))
    assert reread.to_dict() == result.to_dict()
