"""BatchNorm's derivatives in closed form, along a stack of tangents.

Per channel, with xh, G, D = gamma/sigma, s = <xh,G>, and for a tangent t: w = t - mean t, p_t = <xh,t>/m:

    J t      = D (t - mean t - xh p_t)                                    (J is symmetric)
    T(t, u)  = gamma/sigma^2 (3 p_t p_u s - p_t <G,w_u> - p_u <G,w_t> - s/m <w_t,w_u>)

T is BatchNorm's own curvature as a symmetric bilinear form, half the gradient of T(t) times u. Both are taken
rows by rows in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.measure.sweep.stack import Plane, empty_stack, plane_of

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.sweep.stack import Pairs

    Stacks = list[Tensor | None]


@dataclass(slots=True)
class Norm:
    """One BatchNorm call on batch statistics.

    Attributes:
        xhat: (N, C, ...).
        grad: G, same shape; zero where the loss does not depend on the output.
        scale: D, (C,).
        rstd: 1/sigma, (C,).
        s, gbar: <xh,G> and mean G, (C,).
        gamma: (C,) or None.
        m: values per channel.
        reached: whether a gradient arrived.
    """

    xhat: Tensor
    grad: Tensor
    scale: Tensor
    rstd: Tensor
    s: Tensor
    gbar: Tensor
    gamma: Tensor | None
    m: int
    reached: bool


def project(t: Tensor, norm: Norm) -> Tensor:
    """J t for a stack (K, N, C, ...)."""
    out = stack_like(t, norm, t.shape[0])
    write_projected(t, norm, out)
    return out


def write_projected(t: Tensor, norm: Norm, out: Tensor) -> tuple[Tensor, Tensor]:
    """Writes J t into `out`, which `stack_like` made; returns mean t and p, (K, C)."""
    target = plane_of(out)
    rows, x = target.like(t), target.partner(norm.xhat)
    mean = rows.sum(target.dims) / norm.m
    p = (rows * x).sum(target.dims) / norm.m
    torch.addcmul(rows, x, target.vector(p), value=-1, out=target.t)
    target.t.sub_(target.vector(mean)).mul_(target.vector(norm.scale))
    return mean, p


def stack_like(t: Tensor | None, norm: Norm, count: int) -> Tensor:
    """An empty stack in the layout of another one, or of images: `plane_of` is a view of it."""
    if t is not None and not plane_of(t).last:
        return t.new_empty(count, *norm.xhat.shape)
    return empty_stack(count, norm.xhat.shape, norm.xhat)


_BLOCK = 2**18
"""Values that a core handles at a time: a megabyte in float32, a common second-level cache."""


def project_and_bend(
    t: Tensor, norm: Norm, out: Tensor, slope: Tensor | None, pairs: Pairs
) -> Tensor:
    """Writes J t, times a slope that follows, into `out`; returns T of the pairs.

    Args:
        t: (K, N, C, ...).
        norm: the call.
        out: same shape, made by `stack_like`; a stack in another layout costs a copy.
        slope: (N, C, ...) or None.
        pairs: of the stack's directions.

    Returns:
        (K / width, pairs), float64.
    """
    target = plane_of(out)
    plane = Plane(target.like(t), target.last)
    x, big_g = plane.partner(norm.xhat), plane.partner(norm.grad)
    mask = None if slope is None else plane.partner(slope.to(t.dtype))
    step = _rows_at_a_time(t, pairs)
    reducer = Reducer(plane, step, cached=norm.xhat.numel() <= _BLOCK * _cores())
    scale = plane.vector(norm.scale)
    sums = []
    for i in range(0, t.shape[0], step):
        rows = plane.t[i : i + step]
        mean, p = reducer.sum(rows) / norm.m, reducer.dot(rows, x) / norm.m
        moved = target.t[i : i + step]
        torch.addcmul(plane.vector(mean * -norm.scale), x, plane.vector(p * -norm.scale), out=moved)
        moved.addcmul_(rows, scale)
        if mask is not None:
            moved.mul_(mask)
        if norm.reached:
            inner = [
                reducer.product(rows[a :: pairs.width], rows[b :: pairs.width])
                for a, b in pairs.pairs
            ]
            sums.append((mean, p, reducer.dot(rows, big_g), torch.stack(inner, 1)))
    if not sums:
        return torch.zeros(t.shape[0] // pairs.width, len(pairs.pairs), dtype=torch.float64)
    return _form([torch.cat(column) for column in zip(*sums, strict=True)], norm, pairs)


def _cores() -> int:
    return max(2, torch.get_num_threads())  # one core reaches into the third-level cache


def _rows_at_a_time(t: Tensor, pairs: Pairs) -> int:
    """All of them where there is no cache to keep them in, but every call costs a launch."""
    if t.device.type != "cpu":
        return t.shape[0]
    return max(1, _BLOCK * _cores() // max(1, t[0].numel()) // pairs.width) * pairs.width


def _form(sums: list[Tensor], norm: Norm, pairs: Pairs) -> Tensor:
    mean, p, at_g, inner = sums
    own = norm.scale * norm.rstd
    steep, flat = 3 * norm.s * own, norm.s / norm.m * own
    along = torch.addcmul(at_g, mean, norm.gbar, value=-norm.m).mul_(own)
    means, ps, alongs = (pairs.split(v) for v in (mean, p, along))

    def product(a: int, b: int) -> Tensor:
        if a == b:
            curved = (ps[a] * steep).sub_(alongs[a], alpha=2).mul_(ps[a])
        else:
            curved = (ps[a] * steep).sub_(alongs[a]).mul_(ps[b]).sub_(alongs[b] * ps[a])
        apart = torch.addcmul(
            inner[:, pairs.pairs.index((a, b))], means[a], means[b], value=-norm.m
        )
        return curved.sub_(apart.mul_(flat)).sum(1)

    return pairs.each(product)


_PART = 512


_CORES = 2
"""Up to how many threads one of NumPy is no slower than PyTorch's all together."""


