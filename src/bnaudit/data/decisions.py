"""What outputs decide: shares of right and of changed decisions, and how far outputs are apart."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.losses.definition import are_indices, class_axis_first, ignored

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.data.loss import Loss


def right(y: Tensor, labels: Any, loss: Loss) -> float | None:
    """The share of right decisions; None where the labels are no classes of this output, NaN of outputs.

    Args:
        y: (rows, classes, ...), or scores of any shape where labels are binary.
        labels: of these rows, or None; what the loss leaves out is left out.
        loss: what the labels are taken for. A user's own may take classes too: they are told by their shape.

    Returns:
        NaN where an output is, since its largest entry says nothing, or where all labels are left out.
    """
    if not isinstance(labels, torch.Tensor) or loss.labels_are in {"values", "sequences"}:
        return None
    labels = labels.to(y.device)
    if loss.labels_are == "binary":
        if labels.numel() != y.numel():
            return None
        labels = labels.reshape(y.shape)
        counted, classes = labels != ignored(loss.settings), (labels > 0.5).long()
    else:
        if loss.labels_are is None and labels.is_floating_point():
            return None
        y = class_axis_first(y, labels) if y.dim() > 1 else y
        if are_indices(y, labels):
            classes = labels.long().reshape(y.shape[0], *y.shape[2:])
        elif labels.shape == y.shape and y.dim() > 1 and y.shape[1] > 1 and loss.labels_are:
            classes = labels.argmax(1)
        else:
            return None
        counted = classes != ignored(loss.settings)
    if bool(y.isnan().any()):
        return nan
    return float((decided(y, loss.labels_are) == classes)[counted].double().mean())


def decided(y: Tensor, labels_are: str | None) -> Tensor:
    """(rows, ...) class indices; of binary scores 0 and 1."""
    if labels_are == "binary":
        return (y > 0).long()
    return y.argmax(1) if y.dim() > 1 else y.argmax(0)


def distance(y: Tensor, reference: Tensor) -> float:
    """|y - reference| over what the reference's rows differ from their mean.

    Returns:
        NaN where that is 0 (a single row), and where the shapes differ (how many boxes there are depends on
        the numbers).
    """
    if y.shape != reference.shape:
        return nan
    return float(squared_distance(y, reference).sqrt())


def squared_distance(y: Tensor, reference: Tensor) -> Tensor:
    """Its square, differentiable, of outputs of the same shape; float64."""
    reference = reference.double()
    spread = (reference - reference.mean(0)).square().sum()
    off = (y.double() - reference).square().sum()
    return off / spread if float(spread) > 0 else off * nan
