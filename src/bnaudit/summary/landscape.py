"""What is concluded from a landscape: whether BatchNorm makes it smoother, by how much, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bnaudit.records.values import Metric, Skipped

if TYPE_CHECKING:
    from bnaudit.records.landscape import Comparison, Group, GroupWalk, Landscape, Walk

Outcome = Literal["smoother", "rougher", "alike", "unequal", "unknown"]


@dataclass(frozen=True, slots=True)
class LandscapeSummary:
    """The landscape in a few numbers.

    Attributes:
        outcome: what BatchNorm makes of it by the relative walk, where there is one: smoother where three
            batches of four have a larger effective beta-smoothness when frozen, rougher where three of four
            have a smaller one; unequal where the two networks are not the same at the weights.
        form: of the walk that decides.
        smoothing: effective beta-smoothness frozen over that with BatchNorm, in this walk.
        failed: steps, over all walks, at which some batch has no finite loss and gradient.
    """

    outcome: Outcome
    form: str
    smoothing: Metric
    failed: int


def summarize(record: Landscape) -> LandscapeSummary:
    """The summary of a landscape."""
    deciding = record.comparisons[-1]
    return LandscapeSummary(
        outcome=outcome_of(deciding.beta) if record.agreement.equal else "unequal",
        form=deciding.form,
        smoothing=deciding.beta,
        failed=sum(point.failed > 0 for walk in record.walks for point in walk.points),
    )


def outcome_of(smoothing: Metric) -> Outcome:
    """Of the quartiles over the batches."""
    if isinstance(smoothing, Skipped):
        return "unknown"
    if smoothing.q25 > 1:
        return "smoother"
    return "rougher" if smoothing.q75 < 1 else "alike"


def walk_of(record: Landscape, form: str, network: str) -> Walk | None:
    """The walk of a network in a form, where it was walked."""
    return next((w for w in record.walks if (w.form, w.network) == (form, network)), None)


def share_of(group: Group, form: str, network: str) -> GroupWalk | None:
    """The same of a layer."""
    return next((w for w in group.walks if (w.form, w.network) == (form, network)), None)


def comparison_of(record: Landscape, form: str) -> Comparison | None:
    """The two networks in a form, where it was walked."""
    return next((c for c in record.comparisons if c.form == form), None)
