"""What is no finding, or one that fails nothing, and is told all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.finding import NEEDS_RUN, NOT_SELECTED
from bnaudit.records.inspection import InspectionReport
from bnaudit.records.values import NOT_REQUESTED
from bnaudit.render.table.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bnaudit.records.baseline import Baseline
    from bnaudit.records.finding import RuleNotRun, Suppressed
    from bnaudit.records.report import Report

_EXPECTED = frozenset({NOT_SELECTED, NEEDS_RUN, NOT_REQUESTED.reason})
"""Reasons that follow from the command as it was typed: no news, unless -v asks for all of them."""


def aside_lines(report: Report | InspectionReport, *, verbose: bool) -> list[str]:
    """One line each for the baseline, suppressed findings and rules that did not run.

    Args:
        report: an audit or an inspection.
        verbose: list them one by one below.
    """
    lines: list[str] = []
    if report.baseline is not None:
        lines += _baseline(report.baseline)
    if report.suppressed:
        lines.append(_suppressed(report.suppressed))
        lines += _silenced(report.suppressed) if verbose else ()
    withheld = [entry for entry in report.rules_not_run if entry.reason not in _EXPECTED]
    if withheld and _has_layers(report):
        lines.append(_not_run(withheld) + ("" if verbose else " (-v says why)"))
    if verbose:
        lines += _reasons(report.rules_not_run)
    return lines


def _has_layers(report: Report | InspectionReport) -> bool:
    """Without layers no rule but BN001 has anything to judge: that is said already."""
    if isinstance(report, InspectionReport):
        return bool(report.inspection.batchnorms)
    return bool(report.layers)


def _baseline(baseline: Baseline) -> Iterator[str]:
    counts = (
        f"{baseline.new} new",
        f"{baseline.worse} worse",
        f"{baseline.known} known",
        f"{baseline.gone} gone",
    )
    yield f"against {baseline.path}: {', '.join(counts)}"
    yield from (f"note: {note}" for note in baseline.notes)


def _suppressed(entries: Sequence[Suppressed]) -> str:
    """Like `3 findings suppressed: BN009 2 times (ignore: BN009), BN102 (layers 'head.*': BN1)`."""
    groups: dict[tuple[str, str], int] = {}
    for entry in entries:
        key = (entry.finding.rule, entry.by)
        groups[key] = groups.get(key, 0) + 1
    parts = (
        f"{rule} {f'{count} times ' if count > 1 else ''}({by})"
        for (rule, by), count in groups.items()
    )
    return f"{plural(len(entries), 'finding')} suppressed: {', '.join(parts)}"


def _silenced(entries: Sequence[Suppressed]) -> Iterator[str]:
    for entry in entries:
        finding = entry.finding
        where = finding.layer or "model"
        yield f"  {finding.severity.label} {finding.rule} {where}: {finding.message}"


def _not_run(entries: Sequence[RuleNotRun]) -> str:
    rules = ", ".join(entry.rule for entry in entries)
    return f"{plural(len(entries), 'rule')} not run: {rules}"


def _reasons(entries: Sequence[RuleNotRun]) -> Iterator[str]:
    """A reason that many rules share is told once."""
    by_reason: dict[str, list[str]] = {}
    for entry in entries:
        by_reason.setdefault(entry.reason, []).append(f"{entry.rule} {entry.name}")
    for reason, rules in by_reason.items():
        yield f"  {', '.join(rules)}: {reason}"
