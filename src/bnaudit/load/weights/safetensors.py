"""safetensors: a JSON header of names, types, shapes and offsets, then the bytes.

Read here rather than with its library: the format is one page, and neither torch nor a further
dependency is needed. https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from bnaudit.errors import InputError
from bnaudit.load.sniff import FileKind
from bnaudit.load.weights.model import NamedTensor, WeightFile

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1}
_SIZES |= {"BOOL": 1, "U64": 8, "U32": 4, "U16": 2}
_HEADER_LIMIT = 100_000_000  # the format's own
_DAMAGED = "damaged or cut off? copy it again and compare the size"


def read_safetensors(path: Path) -> WeightFile:
    """The floating-point tensors of a file; the order in it is not the network's.

    Raises:
        InputError: the header is damaged, or disagrees with the file's size.
    """
    tensors, left_out = [], 0
    for entry in entries(path):
        if entry.dtype in _FLOATS:
            tensors.append(_named(path, entry))
        else:
            left_out += entry.dtype.startswith("F")
    notes = (f"{path}: {left_out} tensors of 8 bits or less left out",) if left_out else ()
    return WeightFile(path, FileKind.SAFETENSORS, tuple(tensors), ordered=False, notes=notes)


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the file: its type as the format writes it, and where its bytes are."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


def entries(path: Path) -> list[Entry]:
    """The header of a file.

    Raises:
        InputError: it is damaged, or disagrees with the file's size.
    """
    header, start, size = _header(path)
    found = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, begin, end = _entry(path, name, entry)
        if not 0 <= begin <= end <= size - start:
            raise InputError(f"{path}: the tensor {name!r} lies outside the file", hint=_DAMAGED)
        if dtype in _SIZES and prod(shape) * _SIZES[dtype] != end - begin:
            raise InputError(f"{path}: the tensor {name!r} has another size", hint=_DAMAGED)
        found.append(Entry(name, dtype, shape, start + begin, end - begin))
    return found


def _header(path: Path) -> tuple[dict[str, Any], int, int]:
    """(header, offset of the first byte of data, size of the file)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_HEADER_LIMIT, size - 8):
            raise InputError(f"{path}: its header is longer than the file", hint=_DAMAGED)
        text = file.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its safetensors header is not JSON", hint=_DAMAGED) from error
    if not isinstance(header, dict):
        raise InputError(f"{path}: its safetensors header is not an object", hint=_DAMAGED)
    return header, 8 + length, size


def _entry(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
        valid = isinstance(dtype, str) and all(type(n) is int and n >= 0 for n in numbers)
    except (TypeError, KeyError, ValueError):
        valid = False
    if not valid:
        raise InputError(f"{path}: the header entry of {name!r} is damaged", hint=_DAMAGED)
    return dtype, tuple(shape), begin, end


def _named(path: Path, entry: Entry) -> NamedTensor:
    def read() -> NDArray[np.float64]:
        kind, count = _FLOATS[entry.dtype], prod(entry.shape)
        raw = np.fromfile(path, dtype=kind, count=count, offset=entry.offset)
        if entry.dtype == "BF16":  # the upper half of a float32
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float64).reshape(entry.shape)

    return NamedTensor(entry.name, entry.shape, read)
