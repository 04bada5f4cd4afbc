"""Batches that were made from a model's own running statistics, and how near they came."""

from __future__ import annotations

from dataclasses import dataclass

from bnaudit.records.values import Count


@dataclass(frozen=True, slots=True)
class Mismatch:
    """How far the matched batches of a layer are from what it stores.

    Attributes:
        mean: |batch mean - running_mean| / sigma_running of the middle channel, the median over the
            batches.
        variance: |log2((batch variance + eps) / (running_var + eps))| likewise.
        mean_before, variance_before: the same of the noise that the optimisation began with.
        largest: of the channel that is farthest, whichever of the two is larger, in the batch that
            comes nearest there.
        channel: which channel that is.
        per_channel: the same distance of every channel, in the batch that comes nearest; infinite
            where what is stored is no mean and variance. Not in the JSON.
    """

    mean: float
    variance: float
    mean_before: float
    variance_before: float
    largest: float
    channel: Count
    per_channel: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Matching:
    """How the batches were matched.

    Attributes:
        steps: forward and backward passes that each batch took.
        limit: how many it was allowed.
        start: mean over the layers of ln(1 + d^2) + (ln r)^2 / 4, d the distance of the means in sigma
            and r the ratio of the variances, channels averaged: of the noise, the largest over the
            batches.
        end: the same of the matched batches.
        kept: inputs that were left as they were drawn, each with the reason.
        cached: whether the batches were read from the cache.
    """

    steps: tuple[Count, ...]
    limit: Count
    start: float
    end: float
    kept: tuple[str, ...] = ()
    cached: bool = False
