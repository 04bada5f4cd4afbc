"""Sums over a channel's values, in one reading of the stack where that can be had.

PyTorch forms a product before it sums it; in a buffer that stays in the processor's cache this costs no
memory traffic. A direction that alone exceeds the cache is summed by NumPy's einsum, which forms no
product, but runs on one core and sums one after another: long channels are cut into parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.sweep.plane import Plane

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
