"""A file on disk into messages whose weights stay on disk, or one clear line."""

from __future__ import annotations

import mmap
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnaudit.errors import BnauditError, InputError, first_line
from bnaudit.files import opened as opened_file
from bnaudit.inspection.onnx import wire
from bnaudit.inspection.onnx.messages import Graph, Model, extend_graph, model_of
from bnaudit.inspection.onnx.values import external_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bnaudit.inspection.onnx.messages import Node, Tensor

WITH_SUBGRAPHS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_DEEPEST = 50
"""Graphs within graphs; a damaged file may nest without end."""


@dataclass(slots=True)
class Reading:
    """A parsed file.

    Attributes:
        path: as the user typed it.
        model: its messages; `model.graph` has the nodes after inlining local functions.
        nodes: all of them, those of subgraphs behind the node that holds them.
        initializers: by name, those of subgraphs included.
        outputs: names of the outputs of the graph and of its subgraphs.
        inner_inputs: names of the inputs of subgraphs.
        top_nodes: how many nodes the graph had as stored.
        functions: whether local functions were inlined.
        size: bytes on disk, external weights included.
    """

    path: Path
    model: Model
    nodes: list[Node] = field(default_factory=list)
    initializers: dict[str, Tensor] = field(default_factory=dict)
    outputs: set[str] = field(default_factory=set)
    inner_inputs: set[str] = field(default_factory=set)
    top_nodes: int = 0
    functions: bool = False
    size: int = 0

    @property
    def graph(self) -> Graph:
        """The main graph."""
        return self.model.graph


@contextmanager
def opened(path: Path) -> Iterator[Reading]:
    """The file's messages, usable as long as the context lasts.

    Args:
        path: the `.onnx` file, whatever it is called.

    Raises:
        InputError: it cannot be read or parsed, holds no graph, or external weights are missing or
            outside the file's own folder.
    """
    try:
        yield _reading(path, _mapped(path))
    except BnauditError:
        raise
    except wire.DamagedError as error:
        raise InputError(
            f"{path}: not an ONNX file, or a damaged one",
            hint="copy or download it again and compare the size; was the export cut off?",
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        # The wire format says nothing of how many inputs a node has, or what its attributes are.
        raise InputError(
            f"{path}: the graph is not valid ONNX ({type(error).__name__}: {first_line(error)[:120]})",
            hint="run onnx.checker.check_model on it; if that passes, report it as a bug of bnaudit",
        ) from error


def _mapped(path: Path) -> memoryview:
    """The file without reading it; the mapping goes with the last view of it."""
    try:
        with opened_file(path) as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not a model file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "empty, or not a regular file"
        raise InputError(f"{path}: cannot be read ({reason})") from error


def _reading(path: Path, view: memoryview) -> Reading:
    model = model_of(view)
    if not model.graph.nodes:
        raise InputError(
            f"{path}: the ONNX graph has no nodes",
            hint="nothing is computed in this file: export the network again",
        )
    if not any(model.opsets.values()):
        raise InputError(
            f"{path}: names no operator set", hint="damaged, or older than ONNX 1.0: export again"
        )
    reading = Reading(path, model, top_nodes=len(model.graph.nodes), size=len(view))
    if model.has_functions:
        from bnaudit.inspection.onnx.functions import inline

        inline(path, model, view)
        reading.functions = True
    _collect(reading, model.graph, 0)
    # The paths of all files beside the model are looked at, wanted or not.
    outside = [tensor for tensor in reading.initializers.values() if tensor.is_external]
    first = {tensor.external.get("location", ""): tensor for tensor in outside}
    files = {external_file(path, tensor) for tensor in first.values()}
    reading.size += sum(file.stat().st_size for file in files)
    return reading


def _collect(reading: Reading, graph: Graph, depth: int) -> None:
    if depth > _DEEPEST:
        raise wire.DamagedError
    reading.initializers.update((tensor.name, tensor) for tensor in graph.initializers)
    reading.outputs.update(value.name for value in graph.outputs)
    if depth:
        reading.inner_inputs.update(value.name for value in graph.inputs)
    for node in graph.nodes:
        reading.nodes.append(node)
        if node.op not in WITH_SUBGRAPHS:
            continue
        for attribute in node.attributes().values():
            for data in attribute.graphs:
                inner = Graph()
                extend_graph(inner, data)
                _collect(reading, inner, depth + 1)
