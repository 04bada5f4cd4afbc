"""Plain definitions in float64, written without anything of bnaudit or of PyTorch's BatchNorm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Reference:
    """What the definitions give for one layer on one batch; per channel unless said otherwise."""

    sigma: Tensor
    leak: Tensor
    gain: Tensor
    grad_out: Tensor
    grad_in: Tensor
    predicted: Tensor
    mean_term: Tensor
    xhat_term: Tensor


def columns(t: Tensor) -> Tensor:
    """(N, C, ...) -> (m, C)."""
    return t.detach().double().movedim(1, -1).reshape(-1, t.shape[1])


def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """Batch normalisation from elementary operations, differentiable."""
    dims = [d for d in range(x.dim()) if d != 1]
    shape = [1, -1] + [1] * (x.dim() - 2)
    mu = x.mean(dims, keepdim=True)
    var = ((x - mu) ** 2).mean(dims, keepdim=True)
    return gamma.view(shape) * (x - mu) / (var + eps).sqrt() + beta.view(shape)


def first_order(x: Tensor, big_g: Tensor, gamma: Tensor, eps: float) -> Reference:
    """The textbook form of Theorem 4.1, with g from the explicit Jacobian, column by column."""
    xs, gs = columns(x), columns(big_g)
    m, channels = xs.shape
    mu = xs.mean(0)
    var = ((xs - mu) ** 2).mean(0)
    sigma = (var + eps).sqrt()
    gain = gamma.double().abs() / sigma
    g = torch.empty_like(gs)
    eye, ones = torch.eye(m, dtype=torch.float64), torch.ones(m, 1, dtype=torch.float64)
    for j in range(channels):
        xhat = ((xs[:, j] - mu[j]) / sigma[j]).unsqueeze(1)
        jacobian = gamma[j].double() / sigma[j] * (eye - ones @ ones.T / m - xhat @ xhat.T / m)
        g[:, j] = jacobian.T @ gs[:, j]
    s = (((xs - mu) / sigma) * gs).sum(0)
    leak = eps / sigma**2
    a, b = m * gs.mean(0) ** 2, (1 + leak) * s**2 / m
    return Reference(
        sigma=sigma,
        leak=leak,
        gain=gain,
        grad_out=gs.norm(dim=0),
        grad_in=g.norm(dim=0),
        predicted=(gain**2 * ((gs**2).sum(0) - a - b)).clamp(min=0).sqrt(),
        mean_term=a,
        xhat_term=b,
    )
