"""The page of a fleet: the worst models first, then what is to be told, one verdict line last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.records.finding import Severity
from bnaudit.records.fleet import ENDED
from bnaudit.render.text.table import LEFT, RIGHT, Column, Room, Row, Table
from bnaudit.render.text.verdict import BAD, CAREFUL, GOOD
from bnaudit.render.text.words import listing, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.fleet import Fleet, FleetModel
    from bnaudit.render.text.sheet import Entry, Sheet

_WIDE = 160
"""Columns of a page that has room for sentences in the table; others have them below."""

_NAMES = 3
_LABELS = len("results") + 2
_WORDS = {
    "clean": "clean",
    "findings": "findings",
    "nothing-to-audit": "no BatchNorm",
    "failed": "not measured",
    "unreadable": "unreadable",
    "timeout": "out of time",
    "memory": "out of memory",
    "crashed": "crashed",
    "killed": "killed",
    "bug": "bug in bnaudit",
}


def write_fleet(sheet: Sheet, fleet: Fleet) -> None:
    """The whole page."""
    entries: list[Entry] = [("results", fleet.results, ""), ("models", _counted(fleet), "")]
    if fleet.done:
        entries.append(("time", _time(fleet), ""))
    entries += [("note", note, "yellow") for note in fleet.notes]
    sheet.entries(" fleet", entries, _LABELS)
    if fleet.models:
        rows = [Row(model, model.model, _severity(model)) for model in fleet.models]
        table = Table(rows, _COLUMNS, sheet.charset, sheet.width)
        sheet.table(table, more=fleet.more)
        if table.columns[-1].path != "worst":
            sheet.paragraphs(_reasons(fleet.models), "")
    sheet.closing(*verdict(fleet))


def verdict(fleet: Fleet) -> tuple[str, str, str]:
    """(word, style of the word, sentence)."""
    told = ", ".join(f"{count} {_WORDS[outcome]}" for outcome, count in fleet.outcomes.items())
    counts = f"{plural(fleet.errors, 'error')}, {plural(fleet.warnings, 'warning')}"
    sentence = (
        f"{plural(fleet.done, 'model')} ({told}); {counts}" if fleet.done else "no model is done"
    )
    left = 0 if fleet.entries is None else fleet.entries - fleet.done
    if left:
        return "UNFINISHED", CAREFUL, f"{sentence}; {plural(left, 'model')} to go"
    if not fleet.exit_code:
        return "PASS", GOOD, sentence
    return ("FAIL" if fleet.exit_code == 1 else f"FAIL (exit {fleet.exit_code})"), BAD, sentence


def _reasons(models: Sequence[FleetModel]) -> list[str]:
    """A line for each reason, with the models that share it."""
    found: dict[str, list[str]] = {}
    for model in models:
        if model.worst is not None:
            found.setdefault(model.worst, []).append(model.model)
    return [f"{listing(names, _NAMES)}: {worst}" for worst, names in found.items()]


def _counted(fleet: Fleet) -> str:
    of = "" if fleet.entries is None else f" of {fleet.entries}"
    before = f", {fleet.skipped} of them before" if fleet.skipped else ""
    return f"{fleet.done}{of} done{before}"


def _time(fleet: Fleet) -> str:
    mean = fleet.spent / fleet.done
    return f"{fleet.spent:.1f} s of audits, {mean:.2f} s a model, {fleet.longest:.1f} s the longest"


def _severity(model: FleetModel) -> Severity | None:
    if model.errors or model.outcome in (*ENDED, "failed", "unreadable", "bug"):
        return Severity.ERROR
    return Severity.WARNING if model.warnings or model.exit_code else None


_COLUMNS: tuple[Column[FleetModel], ...] = (
    Column("model", "model", str, 1, align=LEFT, room=Room(20, 60)),
    Column("verdict", "outcome", _WORDS.__getitem__, 2, align=LEFT),
    Column("BN", "layers", str, 5, align=RIGHT),
    Column("err", "errors", str, 3, align=RIGHT),
    Column("warn", "warnings", str, 4, align=RIGHT),
    Column("s", "seconds", "{:.2f}".format, 7),
    Column("worst finding, or why there is no verdict", "worst", str, 6, align=LEFT,
           room=Room(60, 200), absent="", from_width=_WIDE),
)  # fmt: skip
