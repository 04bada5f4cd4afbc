"""BN201: the data's means are not those that the model stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.drift_text import channels_text, findings
from bnaudit.judge.drifted import MEAN
from bnaudit.judge.examples.channels import drift
from bnaudit.judge.examples.report import report, with_channels
from bnaudit.judge.obstacles import no_interval
from bnaudit.judge.rule import Needs, Rule
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnaudit.judge.drifted import Drifting
    from bnaudit.records.finding import Finding
    from bnaudit.records.report import Report


def _check(rule: Rule, report: Report) -> Iterator[Finding]:
    yield from findings(rule, report, _fact)


def _fact(start: Drifting) -> str:
    if start.whole:
        return (
            f"the means of the data are {start.typical:.2g} sigma from the running means "
            f"(middle of {len(start.living)} channels)"
        )
    worst = start.drift.signed[start.channels[0]]
    return (
        f"the mean of {channels_text(start.channels)} of {len(start.drift.signed)} is not the running "
        f"mean: {abs(worst):.2g} sigma {'above' if worst > 0 else 'below'} it"
        + (f" in channel {start.channels[0]}" if len(start.channels) > 1 else "")
    )


RULE = Rule(
    id="BN201",
    name="mean-drift",
    severity=Severity.WARNING,
    needs=Needs.DATA,
    summary="Compares each channel's mean over the data with the running mean, in units of the "
    "running sigma, and reports where the difference starts.",
    why="In inference the running mean is subtracted whatever the data is. If it is not the data's, "
    "every value of the channel is shifted by the difference: the network computes something it never "
    "computed in training, and often only a little worse, so that no test fails.",
    fix="recompute the running statistics with these weights (bnaudit recalibrate), or feed what training "
    "fed",
    references=(
        "https://github.com/pytorch/pytorch/issues/4741",
        "https://github.com/fadel/pytorch_ema/issues/13",
        "https://github.com/jchen42703/kits19-cnn/issues/22",
    ),
    thresholds=MEAN,
    check=_check,
    healthy=report,
    sick=lambda: with_channels(l2={"mean_drift": drift({5: 0.65, 11: -0.6})}),
    not_applicable=no_interval,
)
