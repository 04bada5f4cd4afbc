"""Checksums of a zip file whose members were written over in place, their sizes unchanged.

They stand in the central directory, and in front of the member or behind it, as the writer pleased.
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3
"""

from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LOCAL, _CENTRAL = 30, 46
_LOCAL_SUM, _CENTRAL_SUM = 14, 16
_BEHIND = b"PK\x07\x08"
_BLOCK = 1 << 20


def renew_checksums(path: Path, written: Iterable[tuple[int, int]]) -> None:
    """Makes the checksums of the members that hold written bytes those of what they hold now.

    Args:
        path: the file; its members are stored as they are.
        written: offset and length of what was written.
    """
    places = sorted(start for start, _ in written)
    with zipfile.ZipFile(path) as archive:
        members, directory = archive.infolist(), archive.start_dir
    with path.open("r+b") as file:
        entry = directory
        for member in members:
            file.seek(member.header_offset)
            header = file.read(_LOCAL)
            start = member.header_offset + _LOCAL + sum(_two(header, at) for at in (26, 28))
            end = start + member.file_size
            if any(start <= place < end for place in places):
                new = _sum(file, start, end).to_bytes(4, "little")
                old = member.CRC.to_bytes(4, "little")
                file.seek(entry + _CENTRAL_SUM)
                file.write(new)
                behind = end + len(_BEHIND) if _read(file, end, 4) == _BEHIND else end
                for at in (member.header_offset + _LOCAL_SUM, behind):
                    # Behind a member without such an entry stands the next one's header.
                    if _read(file, at, 4) == old and (at < start or member.flag_bits & 8):
                        file.seek(at)
                        file.write(new)
            fixed = _read(file, entry, _CENTRAL)
            entry += _CENTRAL + sum(_two(fixed, at) for at in (28, 30, 32))


def _two(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _sum(file: BinaryIO, start: int, end: int) -> int:
    found = 0
    file.seek(start)
    while start < end:
        block = file.read(min(_BLOCK, end - start))
        if not block:
            break
        found, start = zlib.crc32(block, found), start + len(block)
    return found
