"""The block of channels worth a look; what is one, the rules' thresholds say."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from bnaudit.judge.limits import channel_limits
from bnaudit.records.values import NOT_REQUESTED, Skipped
from bnaudit.render.text.cells import pad_right
from bnaudit.render.text.sheet import HANGING
from bnaudit.render.text.table import Notes
from bnaudit.render.text.words import factor, listing, percent, plural, significant
from bnaudit.summary.channels import conspicuous

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.report import Report
    from bnaudit.render.text.sheet import Sheet
    from bnaudit.summary.channels import Conspicuous

_SYNTHETIC = Skipped("synthetic data says nothing about the running statistics")

_LAYERS_SHOWN = 10
_INDICES_SHOWN = 4


def write_channels(sheet: Sheet, report: Report) -> None:
    """Layers with channels that stand out, and what was not looked at."""
    found = conspicuous(report, channel_limits(report.thresholds))
    if found:
        sheet.heading("channels worth a look")
    shown = found[: sheet.most(_LAYERS_SHOWN)]
    names = [sheet.charset.clean(entry.layer.label) for entry in shown]
    indent = min(max((cell_len(name) for name in names), default=0), sheet.width // 4)
    for name, entry in zip(sheet.charset.shorten_names(names, indent), found, strict=False):
        head = Text(" " * HANGING + pad_right(name, indent) + "  ")
        sheet.beside(head, Text(sheet.charset.clean("; ".join(channel_facts(entry)))))
    if len(found) > len(shown):
        more = plural(len(found) - len(shown), "more layer")
        sheet.wrapped(f"and {more} (all in the JSON)", "dim")
    if found:
        sheet.gap()
    notes, drawn = Notes(len(report.layers)), report.run and report.run.data.source == "synthetic"
    for layer in report.layers:
        channels = layer.statistics
        missing: list[tuple[str, object]] = [("channel statistics", channels)]
        if not isinstance(channels, Skipped):
            missing = [
                ("drift", _SYNTHETIC if drawn else channels.mean_drift),
                ("drift", _SYNTHETIC if drawn else channels.variance_drift),
                ("dead channels", channels.dead_gradient),
            ]
        for what, why in missing:
            # The line of the layer in the table gives its reason already.
            if isinstance(why, Skipped) and why not in (NOT_REQUESTED, layer.first_order):
                notes.add(what, why.reason, layer.label)
    sheet.notes(notes)


def channel_facts(found: Conspicuous) -> Iterator[str]:
    """What stands out, a clause each."""
    of, mean, variance = found.layer.channels, found.mean, found.variance
    if mean is not None:
        middle = significant(mean.median)
        yield f"mean drift {significant(mean.value)} σ in channel {mean.channel} (median {middle})"
    if variance is not None:
        largest, middle = _power_of_two(variance.value), _power_of_two(variance.median)
        yield f"variance drift {largest} in channel {variance.channel} (median {middle})"
    parts = (
        (found.silent, "without gradient"),
        (found.switched_off, "with γ near 0"),
        (found.outlying, f"with |γ|/σ up to {factor(found.ratio)} the layer's median"),
    )
    for channels, what in parts:
        if channels:
            names = listing([str(channel) for channel in channels], _INDICES_SHOWN)
            yield f"{len(channels)} of {of} channels {what} ({names})"
    if found.leak is not None:
        yield f"eps is up to {percent(found.leak)} of a channel's variance"


def _power_of_two(exponent: float) -> str:
    if isfinite(exponent) and exponent >= 100:
        return f"×2^{significant(exponent)}"
    return factor(2**exponent)
