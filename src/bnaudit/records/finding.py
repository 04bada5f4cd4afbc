"""A finding: what a rule saw, how far from its threshold, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from bnaudit.records.values import Count


class Severity(IntEnum):
    """How bad a finding is, in rising order."""

    INFO = 0
    WARNING = 1
    ERROR = 2

    @property
    def label(self) -> str:
        """The name as it is printed and stored in reports."""
        return self.name.lower()


Status = Literal["new", "worse", "known"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found.

    Attributes:
        rule: stable id ("BN001"); `bnaudit explain BN001` tells more.
        name: the rule's name ("no-batchnorm").
        severity: as the rule sets it.
        layer: label of the layer (name, or name#call), None for the whole model.
        message: the fact, one sentence.
        fix: one concrete remedy.
        observed: the number that was compared; None where the rule compares none, or where it is
            not finite (the message says so).
        threshold: what it was compared with; None as `observed`.
        channels: the channels it is about, empty for all or none in particular.
        interval: lower and upper quartile of `observed` over the batches, or its sampling interval;
            None where it is exact.
        confidence: how sure the finding is, one clause ("read from the file", "in all 8 batches").
        status: what the report given as --baseline says of it, None without one; known findings do
            not fail the run.
    """

    rule: str
    name: str
    severity: Severity
    layer: str | None
    message: str
    fix: str
    observed: float | None = None
    threshold: float | None = None
    channels: tuple[Count, ...] = ()
    interval: tuple[float, float] | None = None
    confidence: str = ""
    status: Status | None = None

    def counts(self, fail_on: Severity | None) -> bool:
        """Whether it makes the exit code 1: severe enough, and not known from an earlier report."""
        return fail_on is not None and self.severity >= fail_on and self.status != "known"


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A finding that the configuration silences: counted and shown, never dropped.

    Attributes:
        finding: what would have been reported.
        by: what silences it, as the user wrote it ("ignore: BN009", "layers 'head.*': BN009").
    """

    finding: Finding
    by: str


@dataclass(frozen=True, slots=True)
class RuleNotRun:
    """A rule that could not judge this report.

    Attributes:
        rule: stable id of the rule.
        name: the rule's name.
        reason: why ("synthetic data says nothing about drift").
    """

    rule: str
    name: str
    reason: str


NOT_SELECTED = "not selected"
"""Reason of a rule that the configuration leaves out."""

NEEDS_RUN = "needs a run of the model (bnaudit check)"
"""Reason of a rule about measurements where a file was read and not run."""
