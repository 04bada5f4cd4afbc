"""Sums and concatenations: stacks of several lengths meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from bnaudit.measure.sweep.family import Needs, padded, rows, widened
from bnaudit.measure.sweep.plane import empty_stack
from bnaudit.measure.sweep.slopes import scaled
from bnaudit.measure.sweep.tape import Slot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnaudit.measure.sweep.tape import Step

    Stacks = list[Tensor | None]


class _AddRows(torch.autograd.Function):
    """slope (a + factor b), where b may hold fewer directions."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, factor: float, slope: Tensor | None) -> Tensor:
        count = b.shape[0]
        ctx.count, ctx.factor, ctx.slope = count, factor, slope
        if count == a.shape[0]:
            out = torch.add(a, b, alpha=factor)
        else:
            out = torch.empty_like(a)
            torch.add(a[:count], b, alpha=factor, out=out[:count])
            out[count:].copy_(a[count:])
        return out if slope is None else out.mul_(slope.to(out.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        if ctx.slope is not None:
            grad = grad * ctx.slope.to(grad.dtype)
        other = grad[: ctx.count]
        return grad, other if ctx.factor == 1 else other * ctx.factor, None, None


class _Addition:
    """Sums and differences; what has no tangent falls away."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs()

    def prepare(self, step: Step) -> None:
        alpha = step.kwargs.get("alpha", 1)
        name = step.name.removesuffix("_")
        if name == "rsub" and len(step.args) > 2:
            alpha = step.args[2]
        factors = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1), "copy": (0, 1)}[name]
        slots = [a for a in step.args[:2] if isinstance(a, Slot)]
        weights = {
            s.index: f for s, f in zip(step.args[:2], factors, strict=False) if isinstance(s, Slot)
        }
        shape = step.out_shapes[0]

        def apply(tangents: Stacks) -> Stacks:
            terms = [
                (widened(t, shape.size).to(shape.dtype), weights[s.index])
                for s in slots
                if (t := tangents[s.index]) is not None and weights[s.index] != 0
            ]
            if not terms:  # a tensor without a tangent was copied over one that has it
                return [None]
            terms.sort(key=lambda term: -term[0].shape[0])
            total, factor = terms[0]
            total = total if factor == 1 else total * factor
            for i, (other, factor) in enumerate(terms[1:], 2):
                slope = step.fused if i == len(terms) else None
                total = added(total, other, factor, slope)
            if step.fused is not None and len(terms) == 1:
                total = scaled(total, step.fused)
            return [total]

        step.apply = apply


added: Any = _AddRows.apply


class _Concatenation:
    """cat and stack; what has no tangent is zero."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs()

    def prepare(self, step: Step) -> None:
        parts = [
            p for p in step.args[0] if isinstance(p, Slot) or p.size != (0,)
        ]  # torch skips these
        places = [p.index if isinstance(p, Slot) else None for p in parts]
        shapes = [step.shapes[p.index] if isinstance(p, Slot) else p for p in parts]
        dim = step.args[1] if len(step.args) > 1 else step.kwargs.get("dim", 0)
        dim = dim if dim < 0 else dim + 1
        join = torch.cat if step.name == "cat" else torch.stack
        out = step.out_shapes[0]

        def apply(tangents: Stacks) -> Stacks:
            count = rows(tangents)
            stacks = [None if place is None else tangents[place] for place in places]
            like = next(t for t in tangents if t is not None)
            if join is torch.cat and not torch.is_grad_enabled():
                lengths = [shape.size[dim if dim < 0 else dim - 1] for shape in shapes]
                whole = empty_stack(count, out.size, like.new_empty(0, dtype=out.dtype))
                _write_parts(whole.split(lengths, dim), stacks)
                return [whole]
            filled_up = [
                like.new_zeros(count, *shape.size) if t is None else padded(t, count, shape)
                for t, shape in zip(stacks, shapes, strict=True)
            ]
            return [join([t.to(out.dtype) for t in filled_up], dim)]

        step.apply = apply


def _write_parts(targets: Sequence[Tensor], stacks: Stacks) -> None:
    """Each stack into its place, zeros where it has no direction."""
    for target, t in zip(targets, stacks, strict=True):
        count = 0 if t is None else t.shape[0]
        if t is not None:
            target[:count].copy_(t)
        target[count:].zero_()


ADDITION = _Addition()
CONCATENATION = _Concatenation()
