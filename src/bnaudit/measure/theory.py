"""First order: Theorem 4.1 as the equality that stands behind its inequality.

Source: Santurkar, Tsipras, Ilyas, Madry, "How Does Batch Normalization Help Optimization?", NeurIPS
2018, arXiv 1805.11604.

With sigma^2 = v + eps, D = gamma/sigma, leak = eps/sigma^2, xhat = c/sigma and s = <xhat, G>:

    dL/dx = g = D (G - Gbar - xhat s/m)
    |g|^2 = D^2 (|G|^2 - a - b),   a = m Gbar^2,   b = (1 + leak) s^2/m = (1 - leak^2) t^2
          = D^2 (|R|^2 + leak^2 t^2)                     (the stable form, used here)

The paper writes <= and has eps = 0. With running statistics nothing is projected: g = D_running G.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.moments import Moments

TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.bfloat16: 2e-2,
    torch.float16: 5e-3,
}
"""What the integrity residual stays below where the capture is right, by the activations' dtype."""


_SMALLEST_NORMAL = torch.finfo(torch.float32).tiny  # bfloat16 has the same


@dataclass(frozen=True, slots=True)
class FirstOrderChannels:
    """The theorem at one layer on one batch, channel by channel; float64 tensors of shape (C,).

    Attributes:
        sigma: what the layer divided by.
        leak: eps / sigma^2.
        gain: |D| = |gamma| / sigma.
        grad_out_sq: |G|^2.
        grad_in_sq: |g|^2 from autograd.
        predicted_sq: |g|^2 from the closed form.
        mean_term: a, what the mean term removes (before D^2); zero with running statistics.
        xhat_term: b, what the xhat term removes; zero with running statistics.
        residual: ||g| - predicted| / (|D| |G| (1 + |mu|/sigma)).
    """

    sigma: Tensor
    leak: Tensor
    gain: Tensor
    grad_out_sq: Tensor
    grad_in_sq: Tensor
    predicted_sq: Tensor
    mean_term: Tensor
    xhat_term: Tensor
    residual: Tensor


def first_order(
    moments: Moments, gamma: Tensor | None, eps: float, m: int, running_var: Tensor | None = None
) -> FirstOrderChannels:
    """Evaluates the closed form from the moments of one call.

    Args:
        moments: of the call on one batch.
        gamma: (C,), or None for a layer that is not affine (gamma = 1).
        eps: the layer's eps.
        m: values per channel.
        running_var: (C,) where running statistics normalised the layer, else None.
    """
    var = moments.var if running_var is None else running_var
    sigma = (var + eps).sqrt()
    leak = eps / (var + eps)
    gain = (torch.ones_like(sigma) if gamma is None else gamma.abs()) / sigma
    if running_var is None:
        survives = moments.grad_rest_sq + (leak * moments.grad_along) ** 2
        mean_term = m * moments.grad_mean**2
        xhat_term = (1 - leak**2) * moments.grad_along**2
    else:
        survives = moments.grad_out_sq
        mean_term = xhat_term = torch.zeros_like(sigma)
    predicted_sq = gain**2 * survives
    return FirstOrderChannels(
        sigma=sigma,
        leak=leak,
        gain=gain,
        grad_out_sq=moments.grad_out_sq,
        grad_in_sq=moments.grad_in_sq,
        predicted_sq=predicted_sq,
        mean_term=mean_term,
        xhat_term=xhat_term,
        residual=_residual(moments, gain, sigma, predicted_sq, m),
    )


def own_curvature(
    moments: Moments, channels: FirstOrderChannels, gamma: Tensor | None, m: int
) -> Tensor:
    """T_c(g) of Theorem 4.2: what BatchNorm's own second derivative adds along g, (C,).

    With s = <xhat,G>, signed gamma, and g the gradient at the input:
    gamma s/(m sigma^2) (-(1 + 2 leak) |g|^2 + D^2 leak^2 s^2/m).

    Args:
        moments: of the call on one batch.
        channels: its first order.
        gamma: (C,), or None for a layer that is not affine (gamma = 1).
        m: values per channel.
    """
    s = moments.grad_along * (m * moments.var).sqrt() / channels.sigma
    leak = channels.leak
    inner = (channels.gain * leak * s) ** 2 / m - (1 + 2 * leak) * channels.predicted_sq
    steepness = s / (m * channels.sigma**2)
    return steepness * inner if gamma is None else gamma * steepness * inner


def _residual(
    moments: Moments, gain: Tensor, sigma: Tensor, predicted_sq: Tensor, m: int
) -> Tensor:
    """The integrity residual, against |D||G| and not |g|, which may vanish for good reasons.

    The rounding of c = x - mu is relative to |mu|/sigma, so a channel far from zero is allowed as
    much more. Where |D||G| is 0 the gradient has to be 0 as well. Weight decay drives gammas below 1e-38:
    below the smallest normal number a value of g has no relative precision, or is flushed to 0.
    """
    reference = gain * moments.grad_out_sq.sqrt()
    error = (moments.grad_in_sq.sqrt() - predicted_sq.sqrt()).abs()
    error = (error - math.sqrt(m) * _SMALLEST_NORMAL).clamp(min=0)
    slack = 1 + moments.mean.abs() / sigma
    # Written so that NaN goes through: a comparison with it is False, and would turn it into 0.
    silent = torch.where(error > 0, torch.inf, 0.0)
    return torch.where(reference == 0, silent, error / (reference * slack))
