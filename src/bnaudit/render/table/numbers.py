"""Numbers as people compare them: three significant digits, decimal points under each other."""

from __future__ import annotations

import re
from math import isfinite

_SPLIT = re.compile(r"([^.e]*)(.*)")


def significant(value: float) -> str:
    """Three significant digits, in powers of ten only below 0.001 and from 100 000 on."""
    if not isfinite(value):
        return str(float(value))
    if value == 0:
        return "0"
    # The exponent of the rounded value: 9.996 is 10.0, not 10.00.
    exponent = int(f"{value:.2e}".partition("e")[2])
    if -3 <= exponent < 5:
        return f"{value:.{max(0, 2 - exponent)}f}"
    return _power(value)


def error_size(value: float) -> str:
    """The size of an error, whose digits do not matter: "0.21", "3.1e-08", "1e-05"."""
    if value == 0 or 0.001 <= abs(value) < 100_000:
        return f"{abs(value):.2g}"
    return _power(value)


def scientific(value: float) -> str:
    """Two digits and the power of ten, for what spans many: "-4.1e-05"."""
    if not isfinite(value):
        return str(float(value))
    return "0" if value == 0 else f"{value:.1e}"


def factor(ratio: float) -> str:
    """How many times: "×12.3"."""
    return f"×{significant(ratio)}"


def percent(share: float) -> str:
    """A share as percent with one decimal; a rounded zero does not look like an exact one."""
    if not isfinite(share):
        return str(float(share))
    if 0 < share < 0.0005:
        return "<0.1%"
    return f"{100 * share + 0.0:.1f}%" if abs(share) < 1000 else _power(100 * share) + "%"


def whole_percent(share: float) -> str:
    """A share of channels: 0% and 100% mean none and all."""
    if not isfinite(share):
        return str(float(share))
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return f"{100 * share + 0.0:.0f}%" if abs(share) < 1000 else _power(100 * share) + "%"


def count(value: int) -> str:
    """How large a model is, not how many parameters exactly: "11.7 M"."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{significant(value / size)} {unit}"
    return str(value)


def align_decimal(numbers: list[str]) -> list[str]:
    """The same strings padded to one width, with the decimal points in one column."""
    halves = [_halves(number) for number in numbers]
    left = max((len(whole) for whole, _ in halves), default=0)
    right = max((len(rest) for _, rest in halves), default=0)
    return [whole.rjust(left) + rest.ljust(right) for whole, rest in halves]


def _power(value: float) -> str:
    return f"{value:.1e}".replace(".0e", "e")


def _halves(number: str) -> tuple[str, str]:
    found = _SPLIT.fullmatch(number)
    return (found[1], found[2]) if found else (number, "")
