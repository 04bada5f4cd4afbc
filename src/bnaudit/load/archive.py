"""The zip files that PyTorch writes, held against our own reading before PyTorch's sees them."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.files import opened
from bnaudit.load.pickles.archive import Archive
from bnaudit.load.pickles.objects import SIZES, DamagedError

if TYPE_CHECKING:
    from pathlib import Path

COPY_AGAIN = "copy or download it again and compare the size"

_SMALL, _PACKED = 1 << 22, 32
"""PyTorch packs nothing; what somebody packed again is not smaller by more, and a bomb is."""
_CODE = 1 << 26
_DEEPEST = 200
"""Brackets within brackets, and blocks within blocks, of code that PyTorch's compiler wrote. Its parser calls
itself for each."""
_LONGEST = 2000
"""Operators and names between two commas: as many calls of the compiler's, one inside the other."""

_TEXT = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")
_STEP = re.compile(r"[-+*/%.&|^~<>=]+|\b(?:not|and|or|if|else|is|in)\b")


def require_intact(path: Path) -> bool:
    """Checks the checksums, which PyTorch leaves unread: weights with a wrong bit load without a word.

    Nor may a name be there twice: two readers would see two different files. PyTorch's takes no notice of
    case.

    Returns:
        Whether it is a zip file; others (the legacy checkpoint, the flatbuffer of mobile devices) have none.

    Raises:
        InputError: the file is damaged or cut off.
    """
    with opened(path) as file:
        if not file.read(2).startswith(b"PK"):
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            reason = _disorder(entries, path.stat().st_size)
            if reason is None and (wrong := archive.testzip()) is not None:
                reason = f"the checksum of {wrong} inside it is wrong"
    except Exception as error:  # zipfile fails on damaged files in ways of its own
        raise InputError(f"{path}: a damaged or cut-off file", hint=COPY_AGAIN) from error
    if reason is not None:
        raise InputError(f"{path}: damaged: {reason}", hint=COPY_AGAIN)
    return True


def _disorder(entries: list[zipfile.ZipInfo], size: int) -> str | None:
    """What of a zip file's table of contents makes no sense."""
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename.casefold()
        if name in seen:
            return f"it holds {entry.filename!r} twice"
        seen.add(name)
    whole = sum(entry.file_size for entry in entries)
    if whole > max(_SMALL, _PACKED * size):
        return f"{whole} bytes are packed inside it"
    return None


def require_sound_program(path: Path) -> None:
    """Reads a TorchScript file as data, before PyTorch does: not all damage raises an error there.

    Pickles make sense to our own interpreter, storages lie inside the file, and code is nested no deeper than
    a compiler's.

    Raises:
        InputError: one of them does not.
    """
    if not require_intact(path):
        return
    try:
        with Archive(path) as archive:
            archive.unpickle("data.pkl", "data")
            if "constants.pkl" in archive:
                archive.unpickle("constants.pkl", "constants")
            _require_whole(archive)
            for name in archive.names():
                if name.startswith("code/") and name.endswith(".py"):
                    _require_shallow(name, archive.small(name, _CODE).decode("utf-8", "replace"))
    except DamagedError as error:
        raise InputError(
            f"{path}: cannot be read as a TorchScript file ({error})", hint=COPY_AGAIN
        ) from error


def _require_whole(archive: Archive) -> None:
    for storage in archive.storages:
        if (storage.start + storage.numel) * SIZES[storage.dtype] > archive.size(storage.key):
            raise DamagedError(f"{storage.key} inside it is too short")


def _require_shallow(name: str, code: str) -> None:
    depth = steps = 0
    for line in _TEXT.sub("''", code).splitlines():
        if len(line) - len(line.lstrip(" ")) > 2 * _DEEPEST:
            raise DamagedError(f"{name} inside it is nested too deeply")
        for piece in re.split(r"([(\[{}\]),])", line):
            depth += (piece in "([{" and bool(piece)) - (piece in ")]}" and bool(piece))
            steps = 0 if piece == "," else steps + len(_STEP.findall(piece))
            if depth > _DEEPEST or steps > _LONGEST:
                raise DamagedError(f"{name} inside it is nested too deeply")
        steps = 0
