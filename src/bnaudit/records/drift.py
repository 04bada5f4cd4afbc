"""How a layer's channels behave on the sample batches, against what the model stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnaudit.records.values import Skipped


@dataclass(frozen=True, slots=True)
class Drift:
    """A per-channel distance, pooled over all batches.

    Attributes:
        median: over the channels.
        p95: over the channels.
        maximum: over the channels.
        channel: which channel has the maximum.
        sampling_error: the standard deviation that a healthy channel with near-Gaussian values
            would show for the number of values pooled.
    """

    median: float
    p95: float
    maximum: float
    channel: int
    sampling_error: float


@dataclass(frozen=True, slots=True)
class Channels:
    """Counts of conspicuous channels and statistics drift, pooled over all batches.

    Attributes:
        dead_gamma: channels with |gamma| below 1e-3 of the layer's largest.
        dead_gradient: channels whose dL/dz is exactly zero in every batch.
        gain_outlier: largest of |gamma|/sigma over the layer's median, and its inverse for the
            smallest (of channels with gamma != 0), whichever is further from 1.
        mean_drift: |pooled batch mean - running_mean| / sigma_running.
        variance_drift: |log2(pooled batch variance / running_var)|.
    """

    dead_gamma: tuple[int, ...]
    dead_gradient: tuple[int, ...] | Skipped
    gain_outlier: float | Skipped
    mean_drift: Drift | Skipped
    variance_drift: Drift | Skipped
