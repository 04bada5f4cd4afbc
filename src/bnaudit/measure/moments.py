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
- `row_sums` takes the same in float32 over up to 1024 values and adds these up in float64, on the processor
  at a fourth of that cost. Their relative error is some 1e-7, so only where hardly anything cancels are
  they taken; the channels where a digit would be lost, or a square underflow, go the first two ways.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

# Of the float64 differences at most six digits may cancel: what is left is float32's precision or
# better, and the layer's ratio, a square root of |G|'s scale, is far inside the tolerance.
_SHIFT_LIMIT = 1e4  # sum x^2 / sum (x - mu)^2


_SURVIVAL_LIMIT = 1e-6  # |R|^2 / |G|^2


# With `row_sums` one digit may cancel of the variance, two of |R|^2, whose root is what counts.
_FAST_SHIFT_LIMIT = 10.0


_FAST_SURVIVAL_LIMIT = 1e-2


_FAST_RANGE = 1e-24, 1e30
"""Of a mean square: a value far below its root, or far above, has a square in float32 all the same."""


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


def channel_moments(
    x: Tensor, grad_out: Tensor | None, grad_in: Tensor | None
) -> tuple[Moments, Tensor | None]:
    """Reduces (N, C, ...) tensors over everything but the channels.

    Args:
        x: the layer's input.
        grad_out: G, the gradient at its output, same shape; None is zero.
        grad_in: g, the gradient at its input, same shape; None is zero.

    Returns:
        The moments, and where they were taken row by row (2, N, C): sum x and sum x^2 of each.
    """
    big_g = torch.zeros_like(x) if grad_out is None else grad_out
    g = torch.zeros_like(x) if grad_in is None else grad_in
    given = (x, big_g, g)
    fast = row_sums(*given)
    if fast is None:
        return _exact(*given), None
    m = x.numel() // x.shape[1]
    sums = RawSums(*fast.sum(1))
    moments, trusted = _from_sums(sums, m, _FAST_SHIFT_LIMIT, _FAST_SURVIVAL_LIMIT)
    low, high = (m * bound for bound in _FAST_RANGE)
    for squares in (sums.x_sq, sums.big_g_sq, sums.g_sq):
        trusted &= (squares > low) & (squares < high)
    return _replaced(moments, trusted, _exact, given), fast[[0, 3]]


def _exact(x: Tensor, big_g: Tensor, g: Tensor) -> Moments:
    if x.dtype == torch.float64:
        return stable_moments(x, big_g, g)
    m = x.numel() // x.shape[1]
    moments, trusted = _from_sums(raw_sums(x, big_g, g), m, _SHIFT_LIMIT, _SURVIVAL_LIMIT)
    return _replaced(moments, trusted, stable_moments, (x, big_g, g))


def _replaced(
    moments: Moments,
    trusted: Tensor,
    way: Callable[[Tensor, Tensor, Tensor], Moments],
    given: tuple[Tensor, Tensor, Tensor],
) -> Moments:
    """The moments, those of the channels that are not trusted found another way."""
    if bool(trusted.all()):
        return moments
    if not bool(trusted.any()):
        return way(*given)
    doubtful = (~trusted).nonzero()[:, 0]
    on_device = doubtful.to(given[0].device)
    x, big_g, g = (_channels(t, on_device) for t in given)
    pairs = zip(astuple(moments), astuple(way(x, big_g, g)), strict=True)
    return Moments(*(ours.index_copy(0, doubtful, theirs) for ours, theirs in pairs))


def _channels(t: Tensor, chosen: Tensor) -> Tensor:
    """Some channels; of images with the channels last, without a walk from value to value."""
    moved = t.movedim(1, -1)
    if t.is_contiguous() or not moved.is_contiguous():
        return t.index_select(1, chosen)
    flat = moved.reshape(-1, t.shape[1]).index_select(1, chosen)
    return flat.view(*moved.shape[:-1], -1).movedim(-1, 1)


def _from_sums(
    sums: RawSums, m: int, shift_limit: float, survival_limit: float
) -> tuple[Moments, Tensor]:
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
    spread_out = (sums.x_sq == 0) | (sums.x_sq < shift_limit * scatter)
    survives = (sums.big_g_sq == 0) | (rest > survival_limit * sums.big_g_sq)
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


# Elements that are widened to float64 at a time: three buffers of this many stay in a CPU's cache,
# where the cost of widening is small. On other devices launches cost more than cache misses.
_CPU_BLOCK = 1 << 17


_DEVICE_BLOCK = 1 << 24


# Below this many values per row (one sample, one channel) rows are not worth their overhead.
_SHORT_ROW = 8


@dataclass(frozen=True, slots=True)
class RawSums:
    """Per channel, float64, shape (C,), on the CPU: sums of x, G, xG, x^2, G^2 and g^2."""

    x: Tensor
    big_g: Tensor
    x_big_g: Tensor
    x_sq: Tensor
    big_g_sq: Tensor
    g_sq: Tensor


