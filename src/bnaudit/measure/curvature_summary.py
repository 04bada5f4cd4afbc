"""The rows of one layer into its record; nothing is reported where the numerics cannot carry it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from bnaudit.measure.spread import metric
from bnaudit.records.curvature import CurvatureRow, SecondOrder
from bnaudit.records.values import NOT_REQUESTED, Skipped

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.curvature_rows import Rows, Totals
    from bnaudit.measure.theory import FirstOrderChannels
    from bnaudit.records.values import Metric

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-3}
"""What the residual stays below, by dtype. Half precision carries no second derivative."""

BY_CHANNEL = Skipped("by channel: ask with --channels")


def second_order_record(
    found: Totals, channels: FirstOrderChannels, dtype: torch.dtype, *, keep_rows: bool
) -> SecondOrder | Skipped:
    """Aggregates over the channels; one batch, so every spread has n = 1."""
    reason = _obstacle(_size(found), channels, dtype)
    if reason is not None:
        return Skipped(reason)
    if not math.isfinite(found.residual) or not bool(found.transported.isfinite()):
        return Skipped("second derivatives of this layer are not finite")
    tolerance = TOLERANCE[dtype]
    if found.residual > tolerance:
        return _withheld(found.residual, tolerance)
    return _aggregated(found, channels, tolerance, keep_rows=keep_rows)


def _size(found: Totals) -> float:
    """|transported| + |T|, by channel where the channels are known."""
    sides = found if found.rows is None else found.rows
    return float(sides.transported.abs().sum() + sides.correction.abs().sum())


def _obstacle(scale: float, channels: FirstOrderChannels, dtype: torch.dtype) -> str | None:
    """Why the numerics of this run cannot carry the layer's curvature, or None."""
    name = str(dtype).removeprefix("torch.")
    if dtype not in TOLERANCE:
        return f"{name} cannot carry second derivatives"
    if _is_rounding(channels, dtype):
        return "next to nothing of the gradient survives: its direction is rounding"
    if scale == 0:
        return "both sides are zero: the loss is linear behind this layer"
    if _underflows(scale, channels, dtype):
        return f"gradient or curvature leave the range of {name} (--dtype float64)"
    return None


def _is_rounding(channels: FirstOrderChannels, dtype: torch.dtype) -> bool:
    """Whether g = dL/dx, rounded relative to |D||G|, has fewer than three digits left."""
    reference = (channels.gain**2 * channels.grad_out_sq).sum().sqrt()
    return bool(channels.predicted_sq.sum().sqrt() < 1e3 * torch.finfo(dtype).eps * reference)


def _underflows(scale: float, channels: FirstOrderChannels, dtype: torch.dtype) -> bool:
    """Whether g or Hg, of norm scale/|g|, are so small that their elements are no normal numbers.

    An element of a vector of 10^6 is 10^3 smaller than its norm. Below the smallest normal number
    digits are lost that no tolerance relative to the result allows for.
    """
    least = 1e3 * torch.finfo(dtype).tiny
    norm = float(channels.grad_in_sq.sum().sqrt())
    return norm < least or scale / norm < least


def _one(value: Tensor) -> Metric:
    return metric(value.reshape(1), "not defined: a division of zero by zero")


def _aggregated(
    found: Totals, channels: FirstOrderChannels, tolerance: float, *, keep_rows: bool
) -> SecondOrder:
    transported, correction = found.transported, found.correction
    measured, rows = found.measured, found.rows
    record = SecondOrder(
        measured=_one(measured),
        predicted=_one(transported + correction),
        residual=found.residual,
        tolerance=tolerance,
        transported=_one(transported),
        correction=_one(correction),
        correction_share=_one(correction.abs() / (transported.abs() + correction.abs())),
        rayleigh=_one(measured / channels.grad_in_sq.sum()),
        rayleigh_scaled=NOT_REQUESTED,
        bound=NOT_REQUESTED,
        bound_slack=NOT_REQUESTED,
        bound_holds=NOT_REQUESTED,
    )
    if found.out_curvature is None or found.bound is None:
        return record
    record = _bounded(record, found, found.out_curvature, found.bound, channels)
    if rows is None or rows.out_curvature is None:
        return record
    bound_rows = channels.gain**2 * rows.out_curvature + rows.correction
    record = replace(record, bound_holds=_holds(rows, bound_rows, channels))
    if not keep_rows:
        return record
    columns = (rows.measured.tolist(), rows.predicted.tolist(), bound_rows.tolist())
    return replace(record, rows=tuple(map(CurvatureRow, *columns)))


def _bounded(
    record: SecondOrder,
    found: Totals,
    out_curvature: Tensor,
    bound: Tensor,
    channels: FirstOrderChannels,
) -> SecondOrder:
    measured = found.measured
    scaled_sq = (channels.gain**2 * channels.grad_out_sq).sum()
    out_sq = channels.grad_out_sq.sum()
    return replace(
        record,
        rayleigh_scaled=_one(scaled_sq / out_sq * out_curvature / out_sq),
        bound=_one(bound),
        bound_slack=_one((bound - measured) / (bound.abs() + measured.abs())),
        bound_holds=BY_CHANNEL,
    )


def _holds(rows: Rows, bound: Tensor, channels: FirstOrderChannels) -> Metric:
    return _one((rows.measured <= bound)[channels.grad_out_sq > 0].double().mean())


def _withheld(residual: float, tolerance: float) -> SecondOrder:
    reason = Skipped("integrity: double backward and the closed form disagree, numbers withheld")
    return SecondOrder(
        measured=reason,
        predicted=reason,
        residual=residual,
        tolerance=tolerance,
        transported=reason,
        correction=reason,
        correction_share=reason,
        rayleigh=reason,
        rayleigh_scaled=reason,
        bound=reason,
        bound_slack=reason,
        bound_holds=reason,
    )
