"""BN211: statistics that no batch was found to have."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.drift_text import channels_text
from bnaudit.judge.examples.report import matched
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.records.finding import NEEDS_RUN, Severity
from bnaudit.records.report import Report
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.inspection import Inspection
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.matching import Matching


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    matching = _matching(report)
    if matching is None:
        return
    limit = rule.limit("channel")
    left = {x.name: x for x in reversed(report.layers) if not isinstance(x.mismatch, Skipped)}
    far = {name: _far(layer) for name, layer in left.items()}
    # What contradicts its neighbours pulls them along, less far than it is off itself.
    worst = max((max(found.values(), default=0.0) for found in far.values()), default=0.0)
    limit_here = max(limit, _PULLED * worst)
    hits = [
        Hit(
            name,
            f"{channels_text(channels)}: no batch was found to have the running statistics of "
            f"{len(channels)} of {layer.channels}; channel {most} stays {far[name][most]:.2g} away",
            rule.severity,
            far[name][most],
            limit,
            channels,
            confidence=f"the nearest of {len(matching.steps)} batches, optimised in up to "
            f"{max(matching.steps)} steps",
        )
        for name, layer in reversed(left.items())
        if (most := max(far[name], key=lambda c: far[name][c], default=None)) is not None
        and far[name][most] > limit_here
        and (channels := tuple(c for c, d in far[name].items() if d > limit))
    ]
    yield from findings(rule, hits, len(report.layers), "have running statistics that no batch has")


_PULLED = 0.5
"""Of the farthest layer. So no other one is told of in 112 of the 120 cases of docs/matched.md."""


def _far(layer: LayerReport) -> dict[int, float]:
    """Channel -> what is left; what is stored as NaN or below 0 is no mean and variance (BN006, BN007)."""
    left = layer.mismatch
    each = () if isinstance(left, Skipped) else left.per_channel
    return {c: d for c, d in enumerate(each) if isfinite(d)}


def _matching(report: Inspection | Report) -> Matching | None:
    run = report.run if isinstance(report, Report) else None
    return None if run is None else run.data.matching


def _not_applicable(subject: Inspection | Report) -> str | None:
    if not isinstance(subject, Report) or subject.run is None:
        return NEEDS_RUN
    matching = subject.run.data.matching
    if matching is None:
        return "needs batches that were matched to the statistics (--data matched)"
    if matching.kept:
        return f"an input was left as it was drawn, and may be why ({matching.kept[0]})"
    return None


_ORIGIN = (
    "eight trained networks (docs/matched.md): at most 0.038 as they are; with the statistics of one layer "
    "behind the first changed, beyond it in 76 of 80"
)


RULE = Rule(
    id="BN211",
    name="unmatched-statistics",
    severity=Severity.WARNING,
    needs=Needs.RUN,
    summary="Looks for running statistics that no optimised batch comes near to.",
    why="Batches were optimised, every value free, until each layer's mean and variance were the running "
    "ones. In trained networks that succeeds at every layer. Where it does not, the layers contradict each "
    "other: statistics and weights are not of one network (a partly loaded checkpoint, averaged weights, "
    "fine-tuning with frozen statistics), or the statistics were changed.",
    fix="compute the statistics again from data (`bnaudit recalibrate`), or load weights and statistics of "
    "one checkpoint; where the optimisation had not ended, give it more --match-steps",
    references=("https://arxiv.org/abs/2001.00281", "https://arxiv.org/abs/1912.08795"),
    thresholds=(
        Threshold(
            "channel",
            0.5,
            "what is left of a channel, in the batch that comes nearest: |mean - running_mean| / "
            "sigma_running, or |log2| of the variances where that is larger",
            _ORIGIN,
        ),
    ),
    check=_check,
    healthy=matched,
    sick=lambda: matched(block2={3: 2.4, 7: 0.9}),
    not_applicable=_not_applicable,
)
