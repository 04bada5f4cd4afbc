"""The output formats by name: a new one is one file in this folder and one line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.records.report import Report


@dataclass(frozen=True, slots=True)
class Style:
    """How text may look, and how much of the report is wanted.

    Attributes:
        width: columns to fit into.
        color: whether ANSI colour may be used.
        unicode: whether letters beyond ASCII may be used.
        channels: whether per-channel arrays are included.
    """

    width: int = 100
    color: bool = False
    unicode: bool = True
    channels: bool = False


@dataclass(frozen=True, slots=True)
class Format:
    """One output format.

    Attributes:
        suffix: file names that end so are written in it.
        render: makes the document.
    """

    suffix: str
    render: Callable[[Report, Style], str]


def _table(report: Report, style: Style) -> str:
    return report.to_table(width=style.width, color=style.color, unicode=style.unicode)


def _json(report: Report, style: Style) -> str:
    return report.to_json(channels=style.channels)


FORMATS: dict[str, Format] = {
    "table": Format(".txt", _table),
    "json": Format(".json", _json),
}
