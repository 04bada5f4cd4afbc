"""`bnaudit.init/1`: the comparison of a start with its trained network, field by field."""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING

from bnaudit._version import __version__
from bnaudit.records.values import Skipped
from bnaudit.render.json_v1.values import Json, Skips, finite, number
from bnaudit.summary.initialisation import summarize

if TYPE_CHECKING:
    from bnaudit.records.initialisation import (
        Alignment,
        FileInfo,
        InitReport,
        InitRun,
        Range,
        Rows,
        ScaleTest,
        Value,
        WeightReport,
    )

SCHEMA = "bnaudit.init/1"

_WHOLE = (
    "k",
    "cosine",
    "start_norm",
    "trained_norm",
    "distance",
    "gain",
    "gain_share",
    "ray_distance",
)
_SHARES = ("positive", "gaining", "gain_total")
_RANGES = ("k", "cosine", "start_norm", "trained_norm", "gain", "ray_distance")
_SCALE = ("changes", "largest_change", "radial", "residual", "tolerance")


def init_to_json(report: InitReport) -> str:
    """The report as one strict, pure ASCII JSON document."""
    skips = Skips()
    document: Json = {
        "schema": SCHEMA,
        "tool": {"name": "bnaudit", "version": __version__},
        "start": _file(report.start),
        "trained": _file(report.trained),
        "identical": report.identical,
        "run": _run(report.run, skips),
        "weights": [_weight(weight) for weight in report.weights],
        "summary": _summary(report),
        "notes": list(report.notes),
        "skipped": skips.entries,
    }
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=True) + "\n"


def _file(file: FileInfo) -> Json:
    return {"path": file.path, "kind": file.kind, "tensors": file.tensors, "prefix": file.prefix}


def _run(run: InitRun | Skipped, skips: Skips) -> Json | None:
    if isinstance(run, Skipped):
        skips.add("run", run.reason)
        return None
    data = run.data
    return {
        "device": run.device,
        "dtype": "float64",
        "seed": run.seed,
        "data": {
            "source": data.source,
            "paths": list(data.paths),
            "batch_size": data.batch_size,
            "available": data.available,
            "distribution": data.distribution,
        },
        "loss": {
            "name": run.loss,
            "why": run.loss_why,
            "labels": run.labels,
            "value": _value(run.value, "run.loss.value", skips),
        },
        "unfed": [{"batchnorm": name, "reason": reason} for name, reason in run.unfed],
        "versions": dict(run.versions),
        "notes": list(run.notes),
    }


def _weight(weight: WeightReport) -> Json:
    skips = Skips()
    return {
        "name": weight.name,
        "shape": list(weight.shape),
        "batchnorm": {
            "followed": weight.followed,
            "name": weight.batchnorm,
            "source": weight.followed_from,
        },
        "whole": _whole(weight.alignment, skips),
        "rows": _rows(weight.rows, skips),
        "scale": _scale(weight.scale, skips),
        "skipped": skips.entries,
    }


def _value(value: Value, path: str, skips: Skips) -> float | None:
    if isinstance(value, Skipped):
        skips.add(path, value.reason)
        return None
    return number(value, path, skips)


def _whole(alignment: Alignment | Skipped, skips: Skips) -> Json:
    if isinstance(alignment, Skipped):
        skips.add("whole", alignment.reason)
        return dict.fromkeys(_WHOLE)
    return {key: _value(getattr(alignment, key), f"whole.{key}", skips) for key in _WHOLE}


def _rows(rows: Rows | Skipped, skips: Skips) -> Json:
    counts: Json = dict.fromkeys(("axis", "groups", "axis_from", "count", "used"))
    if isinstance(rows, Skipped):
        skips.add("rows", rows.reason)
        return {**counts, **dict.fromkeys((*_SHARES, *_RANGES))}
    return {
        **{key: getattr(rows, key) for key in counts},
        **{key: _value(getattr(rows, key), f"rows.{key}", skips) for key in _SHARES},
        **{key: _range(getattr(rows, key), f"rows.{key}", skips) for key in _RANGES},
    }


def _range(value: Range | Skipped, path: str, skips: Skips) -> Json | None:
    if isinstance(value, Skipped):
        skips.add(path, value.reason)
        return None
    numbers = {"minimum": value.minimum, "median": value.median, "maximum": value.maximum}
    if not all(isfinite(n) for n in numbers.values()):
        skips.add(path, "not finite")
        return None
    return {key: float(n) for key, n in numbers.items()}


def _scale(scale: ScaleTest | Skipped, skips: Skips) -> Json:
    if isinstance(scale, Skipped):
        skips.add("scale", scale.reason)
        return dict.fromkeys(_SCALE)
    return {
        "changes": [
            {"factor": factor, "change": _value(change, f"scale.changes.{factor:g}", skips)}
            for factor, change in scale.changes
        ],
        **{key: _value(getattr(scale, key), f"scale.{key}", skips) for key in _SCALE[1:]},
    }


def _summary(report: InitReport) -> Json:
    summary = summarize(report)
    return {
        "weights": summary.weights,
        "before_batchnorm": summary.before,
        "unknown": summary.unknown,
        "positive": summary.positive,
        "median_k": finite(summary.median_k),
        "median_cosine": finite(summary.median_cosine),
        "median_gain_share": finite(summary.median_gain_share),
        "scale_tested": summary.tested,
        "largest_change": finite(summary.largest_change),
        "largest_residual": finite(summary.largest_residual),
        "tolerance": finite(summary.tolerance),
        "residual_above_tolerance": summary.broken,
    }
