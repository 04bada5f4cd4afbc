"""Theorem 4.4: the minimax bound on the gradient of the weights in front of a BatchNorm.

Source: Santurkar, Tsipras, Ilyas, Madry, "How Does Batch Normalization Help Optimization?", NeurIPS
2018, arXiv 1805.11604. With x_j = U w_j + const, U (m, d), and g_j, G_j (m,) the loss's gradients at
the BatchNorm's input and output in channel j:

    dL/dw_j = U'g_j,                 |dL/dw_j|^2 <= lambda^2 |g_j|^2,      lambda = |U|_2
    max over |U|_2 <= lambda of |U'g_j|^2 = lambda^2 |g_j|^2
        = D_j^2 lambda^2 (|G_j|^2 - m Gbar_j^2 - (1 + leak) s_j^2/m)       (theorem 4.1 inserted)

Since 1'g_j = 0 (the mean term of the projection), U'g_j = ((I - 11'/m) U)'g_j, and lambda_c of the
centred U bounds as well; without BatchNorm, at G_j, only lambda does.

Per layer, sums over the output channels j, each with lambda of its own group:

    bound = sqrt(sum lambda_j^2 |g_j|^2),  tightness = max |dL/dw_j| / (lambda_j |g_j|)
    weight_ratio = |U'g| / |U'G|,          Pi_w = |U'g|^2 / |U'DG|^2,  (U'DG)_j = D_j (U'G)_j

Limits: the bound is a maximum over inputs of the same norm; nothing says how tight it is for these. The
weight_ratio is not bounded by the theorem at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bnaudit.measure.spread import spread, withheld
from bnaudit.records.values import Metric, Skipped
from bnaudit.records.weights import WeightSpace

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.weight_space.spectral import SpectralNorms
    from bnaudit.measure.weight_space.unfolded import Unfolded

TOLERANCE = {
    torch.float64: 1e-10,
    torch.float32: 1e-4,
    torch.bfloat16: 5e-2,
    torch.float16: 1e-2,
}
"""What the residual stays below where feeder and capture are right, by the operator's dtype."""

RESOLUTION = 1e-2
"""Relative error of |U'g| and |U'G| beyond which their ratio says nothing."""

FLOOR = 0.1
"""Share of the largest possible |U'g| that the residual is taken relative to at least."""

