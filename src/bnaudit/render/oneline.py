"""A document in one line, as a Python prompt shows it."""

from __future__ import annotations

from typing import Any

from bnaudit.escaping import printable
from bnaudit.records.landscape import Landscape
from bnaudit.records.recalibration import Recalibration
from bnaudit.records.training import Trend
from bnaudit.render.outcome import outcome_of
from bnaudit.render.text.words import plural
from bnaudit.summary.landscape import summarize


def line_of(record: Any) -> str:
    """Which model, the verdict, and how much there is."""
    if isinstance(record, Recalibration):
        done = "refused" if record.refused else "not written"
        end = f"written to {record.output}" if record.output else done
        return printable(f"{record.model}: {plural(len(record.layers), 'layer')}, {end}")
    if isinstance(record, Landscape):
        return printable(
            f"{record.model}: {plural(record.layers, 'layer')}, {summarize(record).outcome}"
        )
    if isinstance(record, Trend):
        return printable(
            f"{', '.join(record.runs)}: {plural(len(record.layers), 'layer')}, "
            f"{plural(len(record.read), 'file')}"
        )
    outcome = outcome_of(record)
    word = outcome.headline.partition(":")[0]
    counts = f"{plural(len(outcome.layers), 'layer')}, {plural(len(outcome.findings), 'finding')}"
    return printable(f"{outcome.path}: {word}, {counts}")
