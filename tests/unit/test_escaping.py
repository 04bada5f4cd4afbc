"""One escaping: what it spells out, and that every format for people and CI uses it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bnaudit.cli.streams import say_error
from bnaudit.escaping import printable
from bnaudit.render.formats import FORMATS, Style, render
from tests.unit.render.sick import sick

ODD = {
    "a\r\n::error::injected": r"a\r\n::error::injected",
    "\u202egnp.exe": r"\u202egnp.exe",
    "\x9b31m": r"\x9b31m",
    "a\u2028b\x85": r"a\u2028b\x85",
    "x\x7f\x00\x1b[2J": r"x\x7f\x00\x1b[2J",
    "\udc80\ufffe\U000e0001": r"\udc80\ufffe\U000e0001",
    "é γ 网": "é γ 网",
}
ACTED_ON = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]")


@pytest.mark.parametrize(("text", "wanted"), ODD.items())
def test_what_a_viewer_would_act_on_is_spelled_out(text: str, wanted: str) -> None:
    assert printable(text) == wanted
    assert printable(text, unicode=False).isascii()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("odd", ODD)
def test_every_format_does(name: str, odd: str) -> None:
    if not (FORMATS[name].documents is None or "report" in FORMATS[name].documents):
        return
    report = sick()
    found = tuple(replace(f, layer=odd, message=f"{odd}.", fix=odd) for f in report.findings)
    model = replace(report.model, path=odd, defined=(odd,))
    report = replace(report, findings=found, model=model)
    shown = str(render(name, report, Style(width=100)))
    assert not ACTED_ON.search(shown)
    commands = [line for line in shown.splitlines() if line.startswith("::")]
    assert all(
        line.startswith(("::error file", "::warning file", "::notice file")) for line in commands
    )


def test_errors_do(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ODD:
        say_error(text, text)
        assert not ACTED_ON.search(capsys.readouterr().err)
