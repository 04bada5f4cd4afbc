"""Bytes of a pickle, taken in order; a length that lies costs nothing."""

from __future__ import annotations

from typing import BinaryIO

from bnaudit.load.pickles.objects import DamagedError

MAX_TEXT = 1 << 20
"""Longer strings (arrays that were pickled whole) are passed over, not kept."""

_LINE = 1 << 16
_CHUNK = 1 << 20


class Source:
    """A file from where it stands, and how many bytes may be taken from it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.left = size

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes.

        Raises:
            DamagedError: there are not as many.
        """
        if not 0 <= count <= self.left:
            raise DamagedError("it ends in the middle")
        data = self.file.read(count)
        if len(data) < count:
            raise DamagedError("it ends in the middle")
        self.left -= count
        return data

    def number(self, count: int, *, signed: bool = False) -> int:
        """A little-endian integer of `count` bytes."""
        return int.from_bytes(self.take(count), "little", signed=signed)

    def line(self) -> str:
        """Up to the next line break, without it; a character a byte."""
        data = self.file.readline(min(_LINE, self.left))
        self.left -= len(data)
        if not data.endswith(b"\n"):
            raise DamagedError("a line of it does not end")
        return data[:-1].decode("latin-1").rstrip("\r")

    def text(self, count: int) -> str:
        """A string of `count` bytes; what is too long to be a name comes back empty."""
        return self.blob(count).decode("utf-8", "replace")

    def blob(self, count: int) -> bytes:
        """`count` bytes, or none of them where they are too many to be of interest."""
        if count <= MAX_TEXT:
            return self.take(count)
        if count > self.left:
            raise DamagedError("it ends in the middle")
        while count > 0:
            count -= len(self.take(min(_CHUNK, count)))
        return b""