_PART = 1024


def row_sums(x: Tensor, big_g: Tensor, g: Tensor) -> Tensor | None:
    """(6, N, C) float64, the sums of `RawSums` over each row of a channel; float32 within its parts.

    None where that is no gain: short rows, other precisions, other devices.
    """
    n, channels = x.shape[:2]
    length = x.numel() // max(n * channels, 1)
    if x.dtype != torch.float32 or x.device.type != "cpu" or length < _LONG_ROW or not channels:
        return None
    last, views = _parts((x, big_g, g))
    sums = [*(t.sum(1) for t in views[:2]), _dots(*views[:2])]
    if last:  # where vector_norm takes one value after another
        sums += [_dots(t, t) for t in views]
        return torch.stack(sums).double().view(6, n, -1, channels).sum(2)
    squares = [torch.linalg.vector_norm(t, dim=1).double().square() for t in views]
    found = torch.stack([*(t.double() for t in sums), *squares])
    return found.view(6, n, channels, -1).sum(3)


_LONG_ROW = 16


def _parts(tensors: Sequence[Tensor]) -> tuple[bool, list[Tensor]]:
    """Whether the channels are last, and (parts, values) or (parts, values, C): what float32 adds up."""
    x = tensors[0]
    n, channels = x.shape[:2]
    length = x.numel() // (n * channels)
    last = not x.is_contiguous() and x.movedim(1, -1).is_contiguous()
    longest = min(_PART // 4 if last else _PART, length)  # vectors over channels add up one by one
    part = next((d for d in range(longest, 15, -1) if length % d == 0), length)
    if last:
        return True, [t.movedim(1, -1).reshape(-1, part, channels) for t in tensors]
    return False, [t.reshape(-1, part) for t in tensors]


def product_and_sum(x: Tensor, big_g: Tensor) -> tuple[Tensor, Tensor]:
    """<x, G> and <1, G> by channel, (C,) float64, of (N, C, ...) tensors of one layout."""
    n, channels = x.shape[:2]
    if x.dtype != torch.float32 or x.device.type != "cpu" or x[0, 0].numel() < _LONG_ROW:
        dims = [d for d in range(x.dim()) if d != 1]
        sums = [t.sum(dims, dtype=torch.float64) for t in (x * big_g, big_g)]
        return sums[0], sums[1]
    last, views = _parts((x, big_g))
    found = torch.stack([_dots(*views), views[1].sum(1)]).double()
    if last:
        product, total = found.sum(1)
    else:
        product, total = found.view(2, n, channels, -1).sum((1, 3))
    return product, total


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> over the second axis of float32 tensors, without their product in memory."""
    if torch.get_num_threads() <= _CORES:
        import numpy as np

        rule = "rl,rl->r" if a.dim() == 2 else "rlc,rlc->rc"
        return torch.from_numpy(np.einsum(rule, a.numpy(), b.numpy()))
    step = max(1, _BLOCK // a[0].numel())
    parts = range(0, len(a), step)
    return torch.cat([(a[i : i + step] * b[i : i + step]).sum(1) for i in parts])


_CORES = 2
"""Up to how many threads one of NumPy is as fast as PyTorch's all together."""


def raw_sums(x: Tensor, big_g: Tensor, g: Tensor) -> RawSums:
    """Sums over everything but the channels of three (N, C, ...) tensors."""
    n, channels = x.shape[:2]
    length = x.numel() // max(n * channels, 1)
    if length < _SHORT_ROW:
        wide = (
            t.reshape(n, channels, length).movedim(1, 0).reshape(channels, -1)
            for t in (x, big_g, g)
        )
        return RawSums(*_rows(*(t.double() for t in wide)).cpu())
    rows = [t.reshape(n * channels, length) for t in (x, big_g, g)]
    block = _CPU_BLOCK if x.device.type == "cpu" else _DEVICE_BLOCK
    step = max(1, min(block // length, n * channels))
    buffers = [torch.empty(step, length, dtype=torch.float64, device=x.device) for _ in rows]
    sums = torch.empty(6, n * channels, dtype=torch.float64, device=x.device)
    for i in range(0, n * channels, step):
        parts = [t[i : i + step] for t in rows]
        widened = [b[: p.shape[0]].copy_(p) for b, p in zip(buffers, parts, strict=True)]
        sums[:, i : i + step] = _rows(*widened)
    return RawSums(*sums.view(6, n, channels).sum(1).cpu())


def _rows(x: Tensor, big_g: Tensor, g: Tensor) -> Tensor:
    """(6, rows) from three float64 (rows, length) tensors."""
    norms = [torch.linalg.vector_norm(t, dim=1) for t in (x, big_g, g)]
    return torch.stack([x.sum(1), big_g.sum(1), (x * big_g).sum(1), *(v * v for v in norms)])
