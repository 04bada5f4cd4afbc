"""What of an input is optimised: each value, and before that the scale and the shift of each channel.

    x = exp(s_c) (u + t_c)

What range a network takes is in its first statistics alone: 0 to 1, 0 to 255, features in thousands. Where
noise is far off, s and t are found first, u held; then u, s and t held.

An input of integers is optimised as if it were continuous where the model takes it so (pixels in uint8), and
rounded at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_FEW = 4
"""Channels, of an image that has them last."""


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """Which axis of an input has a scale and a shift of its own in each entry."""
    if len(shape) < 2:
        return None
    last = len(shape) - 1
    return last if len(shape) > 2 and shape[last] <= _FEW < shape[1] else 1


@dataclass(slots=True)
class Values:
    """One input of one batch.

    Attributes:
        u: the values, a leaf.
        shift, log_scale: of each channel, leaves that can be broadcast to `u`.
        dtype: of the input as the model takes it.
    """

    u: Tensor
    shift: Tensor
    log_scale: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, start: Tensor, dtype: torch.dtype) -> Values:
        """Begins with these values.

        Args:
            start: floating, on the device of the run.
            dtype: of the input as the model takes it.
        """
        axis = channel_axis(tuple(start.shape))
        shape = [1] * start.dim()
        if axis is not None:
            shape[axis] = start.shape[axis]
        u, shift, scale = start.clone(), start.new_zeros(shape), start.new_zeros(shape)
        return cls(u.requires_grad_(), shift.requires_grad_(), scale.requires_grad_(), dtype)

    def fed(self) -> Tensor:
        """What the model gets; differentiable."""
        return self.log_scale.exp() * (self.u + self.shift)

    def final(self) -> Tensor:
        """What the batch holds, on the CPU."""
        x = self.fed().detach().cpu()
        if self.dtype.is_floating_point:
            return x
        range_ = torch.iinfo(self.dtype)
        return x.round().clamp(range_.min, range_.max).to(self.dtype)
