"""|gamma|/sigma of a layer as the file stores it, which channels stand out, whether it can be folded.

The one place for it: rules, tables and JSON take it from here.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from math import inf, isfinite, log, nan, sqrt
from operator import truediv
from typing import TYPE_CHECKING

from bnaudit.records.values import Count, Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnaudit.records.inspection import BatchNormStatics

ASSUMED_EPS = 1e-5
"""PyTorch's default, for the layers of a file that stores no eps (a state_dict)."""

_FEWEST_CHANNELS = 8
"""A median and a spread of fewer channels mean little."""

_NORMAL = 1.4826
"""Median absolute deviation -> standard deviation, for a normal distribution."""

_NO_SPREAD = 0.05
"""Equal channels have no spread; one of them 20 times larger still counts."""


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
    not_finite: Count


def eps_of(layer: BatchNormStatics) -> float:
    """The layer's eps, or PyTorch's default where the file stores none."""
    return ASSUMED_EPS if layer.eps is None else layer.eps


def eps_notes(layers: Sequence[BatchNormStatics]) -> tuple[str, ...]:
    """The sentence of a report whose numbers rest on `ASSUMED_EPS`, if any does."""
    without = sum(layer.eps is None for layer in layers)
    if not without:
        return ()
    whose = "no eps" if without == len(layers) else f"no eps of {without} of {len(layers)} layers"
    return (f"the file stores {whose}: {ASSUMED_EPS:g}, PyTorch's default, is assumed",)


def leaks(layer: BatchNormStatics) -> tuple[float, ...]:
    """eps/(running_var + eps) per channel; not a number where the variance is none.

    0 for a healthy channel, 1 for a constant one. Empty without a running variance.
    """
    eps, variances = eps_of(layer), layer.running_var or ()
    if _positive([var + eps for var in variances]) and min(variances) >= 0:
        return tuple([eps / (var + eps) for var in variances])
    return tuple(
        eps / (var + eps) if isfinite(var) and var >= 0 and var + eps > 0 else nan
        for var in variances
    )


def _positive(values: list[float]) -> bool:
    """Whether there are values, all finite and above 0; without a loop in Python."""
    return bool(values) and isfinite(sum(values)) and min(values) > 0


def gain_channels(layer: BatchNormStatics) -> tuple[float, ...] | Skipped:
    """|gamma|/sqrt(running_var + eps) of each channel; |gamma| is 1 where the layer has none.

    Infinite where the root is 0 and not a number where there is none, or 0/0. For eps see `eps_of`.
    """
    if layer.running_var is None:
        return Skipped("no running variance is stored")
    gamma = layer.gamma or (1.0,) * len(layer.running_var)
    if len(gamma) != len(layer.running_var):
        return Skipped(f"{len(gamma)} gamma for {len(layer.running_var)} variances")
    eps = eps_of(layer)
    squares = [variance + eps for variance in layer.running_var]
    if _positive(squares):
        return tuple(map(truediv, map(abs, gamma), map(sqrt, squares)))
    return tuple(
        abs(g) / sqrt(s) if s > 0 else inf if s == 0 and g else nan
        for g, s in zip(gamma, squares, strict=True)
    )


def gain_of(layer: BatchNormStatics) -> StoredGain | Skipped:
    """The spread of that over the channels."""
    values = gain_channels(layer)
    if isinstance(values, Skipped):
        return values
    finite = sorted(filter(isfinite, values))
    if not finite:
        return Skipped("no channel has a finite |gamma|/sigma")
    count = len(finite)
    return StoredGain(
        finite[0],
        (finite[(count - 1) // 2] + finite[count // 2]) / 2,
        finite[-1],
        bisect_right(finite, 1) / count,
        len(values) - count,
    )


def median_of(values: Iterable[float]) -> float | None:
    """The median of the finite values, None where there are none."""
    from statistics import median  # not at the top: it would slow down every start

    kept = list(filter(isfinite, values))
    return median(kept) if kept else None


def middle(values: Iterable[float]) -> float:
    """The median of the finite values, 0 where there are none."""
    return median_of(values) or 0.0


def outlying(values: Sequence[float], ratio: float, deviations: float) -> tuple[int, ...]:
    """Channels that are both many times and many deviations above the median, on a log scale.

    Args:
        values: per channel; those that are 0 or not finite are left out.
        ratio: over the median.
        deviations: robust standard deviations of the logarithm (1.4826 MAD).
    """
    ordered = sorted(v for v in values if 0 < v < inf)
    count = len(ordered)
    if count < _FEWEST_CHANNELS:
        return ()
    centre = (log(ordered[(count - 1) // 2]) + log(ordered[count // 2])) / 2
    if log(ordered[-1]) - centre <= log(ratio):
        return ()
    logs = {c: log(v) for c, v in enumerate(values) if 0 < v < inf}
    deviation = max(_NO_SPREAD, _NORMAL * middle([abs(v - centre) for v in logs.values()]))
    above = max(log(ratio), deviations * deviation)
    return tuple(c for c, v in logs.items() if v - centre > above)


@dataclass(frozen=True, slots=True)
class StoredExtent:
    """A stored vector over its finite entries.

    Attributes:
        minimum: smallest finite one.
        maximum: largest finite one.
    """

    minimum: float
    maximum: float


def extent_of(values: Sequence[float] | None) -> StoredExtent | Skipped:
    """Smallest and largest finite value of a stored vector."""
    found = list(filter(isfinite, values or ()))
    if not found:
        return Skipped("no value is finite" if values else "none is stored")
    return StoredExtent(min(found), max(found))


@dataclass(frozen=True, slots=True)
class StoredChannels:
    """What a layer stores by channel.

    Attributes:
        gain: |gamma|/sqrt(running_var + eps).
        gamma: as stored, a Scale layer included.
        beta: as stored, a Scale layer included.
        running_mean: as stored.
        running_var: as stored.
    """

    gain: tuple[float, ...] | Skipped
    gamma: tuple[float, ...] | Skipped
    beta: tuple[float, ...] | Skipped
    running_mean: tuple[float, ...] | Skipped
    running_var: tuple[float, ...] | Skipped


def stored_channels(layer: BatchNormStatics) -> StoredChannels:
    """The layer's vectors, as far as there are any."""
    gain, missing = gain_channels(layer), Skipped("none is stored")
    vectors = (layer.gamma, layer.beta, layer.running_mean, layer.running_var)
    return StoredChannels(
        missing if isinstance(gain, Skipped) else gain,
        *(missing if vector is None else vector for vector in vectors),
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
