"""The pictures of a comparison with the start: direction and length of each weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnaudit.records.values import Skipped
from bnaudit.render.figures.figure import ABOUT, Figure, about, along, finite, rows_of, series
from bnaudit.render.text.words import plural, significant

if TYPE_CHECKING:
    from bnaudit.records.initialisation import InitReport, WeightReport
    from bnaudit.render.figures.figure import Spec

_BEFORE = {"yes": "before a BatchNorm", "no": "elsewhere", "unknown": "not known"}


def figures(report: InitReport) -> list[Figure]:
    """The main one first."""
    return [
        _of_weights(report, "cosine", "cosine", "Cosine between each weight and its start"),
        _of_weights(
            report, "k", "k", "k: the point kW of a weight's ray that is nearest to its start"
        ),
    ]


def _of_weights(report: InitReport, field: str, short: str, title: str) -> Figure:
    def values(label: str, weight: WeightReport) -> Spec | None:
        whole: Any = weight.alignment
        value = None if isinstance(whole, Skipped) else finite(getattr(whole, field))
        if value is None:
            return None
        said = f"{short} {significant(value)}, {_BEFORE[weight.followed]}"
        return {"value": value, "of": _BEFORE[weight.followed], "about": about(label, said)}

    rows = rows_of([(weight.name, weight) for weight in report.weights], values)
    of, _ = series()
    y = {"field": "value", "type": "quantitative", "title": short}
    spec = {
        "data": {"values": rows},
        "mark": "point",
        "encoding": {
            "x": along(rows, "weight"),
            "y": y,
            "color": of,
            "shape": of,
            "description": ABOUT,
        },
    }
    positive = sum(row["value"] > 0 for row in rows)
    return Figure(title, f"{short} of {plural(len(rows), 'weight')}; above 0 in {positive}.", spec)
