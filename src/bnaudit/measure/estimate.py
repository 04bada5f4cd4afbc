"""Per-batch values into a mean over all rows, with its interval."""

from __future__ import annotations

from math import fsum, inf, isfinite, sqrt
from typing import TYPE_CHECKING

from bnaudit.losses import LOSSES
from bnaudit.measure.drift import student_t
from bnaudit.records.values import Estimate, Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence


ANY, POSITIVE, SHARE = (-inf, inf), (0.0, inf), (0.0, 1.0)
"""What a quantity can be: its interval ends there."""


def estimate(
    values: Sequence[float],
    rows: Sequence[int],
    what: str,
    within: tuple[float, float] = ANY,
) -> Estimate | Skipped:
    """The mean over the rows of values that batches have, and the interval of it.

    With the batches' shares w of the rows, the squared error of sum w x is B/(B - 1) sum w^2 (x - mean)^2.

    Args:
        values: of every batch.
        rows: how many it has.
        what: the quantity, for the reason why there is none.
        within: what it can be at all.
    """
    odd = sum(not isfinite(value) for value in values)
    if odd or not values:
        return Skipped(f"the {what} is not finite in {odd} of {len(values)} batches")
    total, n = sum(rows), len(values)
    mean = fsum(r * v for r, v in zip(rows, values, strict=True)) / total
    if n == 1:
        alone = Skipped("one batch has no spread")
        return Estimate(mean, alone, alone, 1)
    squares = fsum((r / total * (v - mean)) ** 2 for r, v in zip(rows, values, strict=True))
    margin = student_t(n - 1) * sqrt(squares * n / (n - 1))
    lower, upper = max(mean - margin, within[0]), min(mean + margin, within[1])
    return Estimate(mean, lower, upper, n)


def reach_of(loss: str) -> tuple[float, float]:
    """What a loss can be: the named ones are never negative, others may be anything."""
    return POSITIVE if loss in LOSSES else ANY
