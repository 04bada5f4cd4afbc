"""numpy's arrays by name: a .npz archive, and pickles of them (Paddle's .pdparams, Detectron's .pkl).

Neither numpy's own readers nor a pickle's own code is run: headers are parsed as literals, pickles are read
as data by `load.pickles`. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import ast
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

from bnaudit.errors import InputError
from bnaudit.files import opened
from bnaudit.load.pickles.checkpoint import explained
from bnaudit.load.pickles.entries import find_entry, mapping
from bnaudit.load.pickles.machine import Machine
from bnaudit.load.pickles.objects import SIZES, DamagedError, Global, Opaque, Storage, StoredTensor
from bnaudit.load.pickles.source import Source
from bnaudit.load.sniff import FileKind
from bnaudit.load.weights.stored import StoredFile, dense, weight_file

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.load.weights.model import WeightFile

_TYPES = {
    "f8": "float64",
    "f4": "float32",
    "f2": "float16",
    "i8": "int64",
    "i4": "int32",
    "i2": "int16",
    "i1": "int8",
    "u8": "uint64",
    "u4": "uint32",
    "u2": "uint16",
    "u1": "uint8",
    "b1": "bool",
}
_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 1 << 16
_DEEPEST = 4
_MOST_ENTRIES = 200_000


class _Members:
    """The numbers of arrays that are members of a zip file; a storage's key is the member's name."""

    big_endian = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.starts: dict[str, int] = {}

    def numbers(self, of: Storage, start: int, count: int) -> bytes:
        """`count` bytes of an array from byte `start` on."""
        with zipfile.ZipFile(self.path) as archive, archive.open(of.key) as member:
            member.seek(self.starts[of.key] + start)
            return member.read(count)


def read_npz(path: Path) -> WeightFile:
    """The floating-point arrays of a .npz archive, in its order.

    Raises:
        InputError: it is damaged.
    """
    return weight_file(open_npz(path), ordered=True, layouts={})


def open_npz(path: Path) -> StoredFile:
    """The arrays of a .npz archive by name.

    Raises:
        InputError: it is damaged.
    """
    members = _Members(path)
    tensors: dict[str, StoredTensor] = {}
    with explained(path, "numpy archive"):
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    with archive.open(entry) as member:
                        header, start = _header(member)
                    name = entry.filename.removesuffix(".npy")
                    tensor = _tensor(entry.filename, header)
                    if (
                        tensor.storage
                        and start + tensor.numel * SIZES[tensor.dtype] > entry.file_size
                    ):
                        raise DamagedError(f"the array {name!r} is too short")
                    members.starts[entry.filename] = start
                    tensors[name] = tensor
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
            raise DamagedError("its zip file is broken") from error
    return StoredFile(path, FileKind.ARRAYS, "npz", tensors, (members,), (path,))


def _header(member: Any) -> tuple[Any, int]:
    """(descr, fortran_order, shape) of an array as a dict, and where its numbers begin."""
    start = member.read(8)
    wide = start[6:7] > b"\x01"
    size = member.read(4 if wide else 2)
    length = int.from_bytes(size, "little")
    if not start.startswith(_MAGIC) or length > _LONGEST_HEADER:
        raise DamagedError("a member of it is no numpy array")
    try:
        return ast.literal_eval(member.read(length).decode("latin-1").strip()), 8 + len(
            size
        ) + length
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise DamagedError("the header of an array makes no sense") from error


def _tensor(key: str, header: Any) -> StoredTensor:
    """The record of an array; one of objects, texts or big-endian numbers is not read."""
    try:
        shape, turned = tuple(header["shape"]), bool(header["fortran_order"])
        descr = header["descr"]
    except (TypeError, KeyError) as error:
        raise DamagedError("the header of an array makes no sense") from error
    if not all(type(size) is int and size >= 0 for size in shape):
        raise DamagedError("an array of it has an impossible shape")
    dtype = _TYPES.get(descr[1:]) if isinstance(descr, str) and descr[:1] in "<|" else None
    if dtype is None:
        return StoredTensor(None, "other", shape, layout="other")
    return dense(key, dtype, shape, turned=turned)


class _Kept:
    """The numbers of pickled arrays, as far as they are short enough to be anybody's channels."""

    big_endian = False

    def __init__(self) -> None:
        self.data: list[bytes] = []

    def numbers(self, of: Storage, start: int, count: int) -> bytes:
        """`count` bytes of an array from byte `start` on."""
        return self.data[int(of.key)][start : start + count]


