"""Results: words, typed stats, and plain data that read back to the last bit."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import lipexact as lx
from lipexact import serialise
from lipexact.result import Diagnostic, closed

NETWORK = lx.Network.from_layers(
    [
        ([[1.0, 0.5], [-1.0, 2.0], [0.3, -1.0]], [0.1, -0.2, 0.0]),
        ([[1.0, -2.0, 0.5], [0.5, 1.0, 1.0]], [0.0, 1.0]),
    ],
    name="small",
)
BOX = lx.Box([-1.0, -1.0], [1.0, 1.0])


@pytest.fixture(scope="module")
def result() -> lx.LipschitzResult:
    return lx.lipschitz(NETWORK, BOX, input_norm="l2", output_norm="l1")


def test_a_result_reads_back_to_the_last_bit(result: lx.LipschitzResult) -> None:
    again = lx.LipschitzResult.from_dict(json.loads(result.to_json()))
    assert again.to_dict() == result.to_dict()
    assert (again.lower, again.upper, again.status) == (result.lower, result.upper, result.status)
    assert again.termination is result.termination
    assert again.proof is result.proof
    assert again.stats == result.stats
    assert result.witness is not None
    assert again.witness is not None
    assert again.witness.pattern[0].dtype == bool
    for name in ("point", "jacobian", "direction", "functional"):
        assert np.array_equal(getattr(again.witness, name), getattr(result.witness, name))


def test_json_holds_the_question() -> None:
    norm = lx.PolyhedralNorm(vertices=[[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [0.0, -2.0]])
    domain = BOX & lx.Ball([0.0, 0.0], 1.5, "l1")
    found = lx.lipschitz(NETWORK, domain, input_norm=norm, functional=lx.CrossLipschitz(), gap=0.01)
    question = json.loads(found.to_json())["question"]
    assert question["network"] == {"name": "small", "input_shape": [2], "output_shape": [2]}
    assert len(question["input_norm"]["vertices"]) == 2
    assert question["output_norm"] is None
    assert question["functional"] == {"cross": None}
    assert question["options"]["gap"] == 0.01
    assert question["domain"]["lower"] == [-1.0, -1.0]
    assert question["domain"]["l1_balls"] == [{"center": [0.0, 0.0], "radius": 1.5}]
    whole = lx.lipschitz(NETWORK, lx.Reals(2), functional=[1.0, 2.0])
    question = json.loads(whole.to_json())["question"]
    assert question["domain"] == {"reals": 2}
    assert question["functional"] == [1.0, 2.0]


def test_infinities_are_strings(result: lx.LipschitzResult) -> None:
    plain = serialise.to_plain({"a": math.inf, "b": [-math.inf, 1.0], "c": np.array([np.nan, 2.0])})
    assert plain == {"a": "inf", "b": ["-inf", 1.0], "c": ["nan", 2.0]}
    data = result.to_dict() | {"status": "BOUNDED", "upper": "inf"}
    again = lx.LipschitzResult.from_dict(data)
    assert again.upper == math.inf
    assert json.loads(json.dumps(again.to_dict(), allow_nan=False))["upper"] == "inf"


def test_a_false_claim_is_not_read(result: lx.LipschitzResult) -> None:
    with pytest.raises(ValueError, match="EXACT"):
        lx.LipschitzResult.from_dict(result.to_dict() | {"status": "EXACT", "upper": 1e9})
    with pytest.raises((KeyError, TypeError, ValueError)):
        lx.LipschitzResult.from_dict({"lower": 1.0})
    for name in ("stats", "witness", "diagnostics", "question"):
        with pytest.raises((KeyError, TypeError, ValueError)):
            lx.LipschitzResult.from_dict(result.to_dict() | {name: 3})


def test_words_are_strings(result: lx.LipschitzResult) -> None:
    assert result.status == "EXACT"
    assert f"{result.termination}" == result.termination.value
    assert result.proof == "float"
    assert str(lx.Termination.TIME_LIMIT) == "time limit"


def test_stats_are_a_mapping_of_what_applies(result: lx.LipschitzResult) -> None:
    stats = result.stats
    assert stats["bounds_seconds"] == stats.bounds_seconds
    assert "binaries" not in stats
    assert stats.binaries is None
    with pytest.raises(KeyError):
        stats["binaries"]
    assert set(stats) == {name for name, value in vars(stats).items() if value is not None}
    assert lx.SearchStats(nodes=3) == lx.SearchStats(nodes=3)


def test_the_last_message_stays_for_one_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lipexact.bab.constants.MAX_COEFFICIENTS", 1)
    found = lx.lipschitz(NETWORK, BOX, functional=0, method="bab")
    (told,) = found.diagnostics
    assert told == Diagnostic("bab", told.message)
    with pytest.warns(DeprecationWarning, match="diagnostics"):
        assert found.stats["message"] == told.message


def test_representations_are_short(result: lx.LipschitzResult) -> None:
    assert len(repr(result)) < 200
    assert "mode" not in repr(result)
    assert "solver" not in repr(result)
    wide = lx.Network.from_layers([(np.ones((3, 500)), np.zeros(3))])
    found = lx.lipschitz(wide, lx.Ball(np.zeros(500), 1.0))
    assert len(repr(found.witness)) < 200


def test_closed_is_relative() -> None:
    assert closed(1.0, 1.0 + 1e-10)
    assert not closed(1.0, 1.0 + 1e-8)
    assert closed(0.9, 1.0, 0.2)
    assert not closed(0.0, math.inf, 0.5)
