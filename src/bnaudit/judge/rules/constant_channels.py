"""BN206: channels whose variance over the data is less than eps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.constant import constant_as_stored, stored_variances
from bnaudit.judge.drift_text import channels_text
from bnaudit.judge.examples.report import report, with_channels
from bnaudit.judge.obstacles import no_statistics
from bnaudit.judge.readers import feeders, told_at
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    constant = constant_as_stored(report)
    front = feeders(report)
    batches = report.run.data.batches if report.run else 1
    sure = f"variance below eps {f'in all {batches} batches' if batches > 1 else 'in one batch'}"
    hits = [
        replace(_hit(rule, layer, channels, report), confidence=sure)
        for layer in report.layers
        if (channels := constant.get(layer.label))
        and told_at(layer, constant, front, report) is None
    ]
    yield from findings(rule, hits, len(report.layers), "have channels that hardly vary")


def _hit(rule: Rule, layer: LayerReport, channels: tuple[int, ...], report: Report) -> Hit:
    variances = stored_variances(report, layer)
    exact = sum(variances[c] == 0 for c in channels) if variances else 0
    share, none = len(channels) / layer.channels, exact / layer.channels
    severity = Severity.INFO
    if none >= rule.limit("share") or share >= rule.limit("share-tiny"):
        severity = Severity.WARNING
    if none >= rule.limit("share-error") or len(channels) == layer.channels:
        severity = Severity.ERROR
    healthy = sum(variances[c] > layer.eps for c in channels) if variances else 0
    stored = f", {exact} of them not at all" if exact else ""
    if healthy:
        stored += f"; the running variance of {healthy} is healthy: rare values, or an input that is stuck"
    fix = None
    if severity is Severity.INFO:
        fix = _LOOK if healthy else _NONE
    return Hit(
        layer.label,
        f"{channels_text(channels)}: {len(channels)} of {layer.channels} hardly vary over the data{stored}; "
        f"eps = {layer.eps:g} is more than half of sigma^2",
        severity,
        share,
        rule.limit("share"),
        channels,
        fix=fix,
    )


_NONE = "none needed: such channels occur in good models and can be pruned"
_LOOK = (
    "look at the data of these channels: a dead sensor or an empty column shows so; give more rows where "
    "values are rare"
)


RULE = Rule(
    id="BN206",
    name="constant-channels",
    severity=Severity.WARNING,
    needs=Needs.DATA,
    summary="Looks for channels whose variance over the data is smaller than eps.",
    why="Such a channel is not normalised: its output is beta plus a remainder that eps keeps small. "
    "Either it carries nothing (weights that decayed to 0, a dead unit in front), or its input is tiny "
    "and eps swamps it. Such channels occur in good published models, in one even as most of a layer, and do "
    "no harm. Where the running variance is healthy and only this data is constant, BN202 tells of it.",
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
            "share of a layer's channels without any variance from which it is a warning",
            "survey: at most 0.125 (EfficientNet-Lite0: 4 of 32); no channel in 1,026 layers of trained "
            "networks",
        ),
        Threshold(
            "share-error",
            0.5,
            "the same from which it is an error",
            "a choice: half of the layer",
        ),
        Threshold(
            "share-tiny",
            0.9,
            "share of channels with some variance below eps from which it is a warning; all are an error",
            "survey: at most 0.72 (torchvision's MobileNetV2), as for BN018",
        ),
    ),
    check=_check,
    healthy=report,
    sick=lambda: with_channels(l1={"constant": tuple(range(15))}),
    not_applicable=no_statistics,
)
