"""Workflow commands: one line each, escaped, and no more than GitHub shows."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bnaudit.records.finding import Finding, Severity
from bnaudit.render.github import SHOWN, report_to_github

from . import samples
from .sick import sick

COMMAND = re.compile(r"^::(error|warning|notice) file=([^,:]*),line=1,title=([^,:]*)::(.*)$")


def commands(text: str) -> list[tuple[str, ...]]:
    lines = text.splitlines()
    assert not lines[-1].startswith("::")
    matched = [COMMAND.match(line) for line in lines[:-1]]
    return [match.groups() for match in matched if match is not None]


@pytest.mark.parametrize("name", sorted(samples.ALL))
def test_every_line_but_the_last_is_a_command(name: str) -> None:
    text = report_to_github(samples.ALL[name]())
    assert len(commands(text)) == len(text.splitlines()) - 1


def test_findings_keep_their_severity_and_remedy() -> None:
    report = sick()
    names = {"error": Severity.ERROR, "warning": Severity.WARNING, "notice": Severity.INFO}
    shown = commands(report_to_github(report))
    assert [names[kind] for kind, *_ in shown] == [f.severity for f in report.findings]
    for (*_, text), finding in zip(shown, report.findings, strict=True):
        assert finding.fix.replace("%", "%25") in text


def many(count: int) -> list[Finding]:
    base = sick().findings[0]
    return [replace(base, layer=f"layer{i}", severity=Severity.ERROR) for i in range(count)]


@pytest.mark.parametrize("count", [SHOWN - 1, SHOWN, SHOWN + 1, 53])
def test_ten_of_a_kind_and_the_last_counts_the_rest(count: int) -> None:
    shown = commands(report_to_github(replace(sick(), findings=tuple(many(count)))))
    assert len(shown) == min(count, SHOWN)
    if count > SHOWN:
        assert f"{count - SHOWN + 1} more error findings" in shown[-1][3]
    else:
        assert "layer" in shown[-1][3]


def test_nothing_in_a_name_starts_a_command_of_its_own() -> None:
    report = sick()
    nasty = replace(report.findings[0], layer="a\n::error::b", message="100%\r\n::stop-commands::x")
    model = replace(report.model, path="m,1:2\n::error::x.onnx")
    text = report_to_github(replace(report, model=model, findings=(nasty,)))
    assert len(text.splitlines()) == 2
    assert r"a\n::error::b: 100%25\r\n::stop-commands::x" in text
    assert "m%2C1%3A2" in text
