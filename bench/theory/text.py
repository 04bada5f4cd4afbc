"""Numbers as text, and texts compared with tolerances."""

from __future__ import annotations

import math
import re

Rows = list[list[str]]


def number(x: float) -> str:
    """Three digits."""
    if math.isnan(x):
        return "-"
    return f"{x:.3g}" if 1e-3 <= abs(x) < 1e4 or x == 0 else f"{x:.2e}"


def order(x: float) -> str:
    """The order of magnitude of an error."""
    return "-" if math.isnan(x) else "0" if x == 0 else f"{x:.0e}"


def share(x: float) -> str:
    """In percent."""
    return "-" if math.isnan(x) else f"{100 * x:.1f} %"


def table(header: list[str], rows: Rows) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_ORDER = re.compile(r"\d(e[+-]\d+)|0")


def differences(stored: str, fresh: str) -> list[str]:
    """The lines of a table that differ by more than the tolerances."""
    ours, theirs = (text.strip().splitlines() for text in (stored, fresh))
    if len(ours) != len(theirs):
        return [f"{len(ours)} lines stored, {len(theirs)} measured"]
    return [
        f"stored   {a}\nmeasured {b}" for a, b in zip(ours, theirs, strict=True) if not _same(a, b)
    ]


def _same(a: str, b: str) -> bool:
    if _NUMBER.sub("#", a) != _NUMBER.sub("#", b):
        return False
    pairs = zip(_NUMBER.findall(a), _NUMBER.findall(b), strict=True)
    return all(_close(x, y) for x, y in pairs)


def _close(a: str, b: str) -> bool:
    x, y = float(a), float(b)
    if _ORDER.fullmatch(a) and _ORDER.fullmatch(b):
        low, high = sorted((max(abs(x), 1e-16), max(abs(y), 1e-16)))
        return high <= 100 * low
    digits = a.partition("e")[0].partition(".")[2]
    unit = 10.0 ** -len(digits) if "e" not in a else 0.0
    return abs(x - y) <= 0.03 * max(abs(x), abs(y)) + (unit if digits else 0.0)
