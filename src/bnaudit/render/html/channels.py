"""Per-channel numbers for the page, which shows those of a layer when it is asked to."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from bnaudit.records.inspection import InspectionReport
from bnaudit.records.report import Report
from bnaudit.records.values import Skipped
from bnaudit.summary.gain import stored_channels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnaudit.records.inspection import BatchNormStatics
    from bnaudit.records.layer import LayerReport

_BUDGET = 120_000
"""Numbers, 10 bytes at most: with more the page would be slow to load. The JSON has all."""

_DIGITS = 4
_FIELDS = {
    "|γ|/σ batch": "channel_values.gain_batch",
    "|g|/|G| measured": "channel_values.measured",
    "mean drift, σ": "statistics.mean_drift.signed",
    "variance drift, log2": "statistics.variance_drift.signed",
    "|γ|/σ running": "channel_values.gain_running",
    "σ": "channel_values.sigma",
    "leak": "channel_values.leak",
    "|g|/|G| predicted": "channel_values.predicted",
    "|G|": "channel_values.grad_out_norm",
    "|g|": "channel_values.grad_in_norm",
}
"""The first are kept longest."""

_STORED = {
    "gain": "|γ|/σ",
    "gamma": "γ",
    "beta": "β",
    "running_mean": "mean",
    "running_var": "variance",
}

Columns = dict[str, list[float | None]]


def channel_values(record: Any) -> dict[str, Columns]:
    """Layer -> title -> a number a channel: what the record has, the first titles if there is too much."""
    layers: list[tuple[str, dict[str, Sequence[float]]]] = []
    if isinstance(record, Report):
        layers = [(layer.label, dict(_measured(layer))) for layer in record.layers]
    elif isinstance(record, InspectionReport):
        layers = [(layer.name, dict(_stored(layer))) for layer in record.inspection.batchnorms]
    kept, room = [], _BUDGET
    for title in dict.fromkeys(title for _, columns in layers for title in columns):
        room -= sum(len(columns.get(title, ())) for _, columns in layers)
        if room >= 0:
            kept.append(title)
    found = {}
    for label, columns in layers:
        written = {t: [_short(v) for v in columns[t]] for t in kept if columns.get(t)}
        if written:
            found[label] = written
    return found


def _stored(layer: BatchNormStatics) -> Iterable[tuple[str, Sequence[float]]]:
    values = stored_channels(layer)
    for field, title in _STORED.items():
        found = getattr(values, field)
        if not isinstance(found, Skipped):
            yield title, found


def _measured(layer: LayerReport) -> Iterable[tuple[str, Sequence[float]]]:
    for title, path in _FIELDS.items():
        found: Any = layer
        for step in path.split("."):
            found = getattr(found, step, None)
        if found is not None:
            yield title, found


def _short(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if isfinite(value) else None
