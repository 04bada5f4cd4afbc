"""|gamma|/sigma of a layer as the file stores it, and whether an exporter can fold it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt
from statistics import median
from typing import TYPE_CHECKING

from bnaudit.records.values import Skipped

if TYPE_CHECKING:
    from bnaudit.records.inspection import BatchNormStatics


@dataclass(frozen=True, slots=True)
class StoredGain:
    """|gamma|/sigma_running over the channels of a layer, as the file stores them.

    Attributes:
        minimum, median, maximum: over the finite channels.
        fraction_le_1: share of the finite channels at or below 1.
        not_finite: channels that have none: a variance that is NaN, infinite, or -eps and below.
    """

    minimum: float
    median: float
    maximum: float
    fraction_le_1: float
    not_finite: int


def gain_channels(layer: BatchNormStatics) -> tuple[float, ...] | Skipped:
    """|gamma|/sqrt(running_var + eps) of each channel; |gamma| is 1 where the layer has none.

    Where the file does not store eps (a state_dict) it counts as 0, which makes sigma a little smaller.
    """
    if layer.running_var is None:
        return Skipped("no running variance is stored")
    gamma = layer.gamma or (1.0,) * len(layer.running_var)
    if len(gamma) != len(layer.running_var):
        return Skipped(f"{len(gamma)} gamma for {len(layer.running_var)} variances")
    eps = layer.eps or 0.0
    return tuple(_ratio(g, v + eps) for g, v in zip(gamma, layer.running_var, strict=True))


def _ratio(gamma: float, variance: float) -> float:
    if variance == 0:
        return inf if gamma else nan
    return abs(gamma) / sqrt(variance) if variance > 0 else nan


def gain_of(layer: BatchNormStatics) -> StoredGain | Skipped:
    """The spread of that over the channels."""
    values = gain_channels(layer)
    if isinstance(values, Skipped):
        return values
    finite = [value for value in values if isfinite(value)]
    if not finite:
        return Skipped("no channel has a finite |gamma|/sigma")
    return StoredGain(
        min(finite),
        median(finite),
        max(finite),
        sum(value <= 1 for value in finite) / len(finite),
        len(values) - len(finite),
    )


def is_foldable(layer: BatchNormStatics) -> bool | None:
    """Whether an exporter could fold the layer: it alone reads a layer with weights, right in front.

    One without statistics of its own stays. None where the file has no graph.
    """
    if layer.preceded_by is None:
        return None
    feeder = layer.feeder
    if feeder is None or layer.training or layer.of_weights or layer.running_var is None:
        return False
    return feeder.sole_reader and layer.preceded_by in {feeder.operator, "Add"}
