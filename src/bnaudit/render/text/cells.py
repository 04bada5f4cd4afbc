"""What stands in a cell: text that a terminal cannot take as a command, and boxes on one shared axis."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, inf, isfinite, log10
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from bnaudit.escaping import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# How much of a shortened name is its beginning, best looking first.
_HEAD_SHARES = (0.4, 0.25, 0.1, 0.0, 0.6, 0.8)

SPARKS = "▁▂▃▄▅▆▇█"
"""Eight heights."""

_TO_ASCII = str.maketrans(
    {
        "γ": "gamma",
        "σ": "sigma",
        "μ": "mu",
        "β": "beta",
        "ε": "eps",
        "ρ": "rho",
        "λ": "lambda",
        "θ": "theta",
        "Π": "Pi",
        "²": "^2",
        "≤": "<=",
        "≥": ">=",
        "±": "+/-",
        "×": "x",
        "−": "-",
        "–": "-",
        "—": "-",
        "…": "...",
        "’": "'",
        "“": '"',
        "”": '"',
        "─": "-",
        "├": "|",
        "┤": "|",
        "●": "o",
        "┊": ":",
        "‹": "<",
        "›": ">",
        "✗": "x",
        "→": "->",
        "∞": "inf",
        "η": "eta",
        "Δ": "d",
        **dict(zip(SPARKS, "_.,:-=+#", strict=True)),
    }
)


@dataclass(frozen=True, slots=True)
class Charset:
    """What may be printed. Text is converted before it is laid out: conversion changes widths."""

    unicode: bool = True

    def clean(self, text: str) -> str:
        """The text with everything that a terminal would act on, or could not show, spelled out."""
        shown = text if self.unicode else text.translate(_TO_ASCII)
        return printable(shown, unicode=self.unicode)

    def shorten_names(self, names: list[str], width: int) -> list[str]:
        """Names cut in their middle, where that leaves most of them different from each other."""
        mark = self.clean("…")
        room = max(0, width - cell_len(mark))

        def cut(name: str, head: int) -> str:
            if cell_len(name) <= width:
                return name
            start = len(name)
            while start > 0 and cell_len(name[start - 1 :]) <= room - head:
                start -= 1
            return set_cell_size(name, head) + mark + name[start:]

        candidates = [[cut(name, int(room * share)) for name in names] for share in _HEAD_SHARES]
        return max(candidates, key=lambda shortened: len(set(shortened)))

    def shorten_end(self, text: str, width: int) -> str:
        """A sentence is cut at its end, visibly."""
        if cell_len(text) <= width:
            return text
        mark = self.clean("…")
        return set_cell_size(text, max(0, width - cell_len(mark))).rstrip() + mark


def pad_left(text: str, width: int) -> str:
    """Right-align by terminal cells, which wide characters take two of."""
    return " " * (width - cell_len(text)) + text


def pad_right(text: str, width: int) -> str:
    """Left-align by terminal cells."""
    return text + " " * (width - cell_len(text))


# A channel further than this from every median (gamma pruned to 1e-30) is marked as off the axis;
# drawing it to scale would press all other boxes into one character.
_FARTHEST = 100.0
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


Box = tuple[float, float, float]
"""Minimum, median and maximum over the channels of a layer."""


def axis_for(boxes: Sequence[Box]) -> LogAxis | None:
    """An axis for all layers, or None where no channel has a positive finite value."""
    everything = _positive(value for box in boxes for value in box)
    if not everything:
        return None
    middle = _positive(median for _, median, _ in boxes) or everything
    ends = (
        max(min(everything), min(middle) / _FARTHEST),
        min(max(everything), max(middle) * _FARTHEST),
    )
    below, above = 10.0 ** floor(log10(min(ends))), 10.0 ** floor(log10(max(ends)))
    low = max((s * below for s in _STEPS if s * below <= min(ends)), default=below)
    high = min((s * above for s in _STEPS if s * above >= max(ends)), default=10 * above)
    return LogAxis(low / 2, high * 2) if low == high else LogAxis(low, high)


def draw(bounds: Box, axis: LogAxis, width: int) -> str:
    """├──●────┤ : minimum, median, maximum; ┊ marks 1."""
    line = [" "] * width
    if axis.low < 1 < axis.high:
        line[axis.position(1.0, width)] = "┊"
    if not all(isfinite(bound) for bound in bounds):
        return "".join(line)
    first, middle, last = (axis.position(bound, width) for bound in bounds)
    for place in range(first, last + 1):
        line[place] = "─"
    line[first] = "‹" if bounds[0] < axis.low else "├"
    line[last] = "›" if bounds[2] > axis.high else "┤"
    line[middle] = "●"
    return "".join(line)


def spark(values: Sequence[float | None], width: int) -> str:
    """▁▃▆█ : positive values on a log scale of their own; a gap where there is none.

    Args:
        values: in order; more than fit are drawn by the middle of their neighbours.
        width: characters.
    """
    n = max(1, min(len(values), width))
    parts = [values[i * len(values) // n : (i + 1) * len(values) // n] for i in range(n)]
    logs = [sorted(log10(v) for v in part if v is not None and 0 < v < inf) for part in parts]
    middles = [part[len(part) // 2] if part else None for part in logs]
    known = [m for m in middles if m is not None]
    if not known:
        return " " * width
    low, span = min(known), max(known) - min(known)
    # What differs by less than a hundredth is drawn level.
    scale = (len(SPARKS) - 1) / span if span > 0.004 else 0.0
    drawn = (" " if m is None else SPARKS[round((m - low) * scale)] for m in middles)
    return "".join(drawn).ljust(width)


def _positive(values: Iterable[float]) -> list[float]:
    # Beyond these, rounding the ends of the axis to 1, 2 or 5 would overflow.
    return [value for value in values if isfinite(value) and 1e-300 < value < 1e300]
