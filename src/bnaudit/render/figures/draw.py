"""Figures as SVG and PNG, by Vega-Lite: vl-convert has it inside, and neither browser nor network."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bnaudit.errors import UsageError
from bnaudit.render.figures.figure import HEIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.render.figures.figure import Figure, Spec

LIBRARY, EXTRA = "vl_convert", "report"
_VERSION = "5.21"
"""Of Vega-Lite: one that all releases of the library since 1.7 hold would draw the same."""

# Okabe and Ito: told apart by the colour-blind, at least 3:1 against white and against the dark page.
_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#b0609c", "#7a7a7a")
_CONFIG: dict[str, Any] = {
    "font": "Arial, 'Liberation Sans', Helvetica, sans-serif",
    "view": {"stroke": None},
    "axis": {"gridColor": "#ddd", "domainColor": "#888", "tickColor": "#888", "labelFontSize": 11},
    "range": {"category": list(_PALETTE)},
    "mark": {"color": _PALETTE[0]},
    "point": {"filled": True, "size": 36, "opacity": 0.9},
    "rule": {"color": _PALETTE[0]},
    "legend": {"orient": "top", "title": None, "columnPadding": 40},
    # Readers have other fonts than the library, wider ones too.
    "padding": 14,
}


def missing() -> str | None:
    """What to install, where the library is not there."""
    return None if find_spec(LIBRARY) else f"pip install 'bnaudit[{EXTRA}]'"


def _library(what: str) -> Any:
    if (remedy := missing()) is not None:
        raise UsageError(f"{what} needs vl-convert-python, which is not installed", hint=remedy)
    import vl_convert

    return vl_convert


def _whole(figure: Figure, background: str | None) -> Spec:
    sized = "hconcat" in figure.spec or "vconcat" in figure.spec or "facet" in figure.spec
    size = {} if sized else {"width": figure.width, "height": HEIGHT}
    return {
        "$schema": f"https://vega.github.io/schema/vega-lite/v{_VERSION.partition('.')[0]}.json",
        **size,
        "background": background,
        "description": figure.alt,
        **figure.spec,
        "config": {**_CONFIG, **figure.spec.get("config", {})},
    }


def drawn(figures: Sequence[Figure]) -> list[str]:
    """Each as SVG for a page, which gives it colours of its own.

    Raises:
        UsageError: the library is not installed.
    """
    library = _library("a page with pictures")
    return [
        library.vegalite_to_svg(_whole(figure, None), vl_version=_VERSION, allowed_base_urls=[])
        for figure in figures
    ]


def as_file(figure: Figure, *, png: bool) -> str | bytes:
    """A picture that stands by itself: with its title, on white.

    Raises:
        UsageError: the library is not installed.
    """
    library = _library("a picture")
    spec = {**_whole(figure, "white"), "title": {"text": figure.title, "anchor": "start"}}
    if png:
        data: bytes = library.vegalite_to_png(
            spec, vl_version=_VERSION, scale=2, allowed_base_urls=[]
        )
        return data
    text: str = library.vegalite_to_svg(spec, vl_version=_VERSION, allowed_base_urls=[])
    return text + "\n"
