"""docs/fleet.md: its commands run, programs for jq find what they say, lists are lists, tables are there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import jq
import pytest

from bnaudit.cli import run
from bnaudit.fleet.engine import ENGINES
from bnaudit.fleet.entries import read_entries
from bnaudit.records.fleet import FleetRow, Outcome

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "fleet.md").read_text(encoding="utf-8")
LINES = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.M | re.S)
    for line in block.splitlines()
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_and_programs_run_in_order(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = {"bnaudit": 0, "jq": 0}
    for line in LINES:
        name, *args = shlex.split(line)
        seen[name] += 1
        if name == "bnaudit":
            assert run(args) == 0, line
            assert "PASS" in capsys.readouterr().out
            continue
        program = next(arg for arg in args if not arg.startswith("-"))
        rows = [json.loads(text) for text in Path("fleet.jsonl").read_text().splitlines()]
        compiled = jq.compile(program)
        found = [value for row in rows for value in compiled.input_value(row).all()]
        if ".median.gain" in program:
            assert len(found) == len(rows)
    assert seen == {"bnaudit": 2, "jq": 3}


def test_the_lists_are_lists(folder: Path) -> None:
    Path("run").mkdir()
    for path in ("run/1.pt", "run/2.pt"):
        Path(path).write_bytes(b"x")
    Path("zoo/detectors").mkdir(parents=True)
    Path("zoo/detectors/d.onnx").write_bytes(b"x")
    (yaml,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)
    (csv,) = re.findall(r"^```text\n(model,.*?)^```", TEXT, re.M | re.S)
    Path("l.yaml").write_text(yaml)
    Path("l.csv").write_text(csv)
    for name in ("l.yaml", "l.csv"):
        models = [task.model for task in read_entries([name], {})[0]]
        assert models == ["zoo/a.onnx", "zoo/detectors/d.onnx", *["package.nets:resnet"] * 2]


def test_every_outcome_and_engine_is_told() -> None:
    for outcome in Outcome.__args__:  # type: ignore[attr-defined]
        assert f"`{outcome}`" in TEXT
    assert all(f"--engine {name}" in TEXT for name in ENGINES if name != "local")
    assert FleetRow.__doc__


@pytest.mark.parametrize("name", ["fleet_throughput", "fleet_driver", "fleet_kills"])
def test_what_was_measured_is_there(name: str) -> None:
    (body,) = re.findall(
        rf"<!-- numbers:begin {name} -->\n(.*?)\n?<!-- numbers:end -->", TEXT, re.DOTALL
    )
    lines = body.strip().splitlines()
    assert lines
    if lines[0].startswith("|"):
        assert len(lines) > 2
        assert len({line.count("|") for line in lines}) == 1
