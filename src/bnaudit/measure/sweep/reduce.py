"""Sums over a channel's values, in one reading where the processor allows it.

PyTorch forms a product before it sums it. NumPy's einsum does not; it sums one after another, so that long
channels are cut into parts, which are summed pairwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.sweep.plane import Plane

_PART = 512


class Reducer:
    """Sums of stacks in one layout, each (K, C).

    Args:
        plane: a stack of that layout, as a view.
    """

    def __init__(self, plane: Plane) -> None:
        self.dims, self.last = plane.dims, plane.last
        length = plane.t.shape[1] if plane.last else plane.t.shape[3]
        self.part = next(d for d in range(min(_PART, length), 0, -1) if length % d == 0)
        device, dtype = plane.t.device, plane.t.dtype
        # Short parts would leave more partial sums than they save.
        self.fused = (
            device.type == "cpu"
            and dtype in (torch.float32, torch.float64)
            and self.part >= min(length, 16)
        )

    def sum(self, t: Tensor) -> Tensor:
        """Of the values."""
        return t.sum(self.dims)

    def dot(self, t: Tensor, x: Tensor) -> Tensor:
        """With one tensor of the layer, (M, C) or (N, C, L)."""
        if not self.fused:
            return (t * x).sum(self.dims)
        return self._einsum("kbmc,bmc->kbc" if self.last else "kncbl,ncbl->kncb", t, x)

    def product(self, t: Tensor, u: Tensor) -> Tensor:
        """With another stack."""
        if not self.fused:
            return (t * u).sum(self.dims)
        return self._einsum("kbmc,kbmc->kbc" if self.last else "kncbl,kncbl->kncb", t, u)

    def _einsum(self, rule: str, *operands: Tensor) -> Tensor:
        import numpy as np

        dim = -2 if self.last else -1
        parts: list[Any] = [o.unflatten(dim, (-1, self.part)).numpy() for o in operands]
        found = torch.from_numpy(np.einsum(rule, *parts))
        return found.sum(1) if self.last else found.sum((1, 3))
