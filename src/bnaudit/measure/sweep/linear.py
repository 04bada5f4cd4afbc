"""Operators that are linear in what has a tangent: the tangents go the same way.

Where the operator leaves the rows of a batch alone, the stack is folded into the batch: one
convolution over K N rows is several times as fast as K over N. Other operators run under vmap. At sums and
concatenations stacks of several lengths meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from bnaudit.measure.sweep.family import Needs, filled, functional, only, padded, rows, widened
from bnaudit.measure.sweep.local import LOCAL
from bnaudit.measure.sweep.pointwise import scaled
from bnaudit.measure.sweep.stack import empty_stack
from bnaudit.measure.sweep.tape import Slot
from bnaudit.tap.trees import leaves_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnaudit.measure.sweep.tape import Step

    Stacks = list[Tensor | None]

# Tangents may lie in memory otherwise than their tensors, so that what was a view may not be one.
_RESHAPES = ("view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze")


class _Linear:
    """Linear in all tensors with tangents together, other tensors parameters: by vmap."""

    def needs(self, active: tuple[int, ...]) -> Needs:
        if active != (0,):
            return Needs(constants=True, inputs=True, curved=True)
        return Needs(constants=True)

    def prepare(self, step: Step) -> None:
        if step.values[0] is not None:  # an index or weight that depends on the input
            LOCAL.prepare(step)
            return
        if step.name in _RESHAPES:
            size = step.out_shapes[0].size
            step.apply = lambda tangents: [
                None if t is None else t.reshape(t.shape[0], *size) for t in tangents
            ]
            return
        func, args, kwargs = functional(step.func), step.args, step.kwargs
        positions = list(step.positions)

        def one(*tangents: Tensor) -> tuple[Tensor, ...]:
            found = leaves_of(func(*filled(args, tangents), **filled(kwargs, tangents)))
            return tuple(found[i] for i in positions)

        def apply(tangents: Stacks) -> Stacks:
            return list(torch.vmap(one)(only(tangents)))

        step.apply = apply


class _Identity:
    """Copies, casts and aliases."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs()

    def prepare(self, step: Step) -> None:
        if not step.out_shapes:
            step.apply = lambda _: []
            return
        dtype = step.out_shapes[0].dtype
        step.apply = lambda tangents: [t if t is None else t.to(dtype) for t in tangents[:1]]


class _Folded:
    """Leaves the rows of a batch alone: the stack becomes part of the batch."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(constants=True)

    def prepare(self, step: Step) -> None:
        func, args, kwargs = step.func, step.args, step.kwargs

        def apply(tangents: Stacks) -> Stacks:
            t = only(tangents)
            flat = [t.flatten(0, 1)]
            out = func(*filled(args, flat), **filled(kwargs, flat))
            return [out.unflatten(0, (t.shape[0], -1))]

        step.apply = apply
        if step.shapes[0].size and len(step.shapes[0].size) < 3:
            LINEAR.prepare(step)


class _Restrided:
    """as_strided to the same elements: pooling of images with channels last writes strides of axes of one."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(inputs=True)

    def prepare(self, step: Step) -> None:
        value = step.values[0]
        if value is None or not _same_elements(value.tensor, *step.args[1:]):
            step.obstacle = f"{step.name} has no rule"
            return
        step.apply = lambda tangents: [only(tangents)]


def _same_elements(
    t: Tensor, size: Sequence[int], stride: Sequence[int], offset: int | None = None
) -> bool:
    """Whether as_strided with these arguments is the tensor as it was."""
    lengths = [(n, a, b) for n, a, b in zip(size, stride, t.stride(), strict=False) if n > 1]
    moved = offset is not None and offset != t.storage_offset()
    return tuple(size) == tuple(t.shape) and not moved and all(a == b for _, a, b in lengths)


class _FirstOnly:
    """Padding with a constant: zeros for the tangents."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs()

    def prepare(self, step: Step) -> None:
        amounts = list(step.args[1])

        def apply(tangents: Stacks) -> Stacks:
            return [None if t is None else torch.constant_pad_nd(t, amounts) for t in tangents]

        step.apply = apply


class _Selection:
    """where(condition, a, b)."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(constants=True)

    def prepare(self, step: Step) -> None:
        condition = filled(step.args[0], [])
        branches = [(s.index, i == 0) for i, s in enumerate(step.args[1:3]) if isinstance(s, Slot)]
        shape = step.out_shapes[0]

        def apply(tangents: Stacks) -> Stacks:
            count = rows(tangents)
            total: Tensor | None = None
            for index, taken in branches:
                t = tangents[index]
                if t is None:
                    continue
                wide = widened(padded(t, count, step.shapes[index]), shape.size)
                mask = condition if taken else ~condition
                part = torch.where(
                    mask, wide, torch.zeros((), dtype=wide.dtype, device=wide.device)
                )
                total = part if total is None else total + part
            return [total]

        step.apply = apply


