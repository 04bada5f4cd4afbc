"""Telling model files apart by their content; a wrong extension never matters."""

from __future__ import annotations

import re
import zipfile
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bnaudit.errors import InputError
from bnaudit.files import exists, is_file, opened
from bnaudit.load.index import shard_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Container


class FileKind(Enum):
    """The kinds of files that users point bnaudit at."""

    TORCHSCRIPT = "TorchScript"
    EXPORTED = "torch.export (.pt2)"
    COMPILED = "AOTInductor (.pt2)"
    PACKAGE = "torch.package"
    CHECKPOINT = "PyTorch checkpoint"
    SAFETENSORS = "safetensors"
    ONNX = "ONNX"
    ARRAYS = "numpy (.npz)"
    PICKLE = "pickle"
    KERAS = "Keras (HDF5)"
    OPENVINO = "OpenVINO IR"


_LEGACY_CHECKPOINT = bytes.fromhex("8a0a6cfc9c46f9206aa850")
_GIT_LFS = b"version https://git-lfs"
_MARKUP = re.compile(rb"(\xef\xbb\xbf)?\s*<[!?a-zA-Z]")
_SCHEME = re.compile(r"[a-z][a-z0-9]+:")
_ONNX_GRAPH = 7 << 3 | 2
_HEAD = 64
_START = 4096
_OLD_PROGRAM = "serialized_exported_program.json"
_FLATBUFFER = slice(4, 8)
_MOBILE = b"PTMF"
"""TorchScript for mobile devices, as a flatbuffer."""

# Where the mark stands, the mark, what the file is. Nothing in them can be differentiated.
_STRANGERS: tuple[tuple[slice, bytes, str], ...] = (
    (slice(0, 4), b"GGUF", "a GGUF file (llama.cpp)"),
    (_FLATBUFFER, b"TFL3", "a TensorFlow Lite file"),
    (_FLATBUFFER, b"ET12", "an ExecuTorch file (.pte)"),
    (slice(0, 8), b"\x12\x01" + bytes(6), "a file of MXNet's parameters"),
    (slice(0, 7), b"7767517", "an ncnn network (.param)"),
)

# By their names, where the content tells nothing: what the file is.
_BY_SUFFIX = {
    ".pb": "a TensorFlow graph",
    ".index": "the index of a TensorFlow checkpoint",
    ".mlmodel": "a Core ML model",
    ".pdmodel": "a program of Paddle's inference",
    ".pdiparams": "weights for Paddle's inference",
    ".caffemodel": "a Caffe model",
    ".weights": "Darknet's weights",
    ".params": "a file of MXNet's parameters",
    ".engine": "a TensorRT engine",
    ".plan": "a TensorRT engine",
    ".mnn": "an MNN model",
    ".msgpack": "a file of Flax's parameters",
}
_TF_PART = re.compile(r".*\.data-\d{5}-of-\d{5}")

# What a folder has inside -> what it is.
_FOLDERS = (
    ("saved_model.pb", "a TensorFlow SavedModel"),
    ("Manifest.json", "a Core ML package (.mlpackage)"),
    ("checkpoint", "a folder of TensorFlow's checkpoints"),
    ("coremldata.bin", "a compiled Core ML model (.mlmodelc)"),
    ("__model__", "a program of Paddle's inference"),
    ("_METADATA", "a checkpoint of Orbax (JAX)"),
)
_ELSEWHERE = (
    "audit the network it was made from: as ONNX, TorchScript or torch.export, or its weights as a "
    "checkpoint, .npz, .keras or .h5 with `bnaudit inspect`"
)
_IR = re.compile(rb"<net\s[^>]*\bversion\s*=")


