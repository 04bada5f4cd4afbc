"""BN102: too few values per channel for batch statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.rule import Needs, Rule
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report

MINIMUM = 16
"""Below it the projection removes a visible share of any gradient: of random G it leaves (m-2)/m."""


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    if report.run is None or report.run.mode != "batch":
        return
    few = [layer for layer in report.layers if layer.m < MINIMUM]
    if not few:
        return
    worst = min(few, key=lambda layer: layer.m)
    named = few[0].label if len(few) == 1 else f"{len(few)} layers, first {few[0].label},"
    verb, whose = ("has", "its") if len(few) == 1 else ("have", "their")
    yield rule.finding(
        f"{named} {verb} fewer than {MINIMUM} values per channel in a batch (least: m = {worst.m} at "
        f"{worst.label}); {whose} statistics are mostly noise, and {whose} ratios describe the batch size.",
        layer=few[0].label if len(few) == 1 else None,
        severity=Severity.ERROR if worst.m == 1 else rule.severity,
        observed=float(worst.m),
        threshold=float(MINIMUM),
    )


RULE = Rule(
    id="BN102",
    name="few-values",
    severity=Severity.WARNING,
    needs=Needs.RUN,
    summary="Looks for layers with too few values per channel (batch size times spatial positions).",
    why="Batch statistics of m values leave (m-2)/m of a random gradient; at m = 2 next to nothing "
    "survives, and at m = 1 BatchNorm cannot be evaluated and PyTorch refuses to train.",
    fix="audit with a larger --batch-size (or larger inputs), the one used in training",
    check=_check,
)
