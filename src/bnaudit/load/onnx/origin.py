"""What names and remedies are derived from: a node as the file has it, the exporter. Needs no onnx."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_DYNAMO_MARK = "pkg.torch"
_DYNAMO_NODE = re.compile(r"node_\w+_\d+")


@dataclass(frozen=True, slots=True)
class Origin:
    """A node as the file has it, before anything is rewritten.

    Attributes:
        op: its operator.
        name: its name in the file, often empty.
        inputs: what it reads: the names of its parameters name the layer.
        scopes: the module path a dynamo export recorded, outermost first.
        eps: of a BatchNorm, where the node says one.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    scopes: str
    eps: float | None = None

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.op})" if self.name else f"a {self.op} node"


def exporter_of(
    producer: str, domains: Iterable[str], nodes: Iterable[tuple[str, Iterable[str]]]
) -> str:
    """Which exporter wrote a file; which remedies apply depends on it.

    Optimisers drop the metadata that PyTorch's dynamo exporter writes, but keep the names that it gives
    to nodes.

    Args:
        producer: as the file has it.
        domains: of its operator sets.
        nodes: the name of each node, and the keys of its metadata; looked at only where needed.
    """
    name = producer.lower()
    if name == "pytorch":
        dynamo = any(domain.startswith(_DYNAMO_MARK) for domain in domains) or any(
            _DYNAMO_NODE.fullmatch(node) or any(key.startswith(_DYNAMO_MARK) for key in keys)
            for node, keys in nodes
        )
        return "torch.onnx dynamo" if dynamo else "torch.onnx TorchScript"
    if "tf2onnx" in name:
        return "tf2onnx"
    return "paddle2onnx" if "paddle" in name else "other"
