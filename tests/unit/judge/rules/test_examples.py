"""Every rule documents itself, and its own examples are healthy and sick."""

from __future__ import annotations

import re
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import pytest

from bnaudit.judge import rules
from bnaudit.judge.catalogue import example
from bnaudit.judge.rule import Needs, Rule
from bnaudit.judge.rules import RULES
from bnaudit.judge.verdicts import judge, judge_inspection
from bnaudit.records.inspection import Inspection

if TYPE_CHECKING:
    from bnaudit.records.finding import Severity
    from bnaudit.records.report import Report

IDS = [rule.id for rule in RULES]


def findings(rule: Rule, subject: Inspection | Report) -> list[tuple[str, Severity]]:
    verdicts = judge_inspection(subject) if isinstance(subject, Inspection) else judge(subject)
    assert rule.id not in {entry.rule for entry in verdicts.not_run}
    return [(finding.rule, finding.severity) for finding in verdicts.findings]


def test_ids_and_names_are_unique() -> None:
    assert len(set(IDS)) == len(RULES)
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_the_documentation_is_whole(rule: Rule) -> None:
    assert re.fullmatch(r"BN\d{3}", rule.id)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)
    assert rule.summary.endswith(".")
    assert rule.why.endswith(".")
    assert len(rule.why) > len(rule.summary)
    assert rule.fix
    for text in (rule.summary, rule.why, rule.fix):
        assert text.isascii(), "any terminal shows it"
    assert (rule.inspect is not None) or (rule.check is not None)
    assert rule.needs is not Needs.FILE or rule.inspect is not None


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_references_are_addresses(rule: Rule) -> None:
    assert len(set(rule.references)) == len(rule.references)
    for reference in rule.references:
        address = urlparse(reference)
        assert address.scheme == "https"
        assert address.netloc in {"github.com", "arxiv.org"}
        assert re.fullmatch(r"/[\w.-]+/[\w.-]+/(issues|pull)/\d+|/abs/\d{4}\.\d{5}", address.path)


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_thresholds_have_a_meaning_and_an_origin(rule: Rule) -> None:
    names = [limit.name for limit in rule.thresholds]
    assert len(set(names)) == len(names)
    for limit in rule.thresholds:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", limit.name)
        assert limit.meaning.isascii()
        assert len(limit.origin) > 20
        assert limit.origin.isascii()


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_the_healthy_example_is_clean_and_the_sick_one_is_not(rule: Rule) -> None:
    assert rule.healthy is not None
    assert rule.sick is not None
    assert findings(rule, rule.healthy()) == []
    assert (rule.id, rule.severity) in findings(rule, rule.sick())


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_the_finding_says_everything(rule: Rule) -> None:
    found = example(rule)
    assert found is not None
    assert (found.rule, found.name, found.severity) == (rule.id, rule.name, rule.severity)
    assert found.message
    assert found.fix
    assert found.confidence, "how sure is it?"
    assert found.observed is not None
    assert found.threshold is not None
    assert "  " not in found.message


@pytest.mark.parametrize("rule", [r for r in RULES if r.inspect], ids=lambda r: r.id)
def test_a_file_without_batchnorm_is_no_error(rule: Rule) -> None:
    if rule.id == "BN001":
        pytest.skip("it is what BN001 looks for")
    verdicts = judge_inspection(Inspection("m", "onnx"))
    assert rule.id in {entry.rule for entry in verdicts.not_run} | {"BN003"}
    assert rule.id not in {finding.rule for finding in verdicts.findings}


def test_every_rule_of_the_folder_is_listed() -> None:
    names = [name for _, name, _ in iter_modules(rules.__path__)]
    modules = [import_module(f"{rules.__name__}.{name}") for name in names]
    assert {m.RULE.id for m in modules if hasattr(m, "RULE")} == {rule.id for rule in RULES}
