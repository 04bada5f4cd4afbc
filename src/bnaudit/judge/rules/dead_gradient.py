"""BN203: channels, or whole layers, that no gradient leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnaudit.judge.aggregate import Hit, findings
from bnaudit.judge.drift_text import channels_text, listed
from bnaudit.judge.drifted import expecting
from bnaudit.judge.examples.report import report, with_channels
from bnaudit.judge.obstacles import no_statistics
from bnaudit.judge.readers import readers, told_at
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.records.finding import Severity
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.layer import LayerReport
    from bnaudit.records.report import Report


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    dead = {
        layer.label: layer.statistics.dead_gradient
        for layer in report.layers
        if not isinstance(layer.statistics, Skipped)
        and not isinstance(layer.statistics.dead_gradient, Skipped)
    }
    behind = readers(report)
    silent = {
        layer.label
        for layer in report.layers
        if layer.channels and len(dead.get(layer.label, ())) == layer.channels
    }
    stale = expecting(report)
    hits = []
    for layer in report.layers:
        channels = dead.get(layer.label, ())
        if layer.label in silent:
            # Gradients come from behind: a silent layer in front of a silent one is told of there.
            if not silent & set(behind[layer.label]):
                hits.append(_whole(rule, layer, silent, report))
        elif channels and told_at(layer, dead, behind, report) is None:
            expects = [label for label in behind[layer.label] if label in stale]
            unread = _unread(layer, channels, report)
            gated = tuple(c for c in channels if c not in unread)
            hits += [
                _some(rule, layer, part, expects, unread=part is unread)
                for part in (gated, unread)
                if part
            ]
    batches = report.run.data.batches if report.run else 1
    sure = f"exactly 0 in all {batches} batches" if batches > 1 else "exactly 0, in one batch"
    hits = [replace(hit, confidence=sure) for hit in hits]
    yield from findings(rule, hits, len(report.layers), "have channels that no gradient leaves")


def _unread(layer: LayerReport, channels: tuple[int, ...], report: Report) -> tuple[int, ...]:
    """Channels whose output is on both sides of 0, so that no activation is always off.

    xhat has mean 0 and variance 1: with |beta| up to |gamma| an activation's kink at 0 lies within a
    deviation of the middle of the values.
    """
    stored = () if report.inspection is None else report.inspection.batchnorms
    bn = next((bn for bn in stored if bn.name == layer.name), None)
    if bn is None or isinstance(layer.statistics, Skipped):
        return ()
    gamma = bn.gamma or (1.0,) * layer.channels
    beta = bn.beta or (0.0,) * layer.channels
    if len(gamma) != layer.channels or len(beta) != layer.channels:
        return ()
    off = set(layer.statistics.dead_gamma) | set(layer.statistics.constant)
    return tuple(c for c in channels if c not in off and abs(beta[c]) <= abs(gamma[c]))


def _whole(rule: Rule, last: LayerReport, silent: set[str], report: Report) -> Hit:
    front = [layer.label for layer in report.layers if layer.label in silent and layer is not last]
    also = f"; nor does one reach {len(front)} other layers ({listed(front)})" if front else ""
    return Hit(
        last.label,
        f"no gradient arrives at any of the {last.channels} channels{also}",
        Severity.ERROR,
        1.0,
        rule.limit("share-error"),
        tuple(range(last.channels)),
        fix="look behind this layer for an activation that is always off, weights that are all 0, or "
        "a branch multiplied by 0; then train it again",
    )


def _some(
    rule: Rule, layer: LayerReport, dead: tuple[int, ...], expects: list[str], *, unread: bool
) -> Hit:
    share = len(dead) / layer.channels
    severity = Severity.INFO
    if len(dead) > 1 and share >= rule.limit("share") and not unread:
        severity = Severity.WARNING
    if len(dead) > 1 and (share >= rule.limit("share-error") and not unread):
        severity = Severity.ERROR
    counted = f"{channels_text(dead)}: {len(dead)} of {layer.channels} channels"
    fact = (
        f"no gradient arrives at {counted} have values around 0, which no ReLU on them alone would switch off"
        if unread
        else f"no gradient arrives at {counted} train no more"
    )
    fix = None
    if expects and share >= rule.limit("share"):
        severity = Severity.ERROR
        fact += f"; the statistics of {listed(expects)} behind still expect them"
        fix = (
            "this happened after training (pruning, an edit, a conversion): undo it, or recompute the "
            "statistics of the layers behind and measure the accuracy again"
        )
    elif unread:
        fact += (
            ": nothing reads them (a slice, weights of exactly 0), or what is added to them does"
        )
        fix = "none needed where the network leaves channels out by design; otherwise prune them"
    return Hit(layer.label, fact, severity, share, rule.limit("share"), dead, fix=fix)


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
