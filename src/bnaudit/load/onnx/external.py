"""The files beside an ONNX file that hold its weights. Needs no onnx."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.files import referred_to

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DAMAGED_HINT = "copy or download it again and compare the size; was the export cut off?"


def inside(path: Path, location: str) -> Path:
    """The file that an ONNX file names, which whoever wrote it chose: only its own folder counts.

    Followed blindly, such a path reads any file of the user's.

    Args:
        path: the ONNX file.
        location: as it names the other.

    Raises:
        InputError: the path leads elsewhere.
    """
    named = type(path)(location)
    escapes = not location or "\0" in location or named.is_absolute() or ".." in named.parts
    folder = type(path)(
        os.path.realpath(path.parent)
    )  # pathlib's resolve() fails on a ring of links
    if escapes or not type(path)(os.path.realpath(folder / location)).is_relative_to(folder):
        raise InputError(
            f"{path}: its external weights lie outside the model's folder, which is refused",
            hint="save the model with its weights file, a real one and no link, in the same folder",
        )
    return referred_to(folder / location)


def span(path: Path, entries: Mapping[str, str]) -> tuple[int, int]:
    """Where in that file a tensor's bytes begin, and how many there are; -1 for all that follow.

    Args:
        path: the ONNX file, for messages.
        entries: what it says of the tensor.

    Raises:
        InputError: that makes no sense.
    """
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
    except ValueError:
        offset, length = -1, -1
    if offset < 0:
        location = entries.get("location", "")
        raise InputError(
            f"{path}: its external weights {location!r} have no valid offset", hint=DAMAGED_HINT
        )
    return offset, length


def unreadable(path: Path, location: str, error: OSError) -> InputError:
    """What is to be said where that file cannot be read."""
    return InputError(
        f"{path}: its external weights {location!r} cannot be read ({error.strerror})",
        hint="keep the weights file next to the .onnx file, under its own name",
    )


def cut_off(path: Path, location: str) -> InputError:
    """What is to be said where that file is too short."""
    return InputError(f"{path}: its external weights {location!r} are cut off", hint=DAMAGED_HINT)
