"""The numbers of a tensor, in float64, from the bytes of its storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from bnaudit.load.pickles.objects import SIZES, DamagedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bnaudit.load.pickles.objects import Storage, StoredTensor

_EXPANDED = 1 << 24
"""A tensor may have more elements than its storage (`expand`), but not memory's worth of them."""

_NUMPY = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint8": "u1",
    "bool": "u1",
}

# Exponent bits, mantissa bits, bias, and which codes are not numbers; OCP 8-bit formats and the
# variants without negative zero ("fnuz"), https://arxiv.org/abs/2209.05433 and /2206.02915.
_FLOAT8 = {
    "float8_e4m3fn": (4, 3, 7),
    "float8_e5m2": (5, 2, 15),
    "float8_e4m3fnuz": (4, 3, 8),
    "float8_e5m2fnuz": (5, 2, 16),
}


class TensorFile(Protocol):
    """A file that tensors are views of."""

    @property
    def big_endian(self) -> bool:
        """How its numbers are stored."""

    def numbers(self, of: Storage, start: int, count: int) -> bytes:
        """`count` bytes of a storage from byte `start` on."""


@runtime_checkable
class PlacedFile(TensorFile, Protocol):
    """One whose numbers stand in it as they are, so that they can be written over."""

    def position(self, of: Storage, start: int) -> int:
        """Where in the file byte `start` of a storage lies."""


def read_tensor(file: TensorFile, tensor: StoredTensor) -> NDArray[np.float64]:
    """The elements of a tensor of real numbers, in its shape.

    Raises:
        DamagedError: it lies outside its storage, or its type is not one of numbers.
    """
    if tensor.storage is None or tensor.layout != "strided":
        raise DamagedError(f"a {tensor.layout} tensor cannot be read")
    width = SIZES[tensor.dtype]
    empty = 0 in tensor.shape
    last = (
        0 if empty else sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    )
    span = 0 if empty else last + 1
    if tensor.numel > max(span, _EXPANDED):
        raise DamagedError("a tensor of it has an impossible shape")
    raw = file.numbers(tensor.storage, tensor.offset * width, span * width)
    flat = decode(raw, tensor.dtype, big_endian=file.big_endian)
    if len(flat) < span:
        raise DamagedError("a tensor lies outside its storage")
    strides = tuple(8 * s for s in tensor.strides)
    view = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)
    return flat.reshape(tensor.shape) if view.flags.c_contiguous else view.copy()


def decode(raw: bytes, dtype: str, *, big_endian: bool = False) -> NDArray[np.float64]:
    """Numbers out of bytes.

    Args:
        raw: the bytes.
        dtype: torch's name of their type.
        big_endian: their order.

    Raises:
        DamagedError: the type is not one of real numbers.
    """
    order = ">" if big_endian else "<"
    if dtype in _NUMPY:
        return np.frombuffer(raw, order + _NUMPY[dtype]).astype(np.float64)
    if dtype == "bfloat16":  # the upper half of a float32
        half = np.frombuffer(raw, f"{order}u2").astype(np.uint32)
        return (half << 16).view(np.float32).astype(np.float64)
    if dtype == "float8_e8m0fnu":
        exponents = np.frombuffer(raw, np.uint8)
        return np.where(exponents == 255, np.nan, np.exp2(exponents.astype(np.float64) - 127))
    if dtype not in _FLOAT8:
        raise DamagedError(f"numbers of type {dtype} cannot be read")
    return _float8_values(dtype)[np.frombuffer(raw, np.uint8)]


def _float8_values(dtype: str) -> NDArray[np.float64]:
    """The value of each of the 256 codes."""
    exponent_bits, mantissa_bits, bias = _FLOAT8[dtype]
    code = np.arange(256)
    exponent = (code >> mantissa_bits) & ((1 << exponent_bits) - 1)
    fraction = (code & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    normal = np.where(exponent > 0, 1.0 + fraction, fraction)
    values = np.ldexp(normal, np.maximum(exponent, 1) - bias)
    values = np.where(code >= 128, -values, values)
    if dtype.endswith("fnuz"):
        values[128] = np.nan
    elif dtype == "float8_e4m3fn":
        values[[127, 255]] = np.nan
    else:
        values[[124, 252]] = np.inf, -np.inf
        values[[125, 126, 127, 253, 254, 255]] = np.nan
    result: NDArray[np.float64] = values
    return result
