"""The pictures of a comparison: |gamma|/sigma old and new, and how far stored values moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.figures.audit import GAIN
from bnaudit.render.figures.figure import (
    ABOUT,
    Figure,
    about,
    along,
    finite,
    logarithmic,
    positive,
    rows_of,
    series,
)
from bnaudit.render.text.words import plural, significant

if TYPE_CHECKING:
    from bnaudit.records.diff import Diff, Movement
    from bnaudit.records.snapshot import LayerSnapshot
    from bnaudit.render.figures.figure import Spec

_STORED = {"gamma": "γ", "beta": "β", "running_mean": "mean", "running_var": "variance"}


def figures(diff: Diff) -> list[Figure]:
    """The main one first."""
    return [_gains(diff), _movements(diff)]


def _gains(diff: Diff) -> Figure:
    renamed = {pair.new: pair.old for pair in diff.renamed}
    before = {layer.label: layer for layer in diff.old.layers}

    def values(label: str, layer: LayerSnapshot) -> Spec | None:
        was = before.get(renamed.get(label, label))
        if was is None or "gain" not in layer.numbers or "gain" not in was.numbers:
            return None
        old, new = positive(was.numbers["gain"].value), positive(layer.numbers["gain"].value)
        if old is None or new is None:
            return None
        said = f"median {GAIN} {significant(old)} before, {significant(new)} now"
        return {"old": old, "new": new, "about": about(label, said)}

    rows = rows_of([(layer.label, layer) for layer in diff.new.layers], values)
    sides = [{**row, "of": side, "at": row[side]} for row in rows for side in ("old", "new")]
    of, _ = series()
    axis = logarithmic(row["at"] for row in sides)
    y = {"type": "quantitative", "title": f"median {GAIN}", **axis}
    spec = {
        "data": {"values": sides},
        "encoding": {"x": along(rows)},
        "layer": [
            {
                "mark": {"type": "rule", "aria": False},
                "encoding": {"y": {"field": "old", **y}, "y2": {"field": "new"}},
            },
            {
                "mark": "point",
                "encoding": {
                    "y": {"field": "at", **y},
                    "color": of,
                    "shape": of,
                    "description": ABOUT,
                },
            },
        ],
    }
    up = sum(row["new"] > row["old"] for row in rows)
    down = sum(row["new"] < row["old"] for row in rows)
    alt = f"Median {GAIN} of {plural(len(rows), 'layer')} before and now: larger in {up}, smaller in {down}."
    return Figure(f"Median {GAIN}, old and new", alt, spec)


def _movements(diff: Diff) -> Figure:
    moved = () if isinstance(diff.movements, Skipped) else diff.movements
    rows = []
    for field, title in _STORED.items():

        def values(label: str, layer: Movement, of: str = field, at: str = title) -> Spec | None:
            change = finite(getattr(layer, of))
            if change is None:
                return None
            said = f"{at} moved by {significant(change)} of its largest value"
            return {"of": at, "change": change, "about": about(label, said)}

        rows += rows_of([(layer.layer, layer) for layer in moved], values)
    of, _ = series()
    y = {"field": "change", "type": "quantitative", "title": "largest change over largest value"}
    spec = {
        "data": {"values": rows},
        "mark": {"type": "point", "opacity": 0.8},
        "encoding": {"x": along(rows), "y": y, "color": of, "shape": of, "description": ABOUT},
    }
    most = max(rows, key=lambda row: row["change"], default=None)
    alt = "" if most is None else f"How far stored values moved; most in {most['about']}."
    return Figure("Stored values that moved", alt, spec)
