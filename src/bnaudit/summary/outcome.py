"""What findings amount to: counts, the worst of each layer, the verdict and the word of the last line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from bnaudit.records.finding import Severity
from bnaudit.records.inspection import InspectionReport

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report

Verdict = Literal["clean", "findings", "nothing-to-audit", "failed"]


class Counts(NamedTuple):
    """Findings by severity."""

    errors: int
    warnings: int
    infos: int


def count(findings: Iterable[Finding]) -> Counts:
    """How many there are of each severity."""
    found = [finding.severity for finding in findings]
    return Counts(*(found.count(s) for s in (Severity.ERROR, Severity.WARNING, Severity.INFO)))


def worst_by_layer(findings: Iterable[Finding]) -> dict[str, Severity]:
    """The severity of each layer's worst finding; findings about the model as a whole belong to none."""
    worst: dict[str, Severity] = {}
    for finding in findings:
        if finding.layer is not None:
            worst[finding.layer] = max(finding.severity, worst.get(finding.layer, Severity.INFO))
    return worst


def verdict_of(report: Report | InspectionReport) -> Verdict:
    """The report as a whole; "clean" means nothing above severity info, whatever fails the run."""
    if isinstance(report, InspectionReport):
        layers = len(report.inspection.batchnorms)
    elif report.failure is not None:
        return "failed"
    else:
        layers = len(report.layers)
    if not layers:
        return "nothing-to-audit"
    return "findings" if any(f.severity > Severity.INFO for f in report.findings) else "clean"


def word_of(report: Report | InspectionReport) -> str:
    """What the exit code says: "PASS", "FAIL", ... A pass that rests on an option says so."""
    verdict, fail_on = verdict_of(report), report.fail_on
    named = {3: "NOTHING TO AUDIT (exit 3)", 4: "NOTHING MEASURED (exit 4)"}
    if verdict == "failed":
        return f"FAILED (exit {report.exit_code})"
    if report.exit_code:
        return named.get(report.exit_code, "FAIL")
    if verdict == "nothing-to-audit":
        return "PASS (--allow-no-bn)"
    if fail_on is None:
        errors = any(finding.severity is Severity.ERROR for finding in report.findings)
        return "PASS (--fail-on never)" if errors else "PASS"
    if any(finding.severity >= fail_on for finding in report.findings):
        return "PASS (--baseline)"
    return "PASS"
