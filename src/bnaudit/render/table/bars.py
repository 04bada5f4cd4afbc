"""Where the channels of a layer lie, as a box on one logarithmic axis that all layers share."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, isfinite, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.records.layer import Gain

# A channel further than this from every median (gamma pruned to 1e-30) is marked as off the axis;
# drawing it to scale would press all other boxes into one character.
_MAX_FACTOR = 100.0
_STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class LogAxis:
    """An axis from `low` to `high`, both round numbers."""

    low: float
    high: float

    def position(self, value: float, width: int) -> int:
        """The character that `value` falls on; values beyond the ends fall on the ends."""
        if value <= self.low:
            return 0
        if value >= self.high:
            return width - 1
        # Differences of logarithms: the quotients overflow where a broken layer has gains of 1e300.
        share = (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return min(width - 1, max(0, round(share * (width - 1))))

    def labels(self, width: int) -> str:
        """The ends of the axis and, with room for it, the 1 at which gradients keep their size."""
        line = [" "] * width
        low, high = f"{self.low:g}", f"{self.high:g}"
        line[: len(low)] = low
        line[width - len(high) :] = high
        one = self.position(1.0, width)
        if self.low < 1 < self.high and line[one - 1 : one + 2] == [" "] * 3:
            line[one] = "1"
        return "".join(line)


def axis_for(gains: Sequence[Gain]) -> LogAxis | None:
    """An axis for all layers, or None where no channel has a positive finite gain."""
    medians = _positive([gain.median.median for gain in gains])
    everything = _positive(
        [bound.median for gain in gains for bound in (gain.minimum, gain.median, gain.maximum)]
    )
    if not everything:
        return None
    middle = medians or everything
    low = max(min(everything), min(middle) / _MAX_FACTOR)
    high = min(max(everything), max(middle) * _MAX_FACTOR)
    low, high = _round_down(min(low, high)), _round_up(max(low, high))
    return LogAxis(low / 2, high * 2) if low == high else LogAxis(low, high)


def box(gain: Gain, axis: LogAxis, width: int) -> str:
    """├──●────┤ : minimum, median, maximum over the channels; ┊ marks 1."""
    line = [" "] * width
    if axis.low < 1 < axis.high:
        line[axis.position(1.0, width)] = "┊"
    bounds = (gain.minimum.median, gain.median.median, gain.maximum.median)
    if not all(isfinite(bound) for bound in bounds):
        return "".join(line)
    first, middle, last = (axis.position(bound, width) for bound in bounds)
    for place in range(first, last + 1):
        line[place] = "─"
    line[first] = "‹" if bounds[0] < axis.low else "├"
    line[last] = "›" if bounds[2] > axis.high else "┤"
    line[middle] = "●"
    return "".join(line)


def _positive(values: list[float]) -> list[float]:
    # Beyond these, rounding the ends of the axis to 1, 2 or 5 would overflow.
    return [value for value in values if isfinite(value) and 1e-300 < value < 1e300]


def _round_down(value: float) -> float:
    decade = 10.0 ** floor(log10(value))
    return max((s * decade for s in _STEPS if s * decade <= value), default=decade)


def _round_up(value: float) -> float:
    decade = 10.0 ** floor(log10(value))
    return min((s * decade for s in _STEPS if s * decade >= value), default=10 * decade)
