"""PyTorch's zip files: pickles and raw numbers, each a member of its own."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from bnaudit.files import opened
from bnaudit.load.pickles.machine import Machine
from bnaudit.load.pickles.objects import SIZES, DamagedError, Storage
from bnaudit.load.pickles.rebuild import storage
from bnaudit.load.pickles.source import Source

if TYPE_CHECKING:
    from pathlib import Path

MAX_PICKLE = 1 << 28
"""A pickle of names and addresses; weights are not in it."""

_WHOLE = 1 << 22
_LOCAL_HEADER = 30
_PACKED = 32
"""PyTorch packs nothing; a file that somebody packed again is not smaller by more."""


class Archive:
    """One zip file that `torch.save`, `torch.jit.save` or `torch.export.save` wrote.

    Members are found by their path below the folder that all of them are in. A member that is
    read to its end is checked against its checksum. `storages` are those that pickles have named so far.

    Raises:
        DamagedError: it is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except Exception as error:  # zipfile fails on damaged files in ways of its own
            raise DamagedError("a damaged or cut-off zip file") from error
        self._members = {
            i.filename.partition("/")[2] or i.filename: i for i in self._zip.infolist()
        }
        self._size = path.stat().st_size
        self._kept: tuple[str, bytes] = ("", b"")
        self.storages: list[Storage] = []
        order = self.small("byteorder") if "byteorder" in self else b"little"
        self.big_endian = order.strip() == b"big"

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()

    def names(self) -> tuple[str, ...]:
        """The members, in the order of the file's directory."""
        return tuple(self._members)

    def size(self, name: str) -> int:
        """Bytes of a member, unpacked; 0 where there is none."""
        return self._members[name].file_size if name in self else 0

    def small(self, name: str, limit: int = _WHOLE) -> bytes:
        """A whole member that is expected to be small.

        Raises:
            DamagedError: it is missing, damaged or larger than `limit`.
        """
        unpacked = self._member(name).file_size
        if not 0 <= unpacked <= limit or unpacked > max(_WHOLE, _PACKED * self._size):
            raise DamagedError(f"{name} inside it is too large")
        if self._kept[0] == name:
            return self._kept[1]
        try:
            data = self._zip.read(self._member(name))
        except Exception as error:  # a wrong checksum among others
            raise DamagedError(f"{name} inside it is damaged") from error
        self._kept = (name, data) if len(data) <= _WHOLE else self._kept
        return data

    def slice(self, name: str, start: int, count: int) -> bytes:
        """`count` bytes of a member from `start` on.

        Raises:
            DamagedError: the member is missing, damaged or shorter.
        """
        member = self._member(name)
        if not 0 <= start <= start + count <= member.file_size:
            raise DamagedError(f"{name} inside it is too short")
        if member.file_size <= max(_WHOLE, count):
            return self.small(name, max(_WHOLE, count))[start : start + count]
        try:
            data = self._seek(member, start, count)
        except Exception as error:
            raise DamagedError(f"{name} inside it is damaged") from error
        if len(data) < count:
            raise DamagedError(f"{name} inside it is too short")
        return data

    def unpickle(self, name: str, folder: str) -> Any:
        """The object that a member describes.

        Args:
            name: the pickle.
            folder: where the numbers of its tensors are; their storages' keys begin with it.

        Raises:
            DamagedError: it is missing or makes no sense.
        """
        size = self._member(name).file_size
        if not 0 < size <= min(MAX_PICKLE, max(_WHOLE, _PACKED * self._size)):
            raise DamagedError(f"{name} inside it is too large")

        def within(pid: Any) -> Any:
            found = storage(pid)
            if isinstance(found, Storage):
                found = replace(found, key=f"{folder}/{found.key}")
                self.storages.append(found)
            return found

        try:
            with self._zip.open(self._member(name)) as raw:
                file = cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", raw), 1 << 16))
                found = Machine(Source(file, size), within).load()
                while file.read(1 << 16):
                    pass  # the checksum is compared at the end
                return found
        except DamagedError:
            raise
        except Exception as error:
            raise DamagedError(f"{name} inside it is damaged") from error

    def numbers(self, of: Storage, start: int, count: int) -> bytes:
        """`count` bytes of a storage from byte `start` on.

        Raises:
            DamagedError: it is not in the file, damaged, or ends before.
        """
        return self.slice(of.key, of.start * SIZES[of.dtype] + start, count)

    def position(self, of: Storage, start: int) -> int:
        """Where in the file byte `start` of a storage lies.

        Raises:
            DamagedError: it is missing or packed.
        """
        member = self._member(of.key)
        if member.compress_type != zipfile.ZIP_STORED:
            raise DamagedError(f"{of.key} inside it is packed")
        with opened(self.path) as file:
            return self._start(file, member) + of.start * SIZES[of.dtype] + start

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name not in self:
            raise DamagedError(f"{name} is missing in it")
        return self._members[name]

    def _seek(self, member: zipfile.ZipInfo, start: int, count: int) -> bytes:
        if member.compress_type != zipfile.ZIP_STORED:
            with self._zip.open(member) as file:
                file.seek(start)
                return file.read(count)
        with opened(self.path) as file:
            file.seek(self._start(file, member) + start)
            return file.read(count)

    @staticmethod
    def _start(file: BinaryIO, member: zipfile.ZipInfo) -> int:
        """Where a member's bytes begin."""
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER)
        name, extra = (int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
        return member.header_offset + _LOCAL_HEADER + name + extra
