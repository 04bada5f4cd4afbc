"""The numbers of a stored tensor, read from the file only when somebody wants them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.files import opened
from bnaudit.inspection.onnx import wire
from bnaudit.load.onnx.external import cut_off, inside, span, unreadable

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.inspection.onnx.messages import Tensor

_FLOAT, _FLOAT16, _DOUBLE, _BFLOAT16 = 1, 10, 11, 16

DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
}
"""TensorProto.DataType -> numpy's name, as far as there is one."""

FLOATING = frozenset({_FLOAT, _FLOAT16, _DOUBLE, _BFLOAT16})

_MOST = 2**22
"""A vector over channels or a shape is never longer; a weight is nothing to unpack here."""

_RAW = {_FLOAT: "f", _FLOAT16: "e", _DOUBLE: "d", _BFLOAT16: "H", 6: "i", 7: "q"}


def numbers(path: Path, tensor: Tensor) -> tuple[float, ...] | None:
    """The tensor's elements, flattened.

    None where their type is neither float nor int, or there are too many for a vector over channels.

    Args:
        path: the model file; external bytes lie beside it.
        tensor: what to read.

    Raises:
        InputError: the tensor does not hold as many elements as its shape says.
    """
    code = _RAW.get(tensor.kind)
    if code is None or tensor.size > _MOST:
        return None
    if tensor.fill is not None:
        return (tensor.fill,) * tensor.size
    try:
        values = _decoded(path, tensor, code)
    except (struct.error, wire.DamagedError) as error:
        raise _mismatch(path, tensor) from error
    if len(values) != tensor.size:
        raise _mismatch(path, tensor)
    return values


def _decoded(path: Path, tensor: Tensor, code: str) -> tuple[float, ...]:
    raw = external_bytes(path, tensor) if tensor.is_external else tensor.raw
    if raw is not None:
        return _widened(tensor.kind, _unpack(raw, code))
    if tensor.kind == _FLOAT:
        return _packed(tensor.floats, "f")
    if tensor.kind == _DOUBLE:
        return _packed(tensor.doubles, "d")
    words = [item for value in tensor.integers for item in wire.varints(value)]
    if tensor.kind in {_FLOAT16, _BFLOAT16}:  # 16 bits in the low half of an integer
        code = "e" if tensor.kind == _FLOAT16 else "H"
        data = struct.pack(f"<{len(words)}H", *(word & 0xFFFF for word in words))
        return _widened(tensor.kind, _unpack(memoryview(data), code))
    return tuple(float(wire.signed(word)) for word in words)


def _unpack(raw: memoryview, code: str) -> tuple[float, ...]:
    size = struct.calcsize(code)
    if len(raw) % size:
        raise wire.DamagedError
    return struct.unpack(f"<{len(raw) // size}{code}", raw)


def _widened(kind: int, values: tuple[float, ...]) -> tuple[float, ...]:
    """bfloat16 is the upper half of a float32."""
    if kind != _BFLOAT16:
        return tuple(map(float, values))
    data = struct.pack(f"<{len(values)}I", *(int(value) << 16 for value in values))
    return struct.unpack(f"<{len(values)}f", data)


def _packed(parts: list[int | memoryview], code: str) -> tuple[float, ...]:
    found: list[float] = []
    for part in parts:
        found += _unpack(wire.message(part), code)
    return tuple(found)


def external_bytes(path: Path, tensor: Tensor) -> memoryview:
    """The tensor's bytes in the file beside the model.

    Raises:
        InputError: they are missing, cut off, or outside the model's own folder.
    """
    file = external_file(path, tensor)
    location = tensor.external.get("location", "")
    offset, length = span(path, tensor.external)
    expected = tensor.size * struct.calcsize(_RAW[tensor.kind])
    try:
        with opened(file) as handle:
            handle.seek(offset)
            # Never as much as the file asks for: only as much as its shape can hold.
            data = handle.read(max(expected, 0))
    except OSError as error:
        raise unreadable(path, location, error) from error
    if length not in {-1, expected}:
        raise _mismatch(path, tensor)
    if len(data) < expected:
        raise cut_off(path, location)
    return memoryview(data)


def external_file(path: Path, tensor: Tensor) -> Path:
    """Where the tensor's bytes are, never outside the model's folder.

    Raises:
        InputError: the file is not there, or the path leads elsewhere.
    """
    location = tensor.external.get("location", "")
    file = inside(path, location)
    try:
        file.stat()
    except OSError as error:
        raise unreadable(path, location, error) from error
    return file


def _mismatch(path: Path, tensor: Tensor) -> InputError:
    return InputError(
        f"{path}: initializer {tensor.name!r} does not hold what its type and shape say",
        hint="the file is damaged, or was edited by hand: export it again",
    )
