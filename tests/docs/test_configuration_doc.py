"""docs/configuration.md and docs/baseline.md show what works, and name every key."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import jq
import pytest

from bnaudit.cli import run
from bnaudit.config import load_config
from bnaudit.config.options import KEYS
from tests.cli.conftest import shell

ROOT = Path(__file__).parents[2]
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
BASELINE = (ROOT / "docs" / "baseline.md").read_text(encoding="utf-8")


def blocks(text: str, kind: str) -> list[str]:
    found = re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found, kind
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with the fixtures in it."""
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_example_is_a_configuration_and_toml_says_the_same(folder: Path) -> None:
    (folder / "bnaudit.yaml").write_text(blocks(CONFIGURATION, "yaml")[0])
    (folder / "bnaudit.toml").write_text(blocks(CONFIGURATION, "toml")[0])
    yaml = load_config().settings
    toml = load_config(Path("bnaudit.toml")).settings
    assert set(yaml) - set(toml) == {"severity", "output"}
    assert {key: s.value for key, s in toml.items()} == {key: yaml[key].value for key in toml}


def table() -> str:
    """A row a key, in the order of the table of options."""
    lines = ["| key | what for | takes | default | option |", "|---|---|---|---|---|"]
    for key, option in KEYS.items():
        default = option.default
        shown = ", ".join(default) if isinstance(default, (tuple, dict)) else str(default).lower()
        told = option.unset or ("" if default is None else shown)
        typed = "" if option.parameter is None else f"`--{option.name}`"
        takes = option.kind.wanted.replace("|", "\\|")
        lines.append(f"| `{key}` | {option.clause} | {takes} | {told} | {typed} |")
    return "\n".join(lines)


def test_the_table_is_that_of_the_options() -> None:
    path = ROOT / "docs" / "configuration.md"
    before, rest = CONFIGURATION.split("## Keys\n\n", 1)
    after = rest.split("\n\n", 1)[1]
    if os.environ.get("BNAUDIT_UPDATE_GOLDEN"):
        path.write_text(f"{before}## Keys\n\n{table()}\n\n{after}", encoding="utf-8")
        return
    assert rest.split("\n\n", 1)[0] == table(), "BNAUDIT_UPDATE_GOLDEN=1 writes it"


def test_commands_with_variables_run(folder: Path) -> None:
    for block in blocks(CONFIGURATION, "sh"):
        for command in block.splitlines():
            assert shell(command.replace("bnaudit ", "$BN ")).code == 0, command


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_shells_get_a_completion(name: str) -> None:
    assert f"_BNAUDIT_COMPLETE={name}_source bnaudit" in CONFIGURATION
    assert "_bnaudit_completion" in shell("$BN", _BNAUDIT_COMPLETE=f"{name}_source").out


def test_the_error_is_the_one_that_is_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bnaudit.yaml").write_text("\n" * 6 + "fail_on: warning\n")
    assert run(["config"]) == 2
    assert capsys.readouterr().err in blocks(CONFIGURATION, "text")


def test_suppressed_findings_read_as_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = blocks(CONFIGURATION, "text")[0].splitlines()[0]
    data = "--data fixtures/tabular_mlp/batch.npz --batch-size 8 -m first_order --ignore few-values"
    assert run(shlex.split(f"check fixtures/tabular_mlp/model.onnx {data}")) == 0
    assert shown in capsys.readouterr().out.splitlines()


def test_commands_of_the_baseline_run_in_order(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BNAUDIT_UPDATE_GOLDEN", raising=False)  # it would be noted as no option
    for block in blocks(BASELINE, "sh"):
        for command in block.splitlines():
            assert run(shlex.split(command)[1:]) == 0, command
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("program", blocks(BASELINE, "jq"))
def test_jq_programs_run_on_a_diff(
    program: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = "fixtures/tabular_mlp/model.onnx fixtures/tabular_mlp/scripted.pt"
    assert run(shlex.split(f"diff {models} --format json")) == 0
    (answer,) = jq.compile(program.strip()).input_text(capsys.readouterr().out).all()
    assert answer in (
        [],
        {"regressions": 0, "appeared": 0, "worse": 0, "removed": 0, "exit_code": 0},
    )
