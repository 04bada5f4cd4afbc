"""Focal loss (Lin et al. 2017, arXiv 1708.02002): cross entropy whose sure answers count less.

    l = -a_t (1 - p_t)^gamma ln p_t

p_t is the probability of the label: of a class by softmax, of 0 or 1 by the sigmoid. gamma is 2 unless it
is set. a_t is the class's weight; of binary labels alpha for 1 and 1 - alpha for 0, else 1. The mean is
over the labels that are not left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812

from bnaudit.data.losses.bce import BCE
from bnaudit.data.losses.cross_entropy import CROSS_ENTROPY
from bnaudit.data.losses.definition import (
    Definition,
    LabelsAre,
    are_indices,
    binary,
    class_indices,
    ignored,
    reduced,
    weights,
)

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.data.losses.definition import Settings

_GAMMA = 2.0


def _focal(y: Tensor, labels: Tensor, settings: Settings) -> Tensor:
    left_out = ignored(settings)
    alpha = settings.get("alpha")
    if labels_are(y, labels) == "classes":
        if alpha is not None:
            raise ValueError("alpha is for labels of 0 and 1; classes have class_weights")
        y, indices = class_indices(y, labels, settings)
        kept = indices != left_out
        chosen = torch.where(kept, indices, 0)
        log_p = F.log_softmax(y, 1).gather(1, chosen.unsqueeze(1)).squeeze(1)
        weight = weights("class_weights", settings, y, y.shape[1], "classes")
        weight = None if weight is None else weight[chosen]
    else:
        y, target = binary(y, labels, settings)
        kept = target != left_out
        ones = target > 0.5
        log_p = F.logsigmoid(torch.where(ones, y, -y))
        weight = None if alpha is None else torch.where(ones, alpha, 1 - alpha).to(y.dtype)
    each = -((-torch.expm1(log_p)) ** settings.get("gamma", _GAMMA)) * log_p
    each = each if weight is None else each * weight
    return reduced(each * kept, settings, kept.sum())


def labels_are(y: Tensor, labels: Tensor) -> LabelsAre:
    """Classes where they are indices of several, else 0 and 1."""
    return "classes" if are_indices(y, labels) else "binary"


def _answer(y: Tensor, labels: Tensor, settings: Settings) -> Tensor | None:
    of = CROSS_ENTROPY if labels_are(y, labels) == "classes" else BCE
    return None if of.constant is None else of.constant(y, labels, settings)


FOCAL = Definition(_focal, labels_are, frozenset({"Softmax", "Sigmoid", "probabilities"}), _answer)
