"""Functions of one tensor, value by value: by first and second derivative.

Along t the output moves by f't; backward carries f' a + A f'' t, A the loss's gradient at the output.
Where f'' is zero wherever it exists only f' is kept: a mask for rectifiers, as bits. All directions of a
stack share these factors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from bnaudit.measure.sweep.family import Needs, aligned, filled, functional, only
from bnaudit.measure.sweep.local import LOCAL
from bnaudit.tap.call import aliased, pulled_back

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


class _Rectifier:
    """relu: the mask of its output."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(outputs=lambda _, t: [t > 0])

    def prepare(self, step: Step) -> None:
        scale(step, step.extra[0].tensor)


def _first(step: Step, *, create: bool) -> tuple[Tensor, Tensor]:
    """The input and f'(x), the latter differentiable where asked for."""
    value = step.values[0]
    if value is None:
        raise AssertionError("the recorder keeps what `needs` asks for")
    x = value.tensor.detach().requires_grad_()
    with torch.enable_grad():
        y = functional(step.func)(*filled(step.args, [aliased(x)]), **filled(step.kwargs, [x]))
        y = y if isinstance(y, torch.Tensor) else y[0]
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=create)
    return x, slope


class _Kinked:
    """Piecewise linear functions: hardtanh, leaky_relu, hardsigmoid, ..."""

    def needs(self, active: tuple[int, ...]) -> Needs:
        single = active == (0,)
        return Needs(constants=True, inputs=True, curved=not single)

    def prepare(self, step: Step) -> None:
        if len(step.values) > 1 or step.shapes[0].size != step.out_shapes[0].size:
            LOCAL.prepare(step)
            return
        _, slope = _first(step, create=False)
        scale(step, slope)


class _Smooth:
    """Functions with a second derivative: silu, hardswish, sigmoid, gelu, ..."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(constants=True, inputs=True, curved=True)

    def prepare(self, step: Step) -> None:
        if len(step.values) > 1 or step.shapes[0].size != step.out_shapes[0].size:
            LOCAL.prepare(step)
            return
        try:
            x, slope = _first(step, create=True)
            adjoint = step.adjoints[0]
            curvature: Tensor | None = None
            if adjoint is not None and slope.requires_grad:
                (curvature,) = pulled_back([slope], [x], [adjoint])
        except RuntimeError as error:
            step.obstacle = f"{step.name}: {next(iter(str(error).splitlines()), '')[:120]}"
            return
        if curvature is None:
            scale(step, slope.detach())
        else:
            bend(step, slope.detach(), curvature)


RECTIFIER = _Rectifier()


KINKED = _Kinked()


SMOOTH = _Smooth()
