"""Convolutions: the stack is folded into the batch, and backward needs the weight alone.

One convolution over K N rows is several times as fast as K over N, most of all in the layout that has
the channels last, which stacks keep from their birth on. Where an image has shrunk to a few positions and
the kernel reaches over all of them, the processor's other algorithm is the faster one.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from bnaudit.measure.sweep.family import Needs, aligned, filled, only
from bnaudit.measure.sweep.local import LOCAL
from bnaudit.measure.sweep.tape import Slot

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


_FEW = 9
"""Positions of an image below which channels first were up to twice as fast, kernels larger than one."""


_REST = slice(3, 9)
"""Stride to groups; `_convolution`, which traces hold, has flags of the backend behind them."""


def _small(weight: Tensor, step: Step) -> bool:
    """Whether the kernel reaches over most of a small image, on a processor."""
    groups = step.args[8]
    positions = prod(step.out_shapes[0].size[2:])
    wide = weight.dim() == 4 and weight.shape[2:].numel() > 1 and groups == 1
    return wide and positions <= _FEW and weight.device.type == "cpu"


class _Convolution:
    """Convolutions of every kind, with a weight that does not depend on the input."""

    def needs(self, active: tuple[int, ...]) -> Needs:
        alone = active == (0,)
        return Needs(constants=True, inputs=not alone, curved=not alone)

    def prepare(self, step: Step) -> None:
        if step.values[0] is not None:
            kernel = step.args[1]
            size = (
                step.shapes[kernel.index].size if isinstance(kernel, Slot) else kernel.tensor.shape
            )
            step.work = 2 * prod(step.out_shapes[0].size) * prod(size[1:])
            LOCAL.prepare(step)
            return
        weight, rest = filled(step.args[1], []), tuple(step.args[_REST])
        step.work = 2 * prod(step.out_shapes[0].size) * prod(weight.shape[1:])
        unbatched = len(step.shapes[0].size) < weight.dim()
        images = weight.dim() == 4
        first = images and _small(weight, step)

        def apply(tangents: Stacks) -> Stacks:
            t = only(tangents)
            if unbatched:
                return [convolved(t, weight, rest)]
            flat = t.flatten(0, 1)
            if images:
                flat = flat.contiguous() if first else aligned(flat)
            found = convolved(flat, weight, rest)
            return [(aligned(found) if first else found).unflatten(0, (t.shape[0], -1))]

        step.apply = apply


CONVOLUTION = _Convolution()
