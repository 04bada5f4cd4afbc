"""What a comparison of two reports amounts to: the counts that the table and the JSON share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bnaudit.records.diff import Diff
from bnaudit.records.finding import Severity
from bnaudit.records.values import Count, Limits, Skipped


@dataclass(frozen=True, slots=True)
class DiffSummary:
    """Counts of what changed.

    Attributes:
        appeared: findings that only the new report has.
        worse: findings of both that got worse.
        better: findings of both that got better.
        gone: findings that only the old report has.
        unchanged: findings that are what they were.
        added: layers that only the new report has.
        removed: layers that only the old report has.
        renamed: layers that are the same under another label.
        numbers: numbers that changed beyond their spread.
        moved: layers whose stored values are not the same, or could not be compared.
        frozen_but_moved: layers that should not have moved, and did.
        regressions: what the exit code counts: appeared and worse findings at or above `fail_on`,
            frozen layers that moved, and removed layers where `fail_on` is warning or info.
        fail_on: severity from which new and worse findings fail, None for never.
        exit_code: 0 no regression, 1 regressions, 3 no BatchNorm on either side.
    """

    appeared: Count
    worse: Count
    better: Count
    gone: Count
    unchanged: Count
    added: Count
    removed: Count
    renamed: Count
    numbers: Count
    moved: Count
    frozen_but_moved: Count
    regressions: Count
    fail_on: Severity | None
    exit_code: Annotated[int, Limits(among=(0, 1, 3))]


def summarize_diff(diff: Diff) -> DiffSummary:
    """Counts what changed."""
    moved = () if isinstance(diff.movements, Skipped) else diff.movements
    return DiffSummary(
        appeared=len(diff.appeared),
        worse=len(diff.worse),
        better=len(diff.better),
        gone=len(diff.gone),
        unchanged=diff.unchanged,
        added=len(diff.added),
        removed=len(diff.removed),
        renamed=len(diff.renamed),
        numbers=len(diff.numbers),
        moved=sum(not movement.same for movement in moved),
        frozen_but_moved=len(diff.frozen),
        regressions=diff.regressions,
        fail_on=diff.fail_on,
        exit_code=diff.exit_code,
    )
