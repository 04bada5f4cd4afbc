"""The page, the document and the pictures of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from bnaudit.render.figures.trend import alt_text, gain_spec, measured_spec
from bnaudit.render.json_v1 import schema_text
from bnaudit.render.rows import COLUMNS, rows_of, trend_to_csv
from bnaudit.render.text.cells import spark
from tests.golden import documents
from tests.golden.documents import UPDATE

from . import trend_samples as samples

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.mark.parametrize(
    ("name", "width", "unicode"),
    [
        ("falling", 60, True),
        ("falling", 100, True),
        ("falling", 140, True),
        ("falling", 100, False),
        ("measured", 140, True),
    ],
)
def test_golden_page(name: str, width: int, unicode: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnaudit.render.text.sheet.__version__", "X.Y.Z")
    report = samples.falling(measured=name == "measured")
    text = report.to_table(width=width, unicode=unicode)
    path = GOLDEN / f"trend_{name}_{width}{'' if unicode else '_ascii'}.txt"
    if UPDATE:
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8")
    assert unicode or text.isascii()
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text


@pytest.mark.parametrize("measured", [False, True])
def test_golden_document(measured: bool) -> None:
    text = samples.falling(measured=measured).to_json()
    Draft202012Validator(json.loads(schema_text("trend"))).validate(json.loads(text))
    documents.check(f"trend_{'measured' if measured else 'falling'}", text, exact=False)


def test_rows_are_the_states_and_what_was_left_out() -> None:
    rows = rows_of(samples.falling())
    assert len(rows) == 12 * 3 + 2
    assert all(tuple(row) == COLUMNS for row in rows)
    assert rows[-2]["missing"] == "cannot be read (a cut-off zip file)"
    assert rows[-2]["gain"] is None
    assert trend_to_csv(samples.falling()).splitlines()[0] == ",".join(COLUMNS)


def test_sparklines() -> None:
    assert spark([1, 10, 100, 1000], 4) == "▁▃▆█"
    assert spark([5.0, 5.0, 5.001], 5) == "▁▁▁  "
    assert spark([1.0, None, 100.0, float("nan"), 0.0], 5) == "▁ █  "
    assert spark([None], 3) == "   "
    assert len(spark([float(i) for i in range(1, 1000)], 20)) == 20


def test_pictures_hold_what_was_found_and_no_more() -> None:
    report = samples.falling(measured=True)
    rows = gain_spec(report)["data"]["values"]
    assert len(rows) == 3 * 12
    first = report.layers[0].states[0]
    assert first is not None
    assert rows[0]["value"] == first.gain
    assert rows[0]["about"].startswith("layer1.0.bn1 — 4.00 at step 100")
    json.dumps(measured_spec(report), allow_nan=False)
    assert measured_spec(samples.falling())["data"]["values"] == []
    assert alt_text(report).startswith("|γ|/σ over the run, 3 lines, the middle layer from 2.00 to")
