"""Paths of a file, relative to it, made relative to the working directory."""

from __future__ import annotations

import os

from bnaudit.files import exists, is_file
from bnaudit.render.formats import FORMATS
from bnaudit.values import MATCHED


def path(text: str, folder: str) -> str:
    """A path."""
    return text if not folder else os.path.normpath(os.path.join(folder, text))  # noqa: PTH118


def function(text: str, folder: str) -> str:
    """`loss.py:focal` names a file; `cross_entropy` does not."""
    return path(text, folder) if text.rpartition(":")[0].endswith(".py") else text


def data(texts: tuple[str, ...], folder: str) -> tuple[str, ...]:
    """PATH, file.py:function, the word matched, or NAME=PATH, where the file alone tells that from a path."""
    found = []
    for text in texts:
        name, equals, rest = text.partition("=")
        named = equals and not exists(path(text, folder))
        moved = f"{name}={path(rest, folder)}" if named else path(text, folder)
        word = text == MATCHED
        found.append(text if word else os.path.join(".", moved) if moved == MATCHED else moved)  # noqa: PTH118
    return tuple(found)


def labels(text: str, folder: str) -> str:
    """A key of the data, unless there is such a file."""
    found = path(text, folder)
    return found if is_file(found) or "/" in text else text


def outputs(texts: tuple[str, ...], folder: str) -> tuple[str, ...]:
    """FILE, or FORMAT=FILE."""
    found = []
    for text in texts:
        name, equals, rest = text.partition("=")
        named = equals and name in FORMATS
        found.append(f"{name}={path(rest, folder)}" if named else path(text, folder))
    return tuple(found)
