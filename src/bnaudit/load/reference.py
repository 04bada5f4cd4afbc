"""`package.module:factory` and `file.py:factory`, told apart from files. Imports nothing heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnaudit.files import exists

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a factory is.

    Attributes:
        text: as it was typed.
        place: "package.module", or the path of a Python file.
        name: of the factory in it, with dots for attributes of attributes.
    """

    text: str
    place: str
    name: str

    @property
    def is_file(self) -> bool:
        """Whether `place` is a file rather than a module's name."""
        return self.place.endswith(".py")


def factory_reference(model: Any) -> Reference | None:
    """What a model argument names, None where it is a file or no text at all.

    A file that exists is a file, whatever colons there are in its name.
    """
    text = str(model) if isinstance(model, (str, Path)) else ""
    place, colon, name = text.rpartition(":")
    if not colon or not _DOTTED.fullmatch(name) or exists(text):
        return None
    if place.endswith(".py") or _DOTTED.fullmatch(place):
        return Reference(text, place, name)
    return None
