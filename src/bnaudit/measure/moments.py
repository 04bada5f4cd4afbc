"""The per-channel sums that every first-order quantity of a BatchNorm layer is made of.

Notation, per channel, with m values x and the gradient G = dL/dz at the layer's output:

    mu = mean x,  c = x - mu,  v = |c|^2 / m,  u = c/|c|  (0 if c = 0),
    Gbar = <1,G>/m,  t = <u,G>,  R = G - Gbar - u t.

R is the part of G that the projection of BatchNorm's backward leaves whole. It is formed element by
element and then summed: the textbook |G|^2 - m Gbar^2 - t^2 loses every digit to cancellation where
little survives (float32, surviving share 1e-5: negative in most channels).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

# Elements per block of channels: its few temporaries stay in a core's cache, and the memory they
# need does not grow with the layer.
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Moments:
    """Per-channel reductions of one BatchNorm call on one batch; float64, shape (C,), on the CPU.

    Attributes:
        mean: mu.
        var: v, the biased variance that BatchNorm divides by.
        grad_mean: Gbar.
        grad_along: t = <u, G>.
        grad_out_sq: |G|^2.
        grad_rest_sq: |R|^2.
        grad_in_sq: |g|^2 with g = dL/dx as autograd computed it.
    """

    mean: Tensor
    var: Tensor
    grad_mean: Tensor
    grad_along: Tensor
    grad_out_sq: Tensor
    grad_rest_sq: Tensor
    grad_in_sq: Tensor


def channel_moments(x: Tensor, grad_out: Tensor | None, grad_in: Tensor | None) -> Moments:
    """Reduces (N, C, ...) tensors over everything but the channels, accumulating in float64.

    Args:
        x: the layer's input.
        grad_out: G, the gradient at its output, same shape; None is zero.
        grad_in: g, the gradient at its input, same shape; None is zero.
    """
    big_g = torch.zeros_like(x) if grad_out is None else grad_out
    g = torch.zeros_like(x) if grad_in is None else grad_in
    channels = x.shape[1]
    width = max(1, min(channels, _BLOCK * channels // max(x.numel(), 1)))
    blocks = [
        _block(*(t[:, i : i + width] for t in (x, big_g, g))) for i in range(0, channels, width)
    ]
    stacked = torch.cat(blocks, dim=1).cpu()
    return Moments(*(stacked[i] for i in range(len(fields(Moments)))))


def _block(x: Tensor, big_g: Tensor, g: Tensor) -> Tensor:
    """The rows of `Moments` for a block of channels, shape (7, C_block)."""
    if x.dtype in (torch.float16, torch.bfloat16):
        x, big_g, g = x.float(), big_g.float(), g.float()
    dims = [d for d in range(x.dim()) if d != 1]
    shape = [-1 if d == 1 else 1 for d in range(x.dim())]
    m = x.numel() // x.shape[1]

    def total(t: Tensor) -> Tensor:
        return t.sum(dims, dtype=torch.float64)

    def wide(t: Tensor) -> Tensor:
        return t.to(x.dtype).view(shape)

    mean = total(x) / m
    # c is formed with the rounded mean; `shift` is what the rounding left in it, and is taken out
    # of the sums again: |c|^2 = |c'|^2 - m shift^2, <c,G> = <c',G> - shift <1,G>.
    c = x - wide(mean)
    shift = mean - mean.to(x.dtype)
    var = (total(c * c) / m - shift * shift).clamp_(min=0)
    sum_g = total(big_g)
    dot = total(c * big_g) - shift * sum_g
    spread = (m * var).sqrt()
    along = torch.where(spread > 0, dot / spread, 0)
    slope = torch.where(spread > 0, dot / (m * var), 0)
    rest = torch.addcmul(big_g - wide(sum_g / m - slope * shift), c, wide(slope), value=-1)
    squares = [total(t * t) for t in (big_g, rest, g)]
    return torch.stack([mean, var, sum_g / m, along, *squares])