def sniff(path: Path) -> FileKind:
    """What kind of model file this is.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be read, is empty, or is no model file that bnaudit knows.
    """
    try:
        with opened(path) as file:
            head = file.read(_HEAD)
            if _MARKUP.match(head) and _IR.search(head + file.read(_START)):
                return FileKind.OPENVINO
            _refuse_hopeless(path, head)
            if head.startswith(b"PK"):
                return _zip_kind(path)
            if head.lstrip().startswith(b"{") and (shards := shard_paths(path)):
                shard = shards[0]
                if shard_paths(shard) is not None:
                    raise InputError(
                        f"{path}: its part {shard.name} is an index again",
                        hint="the parts of an index are files of weights: was it edited by hand?",
                    )
                return sniff(shard)
            for kind, test in _TESTS:
                file.seek(0)
                if test(file, head):
                    return kind
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", hint=_nearby(path)) from None
    except IsADirectoryError:
        known = [what for name, what in _FOLDERS if exists(path / name)]
        known += [what for _, what in _FOLDERS if what.endswith(f"({path.suffix.lower()})")]
        empty = not any(path.iterdir())
        hint = _ELSEWHERE if known else "point bnaudit at the file inside it"
        raise InputError(
            f"{path}: is {known[0] if known else 'a folder'}, not a model file{', and empty' * empty}",
            hint="was the copy cut off?" if empty and not known else hint,
        ) from None
    except OSError as error:
        reason = error.strerror or "not a regular file"
        raise InputError(
            f"{path}: cannot be read ({reason})", hint="a model is a regular file that you may read"
        ) from error
    raise _unknown(path)


def _unknown(path: Path) -> InputError:
    """What is to be said of a file of no known format."""
    what = _BY_SUFFIX.get(path.suffix.lower())
    if _TF_PART.fullmatch(path.name):
        what = "a part of a TensorFlow checkpoint"
    if what is not None:
        return InputError(
            f"{path}: by its name {what}, which bnaudit does not read", hint=_ELSEWHERE
        )
    hint = (
        "bnaudit reads ONNX, TorchScript, torch.export, checkpoint (torch.save) and safetensors "
        "files, whatever their extension"
    )
    model = path.with_suffix("")
    if path.suffix == ".py":
        hint = f"name what makes the network in it: {path}:FACTORY"
    elif path.suffix == ".data" and is_file(model):
        hint = f"weights that {model} refers to: point bnaudit at {model}"
    return InputError(f"{path}: not a model file that bnaudit knows", hint=hint)


def _nearby(path: Path) -> str:
    folder = path.parent
    if len(path.parts) > 1 and _SCHEME.fullmatch(path.parts[0]):
        return "bnaudit reads local files: download it first"
    if path.is_symlink():
        return f"a link to {path.readlink()}, which is not there"
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return f"there is no folder {folder} either"
    close = get_close_matches(path.name, names, 1)
    if close:
        return f"did you mean {folder / close[0]}?"
    return "looked in the current folder" if folder == Path() else f"looked in {folder}"


def _refuse_hopeless(path: Path, head: bytes) -> None:
    if not head:
        raise InputError(f"{path}: the file is empty", hint="was the download or export cut off?")
    if head.startswith(_GIT_LFS):
        raise InputError(
            f"{path}: a git-lfs pointer, not the model itself", hint="run `git lfs pull` first"
        )
    if _MARKUP.match(head):
        raise InputError(
            f"{path}: an HTML or XML page, not a model",
            hint="a download link often returns a page: fetch the raw file",
        )

    for place, mark, what in _STRANGERS:
        if head[place] == mark:
            raise InputError(
                f"{path}: {what}, which bnaudit does not read",
                hint=_ELSEWHERE,
            )


def _zip_kind(path: Path) -> FileKind:
    damaged = InputError(
        f"{path}: a damaged or cut-off zip file (PyTorch's file format)",
        hint="copy or download it again and compare the size",
    )
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # zipfile fails on damaged files in ways of its own
        raise damaged from error
    if entries and min(entry.header_offset for entry in entries) > 0:
        # The index that was found is that of a zip file inside this one, which lost its own.
        raise damaged
    names = [entry.filename for entry in entries]
    inner = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return FileKind.TORCHSCRIPT
    exported = _exported_kind(inner)
    if exported is not None:
        return exported
    if ".data/extern_modules" in inner:
        return FileKind.PACKAGE
    if "data.pkl" in inner:
        return FileKind.CHECKPOINT
    if names and all(name.endswith(".npy") for name in names):
        return FileKind.ARRAYS
    if any(name.endswith(".weights.h5") for name in names):
        return FileKind.KERAS
    raise InputError(
        f"{path}: a zip file, but not one that PyTorch wrote",
        hint="point bnaudit at the model file inside it",
    )


