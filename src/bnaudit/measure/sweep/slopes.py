"""Stacks times a factor that all directions share, alone or with a second derivative."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from bnaudit.measure.sweep.family import aligned, only

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.sweep.tape import Step

    Stacks = list[Tensor | None]


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor, slope: Tensor) -> Tensor:
        ctx.slope = slope
        return t * slope.to(t.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad * ctx.slope.to(grad.dtype), None


class _Bent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor, slope: Tensor, bend: Tensor) -> Tensor:
        ctx.slope, ctx.bend = slope, bend
        ctx.save_for_backward(t)
        return t * slope

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (t,) = ctx.saved_tensors
        return (grad * ctx.slope).addcmul_(t, ctx.bend), None, None


scaled: Any = _Scaled.apply
bent: Any = _Bent.apply


def scale(step: Step, slope: Tensor) -> None:
    """Makes a step one that multiplies tangents by `slope`, a tensor or a mask."""
    step.slope = aligned(slope)

    def apply(tangents: Stacks) -> Stacks:
        t = only(tangents)
        return [t if step.slope is None else scaled(t, step.slope)]

    step.apply = apply


def bend(step: Step, slope: Tensor, curvature: Tensor) -> None:
    """The same with a second derivative, already times the loss's gradient."""
    first, second = aligned(slope), aligned(curvature)
    step.apply = lambda tangents: [bent(only(tangents), first, second)]
    step.form = lambda tangents, pairs: pairs.bilinear(only(tangents), lambda t: t * second)
    step.saved = second.numel() * second.element_size()
