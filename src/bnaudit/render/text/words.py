"""Numbers and counted nouns as people read them: three significant digits, decimal points under each other.

No rich here: formats for machines write numbers as well.
"""

from __future__ import annotations

from math import isfinite


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


def file_size(size: int) -> str:
    """In decimal units: "46.8 MB"."""
    for power, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= power:
            return f"{significant(size / power)} {unit}"
    return f"{size} bytes"


def align_decimal(numbers: list[str]) -> list[str]:
    """The same strings padded to one width, with the decimal points in one column."""
    cuts = [min(n.find(c) if c in n else len(n) for c in ".e") for n in numbers]
    halves = [(number[:cut], number[cut:]) for number, cut in zip(numbers, cuts, strict=True)]
    left = max((len(whole) for whole, _ in halves), default=0)
    right = max((len(rest) for _, rest in halves), default=0)
    return [whole.rjust(left) + rest.ljust(right) for whole, rest in halves]


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 layer", "2 layers", "2 batches"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}{'es' if noun.endswith(('ch', 'ss')) else 's'}"


def listing(names: list[str], limit: int) -> str:
    """The first few names, and how many more there are."""
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def _power(value: float) -> str:
    return f"{value:.1e}".replace(".0e", "e")
