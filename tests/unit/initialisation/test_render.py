"""The comparison as text, against golden files, and as JSON, against its schema."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from rich.cells import cell_len

from bnaudit.render.json_v1 import document_text, schema_text
from bnaudit.render.text import document_to_text

from . import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).parents[2] / "golden"
UPDATE = os.environ.get("BNAUDIT_UPDATE_GOLDEN") == "1"
SCHEMA = json.loads(schema_text("init"))

CASES = [
    *((name, 100, True) for name in samples.ALL),
    ("with_run", 60, True),
    ("with_run", 140, True),
    ("with_run", 100, False),
]


@pytest.mark.parametrize(("name", "width", "unicode"), CASES)
def test_golden(name: str, width: int, unicode: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnaudit.render.text.sheet.__version__", "X.Y.Z")
    text = document_to_text(samples.ALL[name](), width=width, unicode=unicode)
    path = GOLDEN / f"init_{name}_{width}{'' if unicode else '_ascii'}.txt"
    if UPDATE:
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8"), "BNAUDIT_UPDATE_GOLDEN=1 rewrites the file"


@pytest.mark.parametrize("name", samples.ALL)
@pytest.mark.parametrize("width", [60, 72, 80, 100, 120, 200])
def test_lines_fit(name: str, width: int) -> None:
    for line in document_to_text(samples.ALL[name](), width=width).splitlines():
        assert cell_len(line) <= width
        assert line == line.rstrip()


@pytest.mark.parametrize("name", samples.ALL)
def test_colour_adds_nothing_but_escape_codes(name: str) -> None:
    report = samples.ALL[name]()
    colored = document_to_text(report, color=True)
    assert colored != document_to_text(report)
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == document_to_text(report)


@pytest.mark.parametrize("name", samples.ALL)
def test_nothing_acts_on_a_terminal(name: str) -> None:
    report = samples.ALL[name]()
    assert document_to_text(report, unicode=False).isascii()
    text = document_to_text(report)
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("name", samples.ALL)
def test_json_validates_and_keeps_its_shape(name: str) -> None:
    document = json.loads(document_text(samples.ALL[name]()))
    Draft202012Validator(SCHEMA).validate(document)
    check_order(document, SCHEMA)


def check_order(value: Any, node: dict[str, Any]) -> None:
    if "anyOf" in node:
        node = node["anyOf"][0]
    if "$ref" in node:
        node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]
    if isinstance(value, dict) and "properties" in node:
        assert list(value) == list(node["properties"])
        for key, child in value.items():
            check_order(child, node["properties"][key])
    elif isinstance(value, list):
        for child in value:
            check_order(child, node["items"])


def test_every_null_has_its_reason() -> None:
    for name in samples.ALL:
        document = json.loads(document_text(samples.ALL[name]()))
        assert (document["run"] is None) == any(s["metric"] == "run" for s in document["skipped"])
        for weight in document["weights"]:
            reasons = {s["metric"] for s in weight["skipped"]}
            for group in ("whole", "rows", "scale"):
                for key, value in weight[group].items():
                    if value is None:
                        assert {group, f"{group}.{key}"} & reasons


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from walk(child)
    elif isinstance(node, list):
        for child in node:
            yield from walk(child)


@pytest.mark.parametrize("key", ["schema", "weights", "run", "skipped"])
def test_a_missing_key_is_noticed(key: str) -> None:
    document = json.loads(document_text(samples.with_run()))
    del document[key]
    with pytest.raises(ValidationError, match=key):
        Draft202012Validator(SCHEMA).validate(document)
