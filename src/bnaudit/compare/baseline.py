"""A report against an earlier one: its findings become known, worse or new, and only the latter fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnaudit.compare.findings import WORSE, graded, match_findings
from bnaudit.compare.layers import match_layers
from bnaudit.compare.read import read_snapshot, snapshot_of
from bnaudit.compare.settings import limits
from bnaudit.errors import UsageError
from bnaudit.records.baseline import Baseline
from bnaudit.records.snapshot import LayerSnapshot, Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.compare.layers import LayerMatch
    from bnaudit.records.finding import Finding, Status
    from bnaudit.records.inspection import InspectionReport
    from bnaudit.records.report import Report


def read_baseline(path: Path | str) -> Snapshot:
    """An earlier report; see `bnaudit.compare.read.read_snapshot` for what is refused."""
    return read_snapshot(Path(path))


def audit_against(report: Report, earlier: Snapshot | Path | str) -> Report:
    """The audit with every finding's status, and the counts.

    Args:
        report: judged, and not failed.
        earlier: an audit, or the path of its report.

    Raises:
        InputError: the report cannot be read.
        UsageError: the baseline is of an inspection.
    """
    baseline = earlier if isinstance(earlier, Snapshot) else read_baseline(earlier)
    _same_kind(baseline, "audit")
    current = snapshot_of(json.loads(report.to_json()), report.model.path)
    findings, counts = _compare(report.findings, current, baseline)
    return replace(report, findings=findings, baseline=counts)


def inspection_against(report: InspectionReport, baseline: Snapshot) -> InspectionReport:
    """The inspection with every finding's status, and the counts.

    Raises:
        UsageError: the baseline is of an audit.
    """
    _same_kind(baseline, "inspection")
    findings, counts = _compare(report.findings, snapshot_of_inspection(report), baseline)
    return replace(report, findings=findings, baseline=counts)


def snapshot_of_inspection(report: InspectionReport) -> Snapshot:
    """What a comparison needs of an inspection."""
    inspection = report.inspection
    return Snapshot(
        path=inspection.path,
        kind="inspection",
        model=inspection.path,
        tool=_version(),
        settings={},
        layers=tuple(LayerSnapshot(b.name, "", b.channels) for b in inspection.batchnorms),
        findings=report.findings,
        suppressed=tuple(entry.finding for entry in report.suppressed),
        not_judged=frozenset(entry.rule for entry in report.rules_not_run),
    )


def _version() -> str:
    from bnaudit._version import __version__

    return __version__


def _same_kind(baseline: Snapshot, wanted: str) -> None:
    if baseline.kind != wanted:
        raise UsageError(
            f"{baseline.path}: the report of an {baseline.kind}, not of an {wanted}",
            hint="`check` writes audits, `inspect` writes inspections",
        )


def _compare(
    findings: Sequence[Finding], current: Snapshot, baseline: Snapshot
) -> tuple[tuple[Finding, ...], Baseline]:
    layers = match_layers(baseline.layers, current.layers)
    match = match_findings(baseline.findings, findings, layers.renamed)
    status: dict[int, Status] = dict.fromkeys(map(id, match.new), "new")
    for old, new in match.pairs:
        status[id(new)] = "worse" if graded(old, new)[0] == WORSE else "known"
    marked = tuple(replace(finding, status=status[id(finding)]) for finding in findings)
    counts = [finding.status for finding in marked]
    return marked, Baseline(
        path=baseline.path,
        known=counts.count("known"),
        new=counts.count("new"),
        worse=counts.count("worse"),
        gone=len(really_gone(match.gone, current)),
        notes=(*_of_another(layers), *limits(baseline, current)),
    )


def _of_another(layers: LayerMatch) -> tuple[str, ...]:
    """Findings of the model as a whole match those of any model: say so where nothing else does."""
    if layers.pairs or not (layers.added and layers.removed):
        return ()
    return ("no layer of the baseline is in this model: it seems to be of another one",)


def really_gone(gone: Sequence[Finding], current: Snapshot) -> list[Finding]:
    """Those that are not merely suppressed now, or of rules that had nothing to judge by."""
    silenced = {(finding.rule, finding.layer) for finding in current.suppressed}
    return [
        finding
        for finding in gone
        if finding.rule not in current.not_judged and (finding.rule, finding.layer) not in silenced
    ]
