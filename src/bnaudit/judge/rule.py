"""What a rule is: its documentation, its thresholds and examples, and functions from records to findings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypedDict, Unpack

from bnaudit.records.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bnaudit.records.inspection import Inspection
    from bnaudit.records.report import Report


class Needs(Enum):
    """What a rule judges by.

    FILE rules read what the file stores. RUN rules read what an audit measured, on any batch. DATA
    rules compare with the data that the model was trained for: a synthetic batch cannot support them.
    """

    FILE = "file"
    RUN = "run"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number that a rule compares with; a configuration may set another.

    Attributes:
        name: kebab-case, the key in a configuration.
        value: the default.
        meaning: what is compared with it, with the unit.
        origin: where the number comes from: a derivation, a format's limit, or the distribution
            over the healthy models that it was read from.
    """

    name: str
    value: float
    meaning: str
    origin: str


class Details(TypedDict, total=False):
    """What a finding says besides its message; the fields of `Finding`."""

    layer: str | None
    severity: Severity
    fix: str
    observed: float | None
    threshold: float | None
    channels: tuple[int, ...]
    interval: tuple[float, float] | None
    confidence: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, self-documenting.

    Attributes:
        id: stable ("BN001"); never given to another rule.
        name: short kebab-case name.
        severity: of its findings, unless a finding says otherwise.
        needs: what it judges by.
        summary: what it does, one sentence.
        why: why what it finds is bad.
        fix: how to mend it.
        references: public issues and papers behind it, as URLs.
        thresholds: what it compares with.
        inspect: yields findings for what a file stores.
        check: yields findings for a measured report (without findings). A rule with both is judged
            by `check` in an audit and by `inspect` where nothing is run.
        healthy: makes a subject on which the rule is quiet.
        sick: makes a subject on which the rule fires.
        not_applicable: says why this subject gives the rule nothing to judge by, or None.
    """

    id: str
    name: str
    severity: Severity
    needs: Needs
    summary: str
    why: str
    fix: str
    references: tuple[str, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    inspect: Callable[[Rule, Inspection], Iterable[Finding]] | None = None
    check: Callable[[Rule, Report], Iterable[Finding]] | None = None
    healthy: Callable[[], Inspection | Report] | None = None
    sick: Callable[[], Inspection | Report] | None = None
    not_applicable: Callable[[Inspection | Report], str | None] | None = None

    def limit(self, name: str) -> float:
        """The threshold of this name, as configured."""
        return next(t.value for t in self.thresholds if t.name == name)

    def finding(self, message: str, **details: Unpack[Details]) -> Finding:
        """A finding of this rule, with the rule's own severity and fix unless told otherwise."""
        of_the_rule: Details = {
            "severity": self.severity,
            "fix": self.fix,
            "confidence": "read from the file" if self.needs is Needs.FILE else "",
        }
        settled: Details = {"layer": None, **of_the_rule, **details}
        return Finding(rule=self.id, name=self.name, message=message, **settled)
