"""What the labels say of the batches: whether their rows are mixed, and what a guess would reach."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SORTED_NOTE = (
    "each batch holds labels of its own, as rows sorted by label give: batch statistics are not those of "
    "training behind the first layer; shuffle the rows"
)


_LEAST = 0.5
"""Of the spread that mixed batches have. Rows in random order leave 0.8 and more of it in batches of 4 to
64 out of ten classes, rows in the order of their labels 0.2 in batches of 32."""


def sorted_by_label(labels: Sequence[Tensor | None]) -> bool:
    """Whether labels spread far less within batches than they would if the rows were mixed.

    Args:
        labels: of every batch; class indices, or numbers.

    Returns:
        False without labels, in a single batch, and where all labels are alike.
    """
    present = [t.detach().cpu() for t in labels if t is not None]
    count = len(present)
    if count < 2 or any(t.numel() == 0 for t in present):
        return False
    if present[0].is_floating_point():
        # Mean variance within batches, and what independent rows would give: (n-1)/n of that of all.
        batches = [t.double() for t in present]
        rows = torch.cat(batches)
        within = sum(float((t - t.mean(0)).square().mean()) for t in batches) / count
        size = len(rows) / count
        mixed = float((rows - rows.mean(0)).square().mean()) * (size - 1) / size
    else:
        # Mean entropy of the batches' classes: as they are, and dealt out in turn.
        dealt = torch.cat([t.reshape(-1) for t in present]).sort().values
        within = sum(map(_entropy, present)) / count
        mixed = sum(_entropy(dealt[place::count]) for place in range(count)) / count
    return math.isfinite(within + mixed) and mixed > 0 and within < _LEAST * mixed


def _entropy(labels: Tensor) -> float:
    counts = torch.unique(labels, return_counts=True)[1].double()
    share = counts / counts.sum()
    return float(-(share * share.log()).sum())


_IGNORED = -100  # torch's cross_entropy leaves these out


def guess(loss: str, labels: Sequence[Tensor | None]) -> float | None:
    """The loss of one constant answer: ln of the number of classes, the labels' variance or binary entropy.

    ln K is what even odds on the K classes cost whatever their frequencies; a model that knows
    anything of the data is below.

    Args:
        loss: its name.
        labels: of every batch.

    Returns:
        None for losses without such an answer, and where all labels are alike.
    """
    present = [t for t in labels if t is not None]
    if not present:
        return None
    if loss == "cross_entropy" and not present[0].is_floating_point():
        classes = torch.unique(torch.cat([t.reshape(-1) for t in present]))
        count = int((classes != _IGNORED).sum())
        return math.log(count) if count > 1 else None
    if loss == "mse" and present[0].is_floating_point():
        values = torch.cat([t.double() for t in present])
        variance = float((values - values.mean(0)).square().mean())
        return variance if variance > 0 else None
    if loss == "bce":
        share = torch.cat([t.double() for t in present]).mean(0)
        entropy = float(-(torch.xlogy(share, share) + torch.xlogy(1 - share, 1 - share)).mean())
        return entropy if entropy > 0 else None
    return None
