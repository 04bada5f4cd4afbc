"""Per-batch values into median and quartiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.records.values import Metric, Skipped, Spread

if TYPE_CHECKING:
    from torch import Tensor

_QUARTILES = torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64)


def spread(values: Tensor) -> Spread:
    """Median and quartiles (linear interpolation) of at least one value.

    Args:
        values: float64, shape (batches,).
    """
    if values.numel() == 1:  # the usual case by far, and quantile costs a hundred times as much
        value = float(values)
        return Spread(value, value, value, 1)
    median, q25, q75 = torch.quantile(values, _QUARTILES).tolist()
    return Spread(median, q25, q75, values.numel())


def metric(values: Tensor, reason: str) -> Metric:
    """The spread of the values that are finite, or Skipped where none is.

    Args:
        values: float64, shape (batches,); a batch that could give no value holds NaN.
        reason: why no batch could.
    """
    finite = values[torch.isfinite(values)]
    return spread(finite) if finite.numel() else Skipped(reason)
