"""Local functions into the graph, by onnx's own inliner: it is imported only for files that have any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.inspection.onnx import wire
from bnaudit.inspection.onnx.messages import Graph, extend_graph

if TYPE_CHECKING:
    from pathlib import Path

    from bnaudit.inspection.onnx.messages import Model

_GRAPH, _INITIALIZER = 7, 5


def inline(path: Path, model: Model, data: memoryview) -> None:
    """Replaces the nodes of `model.graph` by those that the inliner makes of the file.

    The inliner copies everything it is given, twice: it gets the file without its weights.

    Args:
        path: the file, for messages.
        model: parsed from `data`; its graph is changed.
        data: the file.

    Raises:
        InputError, DamagedError: the functions cannot be inlined.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import ModelProto

    from bnaudit.load.onnx.functions import inlined

    light = ModelProto()
    try:
        light.ParseFromString(_without_weights(data))
    except DecodeError as error:
        raise wire.DamagedError from error
    whole = inlined(path, light).SerializeToString()
    graph = Graph()
    for number, value in wire.fields(memoryview(whole)):
        if number == _GRAPH:
            extend_graph(graph, wire.message(value))
    graph.initializers = model.graph.initializers
    model.graph = graph


def _without_weights(data: memoryview) -> bytes:
    kept = bytearray()
    for number, value, start, end in wire.spans(data):
        if number != _GRAPH:
            kept += data[start:end]
            continue
        inner = wire.message(value)
        graph = b"".join(
            inner[first:last].tobytes()
            for field, _, first, last in wire.spans(inner)
            if field != _INITIALIZER
        )
        kept += bytes([_GRAPH << 3 | wire.DELIMITED]) + _varint(len(graph)) + graph
    return bytes(kept)


def _varint(value: int) -> bytes:
    spelled = bytearray()
    while value > 0x7F:
        spelled.append(value & 0x7F | 0x80)
        value >>= 7
    spelled.append(value)
    return bytes(spelled)
