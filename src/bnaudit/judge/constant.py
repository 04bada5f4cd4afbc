"""Channels that hardly vary: in the data, in what is stored, or in one of the two alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.drifted import drifting_channels
from bnaudit.records.values import Skipped
from bnaudit.summary.audit import is_synthetic

if TYPE_CHECKING:
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report


def stored_variances(report: Report, layer: LayerReport) -> tuple[float, ...]:
    """The running variances of a layer, as far as they were read; else empty."""
    stored = () if report.inspection is None else report.inspection.batchnorms
    found = next((bn.running_var for bn in stored if bn.name == layer.name), None) or ()
    return found if len(found) == layer.channels else ()


def constant_as_stored(report: Report) -> dict[str, tuple[int, ...]]:
    """Label -> channels that are constant in the data, and that the stored variance does not contradict.

    Where it does, the data is not that of training, which is drift.
    """
    drifting = drifting_channels(report)
    return {
        layer.label: tuple(
            c for c in layer.statistics.constant if c not in drifting.get(layer.label, frozenset())
        )
        for layer in report.layers
        if not isinstance(layer.statistics, Skipped)
    }


def told_of_by_data(report: Report) -> dict[str, frozenset[int]]:
    """Name -> channels of which the data itself says what a small stored variance only suggests."""
    if report.run is None or is_synthetic(report):
        return {}
    drifting = drifting_channels(report)
    told: dict[str, frozenset[int]] = {}
    for layer in report.layers:
        if not isinstance(layer.statistics, Skipped):
            own = {*layer.statistics.constant, *drifting.get(layer.label, ())}
            told[layer.name] = told.get(layer.name, frozenset()) | own
    return told
