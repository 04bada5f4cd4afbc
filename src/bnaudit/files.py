"""Every file that is read, opened here: regular ones alone, and remembered, so that none becomes an output.

A FIFO has its reader wait for a writer that may never come, a device may have no end, and a socket cannot
be opened at all: each ends here, in the same words, whichever option named it.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_FILE = "not a regular file"


class Seen(NamedTuple):
    """A file that was read, as it was then.

    Attributes:
        path: as it was named.
        size: bytes.
        modified: nanoseconds since 1970.
    """

    path: str
    size: int
    modified: int


_seen: ContextVar[dict[tuple[int, int], Seen] | None] = ContextVar("_seen", default=None)


def opened(path: Path, *, renewable: bool = False) -> BinaryIO:
    """A regular file, open for reading; links are followed.

    Args:
        path: of the file.
        renewable: whether an output may replace it, as that of a baseline.

    Raises:
        OSError: it cannot be opened, or is none (IsADirectoryError for a folder).
    """
    # Without O_NONBLOCK opening a FIFO waits for its other end; of regular files it means nothing.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except ValueError as error:  # a name with a null in it
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device that is not there
            raise OSError(errno.ENXIO, NO_FILE, str(path)) from error
        raise
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, NO_FILE, str(path))
    if not renewable:
        _remember(path, found)
    return os.fdopen(handle, "rb")


def _remember(path: Path, found: os.stat_result) -> None:
    if (seen := _seen.get()) is not None:
        here = Seen(str(path), found.st_size, found.st_mtime_ns)
        seen.setdefault((found.st_dev, found.st_ino), here)


def referred_to(path: Path) -> Path:
    """The path of a file that an input names: an input too, whether its bytes are wanted or not."""
    with suppress(OSError, ValueError):  # told where it is opened
        _remember(path, path.stat())
    return path


def content(path: Path, limit: int | None = None, *, renewable: bool = False) -> bytes:
    """All of a regular file.

    Args:
        path: of the file.
        limit: bytes that a file of this kind never exceeds.
        renewable: see `opened`.

    Raises:
        OSError: see `opened`; or it is larger.
    """
    with opened(path, renewable=renewable) as file:
        found = file.read(-1 if limit is None else limit + 1)
    if limit is not None and len(found) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
    return found


def is_file(path: Path | str) -> bool:
    """Whether there is such a regular file; what cannot be looked at (no leave, too long a name) is none."""
    return os.path.isfile(path)  # noqa: PTH113  # pathlib's own raises then


def exists(path: Path | str) -> bool:
    """Whether there is anything of this name that can be looked at."""
    return os.path.exists(path)  # noqa: PTH110  # as above


@contextmanager
def remembered() -> Iterator[None]:
    """Until the context ends, `was_read` knows every file that was opened or referred to in it."""
    token = _seen.set({})
    try:
        yield
    finally:
        _seen.reset(token)


def all_read() -> tuple[Seen, ...]:
    """Every file that was opened or referred to in the nearest `remembered`, each once."""
    return tuple((_seen.get() or {}).values())


def was_read(path: Path) -> bool:
    """Whether this file was opened or referred to, by whatever name.

    Args:
        path: of a file that need not exist.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return False
    return (found.st_dev, found.st_ino) in (_seen.get() or ())
