"""What the report looks like from outside: formats, files, width, colour, determinism."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from bnaudit.cli import streams
from bnaudit.render.json_v1 import schema_text
from tests.cli.conftest import MLP, RESNET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

MODEL, DATA = MLP / "model.onnx", MLP / "batch.npz"
AUDIT = ("check", MODEL, "--data", DATA, "--batches", 2)
ESCAPE = "\x1b["


@pytest.mark.parametrize(
    "args",
    [
        AUDIT,
        (*AUDIT, "--channels"),
        (*AUDIT, "--mode", "running", "--dtype", "float64"),
        (*AUDIT, "--verify-gradients", "all"),
        (*AUDIT, "--batch-size", 1),
        (*AUDIT, "--batch-size", 2),
        (*AUDIT, "--loss", "mse"),
        ("check", MODEL),
        ("check", MLP / "folded.onnx"),
        ("check", MLP / "folded.onnx", "--allow-no-bn", "--fail-on", "never"),
        ("check", MLP / "scripted.pt", "--data", DATA),
        ("check", MLP / "scripted.pt"),
        ("check", RESNET / "static.onnx", "--batch-size", 1, "--batches", 1),
    ],
)
def test_json_is_one_strict_document_of_the_schema(
    cli: Callable[..., Outcome], args: tuple[Any, ...]
) -> None:
    outcome = cli(*args, "--format", "json")
    schema = json.loads(schema_text())
    Draft202012Validator(schema).validate(outcome.document)
    assert outcome.document["schema"] == "bnaudit.report/1"
    assert outcome.document["summary"]["exit_code"] == outcome.code


def test_schema_prints_what_is_packaged(cli: Callable[..., Outcome]) -> None:
    outcome = cli("schema")
    assert (outcome.code, outcome.out, outcome.err) == (0, schema_text(), "")


@pytest.mark.parametrize("model", [MODEL, MLP / "traced.pt", MLP / "static.onnx"])
def test_the_same_command_twice_gives_the_same_bytes(
    cli: Callable[..., Outcome], model: Path
) -> None:
    def document() -> str:
        found = cli("check", model, "--data", DATA, "--verify-gradients", 1, "--format", "json")
        content = found.document
        content["run"]["seconds"] = None
        return json.dumps(content)

    assert document() == document()


def test_seeds_show_in_synthetic_reports(cli: Callable[..., Outcome]) -> None:
    documents = [cli("check", MODEL, "--seed", s, "--format", "json").document for s in (0, 1)]
    assert [d["run"]["seed"] for d in documents] == [0, 1]
    assert documents[0]["run"]["data"]["source"] == "synthetic"
    assert documents[0]["layers"] != documents[1]["layers"]


def test_files_are_written_beside_stdout(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    files = [tmp_path / "r.json", tmp_path / "r.txt", tmp_path / "R.JSON"]
    outcome = cli(*AUDIT, "--format", "json", *(v for f in files for v in ("-o", f)))
    assert outcome.code == 0
    assert files[0].read_text() == files[2].read_text() == outcome.out
    text = files[1].read_text(encoding="utf-8")
    assert "\nPASS: " in text
    assert ESCAPE not in text


def test_none_leaves_stdout_empty(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = cli(*AUDIT, "--format", "none", "-o", tmp_path / "r.json")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert json.loads((tmp_path / "r.json").read_text())["summary"]["measured"] == 3


def test_a_failure_is_written_to_files_too(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = cli("check", MODEL, "--data", "nosuch.npz", "-o", tmp_path / "r.json")
    assert outcome.code == 2
    assert json.loads((tmp_path / "r.json").read_text())["failure"]["exit_code"] == 2


def test_a_file_that_cannot_be_written_loses_nothing(
    cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    full, good = tmp_path / "full.json", tmp_path / "good.json"
    full.symlink_to("/dev/full")
    outcome = cli(*AUDIT, "-o", full, "-o", good)
    assert outcome.code == 2
    assert outcome.lines[0].startswith(f"error: {full}: cannot be written (No space left")
    assert outcome.verdict.startswith("PASS")
    assert json.loads(good.read_text())["summary"]["measured"] == 3


@pytest.mark.parametrize(
    ("columns", "width"), [(None, 100), ("60", 60), ("140", 140), ("10", 60), ("²", 100), ("", 100)]
)
def test_the_width_is_100_where_nothing_says_otherwise(
    cli: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    columns: str | None,
    width: int,
) -> None:
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert streams.table_width() == width
    outcome = cli("check", RESNET / "model.onnx", "--batch-size", 4, "--batches", 1)
    longest = max(map(len, outcome.out.splitlines()))
    assert width - 12 <= longest <= width


class Terminal:
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("choice", "env", "terminal", "wanted"),
    [
        ("auto", {}, False, False),
        ("auto", {}, True, True),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"FORCE_COLOR": "1"}, False, True),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_colour_follows_the_flag_then_the_environment_then_the_terminal(
    cli: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    choice: str,
    env: dict[str, str],
    terminal: bool,
    wanted: bool,
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    if not terminal:
        outcome = cli(*AUDIT, "--color", choice)
        assert (ESCAPE in outcome.out) is wanted
        return
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdout", Terminal())
        found = streams.color_wanted(choice)
    assert found is wanted


def test_json_has_no_colour_ever(cli: Callable[..., Outcome]) -> None:
    assert ESCAPE not in cli(*AUDIT, "--color", "always", "--format", "json").out


def test_timings_are_for_those_who_ask(cli: Callable[..., Outcome]) -> None:
    assert cli(*AUDIT).err == ""
    (line,) = cli(*AUDIT, "-v").lines
    assert line.startswith("load ")
    assert "total" in line


def test_quiet_says_nothing_but_errors(cli: Callable[..., Outcome]) -> None:
    assert cli(*AUDIT, "-q").err == ""
    assert cli("check", "nosuch.onnx", "-q").lines[0].startswith("error: ")


def test_the_working_folder_stays_clean(
    cli: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli(*AUDIT)
    assert list(tmp_path.iterdir()) == []
