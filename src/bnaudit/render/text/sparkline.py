"""A course of numbers in one line, a character each."""

from __future__ import annotations

from math import isfinite, log
from typing import TYPE_CHECKING

from bnaudit.render.text.cells import SPARKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MISSING = "✗"
"""Where there is no number."""

Ends = tuple[float, float]


def ends_of(*courses: Iterable[float | None]) -> Ends | None:
    """The smallest and the largest of all numbers, for courses on one scale; None where there is none."""
    known = [v for course in courses for v in course if v is not None and isfinite(v)]
    return (min(known), max(known)) if known else None


def sparkline(values: Sequence[float | None], ends: Ends | None = None) -> str:
    """Low to high as `SPARKS`; by the logarithm where all are positive and span more than a factor of ten.

    Args:
        values: in their order; None where there is none.
        ends: of the scale, which may be that of several courses; its own by default.
    """
    low, high = ends or ends_of(values) or (0.0, 0.0)
    by_log = low > 0 and high > 10 * low
    if by_log:
        low, high = log(low), log(high)
    line = []
    for value in values:
        if value is None or not isfinite(value):
            line.append(MISSING)
            continue
        # Halves, since the difference of two huge numbers overflows.
        at, span = (log(value) if by_log else value) / 2 - low / 2, high / 2 - low / 2
        share = at / span if span > 0 else 0.5
        line.append(SPARKS[min(len(SPARKS) - 1, max(0, int(share * len(SPARKS))))])
    return "".join(line)
