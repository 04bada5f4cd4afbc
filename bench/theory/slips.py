"""Formulas that are often written wrongly, right and wrong, on one random problem in float64.

The truth comes from elementary operations and full Hessians; nothing of bnaudit is used. A row is
(where, what it says, is it right, error, test), the error relative to the size of the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Derivative = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]

EPS, M, C, WEIGHTS = 0.05, 24, 3, 5

_FIRST = "test_properties.py::test_closed_form_equals_autograd_and_the_textbook"
_SECOND = "test_second_order.py::test_every_term_matches_full_hessians"
_WEIGHTS = "test_weight_space.py::test_linear_layers_match_explicit_matrices"
_LEMMA = "test_lemma.py::test_definitions"
_SCALE = "test_run.py::test_against_elementary_operations"


@dataclass(frozen=True, slots=True)
class Row:
    """One formula against the truth."""

    where: str
    says: str
    right: bool
    error: float
    test: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A layer x = U w + b, BatchNorm, tanh and a linear head; tensors are (m, C), per channel (C,)."""

    u: Tensor
    w: Tensor
    x: Tensor
    gamma: Tensor
    big_g: Tensor
    g: Tensor
    dw: Tensor
    hx: Tensor
    hz: Tensor

    @property
    def sigma(self) -> Tensor:
        """Of the batch, with eps."""
        return (self.x.var(0, correction=0) + EPS).sqrt()

    @property
    def leak(self) -> Tensor:
        """Eps / sigma^2."""
        return EPS / self.sigma**2

    @property
    def d(self) -> Tensor:
        """Gamma / sigma, with its sign."""
        return self.gamma / self.sigma

    @property
    def xhat(self) -> Tensor:
        """The normalised input."""
        return (self.x - self.x.mean(0)) / self.sigma

    @property
    def s(self) -> Tensor:
        """<xhat, G>."""
        return (self.xhat * self.big_g).sum(0)


def batch_norm(x: Tensor, gamma: Tensor) -> Tensor:
    """From elementary operations."""
    c = x - x.mean(0)
    return gamma * c / ((c * c).mean(0) + EPS).sqrt()


def problem(seed: int = 0) -> Problem:
    """Weights, inputs, gamma of both signs and labels from a seed; derivatives by autograd."""
    torch.manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64)

    u, w = normal(M, WEIGHTS).relu(), normal(WEIGHTS, C)
    b, gamma = normal(C), torch.tensor([1.3, -0.8, 0.5]).double()
    head, labels = normal(C, 4), (torch.arange(M) % 4 == 0).long()

    def of_z(z: Tensor) -> Tensor:
        return nn.functional.cross_entropy(torch.tanh(z) @ head, labels)

    def of_x(x: Tensor) -> Tensor:
        return of_z(batch_norm(x, gamma))

    def of_w(w: Tensor) -> Tensor:
        return of_x(u @ w + b)

    x = u @ w + b
    z = batch_norm(x, gamma)
    jacobian: Derivative = torch.autograd.functional.jacobian
    hessian: Derivative = torch.autograd.functional.hessian
    size = M * C
    return Problem(
        u=u,
        w=w,
        x=x,
        gamma=gamma,
        big_g=jacobian(of_z, z),
        g=jacobian(of_x, x),
        dw=jacobian(of_w, w),
        hx=hessian(of_x, x).reshape(size, size),
        hz=hessian(of_z, z).reshape(size, size),
    )


def _error(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).abs().sum() / truth.abs().sum())


def _identity(p: Problem) -> list[Row]:
    mean = p.big_g.mean(0)
    found = {
        "g = D (G - Gbar - xh s/m)": (True, p.d * (p.big_g - mean - p.xhat * p.s / M)),
        "g = D (G - Gbar + xh s/m)": (False, p.d * (p.big_g - mean + p.xhat * p.s / M)),
        "g = D (G - xh s/m), no mean term": (False, p.d * (p.big_g - p.xhat * p.s / M)),
    }
    return [Row("backward", k, ok, _error(v, p.g), _FIRST) for k, (ok, v) in found.items()]


def _first_order(p: Problem) -> list[Row]:
    out, a, s_sq = (p.big_g**2).sum(0), M * p.big_g.mean(0) ** 2, p.s**2
    d_sq, b = p.d**2, (1 + p.leak) * s_sq / M
    found = {
        "D^2 (abs(G)^2 - m Gbar^2 - (1 + leak) s^2/m)": (True, d_sq * (out - a - b)),
        "xh term s^2/m (eps = 0)": (False, d_sq * (out - a - s_sq / M)),
        "xh term over sqrt(m), not m": (False, d_sq * (out - a - (1 + p.leak) * s_sq / M**0.5)),
        "mean term m Gbar, not squared": (False, d_sq * (out - M * p.big_g.mean(0) - b)),
        "factor gamma/sigma^2, gamma not squared": (
            False,
            p.gamma.abs() / p.sigma**2 * (out - a - b),
        ),
    }
    truth = (p.g**2).sum(0)
    return [Row("4.1", k, ok, _error(v, truth), _FIRST) for k, (ok, v) in found.items()]


