"""From per-batch moments to the record of a layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from bnaudit.measure.spread import in_order, metric, quantile, spread, withheld
from bnaudit.measure.theory import TOLERANCE
from bnaudit.records.layer import (
    NO_CHANNEL_VALUES,
    ChannelValues,
    Extent,
    FirstOrder,
    Gain,
    LayerReport,
)
from bnaudit.records.values import NOT_REQUESTED, Skipped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from bnaudit.measure.collect import LayerRecord
    from bnaudit.measure.theory import FirstOrderChannels
    from bnaudit.records.layer import FiniteDifference

Key = tuple[str, int]

_ONE_VALUE = "one value per channel (m = 1): BatchNorm cannot be evaluated"


def assemble_layers(
    batches: Sequence[Sequence[LayerRecord]],
    mode: str,
    origins: Mapping[str, str],
    differences: Mapping[Key, FiniteDifference | Skipped],
    *,
    channels: bool,
) -> tuple[LayerReport, ...]:
    """One record per BatchNorm call, in execution order.

    Args:
        batches: per batch the records of its calls. Control flow may leave a call out of a batch.
        mode: "batch" or "running".
        origins: layer name -> where it stands in the file.
        differences: finite differences by call.
        channels: keep per-channel arrays.
    """
    calls: dict[Key, list[LayerRecord]] = {}
    for records in batches:
        for record in records:
            calls.setdefault(record.key, []).append(record)
    return tuple(
        _layer(records, mode, origins, differences.get(key, NOT_REQUESTED), channels=channels)
        for key, records in calls.items()
    )


def _layer(
    records: list[LayerRecord],
    mode: str,
    origins: Mapping[str, str],
    difference: FiniteDifference | Skipped,
    *,
    channels: bool,
) -> LayerReport:
    first = records[0]
    running = first.running_var if mode == "running" else None
    measured = [r.evaluated(running) for r in records if r.obstacle is None and r.moments]
    from_batch = [r.evaluated() for r in records if r.moments]
    reason = Skipped(_ONE_VALUE) if first.m == 1 else None
    return LayerReport(
        name=first.name,
        call=first.occurrence,
        kind=f"BatchNorm{max(first.rank - 2, 1)}d",
        channels=first.channels,
        m=first.m,
        eps=first.eps,
        affine=first.gamma is not None,
        tracks_running_stats=first.running_var is not None,
        training_flag=first.training,
        origin=origins.get(first.name, ""),
        gain_batch=reason or _gain([b.gain for b in from_batch]),
        gain_running=_gain_running(first),
        sigma=reason or _extent([b.sigma for b in from_batch]),
        leak=reason or _extent([b.leak for b in from_batch]),
        first_order=_first_order(records, measured, running is not None, difference),
        channel_values=_channel_values(first, measured, from_batch)
        if channels
        else NO_CHANNEL_VALUES,
        reads=first.reads,
    )


def _extent(channels: list[Tensor]) -> Extent:
    """Over the channels of a (C,) tensor per batch."""
    values = in_order(torch.stack(channels))
    return Extent(
        minimum=spread(values[:, 0]),
        median=spread(quantile(values, 0.5)),
        maximum=spread(values[:, -1]),
    )


def _gain(gains: list[Tensor]) -> Gain:
    extent = _extent(gains)
    share = (torch.stack(gains) <= 1).double().mean(1)
    return Gain(extent.minimum, extent.median, extent.maximum, spread(share))


def _gain_running(record: LayerRecord) -> Gain | Skipped:
    if record.running_var is None:
        return Skipped("the layer keeps no running statistics")
    sigma = (record.running_var + record.eps).sqrt()
    gamma = torch.ones_like(sigma) if record.gamma is None else record.gamma.abs()
    gain = gamma / sigma
    if not bool(torch.isfinite(gain).all()):
        return Skipped("gamma or the running variance is not finite, or the variance is negative")
    return _gain([gain])


def _first_order(
    records: list[LayerRecord],
    measured: list[FirstOrderChannels],
    running: bool,
    difference: FiniteDifference | Skipped,
) -> FirstOrder | Skipped:
    first = records[0]
    if not running and first.m == 1:
        return Skipped(_ONE_VALUE)
    if not running and first.m == 2:
        return Skipped("two values per channel (m = 2): only leak survives the projection")
    if not measured:
        return Skipped(first.obstacle or "no gradient was recorded")
    residual = float(torch.stack([b.residual.max() for b in measured]).max())
    if math.isnan(residual):
        return Skipped("activations or gradients of this layer are not finite")
    tolerance = TOLERANCE[first.dtype]
    statistics = "running" if running else "batch"
    if residual > tolerance:
        reason = "integrity: autograd and the closed form disagree, numbers withheld"
        known = {"statistics": statistics, "residual": residual, "tolerance": tolerance}
        return withheld(FirstOrder, reason, **known)
    return _ratios(measured, statistics, residual, tolerance, difference)


def _ratios(
    batches: list[FirstOrderChannels],
    statistics: str,
    residual: float,
    tolerance: float,
    difference: FiniteDifference | Skipped,
) -> FirstOrder:
    """The layer's aggregates: sums over channels, one value a batch. 0/0 is NaN, left out."""
    names = ("grad_out_sq", "grad_in_sq", "predicted_sq", "mean_term", "xhat_term")
    values = torch.stack([torch.stack([getattr(b, name) for b in batches]) for name in names])
    gain_sq = torch.stack([b.gain for b in batches]).square()
    out_sq, in_sq, predicted_sq, _, _ = values.sum(2)
    scaled_sq, _, _, mean_term, xhat_term = (values * gain_sq).sum(2)
    silent = "the gradient at this layer is zero in every batch"
    flat = silent if not bool((out_sq > 0).any()) else "gamma is zero in every channel"
    return FirstOrder(
        statistics=statistics,
        predicted=metric((predicted_sq / out_sq).sqrt(), silent),
        measured=metric((in_sq / out_sq).sqrt(), silent),
        residual=residual,
        tolerance=tolerance,
        scale=metric(scaled_sq / out_sq, silent),
        projection=metric(in_sq / scaled_sq, flat),
        removed_mean=metric(mean_term / scaled_sq, flat),
        removed_xhat=metric(xhat_term / scaled_sq, flat),
        grad_out_norm=metric(out_sq.sqrt(), silent),
        grad_in_norm=metric(in_sq.sqrt(), silent),
        finite_difference=difference,
    )


def _channel_values(
    first: LayerRecord, measured: list[FirstOrderChannels], from_batch: list[FirstOrderChannels]
) -> ChannelValues:
    def middle(values: list[Tensor]) -> tuple[float, ...]:
        if not values:
            return ()
        return tuple(quantile(in_order(torch.stack(values, 1)), 0.5).tolist())

    running: tuple[float, ...] = ()
    if first.running_var is not None:
        gamma = 1.0 if first.gamma is None else first.gamma.abs()
        running = tuple((gamma / (first.running_var + first.eps).sqrt()).tolist())
    ratios = [(b.predicted_sq / b.grad_out_sq).sqrt() for b in measured]
    autograd = [(b.grad_in_sq / b.grad_out_sq).sqrt() for b in measured]
    return ChannelValues(
        gain_batch=middle([b.gain for b in from_batch]),
        gain_running=running,
        sigma=middle([b.sigma for b in from_batch]),
        leak=middle([b.leak for b in from_batch]),
        predicted=middle(ratios),
        measured=middle(autograd),
        grad_out_norm=middle([b.grad_out_sq.sqrt() for b in measured]),
        grad_in_norm=middle([b.grad_in_sq.sqrt() for b in measured]),
    )