def open_pickled(path: Path) -> StoredFile:
    """The arrays of a pickle by name, wherever in it they are.

    Raises:
        InputError: it is damaged, or holds no named arrays.
    """
    kept = _Kept()
    with explained(path, "pickle"), opened(path) as file:
        content = Machine(Source(file, path.stat().st_size), _no_storage).load()
        plain = _Arrays(kept).named(content, 0)
    try:
        with explained(path, "pickle"):
            entry = find_entry(plain)
    except TypeError:
        entry = None
    if entry is None or not entry.tensors:
        raise InputError(f"{path}: a pickle without named arrays, not a model", hint=PICKLE_HINT)
    beside = f" (beside it: {', '.join(entry.beside)})" if entry.beside else ""
    notes = (f"read from its entry {entry.path!r}{beside}",) if entry.path else ()
    return StoredFile(path, FileKind.PICKLE, "pickle", entry.tensors, (kept,), (path,), notes=notes)


PICKLE_HINT = "of a torch network save torch.save(net.state_dict(), path)"


def _no_storage(_: Any) -> Any:
    raise DamagedError("it refers to numbers outside of it")


class _Arrays:
    """Arrays into tensors, in a copy of the mappings of what was pickled; steps are counted."""

    def __init__(self, kept: _Kept) -> None:
        self._kept = kept
        self._left = _MOST_ENTRIES

    def named(self, content: Any, depth: int) -> Any:
        found = mapping(content)
        if found is None or depth > _DEEPEST:
            return self._array(content)
        copy: dict[Any, Any] = {}
        for name, value in found.items():
            self._left -= 1
            if self._left < 0:
                raise DamagedError("it has more entries than any network")
            copy[name] = self.named(value, depth + 1)
        return copy

    def _array(self, value: Any) -> Any:
        """A tensor for what numpy's two ways of pickling say of an array, anything else as it is."""
        if not isinstance(value, Opaque) or not isinstance(value.maker, Global):
            return value
        given: Any = None
        if value.maker.name == "_reconstruct" and isinstance(value.given, tuple):
            _, shape, dtype, turned, data = (*value.given, *[None] * 5)[:5]
            given = shape, dtype, bool(turned), data
        elif value.maker.name == "_frombuffer" and len(value.args) == 4:
            data, dtype, shape, order = value.args
            given = shape, dtype, order == "F", data
        if given is None:
            return value
        shape, dtype, turned, data = given
        kind, order = _dtype(dtype)
        if isinstance(data, Opaque) and data.kind == "encode" and data.args[1:] == ("latin1",):
            data = str(data.args[0]).encode("latin-1", "replace")  # how protocol 2 writes bytes
        sizes = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if not sizes or not isinstance(data, bytes):
            return value
        if kind is None:
            return StoredTensor(None, "other", shape, layout="other")
        if order == ">":
            width = SIZES[kind]
            whole = data[: len(data) - len(data) % width]
            data = b"".join(whole[i : i + width][::-1] for i in range(0, len(whole), width))
        self._kept.data.append(data)
        return dense(str(len(self._kept.data) - 1), kind, shape, turned=turned)


def _dtype(value: Any) -> tuple[str | None, str]:
    """(torch's name of a numpy dtype, "<" or ">") as it was pickled: dtype("f4"), then its state."""
    if not isinstance(value, Opaque) or value.kind != "dtype" or not value.args:
        return None, "<"
    state = value.given
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    return _TYPES.get(str(value.args[0]).lstrip("<>|=")), str(order)
