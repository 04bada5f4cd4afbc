"""Bytes on disk into a protobuf whose weights are in memory, or one clear line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import GraphProto, ModelProto, TensorProto

from bnaudit.errors import InputError
from bnaudit.files import content, opened
from bnaudit.load.onnx.external import DAMAGED_HINT, cut_off, inside, span, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PROTOBUF_LIMIT = 2**31
_GIT_LFS = b"version https://git-lfs"


def read_model(path: Path) -> ModelProto:
    """Parses the file and brings its external weights in.

    Args:
        path: the `.onnx` file, whatever it is called.

    Raises:
        InputError: it cannot be read or parsed, holds no graph, or external weights are missing,
            too short, or point outside the file's own folder.
    """
    data, model = _bytes(path), ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise InputError(
            f"{path}: not an ONNX file, or a damaged one", hint=DAMAGED_HINT
        ) from error
    if not model.HasField("graph") or not model.graph.node:
        raise InputError(
            f"{path}: the ONNX graph has no nodes",
            hint="nothing is computed in this file: export the network again",
        )
    tensors = list(_graph_tensors(model.graph))
    nodes = (node for function in model.functions for node in function.node)
    tensors += [attribute.t for node in nodes for attribute in node.attribute]
    for tensor in tensors:
        if tensor.data_location == TensorProto.EXTERNAL:
            _bring_in(path, tensor)
    return model


def _bytes(path: Path) -> bytes:
    try:
        data = content(path)
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


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _graph_tensors(attribute.g)


def _bring_in(path: Path, tensor: TensorProto) -> None:
    """Replaces a reference into another file by that file's bytes."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    file = inside(path, location)
    offset, length = span(path, entries)
    try:
        with opened(file) as handle:
            handle.seek(offset)
            data = handle.read() if length < 0 else handle.read(length)
    except OSError as error:
        raise unreadable(path, location, error) from error
    if length >= 0 and len(data) < length:
        raise cut_off(path, location)
    tensor.raw_data = data
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]
