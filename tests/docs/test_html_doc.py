"""docs/html.md: its commands run, its Python too, and it is found."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from bnaudit.cli import run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "html.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_run(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)
    assert words[0] == "bnaudit"
    assert run(words[1:]) == 0
    assert capsys.readouterr().err == ""
    for target in (word for before, word in pairwise(words) if before == "-o"):
        assert (tmp_path / target).stat().st_size > 1000


def test_its_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    exec(compile(code, "html.md", "exec"), {})  # noqa: S102  # the example
    assert "|g|/|G|" in capsys.readouterr().out


def test_there_are_commands_and_it_is_linked() -> None:
    assert len(COMMANDS) > 3
    assert "docs/html.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("report.md", "ci.md"):
        assert "(html.md)" in (ROOT / "docs" / name).read_text(encoding="utf-8")
