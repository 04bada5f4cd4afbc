"""The page and the document of a recalibration."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from rich.cells import cell_len

from bnaudit.records.values import Estimate, Skipped
from bnaudit.render.json_v1 import schema_text
from bnaudit.summary.recalibration import outcome_of
from tests.golden import documents

from . import recalibration_samples as samples

GOLDEN = Path(__file__).parents[2] / "golden"
UPDATE = os.environ.get("BNAUDIT_UPDATE_GOLDEN") == "1"
SCHEMA = json.loads(schema_text("recalibration"))
CASES = [
    *((name, 100, True) for name in samples.ALL),
    ("averaged_weights", 60, True),
    ("shared", 140, True),
    ("shared", 100, False),
]


@pytest.mark.parametrize(("name", "width", "unicode"), CASES)
def test_golden(name: str, width: int, unicode: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnaudit.render.text.sheet.__version__", "X.Y.Z")
    text = samples.ALL[name]().to_table(width=width, unicode=unicode)
    path = GOLDEN / f"recalibration_{name}_{width}{'' if unicode else '_ascii'}.txt"
    if UPDATE:
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8"), "BNAUDIT_UPDATE_GOLDEN=1 rewrites the file"


@pytest.mark.parametrize("name", samples.ALL)
@pytest.mark.parametrize("width", [60, 72, 80, 100, 120, 200])
def test_lines_fit(name: str, width: int) -> None:
    for line in samples.ALL[name]().to_table(width=width).splitlines():
        assert cell_len(line) <= width
        assert line == line.rstrip()


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("name", samples.ALL)
def test_document(name: str, channels: bool) -> None:
    text = samples.ALL[name]().to_json(channels=channels)
    Draft202012Validator(SCHEMA).validate(json.loads(text))
    if not channels:
        documents.check(f"recalibration_{name}", text)
    means = [layer["running_mean"] for layer in json.loads(text)["layers"]]
    assert (means[0] == [0.25, -0.5]) is channels


@pytest.mark.parametrize(
    ("loss", "accuracy", "word"),
    [
        (Estimate(-1, -2, -0.5, 8), Estimate(0.1, 0.05, 0.2, 8), "better"),
        (Estimate(-1, -2, -0.5, 8), Estimate(-0.1, -0.2, -0.05, 8), "worse"),
        (Estimate(1, 0.5, 2, 8), Estimate(0.1, 0.05, 0.2, 8), "worse"),
        (Estimate(0.1, -0.5, 0.7, 8), Estimate(0.0, -0.1, 0.1, 8), "same"),
        (Estimate(-1, -2, -0.5, 8), Skipped("no labels given"), "better"),
        (Estimate(-1, Skipped("one batch"), Skipped("one batch"), 8), Skipped(""), "unknown"),
        (Skipped("not finite"), Skipped(""), "unknown"),
    ],
)
def test_outcome(loss: Estimate, accuracy: Estimate, word: str) -> None:
    assert outcome_of(loss, accuracy) == word


def test_exit_codes() -> None:
    assert {name: made().exit_code for name, made in samples.ALL.items()} == {
        "averaged_weights": 0,
        "shared": 4,
        "forced": 0,
        "without_labels": 0,
    }