class Reducer:
    """Sums of blocks of a stack, each (K, C).

    Args:
        plane: the stack, as a view.
        rows: directions in a block at most.
        cached: whether a block stays in the cache.
    """

    def __init__(self, plane: Plane, rows: int, *, cached: bool) -> None:
        self.dims, self.last = plane.dims, plane.last
        length = plane.t.shape[1] if plane.last else plane.t.shape[3]
        self.part = next(d for d in range(min(_PART, length), 0, -1) if length % d == 0)
        device, dtype = plane.t.device, plane.t.dtype
        # Short parts would leave more partial sums than they save.
        self.fused = (
            not cached
            and device.type == "cpu"
            and dtype in (torch.float32, torch.float64)
            and self.part >= min(length, 16)
            and torch.get_num_threads() <= _CORES
        )
        self.buffer = None if self.fused else torch.empty_like(plane.t[:rows])

    def sum(self, t: Tensor) -> Tensor:
        """Of the values."""
        return t.sum(self.dims)

    def dot(self, t: Tensor, x: Tensor) -> Tensor:
        """With one tensor of the layer, (M, C) or (N, C, L)."""
        if self.buffer is not None:
            return torch.mul(t, x, out=self.buffer[: t.shape[0]]).sum(self.dims)
        return self._einsum("kbmc,bmc->kbc" if self.last else "kncbl,ncbl->kncb", t, x)

    def product(self, t: Tensor, u: Tensor) -> Tensor:
        """With another stack."""
        if self.buffer is not None:
            return torch.mul(t, u, out=self.buffer[: t.shape[0]]).sum(self.dims)
        return self._einsum("kbmc,kbmc->kbc" if self.last else "kncbl,kncbl->kncb", t, u)

    def _einsum(self, rule: str, *operands: Tensor) -> Tensor:
        import numpy as np

        dim = -2 if self.last else -1
        parts: list[Any] = [o.unflatten(dim, (-1, self.part)).numpy() for o in operands]
        found = torch.from_numpy(np.einsum(rule, *parts))
        return found.sum(1) if self.last else found.sum((1, 3))
