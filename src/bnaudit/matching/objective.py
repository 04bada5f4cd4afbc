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


@dataclass(slots=True)
class Layer:
    """One layer in one pass.

    Attributes:
        running_mean, running_var, eps: as it stores them.
        means, variances: of its calls, differentiable.
    """

    running_mean: Tensor
    running_var: Tensor
    eps: float
    means: list[Tensor] = field(default_factory=list)
    variances: list[Tensor] = field(default_factory=list)

    def usable(self) -> Tensor:
        """Channels whose stored numbers are a mean and a variance."""
        var = self.running_var + self.eps
        return self.running_mean.isfinite() & var.isfinite() & (self.running_var >= 0) & (var > 0)

    def distances(self) -> tuple[Tensor, Tensor]:
        """d, signed, and ln r of each channel; what is not usable has 0."""
        usable = self.usable()
        var = torch.where(usable, self.running_var, 1.0) + self.eps
        mean = torch.where(usable, self.running_mean, 0.0)
        mu, v = torch.stack(self.means).mean(0), torch.stack(self.variances).mean(0)
        d = (mu - mean) / var.sqrt()
        ratio = ((v + self.eps) / var).log()
        return torch.where(usable, d, 0.0), torch.where(usable, ratio, 0.0)

    def value(self) -> Tensor:
        """The layer's part of the objective."""
        d, ratio = self.distances()
        return (d.square().log1p() + ratio.square() / 4).sum() / self.usable().sum().clamp(min=1)


@dataclass(slots=True)
class Probe:
    """Carries the calls of one pass out, and notes the statistics of their inputs.

    Attributes:
        layers: by name, of those that store statistics and have a variance.
        without: names of those that store none.
        single: names of those with one value per channel.
    """

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
            dims = [0, *range(2, wide.dim())]
            v, mu = torch.var_mean(wide, dims, correction=1)
            stored = Layer(mean.detach().to(wide.dtype), var.detach().to(wide.dtype), call.eps)
            layer = self.layers.setdefault(call.name, stored)
            layer.means.append(mu)
            layer.variances.append(v)
        return normalise(call, call.x, "batch")

    def value(self) -> Tensor:
        """The objective of the pass."""
        return torch.stack([layer.value() for layer in self.layers.values()]).mean()
