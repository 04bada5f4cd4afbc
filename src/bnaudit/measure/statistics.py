"""Conspicuous channels, pooled over all batches: dead ones, outliers, drift.

Drift compares what the batches show with what the model stored. The variances of B batches are pooled
as mean(var_B) + var(mean_B): the variance of all values together, as long as the batches are of one size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from bnaudit.measure.spread import metric
from bnaudit.records.drift import Channels, Drift
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnaudit.measure.probe import LayerRecord
    from bnaudit.records.values import Metric

Key = tuple[str, int]

_MADE_UP = {
    "synthetic": Skipped("synthetic batches say nothing about drift (pass --data)"),
    "example": Skipped("the example inputs of a file say nothing about drift (pass --data)"),
}

DEAD_GAMMA = 1e-3
"""Of the layer's largest |gamma|: below, a channel passes on nothing that training would notice."""

# Standard deviation of log2(v1/v2) for two variances of M near-Gaussian values each, times sqrt(M):
# sd of ln v is sqrt(2/M), and log2 adds 1/ln 2. The stored one is taken as exact.
_LOG2_VARIANCE_SD = math.sqrt(2) / math.log(2)


def channel_statistics(
    batches: Sequence[Sequence[LayerRecord]], *, source: str
) -> dict[Key, Channels | Skipped]:
    """The record of every call that ran.

    Args:
        batches: per batch the records of its calls.
        source: where they came from; made-up ones say nothing of the data behind the running statistics.
    """
    calls: dict[Key, list[LayerRecord]] = {}
    for records in batches:
        for record in records:
            calls.setdefault(record.key, []).append(record)
    return {key: _channels(records, source) for key, records in calls.items()}


def _channels(records: list[LayerRecord], source: str) -> Channels | Skipped:
    with_moments = [r for r in records if r.moments is not None]
    if not with_moments:
        return Skipped("the layer's input was not recorded")
    none = _MADE_UP.get(source)
    mean_drift, variance_drift = (none, none) if none else _drifts(with_moments)
    return Channels(
        dead_gamma=_dead_gamma(records[0].gamma),
        dead_gradient=_dead_gradient(with_moments),
        gain_outlier=_outlier(with_moments),
        mean_drift=mean_drift,
        variance_drift=variance_drift,
    )


def _dead_gamma(gamma: Tensor | None) -> tuple[int, ...]:
    if gamma is None:
        return ()
    size = gamma.abs()
    return tuple((size < DEAD_GAMMA * size.max()).nonzero()[:, 0].tolist())


def _dead_gradient(records: list[LayerRecord]) -> tuple[int, ...] | Skipped:
    reached = [r.moments.grad_out_sq for r in records if r.moments is not None and not r.obstacle]
    if not reached:
        return Skipped(records[0].obstacle or "no gradient was recorded")
    return tuple((torch.stack(reached).amax(0) == 0).nonzero()[:, 0].tolist())


def _pooled(records: list[LayerRecord]) -> tuple[Tensor, Tensor, int]:
    """Mean, variance and number of all values of a channel, over batches of equal size."""
    moments = [r.moments for r in records if r.moments is not None]
    means = torch.stack([m.mean for m in moments])
    variances = torch.stack([m.var for m in moments])
    between = means.var(0, correction=0)
    return means.mean(0), variances.mean(0) + between, sum(r.m for r in records)


def _drifts(records: list[LayerRecord]) -> tuple[Drift | Skipped, Drift | Skipped]:
    first = records[0]
    if first.running_mean is None or first.running_var is None:
        reason = Skipped("the layer keeps no running statistics")
        return reason, reason
    mean, var, count = _pooled(records)
    if count == len(records):
        reason = Skipped("one value per channel (m = 1)")
        return reason, reason
    sigma = (first.running_var + first.eps).sqrt()
    shift = (mean - first.running_mean).abs() / sigma
    # eps keeps a channel that is constant in training and on the batches at zero.
    ratio = ((var + first.eps) / (first.running_var + first.eps)).log2().abs()
    error = 1 / math.sqrt(count)
    return _drift(shift, error), _drift(ratio, _LOG2_VARIANCE_SD * error)


def _drift(values: Tensor, error: float) -> Drift | Skipped:
    if not bool(torch.isfinite(values).all()):
        return Skipped("running statistics or activations are not finite")
    return Drift(
        median=float(values.quantile(0.5)),
        p95=float(values.quantile(0.95)),
        maximum=float(values.max()),
        channel=int(values.argmax()),
        sampling_error=error,
    )


def _outlier(records: list[LayerRecord]) -> float | Skipped:
    """How far the outermost |gamma|/sigma is from the layer's median, as a factor of at least 1."""
    _, var, _ = _pooled(records)
    gamma = torch.ones_like(var) if records[0].gamma is None else records[0].gamma.abs()
    gain = gamma / (var + records[0].eps).sqrt()
    alive = gain[gain > 0]
    if not alive.numel() or not bool(torch.isfinite(alive).all()):
        return Skipped("no channel with a finite gamma other than zero")
    middle = alive.quantile(0.5)
    return float(torch.maximum(alive.max() / middle, middle / alive.min()))


def gradient_scale(batches: Sequence[Sequence[LayerRecord]]) -> Metric:
    """|dL/dz| at the first measured layer over that at the last, per batch."""
    ratios: list[Tensor] = []
    for records in batches:
        reached = [r for r in records if r.moments is not None and not r.obstacle]
        if len(reached) > 1:
            ratios.append(_grad_norm(reached[0]) / _grad_norm(reached[-1]))
    if not ratios:
        return Skipped("no batch has a gradient at two layers")
    return metric(torch.stack(ratios), "the last layer's gradient is zero in every batch")


def _grad_norm(record: LayerRecord) -> Tensor:
    if record.moments is None:
        return torch.tensor(torch.nan, dtype=torch.float64)
    return record.moments.grad_out_sq.sum().sqrt()
