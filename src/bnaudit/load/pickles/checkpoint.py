"""A checkpoint of either format, opened: the object in it, and the numbers of its tensors."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

from bnaudit.errors import InputError
from bnaudit.load.pickles.archive import Archive
from bnaudit.load.pickles.legacy import LegacyFile
from bnaudit.load.pickles.objects import SIZES, DamagedError

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.load.pickles.numbers import TensorFile
    from bnaudit.load.pickles.objects import Storage

_FOLDERS = ("data", "tensors")


class ZipCheckpoint:
    """A file of `torch.save` since 1.6.

    Attributes:
        root: the object that was saved.
        big_endian: how its numbers are stored.

    Raises:
        DamagedError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._archive = Archive(path)
        self.big_endian = self._archive.big_endian
        self.root: Any = self._archive.unpickle("data.pkl")

    def numbers(self, of: Storage, start: int, count: int) -> bytes:
        """`count` bytes of a storage from byte `start` on.

        Raises:
            DamagedError: it is not in the file, damaged, or ends before.
        """
        return storage_bytes(self._archive, _FOLDERS, of, start, count)


def storage_bytes(
    archive: Archive, folders: tuple[str, ...], of: Storage, start: int, count: int
) -> bytes:
    """`count` bytes, from byte `start` on, of a storage in one of these folders of a zip file."""
    names = [f"{folder}/{of.key}" for folder in folders]
    name = next((n for n in names if n in archive), names[0])
    return archive.slice(name, of.start * SIZES[of.dtype] + start, count)


def open_checkpoint(path: Path) -> tuple[Any, TensorFile, str]:
    """(the object that was saved, its numbers, "zip" or "legacy").

    Nothing of the file is executed or imported.

    Raises:
        InputError: the file is damaged or cannot be read.
    """
    try:
        if zipfile.is_zipfile(path):
            new = ZipCheckpoint(path)
            return new.root, new, "zip"
        old = LegacyFile(path)
    except DamagedError as error:
        raise damaged(path, error) from error
    except MemoryError as error:
        raise InputError(f"{path}: needs more memory than there is") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return old.root, old, "legacy"


def damaged(path: Path, error: DamagedError) -> InputError:
    """The error for the user."""
    return InputError(
        f"{path}: cannot be read as a PyTorch checkpoint ({error})",
        hint="damaged or cut off? copy it again and compare the size",
    )
