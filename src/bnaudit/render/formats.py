"""The output formats by name: a new one is one file in this folder and one line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnaudit.documents import InspectionReport, Report

    AnyReport = Report | InspectionReport


@dataclass(frozen=True, slots=True)
class Style:
    """How text may look, and how much of the report is wanted.

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


@dataclass(frozen=True, slots=True)
class Format:
    """One output format.

    Attributes:
        suffix: file names that end so are written in it; None where only its name says it.
        summary: what it is for, a few words of `--help`.
        render: makes the document.
    """

    suffix: str | None
    summary: str
    render: Callable[[AnyReport, Style], str]


def _table(report: AnyReport, style: Style) -> str:
    return report.to_table(
        width=style.width, color=style.color, unicode=style.unicode, verbose=style.verbose
    )


def _json(report: AnyReport, style: Style) -> str:
    return report.to_json(channels=style.channels)


def _sarif(report: AnyReport, _: Style) -> str:
    from bnaudit.render.sarif import report_to_sarif

    return report_to_sarif(report)


def _junit(report: AnyReport, _: Style) -> str:
    from bnaudit.render.junit import report_to_junit

    return report_to_junit(report)


def _markdown(report: AnyReport, _: Style) -> str:
    from bnaudit.render.markdown import report_to_markdown

    return report_to_markdown(report)


def _github(report: AnyReport, _: Style) -> str:
    from bnaudit.render.github import report_to_github

    return report_to_github(report)


FORMATS: dict[str, Format] = {
    "table": Format(".txt", "for people", _table),
    "json": Format(".json", "for programs", _json),
    "sarif": Format(".sarif", "for code scanning", _sarif),
    "junit": Format(".xml", "for test reports", _junit),
    "markdown": Format(".md", "for pull-request comments", _markdown),
    "github": Format(None, "annotations of GitHub Actions", _github),
}


def format_of(file_name: str) -> str | None:
    """The format that a file name's suffix stands for, or None."""
    name = file_name.lower()
    if name.endswith(".sarif.json"):
        return "sarif"
    endings = ((f.suffix, key) for key, f in FORMATS.items() if f.suffix is not None)
    return next((key for suffix, key in endings if name.endswith(suffix)), None)
