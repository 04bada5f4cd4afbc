"""What a model that ignores its input could reach: the yardstick of a loss on labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_IGNORED = -100  # torch's cross_entropy leaves these out


def guess(loss: str, labels: Sequence[Tensor | None]) -> float | None:
    """The loss of one constant answer: ln of the number of classes that occur, or the labels' variance.

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
    return None
