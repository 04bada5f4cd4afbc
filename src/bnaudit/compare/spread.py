"""When two measurements differ by more than their spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnaudit.records.snapshot import Quantity

ROUNDING = 1e-4
"""Relative; what another precision or build may change without anything being different. Between float32
and float64 the numbers of the shipped networks differ by at most 1.9e-6 (`bench/spread.py`)."""

ONE_BATCH = 25.0
"""A factor, for the curvature, which is measured on a single batch and has no spread of its own. Over
eight batches of one model, the shipped ResNet, it varies by a factor of up to 21 (`bench/spread.py`)."""


def beyond(old: Quantity, new: Quantity) -> int:
    """1 where the new number is surely larger, -1 where it is surely smaller, 0 where neither is sure.

    Intervals that touch decide nothing, and neither does a difference within rounding.

    Args:
        old: with its interval.
        new: with its interval.
    """
    if not (old.spread_known and new.spread_known):
        return _by_factor(old.value, new.value)
    if abs(new.value - old.value) <= ROUNDING * max(abs(old.value), abs(new.value)):
        return 0
    if new.low > old.high and new.value > old.value:
        return 1
    return -1 if new.high < old.low and new.value < old.value else 0


def _by_factor(old: float, new: float) -> int:
    """A change of sign is one beyond any factor."""
    larger, smaller = max(abs(old), abs(new)), min(abs(old), abs(new))
    if larger <= ONE_BATCH * smaller and (old > 0) == (new > 0):
        return 0
    return 1 if new > old else -1
