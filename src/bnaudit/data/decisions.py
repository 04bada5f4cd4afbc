"""What outputs decide: shares of right and of changed decisions, and how far outputs are apart."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_IGNORED = -100  # as torch's cross_entropy


def right(y: Tensor, labels: Tensor, loss: str) -> float | None:
    """The share of right decisions; None where the labels are no classes of this output, NaN of outputs.

    Args:
        y: (rows, classes, ...), or scores of any shape under bce.
        labels: of these rows; -100 is left out.
        loss: its name.

    Returns:
        NaN where an output is, since its largest entry says nothing, or where all labels are left out.
    """
    classes = _classes(labels.to(y.device), y, loss)
    if classes is None:
        return None
    if bool(y.isnan().any()):
        return nan
    counted = classes != _IGNORED
    return float((decided(y, loss) == classes)[counted].double().mean())


def decided(y: Tensor, loss: str) -> Tensor:
    """(rows, ...) class indices; of binary scores 0 and 1."""
    if loss == "bce":
        return (y > 0).long()
    return y.argmax(1) if y.dim() > 1 else y.argmax(0)


def _classes(labels: Tensor, y: Tensor, loss: str) -> Tensor | None:
    """The labels as `decided` has them, or None where they are no classes of this output."""
    if loss == "bce":
        return (labels.reshape(y.shape) > 0.5).long() if labels.numel() == y.numel() else None
    if labels.is_floating_point() or y.dim() < 2:
        return None
    shape = (y.shape[0], *y.shape[2:])
    fits = labels.numel() == y[:, 0].numel() and y.shape[1] > 1
    return labels.long().reshape(shape) if fits else None


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
