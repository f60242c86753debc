"""The registry: what an entry says, and how a new one is found."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

import lipexact as lx
import lipexact.estimators
from lipexact.estimators import registry
from lipexact.estimators.registry import EstimateRequest, EstimatorOutput, estimator
from lipexact.sets.unit_balls import Cube
from tests.support.estimators import BOX, NET
from tests.support.networks import FAMILIES, to_network


def test_requests_and_outputs_are_plain():
    assert EstimatorOutput(1.0).proof == "float"
    request = EstimateRequest(NET, BOX, Cube(3), Cube(2), {})
    assert request.seconds_left is None
    assert not request.over
    assert sorted(FAMILIES)  # the soak's families stand behind the numbers above


def test_an_entry_must_say_what_it_promises(monkeypatch):
    facts = {"norms": "all", "networks": "all", "source": "here"}
    for promise in (("above", "local"), ("upper", "everywhere")):
        with pytest.raises(lx.OptionError, match="of the estimator 'odd' is none of"):
            estimator("odd", *promise, **facts)
    with pytest.raises(lx.OptionError, match="best_upper_rank must be an upper bound"):
        estimator("odd", "lower", "local", best_upper_rank=1, **facts)
    assert "odd" not in lx.estimator_names()
    monkeypatch.setitem(
        registry._ESTIMATORS,
        "number",
        dataclasses.replace(registry.find("naive"), run=lambda _: 3.0),
    )
    with pytest.raises(lx.OptionError, match=r"must return an EstimatorOutput, not 3\.0"):
        lx.estimate(to_network([(np.eye(2), np.zeros(2))]), lx.Box.unit(2), "number")


NEW_FILE = """
from lipexact.estimators.registry import (
    ALL_NETWORKS, ALL_NORMS, EstimateRequest, EstimatorOutput, estimator
)

@estimator(
    "nothing-is-smaller", "upper", "global", norms=ALL_NORMS, networks=ALL_NETWORKS, source="here",
    best_upper_rank=1,
)
def nothing_is_smaller(request: EstimateRequest) -> EstimatorOutput:
    "Say 2e-9."
    return EstimatorOutput(2e-9)
"""


def test_a_new_estimator_is_one_new_file(tmp_path, monkeypatch):
    """It is found without a list, and "best-upper" tries it in its place."""
    (tmp_path / "new_file.py").write_text(NEW_FILE)
    monkeypatch.setattr(registry, "_ESTIMATORS", dict(registry._ESTIMATORS))
    monkeypatch.setattr(
        lipexact.estimators, "__path__", [*lipexact.estimators.__path__, str(tmp_path)]
    )
    lipexact.estimators.discover()
    try:
        assert "nothing-is-smaller" in lx.estimator_names()
        names = [entry.name for entry in registry.ranked_upper_bounds()]
        assert names[:2] == ["nothing-is-smaller", "linear"]
        best = lx.estimate(NET, BOX)
        assert (best.value, best.details["best"]) == (2e-9, "nothing-is-smaller")
    finally:
        sys.modules.pop("lipexact.estimators.new_file", None)


@pytest.mark.parametrize(
    ("old", "new"), [("Question", EstimateRequest), ("Answer", EstimatorOutput)]
)
def test_former_names_are_deprecated(old, new):
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new.__name__}"):
        assert getattr(registry, old) is new
    with pytest.raises(AttributeError, match="Anything"):
        registry.Anything  # noqa: B018


def test_a_heuristic_proves_nothing_whatever_it_says(monkeypatch):
    monkeypatch.setattr(registry, "_ESTIMATORS", dict(registry._ESTIMATORS))

    @estimator("guess", "heuristic", "local", norms="all", networks="all", source="this package")
    def guess(request: EstimateRequest) -> EstimatorOutput:
        """Return a number."""
        return EstimatorOutput(1.0)

    assert lx.estimate(NET, BOX, "guess").proof == "none"
