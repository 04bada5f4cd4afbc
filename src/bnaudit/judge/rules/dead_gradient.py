"""BN203: channels, or whole layers, that no gradient leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.drift_text import channels_text, listed
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
    silent: list[LayerReport] = []
    batches = report.run.data.batches if report.run else 1
    for layer in report.layers:
        dead = _dead(layer)
        if dead is None:
            continue
        if len(dead) == layer.channels:
            silent.append(layer)
            continue
        yield from _whole(rule, silent, batches)
        silent = []
        if dead:
            yield _some(rule, layer, dead, batches)
    yield from _whole(rule, silent, batches)


def _dead(layer: LayerReport) -> tuple[int, ...] | None:
    """Channels with dL/dz = 0 in every batch, or None where no gradient was measured."""
    if isinstance(layer.statistics, Skipped):
        return None
    dead = layer.statistics.dead_gradient
    return None if isinstance(dead, Skipped) else dead


def _whole(rule: Rule, silent: list[LayerReport], batches: int) -> Iterator[Finding]:
    """Gradients come from behind, so of silent layers in a row the last one is where they stop."""
    if not silent:
        return
    last, front = silent[-1], silent[:-1]
    also = (
        f"; nor does one reach the {len(front)} layers in front ({listed([a.label for a in front])})"
        if front
        else ""
    )
    yield rule.finding(
        f"no gradient arrives at any of the {last.channels} channels{also}",
        layer=last.label,
        severity=Severity.ERROR,
        fix="look behind this layer for an activation that is always off, weights that are all 0, or "
        "a branch multiplied by 0; then train it again",
        observed=1.0,
        threshold=rule.limit("share-error"),
        channels=tuple(range(last.channels)),
        confidence=_in_all(batches),
    )


def _some(rule: Rule, layer: LayerReport, dead: tuple[int, ...], batches: int) -> Finding:
    share = len(dead) / layer.channels
    severity = Severity.INFO
    if len(dead) > 1 and share >= rule.limit("share"):
        severity = Severity.WARNING
    if len(dead) > 1 and share >= rule.limit("share-error"):
        severity = Severity.ERROR
    return rule.finding(
        f"no gradient arrives at {channels_text(dead)}: {len(dead)} of {layer.channels} channels train "
        "no more",
        layer=layer.label,
        severity=severity,
        observed=share,
        threshold=rule.limit("share"),
        channels=dead,
        confidence=_in_all(batches),
    )


def _in_all(batches: int) -> str:
    return f"exactly 0 in all {batches} batches" if batches > 1 else "exactly 0, in one batch"


RULE = Rule(
    id="BN203",
    name="dead-gradient",
    severity=Severity.WARNING,
    needs=Needs.DATA,
    summary="Looks for channels and layers whose output gradient is exactly 0 in every batch.",
    why="A channel that no gradient leaves does not train, and if it is a ReLU that is always off it "
    "carries nothing forward either. One or two are normal; a fifth of a layer is lost capacity; a whole "
    "layer cuts off everything in front of it.",
    fix="if the activation behind is always off, raise beta or lower the learning rate and train on, or "
    "prune the channels; if the weights behind were pruned, prune here too",
    references=(
        "https://github.com/keras-team/keras/issues/7057",
        "https://arxiv.org/abs/1903.06733",
    ),
    thresholds=(
        Threshold(
            "share",
            0.1,
            "share of dead channels from which (and from two channels on) it is a warning",
            "no dead channel in 1,026 layers of 216 trained networks; one dead ReLU in a layer of 16 is "
            "not worth a warning",
        ),
        Threshold(
            "share-error",
            0.5,
            "share of dead channels from which it is an error",
            "a choice: half of the layer",
        ),
    ),
    check=_check,
    healthy=report,
    sick=lambda: with_channels(l1={"dead_gradient": (2, 3, 7, 9)}),
    not_applicable=no_statistics,
)
