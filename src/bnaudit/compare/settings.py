"""What limits a comparison: numbers under other settings are other numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnaudit.records.snapshot import Snapshot


def differences(old: Snapshot, new: Snapshot) -> list[tuple[str, str, str]]:
    """(setting, old, new) where the two reports were made differently."""
    names = [name for name in old.settings if name in new.settings]
    return [
        (name, old.settings[name], new.settings[name])
        for name in names
        if old.settings[name] != new.settings[name]
    ]


def limits(old: Snapshot, new: Snapshot) -> tuple[str, ...]:
    """The same as sentences, for people."""
    notes = []
    changed = differences(old, new)
    if changed:
        listed = "; ".join(f"{name} {before}, now {after}" for name, before, after in changed)
        notes.append(f"made with other settings ({listed}): the comparison is limited")
    if old.tool != new.tool:
        notes.append(f"written by bnaudit {old.tool}, now {new.tool}: rules may have changed")
    return tuple(notes)
