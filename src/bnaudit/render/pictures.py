"""The main picture of a document, as a file that stands by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnaudit.render.figures import figures_of
from bnaudit.render.figures.draw import as_file
from bnaudit.render.figures.figure import Figure

if TYPE_CHECKING:
    from bnaudit.render.figures.figure import Spec

_NOTHING = "no layer has numbers to draw"
_EMPTY: Spec = {
    "data": {"values": [{}]},
    "height": 60,
    "mark": {"type": "text", "text": _NOTHING, "fontSize": 14},
}


def document_to_svg(record: Any) -> str | bytes:
    """As SVG.

    Raises:
        UsageError: the library that draws is not installed.
    """
    return as_file(_main(record), png=False)


def document_to_png(record: Any) -> str | bytes:
    """As PNG; see `document_to_svg`."""
    return as_file(_main(record), png=True)


def _main(record: Any) -> Figure:
    """The first, or a sentence: that there is nothing to draw is known only when all is measured."""
    return next(iter(figures_of(record)), Figure("bnaudit", _NOTHING, _EMPTY))
