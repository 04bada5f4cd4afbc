"""The measured rules' own examples, and what every one of their findings and thresholds says."""

from __future__ import annotations

import pytest

from bnaudit.judge.rules import RULES
from bnaudit.judge.verdicts import judge
from bnaudit.records.report import Report

MEASURED = [rule for rule in RULES if rule.id.startswith("BN2")]


def example(make: object) -> Report:
    assert callable(make)
    made = make()
    assert isinstance(made, Report)
    return made


@pytest.mark.parametrize("rule", MEASURED, ids=lambda rule: rule.name)
def test_the_examples_are_what_they_are_called(rule: object) -> None:
    (this,) = [r for r in MEASURED if r is rule]
    assert judge(example(this.healthy)).findings == ()
    found = judge(example(this.sick)).findings
    assert {f.rule for f in found} == {this.id}
    for finding in found:
        assert finding.observed is not None
        assert finding.threshold is not None
        assert finding.confidence
        assert finding.fix
        assert len(finding.message) < 300


@pytest.mark.parametrize("rule", MEASURED, ids=lambda rule: rule.name)
def test_the_healthy_example_is_judged_by_every_rule(rule: object) -> None:
    (this,) = [r for r in MEASURED if r is rule]
    assert this.id not in {entry.rule for entry in judge(example(this.healthy)).not_run}


@pytest.mark.parametrize("rule", MEASURED, ids=lambda rule: rule.name)
def test_thresholds_say_where_they_come_from(rule: object) -> None:
    (this,) = [r for r in MEASURED if r is rule]
    assert this.references
    assert all(url.startswith("https://") for url in this.references)
    assert all(t.meaning and t.origin for t in this.thresholds)
