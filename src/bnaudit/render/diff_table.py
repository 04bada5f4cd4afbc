"""A comparison as text for people: what got worse first, then what changed, one verdict line last."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped
from bnaudit.render.diff_grids import movement_lines, number_lines
from bnaudit.render.table import MIN_WIDTH
from bnaudit.render.table.sheet import Sheet
from bnaudit.render.table.text import Charset, listing, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.diff import Diff, FindingChange
    from bnaudit.records.finding import Finding
    from bnaudit.records.snapshot import Snapshot
    from bnaudit.render.table.header import Entry

SHOWN = 20
"""Rows of a table; the JSON has all."""

_LABELS = len("settings") + 2
_NAMES = 6
_GOOD, _BAD = "bold green", "bold red"


def diff_to_text(diff: Diff, *, width: int = 100, color: bool = False, unicode: bool = True) -> str:
    """The comparison as `bnaudit diff` prints it.

    Args:
        diff: what to print.
        width: columns to fit into; anything below 60 counts as 60.
        color: whether to emit ANSI colour. Nothing is said by colour alone.
        unicode: whether letters beyond ASCII may be used.
    """
    sheet = Sheet(max(width, MIN_WIDTH), Charset(unicode))
    sheet.entries(" diff", _header(diff), _LABELS)
    _grave(sheet, "appeared", diff.appeared)
    _grave(sheet, "worse", [_told(change) for change in diff.worse])
    _mild(sheet, "better", [_told(change) for change in diff.better])
    _mild(sheet, "gone", diff.gone)
    _mild(sheet, "not judged any more", diff.not_judged)
    _numbers(sheet, diff)
    _movements(sheet, diff)
    sheet.closing(*_verdict(diff))
    return sheet.text(color=color)


def _header(diff: Diff) -> list[Entry]:
    entries: list[Entry] = [
        ("old", _side(diff.old), ""),
        ("new", _side(diff.new), ""),
        ("layers", _layers(diff), ""),
    ]
    if diff.renamed:
        pairs = [f"{one.old} is now {one.new}" for one in diff.renamed]
        entries.append(("", listing(pairs, _NAMES), ""))
    entries += [("note", note, "yellow") for note in diff.notes]
    return entries


def _side(side: Snapshot) -> str:
    of = "" if side.path == side.model else f" of {side.model}"
    kind = {"audit": "audit", "inspection": "inspection (nothing was run)"}[side.kind]
    layers, findings = plural(len(side.layers), "layer"), plural(len(side.findings), "finding")
    return f"{side.path}: {kind}{of}, {layers}, {findings}"


def _layers(diff: Diff) -> str:
    parts = [f"{len(diff.new.layers) - len(diff.added)} in both"]
    for word, layers in (("added", diff.added), ("removed", diff.removed)):
        if layers:
            names = listing([layer.label for layer in layers], _NAMES)
            parts.append(f"{len(layers)} {word} ({names})")
    if diff.renamed:
        parts.append(f"{len(diff.renamed)} renamed")
    return ", ".join(parts)


def _told(change: FindingChange) -> Finding:
    return replace(change.new, message=f"({change.why}) {change.new.message}")


def _grave(sheet: Sheet, title: str, findings: Sequence[Finding]) -> None:
    if findings:
        sheet.heading(f"{title}: {plural(len(findings), 'finding')}")
        sheet.findings(findings)


def _mild(sheet: Sheet, title: str, findings: Sequence[Finding]) -> None:
    if not findings:
        return
    sheet.heading(f"{title}: {plural(len(findings), 'finding')}")
    for finding in findings:
        where = finding.layer or "model"
        severity = finding.severity.label
        sheet.wrapped(f"{severity} {finding.rule} {where}: {finding.message}", "dim")
    sheet.gap()


def _numbers(sheet: Sheet, diff: Diff) -> None:
    if not diff.numbers:
        return
    sheet.heading("changed by more than their spread")
    sheet.lines += number_lines(diff.numbers[:SHOWN], sheet.charset, sheet.width)
    _more(sheet, len(diff.numbers))
    sheet.gap()


def _movements(sheet: Sheet, diff: Diff) -> None:
    if isinstance(diff.movements, Skipped):
        return
    moved = [movement for movement in diff.movements if not movement.same]
    if moved:
        sheet.heading("stored values that moved (largest change over largest value)")
        frozen = frozenset(diff.frozen)
        lines, notes = movement_lines(moved[:SHOWN], frozen, sheet.charset, sheet.width)
        sheet.lines += lines
        _more(sheet, len(moved))
        sheet.gap()
        sheet.notes(notes)
    still = len(diff.movements) - len(moved)
    if still:
        sheet.wrapped(f"{plural(still, 'layer')} with the same stored values in both", "dim")
        sheet.gap()


def _more(sheet: Sheet, count: int) -> None:
    if count > SHOWN:
        sheet.wrapped(f"and {count - SHOWN} more (all in the JSON)", "dim")


def _verdict(diff: Diff) -> tuple[str, str, str]:
    findings = (
        f"findings: {len(diff.appeared)} appeared, {len(diff.worse)} worse, "
        f"{len(diff.better)} better, {len(diff.gone)} gone, {diff.unchanged} unchanged"
    )
    parts = [findings]
    if diff.removed:
        parts.append(f"{plural(len(diff.removed), 'layer')} removed")
    if diff.frozen:
        parts.append(f"{plural(len(diff.frozen), 'frozen layer')} moved")
    if diff.exit_code == 3:
        return "NOTHING TO COMPARE (exit 3)", _BAD, "no BatchNorm on either side"
    if diff.exit_code:
        return "FAIL", _BAD, "; ".join([plural(diff.regressions, "regression"), *parts])
    return "PASS", _GOOD, "; ".join(["no regression", *parts])
