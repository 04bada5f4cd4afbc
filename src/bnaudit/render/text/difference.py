"""The page of a comparison: what got worse first, then what changed, one verdict line last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.text.sheet import told
from bnaudit.render.text.table import LEFT, Column, Room, Row, Table
from bnaudit.render.text.verdict import BAD, GOOD
from bnaudit.render.text.words import error_size, factor, listing, percent, plural, significant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.diff import Diff, FindingChange, Movement, NumberChange
    from bnaudit.records.finding import Finding
    from bnaudit.records.snapshot import Snapshot
    from bnaudit.render.text.sheet import Entry, Sheet

SHOWN = 20
"""Rows of a table; the JSON has all."""

_LABELS = len("settings") + 2
_NAMES = 6
_METRICS = {
    "gain": "|γ|/σ",
    "reduction": "|g|/|G|",
    "curvature": "ρ",
    "mean_drift": "mean drift",
    "variance_drift": "var drift",
}


def write_difference(sheet: Sheet, diff: Diff) -> None:
    """The whole page."""
    sheet.entries(" diff", _header(diff), _LABELS)
    _findings(sheet, "appeared", diff.appeared, grave=True)
    _findings(sheet, "worse", _changed(diff.worse), grave=True)
    _findings(sheet, "better", _changed(diff.better))
    _findings(sheet, "gone", diff.gone)
    _findings(sheet, "not judged any more", diff.not_judged)
    if diff.numbers:
        sheet.heading("changed by more than their spread")
        rows = [Row(change, change.layer) for change in diff.numbers[: sheet.most(SHOWN)]]
        numbers = Table(rows, _NUMBERS, sheet.charset, sheet.width)
        sheet.table(numbers, more=len(diff.numbers) - len(rows))
    movements = () if isinstance(diff.movements, Skipped) else diff.movements
    moved = [_Moved(m, m.layer in diff.frozen) for m in movements if not m.same]
    if moved:
        sheet.heading("stored values that moved (largest change over largest value)")
        lines = [Row(layer, layer.layer.layer) for layer in moved[: sheet.most(SHOWN)]]
        table = Table(lines, _MOVEMENTS, sheet.charset, sheet.width)
        sheet.table(table, more=len(moved) - len(lines))
        sheet.notes(table.notes)
    if len(moved) < len(movements):
        still = plural(len(movements) - len(moved), "layer")
        sheet.paragraphs([f"{still} with the same stored values in both"])
    sheet.closing(*_verdict(diff))


def _header(diff: Diff) -> list[Entry]:
    layers = [f"{len(diff.new.layers) - len(diff.added)} in both"]
    for word, changed in (("added", diff.added), ("removed", diff.removed)):
        if changed:
            names = listing([layer.label for layer in changed], _NAMES)
            layers.append(f"{len(changed)} {word} ({names})")
    if diff.renamed:
        layers.append(f"{len(diff.renamed)} renamed")
    entries: list[Entry] = [
        ("old", _side(diff.old), ""),
        ("new", _side(diff.new), ""),
        ("layers", ", ".join(layers), ""),
    ]
    if diff.renamed:
        pairs = [f"{one.old} is now {one.new}" for one in diff.renamed]
        entries.append(("", listing(pairs, _NAMES), ""))
    return entries + [("note", note, "yellow") for note in diff.notes]


def _side(side: Snapshot) -> str:
    of = "" if side.path == side.model else f" of {side.model}"
    kind = {"audit": "audit", "inspection": "inspection (nothing was run)"}[side.kind]
    layers, findings = plural(len(side.layers), "layer"), plural(len(side.findings), "finding")
    return f"{side.path}: {kind}{of}, {layers}, {findings}"


def _changed(changes: Sequence[FindingChange]) -> list[Finding]:
    return [replace(c.new, message=f"({c.why}) {c.new.message}") for c in changes]


def _findings(
    sheet: Sheet, title: str, findings: Sequence[Finding], *, grave: bool = False
) -> None:
    """In full where something has to be done about them, else in a line each."""
    if findings:
        sheet.heading(f"{title}: {plural(len(findings), 'finding')}")
        if grave:
            sheet.findings(findings)
        else:
            sheet.paragraphs(told(finding) for finding in findings)


@dataclass(frozen=True, slots=True)
class _Moved:
    """What the columns read: a layer, and whether it should have stayed."""

    layer: Movement
    frozen: bool


def _verdict(diff: Diff) -> tuple[str, str, str]:
    parts = [
        f"findings: {len(diff.appeared)} appeared, {len(diff.worse)} worse, "
        f"{len(diff.better)} better, {len(diff.gone)} gone, {diff.unchanged} unchanged"
    ]
    if diff.removed:
        parts.append(f"{plural(len(diff.removed), 'layer')} removed")
    if diff.frozen:
        parts.append(f"{plural(len(diff.frozen), 'frozen layer')} moved")
    if diff.exit_code == 3:
        return "NOTHING TO COMPARE (exit 3)", BAD, "no BatchNorm on either side"
    if diff.exit_code:
        return "FAIL", BAD, "; ".join([plural(diff.regressions, "regression"), *parts])
    return "PASS", GOOD, "; ".join(["no regression", *parts])


def _times(change: NumberChange) -> str:
    """How many times as much; a difference where the sign changed."""
    old, new = change.old.value, change.new.value
    return factor(new / old) if old * new > 0 else f"{new - old:+.2g}"


def _share(change: float) -> str:
    if change == 0:
        return "0"
    return percent(change) if change >= 0.001 else error_size(change)


def _what(moved: _Moved) -> str:
    names = {(True, True): "both", (True, False): "parameters", (False, True): "statistics"}
    text = names.get((moved.layer.parameters, moved.layer.statistics), "not comparable")
    return f"FROZEN: {text}" if moved.frozen else text


_NUMBERS: tuple[Column[NumberChange], ...] = (
    Column("layer", "layer", str, 1, align=LEFT, room=Room(14, 48)),
    Column("number", "metric", _METRICS.__getitem__, 2, align=LEFT, room=Room(10, 10)),
    Column("old", "old.value", significant, 3),
    Column("new", "new.value", significant, 4, style="bold"),
    Column("change", "", _times, 5),
)
_MOVEMENTS: tuple[Column[_Moved], ...] = (
    Column("layer", "layer.layer", str, 1, align=LEFT, room=Room(14, 48)),
    Column("γ", "layer.gamma", _share, 3),
    Column("β", "layer.beta", _share, 4),
    Column("mean", "layer.running_mean", _share, 5, group="running"),
    Column("variance", "layer.running_var", _share, 6, group="running"),
    Column("moved", "", _what, 2, align=LEFT, room=Room(15, 23)),
)
