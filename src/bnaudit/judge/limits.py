"""The rules' thresholds on channels, for the list of channels that are worth a look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.policy import Policy
from bnaudit.judge.rules import RULES
from bnaudit.summary.channels import ChannelLimits, DriftLimits

if TYPE_CHECKING:
    from collections.abc import Mapping


def channel_limits(thresholds: Mapping[str, Mapping[str, float]]) -> ChannelLimits:
    """What the rules compare channels with.

    Args:
        thresholds: those of a configuration, as a report carries them.
    """
    rules = {rule.name: rule for rule in Policy(thresholds=thresholds).selected(RULES)}
    mean, variance = rules["mean-drift"], rules["variance-drift"]
    outliers = rules["gain-outliers"]
    return ChannelLimits(
        DriftLimits(mean.limit("channel"), mean.limit("channel"), mean.limit("layer")),
        DriftLimits(*map(variance.limit, ("channel-above", "channel-below", "layer"))),
        outliers.limit("ratio"),
        outliers.limit("deviations"),
        outliers.limit("leak"),
        rules["collapsed-variance"].limit("leak"),
    )
