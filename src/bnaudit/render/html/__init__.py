"""A document as one page for a browser: nothing is fetched, and nothing of the model's file is trusted."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from bnaudit._version import __version__
from bnaudit.render.columns import ALL

if TYPE_CHECKING:
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
    return _page(_sheet(record, verbose=verbose, channels=channels, view=view, pictures=True))


def document_to_frame(record: Any) -> str:
    """The same for a notebook: in a frame, whose styles and scripts are its own.

    Without the library that draws it has no pictures, and says what to install.
    """
    from bnaudit.render.figures.draw import missing

    page = _page(_sheet(record, verbose=False, channels=True, view=ALL, pictures=missing() is None))
    return _FRAME.format(escape(page))


def _sheet(record: Any, *, verbose: bool, channels: bool, view: View, pictures: bool) -> HtmlSheet:
    from bnaudit.render.figures import figures_of
    from bnaudit.render.figures.draw import drawn, missing
    from bnaudit.render.html.channels import channel_values
    from bnaudit.render.html.sheet import HtmlSheet
    from bnaudit.render.text import write_page

    sheet = HtmlSheet(view)
    write_page(sheet, record, verbose=verbose)
    sheet.versions(record)
    figures = figures_of(record)
    if pictures and figures:
        for figure, svg in zip(figures, drawn(figures), strict=True):
            sheet.figure(figure, svg)
    elif figures:
        sheet.wrapped(f"The pictures need vl-convert-python: {missing()}", "")
    if channels:
        sheet.channels(channel_values(record))
    return sheet


def _page(sheet: HtmlSheet) -> str:
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "title": escape(sheet.title),
        "style": style,
        "script": script,
        "version": escape(__version__),
        "content": sheet.html(),
        "channels": _data(sheet.channel_values),
    }
    page = _asset("page.html")
    # In one pass: what is put in is not looked through for places of its own.
    pieces = page.split("{{")
    return pieces[0] + "".join(
        parts[piece.partition("}}")[0]] + piece.partition("}}")[2] for piece in pieces[1:]
    )


def _asset(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(value: Any) -> str:
    """JSON that no text can end, whatever names it holds."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("&", "\\u0026").replace(">", "\\u003e")
