"""Convolutions: the stack is folded into the batch, and backward needs the weight alone.

One convolution over K N rows is several times as fast as K over N, most of all in the layout that has
the channels last, which stacks keep from their birth on.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from bnaudit.measure.sweep.family import Needs, filled, only
from bnaudit.measure.sweep.local import LOCAL

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.sweep.tape import Step

    Stacks = list[Tensor | None]


class _Conv(torch.autograd.Function):
    """A convolution over a folded stack; backward needs the weight only."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, weight: Tensor, rest: tuple[Any, ...]) -> Tensor:
        ctx.weight, ctx.rest, ctx.size = weight, rest, t.shape
        out: Tensor = torch.ops.aten.convolution.default(t, weight, None, *rest)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        last = grad.dim() == 4 and grad.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        unread = torch.empty(ctx.size, dtype=grad.dtype, device=grad.device, memory_format=layout)
        found = torch.ops.aten.convolution_backward.default(
            grad, unread, ctx.weight, None, *ctx.rest, [True, False, False]
        )
        return found[0], None, None


convolved: Any = _Conv.apply


class _Convolution:
    """Convolutions of every kind, with a weight that does not depend on the input."""

    def needs(self, active: tuple[int, ...]) -> Needs:
        alone = active == (0,)
        return Needs(constants=True, inputs=not alone, curved=not alone)

    def prepare(self, step: Step) -> None:
        if step.values[0] is not None:
            LOCAL.prepare(step)
            return
        weight, rest = filled(step.args[1], []), tuple(step.args[3:])
        step.work = 2 * prod(step.out_shapes[0].size) * prod(weight.shape[1:])
        unbatched = len(step.shapes[0].size) < weight.dim()

        def apply(tangents: Stacks) -> Stacks:
            t = only(tangents)
            if unbatched:
                return [convolved(t, weight, rest)]
            flat = t.flatten(0, 1)
            return [convolved(flat, weight, rest).unflatten(0, (t.shape[0], -1))]

        step.apply = apply


CONVOLUTION = _Convolution()
