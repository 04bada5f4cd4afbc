"""The per-channel sums that every first-order quantity of a BatchNorm layer is made of.

Notation, per channel, with m values x and the gradient G = dL/dz at the layer's output:

    mu = mean x,  c = x - mu,  v = |c|^2 / m,  u = c/|c|  (0 if c = 0),
    Gbar = <1,G>/m,  t = <u,G>,  R = G - Gbar - u t.

R is the part of G that the projection of BatchNorm's backward leaves whole. Two ways lead there:

- `stable_moments` forms c and R element by element and then sums. The textbook difference
  |G|^2 - m Gbar^2 - t^2 loses every digit to cancellation where little survives.
- `raw_sums` takes six plain sums in float64 in one pass over the data, half the cost. For float32
  activations they have nine digits to spare, so the differences are exact enough wherever little
  cancels; the channels where much does are taken from `stable_moments`.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import torch

from bnaudit.measure.sums import RawSums, raw_sums

if TYPE_CHECKING:
    from torch import Tensor

# Of the float64 differences at most six digits may cancel: what is left is float32's precision or
# better, and the layer's ratio, a square root of |G|'s scale, is far inside the tolerance.
_SHIFT_LIMIT = 1e4  # sum x^2 / sum (x - mu)^2
_SURVIVAL_LIMIT = 1e-6  # |R|^2 / |G|^2

# Elements per block of channels: temporaries stay in a core's cache and do not grow with the layer.
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
    """Reduces (N, C, ...) tensors over everything but the channels.

    Args:
        x: the layer's input.
        grad_out: G, the gradient at its output, same shape; None is zero.
        grad_in: g, the gradient at its input, same shape; None is zero.
    """
    big_g = torch.zeros_like(x) if grad_out is None else grad_out
    g = torch.zeros_like(x) if grad_in is None else grad_in
    if x.dtype == torch.float64:
        return stable_moments(x, big_g, g)
    moments, trusted = _from_sums(raw_sums(x, big_g, g), x.numel() // x.shape[1])
    if bool(trusted.all()):
        return moments
    doubtful = (~trusted).nonzero()[:, 0]
    on_device = doubtful.to(x.device)
    exact = stable_moments(*(t.index_select(1, on_device) for t in (x, big_g, g)))
    pairs = zip(astuple(moments), astuple(exact), strict=True)
    return Moments(*(ours.index_copy(0, doubtful, theirs) for ours, theirs in pairs))


def _from_sums(sums: RawSums, m: int) -> tuple[Moments, Tensor]:
    """The moments as differences of sums, and for which channels that is exact enough."""
    mean, grad_mean = sums.x / m, sums.big_g / m
    scatter = (sums.x_sq - m * mean**2).clamp(min=0)
    dot = sums.x_big_g - mean * sums.big_g
    along = torch.where(scatter > 0, dot / scatter.sqrt(), 0)
    rest = sums.big_g_sq - m * grad_mean**2 - along**2
    moments = Moments(
        mean=mean,
        var=scatter / m,
        grad_mean=grad_mean,
        grad_along=along,
        grad_out_sq=sums.big_g_sq,
        grad_rest_sq=rest.clamp(min=0),
        grad_in_sq=sums.g_sq,
    )
    spread_out = (sums.x_sq == 0) | (sums.x_sq < _SHIFT_LIMIT * scatter)
    survives = (sums.big_g_sq == 0) | (rest > _SURVIVAL_LIMIT * sums.big_g_sq)
    return moments, spread_out & survives


def stable_moments(x: Tensor, big_g: Tensor, g: Tensor) -> Moments:
    """The same reductions without cancellation, accumulating in float64.

    Args:
        x: (N, C, ...), the layer's input.
        big_g: G, same shape.
        g: dL/dx, same shape.
    """
    channels = x.shape[1]
    width = max(1, min(channels, _BLOCK * channels // max(x.numel(), 1)))
    blocks = [
        _block(*(t[:, i : i + width] for t in (x, big_g, g))) for i in range(0, channels, width)
    ]
    return Moments(*torch.cat(blocks, dim=1).cpu())


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
    if x.dtype == torch.float64:
        # The mean itself is rounded, which is c's own mean. Without it a channel that is constant
        # would have a variance of an ulp squared, and u the direction of a constant.
        c -= wide(total(c) / m)
    var = (total(c * c) / m - shift * shift).clamp_(min=0)
    sum_g = total(big_g)
    dot = total(c * big_g) - shift * sum_g
    spread = (m * var).sqrt()
    along = torch.where(spread > 0, dot / spread, 0)
    slope = torch.where(spread > 0, dot / (m * var), 0)
    rest = torch.addcmul(big_g - wide(sum_g / m - slope * shift), c, wide(slope), value=-1)
    squares = [total(t * t) for t in (big_g, rest, g)]
    return torch.stack([mean, var, sum_g / m, along, *squares])
