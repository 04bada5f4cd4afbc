"""Functions of one tensor, value by value: by first and second derivative.

Along t the output moves by f't; backward carries f' a + A f'' t, A the loss's gradient at the output.
Where f'' is zero wherever it exists only f' is kept: a mask for rectifiers, as bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from bnaudit.measure.sweep.family import Needs, filled, functional
from bnaudit.measure.sweep.local import LOCAL

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.sweep.tape import Step

    Stacks = list[Tensor | None]


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor, slope: Tensor) -> Tensor:
        ctx.slope = slope
        return t * slope

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad * ctx.slope, None


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
        return torch.addcmul(grad * ctx.slope, t, ctx.bend), None, None


def _scaled(slope: Tensor) -> Any:
    def apply(tangents: Stacks) -> Stacks:
        (t,) = tangents
        assert t is not None
        return [_Scaled.apply(t, slope.to(t.dtype))]

    return apply


class _Rectifier:
    """relu: the mask of its output."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(outputs=lambda _, t: [t > 0])

    def prepare(self, step: Step) -> None:
        step.apply = _scaled(step.extra[0].tensor)


def _first(step: Step, *, create: bool) -> tuple[Tensor, Tensor]:
    """X and f'(x), the latter differentiable where asked for."""
    value = step.values[0]
    assert value is not None
    x = value.tensor.detach().requires_grad_()
    with torch.enable_grad():
        y = functional(step.func)(*filled(step.args, [x.view_as(x)]), **filled(step.kwargs, [x]))
        y = y if isinstance(y, torch.Tensor) else y[0]
        (slope,) = torch.autograd.grad(y, x, torch.ones_like(y), create_graph=create)
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
        step.apply = _scaled(slope)


class _Smooth:
    """Functions with a second derivative: silu, hardswish, sigmoid, gelu, ..."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(constants=True, inputs=True, curved=True)

    def prepare(self, step: Step) -> None:
        try:
            x, slope = _first(step, create=True)
            adjoint = step.adjoints[0]
            bend = None
            if adjoint is not None and slope.requires_grad:
                (bend,) = torch.autograd.grad(slope, x, adjoint)
        except RuntimeError as error:
            step.obstacle = f"{step.name}: {next(iter(str(error).splitlines()), '')[:120]}"
            return
        slope = slope.detach()
        if bend is None:
            step.apply = _scaled(slope)
            return

        def apply(tangents: Stacks) -> Stacks:
            (t,) = tangents
            assert t is not None
            return [_Bent.apply(t, slope, bend)]

        step.apply = apply


RECTIFIER = _Rectifier()
KINKED = _Kinked()
SMOOTH = _Smooth()
