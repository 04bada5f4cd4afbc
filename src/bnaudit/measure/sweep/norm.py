"""BatchNorm as a rule of the sweep, and where layers give birth to their directions.

J t is in `closed_form`. On the way back, with the notation there, BatchNorm's own curvature adds

    d(J'G)/dx t  = gamma/sigma^2 ((3 p s - <G,w>)/m xh - p (G - mean G) - s/m w),

half the gradient of T(t), see `second_order`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from bnaudit.measure.moments import product_and_sum
from bnaudit.measure.sweep.closed_form import Norm, project, stack_like, write_projected
from bnaudit.measure.sweep.family import Needs, aligned
from bnaudit.measure.sweep.local import LOCAL
from bnaudit.measure.sweep.pointwise import scale
from bnaudit.measure.sweep.stack import Plane, plane_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnaudit.measure.sweep.tape import Step

    Stacks = list[Tensor | None]


@dataclass(frozen=True, slots=True)
class Birth:
    """Where a layer's directions Jg and G join the stack at its output.

    Attributes:
        row: the first of the two.
        returned: told (Hz(Jg), Hz G) on the way back.
    """

    row: int
    returned: Callable[[Tensor, Tensor], None]


class _Normalise(torch.autograd.Function):
    """J t, times a slope that follows, with a layer's two directions appended where it is measured."""

    @staticmethod
    def forward(
        ctx: Any, _anchor: Tensor, t: Tensor | None, norm: Norm, birth: Birth | None, slope: Any
    ) -> Tensor:
        count = 0 if t is None else t.shape[0]
        ctx.norm, ctx.birth, ctx.slope, ctx.count = norm, birth, slope, count
        whole = stack_like(t, norm, count if birth is None else birth.row + 2)
        if t is not None:
            ctx.save_for_backward(t, *write_projected(t, norm, whole[:count]))
        if birth is not None:
            whole[count : birth.row].zero_()
            write_projected(project(norm.grad[None], norm), norm, whole[birth.row : birth.row + 1])
            whole[birth.row + 1].copy_(norm.grad)
        return whole if slope is None else whole.mul_(slope.to(whole.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        if ctx.slope is not None:
            grad = grad * ctx.slope.to(grad.dtype)
        if ctx.birth is not None:
            ctx.birth.returned(grad[ctx.birth.row], grad[ctx.birth.row + 1])
        if not ctx.count:
            return None, None, None, None, None
        t, mean, p = ctx.saved_tensors
        return None, _bent(grad[: ctx.count], t, mean, p, ctx.norm), None, None, None


def _bent(grad: Tensor, t: Tensor, mean: Tensor, p: Tensor, norm: Norm) -> Tensor:
    """J'grad plus the derivative of J'G along t."""
    if not norm.reached:
        return project(grad, norm)
    plane = plane_of(grad)
    x, big_g = plane.partner(norm.xhat), plane.partner(norm.grad)
    tangent = plane.like(t)
    at_x = (plane.t * x).sum(plane.dims) / norm.m
    at_1 = plane.t.sum(plane.dims) / norm.m
    along = (tangent * big_g).sum(plane.dims) - norm.m * norm.gbar * mean
    own = norm.scale * norm.rstd
    to_x = own * (3 * p * norm.s - along) / norm.m - norm.scale * at_x
    to_g = -own * p
    to_1 = own * (p * norm.gbar + norm.s / norm.m * mean) - norm.scale * at_1
    out = torch.addcmul(plane.vector(to_1), x, plane.vector(to_x))
    out.addcmul_(big_g, plane.vector(to_g))
    out.addcmul_(plane.t, plane.vector(norm.scale))
    out.addcmul_(tangent, plane.vector(own * norm.s / norm.m), value=-1)
    return Plane(out, plane.last).back(grad.shape)


normalised: Any = _Normalise.apply


def carry(
    anchor: Tensor, t: Tensor | None, step: Step, norm: Norm, birth: Birth | None
) -> Tensor | None:
    """A stack through a BatchNorm, and the layer's own directions where it is measured.

    Args:
        anchor: any tensor that requires a gradient, for autograd to record a birth.
        t: the stack at the input, or None.
        step: the call.
        norm: its closed form.
        birth: where the layer's directions go.
    """
    if t is None and birth is None:
        return None
    found: Tensor = normalised(anchor, t, norm, birth, step.fused)
    return found


class _BatchNorm:
    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(
            constants=True, inputs=True, curved=True, outputs=lambda i, t: [t] if i else []
        )

    def prepare(self, step: Step) -> None:
        value = step.values[0]
        if len(step.inputs) != 1 or value is None:
            LOCAL.prepare(step)
            return
        gamma = None if step.args[1] is None else step.args[1].tensor
        shape = [-1] + [1] * (value.tensor.dim() - 2)
        if step.args[5]:
            step.norm = _norm(value.tensor, gamma, step, shape)
            step.saved = value.tensor.numel() * value.tensor.element_size()
        else:
            rstd = (step.args[4].tensor + step.args[7]).rsqrt()
            scale(step, (rstd if gamma is None else rstd * gamma).view(shape))


def _norm(x: Tensor, gamma: Tensor | None, step: Step, shape: list[int]) -> Norm:
    mean, rstd = (kept.tensor for kept in step.extra)
    found = step.adjoints[0]
    xhat = aligned(x)
    if xhat.data_ptr() == x.data_ptr():
        xhat = xhat.clone()
    xhat.sub_(mean.view(shape)).mul_(rstd.view(shape))
    grad = torch.zeros_like(xhat) if found is None else aligned(found)
    m = x.numel() // x.shape[1]
    product, total = product_and_sum(xhat, grad)
    s, gbar = product.to(rstd.dtype), (total / m).to(rstd.dtype)
    return Norm(
        xhat=xhat,
        grad=grad,
        scale=rstd if gamma is None else rstd * gamma,
        rstd=rstd,
        s=s,
        gbar=gbar,
        gamma=gamma,
        m=m,
        reached=found is not None,
    )


BATCH_NORM = _BatchNorm()
