"""Local functions into the graph, by onnx's own inliner. Whether that would end is found out before."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING

from onnx import ModelProto, inliner

from bnaudit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from onnx import NodeProto

    Key = tuple[str, str]

_MOST = 2**20
"""Nodes behind the inlining; a chain of functions that call the next one twice has no end of them."""


def all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Nodes and those of their subgraphs, in the order of the file."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from all_nodes(graph.node)


def inlined(path: Path, model: ModelProto) -> ModelProto:
    """The model with each call of a local function replaced by that function's nodes.

    Args:
        path: the file, for messages.
        model: best without its weights: the inliner copies everything that it is given, twice.

    Raises:
        InputError: the functions cannot be inlined.
    """
    reason = _endless(model)
    error: Exception | None = None
    if reason is None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return inliner.inline_local_functions(model)
        except Exception as raised:  # onnx has exceptions of its own for each of its parts
            error = raised
    raise InputError(
        f"{path}: its local functions cannot be inlined" + (f" ({reason})" if reason else ""),
        hint="is the file damaged?",
    ) from error


def _endless(model: ModelProto) -> str | None:
    """Why the inlining would not end, or not in this memory."""
    bodies: dict[Key, list[NodeProto]] = {}
    for function in model.functions:
        if (function.domain, function.name) in bodies:
            return f"it has two functions {function.name!r}"
        bodies[function.domain, function.name] = list(all_nodes(function.node))
    calls = {key: Counter((n.domain, n.op_type) for n in nodes) for key, nodes in bodies.items()}
    sizes: dict[Key, int] = {}
    open_: dict[Key, None] = {}
    waiting = list(bodies)
    while waiting:
        key = waiting[-1]
        inner = [called for called in calls[key] if called in bodies and called not in sizes]
        if key in sizes or not inner:
            waiting.pop()
            open_.pop(key, None)
            sizes[key] = sum(sizes.get(called, 1) * n for called, n in calls[key].items())
            continue
        open_[key] = None
        if any(called in open_ for called in inner):
            return f"{key[1]!r} calls itself"
        waiting += inner
    graph = Counter((node.domain, node.op_type) for node in all_nodes(model.graph.node))
    if sum(sizes.get(called, 1) * n for called, n in graph.items()) > _MOST:
        return "they call each other without end"
    return None
