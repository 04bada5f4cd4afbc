"""Channels worth a look: far from the model's own statistics, dead, or far from their neighbours.

What is listed here is a selection for readers, by fixed factors; whether something is wrong with it is
for the rules to say.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.text.cells import pad_right
from bnaudit.render.text.sheet import HANGING
from bnaudit.render.text.table import Notes
from bnaudit.render.text.words import factor, listing, percent, plural, significant
from bnaudit.summary.audit import is_synthetic

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.records.drift import Channels, Drift
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report
    from bnaudit.render.text.sheet import Sheet

MEAN_DRIFT = 0.25
"""In units of sigma; the largest of a healthy model is about 0.12."""

VARIANCE_DRIFT = 0.5
"""In log2; the largest of a healthy model is about 0.34."""

SAMPLING_ERRORS = 6.0
"""Drift below so many sampling errors may be chance."""

GAIN_OUTLIER = 5.0
"""Over the layer's median; channels of a healthy layer stay within 2 or 3."""

LEAK = 0.1
"""Share of eps in a channel's variance."""

_SYNTHETIC = Skipped("synthetic data says nothing about the running statistics")

_LAYERS_SHOWN = 10
_INDICES_SHOWN = 4


def write_channels(sheet: Sheet, report: Report) -> None:
    """Layers with channels that stand out, and what was not looked at."""
    facts, more = channel_facts(report)
    if facts:
        sheet.heading("channels worth a look")
    names = [sheet.charset.clean(label) for label, _ in facts]
    indent = min(max((cell_len(name) for name in names), default=0), sheet.width // 4)
    names = sheet.charset.shorten_names(names, indent)
    for name, (_, text) in zip(names, facts, strict=True):
        head = Text(" " * HANGING + pad_right(name, indent) + "  ")
        sheet.beside(head, Text(sheet.charset.clean(text)))
    if more:
        sheet.wrapped(f"and {plural(more, 'more layer')} (all in the JSON)", "dim")
    if facts:
        sheet.gap()
    sheet.notes(channel_notes(report))


def channel_facts(report: Report) -> tuple[list[tuple[str, str]], int]:
    """(label, what stands out) of the first few layers, and how many more have something."""
    drift = not is_synthetic(report)
    found = [(layer.label, "; ".join(_facts(layer, drift=drift))) for layer in report.layers]
    found = [(label, text) for label, text in found if text]
    return found[:_LAYERS_SHOWN], len(found[_LAYERS_SHOWN:])


def channel_notes(report: Report) -> Notes:
    """Which of it is not shown, and why."""
    notes = Notes(len(report.layers))
    drawn = report.run is not None and report.run.data.source == "synthetic"
    synthetic = _SYNTHETIC if drawn else None
    for layer in report.layers:
        for what, why in _missing(layer.statistics, synthetic):
            # The line of the layer in the table gives this reason already.
            if why not in (NOT_REQUESTED, layer.first_order):
                notes.add(what, why.reason, layer.label)
    return notes


def _missing(channels: Channels | Skipped, synthetic: Skipped | None) -> list[tuple[str, Skipped]]:
    if isinstance(channels, Skipped):
        return [("channel statistics", channels)]
    parts = (
        ("drift", synthetic or channels.mean_drift),
        ("drift", synthetic or channels.variance_drift),
        ("dead channels", channels.dead_gradient),
        ("outlying channels", channels.gain_outlier),
    )
    return [(what, value) for what, value in parts if isinstance(value, Skipped)]


def _facts(layer: LayerReport, *, drift: bool) -> list[str]:
    channels = layer.statistics
    if isinstance(channels, Skipped):
        return []
    facts = (
        _drift(channels.mean_drift, MEAN_DRIFT, _mean_drift) if drift else "",
        _drift(channels.variance_drift, VARIANCE_DRIFT, _variance_drift) if drift else "",
        _indices(channels.dead_gradient, layer.channels, "without gradient"),
        _indices(channels.dead_gamma, layer.channels, "with γ near 0"),
        _outlier(channels.gain_outlier),
        _leak(layer),
    )
    return [fact for fact in facts if fact]


def _drift(drift: Drift | Skipped, threshold: float, write: Callable[[Drift], str]) -> str:
    if isinstance(drift, Skipped):
        return ""
    chance = drift.maximum <= max(threshold, SAMPLING_ERRORS * drift.sampling_error)
    return "" if chance else write(drift)


def _mean_drift(drift: Drift) -> str:
    largest, middle = significant(drift.maximum), significant(drift.median)
    return f"mean drift {largest} σ in channel {drift.channel} (median {middle})"


def _variance_drift(drift: Drift) -> str:
    largest, middle = _power_of_two(drift.maximum), _power_of_two(drift.median)
    return f"variance drift {largest} in channel {drift.channel} (median {middle})"


def _power_of_two(exponent: float) -> str:
    if isfinite(exponent) and exponent >= 100:
        return f"×2^{significant(exponent)}"
    return factor(2**exponent)


def _indices(channels: tuple[int, ...] | Skipped, of: int, what: str) -> str:
    if isinstance(channels, Skipped) or not channels:
        return ""
    names = listing([str(channel) for channel in channels], _INDICES_SHOWN)
    return f"{len(channels)} of {of} channels {what} ({names})"


def _outlier(outlier: float | Skipped) -> str:
    if isinstance(outlier, Skipped) or outlier <= GAIN_OUTLIER:
        return ""
    return f"a channel's |γ|/σ is {factor(outlier)} from the layer's median"


def _leak(layer: LayerReport) -> str:
    leak = layer.leak
    if isinstance(leak, Skipped) or leak.maximum.median <= LEAK:
        return ""
    return f"eps is up to {percent(leak.maximum.median)} of a channel's variance"
