"""The graph with its edges: who makes a value, who reads it, and which values are stored ones."""

from __future__ import annotations

import struct
from collections import defaultdict
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from bnaudit.inspection.onnx.messages import Tensor
from bnaudit.inspection.onnx.reading import WITH_SUBGRAPHS
from bnaudit.inspection.onnx.values import numbers

if TYPE_CHECKING:
    from bnaudit.inspection.onnx.messages import Node
    from bnaudit.inspection.onnx.reading import Reading

_SAME_VALUES = frozenset(
    {"Cast", "CastLike", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
)
"""What a stored vector may pass through and still hold the same numbers in the same order."""

_DEFAULT_DOMAINS = frozenset({"", "ai.onnx"})

WEIGHTED = {
    "Conv": 1,
    "ConvTranspose": 1,
    "FusedConv": 1,
    "Gemm": 1,
    "FusedGemm": 1,
    "MatMul": 1,
    "FusedMatMul": 1,
}
"""Operators with a weight -> the input that it is."""


class Net:
    """Lookups in one reading."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.producers = {name: n for n in reading.nodes for name in n.outputs if name}
        self.ordered = self._sorted()
        self.readers: dict[str, list[Node]] = defaultdict(list)
        for node in reading.nodes:
            for name in dict.fromkeys(node.inputs):
                self.readers[name].append(node)

    def _sorted(self) -> list[Node]:
        """The nodes so that values are made before they are read, as the format asks for.

        Edges of a cycle, which only a damaged file has, are cut: every walk along edges ends.
        """
        nodes = self.reading.nodes
        made: set[str] = set()
        late: set[str] = set()  # values that are read before, or where, they are made
        last = {name: id(node) for name, node in self.producers.items()}
        for node in nodes:
            late.update(n for n in node.inputs if n in last and n not in made)
            made.update(name for name in node.outputs if last.get(name) == id(node))
        if not late:
            return nodes
        place = {id(node): index for index, node in enumerate(nodes)}
        before = {
            index: {place[id(self.producers[n])] for n in node.inputs if n in self.producers}
            for index, node in enumerate(nodes)
        }
        try:
            return [nodes[index] for index in TopologicalSorter(before).static_order()]
        except CycleError:
            for name in late:
                del self.producers[name]
            return nodes

    def producer(self, name: str) -> Node | None:
        """The node that makes a value; None for inputs and initializers."""
        return self.producers.get(name)

    def sole_reader(self, name: str) -> Node | None:
        """The one node that reads a value, where nothing else does and it is no output."""
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.reading.outputs else None

    def stored(self, name: str) -> Tensor | None:
        """The tensor that a value is a copy of, under the shape in which it is stored, or None."""
        for _ in range(_LONGEST_CHAIN if name else 0):
            if name in self.reading.initializers:
                return self.reading.initializers[name]
            node = self.producers.get(name)
            if node is None:
                return None
            if node.op == "Constant":
                return _literal(node)
            if node.op == "ConstantOfShape":
                return self._filled(node)
            if node.op not in _SAME_VALUES or not node.inputs:
                return None
            name = node.inputs[0]
        return None

    def _filled(self, node: Node) -> Tensor | None:
        """One number for a whole tensor: what is left of weights that were taken out of a file."""
        shape = self.values(node.inputs[0]) if node.inputs else None
        if shape is None:
            return None
        value = node.attributes().get("value")
        tensor = value.tensor if value is not None else None
        found = (0.0,) if tensor is None else numbers(self.reading.path, tensor)
        return Tensor(
            shape=tuple(int(size) for size in shape),
            kind=1 if tensor is None else tensor.kind,
            fill=found[0] if found else None,
        )

    def values(self, name: str) -> tuple[float, ...] | None:
        """The numbers of a stored value, or None where it is computed while the model runs."""
        tensor = self.stored(name)
        return None if tensor is None else numbers(self.reading.path, tensor)

    def weight(self, node: Node) -> Tensor | None:
        """The stored weight of a convolution or linear layer, through Transpose and the like."""
        index = WEIGHTED.get(node.op)
        if index is None or len(node.inputs) <= index:
            return None
        name = node.inputs[index]
        for _ in range(_LONGEST_CHAIN):
            tensor = self.stored(name)
            if tensor is not None:
                return tensor
            before = self.producers.get(name)
            if before is None or before.op not in _RELAYOUTS or not before.inputs:
                return None
            name = before.inputs[0]
        return None

    @cached_property
    def weight_layers(self) -> list[Node]:
        """Convolutions and linear layers; a product of two computed values is no layer."""
        return [
            n
            for n in self.reading.nodes
            if n.op in WEIGHTED and ("Conv" in n.op or self.weight(n) is not None)
        ]

    @cached_property
    def declared(self) -> dict[str, int]:
        """Ranks that the file states."""
        graph = self.reading.graph
        values = (*graph.values, *graph.inputs, *graph.outputs)
        return {value.name: len(value.shape) for value in values if value.shape is not None}

    @cached_property
    def fed(self) -> set[str]:
        """Values that depend on an input of the model."""
        stored = self.reading.initializers
        found = {value.name for value in self.reading.graph.inputs if value.name not in stored}
        found |= self.reading.inner_inputs
        for node in self.ordered:
            source = node.op != "Constant" and (not node.inputs or node.op in WITH_SUBGRAPHS)
            if source or any(name in found for name in node.inputs):
                found.update(node.outputs)
        return found


_LONGEST_CHAIN = 16
_RELAYOUTS = frozenset({"Transpose", "DequantizeLinear", "Mul", "Div"})


SCOPES = "pkg.torch.onnx.name_scopes"
"""Where PyTorch's dynamo exporter notes the path of modules to a node."""


def metadata_scopes(node: Node) -> str:
    """That path, as it is stored."""
    return node.metadata().get(SCOPES, "")


def is_default(node: Node, op: str) -> bool:
    """Whether the node is this operator of ONNX itself."""
    return node.op == op and node.domain in _DEFAULT_DOMAINS


def _literal(node: Node) -> Tensor | None:
    """The tensor of a Constant node; one made of its list of numbers where it has that instead."""
    attributes = node.attributes()
    if "value" in attributes:
        return attributes["value"].tensor
    if "value_floats" in attributes:
        floats = attributes["value_floats"].floats
        count = sum(len(v) // 4 if not isinstance(v, int) else 1 for v in floats)
        return Tensor(shape=(count,), kind=1, floats=floats)
    found = attributes.get("value_ints") or attributes.get("value_int")
    if found is not None:
        whole = found.integers if found.integer is None else [found.integer]
        shape = (len(whole),) if "value_ints" in attributes else ()
        return Tensor(shape=shape, kind=7, raw=memoryview(struct.pack(f"<{len(whole)}q", *whole)))
    return None
