"""Mean and variance of all values of a channel, over any number of batches of any size.

Parts are merged in float64 (Chan, Golub, LeVeque 1979): with n values of mean mu and scatter
S = sum (x - mu)^2 in one part, m of mean nu and scatter T in the other, d = nu - mu,

    mean = mu + d m/(n + m),    scatter = S + T + d^2 n m/(n + m).

The difference of sums E[x^2] - E[x]^2 would lose a digit for every factor of ten between |mu| and sigma.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 1 << 22
"""Values that are widened to float64 at a time."""


@dataclass(slots=True)
class Pool:
    """What was seen of one layer; (C,) float64, on the CPU.

    Attributes:
        count: values a channel.
        mean: of them.
        scatter: sum of their squared distances from the mean.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Pool:
        """The values of an input (N, C, ...)."""
        rows = max(1, _CHUNK * len(x) // max(x.numel(), 1))
        parts = [_part(chunk) for chunk in x.detach().split(rows)]
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.merged(part)
        return whole

    def merged(self, other: Pool) -> Pool:
        """Both together."""
        count = self.count + other.count
        if count == 0:
            return self
        d = other.mean - self.mean
        return Pool(
            count,
            self.mean + d * (other.count / count),
            self.scatter + other.scatter + d * d * (self.count * other.count / count),
        )

    @property
    def variance(self) -> Tensor:
        """Biased: what normalisation with batch statistics divides by."""
        return self.scatter / self.count

    @property
    def unbiased(self) -> Tensor:
        """What PyTorch stores, and exporters carry on."""
        return self.scatter / max(self.count - 1, 1)


def _part(x: Tensor) -> Pool:
    if x.device.type == "mps":
        x = x.cpu()  # it has no float64
    dims = [d for d in range(x.dim()) if d != 1]
    count = x.numel() // max(x.shape[1], 1)
    variance, mean = torch.var_mean(x.double(), dims, correction=0)
    return Pool(count, mean.cpu(), variance.cpu() * count)
