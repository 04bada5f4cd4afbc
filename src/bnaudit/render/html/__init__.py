"""A document as one page for a browser: nothing is fetched, and nothing of the model's file is trusted."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from bnaudit._version import __version__
from bnaudit.records.several import Several
from bnaudit.render.columns import ALL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.render.columns import View
    from bnaudit.render.html.sheet import HtmlSheet

_FRAME = (
    '<iframe sandbox="allow-scripts" title="bnaudit" '
    'style="width:100%;height:70vh;border:1px solid #8886;border-radius:6px" srcdoc="{}"></iframe>'
)


def document_to_html(
    record: Any, *, verbose: bool = False, channels: bool = False, view: View = ALL
) -> str:
    """The page of a document.

    Args:
        record: any document but the rules.
        verbose: list what is otherwise counted.
        channels: add per-channel numbers, of a record that has them.
        view: columns and rows of the main table.

    Raises:
        UsageError: the library that draws is not installed.
    """
    return _page(_sheets(record, _Look(verbose, channels, view, pictures=True)))


def document_to_frame(record: Any) -> str:
    """The same for a notebook: in a frame, whose styles and scripts are its own.

    Without the library that draws it has no pictures, and says what to install.
    """
    from bnaudit.render.figures.draw import missing

    look = _Look(verbose=False, channels=True, view=ALL, pictures=missing() is None)
    return _FRAME.format(escape(_page(_sheets(record, look))))


@dataclass(frozen=True, slots=True)
class _Look:
    """See `document_to_html`; and whether there are pictures."""

    verbose: bool
    channels: bool
    view: View
    pictures: bool


def _sheets(record: Any, look: _Look) -> list[HtmlSheet]:
    """Of one document one; of several models the table of them, and one for each that has a report."""
    from bnaudit.render.html.sheet import HtmlSheet

    if not isinstance(record, Several):
        return [_written(HtmlSheet(look.view), record, look)]
    places = {f"m{n}": entry for n, entry in enumerate(record.entries) if entry.report is not None}
    links = {entry.path: f"#{place}" for place, entry in places.items()}
    sheets = [_written(HtmlSheet(links=links), record, look)]
    for place, entry in places.items():
        sheets.append(_written(HtmlSheet(look.view, place=place), entry.report, look))
    return sheets


def _written(sheet: HtmlSheet, record: Any, look: _Look) -> HtmlSheet:
    from bnaudit.render.figures import figures_of
    from bnaudit.render.figures.draw import drawn, missing
    from bnaudit.render.html.channels import channel_values
    from bnaudit.render.text import write_page

    write_page(sheet, record, verbose=look.verbose)
    sheet.versions(record)
    figures = figures_of(record)
    if look.pictures and figures:
        for figure, svg in zip(figures, drawn(figures), strict=True):
            sheet.figure(figure, svg)
    elif figures:
        sheet.wrapped(f"The pictures need vl-convert-python: {missing()}", "")
    if look.channels:
        sheet.channels(channel_values(record))
    return sheet


def _page(sheets: Sequence[HtmlSheet]) -> str:
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "title": escape(sheets[0].title),
        "style": style,
        "script": script,
        "version": escape(__version__),
        "content": "\n".join(sheet.html() for sheet in sheets),
        "channels": _data({k: v for sheet in sheets for k, v in sheet.channel_values.items()}),
    }
    # In one pass: what is put in is not looked through for places of its own.
    first, *pieces = _asset("page.html").split("{{")
    named = (piece.partition("}}") for piece in pieces)
    return first + "".join(parts[name] + rest for name, _, rest in named)


def _asset(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(value: Any) -> str:
    """JSON that no text can end, whatever names it holds."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("&", "\\u0026").replace(">", "\\u003e")
