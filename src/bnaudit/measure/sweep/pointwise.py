"""Functions of one tensor, value by value: by first and second derivative.

Along t the output moves by f't; backward carries f' a + A f'' t, A the loss's gradient at the output.
Where f'' is zero wherever it exists only f' is kept: a mask for rectifiers, as bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.measure.sweep.family import Needs, filled, functional
from bnaudit.measure.sweep.local import LOCAL
from bnaudit.measure.sweep.slopes import bend, scale
from bnaudit.tap.call import aliased

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.sweep.tape import Step


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
        scale(step, slope)


class _Smooth:
    """Functions with a second derivative: silu, hardswish, sigmoid, gelu, ..."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(constants=True, inputs=True, curved=True)

    def prepare(self, step: Step) -> None:
        try:
            x, slope = _first(step, create=True)
            adjoint = step.adjoints[0]
            curvature: Tensor | None = None
            if adjoint is not None and slope.requires_grad:
                (curvature,) = torch.autograd.grad(slope, x, adjoint)
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
