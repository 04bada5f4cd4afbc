"""From one hit a layer to findings: where most layers share a fact, it is a fact of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bnaudit.judge.rule import Details, Rule
    from bnaudit.records.finding import Finding

SHARE = 0.75
"""Above this share of the layers, a list of layers would only repeat itself."""

FEWEST = 4
"""In a smaller model each layer is worth a line of its own."""

MANY = 5
"""More infos than this are one: they ask for nothing, and would bury what does."""

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Hit:
    """What a rule saw at one layer.

    Attributes:
        layer: its name.
        message: the fact, about this layer.
        severity: of this layer's finding.
        observed, threshold, channels, confidence, fix: as in `Finding`; None for the rule's own.
    """

    layer: str
    message: str
    severity: Severity
    observed: float | None = None
    threshold: float | None = None
    channels: tuple[int, ...] = ()
    confidence: str | None = None
    fix: str | None = None

    def details(self) -> Details:
        """What a finding of this hit says besides its message, layer and channels."""
        details: Details = {
            "severity": self.severity,
            "observed": self.observed,
            "threshold": self.threshold,
        }
        if self.confidence is not None:
            details["confidence"] = self.confidence
        if self.fix is not None:
            details["fix"] = self.fix
        return details


def findings(rule: Rule, hits: Sequence[Hit], layers: int, shared: str) -> Iterator[Finding]:
    """One finding a hit, or a single one for the model where most layers are hit.

    Hits of different severity are told apart: one error among many infos keeps its layer. A single
    finding quotes the hit with the largest number, and has no channels.

    Args:
        rule: whose findings they are.
        hits: in the order of the layers.
        layers: how many layers were looked at.
        shared: the fact about several layers, without its subject ("have a non-positive eps").
    """
    for severity in sorted({hit.severity for hit in hits}, reverse=True):
        alike = [hit for hit in hits if hit.severity is severity]
        asks_nothing = severity is Severity.INFO and len(alike) > MANY
        if asks_nothing or (layers >= FEWEST and len(alike) > SHARE * layers):
            worst = max(alike, key=lambda hit: abs(hit.observed or 0.0))
            names = ", ".join(hit.layer for hit in alike[:_SHOWN])
            subject = f"{len(alike)} of {layers} BatchNorm layers ({names}, ...)"
            if len(alike) == layers:
                subject = f"all {layers} BatchNorm layers"
            yield rule.finding(
                f"{subject} {shared}; at {worst.layer}: {worst.message}",
                **worst.details(),
            )
            continue
        for hit in alike:
            own: Details = hit.details()
            own["layer"], own["channels"] = hit.layer, hit.channels
            yield rule.finding(hit.message, **own)
