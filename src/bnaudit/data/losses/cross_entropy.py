"""Cross entropy of classes.

With p = softmax(y) along the classes, t the label's class, w_k the class weights, s the smoothing:

    L = sum_n w_t(n) l_n / sum_n w_t(n),   l_n = -(1 - s) ln p_t - s/K sum_k (w_k / w_t) ln p_k

over the rows (and pixels) whose label is not left out; as torch's. A label may also be probabilities q of
the output's shape: l_n = -sum_k q_k w_k ln p_k, averaged over the rows. nll takes y for the ln p.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional as F  # noqa: N812  # the field's name for it

from bnaudit.data.losses.definition import (
    Definition,
    LabelsAre,
    are_indices,
    class_axis_first,
    class_indices,
    even_odds,
    ignored,
    weights,
)

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.data.losses.definition import Settings


def _arguments(y: Tensor, settings: Settings) -> dict[str, Any]:
    return {
        "weight": weights("class_weights", settings, y, y.shape[1], "classes"),
        "reduction": settings.get("reduction", "mean"),
    }


def _cross_entropy(y: Tensor, labels: Tensor, settings: Settings) -> Tensor:
    smooth = settings.get("label_smoothing", 0.0)
    if labels.shape == y.shape and y.dim() > 1 and not are_indices(y, labels):
        target = labels.to(y.dtype)
        if y.dim() > 2 and not _sums(target, 1) and _sums(target, -1):
            y, target = y.movedim(-1, 1), target.movedim(-1, 1)
        if not _sums(target, 1):
            raise ValueError(
                "class probabilities of a row have to sum to 1 along the classes; for several labels "
                "a row use --loss bce"
            )
        return F.cross_entropy(y, target, label_smoothing=smooth, **_arguments(y, settings))
    y, indices = class_indices(y, labels, settings)
    return F.cross_entropy(  # of a contiguous output: torch's backward of views fails
        y.contiguous(),
        indices,
        ignore_index=ignored(settings),
        label_smoothing=smooth,
        **_arguments(y, settings),
    )


def _sums(target: Tensor, axis: int) -> bool:
    return bool((target >= 0).all()) and bool(((target.sum(axis) - 1).abs() <= 1e-3).all())


def _nll(y: Tensor, labels: Tensor, settings: Settings) -> Tensor:
    y, indices = class_indices(y, labels, settings)
    return F.nll_loss(
        y.contiguous(), indices, ignore_index=ignored(settings), **_arguments(y, settings)
    )


def _classes(y: Tensor, labels: Tensor) -> LabelsAre:  # noqa: ARG001
    return "classes"


def _answer(y: Tensor, labels: Tensor, settings: Settings) -> Tensor | None:
    logs = even_odds(y, labels, settings)
    if logs is None:
        return None
    moved = class_axis_first(y, labels)
    return logs if moved.shape == y.shape else logs.movedim(1, -1)


CROSS_ENTROPY = Definition(
    _cross_entropy, _classes, frozenset({"Softmax", "Sigmoid", "probabilities"}), _answer
)


NLL = Definition(_nll, _classes, frozenset({"Softmax", "probabilities"}), _answer)
