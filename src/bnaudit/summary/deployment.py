"""What the two losses of a deployed network amount to: how far apart, through which layers, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bnaudit.records.deployment import Deployment, LayerGap, Located
from bnaudit.records.values import Estimate, Skipped

if TYPE_CHECKING:
    from bnaudit.records.deployment import Evidence
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report

WORSE, GUESSING = "BN209", "BN208"
"""Rules that judge the network as a whole."""

Conclusion = Literal["as-trained", "worse", "guessing", "unmoved", "moved"]

_SHOWN = 0.1
"""Of the gap: layers with less of it are not named."""


def deployed(report: Report) -> Deployment | None:
    """The comparison of the two kinds of statistics, where there is one."""
    return report.deployment if isinstance(report.deployment, Deployment) else None


def conclusion(report: Report) -> Conclusion | None:
    """Whether the deployed network does what it was trained to do, by the rules; None where none judged.

    A silenced finding is one all the same.
    """
    if deployed(report) is None or any(entry.rule == WORSE for entry in report.rules_not_run):
        return None
    found = {f.rule for f in report.findings} | {s.finding.rule for s in report.suppressed}
    if report.run is not None and report.run.loss.label_free:
        return "moved" if WORSE in found else "unmoved"
    return "worse" if WORSE in found else "guessing" if GUESSING in found else "as-trained"


def mean_of(value: Estimate | Skipped) -> float | None:
    """The mean, where there is one."""
    return value.mean if isinstance(value, Estimate) else None


def lower_end(value: Estimate) -> float:
    """What the interval does not reach below; the mean itself of a single batch."""
    return value.mean if isinstance(value.lower, Skipped) else value.lower


def located(report: Report) -> Located | None:
    """Where the gap comes from, where it was looked for."""
    found = deployed(report)
    return found.located if found is not None and isinstance(found.located, Located) else None


def explained(report: Report) -> Evidence | None:
    """The supposition that explains most."""
    found = located(report)
    return found.evidence[0] if found is not None and found.evidence else None


def largest_shares(report: Report) -> list[tuple[LayerReport, float]]:
    """The layers with a tenth of the gap or more, and their shares in units of the loss; largest first."""
    found = located(report)
    if found is None:
        return []
    shares = [
        (layer, layer.gap.share)
        for layer in report.layers
        if isinstance(layer.gap, LayerGap) and layer.gap.share >= _SHOWN * found.gap
    ]
    return sorted(shares, key=lambda entry: -entry[1])


def most_by_itself(report: Report) -> tuple[LayerReport, float] | None:
    """The layer whose own statistics alone take most off the deployed loss, and how much; half or more."""
    found = located(report)
    alone = [
        (layer, layer.gap.alone)
        for layer in report.layers
        if isinstance(layer.gap, LayerGap) and not isinstance(layer.gap.alone, Skipped)
    ]
    best = max(alone, key=lambda entry: entry[1], default=None)
    if found is None or best is None or best[1] < found.gap / 2:
        return None
    return best
