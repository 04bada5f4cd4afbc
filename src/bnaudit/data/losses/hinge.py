"""Hinge loss: a score has to be on its side by a margin m, 1 unless it is set.

    classes:  l = 1/K sum over k != t of max(0, m - y_t + y_k)
    binary:   l = max(0, m - t y),  t = -1 or 1; labels of 0 are -1

averaged over the labels that are not left out; as torch's multi_margin_loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.data.losses.bce import shares
from bnaudit.data.losses.definition import (
    Definition,
    class_axis_first,
    class_indices,
    ignored,
    matching,
    reduced,
)
from bnaudit.data.losses.focal import labels_are

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.data.losses.definition import Settings


def _hinge(y: Tensor, labels: Tensor, settings: Settings) -> Tensor:
    margin, left_out = settings.get("margin", 1.0), ignored(settings)
    if labels_are(y, labels) == "classes":
        y, indices = class_indices(y, labels, settings)
        kept = indices != left_out
        chosen = torch.where(kept, indices, 0).unsqueeze(1)
        short = (margin - y.gather(1, chosen) + y).clamp_min(0)
        own = torch.zeros_like(y, dtype=torch.bool).scatter(1, chosen, value=True)
        each = short.masked_fill(own, 0).sum(1) / y.shape[1]
    else:
        target = matching(y, labels)
        kept = target != left_out
        if not bool(torch.isin(target[kept], target.new_tensor([-1.0, 0.0, 1.0])).all()):
            raise ValueError("labels of hinge are 0 and 1, or -1 and 1, or class indices")
        each = (margin - torch.where(target > 0, y, -y)).clamp_min(0)
    return reduced(each * kept, settings, kept.sum())


def _answer(y: Tensor, labels: Tensor, settings: Settings) -> Tensor | None:
    """No class before another; of binary labels the side that has more."""
    if labels_are(y, labels) == "classes":
        several = torch.unique(labels[labels != ignored(settings)]).numel() > 1
        moved = class_axis_first(y, labels)
        return torch.zeros(1, *[1] * (moved.dim() - 1), dtype=torch.float64) if several else None
    found = shares(y, (labels > 0).double(), {**settings, "ignore_index": -1})
    return (
        None if found is None else torch.where(found > 0.5, 1.0, -1.0) * settings.get("margin", 1.0)
    )


HINGE = Definition(_hinge, labels_are, constant=_answer)
