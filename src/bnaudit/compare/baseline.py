"""A report against an earlier one: its findings become known, worse or new, and only the latter fail."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from bnaudit.compare.match import WORSE, graded, limits, match_findings, match_layers
from bnaudit.compare.snapshot import snapshot_of
from bnaudit.errors import UsageError
from bnaudit.records.baseline import Baseline
from bnaudit.records.inspection import InspectionReport
from bnaudit.records.report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.finding import Finding, Status
    from bnaudit.records.snapshot import Snapshot

Judged = TypeVar("Judged", bound=Report | InspectionReport)


def held_against(report: Judged, baseline: Snapshot) -> Judged:
    """The report with every finding's status, and the counts.

    Args:
        report: judged, and not failed.
        baseline: an earlier report of the same kind.

    Raises:
        UsageError: the baseline is of another kind.
    """
    current = snapshot_of(report)
    if baseline.kind != current.kind:
        raise UsageError(
            f"{baseline.path}: the report of an {baseline.kind}, not of an {current.kind}",
            hint="`check` writes audits, `inspect` writes inspections",
        )
    layers = match_layers(baseline.layers, current.layers)
    match = match_findings(baseline.findings, report.findings, layers.renamed)
    status: dict[int, Status] = dict.fromkeys(map(id, match.new), "new")
    for old, new in match.pairs:
        status[id(new)] = "worse" if graded(old, new)[0] == WORSE else "known"
    marked = tuple(replace(finding, status=status[id(finding)]) for finding in report.findings)
    counts = [finding.status for finding in marked]
    notes = limits(baseline, current)
    if layers.added and layers.removed and not layers.pairs:
        # Findings of the model as a whole match those of any model: nothing else says so.
        notes = ("no layer of the baseline is in this model: it seems to be of another one", *notes)
    held = Baseline(
        path=baseline.path,
        known=counts.count("known"),
        new=counts.count("new"),
        worse=counts.count("worse"),
        gone=len(really_gone(match.gone, current)),
        notes=notes,
    )
    return replace(report, findings=marked, baseline=held)


def really_gone(gone: Sequence[Finding], current: Snapshot) -> list[Finding]:
    """Those that are not merely suppressed now, or of rules that had nothing to judge by."""
    silenced = {(finding.rule, finding.layer) for finding in current.suppressed}
    return [
        finding
        for finding in gone
        if finding.rule not in current.not_judged and (finding.rule, finding.layer) not in silenced
    ]
