"""BatchNorm in closed form, along a stack of tangents and back.

Per channel, with xh, G, D = gamma/sigma, s = <xh,G>, and for a tangent t: p = <xh,t>/m:

    J t          = D (t - mean t - xh p)                                  (J is symmetric)
    d(J'G)/dx t  = gamma/sigma^2 ((3 p s - <G,w>)/m xh - p (G - mean G) - s/m w),     w = t - mean t

The second line is half the gradient of T(t), see `second_order`: what BatchNorm's own curvature
adds to the gradient that comes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from bnaudit.measure.sweep.family import Needs
from bnaudit.measure.sweep.local import LOCAL
from bnaudit.measure.sweep.pointwise import _scaled

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.sweep.tape import Step

    Stacks = list[Tensor | None]


@dataclass(slots=True)
class Norm:
    """One BatchNorm call on batch statistics.

    Attributes:
        xhat: (N, C, ...).
        grad: G, same shape; None where the loss does not depend on the output.
        scale: D, (C,).
        rstd: 1/sigma, (C,).
        s, gbar: <xh,G> and mean G, (C,).
        gamma: (C,) or None.
        m: values per channel.
    """

    xhat: Tensor
    grad: Tensor | None
    scale: Tensor
    rstd: Tensor
    s: Tensor
    gbar: Tensor
    gamma: Tensor | None
    m: int


@dataclass(slots=True)
class _Plane:
    """A stack as (K, M, C) or (K, N, C, L), whichever is a view, and what goes with it."""

    t: Tensor
    last: bool

    @property
    def dims(self) -> tuple[int, ...]:
        return (1,) if self.last else (1, 3)

    def vector(self, v: Tensor) -> Tensor:
        """(C,) or (K, C) to broadcast against the stack."""
        if v.dim() == 1:
            return v if self.last else v[:, None]
        return v[:, None] if self.last else v[:, None, :, None]

    def partner(self, x: Tensor) -> Tensor:
        """(N, C, ...) in the same layout."""
        if self.last:
            return x.movedim(1, -1).reshape(-1, x.shape[1])
        return x.reshape(*x.shape[:2], -1)

    def back(self, out: Tensor, size: torch.Size) -> Tensor:
        """To the layout of the stack."""
        if not self.last:
            return out.view(size)
        return out.view(size[0], size[1], *size[3:], size[2]).movedim(-1, 2)


def _plane(t: Tensor) -> _Plane:
    moved = t.movedim(2, -1)
    if moved.is_contiguous():
        return _Plane(moved.view(t.shape[0], -1, t.shape[2]), last=True)
    return _Plane(t.reshape(*t.shape[:3], -1), last=False)


def project(t: Tensor, norm: Norm) -> Tensor:
    """J t for a stack (K, N, C, ...)."""
    return _projected(t, norm)[0]


def _projected(t: Tensor, norm: Norm) -> tuple[Tensor, Tensor, Tensor]:
    plane = _plane(t)
    x = plane.partner(norm.xhat)
    mean = plane.t.sum(plane.dims) / norm.m
    p = (plane.t * x).sum(plane.dims) / norm.m
    out = torch.addcmul(plane.t, x, plane.vector(p), value=-1)
    out.sub_(plane.vector(mean)).mul_(plane.vector(norm.scale))
    return plane.back(out, t.shape), mean, p


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor, norm: Norm) -> Tensor:
        out, mean, p = _projected(t, norm)
        ctx.norm = norm
        if norm.grad is None:
            ctx.save_for_backward()
        else:
            ctx.save_for_backward(t, mean, p)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        norm: Norm = ctx.norm
        if norm.grad is None:
            return project(grad, norm), None
        t, mean, p = ctx.saved_tensors
        return _bent(grad, t, mean, p, norm), None


def _bent(grad: Tensor, t: Tensor, mean: Tensor, p: Tensor, norm: Norm) -> Tensor:
    """J'grad plus the derivative of J'G along t."""
    assert norm.grad is not None
    plane = _plane(grad)
    x, big_g = plane.partner(norm.xhat), plane.partner(norm.grad)
    tangent = _plane(t)
    if tangent.last != plane.last:
        tangent = _Plane(_like(t, plane), plane.last)
    at_x = (plane.t * x).sum(plane.dims) / norm.m
    at_1 = plane.t.sum(plane.dims) / norm.m
    along = (tangent.t * big_g).sum(plane.dims) - norm.m * norm.gbar * mean
    own = norm.scale * norm.rstd
    to_x = own * (3 * p * norm.s - along) / norm.m - norm.scale * at_x
    to_g = -own * p
    to_1 = own * (p * norm.gbar + norm.s / norm.m * mean) - norm.scale * at_1
    out = torch.addcmul(plane.vector(to_1), x, plane.vector(to_x))
    out.addcmul_(big_g, plane.vector(to_g))
    out.addcmul_(plane.t, plane.vector(norm.scale))
    out.addcmul_(tangent.t, plane.vector(own * norm.s / norm.m), value=-1)
    return plane.back(out, grad.shape)


def _like(t: Tensor, plane: _Plane) -> Tensor:
    if plane.last:
        return t.movedim(2, -1).reshape(plane.t.shape)
    return t.reshape(plane.t.shape)


class _BatchNorm:
    def needs(self, active: tuple[int, ...]) -> Needs:  # noqa: ARG002
        return Needs(
            constants=True, inputs=True, curved=True, outputs=lambda i, t: [t] if i else []
        )

    def prepare(self, step: Step) -> None:
        if len(step.inputs) != 1 or step.values[0] is None:
            LOCAL.prepare(step)
            return
        gamma = None if step.args[1] is None else step.args[1].tensor
        x = step.values[0].tensor
        shape = [1, -1] + [1] * (x.dim() - 2)
        if not step.args[5]:
            mean_var = step.args[4].tensor
            scale = (mean_var + step.args[7]).rsqrt() * (1 if gamma is None else gamma)
            step.apply = _scaled(scale.view(shape[1:]))
            return
        step.norm = _norm(x, gamma, step, shape)
        norm = step.norm
        step.apply = lambda tangents: [_Normalise.apply(tangents[0], norm), None, None]


def _norm(x: Tensor, gamma: Tensor | None, step: Step, shape: list[int]) -> Norm:
    mean, rstd = (kept.tensor for kept in step.extra)
    grad = step.adjoints[0]
    xhat = (x - mean.view(shape)).mul_(rstd.view(shape))
    if x.dim() == 4:
        xhat = xhat.contiguous(memory_format=torch.channels_last)
        grad = None if grad is None else grad.contiguous(memory_format=torch.channels_last)
    dims = [d for d in range(x.dim()) if d != 1]
    m = x.numel() // x.shape[1]
    scale = rstd if gamma is None else rstd * gamma
    s = gbar = torch.zeros_like(rstd)
    if grad is not None:
        s = (xhat * grad).sum(dims, dtype=torch.float64).to(rstd.dtype)
        gbar = (grad.sum(dims, dtype=torch.float64) / m).to(rstd.dtype)
    return Norm(xhat, grad, scale, rstd, s, gbar, gamma, m)


BATCH_NORM = _BatchNorm()
