"""Rows of a fleet: made from a report, or from how a process ended."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bnaudit.fleet.engine import limits_of
from bnaudit.records.finding import Severity
from bnaudit.records.fleet import FleetLayer, FleetRow
from bnaudit.records.values import Skipped, Spread
from bnaudit.summary.audit import gain_of, gain_statistics
from bnaudit.summary.outcome import verdict_of

if TYPE_CHECKING:
    from bnaudit.fleet.engine import Ended, Job, Task
    from bnaudit.records.finding import Finding
    from bnaudit.records.fleet import FileRead
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report

FINDINGS = 50
"""Of a row. A network whose every layer is sick has hundreds, which its report tells one by one."""

NOT_RUN = 4
_OUTCOMES = {2: "unreadable", 3: "nothing-to-audit", 4: "failed"}


def now() -> str:
    """The time, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def common(job: Job, task: Task) -> dict[str, Any]:
    """What every row of a task has."""
    timeout, most = limits_of(job, task)
    return {
        "entry": task.entry,
        "model": task.model,
        "options": dict(task.own),
        "settings": task.settings,
        "attempts": task.attempt,
        "timeout": timeout,
        "max_memory": most,
    }


def of_report(report: Report, files: tuple[FileRead, ...], **known: Any) -> FleetRow:
    """The row of an audit that left a report, be it of one that stopped."""
    failure = report.failure
    statistics = gain_statistics(report)
    worst_first = sorted(report.findings, key=lambda f: (f.status == "known", -f.severity))
    return FleetRow(
        outcome=verdict_of(report),
        exit_code=report.exit_code,
        reason=None if failure is None else failure.message,
        hint=None if failure is None else failure.hint,
        files=files,
        format=report.model.format,
        parameters=report.model.parameters,
        report=report,
        findings=tuple(worst_first[:FINDINGS]),
        layers=tuple(_layer(layer, report, statistics) for layer in report.layers),
        baseline=report.baseline,
        **known,
    )


def of_error(
    code: int, message: str, hint: str | None, files: tuple[FileRead, ...], **known: Any
) -> FleetRow:
    """The row of a model that could not be loaded, or met a bug."""
    outcome: Any = _OUTCOMES.get(code, "bug")
    return FleetRow(
        outcome=outcome, exit_code=code, reason=message, hint=hint, files=files, **known
    )


def of_end(ended: Ended, files: tuple[FileRead, ...], **known: Any) -> FleetRow:
    """The row of a model whose process left nothing."""
    outcome: Any = ended.outcome
    return FleetRow(
        outcome=outcome,
        exit_code=NOT_RUN,
        reason=ended.reason,
        hint=ended.hint,
        files=files,
        started=datetime.fromtimestamp(time.time() - ended.seconds, UTC).isoformat(
            timespec="milliseconds"
        ),
        seconds=ended.seconds,
        worker=ended.worker,
        **known,
    )


def _layer(layer: LayerReport, report: Report, statistics: Any) -> FleetLayer:
    gain, order, curvature = gain_of(layer, statistics), layer.first_order, layer.second_order
    drifts = layer.statistics

    def median(metric: Any, *path: str) -> float | None:
        for step in path:
            if isinstance(metric, Skipped):
                return None
            metric = getattr(metric, step)
        metric = metric.median if isinstance(metric, Spread) else metric
        return None if isinstance(metric, Skipped) else metric

    return FleetLayer(
        layer=layer.label,
        kind=layer.kind,
        channels=layer.channels,
        m=layer.m,
        gain=median(gain, "median"),
        gain_min=median(gain, "minimum"),
        gain_max=median(gain, "maximum"),
        predicted=median(order, "predicted"),
        measured=median(order, "measured"),
        projection=median(order, "projection"),
        curvature=median(curvature, "rayleigh"),
        mean_drift=median(drifts, "mean_drift", "maximum"),
        variance_drift=median(drifts, "variance_drift", "maximum"),
        errors=_count(report.findings, layer.label, Severity.ERROR),
        warnings=_count(report.findings, layer.label, Severity.WARNING),
    )


def _count(findings: tuple[Finding, ...], label: str, severity: Severity) -> int:
    return sum(f.layer == label and f.severity is severity for f in findings)
