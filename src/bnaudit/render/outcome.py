"""What every CI format needs of a report: findings, where they are, and whether they fail the step.

An audit and an inspection look the same from here, so each format is written once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bnaudit.records.finding import Severity
from bnaudit.records.inspection import InspectionReport
from bnaudit.records.run import Failure
from bnaudit.render.text.verdict import verdict_line

if TYPE_CHECKING:
    from bnaudit.records.finding import Finding, RuleNotRun, Suppressed
    from bnaudit.records.fleet import FleetRow
    from bnaudit.records.report import Report

MODEL = "model"
"""Where a finding is that belongs to no layer."""

_NO_BATCHNORM = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """A report as a CI system sees it.

    Attributes:
        command: what made it, "check" or "inspect".
        path: the model, as the user typed it.
        headline: verdict and counts, one sentence.
        layers: labels of the layers that were looked at.
        findings: worst first.
        suppressed: findings that the configuration silences.
        rules_not_run: rules that had nothing to judge by.
        fail_on: severity that fails the step, or None.
        exit_code: what the command exits with.
        failure: why the audit is incomplete, or None.
    """

    command: str
    path: str
    headline: str
    layers: tuple[str, ...]
    findings: tuple[Finding, ...]
    suppressed: tuple[Suppressed, ...]
    rules_not_run: tuple[RuleNotRun, ...]
    fail_on: Severity | None
    exit_code: int
    failure: Failure | None = None

    def fails(self, finding: Finding) -> bool:
        """Whether this finding is a reason for the exit code."""
        if self.exit_code == _NO_BATCHNORM:
            return finding.severity is Severity.ERROR
        return finding.counts(self.fail_on)


def outcome_of(report: Report | InspectionReport) -> Outcome:
    """The outcome of an audit or of an inspection."""
    if isinstance(report, InspectionReport):
        command, path, failure = "inspect", report.inspection.path, None
        layers = tuple(layer.name for layer in report.inspection.batchnorms)
    else:
        command, path, failure = "check", report.model.path, report.failure
        layers = tuple(layer.label for layer in report.layers)
    word, _, sentence = verdict_line(report)
    return Outcome(
        command=command,
        path=path,
        headline=f"{word}: {sentence}",
        layers=layers,
        findings=report.findings,
        suppressed=report.suppressed,
        rules_not_run=report.rules_not_run,
        fail_on=report.fail_on,
        exit_code=report.exit_code,
        failure=failure,
    )


def outcome_of_row(row: FleetRow, fail_on: Severity | None) -> Outcome:
    """The outcome of one model of a fleet."""
    missing = row.reason is not None
    return Outcome(
        command="fleet",
        path=str(row.options.get("weights") or row.model),
        headline=row.outcome,
        layers=tuple(layer.layer for layer in row.layers),
        findings=row.findings,
        suppressed=(),
        rules_not_run=(),
        fail_on=fail_on,
        exit_code=row.exit_code,
        failure=Failure(str(row.reason), row.hint, row.exit_code) if missing else None,
    )


def artifact_path(path: str) -> str:
    """The model's path with forward slashes; relative to the working directory where it lies in it.

    CI systems match it against the checkout, and an absolute path would tell of the machine.
    """
    given = Path(path)
    if given.is_absolute() and given.is_relative_to(Path.cwd()):
        given = given.relative_to(Path.cwd())
    return given.as_posix()


def sentence_of(finding: Finding) -> str:
    """Fact, certainty and remedy in one paragraph."""
    where = f"{finding.layer}: " if finding.layer else ""
    asides = [text for text in (finding.confidence, finding.status) if text]
    sure = f" ({', '.join(asides)})" if asides else ""
    return f"{where}{finding.message}{sure} Fix: {finding.fix}"
