"""Per-batch values into median and quartiles, and records without any."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from bnaudit.records.values import Metric, Skipped, Spread

if TYPE_CHECKING:
    from torch import Tensor

_Record = TypeVar("_Record")

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


def withheld(record: type[_Record], reason: str, **known: Any) -> _Record:
    """A record all of whose numbers are skipped for one reason, but for those that are known.

    Args:
        record: its class; fields with a default keep it.
        reason: why there are no numbers.
        **known: fields that have a value all the same.
    """
    declared: Any = record
    missing = [f.name for f in fields(declared) if f.default is MISSING and f.name not in known]
    return record(**dict.fromkeys(missing, Skipped(reason)), **known)
