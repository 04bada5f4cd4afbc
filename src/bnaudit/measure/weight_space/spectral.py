"""lambda = |U|_2 and lambda_c = |(I - 11'/m) U|_2 of every group, from applications of U and U' alone.

Power iteration on A = U'U in its Krylov form (Lanczos with full reorthogonalisation): after k steps
the best vector w in span(w0, A w0, ..., A^k w0) and theta = |U w|^2 come out of a k x k tridiagonal
matrix. Plain power iteration uses the last vector only and stalls where the two largest singular
values are close.

Both iterations approach lambda from below, and the bound must not look violated because of that:

- It stops on the residual r = |A w - theta w|, not on the change of theta: an eigenvalue of A lies
  within r of theta whatever the gap, and r <= RESIDUAL * theta.
- sqrt(theta + r), not sqrt(theta), is what is returned.
- A start vector without any part along the largest singular vector would end at a smaller one. The start
  is random; to end a relative delta below the largest, its part there would have to be below
  RESIDUAL / delta of the others, before any of the k steps has amplified it.

After d steps (d weights a channel) the Krylov space is everything, and theta exact.
Limits: in float32 the rounding of U and U' leaves r near 1e-7 theta, so RESIDUAL is larger there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.measure.weight_space.unfolded import Unfolded

RESIDUAL = {torch.float64: 1e-8, torch.float32: 2e-6}
"""r / theta at which the iteration stops; lambda is then right to half of it."""

MAX_STEPS = 500

_PROBLEMS_PER_CHECK = 64

# Below this share of theta a new direction is rounding: the Krylov space is exhausted.
_EXHAUSTED = {torch.float64: 1e-13, torch.float32: 1e-6}


@dataclass(frozen=True, slots=True)
class SpectralNorms:
    """Float64, on the CPU.

    Attributes:
        plain: lambda, (groups,).
        centred: lambda_c, (groups,).
        steps: applications of U and of U' that it took, each for all groups at once.
        converged: False where MAX_STEPS were not enough for some group, or U'U overflows.
    """

    plain: Tensor
    centred: Tensor
    steps: int
    converged: bool


def spectral_norms(unfolded: Unfolded, device: torch.device) -> SpectralNorms:
    """Both norms of every group; deterministic (the start vector is seeded).

    Each group is given two rows, the plain problem and the centred one.

    Args:
        unfolded: U.
        device: where its input is.
    """
    space = _Krylov(2 * unfolded.groups, unfolded.size)
    last = min(MAX_STEPS, unfolded.size)
    # Eigenvalues of thousands of small matrices (depthwise) cost more than a few steps too many.
    every = 1 + 2 * unfolded.groups // _PROBLEMS_PER_CHECK
    steps, finished = 0, False
    while not finished:
        rows = space.last.to(device, unfolded.dtype)
        image = _normal(unfolded, rows).to("cpu", torch.float64)
        if not bool(torch.isfinite(image).all()):
            unknown = torch.full((unfolded.groups,), torch.nan, dtype=torch.float64)
            return SpectralNorms(unknown, unknown, steps, converged=False)
        space.extend(image, _EXHAUSTED[unfolded.dtype])
        steps += 1
        if steps % every == 0 or steps == last:
            theta, residual = space.largest()
            converged = bool((residual <= RESIDUAL[unfolded.dtype] * theta).all())
            finished = converged or steps == last
    norms = (theta + residual).clamp(min=0).sqrt().view(-1, 2)
    return SpectralNorms(norms[:, 0], norms[:, 1], steps, converged or steps == unfolded.size)


def _normal(unfolded: Unfolded, rows: Tensor) -> Tensor:
    """U'U w for even rows, U'(I - 11'/m)U w for odd ones."""
    if unfolded.groups == 1:  # one pass over the input for both
        y = unfolded.apply(rows)
        y[:, 1:] = unfolded.centred(y[:, 1:])
        return unfolded.adjoint(y)
    # Depthwise kernels are fast with one output channel a group, and ten times slower with two.
    plain = unfolded.adjoint(unfolded.apply(rows[0::2]))
    centred = unfolded.adjoint(unfolded.centred(unfolded.apply(rows[1::2])))
    return torch.stack([plain, centred], 1).flatten(0, 1)


class _Krylov:
    """Lanczos' recurrence for many small symmetric problems at once, in float64 on the CPU.

    The basis vectors are (problems, d); diagonal and off-diagonal of each problem's tridiagonal matrix
    grow by one a step.
    """

    def __init__(self, problems: int, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(problems, size, generator=generator, dtype=torch.float64)
        self.last = start / start.norm(dim=1, keepdim=True)
        self.diagonal: list[Tensor] = []
        self.off_diagonal: list[Tensor] = []
        self._basis = start.new_empty(0, problems, size)

    def extend(self, image: Tensor, exhausted: float) -> None:
        """One step: `image` is A applied to `last`.

        Args:
            image: (problems, d).
            exhausted: relative size of a remainder that is rounding.
        """
        self._basis = torch.cat([self._basis, self.last[None]])
        self.diagonal.append((self.last * image).sum(1))
        for _ in range(2):  # once leaves the rounding of large components
            along = torch.einsum("kpd,pd->kp", self._basis, image)
            image = image - torch.einsum("kp,kpd->pd", along, self._basis)
        rest = image.norm(dim=1)
        scale = torch.stack([*self.diagonal, *self.off_diagonal]).abs().amax(0)
        rest = torch.where(rest > exhausted * scale, rest, 0)
        self.off_diagonal.append(rest)
        # A zero vector adds zeros to the tridiagonal matrix: the problem is finished, others go on.
        self.last = torch.where(rest[:, None] > 0, image / rest[:, None], 0)

    def largest(self) -> tuple[Tensor, Tensor]:
        """The values theta and r of every problem, shapes (problems,)."""
        t = torch.diag_embed(torch.stack(self.diagonal, 1))
        if len(self.diagonal) > 1:
            side = torch.stack(self.off_diagonal[:-1], 1)
            t = t + torch.diag_embed(side, 1) + torch.diag_embed(side, -1)
        values, vectors = torch.linalg.eigh(t)
        return values[:, -1], self.off_diagonal[-1] * vectors[:, -1, -1].abs()
