"""What a comparison needs of one report."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

from bnaudit._version import __version__
from bnaudit.records.inspection import InspectionReport
from bnaudit.records.snapshot import LayerSnapshot, Quantity, Snapshot
from bnaudit.records.values import Skipped, Spread
from bnaudit.summary.gain import StoredGain, gain_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report
    from bnaudit.records.run import RunInfo


def snapshot_of(
    report: Report | InspectionReport,
    path: str = "",
    tool: str = __version__,
    gains: Mapping[str, StoredGain] | None = None,
) -> Snapshot:
    """The findings of a report, and its layers with a few numbers each.

    Args:
        report: an audit that finished, or an inspection.
        path: of the report or the model, as the user typed it; the model's where there is none.
        tool: version of bnaudit that made the report.
        gains: |gamma|/sigma by layer, of an inspection that was read without its vectors.
    """
    if isinstance(report, InspectionReport):
        model, settings = report.inspection.path, {}
        stored = report.inspection.batchnorms
        known = {layer.name: gain_of(layer) for layer in stored} if gains is None else gains
        layers = tuple(_stored_layer(layer, known.get(layer.name)) for layer in stored)
    else:
        model, settings = report.model.path, _settings(report.run)
        layers = tuple(map(_layer, report.layers))
    return Snapshot(
        path=path or model,
        kind="inspection" if isinstance(report, InspectionReport) else "audit",
        model=model,
        tool=tool,
        settings=settings,
        layers=layers,
        findings=tuple(map(_finite, report.findings)),
        suppressed=tuple(_finite(entry.finding) for entry in report.suppressed),
        not_judged=frozenset(entry.rule for entry in report.rules_not_run),
    )


def _settings(run: RunInfo | None) -> dict[str, str]:
    """What the same model would give other numbers under."""
    if run is None:
        return {}
    return {
        "mode": run.mode,
        "dtype": run.dtype,
        "device": run.device,
        "seed": str(run.seed),
        "data": ", ".join(run.data.paths) or run.data.source,
        "batches": f"{run.data.batches} of {run.data.batch_size}",
        "loss": run.loss.name + " on labels drawn from the model" * run.loss.drawn,
        "metrics": ", ".join(run.metrics),
    }


def _stored_layer(layer: BatchNormStatics, gain: StoredGain | Skipped | None) -> LayerSnapshot:
    """What a file stores is exact."""
    if not isinstance(gain, StoredGain):
        return LayerSnapshot(layer.name, "", layer.channels)
    exact = Quantity(gain.median, gain.median, gain.median)
    return LayerSnapshot(layer.name, "", layer.channels, {"gain": exact})


def _layer(layer: LayerReport) -> LayerSnapshot:
    numbers: dict[str, Quantity] = {}
    gain = layer.gain_running if isinstance(layer.gain_batch, Skipped) else layer.gain_batch
    order, curvature, statistics = layer.first_order, layer.second_order, layer.statistics
    for name, metric in (
        ("gain", gain if isinstance(gain, Skipped) else gain.median),
        ("reduction", order if isinstance(order, Skipped) else order.measured),
        ("curvature", curvature if isinstance(curvature, Skipped) else curvature.rayleigh),
    ):
        if isinstance(metric, Spread) and all(
            map(isfinite, (metric.q25, metric.median, metric.q75))
        ):
            numbers[name] = Quantity(
                metric.median, metric.q25, metric.q75, spread_known=metric.n > 1
            )
    if not isinstance(statistics, Skipped):
        drifts = {"mean_drift": statistics.mean_drift, "variance_drift": statistics.variance_drift}
        for name, drift in drifts.items():
            if not isinstance(drift, Skipped) and isfinite(drift.maximum + drift.sampling_error):
                # Within two sampling errors: 95 % for near-Gaussian values.
                largest, margin = drift.maximum, 2 * drift.sampling_error
                numbers[name] = Quantity(largest, largest - margin, largest + margin)
    return LayerSnapshot(layer.label, layer.kind, layer.channels, numbers)


def _finite(finding: Finding) -> Finding:
    """A number that is not finite is compared as none, and half an interval is none."""
    numbers = (finding.observed, finding.threshold)
    observed, threshold = (n if n is not None and isfinite(n) else None for n in numbers)
    whole = finding.interval is not None and all(map(isfinite, finding.interval))
    interval = finding.interval if whole else None
    return replace(finding, observed=observed, threshold=threshold, interval=interval)
