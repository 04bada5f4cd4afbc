"""`bnaudit.inspect/1`: what a file stores of its BatchNorm layers, field by field."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bnaudit._version import __version__
from bnaudit.records.values import Skipped
from bnaudit.render.json_v1.document import (
    baseline_entry,
    finding_entry,
    not_run_entry,
    suppressed_entry,
)
from bnaudit.render.json_v1.values import Json, Skips, array, finite, nulls, number
from bnaudit.summary.gain import gain_channels, gain_of, is_foldable
from bnaudit.summary.inspection import summarize_inspection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.inspection import (
        Absence,
        BatchNormStatics,
        DecomposedNorm,
        Feeder,
        Inspection,
        InspectionReport,
    )

SCHEMA = "bnaudit.inspect/1"

_GAIN = ("min", "median", "max", "fraction_le_1", "not_finite")
_ARRAYS = ("gamma", "beta", "running_mean", "running_var")


def inspection_to_json(report: InspectionReport, *, channels: bool = False) -> str:
    """The inspection as one strict, pure ASCII JSON document.

    Args:
        report: what to write.
        channels: include the per-channel arrays.
    """
    inspection = report.inspection
    document: Json = {
        "schema": SCHEMA,
        "tool": {"name": "bnaudit", "version": __version__},
        "model": _model(inspection),
        "layers": [_layer(layer, channels=channels) for layer in inspection.batchnorms],
        "decomposed": [_decomposed(norm) for norm in inspection.decomposed],
        "other_norms": dict(inspection.other_norms),
        "absence": None if inspection.absence is None else _absence(inspection.absence),
        "findings": [finding_entry(finding) for finding in report.findings],
        "suppressed": [suppressed_entry(entry) for entry in report.suppressed],
        "rules_not_run": [not_run_entry(entry) for entry in report.rules_not_run],
        "baseline": baseline_entry(report.baseline),
        "summary": _summary(report),
    }
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=True) + "\n"


def _model(inspection: Inspection) -> Json:
    return {
        "path": inspection.path,
        "kind": inspection.kind,
        "producer": inspection.producer,
        "facts": dict(inspection.facts),
        "size": inspection.size,
        "parameters": inspection.parameters,
        "inputs": [
            {
                "name": tensor.name,
                "shape": None if tensor.shape is None else list(tensor.shape),
                "dtype": tensor.dtype,
            }
            for tensor in inspection.inputs
        ],
        "outputs": list(inspection.outputs),
        "weight_layers": inspection.weight_layers,
        "notes": list(inspection.notes),
    }


def _layer(layer: BatchNormStatics, *, channels: bool) -> Json:
    skips = Skips()
    return {
        "name": layer.name,
        "origin": layer.origin,
        "channels": layer.channels,
        "eps": None if layer.eps is None else number(layer.eps, "eps", skips),
        "momentum": None if layer.momentum is None else number(layer.momentum, "momentum", skips),
        "training_flag": layer.training,
        "batches_tracked": layer.batches_tracked,
        "dtype": layer.dtype,
        "affine": layer.gamma is not None,
        "gain": _gain(layer, skips),
        "running_var": _extent(layer.running_var, "running_var", skips),
        "scale_absorbed": layer.scale_absorbed,
        "feeder": None if layer.feeder is None else _feeder(layer.feeder),
        "preceded_by": layer.preceded_by,
        "of_weights": layer.of_weights,
        "fold_candidate": is_foldable(layer),
        "channel_values": _channel_values(layer, skips) if channels else None,
        "skipped": skips.entries,
    }


def _gain(layer: BatchNormStatics, skips: Skips) -> Json:
    gain = gain_of(layer)
    if isinstance(gain, Skipped):
        return nulls(_GAIN, gain, "gain", skips)
    return {
        "min": gain.minimum,
        "median": gain.median,
        "max": gain.maximum,
        "fraction_le_1": gain.fraction_le_1,
        "not_finite": gain.not_finite,
    }


def _extent(values: Sequence[float] | None, path: str, skips: Skips) -> Json:
    """Smallest and largest finite value."""
    found = [v for v in map(finite, values or ()) if v is not None]
    if not found:
        reason = "none is stored" if not values else "no value is finite"
        return nulls(("min", "max"), Skipped(reason), path, skips)
    return {"min": min(found), "max": max(found)}


def _feeder(feeder: Feeder) -> Json:
    return {
        "weight": feeder.weight,
        "operator": feeder.operator,
        "bias": feeder.bias,
        "sole_reader": feeder.sole_reader,
    }


def _channel_values(layer: BatchNormStatics, skips: Skips) -> Json:
    path = "channel_values"
    gains = gain_channels(layer)
    values: dict[str, Sequence[float] | None] = {
        "gain": None if isinstance(gains, Skipped) else gains,
        **{name: getattr(layer, name) for name in _ARRAYS},
    }
    entry: Json = {}
    for name, found in values.items():
        if found is None:
            skips.add(f"{path}.{name}", "none is stored")
        entry[name] = None if found is None else array(found, f"{path}.{name}", skips)
    return entry


def _decomposed(norm: DecomposedNorm) -> Json:
    return {
        "name": norm.name,
        "origin": norm.origin,
        "channels": norm.channels,
        "after": norm.after,
    }


def _absence(absence: Absence) -> Json:
    return {"case": absence.case, "evidence": list(absence.evidence), "fix": absence.fix}


def _summary(report: InspectionReport) -> Json:
    summary = summarize_inspection(report)
    return {
        "layers": summary.layers,
        "channels": summary.channels,
        "training": summary.training,
        "scale_absorbed": summary.scale_absorbed,
        "fold_candidates": summary.fold_candidates,
        "decomposed": summary.decomposed,
        "gain": summary.gain,
        "findings": {
            "error": summary.errors,
            "warning": summary.warnings,
            "info": summary.infos,
        },
        "fail_on": None if report.fail_on is None else report.fail_on.label,
        "allow_no_bn": report.allow_no_bn,
        "verdict": summary.verdict,
        "exit_code": summary.exit_code,
    }
