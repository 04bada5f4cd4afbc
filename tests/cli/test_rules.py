"""`bnaudit rules` and `bnaudit explain`."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from bnaudit.cli import run
from bnaudit.judge.rules import RULES
from bnaudit.render.json_v1 import schema_text

SCHEMA = json.loads(schema_text("rules"))


def out(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(args) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_list_fits(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = out(["rules"], capsys)
    assert max(len(line) for line in text.splitlines()) <= width
    words = " ".join(text.split())
    for rule in RULES:
        assert f"{rule.id} {rule.name} {rule.severity.label} {rule.needs.value} " in words
    assert words.count("Looks for") == sum("Looks for" in rule.summary for rule in RULES)
    assert all(line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("args", [["rules", "--json"], ["rules", "--format", "json"]])
def test_json_is_strict_and_as_documented(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    document = json.loads(out(args, capsys), parse_constant=refuse)
    Draft202012Validator(SCHEMA).validate(document)
    assert [rule["id"] for rule in document["rules"]] == sorted(rule.id for rule in RULES)
    assert all(rule["example"]["rule"] == rule["id"] for rule in document["rules"])


def test_a_page_has_all_headings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = out(["explain", "dead-gamma"], capsys)
    lines = text.splitlines()
    assert lines[0] == "BN009 dead-gamma"
    titles = [
        "What it does",
        "Why it is bad",
        "How to fix it",
        "Thresholds",
        "Example",
        "References",
    ]
    places = [lines.index(title) for title in titles]
    assert places == sorted(places)
    assert all(set(lines[place + 1]) == {"-"} for place in places)
    assert max(map(len, lines[: places[-1]])) <= 80
    assert "https://arxiv.org/abs/1708.06519" in text


def test_several_are_explained_once_each_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    text = out(["explain", "unusual-eps", "BN001", "BN008"], capsys)
    heads = [line for line in text.splitlines() if line[:2] == "BN" and line[2:5].isdigit()]
    assert heads == ["BN008 unusual-eps", "BN001 no-batchnorm"]


def test_explain_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(out(["explain", "BN009", "--json"], capsys))
    Draft202012Validator(SCHEMA).validate(document)
    assert [rule["id"] for rule in document["rules"]] == ["BN009"]


def test_an_unknown_rule_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "dead-gama"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(
        "error: no rule 'dead-gama'\nhint: did you mean BN009 (dead-gamma)"
    )


def test_explain_without_a_rule_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain"]) == 2
    assert "hint: see `bnaudit explain --help`" in capsys.readouterr().err


def test_the_schema_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(out(["schema", "rules"], capsys)) == SCHEMA
