"""Policies: which rules run, how strictly, and what is silenced without being dropped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bnaudit.judge.policy import LayerPolicy, Policy
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.judge.rules import RULES
from bnaudit.judge.verdicts import judge, judge_inspection
from bnaudit.records.finding import Finding, Severity
from bnaudit.records.inspection import Inspection
from tests.unit.render import samples
from tests.unit.render.sick import sick

if TYPE_CHECKING:
    from bnaudit.records.report import Report


def test_all_findings_are_there_by_default() -> None:
    verdicts = judge(sick())
    assert verdicts.findings
    assert not verdicts.suppressed
    severities = [f.severity for f in verdicts.findings]
    assert severities == sorted(severities, reverse=True)


@pytest.mark.parametrize("entry", ["BN101", "integrity", "BN1"])
def test_ignored_findings_are_kept_aside(entry: str) -> None:
    everything = judge(sick()).findings
    verdicts = judge(sick(), Policy(ignore=(entry,)))
    silenced = [s.finding for s in verdicts.suppressed]
    assert "BN101" in {f.rule for f in silenced}
    assert "BN101" not in {f.rule for f in verdicts.findings}
    assert set(silenced) | set(verdicts.findings) == set(everything)
    assert {s.by for s in verdicts.suppressed} == {f"ignore: {entry}"}


def test_selection_runs_nothing_else() -> None:
    verdicts = judge(sick(), Policy(select=("integrity",)))
    assert {f.rule for f in verdicts.findings} == {"BN101"}
    assert not verdicts.suppressed


def test_layers_can_be_excused() -> None:
    label = next(f.layer for f in judge(sick()).findings if f.rule == "BN101")
    assert label is not None
    verdicts = judge(sick(), Policy(layers=(LayerPolicy(label, ("integrity",)),)))
    assert {s.by for s in verdicts.suppressed} == {f"layers {label!r}: integrity"}
    assert {s.finding.layer for s in verdicts.suppressed} == {label}
    assert judge(sick(), Policy(layers=(LayerPolicy("nowhere*", ("BN",)),))).suppressed == ()


def test_the_most_specific_severity_wins() -> None:
    policy = Policy(severities={"BN1": Severity.INFO, "BN101": Severity.WARNING})
    graded = {f.rule: f.severity for f in judge(sick(), policy).findings}
    assert graded["BN101"] is Severity.WARNING
    assert {s for rule, s in graded.items() if rule.startswith("BN1") and rule != "BN101"} <= {
        Severity.INFO
    }


def test_thresholds_are_configured_by_name() -> None:
    rule = replace(RULES[0], thresholds=(Threshold("least", 3.0, "", ""),))
    policy = Policy(thresholds={rule.name: {"least": 5.0}})
    assert [r.limit("least") for r in policy.selected([rule])] == [5.0]
    assert [r.limit("least") for r in Policy().selected([rule])] == [3.0]


def test_what_needs_a_run_is_listed_for_a_file() -> None:
    not_run = {entry.rule for entry in judge_inspection(Inspection("m", "onnx")).not_run}
    assert not_run >= {rule.id for rule in RULES if rule.inspect is None}


def test_a_synthetic_batch_supports_no_data_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = Rule("BN999", "x", Severity.ERROR, Needs.DATA, "", "", "", check=_always)
    monkeypatch.setattr("bnaudit.judge.verdicts.RULES", (rule,))
    report = samples.healthy()
    assert report.run is not None
    for source, fires in (("file", True), ("synthetic", False)):
        data = replace(report.run.data, source=source)
        verdicts = judge(replace(report, run=replace(report.run, data=data)))
        assert bool(verdicts.findings) is fires
        assert bool(verdicts.not_run) is not fires


def _always(rule: Rule, report: Report) -> list[Finding]:
    return [rule.finding("always")]
