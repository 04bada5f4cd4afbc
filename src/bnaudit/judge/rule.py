"""What a rule is: its documentation, its thresholds and examples, and functions from records to findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, TypedDict, Unpack

from bnaudit.records.finding import Finding, Severity
from bnaudit.records.inspection import Inspection
from bnaudit.records.report import Report
from bnaudit.records.values import Finite, Limits

Name = Annotated[str, Limits(pattern="^[a-z0-9-]+$")]
Url = Annotated[str, Limits(pattern="^https://")]


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

    name: Name
    value: Finite
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
        needs: what it judges by: what the file stores, an audit, or an audit on real data.
        summary: what it does, one sentence.
        why: why what it finds is bad.
        fix: how to mend it.
        references: public issues and papers behind it, as URLs.
        thresholds: what it compares with; a configuration may set other values.
        inspect: yields findings for what a file stores.
        check: yields findings for a measured report (without findings). A rule with both is judged
            by `check` in an audit and by `inspect` where nothing is run.
        healthy: makes a subject on which the rule is quiet.
        sick: makes a subject on which the rule fires.
        not_applicable: says why this subject gives the rule nothing to judge by, or None.
    """

    id: Annotated[str, Limits(pattern="^BN[0-9]{3}$")]
    name: Name
    severity: Severity
    needs: Needs
    summary: str
    why: str
    fix: str
    references: tuple[Url, ...] = ()
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


@dataclass(frozen=True, slots=True)
class Entry:
    """A rule and what it says of its own sick example.

    Attributes:
        rule: the rule.
        example: the finding, or None for a rule without an example.
    """

    rule: Rule
    example: Finding | None


@dataclass(frozen=True, slots=True)
class RuleList:
    """The rules as documentation.

    Attributes:
        rules: each with what it finds in its own example.
    """

    rules: tuple[Entry, ...]
