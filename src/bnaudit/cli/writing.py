"""A file is written whole or not at all: beside its place first, then renamed.

Whatever goes wrong before the rename (a full disk, a limit, a kill), the file that was there stays as it was.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from bnaudit.files import exists

_MODE = 0o666
"""Less the umask, as `open` makes files."""


def write_whole(path: Path, text: str | bytes) -> None:
    """Writes a document, in place of the file that is there, if any; a link to it stays a link.

    What is no regular file (/dev/stdout, a pipe that has a reader) has no other place: it is written into.

    Args:
        path: of the file.
        text: to write, as UTF-8 where it is no bytes.

    Raises:
        OSError: it cannot be written, and is as it was.
    """
    data = text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace")
    place = Path(os.path.realpath(path))
    try:
        before = path.stat()
    except FileNotFoundError:
        before = None
    if before is not None and not stat.S_ISREG(before.st_mode):
        _write_into(path, data)
        return
    if before is not None and not os.access(
        place, os.W_OK
    ):  # the folder's leave to rename is not the file's
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    beside = place.with_name(f".{place.name[:200]}.{os.urandom(4).hex()}.part")
    try:
        with _nameless(place.parent, beside) as file:
            if before is not None:
                os.chmod(file.fileno(), stat.S_IMODE(before.st_mode))  # noqa: PTH101  # of the open file
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if not exists(beside):
                _name(file.fileno(), beside)
        beside.replace(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _settle(place.parent)


_HANDLES = "/proc/self/fd"


def _nameless(folder: Path, beside: Path) -> BinaryIO:
    """A new file without a name, which a kill leaves nothing of; else with that name."""
    if exists(_HANDLES) and hasattr(os, "O_TMPFILE"):
        with suppress(OSError):  # not on this file system
            return os.fdopen(os.open(folder, os.O_WRONLY | os.O_TMPFILE, _MODE), "wb")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(beside, flags, _MODE), "wb")


def _name(handle: int, path: Path) -> None:
    # The directory is of no matter, but without one Python links the link.
    os.link(f"{_HANDLES}/{handle}", path, src_dir_fd=handle, follow_symlinks=True)


def _write_into(path: Path, data: bytes) -> None:
    # Without O_NONBLOCK opening a FIFO that nobody reads would wait for ever; writing may wait.
    handle = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    if hasattr(os, "set_blocking"):
        os.set_blocking(handle, True)
    with os.fdopen(handle, "wb") as file:
        file.write(data)


def _settle(folder: Path) -> None:
    """Has the disk remember the new name; not every system and file system lets a folder be asked to."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
