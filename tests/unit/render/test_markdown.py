"""Markdown for comments: complete, within GitHub's limit, and free of markup from the model."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from bnaudit.judge.policy import Policy
from bnaudit.judge.verdicts import judge
from bnaudit.records.finding import RuleNotRun
from bnaudit.render.markdown import LIMIT, document_to_markdown

from . import samples
from .sick import sick

PARSER = MarkdownIt("gfm-like", {"html": True, "linkify": False})


def rows(text: str) -> list[list[str]]:
    """Cells of all body rows, as a Markdown parser sees them."""
    found: list[list[str]] = []
    inside = False
    for token in PARSER.parse(text):
        if token.type == "tr_open":
            found.append([])
        inside = inside or token.type == "tr_open"
        inside = inside and token.type != "tr_close"
        if token.type == "inline" and inside:
            found[-1].append(token.content)
    return found


@pytest.mark.parametrize("name", sorted(samples.ALL))
def test_every_table_keeps_its_columns(name: str) -> None:
    text = document_to_markdown(samples.ALL[name]())
    assert len(text) < LIMIT
    assert {len(row) for row in rows(text)} <= {5, 6}


def test_all_findings_and_layers_are_there() -> None:
    report = sick()
    text = document_to_markdown(report)
    assert sum(len(row) == 5 for row in rows(text)) == len(report.findings) + 1
    assert sum(len(row) == 6 for row in rows(text)) == len(report.layers) + 1


def test_what_does_not_fit_is_counted() -> None:
    report = sick()
    findings = tuple(replace(report.findings[0], layer=f"layer{i}") for i in range(2000))
    layers = tuple(replace(report.layers[0], name="x" * 60 + str(i)) for i in range(2000))
    text = document_to_markdown(replace(report, findings=findings, layers=layers))
    assert len(text) < LIMIT
    shown = sum(len(row) == 5 for row in rows(text)) - 1
    assert f"{2000 - shown} more findings" in text
    assert re.search(r"\d+ more layers", text)


def test_suppressed_findings_and_rules_not_run_are_listed() -> None:
    bare = replace(sick(), findings=())
    verdicts = judge(bare, Policy(ignore=("integrity",)))
    not_run = (RuleNotRun("BN104", "minimax-bound", "no <weights>"),)
    report = replace(bare, suppressed=verdicts.suppressed, rules_not_run=not_run)
    text = document_to_markdown(report)
    assert "suppressed</summary>" in text
    assert "ignore: integrity" in text
    assert r"no \<weights\>" in text


def test_names_of_a_model_are_no_markup() -> None:
    report = sick()
    nasty = "a`|b\n<img src=x> @everyone [x](http://evil) **b**"
    finding = replace(report.findings[0], layer=nasty, message=nasty, fix=nasty)
    model = replace(report.model, path=nasty)
    text = document_to_markdown(replace(report, model=model, findings=(finding,)))
    assert {len(row) for row in rows(text)} == {5, 6}
    tokens = [child for token in PARSER.parse(text) for child in token.children or []]
    assert not [t for t in tokens if t.type in ("link_open", "image", "html_inline")]
    written = "".join(t.content for t in tokens if t.type == "text")
    assert "@everyone" not in written


def test_a_chart_of_mermaid_has_the_layers_in_powers_of_two() -> None:
    report = samples.everything()
    text = document_to_markdown(report)
    chart = re.search(r"^```mermaid\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert chart is not None
    lines = re.findall(r"line \[(.*)\]", chart[1])
    gains = [layer.gain_batch for layer in report.layers]
    for line, end in zip(lines, ("maximum", "median", "minimum"), strict=True):
        drawn = [2 ** float(value) for value in line.split(", ")]
        assert drawn == pytest.approx([getattr(gain, end).median for gain in gains], rel=5e-3)
    low, high = map(int, re.findall(r'y-axis "power of 2" (-?\d+) --> (-?\d+)', chart[1])[0])
    values = [float(value) for line in lines for value in line.split(", ")]
    assert low <= min(values)
    assert max(values) <= high
    # No name of the file gets into another language.
    assert not any(layer.name in chart[1] for layer in report.layers)
    assert "mermaid" not in document_to_markdown(samples.no_batchnorm())
    many = replace(report, layers=report.layers * 30)
    assert "mermaid" not in document_to_markdown(many)