def _exported_kind(inner: set[str]) -> FileKind | None:
    """A program (PyTorch before 2.8 wrote it at the top), or nothing but the library made of one."""
    if _OLD_PROGRAM in inner or any(n.startswith("models/") and n.endswith(".json") for n in inner):
        return FileKind.EXPORTED
    if any(n.startswith("data/aotinductor/") for n in inner):
        return FileKind.COMPILED
    return FileKind.EXPORTED if "archive_format" in inner else None


def _is_pickle(_: BinaryIO, head: bytes) -> bool:
    return head[:1] == b"\x80" and b"\x02" <= head[1:2] <= b"\x05"


def _is_hdf5(_: BinaryIO, head: bytes) -> bool:
    return head.startswith(b"\x89HDF\r\n\x1a\n")


def _is_mobile(_: BinaryIO, head: bytes) -> bool:
    return head[_FLATBUFFER] == _MOBILE


def _is_legacy_checkpoint(_: BinaryIO, head: bytes) -> bool:
    return head[:1] == b"\x80" and _LEGACY_CHECKPOINT in head[:24]  # of any pickle protocol


def _is_safetensors(file: BinaryIO, head: bytes) -> bool:
    length = int.from_bytes(head[:8], "little")
    file.seek(0, 2)
    return len(head) > 8 and head[8:9] == b"{" and length <= file.tell()


def _is_onnx(file: BinaryIO, _: bytes) -> bool:
    """Walks the top-level protobuf fields; an ONNX ModelProto has its graph in field 7."""
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    seen = False
    while file.tell() < size:
        tag = _varint(file)
        if tag is None or not 1 <= tag >> 3 <= 100:
            return False
        seen = seen or tag == _ONNX_GRAPH
        if not _skip(file, tag & 7, size):
            # A cut-off file that already showed its graph is ONNX all the same: its loader
            # knows how to say what is wrong with it.
            return seen
    return seen


def _skip(file: BinaryIO, wire_type: int, size: int) -> bool:
    if wire_type == 0:
        return _varint(file) is not None
    length = {1: 8, 5: 4}.get(wire_type)
    if wire_type == 2:
        length = _varint(file)
    if length is None:
        return False
    if length > size - file.tell():  # the length of a damaged field need not even be one of a file
        return False
    file.seek(length, 1)
    return True


def _varint(file: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None


_TESTS: tuple[tuple[FileKind, Callable[[BinaryIO, bytes], bool]], ...] = (
    (FileKind.CHECKPOINT, _is_legacy_checkpoint),
    (FileKind.TORCHSCRIPT, _is_mobile),
    (FileKind.SAFETENSORS, _is_safetensors),
    (FileKind.ONNX, _is_onnx),
    (FileKind.KERAS, _is_hdf5),
    (FileKind.PICKLE, _is_pickle),
)

_INSPECT = "`bnaudit inspect` judges the BatchNorm layers whose numbers are in it"

_NOT_RUN: dict[FileKind, tuple[str, str]] = {
    FileKind.ARRAYS: (
        "numpy arrays (.npz), not a model",
        f"sample batches go to --data; of weights {_INSPECT}",
    ),
    FileKind.PICKLE: (
        "a pickle that torch.save did not write: no network to run",
        "of a torch network save torch.save(net.state_dict(), path); of numpy arrays by name (.pdparams) "
        f"{_INSPECT}",
    ),
    FileKind.KERAS: (
        "is a Keras (HDF5) file, which bnaudit does not run",
        f"{_INSPECT}; to run the network audit it as ONNX",
    ),
    FileKind.OPENVINO: (
        "is an OpenVINO IR, which bnaudit does not run",
        f"{_INSPECT}; to run the network audit the model that it was converted from",
    ),
    FileKind.COMPILED: (
        "is an AOTInductor package: compiled machine code, without a program to differentiate",
        "audit the torch.export file, or the network, that it was compiled from",
    ),
    FileKind.PACKAGE: (
        "is a torch.package file, which is Python code to be run",
        "unpack it yourself (torch.package.PackageImporter) and call bnaudit.audit(model, ...)",
    ),
}


def require_kind(path: Path, kind: FileKind, known: Container[FileKind]) -> None:
    """Refuses a file of a kind that a command has no use for, with what there is to do.

    Raises:
        InputError: the kind is not among the known ones.
    """
    if kind not in known:
        fact, hint = _NOT_RUN[kind]
        raise InputError(f"{path}: {fact}", hint=hint)
