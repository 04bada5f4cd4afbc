"""How a batch's rows share in what it shows of a channel: in groups, and how few of them make its variance.

With s_n = sum over the positions of row n of (x - mu)^2, sum_n s_n = m v, the number

    N = (sum_n s_n)^2 / sum_n s_n^2

is that of the rows which the variance is made of: all rows where they share alike, a third of them for
Gaussian values (one a row), and the number of events where a feature is nearly always 0. The variance of n
independent rows has the relative standard error sqrt(1/N - 1/n).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

GROUPS = 4
"""Of consecutive rows in a batch: what an interval comes from where there are fewer batches than these."""


_SHIFT_LIMIT = 1e4
"""sum x^2 / sum (x - mu)^2 of a channel: float32 has seven digits, and three are enough here."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Of one batch; float64, on the CPU.

    Attributes:
        means, variances: (k, C) of k groups of consecutive rows, k at most `GROUPS`.
        squares: (C,), sum_n s_n^2.
        count: n.
    """

    means: Tensor
    variances: Tensor
    squares: Tensor
    count: int


def rows_of(x: Tensor, sums: Tensor | None = None) -> Rows:
    """The shares of the rows of an input (N, C, ...).

    Args:
        x: the input.
        sums: (2, N, C), sum x and sum x^2 of each row, where they are known.
    """
    flat = x.detach().flatten(2) if x.dim() > 2 else x.detach().unsqueeze(2)
    if flat.dtype in {torch.float16, torch.bfloat16}:
        flat = flat.float()
    length = flat.shape[2]
    if sums is None:
        squared = torch.linalg.vector_norm(flat, dim=2).double().square()
        sums = torch.stack([flat.sum(2).double(), squared])
    means, squares = sums / length
    variances = (squares - means.square()).clamp(min=0)
    between, mean = torch.var_mean(means, 0, correction=0)
    whole = variances.mean(0) + between
    if bool((squares.mean(0) > _SHIFT_LIMIT * whole).any()) and length > 1:
        # The difference has lost its digits in some channel; ten times as slow, this one has them.
        variances = torch.var(flat, dim=2, correction=0).double()
    shares = length * (variances + (means - mean).square())
    count = min(GROUPS, len(flat))
    if len(flat) % count == 0:
        split = [(means.unflatten(0, (count, -1)), variances.unflatten(0, (count, -1)))]
    else:
        parts = zip(*(torch.tensor_split(t, count, 0) for t in (means, variances)), strict=True)
        split = [(m[None], v[None]) for m, v in parts]
    moments = [(v, *torch.var_mean(m, 1, correction=0)) for m, v in split]
    return Rows(
        torch.cat([mean for _, _, mean in moments]).cpu(),
        torch.cat([v.mean(1) + between for v, between, _ in moments]).cpu(),
        shares.square().sum(0).cpu(),
        len(flat),
    )


def made_of(scatter: Tensor, rows: Sequence[Rows]) -> Tensor:
    """N of each channel over all batches, (C,); 0 where nothing varies.

    Args:
        scatter: (C,), sum of s_n over all rows.
        rows: of every batch.
    """
    squares = torch.stack([r.squares for r in rows]).sum(0)
    return torch.where(squares > 0, scatter.square() / squares, 0)
