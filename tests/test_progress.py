"""One reporter of progress: lines on stderr, or a live line in a terminal."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass

import pytest

from lipexact.errors import OptionError
from lipexact.progress import ProgressReporter, displayed, make_callback


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console's colours and width are no matter of these tests."""
    for name in os.environ:
        if re.search(r"COLOR|^GITHUB_ACTIONS$|^COLUMNS$|^LINES$|^TTY_", name):
            monkeypatch.delenv(name)


@dataclass
class Moment:
    """A moment, perhaps of a batch."""

    seconds: float
    done: int | None = None
    total: int | None = None
    remaining: float | None = None

    def __str__(self) -> str:
        return f"after {self.seconds:g} s"


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_a_line_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReporter(seconds_between=5.0) as report:
        for tick in range(25):
            report(Moment(tick / 2))
    assert lines(capsys) == ["after 0 s", "after 5 s", "after 10 s"]


def test_no_line_at_first(capsys: pytest.CaptureFixture[str]) -> None:
    report = ProgressReporter(seconds_before=10.0, seconds_between=10.0)
    for tick in range(71):
        report(Moment(tick / 2))
    assert lines(capsys) == ["after 10 s", "after 20 s", "after 30 s"]


def test_the_end_of_a_batch_is_told_once_to_whoever_has_had_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    end = Moment(2.0, 3, 3, 0.0)
    patient = ProgressReporter(seconds_before=10.0)
    patient(end)
    assert lines(capsys) == []
    report = ProgressReporter()
    for moment in (Moment(0.0, 1, 3, 1.0), Moment(1.0, 2, 3, 1.0), end, end):
        report(moment)
    assert lines(capsys) == ["after 0 s", "after 2 s"]


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReporter("bounds", quiet=True) as report:
        report(Moment(0.0))
        report.announce("more")
    assert lines(capsys) == []


def test_what_begins(capsys: pytest.CaptureFixture[str]) -> None:
    ProgressReporter().announce("fastlip")
    assert lines(capsys) == ["fastlip"]


@pytest.mark.parametrize("bar", [False, True])
def test_a_terminal_has_a_display(
    bar: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    with ProgressReporter("[bounds]", bar=bar) as report:
        report(Moment(1.0, 1, 2, 1.0))
        with report:  # as a caller and a callee may both do
            report(Moment(2.0, 2, 2, 0.0))
        sys.stdout.write("an answer")
    out, err = capsys.readouterr()
    assert out == "an answer"
    assert "\x1b[" in err
    assert "[bounds]" in err
    assert "after 2 s" in err
    assert ("\u2501" in err) == bar


def test_options_for_progress() -> None:
    assert make_callback(False) is None
    seen: list[Moment] = []
    assert make_callback(seen.append) == seen.append
    reporter = make_callback(True)
    assert isinstance(reporter, ProgressReporter)
    with displayed(reporter) as shown:
        assert shown is reporter
    with displayed(seen.append) as shown:
        assert shown is None
    for wrong in (1, None, "yes"):
        with pytest.raises(OptionError, match="progress must be True, False or a function"):
            make_callback(wrong)  # type: ignore[type-var]
