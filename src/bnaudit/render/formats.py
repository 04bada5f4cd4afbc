"""The output formats of all documents: a new one is one file in this folder and one line here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from bnaudit.render.columns import ALL, View

PAGES = (
    "report",
    "inspect",
    "init",
    "diff",
    "landscape",
    "recalibration",
    "trend",
    "fleet",
    "rules",
)
"""Documents that people read too."""

DOCUMENTS = (*PAGES, "fleet-row")
"""What is written, as `bnaudit schema` names it; each by the command of its name, but for `OF_COMMANDS`."""

OF_COMMANDS = {"check": "report", "recalibrate": "recalibration"}
"""Command -> document, where their names differ."""

VERDICTS = ("report", "inspect")
"""Those that judge a model: a format of verdicts alone reads `render.outcome`, the same for both."""


@dataclass(frozen=True)
class Style:
    """How text may look, and how much of the document is wanted.

    Attributes:
        width: columns to fit into.
        color: whether ANSI colour may be used.
        unicode: whether letters beyond ASCII may be used.
        channels: whether per-channel arrays are included.
        verbose: whether tables list what is otherwise counted.
        view: columns and rows of the main table.
    """

    width: int = 100
    color: bool = False
    unicode: bool = True
    channels: bool = False
    verbose: bool = False
    view: View = ALL


@dataclass(frozen=True)
class Format:
    """One output format.

    Attributes:
        suffix: file names that end so are written in it; None where only its name says it.
        summary: what it is for, a few words of `--help`.
        writer: the function that writes it ("module:function" of this folder, imported when called).
        takes: the attributes of `Style` that it takes.
        documents: what it can write.
        prose: whether two of them are parted by an empty line.
        whole: whether it is one document: two of them, one after the other, are none.
        file_only: whether it is nothing to read on a terminal.
        several: whether it has a form for several models of one command.
        draws: whether it needs the library that draws.
    """

    suffix: str | None
    summary: str
    writer: str
    takes: tuple[str, ...] = ()
    documents: tuple[str, ...] = VERDICTS
    prose: bool = False
    whole: bool = False
    file_only: bool = False
    several: bool = False
    draws: bool = False


_drawn = partial(
    Format,
    documents=tuple(name for name in PAGES if name != "rules"),
    whole=True,
    file_only=True,
    draws=True,
)
_TEXT = ("width", "color", "unicode", "verbose", "view")

FORMATS: dict[str, Format] = {
    "table": Format(
        ".txt", "for people", "text:document_to_text", _TEXT, PAGES, prose=True, several=True
    ),
    "json": Format(
        ".json", "for programs", "json_v1:document_text", ("channels",), DOCUMENTS, whole=True
    ),
    "csv": Format(".csv", "for tables", "rows:trend_to_csv", documents=("trend",), whole=True),
    "parquet": Format(
        ".parquet",
        "for data frames",
        "rows:trend_to_parquet",
        documents=("trend",),
        whole=True,
        file_only=True,
    ),
    "sarif": Format(
        ".sarif",
        "for code scanning",
        "sarif:report_to_sarif",
        documents=(*VERDICTS, "fleet"),
        whole=True,
    ),
    "junit": Format(
        ".xml",
        "for test reports",
        "junit:report_to_junit",
        documents=(*VERDICTS, "fleet"),
        whole=True,
    ),
    "markdown": Format(
        ".md",
        "for pull-request comments",
        "markdown:document_to_markdown",
        ("view",),
        documents=(*VERDICTS, "rules"),
        prose=True,
        several=True,
    ),
    "github": Format(None, "annotations of GitHub Actions", "github:report_to_github"),
    "html": _drawn(
        ".html",
        "for browsers",
        "html:document_to_html",
        ("verbose", "channels", "view"),
        several=True,
    ),
    "svg": _drawn(".svg", "the main picture", "pictures:document_to_svg"),
    "png": _drawn(".png", "the main picture", "pictures:document_to_png"),
}


def formats_of(document: str) -> dict[str, Format]:
    """The formats in which one of `DOCUMENTS` is written."""
    return {name: form for name, form in FORMATS.items() if document in form.documents}


def render(name: str, record: Any, style: Style) -> str | bytes:
    """A document as text, or as bytes where its format is no text.

    Args:
        name: of a format in which the document is written.
        record: what it is written from.
        style: how it may look.
    """
    form = FORMATS[name]
    module, function = form.writer.split(":")
    write = getattr(import_module(f"bnaudit.render.{module}"), function)
    written: str | bytes = write(
        record, **{attribute: getattr(style, attribute) for attribute in form.takes}
    )
    return written


def split_output(text: str) -> tuple[str | None, str]:
    """Format and path of `report.json` or `junit=report.log`; None where nothing says the format."""
    named, equals, path = text.partition("=")
    if equals and named in FORMATS:
        return named, path
    lower = text.lower()
    if lower.endswith(".sarif.json"):
        return "sarif", text
    endings = ((f.suffix, name) for name, f in FORMATS.items() if f.suffix is not None)
    return next((name for suffix, name in endings if lower.endswith(suffix)), None), text