SLACK = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""How far beyond the bound, relatively, rounding may put a gradient before it is a violation."""

_SILENT = Skipped("the gradient at this layer is zero")
_NOISE = Skipped("the weight gradient is rounding noise (try --dtype float64)")


@dataclass(frozen=True, slots=True)
class WeightGradients:
    """What one layer gives on one batch, by output channel; float64 (O,) on the CPU.

    Attributes:
        measured: |dL/dw_j| from autograd.
        adjoint: |U'g_j|.
        without: |U'G_j|.
        grad_in: |g_j|.
        grad_out: |G_j|.
        error: |dL/dW - U'g| over all channels, the larger of two estimates, see `_error`.
        reach: |U w||g_j| of a random w, over all channels: what |U'g| could be.
    """

    measured: Tensor
    adjoint: Tensor
    without: Tensor
    grad_in: Tensor
    grad_out: Tensor
    error: float
    reach: float

    @property
    def residual(self) -> float:
        """|dL/dW - U'g| / (|U'g| + FLOOR * reach).

        U'g may vanish for good reasons (nearly constant inputs, g orthogonal to them), and the
        rounding of a sum over m values does not vanish with it: hence the second term.
        """
        scale = float(self.adjoint.norm()) + FLOOR * self.reach
        return self.error / scale if scale > 0 else self.error

    @property
    def resolved(self) -> bool:
        """Whether |U'g| and |U'G| stand clear of the rounding that `error` shows."""
        g, big_g = float(self.grad_in.norm()), float(self.grad_out.norm())
        error_without = self.error * big_g / g if g > 0 else 0.0
        return self.error <= RESOLUTION * float(self.adjoint.norm()) and (
            error_without <= RESOLUTION * float(self.without.norm())
        )

    @property
    def finite(self) -> bool:
        """Whether every one of them is."""
        values = torch.stack([self.measured, self.adjoint, self.without, self.grad_in])
        return bool(torch.isfinite(values).all())


def weight_gradients(unfolded: Unfolded, dw: Tensor, g: Tensor, big_g: Tensor) -> WeightGradients:
    """Applies the adjoint to both gradients and reduces.

    Args:
        unfolded: U.
        dw: dL/dW, of the weight's shape.
        g: gradient at the BatchNorm's input, in the layout of the operator's output.
        big_g: at its output, likewise.
    """
    measured = unfolded.rows(dw)
    adjoint = unfolded.adjoint(g.to(unfolded.dtype))
    without = unfolded.adjoint(big_g.to(unfolded.dtype))
    error, reach = _error(unfolded, measured, adjoint, g)
    return WeightGradients(
        measured=_norms(measured),
        adjoint=_norms(adjoint),
        without=_norms(without),
        grad_in=_norms(g, keep=1),
        grad_out=_norms(big_g, keep=1),
        error=error,
        reach=reach,
    )


def _error(unfolded: Unfolded, measured: Tensor, adjoint: Tensor, g: Tensor) -> tuple[float, float]:
    """|dL/dW - U'g|, and |U w||g_j| over all channels for a random w.

    Directly; but where the capture is right autograd ran the same kernel on the same values, and the
    difference is 0 whatever that kernel does. So U'g is taken from the forward operator as well,
    through a random w for each group: <w, dL/dw_j> against <U w, g_j>. With w standard normal
    the expected square of their difference is |dL/dw_j - U'g_j|^2.
    """
    groups, size = unfolded.groups, unfolded.size
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(groups, size, 1, generator=generator, dtype=torch.float64)
    image = unfolded.apply(w[..., 0].to(g.device, unfolded.dtype)).movedim(1, 0)
    image = image.reshape(groups, -1, 1)
    grouped = g.to(unfolded.dtype).movedim(1, 0).reshape(groups, -1, image.shape[1])
    forward = (grouped @ image).to("cpu", torch.float64)
    backward = measured.to("cpu", torch.float64).view(groups, -1, size) @ w
    reach = _norms(image)[:, None] * _norms(g, keep=1).view(groups, -1)
    direct = float(_norms(adjoint - measured).norm())
    return max(direct, float((forward - backward).norm())), float(reach.norm())


def _norms(t: Tensor, keep: int = 0) -> Tensor:
    dims = [d for d in range(t.dim()) if d != keep]
    norms: Tensor = torch.linalg.vector_norm(t, dim=dims, dtype=torch.float64)
    return norms.cpu()


def weight_space(
    feeder: str, gradients: WeightGradients, norms: SpectralNorms, gain: Tensor, dtype: torch.dtype
) -> WeightSpace:
    """The record of one layer.

    Args:
        feeder: the operator and its parameter, for the report.
        gradients: of the layer.
        norms: of U, by group.
        gain: |D| = |gamma|/sigma, (O,).
        dtype: of the operator.
    """
    residual, tolerance = gradients.residual, TOLERANCE[dtype]
    if residual > tolerance:
        reason = "integrity: autograd and the adjoint disagree, numbers withheld"
        known = {"feeder": feeder, "residual": residual, "tolerance": tolerance}
        return withheld(WeightSpace, reason, **known)
    repeats = len(gain) // len(norms.plain)
    plain, centred = (n.repeat_interleave(repeats) for n in (norms.plain, norms.centred))
    allowed = plain * gradients.grad_in
    slow = None if norms.converged else Skipped("the power iteration did not converge")
    noise = None if gradients.resolved else _NOISE
    own = float(gradients.adjoint.norm())
    scaled = float((gain * gradients.without).norm())
    flat = _SILENT if float(gradients.without.norm()) == 0 else Skipped("gamma is zero")
    tightness = slow or noise or _tightness(gradients.measured, allowed)
    exceeding = gradients.measured > allowed * (1 + SLACK[dtype])
    return WeightSpace(
        feeder=feeder,
        spectral_norm=slow or _single(float(plain.max())),
        spectral_norm_centred=slow or _single(float(centred.max())),
        grad_norm=_single(float(gradients.measured.norm())),
        bound=slow or _single(float(allowed.norm())),
        bound_centred=slow or _single(float((centred * gradients.grad_in).norm())),
        bound_without=slow or _single(float((plain * gradients.grad_out).norm())),
        tightness=tightness,
        weight_ratio=noise or _ratio(own, float(gradients.without.norm()), _SILENT),
        projection=noise or _ratio(own, scaled, flat, power=2),
        violations=tightness if isinstance(tightness, Skipped) else int(exceeding.sum()),
        residual=residual,
        tolerance=tolerance,
    )


def _tightness(measured: Tensor, allowed: Tensor) -> Metric:
    active = allowed > 0
    if not bool(active.any()):
        return _SILENT
    return _single(float((measured[active] / allowed[active]).max()))


def _single(value: float) -> Metric:
    return spread(torch.tensor([value], dtype=torch.float64))


def _ratio(above: float, below: float, otherwise: Skipped, power: int = 1) -> Metric:
    return _single((above / below) ** power) if below > 0 else otherwise
