"""Softmax, LayerNorm and GroupNorm in closed form, along a stack of tangents.

Softmax over an axis, y the output, A the gradient of the loss at it; <,> sums over the axis, w = t - <y,t>:

    J t      = y w                        of log_softmax  w
    <A, D2 [t,u]> = <q, w_t w_u>          q = y (A - <y,A>), of log_softmax  -<A,1> y

LayerNorm over m values, a = gamma A, r = 1/sigma, xh the normalised input, w = t - mean t, p = <xh,t>/m,
s = <xh,a>:

    J t      = gamma r (w - xh p)
    <A, D2 [t,u]> = r^2 (3 s p_t p_u - p_t <a,w_u> - p_u <a,w_t> - s/m <w_t,w_u>)

GroupNorm is the same over a group's values. On the way back the form's derivative along u is added to J'grad.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from bnaudit.measure.sweep.family import Needs, only
from bnaudit.measure.sweep.local import LOCAL

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.sweep.stack import Pairs
    from bnaudit.measure.sweep.tape import Step

    Stacks = list[Tensor | None]


class _Softmax(torch.autograd.Function):
    """scale (t - <y,t>), scale 1 or y; `bent` is q."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, y: Tensor, dim: int, log: bool, bent: Tensor | None) -> Tensor:
        ctx.y, ctx.dim, ctx.log, ctx.bent = y, dim, log, bent
        w = t - (t * y).sum(dim, keepdim=True)
        ctx.save_for_backward(w)
        return w if log else w * y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        y, (w,) = ctx.y, ctx.saved_tensors
        back = grad if ctx.log else grad * y
        if ctx.bent is not None:
            back = back + w * ctx.bent
        # The transpose of t -> t - <y,t>.
        return back - y * back.sum(ctx.dim, keepdim=True), None, None, None, None


softened: Any = _Softmax.apply


class _SoftmaxFamily:
    """softmax and log_softmax."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(constants=True, curved=True, outputs=lambda i, t: [t] if i == 0 else [])

    def prepare(self, step: Step) -> None:
        y, log = step.extra[0].tensor, step.name.endswith("log_softmax")
        y = y.exp() if log else y
        dim = int(step.args[1])
        dim = dim if dim < 0 else dim - max(y.dim(), 1)
        adjoint, dtype = step.adjoints[0], y.dtype
        bent: Tensor | None = None
        if adjoint is not None and log:
            bent = -adjoint.sum(dim, keepdim=True) * y
        elif adjoint is not None:
            bent = y * (adjoint - (adjoint * y).sum(dim, keepdim=True))

        def apply(tangents: Stacks) -> Stacks:
            return [softened(only(tangents).to(dtype), y, dim, log, bent)]

        step.apply = apply
        step.saved = y.numel() * y.element_size()
        if bent is None:
            return
        second: Tensor = bent

        def form(tangents: Stacks, pairs: Pairs) -> Tensor:
            t = only(tangents).to(dtype)
            return pairs.bilinear(t - (t * y).sum(dim, keepdim=True), lambda w: w * second)

        step.form = form


class _Axes:
    """A normalisation over the last axis of (..., m); gamma broadcasts against that."""

    def __init__(
        self, xhat: Tensor, rstd: Tensor, gamma: Tensor | None, grad: Tensor | None
    ) -> None:
        self.xhat, self.rstd, self.gamma = xhat, rstd, gamma
        self.m = xhat.shape[-1]
        self.a: Tensor | None = None
        if grad is not None:
            self.a = grad if gamma is None else grad * gamma
            self.a = self.a - self.a.mean(-1, keepdim=True)
            self.s = (self.a * xhat).sum(-1, keepdim=True)

    def split(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Of a stack: w and p."""
        w = t - t.mean(-1, keepdim=True)
        return w, (w * self.xhat).mean(-1, keepdim=True)

    def project(self, t: Tensor) -> Tensor:
        """Symmetric: r (w - xh p)."""
        w, p = self.split(t)
        return torch.addcmul(w, self.xhat, p, value=-1) * self.rstd

    def bend(self, t: Tensor) -> Tensor:
        """The form as a linear operator: <bend(t), u> is it along t and u."""
        if self.a is None:
            return torch.zeros_like(t)
        w, p = self.split(t)
        at_a = (w * self.a).mean(-1, keepdim=True)
        bent = self.xhat * (3 * p * self.s / self.m - at_a) - p * self.a - w * (self.s / self.m)
        return bent * self.rstd.square()


class _Normalised(torch.autograd.Function):
    """gamma times the projection of a stack (K, ..., m)."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, axes: _Axes) -> Tensor:
        ctx.axes = axes
        ctx.save_for_backward(t)
        out = axes.project(t)
        return out if axes.gamma is None else out * axes.gamma

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        axes, (t,) = ctx.axes, ctx.saved_tensors
        back = axes.project(grad if axes.gamma is None else grad * axes.gamma)
        return back + axes.bend(t), None


projected: Any = _Normalised.apply


class _Groups:
    """layer_norm and group_norm with weights that do not depend on the input."""

    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(
            constants=True, inputs=True, curved=True, outputs=lambda i, t: [t] if i else []
        )

    def prepare(self, step: Step) -> None:
        value = step.values[0]
        if len(step.inputs) != 1 or value is None or len(step.extra) != 2:
            LOCAL.prepare(step)
            return
        x, (mean, rstd) = value.tensor, (kept.tensor for kept in step.extra)
        layer = step.name == "native_layer_norm"
        given = step.args[2] if layer else step.args[1]
        gamma = None if given is None else given.tensor
        size = step.out_shapes[0].size
        if layer:
            depth = x.dim() - len(step.args[1])
            folded = (*x.shape[:depth], -1)
            gamma = None if gamma is None else gamma.flatten()
        else:
            folded = (x.shape[0], int(step.args[6]), -1)
            if gamma is not None:
                wide = gamma.view(1, -1, *[1] * (x.dim() - 2)).expand(1, *x.shape[1:])
                gamma = wide.reshape(1, *folded[1:])
        dtype = x.dtype
        mean, rstd = (v.reshape(*folded[:-1], 1).to(dtype) for v in (mean, rstd))
        adjoint = step.adjoints[0]
        grad = None if adjoint is None else adjoint.reshape(folded)
        axes = _Axes((x.reshape(folded) - mean) * rstd, rstd, gamma, grad)
        step.saved = x.numel() * x.element_size()

        def rows(tangents: Stacks) -> Tensor:
            t = only(tangents)
            return t.reshape(t.shape[0], *folded)

        def apply(tangents: Stacks) -> Stacks:
            t = rows(tangents)
            return [projected(t, axes).reshape(t.shape[0], *size), None, None]

        step.apply = apply
        if grad is not None:
            step.form = lambda tangents, pairs: pairs.bilinear(rows(tangents), axes.bend)


SOFTMAX = _SoftmaxFamily()


GROUPS = _Groups()
