"""A stack of activations as a matrix per direction, channels in one axis, whatever its layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Plane:
    """A stack as (K, M, C) or (K, N, C, L), whichever is a view of it.

    Attributes:
        t: the view.
        last: whether the channels are its last axis.
    """

    t: Tensor
    last: bool

    @property
    def dims(self) -> tuple[int, ...]:
        """The axes that a channel's values lie along."""
        return (1,) if self.last else (1, 3)

    def vector(self, v: Tensor) -> Tensor:
        """(C,) or (K, C) to broadcast against the stack."""
        if v.dim() == 1:
            return v if self.last else v[:, None]
        return v[:, None] if self.last else v[:, None, :, None]

    def partner(self, x: Tensor) -> Tensor:
        """(N, C, ...) in the same layout."""
        if self.last:
            return x.movedim(1, -1).reshape(-1, x.shape[1])
        return x.reshape(*x.shape[:2], -1)

    def like(self, t: Tensor) -> Tensor:
        """Another stack (K, N, C, ...) in the same layout."""
        if self.last:
            return t.movedim(2, -1).reshape(t.shape[0], -1, t.shape[2])
        return t.reshape(*t.shape[:3], -1)

    def back(self, size: torch.Size) -> Tensor:
        """As (K, N, C, ...)."""
        if not self.last:
            return self.t.view(size)
        return self.t.view(size[0], size[1], *size[3:], size[2]).movedim(-1, 2)


def empty_stack(count: int, size: Sequence[int], like: Tensor) -> Tensor:
    """(count, *size) in the layout of images, channels last where there are positions.

    Args:
        count: directions.
        size: of the tensor, (N, C, ...).
        like: gives dtype and device.
    """
    if len(size) < 3:
        return like.new_empty(count, *size)
    n, channels, *positions = size
    return like.new_empty(count, n, *positions, channels).movedim(-1, 2)


def plane_of(t: Tensor) -> Plane:
    """The view of a stack (K, N, C, ...) that needs no copy, if there is one."""
    moved = t.movedim(2, -1)
    if moved.is_contiguous():
        return Plane(moved.view(t.shape[0], -1, t.shape[2]), last=True)
    return Plane(t.reshape(*t.shape[:3], -1), last=False)
