"""Conspicuous channels, pooled over all batches: dead ones, outliers, drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.measure.drift import Sample, Stored, drifts
from bnaudit.measure.rows import GROUPS, made_of
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
        constant=_constant(with_moments),
        not_finite=_not_finite(with_moments),
        grad_xhat_norm=_grad_xhat_norm(with_moments),
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


def _constant(records: list[LayerRecord]) -> tuple[int, ...]:
    if records[0].m == 1:  # of a single value there is no variance
        return ()
    _, variances = _moments(records)
    return tuple((variances < records[0].eps).all(0).nonzero()[:, 0].tolist())


def _not_finite(records: list[LayerRecord]) -> tuple[int, ...]:
    finite = [
        torch.isfinite(m.mean) & torch.isfinite(m.var) & torch.isfinite(m.grad_out_sq)
        for m in (r.moments for r in records)
        if m is not None
    ]
    return tuple((~torch.stack(finite).all(0)).nonzero()[:, 0].tolist())


def _grad_xhat_norm(records: list[LayerRecord]) -> Metric:
    """|gamma G|, one value a batch."""
    reached = [(r, r.moments) for r in records if r.moments is not None and not r.obstacle]
    if not reached:
        return Skipped(records[0].obstacle or "no gradient was recorded")
    squares = [
        (m.grad_out_sq if r.gamma is None else r.gamma.square() * m.grad_out_sq).sum()
        for r, m in reached
    ]
    return metric(torch.stack(squares).sqrt(), "the gradient is not finite in any batch")


def _moments(records: list[LayerRecord]) -> tuple[Tensor, Tensor]:
    """Means and variances, (batches, C) each."""
    moments = [r.moments for r in records if r.moments is not None]
    return torch.stack([m.mean for m in moments]), torch.stack([m.var for m in moments])


def _drifts(records: list[LayerRecord]) -> tuple[Drift | Skipped, Drift | Skipped]:
    first = records[0]
    if first.running_mean is None or first.running_var is None:
        reason = Skipped("the layer keeps no running statistics")
        return reason, reason
    living = torch.ones(first.channels, dtype=torch.bool)
    living[list(_dead_gamma(first.gamma))] = False
    stored = Stored(first.running_mean, first.running_var, first.eps, living)
    means, variances = _moments(records)
    rows = [r.rows for r in records if r.rows is not None]
    scatter = torch.stack([r.m * v for r, v in zip(records, variances, strict=True)]).sum(0)
    groups = (means, variances)
    if (
        len(rows) < GROUPS
    ):  # then the batches are too few for an interval, and their rows have to do
        groups = torch.cat([r.means for r in rows]), torch.cat([r.variances for r in rows])
    sample = Sample(
        means,
        variances,
        groups,
        sum(r.m for r in records),
        sum(r.count for r in rows),
        made_of(scatter, rows),
    )
    return drifts(sample, stored)


def _outlier(records: list[LayerRecord]) -> float | Skipped:
    """How far the outermost |gamma|/sigma is from the layer's median, as a factor of at least 1."""
    means, variances = _moments(records)
    var = variances.mean(0) + means.var(0, correction=0)
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
