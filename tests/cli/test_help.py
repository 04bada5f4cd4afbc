"""--help: headings, formats as they are written, examples that can be copied; misspelt commands."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bnaudit.cli.commands import COMMANDS
from bnaudit.config.options import HEADINGS, OPTIONS
from bnaudit.render.formats import DOCUMENTS, FORMATS
from tests.cli.conftest import MLP, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTHS = ["60", "80", "100", "200"]
# Written out: what each command has always written, not what the table says of it; pages and pictures go to
# files alone.
FORMATS_OF = {
    "check": "table json sarif junit markdown github",
    "inspect": "table json sarif junit markdown github",
    "init": "table json",
    "fleet": "table json sarif junit",
    "diff": "table json",
    "landscape": "table json",
    "rules": "table json markdown",
}
SUFFIXES_OF = {
    "check": ".txt .json .sarif .xml .md .html .svg .png",
    "inspect": ".txt .json .sarif .xml .md .html .svg .png",
    "init": ".txt .json .html .svg .png",
    "fleet": ".txt .json .sarif .xml .html .svg .png",
    "diff": ".txt .json .html .svg .png",
    "landscape": ".txt .json .html .svg .png",
    "rules": ".txt .json .md",
}


def sections(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w[^\n]*):\n((?:  .*\n|\n)+)", text, re.MULTILINE))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_it_fits_and_its_examples_are_whole(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, command: str, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    outcome = cli(*command.split(), "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert max(map(len, outcome.out.splitlines())) <= int(width)
    if not command:
        return
    shown = sections(outcome.out).get("Examples", "").replace("\\\n", "")
    lines = [shlex.split(line) for line in shown.splitlines() if line.strip()]
    examples = getattr(import_module(COMMANDS[command][0]).command, "examples", ())
    assert lines == [shlex.split(example) for example in examples]


def test_every_option_of_check_is_below_its_heading(cli: Callable[..., Outcome]) -> None:
    found = sections(cli("check", "--help").out)
    assert list(found) == ["Examples", *HEADINGS]
    for option in OPTIONS:
        if option.parameter is not None and "check" in option.commands:
            assert re.search(rf"^  (-\w, )?--{option.name}\b", found[option.heading], re.MULTILINE)


@pytest.mark.parametrize("command", FORMATS_OF)
def test_each_command_lists_what_it_writes(
    cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = " ".join(cli(command, "--help").out.split())
    known, suffixes = FORMATS_OF[command].split(), SUFFIXES_OF[command].split()
    assert f"--format [{'|'.join([*known, 'none'])}]" in text
    assert f"({', '.join(suffixes)}), or FORMAT=FILE" in text
    written = {*known, "html", "svg", "png"} if command != "rules" else set(known)
    for name in set(FORMATS) - written:
        assert f"{name} {FORMATS[name].summary}" not in text
        outcome = cli(command, "a", "b", "-o", f"{name}={tmp_path / 'x'}")
        assert outcome.code == 2
        assert (
            f"no format of this command (there are: {', '.join(n for n in FORMATS if n in written)})"
            in outcome.lines[0]
        )


def test_every_writer_is_there() -> None:
    for form in FORMATS.values():
        assert set(form.documents) <= set(DOCUMENTS)
        module, function = form.writer.split(":")
        assert callable(getattr(import_module(f"bnaudit.render.{module}"), function))


@pytest.mark.parametrize("format_name", ["table", "json"])
@pytest.mark.parametrize(
    "args",
    [
        ("check", MLP / "model.onnx"),
        ("inspect", MLP / "model.onnx"),
        ("diff", MLP / "model.onnx", MLP / "model.onnx"),
        ("init", MLP / "start.pt", MLP / "model.onnx"),
        ("rules",),
    ],
)
def test_two_documents_never_share_a_stdout(
    capfd: pytest.CaptureFixture[str], args: tuple[object, ...], format_name: str
) -> None:
    from bnaudit.cli import run

    words = [str(arg) for arg in args]
    assert run([*words, "--format", format_name, "-o", "json=/dev/stdout"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "--output names /dev/stdout, which is stdout" in err
    assert run([*words, "-o", "a.json", "-o", "json=a.json"]) == 2
    assert "--output names a.json twice" in capfd.readouterr().err
    assert not Path("a.json").exists()


@pytest.mark.parametrize(
    ("typed", "meant"), [("chek", "check"), ("Inspect", "inspect"), ("rule", "rules")]
)
def test_a_misspelt_command(cli: Callable[..., Outcome], typed: str, meant: str) -> None:
    outcome = cli(typed, "model.onnx")
    assert outcome.lines[0] == f"error: no command {typed!r}; did you mean `bnaudit {meant}`?"
    assert (outcome.code, outcome.out) == (2, "")
    assert "Did you mean '--fail-on'?" in cli("check", "m.onnx", "--fail_on", "error").err


def test_rules_are_written_to_a_file(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    path = tmp_path / "rules.md"
    assert cli("rules", "-o", path, "--format", "none").out == ""
    assert path.read_text() == cli("rules", "--format", "markdown").out
