"""Per-batch values into median and quartiles, and records without any."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from bnaudit.records.values import Metric, Skipped, Spread

if TYPE_CHECKING:
    from torch import Tensor

_Record = TypeVar("_Record")


def spread(values: Tensor) -> Spread:
    """Median and quartiles (linear interpolation) of at least one value.

    Args:
        values: float64, shape (batches,).
    """
    return _spread(values.tolist())


def _spread(values: list[float]) -> Spread:
    ordered = [math.nan] * len(values) if any(map(math.isnan, values)) else sorted(values)
    median, q25, q75 = (_between(ordered, q) for q in (0.5, 0.25, 0.75))
    return Spread(median, q25, q75, len(values))


def _between(ordered: list[float], q: float) -> float:
    """As torch.quantile, which costs a hundred times as much on the few numbers of a report."""
    place = q * (len(ordered) - 1)
    at = int(place)
    low, high, share = ordered[at], ordered[min(at + 1, len(ordered) - 1)], place - at
    if share == 0:
        return low
    return low + share * (high - low) if share < 0.5 else high - (1 - share) * (high - low)


def metric(values: Tensor, reason: str) -> Metric:
    """The spread of the values that are finite, or Skipped where none is.

    Args:
        values: float64, shape (batches,); a batch that could give no value holds NaN.
        reason: why no batch could.
    """
    finite = list(filter(math.isfinite, values.tolist()))
    return _spread(finite) if finite else Skipped(reason)


def in_order(t: Tensor) -> Tensor:
    """Sorted along the last axis; NaN throughout where one is."""
    found = t.sort(-1).values
    last = found[..., -1:]  # where NaN is
    return torch.where(last.isnan(), last, found) if bool(last.isnan().any()) else found


def quantile(ordered: Tensor, q: float) -> Tensor:
    """Of what `in_order` gives, by linear interpolation along the last axis."""
    place = q * (ordered.shape[-1] - 1)
    at = int(place)
    if place == at:
        return ordered[..., at]
    return torch.lerp(ordered[..., at], ordered[..., at + 1], place - at)


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
