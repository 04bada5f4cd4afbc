"""Losses of numbers, by the distance d = y - t of each.

mse     mean of d^2
l1      mean of |d|
huber   mean of d^2/2 where |d| <= delta, else delta (|d| - delta/2); delta is 1 unless it is set
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional as F  # noqa: N812

from bnaudit.data.losses.definition import Definition, LabelsAre, matching

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnaudit.data.losses.definition import Settings


def _numbers(y: Tensor, labels: Tensor) -> LabelsAre:  # noqa: ARG001
    return "values"


def _of(function: Callable[..., Tensor], **defaults: Any) -> Callable[..., Tensor]:
    def compute(y: Tensor, labels: Tensor, settings: Settings) -> Tensor:
        return function(y, matching(y, labels), **{**defaults, **settings})

    return compute


def _by_row(y: Tensor, labels: Tensor) -> Tensor | None:
    rows = labels.reshape(-1, *y.shape[1:]).double().cpu()
    return None if bool((rows == rows[:1]).all()) else rows


def _mean(y: Tensor, labels: Tensor, settings: Settings) -> Tensor | None:  # noqa: ARG001
    rows = _by_row(y, labels)
    return None if rows is None else rows.mean(0, keepdim=True)


def _median(y: Tensor, labels: Tensor, settings: Settings) -> Tensor | None:  # noqa: ARG001
    rows = _by_row(y, labels)
    return None if rows is None else rows.median(0, keepdim=True).values


MSE = Definition(_of(F.mse_loss), _numbers, constant=_mean)


L1 = Definition(_of(F.l1_loss), _numbers, constant=_median)


HUBER = Definition(_of(F.huber_loss, delta=1.0), _numbers, constant=_median)
