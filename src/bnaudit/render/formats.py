"""The output formats of all documents: a new one is one file in this folder and one line here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCUMENTS = ("report", "inspect", "init", "diff", "rules")
"""What is written, as `bnaudit schema` names it; each but the report by the command of its name."""


@dataclass(frozen=True)
class Style:
    """How text may look, and how much of the document is wanted.

    Attributes:
        width: columns to fit into.
        color: whether ANSI colour may be used.
        unicode: whether letters beyond ASCII may be used.
        channels: whether per-channel arrays are included.
        verbose: whether tables list what is otherwise counted.
    """

    width: int = 100
    color: bool = False
    unicode: bool = True
    channels: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class Format:
    """One output format.

    Attributes:
        suffix: file names that end so are written in it; None where only its name says it.
        summary: what it is for, a few words of `--help`.
        writers: document -> the function that writes it ("module:function", imported when called),
            and the attributes of `Style` that it takes.
        prose: whether two of them are parted by an empty line.
        whole: whether it is one document: two of them, one after the other, are none.
    """

    suffix: str | None
    summary: str
    writers: Mapping[str, tuple[str, tuple[str, ...]]]
    prose: bool = False
    whole: bool = False


_VERDICTS = ("report", "inspect")
_LOOK = ("width", "color", "unicode")


def _verdicts(writer: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """A format of verdicts alone: `render.outcome` is the same for audits and inspections."""
    return dict.fromkeys(_VERDICTS, (writer, ()))


FORMATS: dict[str, Format] = {
    "table": Format(
        ".txt",
        "for people",
        {
            "report": ("bnaudit.render.table:report_to_text", (*_LOOK, "verbose")),
            "inspect": ("bnaudit.render.inspect_table:inspection_to_text", (*_LOOK, "verbose")),
            "init": ("bnaudit.render.init_table:init_to_text", ("width", "unicode")),
            "diff": ("bnaudit.render.diff_table:diff_to_text", _LOOK),
            "rules": ("bnaudit.render.rules_text:rules_to_text", ("width",)),
        },
        prose=True,
    ),
    "json": Format(
        ".json",
        "for programs",
        {
            "report": ("bnaudit.render.json_v1:document_text", ("channels",)),
            "inspect": ("bnaudit.render.json_v1:document_text", ("channels",)),
            "init": ("bnaudit.render.json_v1:document_text", ()),
            "diff": ("bnaudit.render.json_v1:document_text", ()),
            "rules": ("bnaudit.render.json_v1:document_text", ()),
        },
        whole=True,
    ),
    "sarif": Format(
        ".sarif", "for code scanning", _verdicts("bnaudit.render.sarif:report_to_sarif"), whole=True
    ),
    "junit": Format(
        ".xml", "for test reports", _verdicts("bnaudit.render.junit:report_to_junit"), whole=True
    ),
    "markdown": Format(
        ".md",
        "for pull-request comments",
        {
            **_verdicts("bnaudit.render.markdown:report_to_markdown"),
            "rules": ("bnaudit.render.rules_markdown:rules_to_markdown", ()),
        },
        prose=True,
    ),
    "github": Format(
        None, "annotations of GitHub Actions", _verdicts("bnaudit.render.github:report_to_github")
    ),
}


def formats_of(document: str) -> dict[str, Format]:
    """The formats in which one of `DOCUMENTS` is written."""
    return {name: form for name, form in FORMATS.items() if document in form.writers}


def render(name: str, document: str, content: Any, style: Style) -> str:
    """A document as text.

    Args:
        name: of a format in which the document is written.
        document: one of `DOCUMENTS`.
        content: its record.
        style: how it may look.
    """
    writer, taken = FORMATS[name].writers[document]
    module, function = writer.split(":")
    text: str = getattr(import_module(module), function)(
        content, **{attribute: getattr(style, attribute) for attribute in taken}
    )
    return text


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
