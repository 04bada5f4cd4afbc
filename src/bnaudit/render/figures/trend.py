"""The pictures of a run, as plain Vega-Lite: |gamma|/sigma over the steps, a line a layer."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from bnaudit.escaping import printable
from bnaudit.records.training import Course
from bnaudit.render.figures.figure import Figure
from bnaudit.render.text.words import plural, significant
from bnaudit.summary.trend import course_of, place_text, summarize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.training import Trend

_MOST_LINES = 12
"""Layers that are told apart by colour; of more the middle half and the ends are drawn."""
_MOST_PLACES = 200


def figures(record: Trend) -> list[Figure]:
    """The main one first; the second where passes were run."""
    return [
        Figure("|γ|/σ over the run", alt_text(record), gain_spec(record)),
        Figure("|g|/|G| over the run", "|g|/|G| over the run.", measured_spec(record)),
    ]


def gain_spec(report: Trend) -> dict[str, Any]:
    """|gamma|/sigma of the layers over the run, on a logarithmic axis."""
    quantity = "gain" if report.network_of == "stored" else "batch_gain"
    return _spec(report, quantity, "|γ|/σ, middle channel")


def measured_spec(report: Trend) -> dict[str, Any]:
    """|g|/|G| of the passes that were run; without rows where none was."""
    return _spec(report, "measured", "|g|/|G|")


def alt_text(report: Trend) -> str:
    """What is to be seen, in words."""
    found = [c for layer in report.layers if isinstance(c := course_of(layer, report), Course)]
    ends = ""
    if isinstance(report.network, Course):
        first, last = significant(report.network.first), significant(report.network.last)
        ends = f", the middle layer from {first} to {last}"
    lines = plural(len(found), "line")
    return f"|γ|/σ over the run, {lines}{ends}. {summarize(report).verdict.capitalize()}."


def _spec(report: Trend, quantity: str, title: str) -> dict[str, Any]:
    layers = [
        (number, printable(layer.name), _values(layer.states, quantity))
        for number, layer in enumerate(report.layers, 1)
    ]
    places = [m.place or 0.0 for m in report.read]
    step = max(1, -(-len(places) // _MOST_PLACES))
    few = len(layers) <= _MOST_LINES
    rows = []
    for i in range(0, len(places), step):
        here = [(number, name, v[i]) for number, name, v in layers if v[i] is not None]
        rows += (
            [_row(report, places[i], number, name, value) for number, name, value in here]
            if few
            else _spread(report, places[i], [value for _, _, value in here])
        )
    x = {"field": "place", "type": "quantitative", "title": report.axis}
    y = {"field": "value", "type": "quantitative", "title": title, "scale": {"type": "log"}}
    kind = {"field": "name", "type": "nominal", "sort": None, "title": None}
    return {
        "data": {"values": rows},
        "mark": {"type": "line", "point": {"size": 18}},
        "encoding": {
            "x": x,
            "y": y,
            "color": kind,
            "strokeDash": kind,
            "description": {"field": "about", "type": "nominal"},
        },
    }


def _values(states: Sequence[Any], quantity: str) -> list[float | None]:
    found = [getattr(state, quantity, None) for state in states]
    return [v if isinstance(v, float) and isfinite(v) and v > 1e-300 else None for v in found]


def _row(
    report: Trend, place: float, number: int, name: str, value: float | None
) -> dict[str, Any]:
    said = f"{name} — {significant(value or 0)} at {place_text(report, place)}"
    return {"place": place, "n": number, "name": name, "value": value, "about": said}


_QUANTILES = {"largest layer": 1.0, "upper quarter": 0.75, "middle layer": 0.5, "lower quarter": 0.25,
              "smallest layer": 0.0}  # fmt: skip


def _spread(report: Trend, place: float, values: Sequence[float | None]) -> list[dict[str, Any]]:
    """Of many layers: how they spread."""
    ordered = sorted(v for v in values if v is not None)
    if not ordered:
        return []
    return [
        _row(report, place, 0, name, ordered[round(share * (len(ordered) - 1))])
        for name, share in _QUANTILES.items()
    ]
