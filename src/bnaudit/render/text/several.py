"""The table of several models of one command: a line a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.records.inspection import InspectionReport
from bnaudit.render.text.table import LEFT, RIGHT, Column, Room, Row, Table
from bnaudit.render.text.verdict import BAD, GOOD
from bnaudit.render.text.words import plural, significant
from bnaudit.summary.audit import summarize
from bnaudit.summary.inspection import summarize_inspection
from bnaudit.summary.outcome import word_of

if TYPE_CHECKING:
    from bnaudit.records.run import Failure
    from bnaudit.records.several import Entry, Several
    from bnaudit.render.text.sheet import Sheet


@dataclass(frozen=True, slots=True)
class Line:
    """What the columns read; None where a model has no report, or the report no such number."""

    path: str
    word: str
    layers: int | None = None
    errors: int | None = None
    warnings: int | None = None
    gain: float | None = None
    reduction: float | None = None
    deployed: str | None = None


def line_of(entry: Entry) -> Line:
    """The numbers that models are compared by."""
    report = entry.report
    if report is None:
        return Line(entry.path, f"NO REPORT (exit {entry.exit_code})")
    word = word_of(report)
    if isinstance(report, InspectionReport):
        read = summarize_inspection(report)
        return Line(entry.path, word, read.layers, read.errors, read.warnings, read.gain)
    found = summarize(report)
    return Line(
        entry.path,
        word,
        found.layers,
        found.errors,
        found.warnings,
        found.gain,
        found.reduction,
        found.deployed,
    )


def write_several(sheet: Sheet, several: Several) -> None:
    """The table, why models have no report, and how many passed."""
    count = plural(len(several.entries), "model")
    sheet.entries(f" {several.command}", [("models", count, "")], len("models") + 2)
    rows = [Row(line_of(entry), entry.path) for entry in several.entries]
    table = Table(rows, COLUMNS, sheet.charset, sheet.width, margin=0)
    sheet.table(table)
    for entry in several.entries:
        if entry.failure is not None:
            sheet.wrapped(f"✗ {reason_of(entry.path, entry.failure)}", "bold red")
    if any(entry.failure for entry in several.entries):
        sheet.gap()
    sheet.paragraphs(table.legend())
    passed = sum(entry.exit_code == 0 for entry in several.entries)
    word, style = ("FAIL", BAD) if several.exit_code else ("PASS", GOOD)
    sheet.closing(word, style, f"{passed} of {count} passed; exit code {several.exit_code}")


def reason_of(path: str, failure: Failure) -> str:
    """Why a model has no report; most errors begin with its name."""
    message = failure.message
    return message if message.startswith(path) else f"{path}: {message}"


COLUMNS: tuple[Column[Line], ...] = (
    Column("model", "path", str, 1, align=LEFT, room=Room(16, 60)),
    Column("verdict", "word", str, 1, align=LEFT),
    Column("layers", "layers", str, 3, align=RIGHT),
    Column("errors", "errors", str, 2, align=RIGHT),
    Column("warnings", "warnings", str, 4, align=RIGHT),
    Column("|γ|/σ", "gain", significant, 5, (1, 0, "|γ|/σ: median over the layers")),
    Column(
        "|g|/|G|",
        "reduction",
        significant,
        6,
        (1, 1, "; |g|/|G|: the same, measured"),
        when=lambda lines, _: any(line.reduction is not None for line in lines),
    ),
    Column(
        "deployed",
        "deployed",
        str,
        7,
        align=LEFT,
        when=lambda lines, _: any(line.deployed is not None for line in lines),
    ),
)
