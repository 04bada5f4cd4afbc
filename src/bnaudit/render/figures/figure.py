"""One picture: what it shows in words, and as a Vega-Lite specification."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import TYPE_CHECKING, Any

from bnaudit.escaping import printable
from bnaudit.records.values import Skipped, Spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Spec = dict[str, Any]

SHOWN_BY_NAME = 40
"""Layers: more names than these would stand on each other, and numbers take their place."""


ABOUT: Spec = {"field": "about", "type": "nominal"}
"""The channel `description` of marks whose rows have a field of this name."""


WIDTH, HEIGHT = 540, 230
"""Of a picture that says nothing else, in pixels: two stand beside each other on a page."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture.

    Attributes:
        title: above it.
        alt: what is to be seen, in a sentence or two, for those who do not see it.
        spec: Vega-Lite, with its data inline; size and colours are given where it says none.
    """

    title: str
    alt: str
    spec: Spec

    @property
    def rows(self) -> Sequence[Any]:
        """What is drawn."""
        found: Sequence[Any] = self.spec.get("data", {}).get("values", ())
        return found

    @property
    def width(self) -> int:
        """In pixels: as its specification says, or else by how many layers stand beside each other."""
        layers = len({row["n"] for row in self.rows if "n" in row})
        found: int = self.spec.get("width", WIDTH if layers <= 2 * SHOWN_BY_NAME else 2 * WIDTH)
        return found


def finite(value: Any) -> float | None:
    """A number that can be drawn, of a spread its median; or None."""
    if isinstance(value, Spread):
        value = value.median
    if value is None or isinstance(value, (Skipped, bool)) or not isfinite(value):
        return None
    return float(value)


def positive(value: Any) -> float | None:
    """A number that has a place on a logarithmic axis, or None."""
    number = finite(value)
    return number if number is not None and 1e-300 < number < 1e300 else None


def about(label: str, text: str) -> str:
    """What is said of a mark: its layer's label first, so that the page finds the layer's row."""
    return f"{printable(label)} — {text}"


def logarithmic(values: Iterable[float | None]) -> Spec:
    """Scale and axis for positive values: with lines at 1, 2 and 5, or at powers of ten where these are many.

    Vega's own labels leave out those that touch, whichever these are: often the 1.
    """
    found = [value for value in values if value is not None and value > 0]
    scale: Spec = {"type": "log", "nice": False, "padding": 12}
    if not found:
        return {"scale": scale}
    powers = range(floor(log10(min(found))) - 1, ceil(log10(max(found))) + 2)
    steps = (1, 2, 5) if len(powers) <= 6 else (1,)
    powers = powers[:: 1 + len(powers) // 10]
    # Divided, not multiplied: 2/10 is the 0.2 that is written below the line.
    lines = [s * 10.0**p if p >= 0 else s / 10.0**-p for p in powers for s in steps]
    return {"scale": scale, "axis": {"values": lines}}


def series(field: str = "of") -> tuple[Spec, Spec]:
    """Colour and shape of points by a field of the rows; and the same for other marks, without a legend.

    Other marks take it as `stroke`, not as `color`: layers that share a channel share its legend, which then
    has the looks of neither.
    """
    of: Spec = {"field": field, "type": "nominal", "sort": None}
    return of, {**of, "legend": None}


def rows_of(
    labelled: Iterable[tuple[str, Any]], values: Callable[[str, Any], Spec | None]
) -> list[Spec]:
    """A row a layer that has something to draw, each with its name and its number.

    Args:
        labelled: label and subject of each layer, in order.
        values: the fields of a row; None where nothing can be drawn.
    """
    rows = []
    for number, (label, subject) in enumerate(labelled, 1):
        found = values(label, subject)
        if found is not None:
            rows.append({"n": number, "name": printable(label), **found})
    return rows


def along(rows: Sequence[Spec], what: str = "layer") -> Spec:
    """The horizontal axis: layers in order, by name where the names have room."""
    if len({row["n"] for row in rows}) > SHOWN_BY_NAME:
        scale = {"zero": False, "nice": False, "padding": 6}
        return {"field": "n", "type": "quantitative", "title": f"{what}, in order", "scale": scale}
    # Two layers may bear one name once it is printable; their numbers differ.
    names = [""] * max((row["n"] for row in rows), default=0)
    for row in rows:
        names[row["n"] - 1] = row["name"]
    # A list in JSON is a list of Vega's expressions, out of whose texts no letter leads.
    axis = {
        "labelExpr": f"{json.dumps(names)}[datum.value - 1]",
        "labelAngle": -50,
        "labelLimit": 130,
    }
    return {"field": "n", "type": "ordinal", "title": None, "axis": axis}
