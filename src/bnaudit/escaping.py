"""Names and texts out of files, for terminals, logs and their viewers: the one escaping of all formats."""

from __future__ import annotations

import unicodedata

_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Control, format (bidi overrides, zero widths), surrogates, private use, line and paragraph ends."""


def printable(text: str, *, unicode: bool = True) -> str:
    """The text with everything spelled out that a viewer would act on, or not show.

    Args:
        text: of one line; the end of a line is spelled out too.
        unicode: whether letters beyond ASCII can be shown.
    """

    def shows(char: str) -> bool:
        if char.isascii():
            return char.isprintable()
        return unicode and unicodedata.category(char) not in _UNPRINTABLE

    if text.isascii() and text.isprintable():
        return text
    return "".join(c if shows(c) else c.encode("unicode_escape").decode() for c in text)
