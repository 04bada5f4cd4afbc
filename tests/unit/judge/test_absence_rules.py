"""BN001 and BN003: what is said of layers that are not there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import pytest

from bnaudit.judge.policy import Policy
from bnaudit.judge.rules import no_batchnorm, partly_folded
from bnaudit.judge.verdicts import judge, judge_inspection
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Absence, AbsenceCase, Inspection
from bnaudit.records.model import ModelInfo
from bnaudit.records.report import Report

if TYPE_CHECKING:
    from bnaudit.judge.rule import Rule
    from bnaudit.records.finding import Finding

CASES = [case for case in get_args(AbsenceCase) if case != "partly-folded"]
ONLY = Policy(select=("BN001", "BN003"))


def said(inspection: Inspection) -> tuple[Finding, ...]:
    return judge_inspection(inspection, ONLY).findings


@pytest.mark.parametrize("rule", [no_batchnorm.RULE, partly_folded.RULE], ids=lambda r: r.id)
def test_examples(rule: Rule) -> None:
    assert rule.healthy is not None
    assert rule.sick is not None
    healthy, sick = rule.healthy(), rule.sick()
    assert isinstance(healthy, Inspection)
    assert isinstance(sick, Inspection)
    assert said(healthy) == ()
    assert [finding.rule for finding in said(sick)] == [rule.id]


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_its_own_words_and_passes_evidence_and_fix_on(case: AbsenceCase) -> None:
    absence = Absence(case, ("one clause", "another"), "the exact call")
    (finding,) = said(Inspection("m.onnx", "onnx", absence=absence))
    assert "Evidence: one clause; another." in finding.message
    assert finding.fix == "the exact call"
    assert finding.severity is Severity.ERROR
    others = [
        said(Inspection("m.onnx", "onnx", absence=Absence(other, (), "")))[0].message
        for other in CASES
        if other != case
    ]
    assert not any(finding.message.startswith(other[:-1]) for other in others)


def test_a_frozen_program_is_not_said_to_hold_a_x_plus_b() -> None:
    absence = Absence("frozen", ("no parameters",), "keep it")
    (finding,) = said(Inspection("m.pt", "torchscript", absence=absence))
    assert "folds it into the weights if there was one" in finding.message
    assert "a*x + b" not in finding.message


def report(kind: str, *, inspection: Inspection | None, **changed: Any) -> Report:
    model = ModelInfo("m", kind, None, {}, (), (), 0, (), instance_norms=2)
    plain = Report(model, None, (), findings=(), fail_on=Severity.ERROR, inspection=inspection)
    return replace(plain, **changed)


def test_an_audit_says_what_the_inspection_says() -> None:
    read = Inspection("m", "onnx", absence=Absence("folded", ("a clause",), "the call"))
    (finding,) = judge(report("onnx", inspection=read), ONLY).findings
    assert finding.message.startswith(said(read)[0].message)
    assert finding.message.endswith("2 InstanceNorm calls, which are another normalisation.")
    assert finding.fix == "the call"


@pytest.mark.parametrize(
    ("kind", "advice"), [("onnx", "optimize=False"), ("torchscript", "freeze"), ("module", "fuse")]
)
def test_without_an_inspection_nothing_is_claimed(kind: str, advice: str) -> None:
    (finding,) = judge(report(kind, inspection=None), ONLY).findings
    assert "does not tell" in finding.message
    assert advice in finding.fix


def test_allowed() -> None:
    (finding,) = judge(report("onnx", inspection=None, allow_no_bn=True), ONLY).findings
    assert finding.severity is Severity.INFO
