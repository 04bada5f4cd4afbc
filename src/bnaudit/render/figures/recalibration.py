"""The picture of a recalibration: how far each layer's inputs were off, before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.figures.figure import ABOUT, Figure, about, along, finite, rows_of, series
from bnaudit.render.text.words import plural, significant

if TYPE_CHECKING:
    from bnaudit.records.recalibration import LayerChange, Recalibration
    from bnaudit.render.figures.figure import Spec

_STATISTICS = {
    "mean_max": ("Mean of a layer's inputs off the stored one: the worst channel", "in σ"),
    "variance_max": (
        "Variance of a layer's inputs off the stored one: the worst channel",
        "log2 of the factor",
    ),
}


def figures(report: Recalibration) -> list[Figure]:
    """The main one first."""
    return [_off(report, field, title, unit) for field, (title, unit) in _STATISTICS.items()]


def _off(report: Recalibration, field: str, title: str, unit: str) -> Figure:
    rows = []
    for when in ("before", "after"):

        def values(label: str, layer: LayerChange, side: str = when) -> Spec | None:
            found = getattr(layer, side)
            off = None if isinstance(found, Skipped) else finite(getattr(found, field))
            if off is None:
                return None
            said = f"{side}: {significant(off)} {unit}"
            return {"when": side, "off": off, "about": about(label, said)}

        rows += rows_of([(layer.name, layer) for layer in report.layers], values)
    of, _ = series("when")
    spec = {
        "data": {"values": rows},
        "mark": "point",
        "encoding": {
            "x": along(rows),
            "y": {"field": "off", "type": "quantitative", "title": unit},
            "color": of,
            "shape": of,
            "description": ABOUT,
        },
    }
    worst = {
        when: max((r["off"] for r in rows if r["when"] == when), default=0.0)
        for when in ("before", "after")
    }
    alt = (
        f"{title}, of {plural(len(report.layers), 'layer')}: at most {significant(worst['before'])} {unit} "
        f"before, {significant(worst['after'])} after."
    )
    return Figure(title, alt, spec)