def _along(h: Tensor, v: Tensor) -> Tensor:
    """v_j'(H v)_j for every channel."""
    return (v * (h @ v.reshape(-1)).reshape(M, C)).sum(0)


def _own_blocks(h: Tensor, v: Tensor) -> Tensor:
    """v_j' H_jj v_j for every channel."""
    return torch.stack([_along(h, v * (torch.arange(C) == j))[j] for j in range(C)])


def _second_order(p: Problem) -> list[Row]:
    in_sq, out_sq = (p.g**2).sum(0), (p.big_g**2).sum(0)
    jg = p.d * (p.g - p.xhat * (p.d * p.leak * p.s / M))
    moved = _along(p.hz, jg)
    factor = p.gamma * p.s / (M * p.sigma**2)
    rest = p.d**2 * p.leak**2 * p.s**2 / M
    t = factor * (-(1 + 2 * p.leak) * in_sq + rest)
    found = {
        "(Jg)'Hz(Jg) + T": (True, moved + t),
        "eps = 0: (Dg)'Hz(Dg) - gamma s abs(g)^2/(m sigma^2)": (
            False,
            _along(p.hz, p.d * p.g) - factor * in_sq,
        ),
        "sign of T": (False, moved - t),
        "T with abs(G), not the BatchNorm gradient abs(g)": (
            False,
            moved + factor * (-(1 + 2 * p.leak) * out_sq + rest),
        ),
        "T with abs(gamma) for gamma": (False, moved + t * p.gamma.sign()),
        "D^2 G'HzG for (Jg)'Hz(Jg)": (False, p.d**2 * _along(p.hz, p.big_g) + t),
        "own blocks only, of a layer's curvature": (False, _own_blocks(p.hx, p.g)),
    }
    truth = _along(p.hx, p.g)
    return [Row("4.2", k, ok, _error(v, truth), _SECOND) for k, (ok, v) in found.items()]


def _minimax(p: Problem) -> list[Row]:
    """The truth is the maximum itself: of all U with |U|_2 = lambda, lambda g_j e'/|g_j| attains it."""
    lam = torch.linalg.matrix_norm(p.u, 2)
    unit = torch.nn.functional.normalize(torch.ones(WEIGHTS, dtype=torch.float64), dim=0)
    truth = torch.stack(
        [
            ((lam * torch.outer(g / g.norm(), unit)).T @ g).norm() ** 2
            for g in (p.g[:, j] for j in range(C))
        ]
    )
    out, a = (p.big_g**2).sum(0), M * p.big_g.mean(0) ** 2
    b, lam_sq = (1 + p.leak) * p.s**2 / M, lam**2
    found = {
        "D^2 (lambda^2 abs(G)^2 - lambda^2 m Gbar^2 - (1 + leak) lambda^2 s^2/m)": (
            True,
            p.d**2 * lam_sq * (out - a - b),
        ),
        "mean term m Gbar^2, without lambda^2": (False, p.d**2 * (lam_sq * (out - b) - a)),
        "xh term lambda^2 s^2, without 1/m": (
            False,
            p.d**2 * lam_sq * (out - a - (1 + p.leak) * p.s**2),
        ),
    }
    return [Row("4.4", k, ok, _error(v, truth), _WEIGHTS) for k, (ok, v) in found.items()]


def _lemma(p: Problem) -> list[Row]:
    w = p.w.reshape(-1)
    start = 0.6 * w + 0.5 * torch.roll(w, 1)
    norm_sq, dot = w @ w, start @ w
    k = dot / norm_sq
    truth = ((start - w) ** 2).sum() - torch.stack(
        [((start - q * w) ** 2).sum() for q in (k + torch.linspace(-1, 1, 2001))]
    ).amin()
    found = {
        "gain (k - 1)^2 abs(W)^2, k = <W0,W>/abs(W)^2": (True, (k - 1) ** 2 * norm_sq),
        "gain (1 - k) abs(W)^2, not squared": (False, (1 - k) * norm_sq),
        "k = <W0,W>/abs(W), not squared": (False, (dot / norm_sq.sqrt() - 1) ** 2 * norm_sq),
    }
    return [Row("4.5", key, ok, _error(v, truth), _LEMMA) for key, (ok, v) in found.items()]


def _scale(p: Problem) -> list[Row]:
    truth = (p.w * p.dw).sum(0)
    found = {
        "<w_j, dL/dw_j> = leak gamma dL/dgamma_j": (True, p.leak * p.gamma * p.s),
        "<w_j, dL/dw_j> = 0 (eps = 0)": (False, torch.zeros(C)),
    }
    return [Row("scale", k, ok, _error(v, truth), _SCALE) for k, (ok, v) in found.items()]


def slips(seed: int = 0) -> list[Row]:
    """All formulas on one problem."""
    p = problem(seed)
    parts = (_identity, _first_order, _second_order, _minimax, _lemma, _scale)
    return [row for part in parts for row in part(p)]


if __name__ == "__main__":
    for row in slips():
        print(f"{row.where:8} {row.right!s:5} {row.error:8.1e}  {row.says}")
