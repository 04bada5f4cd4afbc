"""BN206: channels whose variance over the data is less than eps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.drift_text import channels_text
from bnaudit.judge.examples.report import report, with_channels
from bnaudit.judge.obstacles import no_statistics
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.records.finding import Severity
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    batches = report.run.data.batches if report.run else 1
    for layer in report.layers:
        if isinstance(layer.statistics, Skipped) or not layer.statistics.constant:
            continue
        yield _finding(rule, layer, layer.statistics.constant, batches)


def _finding(rule: Rule, layer: LayerReport, constant: tuple[int, ...], batches: int) -> Finding:
    share = len(constant) / layer.channels
    severity = Severity.INFO
    if share >= rule.limit("share"):
        severity = Severity.WARNING
    if share >= rule.limit("share-error"):
        severity = Severity.ERROR
    every = f"in all {batches} batches" if batches > 1 else "in one batch"
    return rule.finding(
        f"{channels_text(constant)}: {len(constant)} of {layer.channels} hardly vary over the data; "
        f"eps = {layer.eps:g} is more than half of sigma^2",
        layer=layer.label,
        severity=severity,
        observed=share,
        threshold=rule.limit("share"),
        channels=constant,
        confidence=f"variance below eps {every}",
    )


RULE = Rule(
    id="BN206",
    name="constant-channels",
    severity=Severity.WARNING,
    needs=Needs.DATA,
    summary="Looks for channels whose variance over the data is smaller than eps.",
    why="Such a channel is not normalised: its output is beta plus a remainder that eps keeps small. "
    "Either it carries nothing (weights that decayed to 0, a dead unit in front), or its input is tiny "
    "and eps swamps it. Single such channels occur in good published models and do no harm.",
    fix="if the weights in front have collapsed, prune the channels or train with less weight decay; if "
    "the inputs are tiny by nature, scale them up or make eps smaller before training",
    references=(
        "https://github.com/pytorch/pytorch/issues/5410",
        "https://github.com/facebookresearch/detectron2/pull/3160",
    ),
    thresholds=(
        Threshold(
            "share",
            0.25,
            "share of a layer's channels from which it is a warning",
            "a choice; no channel in 1,026 layers of trained networks, whose largest eps/sigma^2 was 0.004",
        ),
        Threshold(
            "share-error",
            0.5,
            "share of a layer's channels from which it is an error",
            "a choice: half of the layer",
        ),
    ),
    check=_check,
    healthy=report,
    sick=lambda: with_channels(l1={"constant": (2, 3, 7, 9, 12)}),
    not_applicable=no_statistics,
)
