"""The second-order terms of one layer: by channel, summed, and as its record.

Sums are taken in float64, and nothing is reported where the numerics of the run cannot carry it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from bnaudit.measure.spread import metric, withheld
from bnaudit.records.curvature import NO_ROWS, CurvatureRow, SecondOrder
from bnaudit.records.values import NOT_REQUESTED, Skipped

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.collect import LayerRecord
    from bnaudit.measure.moments import Moments
    from bnaudit.measure.theory import FirstOrderChannels
    from bnaudit.records.values import Metric


@dataclass(frozen=True, slots=True)
class Rows:
    """Per channel, float64, shape (C,), on the CPU.

    Attributes:
        measured: g_j'(Hx g)_j.
        transported: (Jg)_j'(Hz Jg)_j.
        correction: T_j(g).
        out_curvature: G_j'(Hz G)_j, where it was asked for.
    """

    measured: Tensor
    transported: Tensor
    correction: Tensor
    out_curvature: Tensor | None

    @property
    def predicted(self) -> Tensor:
        """(Jg)_j'(Hz Jg)_j + T_j."""
        return self.transported + self.correction


@dataclass(frozen=True, slots=True)
class Totals:
    """A layer's sums over its channels, float64, on the CPU.

    Attributes:
        measured: g'Hx g.
        transported: (Jg)'Hz(Jg).
        correction: T(g).
        out_curvature: G'HzG, where it was asked for.
        bound: sum_j D_j^2 G_j'(Hz G)_j + T, likewise.
        residual: how far the two sides, or what stands for them, disagree; see `SecondOrder`.
        rows: the same by channel, where full Hessian-vector products were formed.
    """

    measured: Tensor
    transported: Tensor
    correction: Tensor
    out_curvature: Tensor | None
    bound: Tensor | None
    residual: float
    rows: Rows | None = None


def totals(rows: Rows, gain_sq: Tensor) -> Totals:
    """Sums over the channels.

    Args:
        rows: of a layer.
        gain_sq: D^2, (C,).
    """
    scale = rows.transported.abs().sum() + rows.correction.abs().sum()
    off = (rows.measured - rows.predicted).abs().sum()
    at_output = rows.out_curvature
    return Totals(
        measured=rows.measured.sum(),
        transported=rows.transported.sum(),
        correction=rows.correction.sum(),
        out_curvature=None if at_output is None else at_output.sum(),
        bound=None if at_output is None else (gain_sq * at_output + rows.correction).sum(),
        residual=float(off / scale) if float(scale) else 0.0,
        rows=rows,
    )


@dataclass(frozen=True, slots=True)
class Products:
    """A layer's input and gradients and the Hessian-vector products there, each (N, C, ...).

    Attributes:
        xhat: the normalised input.
        g: dL/dx.
        big_g: dL/dz.
        hx_g: Hx g.
        hz_jg: Hz(Jg).
        hz_big_g: Hz G, where it was asked for.
    """

    xhat: Tensor
    g: Tensor
    big_g: Tensor
    hx_g: Tensor
    hz_jg: Tensor
    hz_big_g: Tensor | None


def curvature_rows(
    products: Products, moments: Moments, channels: FirstOrderChannels, record: LayerRecord
) -> Rows:
    """Contracts the Hessian-vector products of a layer.

    Args:
        products: of the layer on one batch.
        moments: of the same layer and batch.
        channels: first order of the same layer and batch.
        record: gives gamma and m.
    """
    gamma = torch.ones_like(channels.sigma) if record.gamma is None else record.gamma
    xhat, g = _wide_dtype(products.xhat), _wide_dtype(products.g)
    dims = [d for d in range(g.dim()) if d != 1]
    w = g - g.mean(dims, keepdim=True)
    direction = _Direction(xhat, w, (xhat * w).mean(dims).cpu())
    scale = gamma / channels.sigma
    jg = direction.wide(scale) * (direction.w - direction.xhat * direction.wide(direction.p))
    return Rows(
        measured=_total(products.g, products.hx_g),
        transported=_total(jg, products.hz_jg),
        correction=_correction(products, direction, moments, channels, scale, record.m),
        out_curvature=None
        if products.hz_big_g is None
        else _total(products.big_g, products.hz_big_g),
    )


@dataclass(frozen=True, slots=True)
class _Direction:
    """v = g as autograd gave it, split along xhat, in float64.

    The theorem holds for any v. g itself is rounded by float32 relative to |D||G|, which matters where
    little of it survives; with the v that was really used both sides see the same rounding.
    """

    xhat: Tensor
    w: Tensor
    p: Tensor

    def wide(self, t: Tensor) -> Tensor:
        """(C,) -> broadcastable against the activations."""
        shape = [-1 if d == 1 else 1 for d in range(self.w.dim())]
        return t.to(self.w.device, self.w.dtype).view(shape)


def normalised(x: Tensor, moments: Moments, channels: FirstOrderChannels) -> Tensor:
    """Xhat in float64 from the layer's input (float32 on mps)."""
    x = _wide_dtype(x)
    shape = [-1 if d == 1 else 1 for d in range(x.dim())]
    mean, sigma = (t.to(x.device, x.dtype).view(shape) for t in (moments.mean, channels.sigma))
    return (x - mean) / sigma


