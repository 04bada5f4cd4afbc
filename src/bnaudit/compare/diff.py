"""Two reports, or two models, put side by side."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from bnaudit.compare.baseline import really_gone
from bnaudit.compare.match import (
    BETTER,
    SAME,
    WORSE,
    beyond,
    differences,
    graded,
    limits,
    match_findings,
    match_layers,
)
from bnaudit.compare.movement import movements
from bnaudit.errors import UsageError
from bnaudit.records.diff import Diff, FindingChange, NumberChange, Renaming
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.compare.match import FindingMatch, LayerMatch
    from bnaudit.records.diff import Movement
    from bnaudit.records.finding import Severity
    from bnaudit.records.inspection import Inspection
    from bnaudit.records.snapshot import Snapshot


def compare(
    old: Snapshot,
    new: Snapshot,
    *,
    fail_on: Severity | None,
    stored: tuple[Inspection, Inspection] | None = None,
    frozen: Sequence[str] = (),
) -> Diff:
    """What changed from one report to another.

    Args:
        old: the report that is compared with.
        new: the report that is judged.
        fail_on: severity from which new and worse findings fail, None for never.
        stored: what the two files store, where both are models.
        frozen: patterns of layers that must not have moved.

    Raises:
        UsageError: one is an audit and the other an inspection, or `frozen` without two models.
    """
    if old.kind != new.kind:
        raise UsageError(
            f"{old.path} is an {old.kind}, {new.path} an {new.kind}: they cannot be compared",
            hint="audits come from `check` (or `diff --run`), inspections from `inspect`",
        )
    layers = match_layers(old.layers, new.layers)
    findings = match_findings(old.findings, new.findings, layers.renamed)
    gone = tuple(really_gone(findings.gone, new))
    return Diff(
        old=old,
        new=new,
        appeared=findings.new,
        worse=_changes(findings, WORSE),
        better=_changes(findings, BETTER),
        gone=gone,
        unchanged=len(_changes(findings, SAME)),
        not_judged=tuple(f for f in findings.gone if not any(f is g for g in gone)),
        added=layers.added,
        removed=layers.removed,
        renamed=tuple(Renaming(*labels) for labels in layers.renamed.items()),
        numbers=_numbers(layers),
        movements=_moved(stored, frozen),
        settings=differences(old, new),
        fail_on=fail_on,
        notes=limits(old, new),
    )


def _changes(match: FindingMatch, wanted: int) -> tuple[FindingChange, ...]:
    graded_pairs = ((old, new, *graded(old, new)) for old, new in match.pairs)
    return tuple(FindingChange(o, n, why) for o, n, change, why in graded_pairs if change == wanted)


def _numbers(layers: LayerMatch) -> tuple[NumberChange, ...]:
    found = [
        NumberChange(after.label, metric, before.numbers[metric], number)
        for before, after in layers.pairs
        for metric, number in after.numbers.items()
        if metric in before.numbers and beyond(before.numbers[metric], number)
    ]
    return tuple(sorted(found, key=lambda change: -change.size))


def _moved(
    stored: tuple[Inspection, Inspection] | None, patterns: Sequence[str]
) -> tuple[Movement, ...] | Skipped:
    """The movements, those marked that a pattern calls frozen.

    Raises:
        UsageError: patterns without stored values, or one that matches no layer: a typing error would
            freeze nothing.
    """
    if stored is None:
        if patterns:
            raise UsageError(
                "--frozen needs two model files whose stored values can be read",
                hint="reports do not keep them: name the models instead",
            )
        return Skipped("the stored values are not at hand")
    moved = movements(*stored)
    for pattern in patterns:
        if not any(fnmatchcase(movement.layer, pattern) for movement in moved):
            names = ", ".join(movement.layer for movement in moved[:6])
            raise UsageError(
                f"--frozen {pattern!r} matches none of the {len(moved)} layers of both files",
                hint=f"the layers are: {names}" if names else None,
            )
    thawed = (
        not m.same and any(fnmatchcase(m.layer, pattern) for pattern in patterns) for m in moved
    )
    return tuple(replace(m, frozen_but_moved=here) for m, here in zip(moved, thawed, strict=True))
