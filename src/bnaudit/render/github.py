"""Workflow commands of GitHub Actions: annotations beside the run.

GitHub shows ten annotations of each kind per step and drops the rest without a word: the tenth says what
is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.escaping import printable
from bnaudit.records.finding import Severity
from bnaudit.render.outcome import artifact_path, outcome_of, sentence_of
from bnaudit.render.text.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import InspectionReport
    from bnaudit.records.report import Report
    from bnaudit.render.outcome import Outcome

SHOWN = 10
"""Annotations of one kind that GitHub shows for a step."""

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def report_to_github(report: Report | InspectionReport) -> str:
    """Annotations, worst first, then the verdict as a plain line of the log."""
    outcome = outcome_of(report)
    failed = outcome.failure
    lines: list[str] = []
    if failed is not None:
        text = _failure(failed.message, failed.hint)
        lines.append(_command("error", outcome.path, "bnaudit failed", text))
    for severity in sorted(_COMMANDS, reverse=True):
        found = [finding for finding in outcome.findings if _level(finding) is severity]
        used = 1 if failed is not None and severity is Severity.ERROR else 0
        lines += _annotations(found, SHOWN - used, outcome)
    # A line that begins with "::" would be taken as a command.
    lines.append(f"bnaudit: {_data(outcome.headline)}")
    return "".join(f"{line}\n" for line in lines)


def error_to_github(path: str, message: str, hint: str | None) -> str:
    """An annotation for a model of which there is no report."""
    return f"{_command('error', path, 'bnaudit failed', _failure(message, hint))}\n"


def _failure(message: str, hint: str | None) -> str:
    return f"{message} ({hint})" if hint else message


def _annotations(found: Sequence[Finding], room: int, outcome: Outcome) -> Iterator[str]:
    shown = found if len(found) <= room else found[: room - 1]
    for finding in shown:
        title = f"{finding.rule} {finding.name}"
        command = _COMMANDS[_level(finding)]
        yield _command(command, outcome.path, title, sentence_of(finding))
    left = found[len(shown) :]
    if left:
        rules = ", ".join(dict.fromkeys(f"{f.rule} {f.name}" for f in left))
        noun = f"more {_level(left[0]).label} finding"
        text = f"{plural(len(left), noun)} ({rules}): see the report"
        yield _command(_COMMANDS[_level(left[0])], outcome.path, "bnaudit", text)


def _level(finding: Finding) -> Severity:
    """What an earlier report has is told, but alarms nobody again."""
    return Severity.INFO if finding.status == "known" else finding.severity


def _command(command: str, path: str, title: str, message: str) -> str:
    file = _property(artifact_path(path))
    return f"::{command} file={file},line=1,title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    """Escaped as the runner's toolkit does, on one line."""
    return printable(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
