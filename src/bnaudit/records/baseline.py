"""How a report compares with an earlier one that its findings are held against."""

from __future__ import annotations

from dataclasses import dataclass

from bnaudit.records.values import Count


@dataclass(frozen=True, slots=True)
class Baseline:
    """Counts of findings by what the earlier report says of them.

    Attributes:
        path: of the earlier report, as the user typed it.
        known: findings that it has too, no worse; they do not fail the run.
        new: findings that it does not have.
        worse: findings that it has less severely.
        gone: findings of its own that are no more, of rules that judged this report too.
        notes: what limits the comparison, one sentence each.
    """

    path: str
    known: Count
    new: Count
    worse: Count
    gone: Count
    notes: tuple[str, ...] = ()
