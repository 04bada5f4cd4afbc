"""The second-order terms of one layer, row by row, reduced in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.moments import Moments
    from bnaudit.measure.probe import LayerRecord
    from bnaudit.measure.theory import FirstOrderChannels


@dataclass(frozen=True, slots=True)
class Rows:
    """Per channel, float64, shape (C,), on the CPU.

    Attributes:
        measured: g_j'(Hx g)_j.
        transported: (Jg)_j'(Hz Jg)_j.
        correction: T_j(g).
        out_curvature: G_j'(Hz G)_j.
    """

    measured: Tensor
    transported: Tensor
    correction: Tensor
    out_curvature: Tensor

    @property
    def predicted(self) -> Tensor:
        """(Jg)_j'(Hz Jg)_j + T_j."""
        return self.transported + self.correction


@dataclass(frozen=True, slots=True)
class Products:
    """A layer's input and gradients and the Hessian-vector products there, each (N, C, ...).

    Attributes:
        x: the layer's input.
        g: dL/dx.
        big_g: dL/dz.
        hx_g: Hx g.
        hz_jg: Hz(Jg).
        hz_big_g: Hz G.
    """

    x: Tensor
    g: Tensor
    big_g: Tensor
    hx_g: Tensor
    hz_jg: Tensor
    hz_big_g: Tensor


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
    jg = _transport(products.x, products.g, moments, channels, gamma)
    return Rows(
        measured=_total(products.g, products.hx_g),
        transported=_total(jg, products.hz_jg),
        correction=_correction(moments, channels, gamma, record.m),
        out_curvature=_total(products.big_g, products.hz_big_g),
    )


def _transport(
    x: Tensor, g: Tensor, moments: Moments, channels: FirstOrderChannels, gamma: Tensor
) -> Tensor:
    """Jg = D (w - xhat p), w = g - mean g, p = <xhat, g>/m, in float64."""
    dims = [d for d in range(x.dim()) if d != 1]
    shape = [-1 if d == 1 else 1 for d in range(x.dim())]

    def wide(t: Tensor) -> Tensor:
        return t.to(x.device).view(shape)

    double = torch.float32 if x.device.type == "mps" else torch.float64
    xhat = (x.to(double) - wide(moments.mean)) / wide(channels.sigma)
    w = g.to(double)
    w = w - w.mean(dims, keepdim=True)
    p = (xhat * w).mean(dims, keepdim=True)
    return wide(gamma / channels.sigma) * (w - xhat * p)


def _total(a: Tensor, b: Tensor) -> Tensor:
    dims = [d for d in range(a.dim()) if d != 1]
    return (a.double() * b.double()).sum(dims).cpu()


def _correction(moments: Moments, channels: FirstOrderChannels, gamma: Tensor, m: int) -> Tensor:
    """T_c(g) = gamma s/(m sigma^2) (-(1 + 2 leak)|g|^2 + D^2 leak^2 s^2/m), |g|^2 in closed form."""
    s = moments.grad_along * (m * moments.var).sqrt() / channels.sigma
    leak = channels.leak
    inner = -(1 + 2 * leak) * channels.predicted_sq + channels.gain**2 * leak**2 * s**2 / m
    return gamma * s / (m * channels.sigma**2) * inner
