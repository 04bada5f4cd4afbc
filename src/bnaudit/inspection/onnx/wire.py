"""The protobuf wire format, walked in place: what nobody asks for is never read from disk.

A message is a sequence of fields: a varint tag (field number << 3 | wire type), then the value. Weights
are length-delimited fields like any other, so a walk over a memory-mapped file skips them by their length.
See https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 64
_SINGLE = 0x7F
"""Varints up to this are one byte: nearly all tags and lengths, worth a call each."""


class DamagedError(Exception):
    """The bytes are no protobuf message."""


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Each field's number and value in the order of the bytes.

    Varints come as unsigned integers, the other types as views of their bytes. Groups, which ONNX has
    never used, count as damage.

    Raises:
        DamagedError: the bytes end within a field, or are not of this format.
    """
    for number, value, _, _ in spans(data):
        yield number, value


def spans(data: memoryview) -> Iterator[tuple[int, int | memoryview, int, int]]:
    """The same with the position of the field's tag and of its end."""
    position, size = 0, len(data)
    while position < size:
        start = position
        tag, position = data[position], position + 1
        if tag > _SINGLE:
            tag, position = _varint(data, start)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise DamagedError
        if kind == VARINT:
            value, position = _varint(data, position)
            yield number, value, start, position
            continue
        if kind == DELIMITED:
            if position >= size:
                raise DamagedError
            length, position = data[position], position + 1
            if length > _SINGLE:
                length, position = _varint(data, position - 1)
        elif kind in {FIXED64, FIXED32}:
            length = 8 if kind == FIXED64 else 4
        else:
            raise DamagedError
        end = position + length
        if end > size:
            raise DamagedError
        yield number, data[position:end], start, end
        position = end


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    try:
        for shift in range(0, _LONGEST_VARINT + 6, 7):
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
    except IndexError:
        pass
    raise DamagedError


def varints(value: int | memoryview) -> list[int]:
    """A repeated integer field as it comes: one value, or several packed into one field."""
    if isinstance(value, int):
        return [value]
    found, position = [], 0
    while position < len(value):
        item, position = _varint(value, position)
        found.append(item)
    return found


def signed(value: int) -> int:
    """An int64 from the unsigned integer that its varint spells."""
    return value - 2**64 if value >= 2**63 else value


def text(value: int | memoryview) -> str:
    """A string field. ONNX strings are UTF-8; what is not becomes the replacement character."""
    return message(value).tobytes().decode("utf-8", errors="replace")


def message(value: int | memoryview) -> memoryview:
    """The bytes of a length-delimited field.

    Raises:
        DamagedError: the field has another wire type than its number says.
    """
    if isinstance(value, int):
        raise DamagedError
    return value


def integer(value: int | memoryview) -> int:
    """A varint field as an int64.

    Raises:
        DamagedError: the field has another wire type than its number says.
    """
    if not isinstance(value, int):
        raise DamagedError
    return signed(value)


def real(value: int | memoryview) -> float:
    """A fixed 32-bit field as a float.

    Raises:
        DamagedError: the field has another wire type than its number says.
    """
    view = message(value)
    if len(view) != 4:
        raise DamagedError
    return float(struct.unpack("<f", view)[0])
