"""Progress: nothing for short runs, lines in a log, a bar on a terminal, never on stdout."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from bnaudit.cli import progress
from bnaudit.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    return clock  # type: ignore[return-value]


def test_a_log_sees_only_stages_that_take_long(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.shown(True) as shown:
        shown.stage("loading")
        clock.now += 100  # importing torch on a slow disk is no stage of the audit
        shown.stage("measuring", 5)
        for _ in range(3):
            clock.now += 3
            shown.advance()
        assert capsys.readouterr().err == ""
        clock.now += 3
        shown.advance()
        assert capsys.readouterr().err == "measuring: 4 of 5, about 3 seconds left\n"
        clock.now += 100
        shown.advance()
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_a_line_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown(True) as shown:
        shown.stage("verifying", 100)
        for _ in range(99):
            clock.now += 1.0
            shown.advance()
    lines = capsys.readouterr().err.splitlines()
    left = [f"{90 - n} seconds" for n in range(0, 90, 10)]
    left[0] = "2 minutes"
    assert lines == [
        f"verifying: {n} of 100, about {t} left"
        for n, t in zip(range(10, 100, 10), left, strict=True)
    ]


def test_a_stage_says_how_it_stands(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.shown(True) as shown:
        shown.stage("matching", 9)
        shown.say("mismatch 0.5")
        shown.say("mismatch 0.25")
        clock.now += 100
        shown.advance()
        shown.stage("measuring", 2)
        clock.now += 100
        shown.advance()
    err = capsys.readouterr().err
    assert err == (
        "matching: 1 of 9, about 13 minutes left, mismatch 0.25\n"
        "measuring: 1 of 2, about 2 minutes left\n"
    )
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "DELAY", 0.0)
    with progress.shown(True) as shown:
        shown.stage("matching", 9)
        shown._timer.join()  # type: ignore[attr-defined]
        shown.say("mismatch 0.125")
        shown._bar.refresh()  # type: ignore[attr-defined]
    assert "matching, mismatch 0.125" in terminal.getvalue()


def test_nothing_is_shown_unless_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown(False) as shown:
        assert isinstance(shown, Silent)
        shown.stage("measuring", 2)
        shown.advance()
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("delay", "seen"), [(30.0, False), (0.0, True)])
def test_a_terminal_gets_a_bar_after_a_while(
    monkeypatch: pytest.MonkeyPatch, delay: float, seen: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "DELAY", delay)
    with progress.shown(True) as shown:
        shown.stage("measuring", 2)
        bar = shown._timer  # type: ignore[attr-defined]
        if seen:
            bar.join()
        shown.advance()
        shown.stage("verifying", 1)
        shown.advance()
    assert ("measuring" in terminal.getvalue()) is seen


def test_a_long_stage_says_at_its_start_what_it_takes_and_what_makes_it_shorter(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.shown(True) as shown:
        shown.stage("second order", 53)
        shown.expect(29.0, "--layers restricts it")
        shown.expect(62.0, "--layers restricts it")
        shown.expect(200.0, "--layers restricts it")
    assert capsys.readouterr().err.splitlines() == [
        "second order: about 60 seconds; --layers restricts it",
        "second order: about 3 minutes; --layers restricts it",
    ]
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    for delay in (30.0, 0.0):
        monkeypatch.setattr(progress, "DELAY", delay)
        with progress.shown(True) as shown:
            shown.stage("second order", 53)
            if not delay:
                shown._timer.join()  # type: ignore[attr-defined]
            shown.expect(200.0, "--layers restricts it")
    assert terminal.getvalue().count("second order: about 3 minutes; --layers restricts it\n") == 2


def test_steps_of_unlike_length_are_counted_in_mean_ones(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.shown(True) as shown:
        shown.stage("second order", 4)
        for steps in (0.25, 0.75, 1.5, 1.5):
            clock.now += 11
            shown.advance(steps)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "second order: 0 of 4",
        "second order: 1 of 4, about 70 seconds left",
        "second order: 2 of 4, about 20 seconds left",
    ]
