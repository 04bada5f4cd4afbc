"""The two losses of a network, as deployed and with batch statistics."""

from __future__ import annotations

from bnaudit.judge.examples.channels import BATCHES
from bnaudit.records.deployment import Deployment, Outcome
from bnaudit.records.values import Estimate, Skipped


def estimate(mean: float, margin: float = 0.02) -> Estimate:
    """A mean with an interval."""
    return Estimate(mean, mean - margin, mean + margin, BATCHES)


def deployment(running: float = 0.06, batch: float = 0.05) -> Deployment:
    """A classifier with these losses."""
    changed = min(abs(running - batch), 0.9)
    return Deployment(
        batches=BATCHES,
        rows=32 * BATCHES,
        batch=Outcome(estimate(batch), estimate(0.98, 0.01)),
        running=Outcome(estimate(running), estimate(0.98 - changed / 2, 0.01)),
        gap=estimate(running - batch),
        distance=estimate(changed + 0.1),
        changed=estimate(changed),
        located=Skipped("there is no gap to speak of"),
    )
