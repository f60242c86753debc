"""Estimators side by side."""

from __future__ import annotations

import dataclasses
import json
import math
import os

import pytest

import lipexact as lx
from tests.support.estimators import BOX, NET


def test_a_comparison():
    seen = []
    found = lx.compare(
        NET,
        BOX,
        ["sampling", "fastlip", "lipsdp", "exact"],
        functional=0,
        options={"sampling": {"samples": 10}},
        progress=seen.append,
    )
    assert seen == ["sampling", "fastlip", "lipsdp", "exact"]
    assert found.closed
    exact = lx.lipschitz(NET, BOX, functional=0).value
    assert found.upper == pytest.approx(exact, rel=1e-9)
    for row in found.rows:
        if row.estimate is None:
            assert row.method == "lipsdp"
            assert "l2" in row.reason
            assert row.errors is None
            assert row.guarantee == "upper"
        else:
            assert row.errors[1] == pytest.approx(abs(row.estimate.value / exact - 1), abs=1e-8)
            assert row.error == row.errors[1]
    assert found["sampling"].estimate.details == {"samples": 10}
    with pytest.raises(KeyError, match="naive"):
        found["naive"]
    told = f"lower={found.lower!r}, upper={found.upper!r}"
    assert repr(found) == f"Comparison(sampling, fastlip, lipsdp, exact; {told})"
    table = found.to_markdown().splitlines()
    assert len({line.count("|") for line in table[:6]}) == 1
    assert [line.split(" | ")[0].strip("| ") for line in table[2:6]] == seen
    assert table[-1].startswith("* lipsdp: ")
    again = json.loads(found.to_json())
    assert [row["method"] for row in again["rows"]] == seen
    assert again["closed"] is True
    from rich.console import Console

    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(found.to_rich())
    text = console.export_text()
    assert all(name in text for name in seen)
    console.file.close()


def test_a_comparison_says_which_bounds_contradict_each_other(monkeypatch):
    from lipexact.estimators import compare

    honest = compare.estimate

    def lying(model, domain, method, **options):
        found = honest(model, domain, method, **options)
        return dataclasses.replace(found, value=found.value / 9) if method == "naive" else found

    assert lx.compare(NET, BOX, ["naive", "exact"]).notes == []
    monkeypatch.setattr(compare, "estimate", lying)
    (note,) = lx.compare(NET, BOX, ["naive", "exact"]).notes
    assert note.startswith("naive: below what is attained")


def test_a_comparison_without_the_exact_constant():
    found = lx.compare(
        NET,
        BOX,
        ["sampling", "naive", "seqlip"],
        input_norm="l2",
        options={"sampling": {"samples": 5}},
    )
    exact = lx.lipschitz(NET, BOX, input_norm="l2").value
    assert found.lower <= exact <= found.upper
    assert not found.closed
    assert "in [" in found.to_markdown()
    for row in found.rows:
        least, most = row.errors
        assert least <= abs(row.estimate.value / exact - 1) <= most * (1 + 1e-12)
    alone = lx.compare(NET, BOX, ["naive"])
    assert alone.rows[0].errors[1] == math.inf
    assert alone.to_dict()["rows"][0]["relative_errors"][1] == "inf"
    only_lower = lx.compare(NET, BOX, ["sampling"], options={"sampling": {"samples": 5}})
    assert only_lower.upper == math.inf
    assert only_lower.to_dict()["upper"] == "inf"


def test_a_plot_of_a_comparison():
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    ax = lx.compare(NET, BOX, ["fastlip", "naive", "exact"]).plot()
    assert "relative error" in ax.get_ylabel()
    plt.close(ax.figure)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"methods": "fastlip"}, "list of estimators"),
        ({"methods": 3}, "list of estimators"),
        ({"methods": []}, "at least one"),
        ({"methods": ["magic"]}, "no estimator"),
        ({"methods": ["fastlip"], "options": {"naive": {}}}, "not among the methods"),
        ({"methods": ["fastlip"], "options": {"fastlip": {"magic": 1}}}, "no option"),
        ({"methods": ["fastlip"], "progress": True}, "must be a function"),
        ({"methods": [["fastlip"]]}, "no estimator"),
        ({"methods": ["fastlip"], "options": [1]}, "dictionary of dictionaries"),
        ({"methods": ["fastlip"], "options": {"fastlip": 5}}, "dictionary of dictionaries"),
        ({"methods": ["fastlip"], "options": {"fastlip": {"input_norm": "l1"}}}, "no option"),
        ({"methods": ["fastlip"], "options": {"fastlip": {3: 3}}}, "no option"),
        ({"methods": ["fastlip"], "time_limit": -1}, "positive number"),
    ],
)
def test_comparisons_that_are_refused(options, text):
    with pytest.raises(lx.OptionError, match=text):
        lx.compare(NET, BOX, **options)


def test_a_comparison_refuses_a_wrong_question_at_once():
    with pytest.raises(lx.DomainError):
        lx.compare(NET, lx.Box.unit(3), ["fastlip"])
    with pytest.raises(lx.NormError):
        lx.compare(NET, BOX, ["fastlip"], input_norm="l3")
