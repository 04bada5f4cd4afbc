"""How far a batch is from the statistics that the layers store, as a number to be made small.

For a layer with batch mean mu and variance v (unbiased, as training averages it), of m values a channel:

    sum over channels of  ln(1 + d^2) + (ln r)^2 / 4,    d^2 = (mu - mu_r)^2 / (v_r + eps),
                                                         r = (v + eps) / (v_r + eps)

divided by the channels, and averaged over the layers. Near 0 it is d^2 + (delta sigma / sigma)^2, the loss of
ZeroQ (arXiv 2001.00281) and DeepInversion (arXiv 1912.08795) in units of the layer's own sigma; far from 0 it
grows by the logarithm, so that inputs of a wrong scale (0 to 255, features in thousands) are no cliff.

Each layer normalises with the batch's statistics, so an error in one layer is not handed on to the next, and
with a match everywhere both modes are the same function. Several calls of one layer share what it stores: the
average over them is what training stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from bnaudit.tap.call import normalise

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.tap.call import BatchNormCall


@dataclass(frozen=True, slots=True)
class Stored:
    """What one layer stores.

    Attributes:
        mean, var: running; 0 and 1 where they are no mean and variance.
        usable: channels where they are.
        eps: of the layer.
        count: of the usable channels, at least 1.
    """

    mean: Tensor
    var: Tensor
    usable: Tensor
    eps: float
    count: int

    @classmethod
    def of(cls, mean: Tensor, var: Tensor, eps: float, dtype: torch.dtype) -> Stored:
        """In the precision of the run."""
        mean, var = mean.detach().to(dtype), var.detach().to(dtype)
        usable = mean.isfinite() & var.isfinite() & (var >= 0) & (var + eps > 0)
        return cls(
            torch.where(usable, mean, 0.0),
            torch.where(usable, var, 1.0),
            usable,
            eps,
            max(int(usable.sum()), 1),
        )


@dataclass(slots=True)
class Layer:
    """One layer in one pass.

    Attributes:
        stored: what it stores.
        means, variances: of its calls, differentiable.
    """

    stored: Stored
    means: list[Tensor] = field(default_factory=list)
    variances: list[Tensor] = field(default_factory=list)

    def distances(self) -> tuple[Tensor, Tensor]:
        """d, signed, and ln r of each channel; what is not usable has 0."""
        stored, calls = self.stored, len(self.means)
        var = stored.var + stored.eps
        mu, v = (
            t[0] if calls == 1 else torch.stack(t).mean(0) for t in (self.means, self.variances)
        )
        d, ratio = (mu - stored.mean) / var.sqrt(), ((v + stored.eps) / var).log()
        if stored.count == len(mu):
            return d, ratio
        return torch.where(stored.usable, d, 0.0), torch.where(stored.usable, ratio, 0.0)

    def value(self) -> Tensor:
        """The layer's part of the objective."""
        d, ratio = self.distances()
        return (d.square().log1p() + ratio.square() / 4).sum() / self.stored.count


@dataclass(slots=True)
class Probe:
    """Carries the calls of one pass out, and notes the statistics of their inputs.

    Attributes:
        stored: by name, what the layers store; filled by the first pass, for all of them.
        layers: by name, of those that store statistics and have a variance.
        without: names of those that store none.
        single: names of those with one value per channel.
    """

    stored: dict[str, Stored] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    without: dict[str, None] = field(default_factory=dict)
    single: dict[str, None] = field(default_factory=dict)

    def __call__(self, call: BatchNormCall) -> Tensor:
        """Carries a call out."""
        mean, var = call.running_mean, call.running_var
        if mean is None or var is None:
            self.without[call.name] = None
        elif call.m < 2:
            self.single[call.name] = None
        else:
            wide = call.x.float() if call.x.dtype in {torch.float16, torch.bfloat16} else call.x
            v, mu = torch.var_mean(wide, [0, *range(2, wide.dim())], correction=1)
            if call.name not in self.stored:
                self.stored[call.name] = Stored.of(mean, var, call.eps, wide.dtype)
            layer = self.layers.setdefault(call.name, Layer(self.stored[call.name]))
            layer.means.append(mu)
            layer.variances.append(v)
        return normalise(call, call.x, "batch")

    def value(self) -> Tensor:
        """The objective of the pass."""
        return torch.stack([layer.value() for layer in self.layers.values()]).mean()
