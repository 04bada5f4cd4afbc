"""What a pickle describes, as inert records: names of classes, their arguments, tensors by address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class DamagedError(ValueError):
    """The bytes do not describe what they claim to; the text is one clause for a person."""


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function. It is never looked up, let alone called."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Opaque:
    """An object of a class that stays unknown: what it was made from, compared by identity.

    Attributes:
        maker: the class, or whatever the pickle said to call.
        args: what it was to be called with.
        state: its attributes, where the pickle gives them as a dict.
        given: what it was to be set to, where that is a tuple (a numpy array's shape, type and bytes).
        items: what was set by key (a subclass of dict).
        elements: what was appended (a subclass of list, of set).
    """

    __slots__ = ("args", "elements", "given", "items", "maker", "state")

    def __init__(self, maker: Any, args: Any = ()) -> None:
        self.maker = maker
        self.args = args
        self.state: dict[Any, Any] = {}
        self.given: Any = None
        self.items: dict[Any, Any] = {}
        self.elements: list[Any] = []

    @property
    def kind(self) -> str:
        """The class's own name ("BatchNorm2d"), or "" where it is not even that."""
        return self.maker.name.rpartition(".")[2] if isinstance(self.maker, Global) else ""

    @property
    def home(self) -> str:
        """The module that defines the class, or ""."""
        return self.maker.module if isinstance(self.maker, Global) else ""


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in the file that tensors are views of.

    Attributes:
        key: its name in the file.
        dtype: "float32", ...; "uint8" where it is untyped.
        numel: how many elements of that type.
        start: first element within `key`, where the storage is itself a view (old files).
    """

    key: str
    dtype: str
    numel: int
    start: int = 0


UNINITIALISED = "uninitialised"


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A tensor by its address; the numbers are read when somebody asks.

    Attributes:
        storage: where its numbers are; None where they are not numbers of their own in the file.
        dtype: torch's name of the type without the "torch.".
        shape, strides: in elements.
        offset: of the first element, in elements of `dtype` from the storage's start.
        layout: "strided", or what is not read: "quantised", "sparse", "meta", "pickled" (inside a
            pickle of its own), "uninitialised" (of a lazy layer), "other" (of an unknown type).
    """

    storage: Storage | None
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] = ()
    offset: int = 0
    layout: str = "strided"

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def is_float(self) -> bool:
        """Whether it holds plain real floating-point numbers that can be read."""
        return self.layout == "strided" and self.dtype in FLOATS


def key(value: Any) -> Any:
    """A key that is cheap to hash: scalars, flat tuples of them, anything else by identity."""
    if isinstance(value, tuple) and len(value) <= 16:
        return value if all(_is_small(v) for v in value) else Opaque(None, value)
    return value if _is_small(value) or isinstance(value, Opaque) else Opaque(None, value)


def _is_small(value: Any) -> bool:
    if type(value) is int:
        return value.bit_length() <= 64
    return isinstance(value, (str, int, float, bool, bytes, type(None), Global))


SIZES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
    "complex128": 16,
    "complex64": 8,
    "complex32": 4,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint64": 8,
    "uint32": 4,
    "uint16": 2,
    "uint8": 1,
    "bool": 1,
    "qint8": 1,
    "quint8": 1,
    "qint32": 4,
    "quint4x2": 1,
    "quint2x4": 1,
}
"""Bytes an element, by torch's name of the type."""

FLOATS = frozenset(name for name in SIZES if "float" in name)

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
}
"""Class of a storage -> type of its elements (`torch.storage`, which old files name)."""
