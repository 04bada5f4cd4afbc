"""JUnit XML: a test suite per model, a test case per layer and rule, as CI systems show them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET  # written, never parsed

from bnaudit.escaping import printable
from bnaudit.judge.rules import RULES
from bnaudit.records.fleet import Fleet
from bnaudit.render.outcome import MODEL, outcome_of, outcome_of_row, sentence_of

if TYPE_CHECKING:
    from bnaudit.records.finding import Finding, Suppressed
    from bnaudit.records.inspection import InspectionReport
    from bnaudit.records.report import Report
    from bnaudit.render.outcome import Outcome


def report_to_junit(report: Report | InspectionReport | Fleet) -> str:
    """One document. Findings that fail the step are failures; others are in a passing case's output.

    Of a fleet each model is one case: a case for each rule and layer of each model would be millions.
    """
    if isinstance(report, Fleet):
        return _fleet_to_junit(report)
    outcome = outcome_of(report)
    root = ET.Element("testsuites", name="bnaudit")
    suite = ET.SubElement(root, "testsuite", name=printable(outcome.path))
    if outcome.failure is not None:
        case = _case(suite, outcome, MODEL, "audit")
        error = ET.SubElement(
            case, "error", type="failure", message=printable(outcome.failure.message)
        )
        error.text = printable(outcome.failure.hint or "")
    reasons = {entry.rule: entry.reason for entry in outcome.rules_not_run}
    reported = [*outcome.findings, *(entry.finding for entry in outcome.suppressed)]
    rules = [*((rule.id, rule.name) for rule in RULES), *((f.rule, f.name) for f in reported)]
    for rule, name in dict.fromkeys(rules):  # those last that only the report knows
        if rule in reasons:
            case = _case(suite, outcome, MODEL, f"{rule} {name}")
            ET.SubElement(case, "skipped", message=printable(reasons[rule]))
        elif outcome.failure is None:
            _judged(suite, outcome, rule, name)
    return _counted(root, suite)


def _counted(root: ET.Element, suite: ET.Element) -> str:
    """The text, with the totals on both levels, as viewers expect them."""
    counts = {"tests": len(suite.findall("testcase"))}
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        counts[attribute] = len(suite.findall(f"testcase/{tag}"))
    for element in (root, suite):
        for attribute, number in counts.items():
            element.set(attribute, str(number))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _fleet_to_junit(fleet: Fleet) -> str:
    root = ET.Element("testsuites", name="bnaudit")
    suite = ET.SubElement(root, "testsuite", name=printable(fleet.results))
    for row in fleet.rows:
        outcome = outcome_of_row(row, fleet.fail_on)
        case = ET.SubElement(
            suite,
            "testcase",
            classname=printable(row.model),
            name=printable(outcome.path),
            time=f"{row.seconds:.3f}",
        )
        failing = [f for f in row.findings if outcome.fails(f)]
        passing = [f for f in row.findings if not outcome.fails(f)]
        if outcome.failure is not None:
            message = printable(outcome.failure.message)
            error = ET.SubElement(case, "error", type=row.outcome, message=message)
            error.text = printable(outcome.failure.hint or "")
        elif failing:
            message = printable("; ".join(finding.message for finding in failing))
            failure = ET.SubElement(case, "failure", type=row.outcome, message=message)
            failure.text = "\n".join(map(_line, failing))
        if passing:
            ET.SubElement(case, "system-out").text = "\n".join(map(_line, passing))
    return _counted(root, suite)


def _judged(suite: ET.Element, outcome: Outcome, rule: str, name: str) -> None:
    """A case for the model and for each layer; one that nothing speaks against passes."""
    found: dict[str, list[Finding]] = {}
    silenced: dict[str, list[Suppressed]] = {}
    for finding in outcome.findings:
        if (finding.rule, finding.name) == (rule, name):
            found.setdefault(finding.layer or MODEL, []).append(finding)
    for entry in outcome.suppressed:
        if (entry.finding.rule, entry.finding.name) == (rule, name):
            silenced.setdefault(entry.finding.layer or MODEL, []).append(entry)
    for where in dict.fromkeys((MODEL, *outcome.layers, *found, *silenced)):
        case = _case(suite, outcome, where, f"{rule} {name}")
        failing = [f for f in found.get(where, []) if outcome.fails(f)]
        passing = [f for f in found.get(where, []) if not outcome.fails(f)]
        if failing:
            message = "; ".join(finding.message for finding in failing)
            failure = ET.SubElement(
                case, "failure", type=printable(name), message=printable(message)
            )
            failure.text = "\n".join(map(_line, failing))
        elif where in silenced and not passing:
            by = ", ".join(sorted({entry.by for entry in silenced[where]}))
            ET.SubElement(case, "skipped", message=printable(f"suppressed by {by}"))
        if passing:
            ET.SubElement(case, "system-out").text = "\n".join(map(_line, passing))


def _case(suite: ET.Element, outcome: Outcome, where: str, name: str) -> ET.Element:
    # Dots in a class name become folders in most viewers: the model's path and the layer stay whole.
    owner = f"{outcome.path}::{where}"
    return ET.SubElement(
        suite, "testcase", classname=printable(owner), name=printable(name), time="0"
    )


def _line(finding: Finding) -> str:
    return printable(f"{finding.severity.label}: {sentence_of(finding)}")
