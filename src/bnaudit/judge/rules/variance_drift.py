"""BN202: the data's variances are not those that the model stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.drift_text import HEALTHY, channels_text, consequences, details, origin
from bnaudit.judge.drifted import Limits, runs
from bnaudit.judge.examples.channels import drift
from bnaudit.judge.examples.report import report, with_channels
from bnaudit.judge.obstacles import no_interval
from bnaudit.judge.rule import Needs, Rule, Threshold
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.judge.drifted import Run
    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report

_READABLE = 20


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    limits = Limits(rule.limit("channel-above"), rule.limit("channel-below"), rule.limit("layer"))
    for run in runs(report, lambda channels: channels.variance_drift, limits):
        message = _message(run) + origin(run) + consequences(run)
        yield rule.finding(message, **details(rule, run, report))


def _message(run: Run) -> str:
    start = run.start
    if start.whole:
        return (
            f"the variances of the data are a factor of {_factor(start.typical)} from the running "
            f"variances (middle of {len(start.living)} channels)"
        )
    worst = start.drift.signed[start.channels[0]]
    return (
        f"the variance of {channels_text(start.channels)} of {len(start.drift.signed)} is not the "
        f"running variance: {_factor(abs(worst))} times {'larger' if worst > 0 else 'smaller'}"
        + (f" in channel {start.channels[0]}" if len(start.channels) > 1 else "")
    )


def _factor(log2: float) -> str:
    return f"{2**log2:.3g}" if log2 < _READABLE else f"2^{log2:.0f}"


RULE = Rule(
    id="BN202",
    name="variance-drift",
    severity=Severity.WARNING,
    needs=Needs.DATA,
    summary="Compares each channel's variance over the data with the running variance, as |log2| of "
    "their ratio, and reports where the difference starts.",
    why="In inference the running variance is divided by whatever the data is. If it is not the data's, "
    "the channel's output and all gradients through it are scaled by a factor that training never saw.",
    fix="recompute the running statistics with these weights, or feed what training fed",
    references=(
        "https://github.com/pytorch/pytorch/issues/4741",
        "https://github.com/huggingface/pytorch-image-models/issues/245",
        "https://github.com/jchen42703/kits19-cnn/issues/22",
    ),
    thresholds=(
        Threshold(
            "channel-above",
            1.0,
            "log2(variance / running variance) of one channel, at the near end of its interval",
            HEALTHY + "largest 0.64, of 1,026 layers",
        ),
        Threshold(
            "channel-below",
            2.0,
            "log2(running variance / variance) of one channel, at the near end of its interval",
            HEALTHY + "largest 1.05: rare large values, which a sample may miss but not invent",
        ),
        Threshold(
            "layer",
            0.35,
            "|log2|, the middle of a layer's channels beyond what sampling makes, at the near end of its "
            "interval",
            HEALTHY
            + "largest 0.22, in an autoencoder trained on shifted, noisy images; 4 of 64: 0.25",
        ),
        Threshold(
            "layer-error",
            1.0,
            "the same from which a whole layer is an error",
            "a factor of 2 in the variance, 1.4 in every output",
        ),
        Threshold(
            "share-error",
            0.25,
            "share of a layer's channels beyond their own limit from which it is an error",
            "a choice: one channel in a layer of four",
        ),
    ),
    check=_check,
    healthy=report,
    sick=lambda: with_channels(l0={"variance_drift": drift({5: 3.5, 11: -4.2})}),
    not_applicable=no_interval,
)
