"""safetensors: a JSON header of names, types, shapes and offsets, then the bytes.

Read here rather than with its library: the format is one page, and neither torch nor a further
dependency is needed. https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING, Any

from bnaudit.errors import InputError
from bnaudit.files import opened
from bnaudit.load.pickles.objects import SIZES, DamagedError, Storage, StoredTensor
from bnaudit.load.sniff import FileKind
from bnaudit.load.weights.shards import open_shards
from bnaudit.load.weights.stored import COPY_AGAIN, StoredFile, dense, weight_file

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.load.weights.model import WeightFile

_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
_HEADER_LIMIT = 100_000_000  # the format's own
_UNKNOWN = "other"


def read_safetensors(path: Path) -> WeightFile:
    """The floating-point tensors of a file; the order in it is not the network's.

    Raises:
        InputError: the header is damaged, or disagrees with the file's size.
    """
    return weight_file(open_safetensors(path), ordered=False, layouts={})


def open_safetensors(path: Path) -> StoredFile:
    """A file, or the files of an index, by names.

    Raises:
        InputError: a header is damaged, or disagrees with its file's size.
    """
    return open_shards(path, _open)


class _Data:
    """The bytes behind the header; every tensor is a storage of its own."""

    big_endian = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[str, tuple[int, int]] = {}

    def numbers(self, of: Storage, start: int, count: int) -> bytes:
        """`count` bytes of a tensor from byte `start` on."""
        offset, size = self.places[of.key]
        if start + count > size:
            raise DamagedError(f"the tensor {of.key!r} is too short")
        with opened(self.path) as file:
            file.seek(offset + start)
            return file.read(count)

    def position(self, of: Storage, start: int) -> int:
        """Where in the file byte `start` of a tensor lies."""
        return self.places[of.key][0] + start


def _open(path: Path) -> StoredFile:
    header, start, size = _header(path)
    data = _Data(path)
    tensors: dict[str, StoredTensor] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        label, shape, begin, end = _entry(path, name, entry)
        if not 0 <= begin <= end <= size - start:
            raise InputError(f"{path}: the tensor {name!r} lies outside the file", hint=COPY_AGAIN)
        dtype = _TYPES.get(label)
        if dtype is None:
            tensors[name] = StoredTensor(None, label, shape, layout=_UNKNOWN)
            continue
        if prod(shape) * SIZES[dtype] != end - begin:
            raise InputError(f"{path}: the tensor {name!r} has another size", hint=COPY_AGAIN)
        data.places[name] = (start + begin, end - begin)
        tensors[name] = dense(name, dtype, shape)
    metadata = header.get("__metadata__")
    top = metadata if isinstance(metadata, dict) else {}
    return StoredFile(path, FileKind.SAFETENSORS, "safetensors", tensors, (data,), (path,), top=top)


def _header(path: Path) -> tuple[dict[str, Any], int, int]:
    """(header, offset of the first byte of data, size of the file)."""
    size = path.stat().st_size
    with opened(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_HEADER_LIMIT, size - 8):
            raise InputError(f"{path}: its header is longer than the file", hint=COPY_AGAIN)
        text = file.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its safetensors header is not JSON", hint=COPY_AGAIN) from error
    if not isinstance(header, dict):
        raise InputError(f"{path}: its safetensors header is not an object", hint=COPY_AGAIN)
    return header, 8 + length, size


def _entry(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
        valid = isinstance(dtype, str) and all(type(n) is int and n >= 0 for n in numbers)
    except (TypeError, KeyError, ValueError):
        valid = False
    if not valid or len(shape) > 64:
        raise InputError(f"{path}: the header entry of {name!r} is damaged", hint=COPY_AGAIN)
    return dtype, tuple(shape), begin, end
