"""The zip files that PyTorch writes."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.files import opened

if TYPE_CHECKING:
    from pathlib import Path

COPY_AGAIN = "copy or download it again and compare the size"


def require_intact(path: Path) -> None:
    """Checks the checksums, which PyTorch leaves unread: weights with a wrong bit load without a word.

    Files that are no zip (the legacy checkpoint, the flatbuffer of mobile devices) have none.

    Raises:
        InputError: the file is damaged or cut off.
    """
    with opened(path) as file:
        if not file.read(2).startswith(b"PK"):
            return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # zipfile fails on damaged files in ways of its own
        raise InputError(f"{path}: a damaged or cut-off file", hint=COPY_AGAIN) from error
    if damaged is not None:
        raise InputError(
            f"{path}: damaged: the checksum of {damaged} inside it is wrong", hint=COPY_AGAIN
        )
