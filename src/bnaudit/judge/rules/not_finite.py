"""BN207: NaN or infinity among activations or gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.drift_text import channels_text
from bnaudit.judge.examples.report import report, with_channels
from bnaudit.judge.obstacles import no_statistics
from bnaudit.judge.rule import Needs, Rule
from bnaudit.records.finding import Severity
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    hit = [
        (layer, layer.statistics.not_finite)
        for layer in report.layers
        if not isinstance(layer.statistics, Skipped) and layer.statistics.not_finite
    ]
    if not hit:
        return
    # The loss is finite, or there would be no report: it is gradients, and they come from behind.
    layer, channels = hit[-1]
    front = f"; {len(hit) - 1} layers in front have them too" if len(hit) > 1 else ""
    yield rule.finding(
        f"activations or gradients of {channels_text(channels)} are NaN or infinite{front}",
        layer=layer.label,
        observed=float(len(channels)),
        threshold=0.0,
        channels=channels,
        confidence="in at least one batch",
    )


RULE = Rule(
    id="BN207",
    name="not-finite",
    severity=Severity.ERROR,
    needs=Needs.RUN,
    summary="Looks for NaN and infinity in what flows through a layer while the loss is finite.",
    why="One step of training with such a gradient makes the weights NaN. The usual sources have a finite "
    "value and no finite derivative: a root, norm or logarithm at 0, or a division that a mask hides.",
    fix="look behind this layer for sqrt, norm, log or a division at 0 (torch.autograd.set_detect_anomaly "
    "names it), and add a small constant inside",
    references=("https://github.com/pytorch/pytorch/issues/22820",),
    check=_check,
    healthy=report,
    sick=lambda: with_channels(l0={"not_finite": (4,)}, l1={"not_finite": (4, 6)}),
    not_applicable=no_statistics,
)
