"""The values a report is made of: a number that was measured, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, slots=True)
class Limits:
    """What a value is besides its type; said to readers of documents by the schema.

    Attributes:
        minimum: the least that it can be.
        maximum: the most.
        among: the only values that it takes.
        pattern: regular expression that a text matches.
        finite: whether a number is finite by construction, so that it is never null.
    """

    minimum: float | None = None
    maximum: float | None = None
    among: tuple[int | str, ...] = ()
    pattern: str | None = None
    finite: bool = False


STATISTICS = ("batch", "running")
"""Whose mean and variance normalise: the batch's own, as in training, or the running ones."""

Count = Annotated[int, Limits(minimum=0)]
Finite = Annotated[float, Limits(finite=True)]


@dataclass(frozen=True, slots=True)
class Spread:
    """One quantity over the sample batches.

    Attributes:
        median: the middle of the per-batch values.
        q25: their lower quartile (linear interpolation, as numpy's default).
        q75: their upper quartile; q75 - q25 is the interquartile range.
        n: how many batches gave a value.
    """

    median: float
    q25: float
    q75: float
    n: Count


@dataclass(frozen=True, slots=True)
class Skipped:
    """A quantity that has no number, and why.

    Attributes:
        reason: one clause for a person ("one value per channel (m = 1)").
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over all rows, with its interval.

    Attributes:
        mean: over the rows.
        lower: lower end of the 95 % interval of the mean (Student's t over the batches), or why there is
            none.
        upper: its upper end.
        n: how many batches there were.
    """

    mean: float
    lower: float | Skipped
    upper: float | Skipped
    n: Count


Metric = Spread | Skipped

NOT_REQUESTED = Skipped("not requested")
"""Nobody asked for the quantity: nothing is wrong, and there is nothing to explain."""
