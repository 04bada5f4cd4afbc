"""The format of `torch.save` before 1.6: pickles one behind the other, then the numbers.

magic number, protocol version, {little_endian, ...}, the object, [key of each storage], and for
each key, in this order, a u64 count of elements and the elements.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from bnaudit.files import opened
from bnaudit.load.pickles.machine import Machine
from bnaudit.load.pickles.objects import SIZES, DamagedError, Storage
from bnaudit.load.pickles.rebuild import storage
from bnaudit.load.pickles.source import Source

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = 0x1950A86A20F9469CFC6C
_COUNT = 8


class LegacyFile:
    """One such file.

    Attributes:
        root: the object that was saved.
        big_endian: how its numbers are stored.

    Raises:
        DamagedError: it is no such file, or cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._types: dict[str, str] = {}
        with opened(path) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            source = Source(file, size)
            if self._next(source) != _MAGIC:
                raise DamagedError("it does not begin as a checkpoint does")
            self._next(source)
            system = self._next(source)
            little = system.get("little_endian", True) if isinstance(system, dict) else True
            self.big_endian = little is False
            self.root = self._next(source)
            keys = self._next(source)
            self._starts = self._find(source, size, keys)

    def _next(self, source: Source) -> Any:
        return Machine(source, self._storage).load()

    def _storage(self, pid: Any) -> Any:
        found = storage(pid)
        if isinstance(found, Storage):
            self._types[found.key] = found.dtype
        return found

    def _find(self, source: Source, size: int, keys: Any) -> dict[str, tuple[int, int]]:
        """Key -> (offset of its numbers in the file, bytes)."""
        starts: dict[str, tuple[int, int]] = {}
        for entry in keys if isinstance(keys, list) else ():
            dtype = self._types.get(str(entry)) if isinstance(entry, (str, int)) else None
            if dtype is None:
                raise DamagedError("it stores numbers that no tensor refers to")
            count = source.number(_COUNT) * SIZES[dtype]
            if count > source.left:
                raise DamagedError("it ends in the middle of a tensor")
            starts[str(entry)] = (size - source.left, count)
            source.file.seek(count, io.SEEK_CUR)
            source.left -= count
        return starts

    def numbers(self, of: Storage, start: int, count: int) -> bytes:
        """`count` bytes of a storage from byte `start` on.

        Raises:
            DamagedError: it is not in the file, or ends before.
        """
        offset, size = self._starts.get(of.key, (0, 0))
        start += of.start * SIZES[of.dtype]
        if start + count > size:
            raise DamagedError("a tensor lies outside its storage")
        with opened(self.path) as file:
            file.seek(offset + start)
            return file.read(count)

    def position(self, of: Storage, start: int) -> int:
        """Where in the file byte `start` of a storage lies.

        Raises:
            DamagedError: it is not in the file.
        """
        if of.key not in self._starts:
            raise DamagedError("a tensor lies outside its storage")
        return self._starts[of.key][0] + of.start * SIZES[of.dtype] + start
