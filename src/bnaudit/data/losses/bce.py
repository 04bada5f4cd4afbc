"""Binary cross entropy of logits: one score a row, several labels a row, masks.

    L = mean over the labels that are not left out of  -w t ln p - (1 - t) ln(1 - p),   p = 1/(1 + e^-y)

w is pos_weight, one number or one an output (axis 1); smoothing s takes t to t (1 - s) + s/2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812

from bnaudit.data.losses.definition import Definition, LabelsAre, binary, ignored, reduced, weights

if TYPE_CHECKING:
    from torch import Tensor

    from bnaudit.data.losses.definition import Settings


def pos_weight(y: Tensor, settings: Settings) -> Tensor | None:
    """Broadcast over the output's axis 1."""
    outputs = y.shape[1] if y.dim() > 1 else 1
    found = weights("pos_weight", settings, y, outputs, "outputs")
    return (
        found.reshape(1, -1, *[1] * (y.dim() - 2)) if found is not None and found.dim() else found
    )


def _bce(y: Tensor, labels: Tensor, settings: Settings) -> Tensor:
    y, target = binary(y, labels, settings)
    kept = target != ignored(settings)
    smooth = settings.get("label_smoothing", 0.0)
    smoothed = target * (1 - smooth) + smooth / 2
    if bool(kept.all()):
        return F.binary_cross_entropy_with_logits(
            y,
            smoothed,
            pos_weight=pos_weight(y, settings),
            reduction=settings.get("reduction", "mean"),
        )
    each = F.binary_cross_entropy_with_logits(
        y, torch.where(kept, smoothed, 0.5), pos_weight=pos_weight(y, settings), reduction="none"
    )
    return reduced(each * kept, settings, kept.sum())


def is_binary(y: Tensor, labels: Tensor) -> LabelsAre:  # noqa: ARG001
    """What the labels are taken for."""
    return "binary"


def shares(y: Tensor, labels: Tensor, settings: Settings) -> Tensor | None:
    """Of ones, (1, ...) a position of a row; None where all labels are alike."""
    target = labels.reshape(-1, *y.shape[1:]).double().cpu()
    kept = target != ignored(settings)
    used = target[kept]
    if not used.numel() or bool((used == used[0]).all()):
        return None
    return (target * kept).sum(0, keepdim=True) / kept.sum(0, keepdim=True).clamp_min(1)


def _answer(y: Tensor, labels: Tensor, settings: Settings) -> Tensor | None:
    """The best constant: p = w s / (w s + 1 - s) at a share s of ones."""
    found = shares(y, labels, settings)
    if found is None or not bool(((found > 0) & (found < 1)).any()):
        return None
    smooth = settings.get("label_smoothing", 0.0)
    found = found * (1 - smooth) + smooth / 2
    weight = pos_weight(y.double().cpu(), settings)
    ones = found if weight is None else weight * found
    odds: Tensor = (ones / (1 - found)).clamp(1e-300, 1e300)
    return odds.log()


BCE = Definition(_bce, is_binary, frozenset({"Sigmoid"}), _answer)
