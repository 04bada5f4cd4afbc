"""Which loss fits some labels and an output, and why: what `--loss auto` is.

| labels | output | loss |
|---|---|---|
| 0 and 1 | one score for each | bce |
| one-hot, or rows that sum to 1 | of their shape | cross_entropy, of class probabilities |
| 0 and 1 | of their shape, several a row | bce, several labels a row |
| other numbers | of their shape | mse |
| -1 and 1, integers | one score for each | hinge |
| integers | (N, K, ...) beside (N, ...), or (N, ..., K) | cross_entropy |
| targets with lengths | (N, T, K) or (T, N, K) | ctc |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from bnaudit.data.head import final_activation
from bnaudit.data.losses.definition import are_indices, ignored
from bnaudit.data.targets import described
from bnaudit.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.data.losses.definition import Settings

_SUM = 1e-3
"""How far probabilities may be from a sum of 1."""


def by_labels(labels: Any, y: Tensor | None, settings: Settings) -> tuple[str, str]:
    """Name of the loss, and why.

    Args:
        labels: of all batches.
        y: the output that they are for, of the first batch; None where nobody knows.
        settings: the options of the loss; what `ignore_index` leaves out says nothing.

    Raises:
        UsageError: they are no array, and no named loss takes them.
    """
    if isinstance(labels, Mapping) and {"targets", "target_lengths"} <= set(labels):
        return "ctc", "the labels are targets with lengths"
    if not isinstance(labels, torch.Tensor):
        raise UsageError(
            f"the labels are no array {described(labels)}, and no named loss takes them",
            hint="pass the loss that does: --loss file.py:function(output, labels)",
        )
    labels = labels.to(torch.uint8) if labels.dtype == torch.bool else labels
    if y is not None and y.dim() and labels.dim() and labels.numel():
        like = y[:1].detach().expand(len(labels), *y.shape[1:])
        found = _fitting(labels, like, y, settings)
        if found is not None:
            return found
    if labels.is_floating_point():
        return "mse", "the labels are floating-point values"
    return "cross_entropy", "the labels are class indices"


def _fitting(
    labels: Tensor, like: Tensor, y: Tensor | None, settings: Settings
) -> tuple[str, str] | None:
    """Args: labels; an output of as many rows; that of the first batch."""
    used = labels[labels != ignored(settings)]
    switches = bool(torch.isin(used, used.new_tensor([0, 1])).all())
    if labels.shape != like.shape and are_indices(like, labels):
        whole = f"the labels are whole numbers, one for {like.shape[1]} outputs: class indices"
        return (
            "cross_entropy",
            whole if labels.is_floating_point() else "the labels are class indices",
        )
    if labels.squeeze().shape != like.squeeze().shape:
        return None
    if like[0].numel() == 1 or (like.dim() > 1 and like.shape[1] == 1):
        return _of_one_score(labels, used, switches=switches)
    why = _of_probabilities(y, sums=_sums(labels.reshape(like.shape)), switches=switches)
    if why is not None:
        return "cross_entropy", why
    if switches:
        return "bce", "the labels are 0 and 1 for several outputs: several labels a row"
    numbers = "floating-point values" if labels.is_floating_point() else "numbers, one an output"
    return "mse", f"the labels are {numbers}"


def _of_probabilities(y: Tensor | None, *, sums: bool, switches: bool) -> str | None:
    """Why labels of the output's shape are class probabilities, or None where they are not.

    Under a sigmoid one-hot rows are several labels of which one is set; where the outputs themselves sum to
    1, but by no softmax, a regression of shares was trained.
    """
    ends = None if y is None else final_activation(y)
    if not sums or y is None or ends == "Sigmoid":
        return None
    if switches:
        return "the labels are one-hot: class probabilities"
    if ends is None and _sums(y):
        return None
    return "the labels of a row sum to 1: class probabilities"


def _of_one_score(labels: Tensor, used: Tensor, *, switches: bool) -> tuple[str, str] | None:
    if switches:
        return "bce", "the labels are 0 and 1 for one score each"
    if labels.is_floating_point():
        return "mse", "the labels are floating-point values"
    if bool(torch.isin(used, used.new_tensor([-1, 1])).all()):
        return "hinge", "the labels are -1 and 1 for one score each"
    return None


def _sums(values: Tensor) -> bool:
    """Whether these are probabilities, along axis 1 or the last."""
    values = values.detach().double()
    if values.dim() < 2 or not bool((values >= 0).all()):
        return False
    axes = {1, values.dim() - 1}
    return any(
        values.shape[axis] > 1 and bool(((values.sum(axis) - 1).abs() <= _SUM).all())
        for axis in axes
    )
