"""A checkpoint of either format, opened: the object in it, and the numbers of its tensors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bnaudit.errors import InputError
from bnaudit.files import opened
from bnaudit.load.pickles.archive import Archive
from bnaudit.load.pickles.legacy import LegacyFile
from bnaudit.load.pickles.objects import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bnaudit.load.pickles.numbers import TensorFile


_ZIP = b"PK"


def open_checkpoint(path: Path) -> tuple[Any, TensorFile, str]:
    """(the object that was saved, its numbers, "zip" or "legacy").

    Nothing of the file is executed or imported.

    Raises:
        InputError: the file is damaged or cannot be read.
    """
    with explained(path, "PyTorch checkpoint"):
        with opened(path) as file:
            zipped = file.read(len(_ZIP)) == _ZIP
        if zipped:
            new = Archive(path)
            return new.unpickle("data.pkl", "data"), new, "zip"
        old = LegacyFile(path)
        return old.root, old, "legacy"


@contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Damage inside becomes an error for the user.

    Raises:
        InputError: the file is damaged, too large for the memory, or cannot be read.
    """
    try:
        yield
    except DamagedError as error:
        raise InputError(
            f"{path}: cannot be read as {'an' if what[0] in 'AEIO' else 'a'} {what} ({error})",
            hint="damaged or cut off? copy it again and compare the size",
        ) from error
    except MemoryError as error:
        raise InputError(f"{path}: needs more memory than there is") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
