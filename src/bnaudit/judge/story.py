"""One story a report: what one fact explains is told with it, not beside it.

Rules look at the records by themselves, and several see the same thing: statistics at (0, 1) drift, a
gamma of 0 moves what the next layer expects, an Inf is beyond float16. Here a consequence becomes a clause
of its cause's finding, which takes over its severity where that is higher. What the configuration silences
is neither cause nor consequence.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.judge.readers import feeders
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report

_DRIFT = ("BN201", "BN202")

HERE: Mapping[str, tuple[str, ...]] = {
    "BN004": _DRIFT,
    "BN005": (*_DRIFT, "BN206"),
    "BN006": ("BN011",),
    "BN008": ("BN018", "BN206"),
    "BN009": ("BN203",),
    "BN011": _DRIFT,
    "BN013": _DRIFT,
    "BN201": ("BN202",),
    "BN202": ("BN201",),
    "BN206": ("BN203",),
    "BN210": (*_DRIFT, "BN020"),
}
"""Rule -> what it explains at its own layer and channels, and everywhere where it is about the model."""

BEHIND: Mapping[str, tuple[str, ...]] = {
    "BN008": _DRIFT,
    "BN009": _DRIFT,
    "BN010": _DRIFT,
    "BN017": _DRIFT,
    "BN203": _DRIFT,
}
"""Rule -> what a warning of it explains at the next layers: they expect what training passed on."""

IN_FRONT: Mapping[str, tuple[str, ...]] = {"BN009": ("BN203",)}
"""Rule -> what a warning of it explains at the layers in front: no gradient comes through."""

ANYWHERE: Mapping[str, tuple[str, ...]] = {
    "BN005": ("BN209",),
    "BN007": ("BN209",),
    "BN008": ("BN208", "BN209"),
    "BN009": ("BN204", "BN208", "BN209"),
    "BN010": ("BN208",),
    "BN011": ("BN209",),
    "BN013": ("BN209",),
    "BN203": ("BN204", "BN208"),
    "BN204": ("BN208",),
    "BN206": ("BN208",),
    "BN210": ("BN209",),
}
"""Rule -> what a warning of it explains about the model as a whole: another function was measured.

Drift is not among them: the loss with batch statistics does not depend on what is stored.
"""


def told_once(findings: Sequence[Finding], report: Report) -> tuple[Finding, ...]:
    """The findings with each consequence in its cause's.

    Args:
        findings: after the configuration, in the order of the rules.
        report: whose layers they are about.
    """
    reads = feeders(report)
    owners = {layer.label: layer.name for layer in report.layers}
    kept = dict(enumerate(findings))
    # What a file stores comes before what it does; of two that explain each other the worse one leads.
    order = sorted(
        kept,
        key=lambda i: (
            kept[i].rule != "BN210",
            kept[i].rule in _DRIFT,
            kept[i].rule > "BN2",
            -kept[i].severity,
        ),
    )
    for place in order:
        if place in kept:
            cause = kept[place]
            explained = [
                i for i, f in kept.items() if i != place and _explains(cause, f, reads, owners)
            ]
            for other in explained:
                kept[place] = _with(kept[place], kept.pop(other))
    return tuple(kept.values())


def _explains(
    cause: Finding,
    other: Finding,
    reads: Mapping[str, tuple[str, ...]],
    owners: Mapping[str, str],
) -> bool:
    def is_in(table: Mapping[str, tuple[str, ...]]) -> bool:
        return other.rule in table.get(cause.rule, ())

    serious = cause.severity > Severity.INFO
    if is_in(HERE) and cause.layer is None and serious and cause.rule != "BN206":
        return True
    if cause.layer is not None and other.layer is not None:
        within = set(other.channels) <= set(cause.channels) or not cause.channels
        # BN210 is about all calls of a layer, whichever of them is told to drift.
        at = owners.get(other.layer, other.layer) if cause.rule == "BN210" else other.layer
        here = is_in(HERE) and cause.layer == at and (within or other.rule in _DRIFT)
        behind = is_in(BEHIND) and cause.layer in reads.get(other.layer, ())
        front = is_in(IN_FRONT) and other.layer in reads.get(cause.layer, ())
        if here and (serious or other.severity is Severity.INFO):
            return True
        if serious and (behind or front):
            return True
    return serious and is_in(ANYWHERE)


def _with(cause: Finding, consequence: Finding) -> Finding:
    """The cause, and the consequence's fact right behind its own."""
    fact, *rest = cause.message.split("; ")
    told = consequence.message.split("; ")[0]
    at = "" if consequence.layer in {None, cause.layer} else f"{consequence.layer}: "
    clauses = [fact, f"{at}{told} ({consequence.rule})", *rest]
    return replace(
        cause, message="; ".join(clauses), severity=max(cause.severity, consequence.severity)
    )