class _MaskedFill:
    """masked_fill(x, mask, value): the tangent where x is kept."""

    def needs(self, active: tuple[int, ...]) -> Needs:
        return Needs(constants=True, inputs=active != (0,), curved=active != (0,))

    def prepare(self, step: Step) -> None:
        if step.values[0] is not None:
            LOCAL.prepare(step)
            return
        mask, size = filled(step.args[1], []), step.out_shapes[0].size
        step.apply = lambda tangents: [
            None if t is None else widened(t, size).masked_fill(mask, 0) for t in tangents
        ]


class _IndexPool:
    """Max pooling: gathers where the maxima are."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(outputs=lambda i, t: [t] if i == 1 else [])

    def prepare(self, step: Step) -> None:
        axes = 3 if step.name.startswith("max_pool3d") else 2
        index = step.extra[0].tensor.flatten(-axes)
        size = step.out_shapes[0].size
        behind = index.movedim(
            -2, -1
        ).contiguous()  # the channels behind the positions, as stacks have them

        def apply(tangents: Stacks) -> Stacks:
            t = only(tangents)
            moved = t.movedim(-axes - 1, -1)
            if not moved.is_contiguous():
                wide = index.expand(t.shape[0], *index.shape)
                return [t.flatten(-axes).gather(-1, wide).view(t.shape[0], *size)]
            wide = behind.expand(t.shape[0], *behind.shape)
            found = moved.flatten(-axes - 1, -2).gather(-2, wide)
            return [found.unflatten(-2, size[-axes:]).movedim(-1, -axes - 1)]

        step.apply = apply


class _Extreme:
    """max, min, amax and amin: gathers by index, or takes the mean of those that are equal, as autograd."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(inputs=True, outputs=lambda _, t: [t])

    def prepare(self, step: Step) -> None:
        x, (out, *indices) = step.values[0], (kept.tensor for kept in step.extra)
        if x is None or len(step.inputs) != 1 or not x.tensor.dim():
            LOCAL.prepare(step)
            return
        rank = x.tensor.dim()
        given = step.args[1] if len(step.args) > 1 else step.kwargs.get("dim", ())
        axes = [a % rank for a in ([given] if isinstance(given, int) else given)] or range(rank)
        kept = [1 if a in axes else n for a, n in enumerate(x.tensor.shape)]
        size = step.out_shapes[0].size
        if indices:
            index, axis = indices[0].reshape(kept), axes[0] + 1
            step.apply = lambda tangents: [
                only(tangents).gather(axis, index.expand(rows(tangents), *kept)).reshape(-1, *size)
            ]
            return
        share = (x.tensor == out.reshape(kept)).to(x.tensor.dtype)
        share /= share.sum(list(axes), keepdim=True)
        behind = [a + 1 for a in axes]
        step.apply = lambda tangents: [(only(tangents) * share).sum(behind).reshape(-1, *size)]


class _Picked:
    """nll_loss, over classes (N, C, ...) or (C,): what stands at the labels, by the weights of their classes.

    Under vmap PyTorch takes the operator apart, and imports sympy on the way.
    """

    def needs(self, active: tuple[int, ...]) -> Needs:
        if active != (0,):
            return Needs(constants=True, inputs=True, curved=True)
        return Needs(constants=True, outputs=lambda i, t: [t] if i == 1 else [])

    def prepare(self, step: Step) -> None:
        if step.values[0] is not None:
            LOCAL.prepare(step)
            return
        labels, given, reduction, ignored = filled(step.args[1:5], [])
        axis = 0 if len(step.shapes[0].size) == 1 else 1
        kept = labels != ignored
        index = torch.where(kept, labels, 0).long()
        shares = kept.to(step.out_shapes[0].dtype)
        if given is not None:
            shares = shares * given[index]
        if reduction == 1:
            shares = shares / step.extra[0].tensor
        index = index.unsqueeze(axis)
        size = step.out_shapes[0].size

        def apply(tangents: Stacks) -> Stacks:
            t = only(tangents)
            at = t.gather(axis + 1, index.expand(t.shape[0], *index.shape)).squeeze(axis + 1)
            found = -at * shares
            return [
                found if reduction == 0 else found.reshape(t.shape[0], -1).sum(1).view(-1, *size)
            ]

        step.apply = apply


LINEAR = _Linear()


IDENTITY = _Identity()


FOLDED = _Folded()


RESTRIDED = _Restrided()


FIRST_ONLY = _FirstOnly()


SELECTION = _Selection()


MASKED_FILL = _MaskedFill()


INDEX_POOL = _IndexPool()


EXTREME = _Extreme()


PICKED = _Picked()


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
