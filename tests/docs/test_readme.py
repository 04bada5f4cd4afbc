"""What the README shows has to work as it stands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from bnaudit.cli import run
from bnaudit.cli.commands import COMMANDS
from bnaudit.judge.rules import RULES
from bnaudit.metrics import METRICS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line.partition("#")[0].strip() for line in lines if line.startswith("bnaudit ")]


@pytest.mark.parametrize("command", commands())
def test_commands_run_and_are_clean(
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(ROOT)
    own = ["--results", str(tmp_path / "fleet.jsonl")] if " fleet " in command else []
    assert run([*shlex.split(command)[1:], *own]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    if "json" in command or command == "bnaudit schema":
        assert json.loads(printed.out)
    else:
        assert len(printed.out.splitlines()) > 5


def test_there_are_commands_to_test() -> None:
    assert {shlex.split(c)[1] for c in commands()} == set(COMMANDS)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102  # the example itself is the test


def test_the_two_commands_are_in_the_first_screen_and_in_the_makefile() -> None:
    first = "\n".join(README.splitlines()[:24])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in first
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "make --no-print-directory test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_files_that_are_linked_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_metric_exit_code_and_rule_is_documented() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert rule.id in changelog
    for code in (0, 1, 2, 3, 4, 70, 130):
        assert re.search(rf"^\| {code} \|", README, re.MULTILINE), code
    for metric in set(METRICS) - {"statistics", "second_order"}:
        assert metric in README


def test_the_sample_has_the_columns_and_layers_of_the_real_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "100")
    assert run(shlex.split(commands()[0])[1:]) == 0
    printed = capsys.readouterr().out.splitlines()
    header, *rows = blocks("text")[0].splitlines()[1:]
    assert header in printed
    names = [line.split()[0] for line in printed if line.strip()]
    assert [row.split()[0] for row in rows] == [
        n for n in names if n in {r.split()[0] for r in rows}
    ]
