"""The text report, against golden files: read them, they are what users see."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from bnaudit.records.finding import Severity
from bnaudit.records.values import Skipped
from bnaudit.render.text import document_to_text
from bnaudit.render.text.sheet import MIN_WIDTH

from . import samples
from .sick import sick

GOLDEN = Path(__file__).parents[2] / "golden"
UPDATE = os.environ.get("BNAUDIT_UPDATE_GOLDEN") == "1"
ANSI = re.compile(r"\x1b\[[0-9;]*m")

CASES = [
    *(("healthy", width, True) for width in (60, 80, 100, 140)),
    *(("everything", width, True) for width in (60, 80, 100, 140, 200)),
    ("everything", 100, False),
    ("first_order_only", 100, True),
    ("drifted", 100, True),
    *(("sick", width, True) for width in (60, 80, 100, 140)),
    ("sick", 100, False),
    ("no_batchnorm", 100, True),
    ("not_run", 100, True),
    ("stopped_midway", 100, True),
    ("running_mode", 100, True),
    ("not_finite", 100, True),
    ("hostile", 100, True),
]


@pytest.mark.parametrize(("name", "width", "unicode"), CASES)
def test_golden(name: str, width: int, unicode: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnaudit.render.text.sheet.__version__", "X.Y.Z")
    text = document_to_text(samples.ALL[name](), width=width, unicode=unicode)
    path = GOLDEN / f"{name}_{width}{'' if unicode else '_ascii'}.txt"
    if UPDATE:
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8"), "BNAUDIT_UPDATE_GOLDEN=1 rewrites the file"


@pytest.mark.parametrize("name", samples.ALL)
@pytest.mark.parametrize("width", [60, 61, 72, 80, 93, 100, 120, 140, 200])
def test_lines_fit_and_end_without_spaces(name: str, width: int) -> None:
    for line in document_to_text(samples.ALL[name](), width=width).splitlines():
        assert cell_len(line) <= width
        assert line == line.rstrip()


@pytest.mark.parametrize("name", samples.ALL)
def test_colour_adds_nothing_but_escape_codes(name: str) -> None:
    report = samples.ALL[name]()
    colored = document_to_text(report, color=True)
    assert ANSI.search(colored)
    assert ANSI.sub("", colored) == document_to_text(report)


@pytest.mark.parametrize("name", samples.ALL)
def test_ascii_fallback_is_ascii(name: str) -> None:
    text = document_to_text(samples.ALL[name](), unicode=False)
    assert text.isascii()
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize("color", [False, True])
def test_nothing_from_a_file_reaches_the_terminal_as_a_command(color: bool) -> None:
    text = ANSI.sub("", document_to_text(samples.hostile(), color=color))
    assert text.replace("\n", "").isprintable()
    assert "[bold red]x[/]" in text
    assert "\\x1b[31mred" in text


def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, colored = (document_to_text(sick(), width=140, color=c) for c in (False, True))
    variables = {"TERM": "dumb", "COLUMNS": "40", "LINES": "3", "NO_COLOR": "1", "FORCE_COLOR": "1"}
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert document_to_text(sick(), width=140) == plain
    assert document_to_text(sick(), width=140, color=True) == colored


def test_too_narrow_counts_as_the_narrowest() -> None:
    report = sick()
    assert document_to_text(report, width=20) == document_to_text(report, width=MIN_WIDTH)


def test_a_reason_that_does_not_fit_is_told_in_full_below() -> None:
    text = document_to_text(sick(), width=100)
    reason = "no gradient arrives: the output is detached from the loss"
    assert f"backbone.stages.1.blocks.3.norm: {reason}" in text


def test_columns_for_finite_differences_only_where_there_are_any() -> None:
    assert "fd error" not in document_to_text(samples.healthy(), width=140)
    text = document_to_text(sick(), width=200)
    assert "fd error" in text
    assert "finite differences off by at most 4e-06" in text


def test_spread_over_batches_shows_from_120_columns() -> None:
    assert "±" not in document_to_text(samples.healthy(), width=119)
    assert "±" in document_to_text(samples.healthy(), width=120)


def test_a_remedy_shared_by_neighbours_is_named_once() -> None:
    report = sick()
    same = tuple(
        replace(finding, fix="pass --batch-size 16") if finding.rule == "BN011" else finding
        for finding in report.findings
    )
    text = document_to_text(replace(report, findings=same))
    assert text.count("fix: pass --batch-size 16") == 1


def test_synthetic_data_is_called_so() -> None:
    assert "SYNTHETIC (standard normal), not your data" in document_to_text(sick())


def last_line(text: str) -> str:
    return text.splitlines()[-1]


def test_verdict_words() -> None:
    healthy = samples.healthy()
    nothing = replace(samples.no_batchnorm(), findings=())
    unmeasured = replace(
        healthy,
        layers=tuple(replace(e, first_order=Skipped("not run")) for e in healthy.layers),
    )
    words = {
        "PASS:": healthy,
        "PASS (--fail-on never):": replace(sick(), fail_on=None),
        "NOTHING MEASURED (exit 4):": unmeasured,
        "PASS (--allow-no-bn):": replace(nothing, allow_no_bn=True),
        "FAIL:": replace(samples.hostile(), fail_on=Severity.WARNING),
        "NOTHING TO AUDIT (exit 3):": nothing,
        "FAILED (exit 4):": samples.not_run(),
    }
    for word, report in words.items():
        assert last_line(document_to_text(report, width=500)).startswith(word)


def test_a_model_whose_batchnorm_was_never_reached_says_how_many() -> None:
    report = samples.no_batchnorm()
    report = replace(report, model=replace(report.model, defined=("a", "b")), findings=())
    text = document_to_text(report)
    assert "No BatchNorm to audit: no batch went through any of the 2 BatchNorm layers." in text
    assert "0 of 2 defined layers executed" in text
