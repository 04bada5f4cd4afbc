"""Inspections as text and as JSON: golden files, any width, any content, the schema's own promises."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from rich.cells import cell_len

from bnaudit.records.finding import Finding, Severity
from bnaudit.records.inspection import (
    Absence,
    BatchNormStatics,
    DecomposedNorm,
    Feeder,
    Inspection,
    InspectionReport,
)
from bnaudit.records.model import TensorInfo
from bnaudit.records.values import Skipped
from bnaudit.render.json_v1 import document_text, schema_text
from bnaudit.render.text import document_to_text
from bnaudit.summary.gain import gain_channels, gain_of, is_foldable
from bnaudit.summary.inspection import summarize_inspection

from . import inspect_samples as samples

GOLDEN = Path(__file__).parents[2] / "golden"
UPDATE = os.environ.get("BNAUDIT_UPDATE_GOLDEN") == "1"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
SCHEMA = json.loads(schema_text("inspect"))
VALIDATOR = Draft202012Validator(SCHEMA)

CASES = [
    *(("healthy", width, True) for width in (60, 100, 140)),
    *(("sick", width, True) for width in (60, 100, 140)),
    ("sick", 100, False),
    ("folded", 100, True),
    ("folded", 60, True),
    ("frozen", 100, True),
    ("state_dict", 100, True),
    ("hostile", 100, True),
]


@pytest.mark.parametrize(("name", "width", "unicode"), CASES)
def test_golden(name: str, width: int, unicode: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnaudit.render.text.sheet.__version__", "X.Y.Z")
    text = document_to_text(samples.ALL[name](), width=width, unicode=unicode)
    path = GOLDEN / f"inspect_{name}_{width}{'' if unicode else '_ascii'}.txt"
    if UPDATE:
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8"), "BNAUDIT_UPDATE_GOLDEN=1 rewrites the file"


@pytest.mark.parametrize("name", samples.ALL)
@pytest.mark.parametrize("width", [60, 61, 72, 80, 93, 100, 119, 120, 140, 200])
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


def test_nothing_from_a_file_reaches_the_terminal_as_a_command() -> None:
    text = ANSI.sub("", document_to_text(samples.hostile(), color=True))
    assert text.replace("\n", "").isprintable()
    assert "[bold red]x[/]" in text
    assert "\\x1b[31mred" in text


@pytest.mark.parametrize("name", samples.ALL)
@pytest.mark.parametrize("channels", [False, True])
def test_json_validates_and_keeps_the_schema_order(name: str, channels: bool) -> None:
    text = document_text(samples.ALL[name](), channels=channels)
    assert text.isascii()
    document = json.loads(text)
    VALIDATOR.validate(document)
    assert list(document) == list(SCHEMA["properties"])
    for layer in document["layers"]:
        assert list(layer) == list(SCHEMA["$defs"]["batch_norm_statics"]["properties"])


def test_gain_by_hand() -> None:
    layer = samples.layer(
        "bn", 4, gamma=(-3.0, 1.0, 0.0, 2.0), running_var=(9.0, 4.0, 1.0, 3.0), eps=1.0
    )
    expected = (3 / 10**0.5, 1 / 5**0.5, 0.0, 1.0)
    assert gain_channels(layer) == pytest.approx(expected, rel=1e-15)
    gain = gain_of(layer)
    assert not isinstance(gain, Skipped)
    assert gain.median == pytest.approx((1 / 5**0.5 + 3 / 10**0.5) / 2)
    assert gain.fraction_le_1 == 1.0


def test_gain_without_gamma_eps_or_variance() -> None:
    plain = samples.layer("bn", 2, gamma=None, running_var=(4.0, 16.0), eps=None)
    assumed = [1 / (4 + 1e-5) ** 0.5, 1 / (16 + 1e-5) ** 0.5]
    assert gain_channels(plain) == pytest.approx(assumed, rel=1e-15)
    assert isinstance(gain_of(samples.layer("bn", running_var=None)), Skipped)
    dead = samples.layer("bn", 2, gamma=(0.0, 1.0), running_var=(0.0, 0.0), eps=0.0)
    assert isinstance(gain_of(dead), Skipped)


def test_what_an_exporter_can_fold() -> None:
    assert is_foldable(samples.layer("bn")) is True
    assert is_foldable(samples.layer("bn", training=True)) is False
    assert is_foldable(samples.layer("bn", preceded_by="Dropout")) is False
    assert is_foldable(samples.layer("bn", feeder=None)) is False
    assert is_foldable(samples.layer("bn", running_mean=None, running_var=None)) is False
    shared = Feeder("w", "Conv", bias=None, sole_reader=False)
    assert is_foldable(samples.layer("bn", feeder=shared)) is False
    linear = Feeder("w", "MatMul", bias=True, sole_reader=True)
    assert is_foldable(samples.layer("bn", feeder=linear, preceded_by="Add")) is True
    assert is_foldable(samples.layer("bn", preceded_by=None, feeder=None)) is None


def test_summary() -> None:
    summary = summarize_inspection(samples.sick())
    assert (summary.layers, summary.training, summary.scale_absorbed) == (6, 1, 1)
    assert (summary.errors, summary.warnings, summary.infos) == (1, 1, 1)
    assert (summary.verdict, summary.exit_code) == ("findings", 1)
    assert summarize_inspection(samples.healthy()).verdict == "clean"
    assert summarize_inspection(samples.folded()).exit_code == 3
    assert summarize_inspection(samples.state_dict()).fold_candidates is None


TEXT = st.text(max_size=40) | st.text("ab.\x1b\n[]é名\u0301", max_size=120)
OPTIONAL = st.none() | TEXT
VECTOR = st.none() | st.lists(st.floats(), max_size=4).map(tuple)
BOOL = st.none() | st.booleans()
LAYER = st.builds(
    BatchNormStatics,
    name=TEXT,
    origin=TEXT,
    channels=st.none() | st.integers(0, 10**6),
    eps=st.none() | st.floats(),
    momentum=st.none() | st.floats(),
    training=BOOL,
    batches_tracked=st.none() | st.integers(0, 2**63),
    dtype=OPTIONAL,
    gamma=VECTOR,
    beta=VECTOR,
    running_mean=VECTOR,
    running_var=VECTOR,
    scale_absorbed=st.booleans(),
    feeder=st.none() | st.builds(Feeder, TEXT, TEXT, BOOL, st.booleans()),
    preceded_by=OPTIONAL,
    of_weights=BOOL,
)
INSPECTION = st.builds(
    Inspection,
    path=TEXT,
    kind=st.sampled_from(
        ["onnx", "torchscript", "exported", "checkpoint", "safetensors", "module"]
    ),
    producer=OPTIONAL,
    facts=st.dictionaries(TEXT, TEXT, max_size=2),
    size=st.none() | st.integers(0, 2**40),
    parameters=st.none() | st.integers(0, 2**40),
    inputs=st.lists(
        st.builds(
            TensorInfo,
            TEXT,
            st.none() | st.lists(st.none() | TEXT | st.integers(0, 99), max_size=3).map(tuple),
            OPTIONAL,
        ),
        max_size=2,
    ).map(tuple),
    outputs=st.lists(TEXT, max_size=2).map(tuple),
    batchnorms=st.lists(LAYER, max_size=4).map(tuple),
    decomposed=st.lists(
        st.builds(DecomposedNorm, TEXT, TEXT, st.integers(0, 999), TEXT), max_size=2
    ).map(tuple),
    other_norms=st.dictionaries(TEXT, st.integers(1, 9), max_size=2),
    weight_layers=st.none() | st.integers(0, 99),
    absence=st.none()
    | st.builds(
        Absence,
        st.sampled_from(["folded", "partly-folded", "frozen", "quantised", "none", "unknown"]),
        st.lists(TEXT, max_size=2).map(tuple),
        TEXT,
    ),
    notes=st.lists(TEXT, max_size=2).map(tuple),
)
REPORT = st.builds(
    InspectionReport,
    inspection=INSPECTION,
    findings=st.lists(
        st.builds(Finding, st.just("BN001"), TEXT, st.sampled_from(Severity), OPTIONAL, TEXT, TEXT),
        max_size=3,
    ).map(tuple),
    fail_on=st.none() | st.sampled_from(Severity),
    allow_no_bn=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(REPORT, st.integers(60, 160), st.booleans())
def test_any_inspection_renders(report: InspectionReport, width: int, unicode: bool) -> None:
    text = document_to_text(report, width=width, unicode=unicode)
    for line in text.splitlines():
        assert cell_len(line) <= width
    assert text.replace("\n", "").isprintable() or unicode
    for channels in (False, True):
        document: Any = json.loads(document_text(report, channels=channels), parse_constant=_refuse)
        VALIDATOR.validate(document)


def _refuse(constant: str) -> None:
    raise AssertionError(constant)
