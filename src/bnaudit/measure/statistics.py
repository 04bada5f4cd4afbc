"""Conspicuous channels, pooled over all batches: dead ones, outliers, drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.measure.drift import Sample, Stored, drifts
from bnaudit.measure.preparation import prepared_otherwise
from bnaudit.measure.rows import GROUPS, made_of
from bnaudit.measure.spread import in_order, metric, quantile
from bnaudit.records.drift import DEAD_GAMMA, Channels, Drift
from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnaudit.measure.collect import Collected, Found, LayerRecord
    from bnaudit.measure.session import Session
    from bnaudit.options import AuditOptions
    from bnaudit.progress import Progress
    from bnaudit.records.values import Metric

Key = tuple[str, int]

_MADE_UP = {
    "synthetic": Skipped("synthetic batches say nothing about drift (pass --data)"),
    "matched": Skipped(
        "batches matched to the running statistics say nothing about drift (pass data)"
    ),
    "example": Skipped("the example inputs of a file say nothing about drift (pass --data)"),
}


def measure_statistics(
    session: Session, collected: Collected, options: AuditOptions, _progress: Progress
) -> Found:
    """The record of every call that ran, from what the first-order pass left of all batches.

    Where the first layers drift, other preparations of the inputs are tried as well.

    Args:
        session: says where the batches came from; made-up ones say nothing of the data behind the
            running statistics.
        collected: the first-order pass.
        options: which mode that was.
    """
    calls: dict[Key, list[LayerRecord]] = {}
    for records in collected.batches:
        for record in records:
            calls.setdefault(record.key, []).append(record)
    source = session.batches.info.source
    found = () if source in _MADE_UP else prepared_otherwise(session, collected, options)
    return {
        "statistics": {key: _channels(records, source) for key, records in calls.items()},
        "preparation": tuple(otherwise.evidence for otherwise in found),
    }


def _channels(records: list[LayerRecord], source: str) -> Channels | Skipped:
    seen = [(r, r.moments) for r in records if r.moments is not None]
    if not seen:
        return Skipped("the layer's input was not recorded")
    first = seen[0][0]
    means, variances = (
        torch.stack([getattr(m, name) for _, m in seen]) for name in ("mean", "var")
    )
    none = _MADE_UP.get(source)
    mean_drift, variance_drift = (
        (none, none) if none else _drifts([r for r, _ in seen], means, variances)
    )
    # Of a single value there is no variance.
    constant = (variances < first.eps).all(0) & (first.m > 1)
    finite = [m.mean.isfinite() & m.var.isfinite() & m.grad_out_sq.isfinite() for _, m in seen]
    unreached = Skipped(first.obstacle or "no gradient was recorded")
    dead_gradient: tuple[int, ...] | Skipped = unreached
    grad_xhat_norm: Metric = unreached
    reached = [(r.gamma, m.grad_out_sq) for r, m in seen if not r.obstacle]
    if reached:
        dead_gradient = _channels_where(torch.stack([g for _, g in reached]).amax(0) == 0)
        # |gamma G|, one value a batch.
        squares = [(g if gamma is None else gamma.square() * g).sum() for gamma, g in reached]
        norms = torch.stack(squares).sqrt()
        grad_xhat_norm = metric(norms, "the gradient is not finite in any batch")
    return Channels(
        dead_gamma=_dead_gamma(records[0].gamma),
        dead_gradient=dead_gradient,
        gain_outlier=_outlier(first, means, variances),
        mean_drift=mean_drift,
        variance_drift=variance_drift,
        constant=_channels_where(constant),
        not_finite=_channels_where(~torch.stack(finite).all(0)),
        grad_xhat_norm=grad_xhat_norm,
    )


def _channels_where(mask: Tensor) -> tuple[int, ...]:
    return tuple(mask.nonzero()[:, 0].tolist())


def _dead_gamma(gamma: Tensor | None) -> tuple[int, ...]:
    if gamma is None:
        return ()
    size = gamma.abs()
    return _channels_where(size < DEAD_GAMMA * size.max())


def _drifts(
    records: list[LayerRecord], means: Tensor, variances: Tensor
) -> tuple[Drift | Skipped, Drift | Skipped]:
    first = records[0]
    if first.running_mean is None or first.running_var is None:
        reason = Skipped("the layer keeps no running statistics")
        return reason, reason
    living = torch.ones(first.channels, dtype=torch.bool)
    living[list(_dead_gamma(first.gamma))] = False
    stored = Stored(first.running_mean, first.running_var, first.eps, living)
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


def _outlier(first: LayerRecord, means: Tensor, variances: Tensor) -> float | Skipped:
    """How far the outermost |gamma|/sigma is from the layer's median, as a factor of at least 1."""
    var = variances.mean(0) + means.var(0, correction=0)
    gamma = torch.ones_like(var) if first.gamma is None else first.gamma.abs()
    gain = gamma / (var + first.eps).sqrt()
    alive = gain[gain > 0]
    if not alive.numel() or not bool(torch.isfinite(alive).all()):
        return Skipped("no channel with a finite gamma other than zero")
    middle = quantile(in_order(alive), 0.5)
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
