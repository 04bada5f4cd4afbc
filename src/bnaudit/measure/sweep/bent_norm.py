"""BatchNorm's own curvature along a stack, and its projection, rows by rows in the processor's cache.

T as a symmetric bilinear form, half the gradient of T(t) times u, with w = t - mean t:

    T(t, u) = gamma/sigma^2 (3 p_t p_u s - p_t <G,w_u> - p_u <G,w_t> - s/m <w_t,w_u>)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.measure.sweep.plane import Plane, plane_of
from bnaudit.measure.sweep.reduce import Reducer

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.sweep.form import Pairs
    from bnaudit.measure.sweep.norm import Norm

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
