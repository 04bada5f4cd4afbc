"""The pictures of a document, as Vega-Lite specifications: a file a document, and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnaudit.render.figures.figure import Figure

FIGURES = {
    "Report": "audit",
    "InspectionReport": "inspection",
    "Diff": "difference",
    "InitReport": "initialisation",
    "Landscape": "landscape",
    "Recalibration": "recalibration",
    "Trend": "trend",
}
"""Class of a record -> the module here whose `figures` makes them; the first is the main picture."""


def figures_of(record: Any) -> list[Figure]:
    """The pictures of a document that have something to show."""
    names = (kind.__name__ for kind in type(record).__mro__)
    module = next((FIGURES[name] for name in names if name in FIGURES), None)
    if module is None:
        return []
    found: list[Figure] = import_module(f"bnaudit.render.figures.{module}").figures(record)
    return [figure for figure in found if figure.rows]
