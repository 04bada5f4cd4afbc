"""The numbers of a vector without numpy, whose import takes longer than a whole inspection."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from bnaudit.load.pickles.objects import SIZES, DamagedError

if TYPE_CHECKING:
    from bnaudit.load.pickles.numbers import TensorFile
    from bnaudit.load.pickles.objects import StoredTensor

_CODES = {
    "float64": "d",
    "float32": "f",
    "float16": "e",
    "bfloat16": "f",
    "int64": "q",
    "int32": "i",
    "int16": "h",
    "int8": "b",
    "uint8": "B",
}


def read_vector(file: TensorFile, tensor: StoredTensor) -> tuple[float, ...]:
    """The elements of a tensor of one dimension or none, apart from dimensions of size 1.

    Raises:
        DamagedError: it lies outside its storage, or its type is not one of numbers.
    """
    code = _CODES.get(tensor.dtype)
    steps = [s for n, s in zip(tensor.shape, tensor.strides, strict=False) if n != 1]
    contiguous = tensor.layout == "strided" and steps in ([1], [])
    if code is None or tensor.storage is None or not contiguous:
        from bnaudit.load.pickles.numbers import read_tensor

        return tuple(read_tensor(file, tensor).reshape(-1).tolist())
    width = SIZES[tensor.dtype]
    count = tensor.numel
    raw = file.numbers(tensor.storage, tensor.offset * width, count * width)
    if len(raw) != count * width:
        raise DamagedError("a tensor lies outside its storage")
    if tensor.dtype == "bfloat16":
        raw = _widened(raw, big_endian=file.big_endian)
    return struct.unpack(f"{'>' if file.big_endian else '<'}{count}{code}", raw)


def _widened(raw: bytes, *, big_endian: bool) -> bytes:
    """bfloat16 is the upper half of a float32."""
    wide = bytearray(2 * len(raw))
    first = 0 if big_endian else 2
    wide[first::4] = raw[0::2]
    wide[first + 1 :: 4] = raw[1::2]
    return bytes(wide)
