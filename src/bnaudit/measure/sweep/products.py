"""Products of two tensors that both have tangents, or one.

f bilinear: along (s, t) the output moves by f(s, y) + f(x, t); backward at x carries the transpose
of f(., y) applied to the incoming gradient plus that of f(., t) applied to A, the loss's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from bnaudit.measure.sweep.family import Needs, aligned, filled, only, padded, rows, widened
from bnaudit.measure.sweep.local import LOCAL
from bnaudit.measure.sweep.pointwise import scaled
from bnaudit.measure.sweep.stack import common, crossed, dots
from bnaudit.measure.sweep.tape import Slot

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.sweep.stack import Pairs
    from bnaudit.measure.sweep.tape import Apply, Shape, Step

    Stacks = list[Tensor | None]


def _narrowed(t: Tensor, size: tuple[int, ...]) -> Tensor:
    """(K, *big) summed to (K, *size): the transpose of broadcasting."""
    if tuple(t.shape[1:]) == size:
        return t
    return t.sum_to_size(t.shape[0], *[1] * (t.dim() - 1 - len(size)), *size).reshape(-1, *size)


def _both(tangents: Stacks) -> tuple[Tensor, Tensor]:
    s, t = tangents
    if s is None or t is None:
        raise AssertionError("a form is asked for where both stacks are there")
    return s, t


class _Mul(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, s: Tensor, t: Tensor, x: Tensor, y: Tensor, adjoint: Tensor | None
    ) -> Tensor:
        ctx.factors = x, y, adjoint
        ctx.save_for_backward(s, t)
        size = torch.broadcast_shapes(x.shape, y.shape)
        return torch.addcmul(widened(s, size) * y, widened(t, size), x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (s, t), (x, y, adjoint) = ctx.saved_tensors, ctx.factors
        at_x, at_y = grad * y, grad * x
        if adjoint is not None:
            size = grad.shape[1:]
            at_x.addcmul_(widened(t, size), adjoint)
            at_y.addcmul_(widened(s, size), adjoint)
        return _narrowed(at_x, tuple(x.shape)), _narrowed(at_y, tuple(y.shape)), None, None, None


multiplied: Any = _Mul.apply


class _Product:
    """mul."""

    def needs(self, active: tuple[int, ...]) -> Needs:
        both = len(active) > 1
        return Needs(constants=True, inputs=both, curved=both)

    def prepare(self, step: Step) -> None:
        shape = step.out_shapes[0]
        if len(step.inputs) == 1:
            other = next(a for a in step.args[:2] if not isinstance(a, Slot))
            step.apply = _times(filled(other, []), shape)
            return
        x, y = (aligned(v.tensor) for v in step.values if v is not None)
        adjoint, shapes = step.adjoints[0], list(step.shapes)
        adjoint = None if adjoint is None else aligned(adjoint)
        step.saved = x.numel() * x.element_size() + y.numel() * y.element_size()

        def apply(tangents: Stacks) -> Stacks:
            count = rows(tangents)
            if tangents[0] is not None and tangents[1] is not None:
                s, t = (padded(t, count, sh) for t, sh in zip(tangents, shapes, strict=True))
                return [multiplied(s, t, x, y, adjoint)]
            at = 0 if tangents[1] is None else 1
            return _times((y, x)[at], shape)([tangents[at]])

        step.apply = apply
        if adjoint is None:
            return
        size = shape.size

        def form(tangents: Stacks, pairs: Pairs) -> Tensor:
            s, t = common(*_both(tangents))
            return crossed(
                pairs, s, t, lambda a, b: dots(widened(a, size) * adjoint, widened(b, size))
            )

        step.form = form


def _times(factor: Any, shape: Shape) -> Apply:
    if isinstance(factor, torch.Tensor):
        factor = aligned(factor)

    def apply(tangents: Stacks) -> Stacks:
        t = only(tangents)
        wide = widened(t, shape.size)
        if not isinstance(factor, torch.Tensor):
            return [(wide * factor).to(shape.dtype)]
        return [scaled(wide.to(shape.dtype), factor)]

    return apply


class _Quotient:
    """div: linear in the numerator, any denominator with a tangent by local differentiation."""

    def needs(self, active: tuple[int, ...]) -> Needs:
        linear = active == (0,)
        return Needs(constants=True, inputs=not linear, curved=not linear)

    def prepare(self, step: Step) -> None:
        if step.kwargs.get("rounding_mode") is not None:
            step.obstacle = "a division that rounds"
        elif step.values[0] is not None:
            LOCAL.prepare(step)
        else:
            shape = step.out_shapes[0]
            # A tensor of integers has its reciprocal in float32 otherwise.
            denominator = torch.as_tensor(filled(step.args[1], []), dtype=shape.dtype)
            step.apply = _times(denominator.reciprocal(), shape)


class _MatMul(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, s: Tensor, t: Tensor, x: Tensor, y: Tensor, adjoint: Tensor | None
    ) -> Tensor:
        ctx.factors = x, y, adjoint
        ctx.save_for_backward(s, t)
        return torch.matmul(s, y) + torch.matmul(x, t)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (s, t), (x, y, adjoint) = ctx.saved_tensors, ctx.factors
        at_x, at_y = torch.matmul(grad, y.mT), torch.matmul(x.mT, grad)
        if adjoint is not None:
            at_x += torch.matmul(adjoint, t.mT)
            at_y += torch.matmul(s.mT, adjoint)
        return at_x, at_y, None, None, None


matrix_product: Any = _MatMul.apply


class _Matrix:
    """mm, bmm and their sums with a third tensor."""

    def needs(self, active: tuple[int, ...]) -> Needs:
        both = len(active) > 1
        return Needs(constants=True, inputs=both, curved=both)

    def prepare(self, step: Step) -> None:
        name = step.name.removesuffix("_")
        left, right = step.args[1:3] if name in ("addmm", "baddbmm") else step.args[:2]
        added = name in ("addmm", "baddbmm") and isinstance(step.args[0], Slot)
        scaled = any(step.kwargs.get(k, 1) != 1 for k in ("alpha", "beta"))
        if name == "mv" and step.values[0] is None:
            self._vector(step, left, right)
            return
        if name == "mv" or added or scaled:
            if step.values[0] is None:
                step.obstacle = f"{name} with one tangent, and factors or in what is added"
            else:
                LOCAL.prepare(step)
            return
        if isinstance(left, Slot) and isinstance(right, Slot):
            self._both(step)
        elif isinstance(left, Slot):
            y = filled(right, [])
            step.apply = lambda tangents: [torch.matmul(t, y) for t in tangents if t is not None]
        else:
            x = filled(left, [])
            step.apply = lambda tangents: [torch.matmul(x, t) for t in tangents if t is not None]

    def _vector(self, step: Step, left: Any, right: Any) -> None:
        if isinstance(left, Slot):
            y = filled(right, [])
            step.apply = lambda tangents: [torch.matmul(only(tangents), y)]
        else:
            x = filled(left, [])
            step.apply = lambda tangents: [torch.matmul(only(tangents), x.mT)]

    def _both(self, step: Step) -> None:
        x, y = (v.tensor for v in step.values if v is not None)
        adjoint, shapes = step.adjoints[0], list(step.shapes)
        step.saved = x.numel() * x.element_size() + y.numel() * y.element_size()

        def apply(tangents: Stacks) -> Stacks:
            count = rows(tangents)
            if tangents[0] is not None and tangents[1] is not None:
                s, t = (padded(t, count, sh) for t, sh in zip(tangents, shapes, strict=True))
                return [matrix_product(s, t, x, y, adjoint)]
            if tangents[0] is not None:
                return [torch.matmul(tangents[0], y)]
            return [torch.matmul(x, t) for t in tangents[1:] if t is not None]

        step.apply = apply
        if adjoint is None:
            return

        def form(tangents: Stacks, pairs: Pairs) -> Tensor:
            s, t = common(*_both(tangents))
            return crossed(
                pairs,
                s,
                t,
                lambda a, b: dots(torch.matmul(a, b), adjoint.expand(a.shape[0], *adjoint.shape)),
            )

        step.form = form


PRODUCT = _Product()
QUOTIENT = _Quotient()
MATRIX = _Matrix()
