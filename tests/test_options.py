"""Options: one frozen dataclass, from which signatures and docstrings are expanded."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, fields

import pytest

import lipexact as lx
from lipexact.options import OptionKeywords, Options
from lipexact.robustness import _OWN_OPTIONS
from lipexact.state import StoppingRule

PUBLIC = [lx.lipschitz, lx.lipschitz_many, lx.certified_radius]
NAMES = [each.name for each in fields(Options)]


@pytest.mark.parametrize("function", PUBLIC)
def test_signatures_and_docstrings_show_every_option(function: object) -> None:
    parameters = inspect.signature(function).parameters  # type: ignore[arg-type]
    left_out = set(_OWN_OPTIONS) if function is lx.certified_radius else set()
    lines = (function.__doc__ or "").split("\n")
    for name in NAMES:
        assert (name in parameters) == (name not in left_out)
        assert (name in lines) == (name not in left_out)
        if name in parameters:
            assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
    assert not any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    assert "**options" not in (function.__doc__ or "")


def test_keywords_are_those_of_the_options() -> None:
    assert list(OptionKeywords.__annotations__) == NAMES


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("method", 1, "must be a name"),
        ("solver", None, "must be a name"),
        ("mode", "sideways", "is none of 'auto', 'forward', 'reverse'"),
        ("time_limit", 0, "positive number of seconds"),
        ("time_limit", True, "positive number of seconds"),
        ("time_limit", float("nan"), "positive number of seconds"),
        ("gap", 1.0, "below 1"),
        ("gap", "0.1", "below 1"),
        ("target", -1.0, "at least 0"),
        ("threads", 1.5, "positive integer"),
        ("threads", 0, "positive integer"),
        ("solver_options", [("a", 1)], "must be a dictionary"),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(lx.OptionError, match=message):
        Options(**{name: value})  # type: ignore[arg-type]
    network = lx.Network.from_layers([([[1.0]], [0.0])])
    with pytest.raises(lx.OptionError, match=message):
        lx.lipschitz(network, lx.Box([0.0], [1.0]), **{name: value})  # type: ignore[arg-type]


def test_options_are_frozen_and_normalised() -> None:
    options = Options(time_limit=3, threads=True + 1, solver_options=None)  # type: ignore[arg-type]
    assert (options.time_limit, options.threads, options.solver_options) == (3.0, 2, {})
    assert isinstance(options.time_limit, float)
    with pytest.raises(FrozenInstanceError):
        options.gap = 0.5  # type: ignore[misc]


def test_unknown_keywords_are_refused() -> None:
    network = lx.Network.from_layers([([[1.0]], [0.0])])
    with pytest.raises(TypeError, match="unexpected keyword argument 'patience'"):
        lx.lipschitz(network, lx.Box([0.0], [1.0]), patience=3)  # type: ignore[call-arg]
    with pytest.raises(lx.OptionError, match="leave them out"):
        lx.certified_radius(network, [0.5], gap=0.5)


def test_what_prescribes_a_program() -> None:
    assert not Options().prescribes_program
    assert not Options(method="mip", gap=0.5, threads=2, time_limit=1.0).prescribes_program
    for change in ({"solver": "scip"}, {"mode": "forward"}, {"solver_options": {"a": 1}}):
        assert Options(**change).prescribes_program  # type: ignore[arg-type]


def test_every_field_of_the_stopping_rule_is_an_option() -> None:
    names = [each.name for each in fields(StoppingRule)]
    assert set(names) <= set(NAMES)
    assert StoppingRule.of(Options(gap=0.25, target=2.0)) == StoppingRule(gap=0.25, target=2.0)
    assert set(names) <= set(_OWN_OPTIONS)
