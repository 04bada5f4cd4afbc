"""What is concluded from a recalibration: what became of the gap, and whether it is worth keeping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bnaudit.records.values import Estimate, Skipped

if TYPE_CHECKING:
    from bnaudit.records.recalibration import Average, Recalibration

Outcome = Literal["better", "same", "worse", "unknown"]


@dataclass(frozen=True, slots=True)
class RecalibrationSummary:
    """The recalibration in a few numbers.

    Attributes:
        layers: BatchNorm layers that ran.
        changed: those with new statistics.
        outcome: what the change does to the network: worse where the interval of the loss's change (without
            labels, of the distance from the outputs with batch statistics) or that of the accuracy's says so,
            better where that of the loss does.
        written: whether a file was written.
        refused: whether it was refused.
        forced: whether there were reasons against it, and it was forced.
    """

    layers: int
    changed: int
    outcome: Outcome
    written: bool
    refused: bool
    forced: bool


def summarize(report: Recalibration) -> RecalibrationSummary:
    """The summary of a recalibration."""
    return RecalibrationSummary(
        layers=len(report.layers),
        changed=sum(layer.kept is None for layer in report.layers),
        outcome=outcome_of(report.change, report.accuracy_change),
        written=report.output is not None,
        refused=report.refused,
        forced=bool(report.refusals) and not report.refused,
    )


def outcome_of(change: Average, accuracy: Average) -> Outcome:
    """Better or worse, where the intervals say so."""
    loss, right = _side(change), _side(accuracy)
    if loss is None:
        return "unknown"
    if loss > 0 or right == -1:
        return "worse"
    return "better" if loss < 0 else "same"


def _side(change: Average) -> int | None:
    """The sign of a change whose interval is clear of 0, else 0; None where there is no interval."""
    if not isinstance(change, Estimate) or isinstance(change.lower, Skipped):
        return None
    if isinstance(change.upper, Skipped):
        return None
    return 1 if change.lower > 0 else -1 if change.upper < 0 else 0
