"""What a rule is: its documentation, and a function from a report to findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.records.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bnaudit.records.report import Report


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, self-documenting.

    Attributes:
        id: stable ("BN001"); never given to another rule.
        name: short kebab-case name.
        severity: of its findings, unless a finding says otherwise.
        summary: what it does, one sentence.
        why: why what it finds is bad.
        fix: how to mend it.
        check: yields findings for a report without findings.
    """

    id: str
    name: str
    severity: Severity
    summary: str
    why: str
    fix: str
    check: Callable[[Rule, Report], Iterable[Finding]]

    def finding(
        self,
        message: str,
        *,
        layer: str | None = None,
        fix: str | None = None,
        severity: Severity | None = None,
        observed: float | None = None,
        threshold: float | None = None,
    ) -> Finding:
        """A finding of this rule."""
        return Finding(
            rule=self.id,
            name=self.name,
            severity=self.severity if severity is None else severity,
            layer=layer,
            message=message,
            fix=fix or self.fix,
            observed=observed,
            threshold=threshold,
        )
