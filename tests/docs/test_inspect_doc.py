"""The part of docs/report.md on inspections: fields and cases exist, examples give what they say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest

import bnaudit
from bnaudit.records.inspection import AbsenceCase
from bnaudit.render.json_v1 import schema_text

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "report.md").read_text(encoding="utf-8").partition("## An inspection")[2]
SCHEMA = json.loads(schema_text("inspect"))
FIXTURES = ROOT / "fixtures" / "digits_resnet"
EXAMPLES = re.findall(r"^```jq\n(.*?)\n```", GUIDE, re.MULTILINE | re.DOTALL)


def test_every_case_is_explained_and_no_other() -> None:
    table = GUIDE.partition("| `case` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z-]+)`", table)) == set(get_args(AbsenceCase))


def cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line.strip("|"))


def test_every_field_in_the_table_of_columns_exists() -> None:
    table = GUIDE.partition("| --- | --- | --- |\n")[2].partition("\n\n")[0]
    fields = {f for line in table.splitlines() for f in re.findall(r"`(\w+)`", cells(line)[1])}
    assert len(fields) > 6
    assert fields <= set(SCHEMA["$defs"]["batch_norm_statics"]["properties"]) | set(
        SCHEMA["properties"]
    )


def foldable(report: dict[str, Any]) -> list[str]:
    return [layer["name"] for layer in report["layers"] if layer["fold_candidate"]]


def explanation(report: dict[str, Any]) -> list[str]:
    absence = report["absence"]
    return [absence["case"], *absence["evidence"], absence["fix"]] if absence else []


@pytest.mark.parametrize(
    ("place", "file", "in_python"),
    [
        (0, "dynamo.onnx", foldable),
        (1, "folded.onnx", explanation),
        (1, "dynamo.onnx", explanation),
    ],
)
def test_examples(place: int, file: str, in_python: Any) -> None:
    text = bnaudit.inspect(FIXTURES / file).to_json()
    expected = in_python(json.loads(text))
    assert bool(expected) is ((place, file) != (1, "dynamo.onnx"))
    jq = shutil.which("jq")
    if jq is None:
        return
    done = subprocess.run(
        [jq, "-r", EXAMPLES[place]], input=text, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == expected


def test_there_are_no_other_examples() -> None:
    assert len(EXAMPLES) == 2
