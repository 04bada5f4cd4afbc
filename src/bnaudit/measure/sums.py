"""Six plain sums per channel, in float64, in one pass over three tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

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
