"""JUnit XML: one case per layer and rule, with totals that agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from bnaudit.judge.policy import Policy
from bnaudit.judge.rules import RULES
from bnaudit.judge.verdicts import judge
from bnaudit.records.finding import RuleNotRun, Severity
from bnaudit.render.junit import report_to_junit

from . import samples
from .sick import sick


def suite_of(text: str) -> ET.Element:
    root = ET.fromstring(text)
    suite = root.find("testsuite")
    assert suite is not None
    return suite


@pytest.mark.parametrize("name", sorted(samples.ALL))
def test_every_report_is_well_formed_and_counted(name: str) -> None:
    suite = suite_of(report_to_junit(samples.ALL[name]()))
    cases = suite.findall("testcase")
    assert suite.get("tests") == str(len(cases))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert suite.get(attribute) == str(sum(case.find(tag) is not None for case in cases))
    keys = Counter((case.get("classname"), case.get("name")) for case in cases)
    assert max(keys.values()) == 1


def test_a_healthy_report_passes_for_every_layer_and_rule() -> None:
    report = samples.healthy()
    suite = suite_of(report_to_junit(report))
    assert len(suite.findall("testcase")) == len(RULES) * (len(report.layers) + 1)
    assert suite.get("failures") == "0"


@pytest.mark.parametrize("fail_on", [Severity.ERROR, Severity.WARNING, None])
def test_what_fails_the_step_is_a_failure_and_nothing_else(fail_on: Severity | None) -> None:
    report = replace(sick(), fail_on=fail_on)
    failing = {
        (f.layer or "model", f.name)
        for f in report.findings
        if fail_on is not None and f.severity >= fail_on
    }
    found = set()
    for case in suite_of(report_to_junit(report)).findall("testcase"):
        if case.find("failure") is not None:
            where = str(case.get("classname")).split("::", 1)[1]
            found.add((where, str(case.get("name")).split()[1]))
    assert found == failing


def test_findings_that_do_not_fail_are_in_the_output_of_a_passing_case() -> None:
    report = replace(sick(), fail_on=None)
    text = "\n".join(e.text or "" for e in suite_of(report_to_junit(report)).iter("system-out"))
    for finding in report.findings:
        assert finding.fix in text


def test_rules_that_did_not_run_are_skipped_with_the_reason() -> None:
    report = replace(
        samples.healthy(), rules_not_run=(RuleNotRun("BN104", "minimax-bound", "why"),)
    )
    skipped = suite_of(report_to_junit(report)).findall("testcase/skipped")
    assert [entry.get("message") for entry in skipped] == ["why"]


def test_suppressed_findings_are_skipped() -> None:
    bare = replace(sick(), findings=())
    verdicts = judge(bare, Policy(ignore=("integrity",)))
    report = replace(bare, findings=verdicts.findings, suppressed=verdicts.suppressed)
    skipped = suite_of(report_to_junit(report)).findall("testcase/skipped")
    assert {entry.get("message") for entry in skipped} == {"suppressed by ignore: integrity"}


def test_a_model_without_batchnorm_fails_unless_allowed() -> None:
    report = samples.no_batchnorm()
    assert suite_of(report_to_junit(replace(report, fail_on=None))).get("failures") == "1"


def test_a_failed_audit_is_an_error() -> None:
    suite = suite_of(report_to_junit(samples.stopped_midway()))
    assert suite.get("errors") == "1"


def test_letters_that_xml_cannot_write_are_replaced() -> None:
    report = samples.healthy()
    model = replace(report.model, path="a\x00\x1b\ud800<&>.onnx")
    assert suite_of(report_to_junit(replace(report, model=model))).get("name") == (
        r"a\x00\x1b\ud800<&>.onnx"
    )
