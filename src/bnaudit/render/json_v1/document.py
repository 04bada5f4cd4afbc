"""The document as a whole: tool, model, run, layers, twins, findings, summary, failure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bnaudit._version import __version__
from bnaudit.records.values import Skipped
from bnaudit.render.json_v1.layer import layer_entry
from bnaudit.render.json_v1.summary import summary_entry
from bnaudit.render.json_v1.twins import twins_entry
from bnaudit.render.json_v1.values import Json, Skips, finite, metric, number

if TYPE_CHECKING:
    from bnaudit.records.baseline import Baseline
    from bnaudit.records.finding import Finding, RuleNotRun, Suppressed
    from bnaudit.records.report import DataInfo, Failure, LossInfo, ModelInfo, Report, RunInfo
    from bnaudit.records.verification import Verification

SCHEMA = "bnaudit.report/1"


def report_to_json(report: Report, *, channels: bool = False) -> str:
    """The report as one strict JSON document that validates against `bnaudit.render.schema`.

    The document is pure ASCII: it survives any pipe encoding, and a hostile layer name cannot
    reach a terminal as an escape sequence.

    Args:
        report: what to write.
        channels: include the per-channel arrays.
    """
    document: Json = {
        "schema": SCHEMA,
        "tool": {"name": "bnaudit", "version": __version__},
        "model": _model(report.model),
        "run": None if report.run is None else _run(report.run),
        "layers": [layer_entry(layer, channels=channels) for layer in report.layers],
        "twins": twins_entry(report.twins),
        "findings": [finding_entry(finding) for finding in report.findings],
        "suppressed": [suppressed_entry(entry) for entry in report.suppressed],
        "rules_not_run": [not_run_entry(entry) for entry in report.rules_not_run],
        "baseline": baseline_entry(report.baseline),
        "summary": summary_entry(report),
        "failure": None if report.failure is None else _failure(report.failure),
    }
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=True) + "\n"


def _model(model: ModelInfo) -> Json:
    return {
        "path": model.path,
        "format": model.format,
        "producer": model.producer,
        "facts": dict(model.facts),
        "inputs": [
            {
                "name": tensor.name,
                "shape": None if tensor.shape is None else list(tensor.shape),
                "dtype": tensor.dtype,
            }
            for tensor in model.inputs
        ],
        "outputs": list(model.outputs),
        "parameters": model.parameters,
        "defined": list(model.defined),
        "not_executed": list(model.not_executed),
        "instance_norms": model.instance_norms,
        "notes": list(model.notes),
    }


def _run(run: RunInfo) -> Json:
    skips = Skips()
    return {
        "mode": run.mode,
        "device": run.device,
        "dtype": run.dtype,
        "seed": run.seed,
        "metrics": list(run.metrics),
        "data": _data(run.data),
        "loss": _loss(run.loss, skips),
        "verify_gradients": run.verify_gradients,
        "verify_second_order": run.verify_second_order,
        "inputs": dict(run.inputs),
        "verification": _verification(run.verification, skips),
        "versions": dict(run.versions),
        "notes": list(run.notes),
        "seconds": {stage: finite(seconds) for stage, seconds in run.seconds.items()},
        "skipped": skips.entries,
    }


def _verification(found: Verification | Skipped, skips: Skips) -> Json | None:
    if isinstance(found, Skipped):
        skips.add("verification", found.reason)
        return None
    return {
        "reference": found.reference,
        "tolerance": finite(found.tolerance),
        "verdict": "agrees" if found.agrees else "mismatch",
        "outputs": [
            {
                "name": gap.name,
                "max_abs": number(gap.max_abs, f"verification.outputs.{i}.max_abs", skips),
                "relative": number(gap.relative, f"verification.outputs.{i}.relative", skips),
            }
            for i, gap in enumerate(found.outputs)
        ],
    }


def _data(data: DataInfo) -> Json:
    return {
        "source": data.source,
        "paths": list(data.paths),
        "batches": data.batches,
        "batch_size": data.batch_size,
        "available": data.available,
        "distribution": data.distribution,
    }


def _loss(loss: LossInfo, skips: Skips) -> Json:
    return {
        "name": loss.name,
        "label_free": loss.label_free,
        "labels": loss.labels,
        "why": loss.why,
        "value": metric(loss.value, "loss.value", skips),
        "guess": finite(loss.guess),
    }


def finding_entry(finding: Finding) -> Json:
    """One finding."""
    interval = finding.interval
    return {
        "rule": finding.rule,
        "name": finding.name,
        "severity": finding.severity.label,
        "layer": finding.layer,
        "message": finding.message,
        "fix": finding.fix,
        "observed": finite(finding.observed),
        "threshold": finite(finding.threshold),
        "channels": list(finding.channels),
        "interval": None if interval is None else [finite(bound) for bound in interval],
        "confidence": finding.confidence,
        "status": finding.status,
    }


def baseline_entry(baseline: Baseline | None) -> Json | None:
    """Counts against an earlier report."""
    if baseline is None:
        return None
    return {
        "path": baseline.path,
        "known": baseline.known,
        "new": baseline.new,
        "worse": baseline.worse,
        "gone": baseline.gone,
        "notes": list(baseline.notes),
    }


def suppressed_entry(suppressed: Suppressed) -> Json:
    """A silenced finding, and by what."""
    return {"finding": finding_entry(suppressed.finding), "by": suppressed.by}


def not_run_entry(entry: RuleNotRun) -> Json:
    """A rule that had nothing to judge by."""
    return {"rule": entry.rule, "name": entry.name, "reason": entry.reason}


def _failure(failure: Failure) -> Json:
    return {
        "message": failure.message,
        "hint": failure.hint,
        "exit_code": failure.exit_code,
    }
