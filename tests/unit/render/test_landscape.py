"""The page, the document and the summary of a landscape."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from rich.cells import cell_len

from bnaudit.records.values import Metric, Skipped, Spread
from bnaudit.render.json_v1 import schema_text
from bnaudit.render.text.sparkline import ends_of, sparkline
from bnaudit.summary.landscape import outcome_of, summarize
from tests.golden import documents

from . import landscape_samples as samples

GOLDEN = Path(__file__).parents[2] / "golden"
UPDATE = os.environ.get("BNAUDIT_UPDATE_GOLDEN") == "1"
SCHEMA = json.loads(schema_text("landscape"))
CASES = [
    *((name, 100, True) for name in samples.ALL),
    ("smoother", 60, True),
    ("smoother", 140, True),
    ("smoother", 100, False),
]


@pytest.mark.parametrize(("name", "width", "unicode"), CASES)
def test_golden(name: str, width: int, unicode: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnaudit.render.text.sheet.__version__", "X.Y.Z")
    text = samples.ALL[name]().to_table(width=width, unicode=unicode)
    path = GOLDEN / f"landscape_{name}_{width}{'' if unicode else '_ascii'}.txt"
    if UPDATE:
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8"), "BNAUDIT_UPDATE_GOLDEN=1 rewrites the file"
    assert unicode or text.isascii()


@pytest.mark.parametrize("name", samples.ALL)
@pytest.mark.parametrize("width", [60, 72, 80, 100, 120, 200])
def test_lines_fit(name: str, width: int) -> None:
    for line in samples.ALL[name]().to_table(width=width).splitlines():
        assert cell_len(line) <= width
        assert line == line.rstrip()


@pytest.mark.parametrize("name", samples.ALL)
def test_document(name: str) -> None:
    text = samples.ALL[name]().to_json()
    Draft202012Validator(SCHEMA).validate(json.loads(text))
    documents.check(f"landscape_{name}", text)


@pytest.mark.parametrize(
    ("smoothing", "word"),
    [
        (Spread(5.0, 1.01, 9.0, 4), "smoother"),
        (Spread(5.0, 0.99, 9.0, 4), "alike"),
        (Spread(0.5, 0.1, 0.99, 4), "rougher"),
        (Skipped("at no step"), "unknown"),
    ],
)
def test_outcome(smoothing: Metric, word: str) -> None:
    assert outcome_of(smoothing) == word
    record = samples.smoother()
    raw, relative = record.comparisons
    decided = replace(record, comparisons=(raw, replace(relative, beta=smoothing)))
    assert summarize(decided).outcome == word
    # The walk whose steps depend on the size of weights decides nothing beside the other.
    assert (
        summarize(replace(record, comparisons=(replace(raw, beta=smoothing), relative))).outcome
        == "smoother"
    )


def test_exit_codes() -> None:
    assert {name: made().exit_code for name, made in samples.ALL.items()} == {
        "smoother": 0,
        "overflowing": 0,
        "unequal": 4,
    }
    assert summarize(samples.unequal()).outcome == "unequal"
    assert summarize(samples.overflowing()).failed == 3


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], "▁▂▃▄▅▆▇█"),
        ([1.0, 10.0, 100.0], "▁▅█"),  # by their logarithms
        ([-1.0, 10.0, 100.0], "▁▁█"),
        ([1.0, None, float("inf"), 2.0], "▁✗✗█"),
        ([3.0, 3.0], "▅▅"),
        ([None], "✗"),
        ([-1.7e308, 0.0, 1.7e308], "▁▅█"),
        ([], ""),
    ],
)
def test_sparkline(values: list[float | None], line: str) -> None:
    assert sparkline(values) == line


def test_courses_share_a_scale() -> None:
    ends = ends_of([1.0, 2.0], [None, 9.0])
    assert ends == (1.0, 9.0)
    assert sparkline([1.0, 2.0], ends) == "▁▂"
    assert ends_of([None]) is None