def _wide_dtype(t: Tensor) -> Tensor:
    return t.float() if t.device.type == "mps" else t.double()


def _total(a: Tensor, b: Tensor) -> Tensor:
    """Sum of products over everything but the channels."""
    dims = [d for d in range(a.dim()) if d != 1]
    return (_wide_dtype(a) * _wide_dtype(b)).sum(dims).cpu().double()


def _correction(
    products: Products,
    direction: _Direction,
    moments: Moments,
    channels: FirstOrderChannels,
    scale: Tensor,
    m: int,
) -> Tensor:
    """T_c(v) = gamma/sigma^2 (-2 p <G,w> + 3 p^2 s - s |w|^2/m)."""
    s = moments.grad_along * (m * moments.var).sqrt() / channels.sigma
    p = direction.p.double()
    along = _total(products.big_g, direction.w)
    w_sq = _total(direction.w, direction.w)
    return scale / channels.sigma * (-2 * p * along + 3 * p**2 * s - s * w_sq / m)


TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-3}
"""What the residual stays below, by dtype. Half precision carries no second derivative."""


BY_CHANNEL = Skipped("by channel: ask with --channels")


def second_order_record(
    found: Totals, channels: FirstOrderChannels, dtype: torch.dtype, *, keep_rows: bool
) -> SecondOrder | Skipped:
    """Aggregates over the channels; one batch, so every spread has n = 1."""
    # |transported| + |T|, by channel where the channels are known.
    sides = found if found.rows is None else found.rows
    scale = float(sides.transported.abs().sum() + sides.correction.abs().sum())
    reason = _obstacle(scale, channels, dtype)
    if reason is not None:
        return Skipped(reason)
    if not math.isfinite(found.residual) or not bool(found.transported.isfinite()):
        return Skipped("second derivatives of this layer are not finite")
    tolerance = TOLERANCE[dtype]
    if found.residual > tolerance:
        reason = "integrity: double backward and the closed form disagree, numbers withheld"
        return withheld(SecondOrder, reason, residual=found.residual, tolerance=tolerance)
    transported, correction = found.transported, found.correction
    record = SecondOrder(
        measured=_one(found.measured),
        predicted=_one(transported + correction),
        residual=found.residual,
        tolerance=tolerance,
        transported=_one(transported),
        correction=_one(correction),
        correction_share=_one(correction.abs() / (transported.abs() + correction.abs())),
        rayleigh=_one(found.measured / channels.grad_in_sq.sum()),
        rayleigh_scaled=NOT_REQUESTED,
        bound=NOT_REQUESTED,
        bound_slack=NOT_REQUESTED,
        bound_holds=NOT_REQUESTED,
    )
    if found.out_curvature is None or found.bound is None:
        return record
    return _bounded(record, found, found.out_curvature, found.bound, channels, keep_rows=keep_rows)


def _obstacle(scale: float, channels: FirstOrderChannels, dtype: torch.dtype) -> str | None:
    """Why the numerics of this run cannot carry the layer's curvature, or None."""
    name = str(dtype).removeprefix("torch.")
    if dtype not in TOLERANCE:
        return f"{name} cannot carry second derivatives"
    # g = dL/dx is rounded relative to |D||G|: three digits are left of it, or its direction says nothing.
    reference = (channels.gain**2 * channels.grad_out_sq).sum().sqrt()
    if channels.predicted_sq.sum().sqrt() < 1e3 * torch.finfo(dtype).eps * reference:
        return "next to nothing of the gradient survives: its direction is rounding"
    if scale == 0:
        return "both sides are zero: the loss is linear behind this layer"
    # Hg has the norm scale/|g|, and an element of a vector of 10^6 is 10^3 smaller than its norm. Below
    # the smallest normal number digits are lost that no tolerance relative to the result allows for.
    least = 1e3 * torch.finfo(dtype).tiny
    norm = float(channels.grad_in_sq.sum().sqrt())
    if norm < least or scale / norm < least:
        return f"gradient or curvature leave the range of {name} (--dtype float64)"
    return None


def _one(value: Tensor) -> Metric:
    return metric(value.reshape(1), "not defined: a division of zero by zero")


def _bounded(
    record: SecondOrder,
    found: Totals,
    out_curvature: Tensor,
    bound: Tensor,
    channels: FirstOrderChannels,
    *,
    keep_rows: bool,
) -> SecondOrder:
    """The record with the bound; whether that holds is said where the channels are known."""
    scaled_sq = (channels.gain**2 * channels.grad_out_sq).sum()
    out_sq = channels.grad_out_sq.sum()
    record = replace(
        record,
        rayleigh_scaled=_one(scaled_sq / out_sq * out_curvature / out_sq),
        bound=_one(bound),
        bound_slack=_one((bound - found.measured) / (bound.abs() + found.measured.abs())),
        bound_holds=BY_CHANNEL,
    )
    rows = found.rows
    if rows is None or rows.out_curvature is None:
        return record
    by_channel = channels.gain**2 * rows.out_curvature + rows.correction
    holds = (rows.measured <= by_channel)[channels.grad_out_sq > 0].double().mean()
    columns = (rows.measured.tolist(), rows.predicted.tolist(), by_channel.tolist())
    kept = tuple(map(CurvatureRow, *columns)) if keep_rows else NO_ROWS
    return replace(record, bound_holds=_one(holds), rows=kept)
