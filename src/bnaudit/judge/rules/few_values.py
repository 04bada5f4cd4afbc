"""BN102: too few values per channel for batch statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.examples import report as reports
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    if report.run is None or report.run.mode != "batch":
        return
    least = rule.limit("least")
    few = [layer for layer in report.layers if layer.m < least]
    if not few:
        return
    worst = min(few, key=lambda layer: layer.m)
    named = few[0].label if len(few) == 1 else f"{len(few)} layers, first {few[0].label},"
    verb, whose = ("has", "its") if len(few) == 1 else ("have", "their")
    yield rule.finding(
        f"{named} {verb} fewer than {least:g} values per channel in a batch (least: m = {worst.m} at "
        f"{worst.label}); {whose} statistics are mostly noise, and {whose} ratios describe the batch size.",
        layer=few[0].label if len(few) == 1 else None,
        severity=Severity.ERROR if worst.m == 1 else rule.severity,
        observed=float(worst.m),
        threshold=least,
        confidence="exact: m follows from the shapes of this audit",
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
    references=(
        "https://github.com/pytorch/pytorch/issues/156051",
        "https://github.com/facebookresearch/SparseConvNet/issues/190",
        "https://github.com/pytorch/pytorch/issues/19916",
    ),
    thresholds=(
        Threshold(
            "least",
            16.0,
            "values per channel in a batch (batch size times spatial positions)",
            "the projection leaves (m-2)/m of a random gradient: below 16 it removes more than an eighth",
        ),
    ),
    check=_check,
    healthy=reports.report,
    sick=lambda: reports.changed("head.bn", m=8),
)
