"""From numbers to findings. No torch here: rules read the records of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.rules import RULES

if TYPE_CHECKING:
    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report


def judge(report: Report) -> tuple[Finding, ...]:
    """All findings of all rules, worst first, in the order of the rules and of the layers."""
    found = [finding for rule in RULES for finding in rule.check(rule, report)]
    return tuple(sorted(found, key=lambda f: -f.severity))
