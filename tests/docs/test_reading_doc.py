"""The annotated reports of docs/reading.md are what the commands print, up to the digits."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from bnaudit.cli import run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
SECTIONS = [s for s in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:] if "```sh" in s]
EXITS = {"A healthy network": 0, "Worse as deployed": 1, "Dead channels": 1}


def block(section: str, language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def digitless(text: str) -> str:
    """Without line ends and the digits of numbers, which differ between machines."""
    return re.sub(r"-?\d[\d.,]*(e-?\d+)?", "#", " ".join(text.split()))


def test_there_are_three() -> None:
    assert [section.splitlines()[0] for section in SECTIONS] == list(EXITS)


@pytest.mark.parametrize("section", SECTIONS, ids=list(EXITS))
def test_the_end_of_the_report_is_that_of_the_page(
    section: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    exec(compile(block(section, "python"), "reading.md", "exec"), {})  # noqa: S102  # the example
    command = shlex.split(block(section, "sh"))
    monkeypatch.setenv("COLUMNS", "100")
    assert run(command[1:]) == EXITS[section.splitlines()[0]]
    printed = capsys.readouterr().out
    start = printed.index("As deployed")
    end = re.search(r"^(PASS|FAIL)", printed, re.MULTILINE)
    assert end is not None
    assert digitless(printed[start : end.start()]) == digitless(block(section, "text"))


def test_it_is_linked() -> None:
    assert "docs/reading.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(reading.md)" in (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
