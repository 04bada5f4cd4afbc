"""What the labels say of the batches: whether their rows are mixed, and what a guess would reach."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.losses.definition import definition
from bnaudit.losses import LOSSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnaudit.data.loss import Loss

SORTED_NOTE = (
    "each batch holds labels of its own, as rows sorted by label give: batch statistics are not those of "
    "training behind the first layer; shuffle the rows"
)


_LEAST = 0.5
"""Of the spread that mixed batches have. Rows in random order leave 0.8 and more of it in batches of 4 to
64 out of ten classes, rows in the order of their labels 0.2 in batches of 32."""


def sorted_by_label(labels: Sequence[Any]) -> bool:
    """Whether labels spread far less within batches than they would if the rows were mixed.

    Args:
        labels: of every batch; class indices, or numbers. Others say nothing.

    Returns:
        False without labels, in a single batch, and where all labels are alike.
    """
    present = [t.detach().cpu() for t in labels if isinstance(t, torch.Tensor)]
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


def guess(loss: Loss, labels: Sequence[Any], shape: tuple[int, ...] | None) -> float | None:
    """What one constant answer would cost: ln of the number of classes, the labels' variance, ...

    Args:
        loss: with its options, which change what an answer costs.
        labels: of every batch.
        shape: of the output for the first batch, None where there was none.

    Returns:
        None for losses without such an answer, and where all labels are alike.
    """
    present = [t.detach().cpu() for t in labels if isinstance(t, torch.Tensor)]
    if loss.label_free or loss.name not in LOSSES or not present or not shape:
        return None
    known, rows = definition(loss.name), len(present[0])
    if known.constant is None or rows == 0 or shape[0] % rows:
        return None
    every = shape[0] // rows  # outputs a label, of a network that folds an axis into its rows
    like = torch.zeros((), dtype=torch.float64)
    values = []
    try:
        together = torch.cat(present)
        answer = known.constant(
            like.expand(every * len(together), *shape[1:]), together, loss.settings
        )
        if answer is None:
            return None
        for part in present:
            y = answer.expand(every * len(part), *shape[1:])
            values.append(float(known.compute(y, part, loss.settings)))
    except (RuntimeError, ValueError, IndexError):  # labels that fit no output: the loss says so
        return None
    found = sum(values) / len(values)
    return found if math.isfinite(found) and found > 0 else None
