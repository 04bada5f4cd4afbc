"""Bytes on disk into a protobuf whose weights are in memory, or one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import GraphProto, ModelProto, TensorProto

from bnaudit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROTOBUF_LIMIT = 2**31
_GIT_LFS = b"version https://git-lfs"
_DAMAGED_HINT = "copy or download it again and compare the size; was the export cut off?"


def read_model(path: Path) -> ModelProto:
    """Parses the file and brings its external weights in.

    Args:
        path: the `.onnx` file, whatever it is called.

    Raises:
        InputError: it cannot be read or parsed, holds no graph, or external weights are missing,
            too short, or point outside the file's own folder.
    """
    model = _parse(path, _bytes(path))
    if not model.HasField("graph") or not model.graph.node:
        raise InputError(
            f"{path}: the ONNX graph has no nodes",
            hint="nothing is computed in this file: export the network again",
        )
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            _bring_in(path, tensor)
    return model


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not a model file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise InputError(f"{path}: the file is empty", hint="was the download or export cut off?")
    if data.startswith(_GIT_LFS):
        raise InputError(
            f"{path}: a git-lfs pointer, not the model itself", hint="run `git lfs pull` first"
        )
    if len(data) >= _PROTOBUF_LIMIT:
        raise InputError(
            f"{path}: larger than the 2 GiB that protobuf can parse",
            hint="save its weights apart: onnx.save(model, path, save_as_external_data=True)",
        )
    return data


def _parse(path: Path, data: bytes) -> ModelProto:
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise InputError(
            f"{path}: not an ONNX file, or a damaged one", hint=_DAMAGED_HINT
        ) from error
    return model


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            for attribute in node.attribute:
                yield attribute.t


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _graph_tensors(attribute.g)


def _bring_in(path: Path, tensor: TensorProto) -> None:
    """Replaces a reference into another file by that file's bytes.

    The path inside an ONNX file is data of whoever wrote it: followed blindly it reads any file of
    the user's. Only what really lies inside the model's own folder is opened.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    file = _inside(path, location)
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
    except ValueError:
        offset, length = -1, -1
    if offset < 0:
        raise InputError(
            f"{path}: its external weights {location!r} have no valid offset", hint=_DAMAGED_HINT
        )
    try:
        with file.open("rb") as handle:
            handle.seek(offset)
            data = handle.read() if length < 0 else handle.read(length)
    except OSError as error:
        raise InputError(
            f"{path}: its external weights {location!r} cannot be read ({error.strerror})",
            hint="keep the weights file next to the .onnx file, under its own name",
        ) from error
    if length >= 0 and len(data) < length:
        raise InputError(
            f"{path}: its external weights {location!r} are cut off", hint=_DAMAGED_HINT
        )
    tensor.raw_data = data
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _inside(path: Path, location: str) -> Path:
    folder = path.parent.resolve()
    file = folder / location
    escapes = not location or Path(location).is_absolute() or ".." in Path(location).parts
    if escapes or not file.resolve().is_relative_to(folder):
        raise InputError(
            f"{path}: its external weights lie outside the model's folder, which is refused",
            hint="save the model with its weights file, a real one and no link, in the same folder",
        )
    return file
