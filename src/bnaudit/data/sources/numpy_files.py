"""`.npy` and `.npz`. Large arrays that are not packed are left in the file, their rows read by place."""

from __future__ import annotations

import struct
import zipfile
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch

from bnaudit.data.arrays import from_numpy
from bnaudit.data.room import free_memory
from bnaudit.data.rows import Held, Span
from bnaudit.data.sources.source import COPY_AGAIN, LARGE, Found
from bnaudit.errors import DataError
from bnaudit.files import opened

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.data.rows import Rows
    from bnaudit.data.sources.source import Wanted

MAGIC = b"\x93NUMPY"
_LOCAL, _NAMES = 30, struct.Struct("<HH")
"""Of a zip file's local header: its size, and how long the name and the extra field behind it are."""
_ENCRYPTED = 1


def is_npy(path: Path, head: bytes) -> bool:
    """Whether it is one array."""
    del path
    return head.startswith(MAGIC)


def is_npz(path: Path, head: bytes) -> bool:
    """Whether it is a zip file of arrays and nothing else."""
    if not head.startswith(b"PK"):
        return False
    with opened(path) as file, zipfile.ZipFile(file) as archive:
        return all(name.endswith(".npy") for name in archive.namelist())


def read_npy(path: Path, wanted: Wanted) -> Found:
    """The one array."""
    del wanted
    with opened(path) as file:
        file.seek(0, 2)
        size = file.tell()
        return Found({"0": _array(file, path, 0, size, str(path))}, named=False)


def read_npz(path: Path, wanted: Wanted) -> Found:
    """Its arrays by name."""
    del wanted
    arrays: dict[str, Rows] = {}
    with opened(path) as file, zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name in arrays:
                raise DataError(f"{path}: damaged: it holds {name!r} twice")
            arrays[name] = _member(file, archive, entry, path, f"{path}: {name}")
    return Found(arrays)


def _member(
    file: BinaryIO, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, subject: str
) -> Rows:
    stored = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & _ENCRYPTED
    if stored and entry.file_size >= LARGE:
        file.seek(entry.header_offset + _LOCAL - _NAMES.size)
        start = entry.header_offset + _LOCAL + sum(_NAMES.unpack(file.read(_NAMES.size)))
        return _array(file, path, start, entry.file_size, subject)
    _require_room(entry.file_size, subject)
    with archive.open(entry) as member:
        return Held(from_numpy(np.lib.format.read_array(member, allow_pickle=False), subject))


def _require_room(size: int, subject: str) -> None:
    if size > free_memory(torch.device("cpu")) // 2:
        raise DataError(
            f"{subject}: takes {size / 1e9:.1f} GB unpacked, more than there is memory for",
            hint="numpy.savez, without compression, and .npy leave the rows in the file until they are used",
        )


def _array(file: BinaryIO, path: Path, start: int, size: int, subject: str) -> Rows:
    """An array that begins at a place of the file and has so many bytes, header included."""
    file.seek(start)
    major, minor = np.lib.format.read_magic(file)
    if (major, minor) in _HEADERS:
        shape, turned, dtype = _HEADERS[major, minor](file)
        begin = file.tell()
        if dtype.hasobject:
            raise ValueError("objects")
        wanted, there = prod(shape) * dtype.itemsize, start + size - begin
        if wanted > there:
            raise DataError(
                f"{subject}: cut off: {wanted} bytes are wanted, {there} there",
                hint=COPY_AGAIN,
            )
        kept = _in_place(dtype)
        if kept is not None and shape and not turned and wanted >= LARGE:
            return Span(path, begin, shape, kept)
    _require_room(size, subject)
    file.seek(start)
    return Held(from_numpy(np.lib.format.read_array(file, allow_pickle=False), subject))


_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _in_place(dtype: np.dtype[Any]) -> torch.dtype | None:
    """PyTorch's name of numbers that stand in the file as it has them in memory."""
    if dtype.kind not in "fiub" or not dtype.isnative or dtype.itemsize > 8:
        return None
    return torch.from_numpy(np.empty(0, dtype)).dtype
