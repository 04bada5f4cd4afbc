"""Text that came from a file is untrusted: nothing here reaches a terminal as a command."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

# Control, format (bidi overrides, zero widths), surrogates, private use, line and paragraph ends.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# How much of a shortened name is its beginning, best looking first.
_HEAD_SHARES = (0.4, 0.25, 0.1, 0.0, 0.6, 0.8)

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
    }
)


@dataclass(frozen=True, slots=True)
class Charset:
    """What may be printed. Text is converted before it is laid out: conversion changes widths."""

    unicode: bool = True

    def clean(self, text: str) -> str:
        """The text with everything that a terminal would act on, or could not show, spelled out."""
        if not self.unicode:
            text = text.translate(_TO_ASCII)
        return "".join(char if self._printable(char) else _escape(char) for char in text)

    def _printable(self, char: str) -> bool:
        if char.isascii():
            return char.isprintable()
        return self.unicode and unicodedata.category(char) not in _UNPRINTABLE

    def shorten_names(self, names: list[str], width: int) -> list[str]:
        """Names cut in their middle, where that leaves most of them different from each other."""
        candidates = [
            [self._shorten_middle(name, width, share) for name in names] for share in _HEAD_SHARES
        ]
        return max(candidates, key=lambda shortened: len(set(shortened)))

    def _shorten_middle(self, name: str, width: int, head_share: float) -> str:
        if cell_len(name) <= width:
            return name
        mark = self.clean("…")
        room = max(0, width - cell_len(mark))
        head = int(room * head_share)
        return set_cell_size(name, head) + mark + _last_cells(name, room - head)

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


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 layer", "2 layers", "2 batches"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}{'es' if noun.endswith('ch') else 's'}"


def listing(names: list[str], limit: int) -> str:
    """The first few names, and how many more there are."""
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def _last_cells(text: str, width: int) -> str:
    start = len(text)
    while start > 0 and cell_len(text[start - 1 :]) <= width:
        start -= 1
    return text[start:]


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
