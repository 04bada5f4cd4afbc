"""A checkpoint of either format, opened: the object in it, and the numbers of its tensors."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

from bnaudit.errors import InputError
from bnaudit.load.pickles.archive import Archive
from bnaudit.load.pickles.legacy import LegacyFile
from bnaudit.load.pickles.objects import DamagedError

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.load.pickles.numbers import TensorFile


def open_checkpoint(path: Path) -> tuple[Any, TensorFile, str]:
    """(the object that was saved, its numbers, "zip" or "legacy").

    Nothing of the file is executed or imported.

    Raises:
        InputError: the file is damaged or cannot be read.
    """
    try:
        if zipfile.is_zipfile(path):
            new = Archive(path)
            return new.unpickle("data.pkl", "data"), new, "zip"
        old = LegacyFile(path)
    except DamagedError as error:
        raise damaged(path, error) from error
    except MemoryError as error:
        raise InputError(f"{path}: needs more memory than there is") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return old.root, old, "legacy"


def damaged(path: Path, error: DamagedError, what: str = "PyTorch checkpoint") -> InputError:
    """The error for the user."""
    return InputError(
        f"{path}: cannot be read as a {what} ({error})",
        hint="damaged or cut off? copy it again and compare the size",
    )
