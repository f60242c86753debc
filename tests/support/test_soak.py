"""That the soak bites: it finds nothing wrong with answers that are right, and all that is wrong
with others.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

import lipexact as lx
from lipexact.mip.solvers.base import quadratic_solvers
from tests.support import soak
from tests.support.networks import EXTREME, to_network
from tests.support.oracle import constant, regions
from tests.support.soak import (
    Question,
    Truth,
    answer,
    answers,
    judge_certificate,
    main,
    question,
    truth,
)

QUICK = [number for number in range(40) if "scip" not in question(number).way][:20]
# One whose truth is rational, with norms that no certificate has to round.
CERTAIN = next(
    k
    for k in QUICK
    if question(k).way == "bab" and {question(k).alpha, question(k).beta} <= {"linf", "l1"}
)


def tampered(monkeypatch, change):
    """The verdict on network CERTAIN, whose answer is changed."""
    honest = lx.lipschitz(*asked(question(CERTAIN)), **question(CERTAIN).keywords)
    assert honest.status is lx.Status.EXACT
    monkeypatch.setattr(
        soak.lx, "lipschitz", lambda *_, **__: dataclasses.replace(honest, **change(honest))
    )
    return answer(CERTAIN)


def asked(one: Question) -> tuple[lx.Network, lx.Domain]:
    return to_network(one.case.weights), one.domain


def test_nothing_is_wrong():
    found = list(answers(QUICK, 1))
    assert [verdict.problems for verdict in found] == [()] * len(QUICK)
    assert len({verdict.way for verdict in found}) > 2
    exact = Counter(verdict.status for verdict in found)["EXACT"]
    assert exact >= 12


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda r: {"lower": r.lower * (1 - 1e-6), "upper": r.upper * (1 - 1e-6)},
            ["below the constant", "EXACT"],
        ),
        (
            lambda r: {"lower": r.lower * (1 + 1e-6), "upper": r.upper * (1 + 1e-6)},
            ["above the constant", "EXACT"],
        ),
        (lambda r: {"lower": r.lower * (1 - 1e-6)}, ["EXACT"]),
        (
            lambda r: {"upper": r.lower * (1 - 1e-12), "lower": r.lower * (1 - 1e-12)},
            ["below the constant"],
        ),
        (
            lambda r: {
                "lower": r.upper * (1 + 1e-6),
                "upper": math.inf,
                "status": lx.Status.BOUNDED,
            },
            ["above"],
        ),
        (
            lambda r: {"upper": r.lower * 0.9, "lower": 0.0, "status": lx.Status.BOUNDED},
            ["below the constant"],
        ),
        (lambda r: {"lower": math.nan}, ["no interval"]),
        (lambda r: {"lower": r.upper * 2}, ["no interval"]),
    ],
)
def test_a_wrong_answer_is_reported(monkeypatch, change, said):
    problems = tampered(monkeypatch, change).problems
    assert len(problems) == len(said)
    assert all(what in problem for what, problem in zip(said, problems, strict=True))


def test_what_a_solver_claims_may_be_off_by_its_rounding(monkeypatch):
    def change(honest):
        value = honest.lower * (1 - 4e-13)
        return {"lower": value, "upper": value}

    assert tampered(monkeypatch, lambda r: change(r) | {"proof": "solver"}).problems == ()
    assert "below" in tampered(monkeypatch, lambda r: change(r) | {"proof": "float"}).problems[0]


def test_an_error_or_a_hang_is_reported_and_main_fails(monkeypatch, capsys, tmp_path):
    def fails(*_, **__):
        raise lx.SolverError("it broke")

    monkeypatch.setattr(soak.lx, "lipschitz", fails)
    report = tmp_path / "soak.txt"
    assert main(["--first", str(CERTAIN), "--networks", "1", "--report", str(report)]) == 1
    for text in (capsys.readouterr().out, report.read_text(encoding="utf-8")):
        assert "it broke" in text
        assert f"python -m tests.support.soak --first {CERTAIN} --networks 1" in text
    monkeypatch.setattr(soak, "SECONDS", 0.01)
    monkeypatch.setattr(soak.lx, "lipschitz", lambda *_, **__: soak.time.sleep(30))
    if hasattr(soak.signal, "SIGALRM"):
        assert "TimeoutError" in answer(CERTAIN).problems[0]


def test_main_succeeds_and_stops_in_time(capsys):
    assert main(["--first", str(CERTAIN), "--networks", "1"]) == 0
    assert "1 networks" in capsys.readouterr().out
    assert main(["--networks", "1", "--seconds", "-1"]) == 0
    assert "0 networks" in capsys.readouterr().out


def test_certificates_are_checked(monkeypatch):
    one = question(CERTAIN)
    known = one.truth()
    value = known.number
    assert not known.squared
    below = (
        float(value) if Fraction(float(value)) <= value else float(np.nextafter(float(value), 0))
    )
    above = (
        float(value)
        if Fraction(float(value)) >= value
        else float(np.nextafter(float(value), np.inf))
    )

    def report(lower, upper, ok=True, proven=True):
        sides = (SimpleNamespace(claim=claim, proven=proven) for claim in (lower, upper))
        return SimpleNamespace(ok=ok, **dict(zip(("lower", "upper"), sides, strict=True)))

    def problems(*claims, slack=Fraction(0), **kinds):
        return judge_certificate(report(*claims, **kinds), known, slack)

    assert problems(below, above) == []
    assert problems(0.0, math.inf, proven=False) == []
    assert problems(None, None, proven=False) == []
    assert len(problems(None, above)) == 1
    assert len(problems(below, above, ok=False)) == 1
    up, down = float(np.nextafter(above, np.inf)), float(np.nextafter(below, 0))
    assert "lower claim" in problems(up, above)[0]
    assert "upper claim" in problems(below, down)[0]
    assert problems(up, down, slack=soak.ROUNDED) == []  # where the half-axes of a norm are rounded
    assert len(problems(up * (1 + 1e-14), down * (1 - 1e-14), slack=soak.ROUNDED)) == 2
    honest = lx.lipschitz(*asked(one), **one.keywords)
    certified = SimpleNamespace(**vars(honest) | {"value": honest.value, "certificate": object()})
    monkeypatch.setattr(soak.lx, "lipschitz", lambda *_, certificate, **__: certified)
    monkeypatch.setattr(soak.lx, "check", lambda *_: report(below, above), raising=False)
    assert (answer(CERTAIN).problems, answer(CERTAIN).certified) == ((), True)
    monkeypatch.setattr(soak.lx, "check", lambda *_: report(below, down), raising=False)
    assert "upper claim" in answer(CERTAIN).problems[0]


def test_the_number_determines_the_question():
    for number in (0, 17):
        assert str(question(number)) == str(question(number))
        one, other = question(number).case, question(number).case
        assert all((a == b).all() for a, b in zip(one.weights[0], other.weights[0], strict=True))
    many = [question(number) for number in range(400)]
    assert {one.way for one in many} == {soak._way(*way) for way in soak.WAYS}
    assert {one.family for one in many} == {*soak.FAMILIES, *EXTREME}
    assert {type(one.domain) for one in many} >= {lx.Box, lx.Ball, lx.Polytope, lx.Reals}
    for one in many:
        if "solver" in one.keywords and one.keywords["solver"] not in quadratic_solvers():
            assert "l2" not in (one.alpha, one.beta)


@pytest.mark.parametrize("beta", ["linf", "l1", "l2"])
@pytest.mark.parametrize("alpha", ["linf", "l1", "l2"])
def test_the_truth_is_that_of_the_oracle(alpha, beta):
    for seed in range(4):
        case = EXTREME["quantised"](np.random.default_rng(seed))
        found = regions(*case)
        for functional in (None, [[1.0, -2.0, 3.0][: len(case.weights[-1][1])]]):
            known, exact = (
                constant(found, functional, alpha, beta),
                truth(found, functional, alpha, beta),
            )
            assert float(exact) == pytest.approx(known, rel=1e-14, abs=1e-300)
            around = [Fraction(known) * (1 + Fraction(sign, 10**13)) for sign in (-1, 1)]
            if known:
                assert [exact.at_most(bound) for bound in around] == [False, True]
                assert [exact.at_least(bound) for bound in around] == [True, False]


def test_eigenvalues_are_compared_exactly():
    number = Fraction
    whole = Truth(
        grams=(
            ((number(2), number(0)), (number(0), number(9))),
            ((number(5), number(4)), (number(4), number(5))),
        )
    )
    assert whole.at_most(number(3))
    assert whole.at_least(number(3))
    tiny = number(1, 10**40)
    assert not whole.at_most(3 - tiny)
    assert not whole.at_least(3 + tiny)
    nothing = Truth(grams=(((number(0), number(0)), (number(0), number(0))),))
    assert nothing.at_most(number(0))
    assert nothing.at_least(number(0))
    assert not nothing.at_least(tiny)


def test_a_process_that_dies_is_found(monkeypatch):
    assert soak._several([]) == []
    monkeypatch.setattr(soak, "answer", _dies)
    verdict = soak._alone(CERTAIN)
    assert verdict.problems == ("the process died",)


def _dies(number):
    os._exit(3)
