"""From a configuration, and what the command line adds, to the policy that the rules are judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.judge.policy import LayerPolicy, Policy
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.config import Config


def policy_of(config: Config, select: Sequence[str], ignore: Sequence[str]) -> Policy:
    """The policy of a run.

    Args:
        config: what the file says of severities, thresholds and layers.
        select: rules to run, from the command line or else the file.
        ignore: rules to suppress, likewise.
    """
    found = {key: setting.value for key, setting in config.settings.items()}
    return Policy(
        select=tuple(select),
        ignore=tuple(ignore),
        severities={rule: Severity[s.upper()] for rule, s in found.get("severity", {}).items()},
        thresholds=found.get("thresholds", {}),
        layers=tuple(
            LayerPolicy(pattern, tuple(given.get("ignore", ())))
            for pattern, given in found.get("per-layer", {}).items()
        ),
    )
