"""Two reports, or two models, put side by side."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from bnaudit.compare.baseline import really_gone
from bnaudit.compare.findings import BETTER, WORSE, graded, match_findings
from bnaudit.compare.layers import match_layers
from bnaudit.compare.movement import movements
from bnaudit.compare.settings import differences, limits
from bnaudit.compare.spread import beyond
from bnaudit.errors import UsageError
from bnaudit.records.diff import Diff, FindingChange, NumberChange
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.compare.findings import FindingMatch
    from bnaudit.compare.layers import LayerMatch
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
    _check_comparable(old, new)
    if frozen and stored is None:
        raise UsageError(
            "--frozen needs two model files whose stored values can be read",
            hint="reports do not keep them: name the models instead",
        )
    layers = match_layers(old.layers, new.layers)
    findings = match_findings(old.findings, new.findings, layers.renamed)
    gone = really_gone(findings.gone, new)
    moved = Skipped("the stored values are not at hand") if stored is None else movements(*stored)
    return Diff(
        old=old,
        new=new,
        appeared=findings.new,
        worse=_changes(findings, WORSE),
        better=_changes(findings, BETTER),
        gone=tuple(gone),
        unchanged=len(_changes(findings, 0)),
        not_judged=tuple(f for f in findings.gone if not any(f is g for g in gone)),
        added=layers.added,
        removed=layers.removed,
        renamed=layers.renamed,
        numbers=_numbers(layers),
        movements=moved,
        settings=tuple(differences(old, new)),
        frozen=_thawed(moved, frozen),
        fail_on=fail_on,
        notes=limits(old, new),
    )


def _check_comparable(old: Snapshot, new: Snapshot) -> None:
    if old.kind != new.kind:
        raise UsageError(
            f"{old.path} is an {old.kind}, {new.path} an {new.kind}: they cannot be compared",
            hint="audits come from `check` (or `diff --run`), inspections from `inspect`",
        )


def _changes(match: FindingMatch, wanted: int) -> tuple[FindingChange, ...]:
    graded_pairs = ((old, new, *graded(old, new)) for old, new in match.pairs)
    return tuple(FindingChange(o, n, why) for o, n, change, why in graded_pairs if change == wanted)


def _numbers(layers: LayerMatch) -> tuple[NumberChange, ...]:
    found = [
        NumberChange(new.label, metric, old.numbers[metric], number)
        for old, new in layers.pairs
        for metric, number in new.numbers.items()
        if metric in old.numbers and beyond(old.numbers[metric], number)
    ]
    return tuple(sorted(found, key=lambda change: -change.size))


def _thawed(moved: tuple[Movement, ...] | Skipped, patterns: Sequence[str]) -> tuple[str, ...]:
    """Layers that a pattern calls frozen, and that moved.

    Raises:
        UsageError: a pattern matches no layer: a typing error would freeze nothing.
    """
    if isinstance(moved, Skipped):
        return ()
    for pattern in patterns:
        if not any(fnmatchcase(movement.layer, pattern) for movement in moved):
            names = ", ".join(movement.layer for movement in moved[:6])
            raise UsageError(
                f"--frozen {pattern!r} matches none of the {len(moved)} layers of both files",
                hint=f"the layers are: {names}" if names else None,
            )
    return tuple(
        movement.layer
        for movement in moved
        if not movement.same and any(fnmatchcase(movement.layer, pattern) for pattern in patterns)
    )
