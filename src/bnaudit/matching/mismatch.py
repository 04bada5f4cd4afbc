"""What is left between matched batches and the stored statistics, as records."""

from __future__ import annotations

from math import inf, log
from typing import TYPE_CHECKING

import torch

from bnaudit.records.matching import Mismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnaudit.matching.objective import Probe


def mismatches(passes: Sequence[tuple[Probe, Probe]]) -> dict[str, Mismatch]:
    """Layer -> what is left there.

    Args:
        passes: of each batch, the noise and the matched batch.
    """
    found: dict[str, Mismatch] = {}
    for name, layer in passes[0][1].layers.items():
        before = [_distances(start, name) for start, _ in passes]
        after = [_distances(end, name) for _, end in passes]
        unusable = ~layer.stored.usable.cpu()
        nearest = torch.stack([torch.maximum(d, v) for d, v in after]).amin(0)
        nearest[unusable] = inf
        found[name] = Mismatch(
            mean=_middle([d for d, _ in after]),
            variance=_middle([v for _, v in after]),
            mean_before=_middle([d for d, _ in before]),
            variance_before=_middle([v for _, v in before]),
            largest=float(nearest.max()),
            channel=int(nearest.argmax()),
            per_channel=tuple(nearest.tolist()),
        )
    return found


def _distances(probe: Probe, name: str) -> tuple[Tensor, Tensor]:
    d, ratio = (t.detach().double().cpu() for t in probe.layers[name].distances())
    return d.abs(), ratio.abs() / log(2)


def _middle(values: Sequence[Tensor]) -> float:
    """Of the channels in each batch, and of the batches."""
    return float(torch.stack([t.quantile(0.5) for t in values]).quantile(0.5))
