"""How a layer's channels behave on the sample batches, against what the model stored."""

from __future__ import annotations

from dataclasses import dataclass, field

from bnaudit.records.values import NOT_REQUESTED, Count, Metric, Skipped


@dataclass(frozen=True, slots=True)
class Excess:
    """How far a layer as a whole drifts, beyond what sampling alone would make of it.

    It is about the median distance of the channels that have a gamma.

    Attributes:
        value: the distance.
        lower, upper: its 95 % interval.
    """

    value: float
    lower: float
    upper: float


DEAD_GAMMA = 1e-3
"""Of the layer's largest |gamma|: below, a channel passes on nothing that training would notice."""

ONE_BATCH = Skipped("one batch has no spread (give more rows)")


@dataclass(frozen=True, slots=True)
class Drift:
    """A per-channel distance, pooled over all batches.

    Attributes:
        median: the middle channel.
        p95: 95th percentile of the channels.
        maximum: largest over the channels.
        channel: which channel has the maximum.
        sampling_error: the standard deviation that a healthy channel with near-Gaussian values
            would show for the number of values pooled.
        lower: the least that the 95 % interval over the batches allows for the largest channel; one batch
            has no spread.
        signed: per channel, positive where the batches lie above what is stored.
        margin: per channel, half the width of the 95 % interval around `signed`; empty with one row, which
            has no spread.
        least: per channel, the smallest distance over single batches in the direction of `signed`, 0
            where a batch lies on the other side.
        excess: of the layer as a whole; None with one row, where no channel has a gamma, and where most
            channels vary in so few rows that nothing is known of their variance.
        batches: how many were pooled.
        groups: of rows, over which margin and least are: the batches, or parts of them where these are few.
            Not in the JSON.
    """

    median: float
    p95: float
    maximum: float
    channel: Count
    sampling_error: float
    lower: float | Skipped = field(default=ONE_BATCH, kw_only=True)
    signed: tuple[float, ...] = ()
    margin: tuple[float, ...] = ()
    least: tuple[float, ...] = ()
    excess: Excess | None = None
    batches: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        if self.margin and self.lower == ONE_BATCH:
            object.__setattr__(self, "lower", self.surely(self.channel))

    def surely(self, channel: int) -> float:
        """The distance that the channel's interval does not reach below; 0 without an interval."""
        if not self.margin:
            return 0.0
        return max(abs(self.signed[channel]) - self.margin[channel], 0.0)


@dataclass(frozen=True, slots=True)
class Channels:
    """Counts of conspicuous channels and statistics drift, pooled over all batches.

    Attributes:
        dead_gamma: indices of the channels with |gamma| below 1e-3 of the layer's largest.
        dead_gradient: indices of the channels whose dL/dz is exactly zero in every batch.
        constant: indices of the channels whose variance is below eps in every batch.
        not_finite: indices of the channels whose activations or gradients are not all finite.
        grad_xhat_norm: |gamma dL/dz| = |dL/dxhat|, which neither a rescaling of the weights in
            front nor one of gamma, beta and the weights behind changes.
        gain_outlier: largest of |gamma|/sigma over the layer's median, and its inverse for the
            smallest (of channels with gamma != 0), whichever is further from 1.
        mean_drift: |pooled batch mean - running_mean| / sigma_running.
        variance_drift: |log2(pooled batch variance / running_var)|: 1 is a factor of 2 either way.
    """

    dead_gamma: tuple[Count, ...]
    dead_gradient: tuple[Count, ...] | Skipped
    gain_outlier: float | Skipped
    mean_drift: Drift | Skipped
    variance_drift: Drift | Skipped
    constant: tuple[Count, ...] = ()
    not_finite: tuple[Count, ...] = ()
    grad_xhat_norm: Metric = NOT_REQUESTED
