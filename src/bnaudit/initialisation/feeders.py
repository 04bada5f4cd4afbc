"""From the BatchNorm calls of one run back to the weights that feed them, along the autograd graph.

The input of a BatchNorm was made by a node such as ConvolutionBackward0, whose edges lead to the
weight's AccumulateGrad and so to the parameter itself: whatever language the network is written in.
In between may stand views, copies and the addition of a bias. A weight is scale invariant only if
nothing but BatchNorm reads what it makes, a skip connection for one; so every node on the way must
have no other reader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnaudit.load.weights.model import Layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

_PASSES = re.compile(
    r"(View|UnsafeView|ReshapeAlias|Alias|ToCopy|Clone|Squeeze|Unsqueeze|Transpose|Permute|T|Slice)"
    r"Backward\d*"
)
_FLIPS = re.compile(r"(T|Transpose|Permute|Mt|Numpy[Tt])Backward\d*")
_CONVOLUTION = re.compile(r"(\w*Convolution|SlowConv\w*|ConvDepthwise\w*)Backward\d*")
_PRODUCT = {"AddmmBackward0": 2, "MmBackward0": 1, "LinearBackward0": 1}
_LEAF = "AccumulateGrad"

Node = Any
"""An autograd node; torch exports no type for it."""


@dataclass(frozen=True, slots=True)
class Feeder:
    """The multiplication that makes a BatchNorm's input.

    Attributes:
        parameter: the weight.
        layout: where its output channels are.
        alone: whether nothing but BatchNorm reads its output.
    """

    parameter: Tensor
    layout: Layout
    alone: bool


@dataclass(slots=True)
class Graph:
    """The autograd graph of one loss.

    Attributes:
        readers: node -> the nodes that read what it made; keeps all nodes alive, so that the same
            node is the same object.
    """

    readers: dict[Node, list[Node]] = field(default_factory=dict)

    @classmethod
    def of(cls, loss: Tensor) -> Graph:
        """Walks the graph once."""
        graph = cls({loss.grad_fn: []})
        waiting: list[Node] = [loss.grad_fn]
        while waiting:
            node = waiting.pop()
            for child in _children(node):
                if child not in graph.readers:
                    graph.readers[child] = []
                    waiting.append(child)
                graph.readers[child].append(node)
        return graph

    def feeder(self, batch_norm: Node, batch_norms: set[Node]) -> Feeder | str:
        """The weight behind a BatchNorm node, or why there is none.

        Args:
            batch_norm: its autograd node.
            batch_norms: all of them.
        """
        node, alone, above = batch_norm.next_functions[0][0], True, batch_norms
        while node is not None:
            alone = alone and all(reader in above for reader in self.readers.get(node, []))
            if _weight_edge(node) is not None:
                return self._at(node, alone)
            above = {node}
            node = _through(node)
            if isinstance(node, str):
                return node
        return "nothing with a weight stands before it"

    def _at(self, node: Node, alone: bool) -> Feeder | str:
        edge = _weight_edge(node)
        source, flips = node.next_functions[edge][0], 0
        while source is not None and source.name() != _LEAF and _PASSES.fullmatch(source.name()):
            flips += bool(_FLIPS.fullmatch(source.name()))
            source = source.next_functions[0][0]
        if source is None or not source.name().endswith(_LEAF):
            return "its weight is computed while the network runs"
        parameter: Tensor = source.variable
        return Feeder(parameter, _layout(node, flips), alone)

    def uses(self, parameters: Iterable[Tensor]) -> Mapping[int, int]:
        """How many operations read each parameter, by its id."""
        counts = {id(p): 0 for p in parameters}
        for node in self.readers:
            if node.name().endswith(_LEAF) and id(node.variable) in counts:
                counts[id(node.variable)] += self._operations(node)
        return counts

    def _operations(self, node: Node) -> int:
        return sum(
            self._operations(reader) if _PASSES.fullmatch(reader.name()) else 1
            for reader in self.readers[node]
        )


def _children(node: Node) -> list[Node]:
    return [child for child, _ in node.next_functions if child is not None]


def _weight_edge(node: Node) -> int | None:
    name = node.name()
    return 1 if _CONVOLUTION.fullmatch(name) else _PRODUCT.get(name)


def _layout(node: Node, flips: int) -> Layout:
    if _CONVOLUTION.fullmatch(node.name()):
        groups = int(getattr(node, "_saved_groups", 1))
        return Layout(1, groups) if getattr(node, "_saved_transposed", False) else Layout(0)
    # x @ W reads W as (in, out), x @ W' as (out, in); F.linear's own node means the latter.
    return Layout(0 if node.name() == "LinearBackward0" else 1 - flips % 2)


def _through(node: Node) -> Node | str:
    """The node that made what this one passes on, or why the way ends here."""
    name = node.name()
    children = _children(node)
    if name.startswith("AddBackward"):
        children = [child for child in children if not child.name().endswith(_LEAF)]
        if len(children) > 1:
            return "its input is a sum (a skip connection)"
        return children[0] if children else None
    if _PASSES.fullmatch(name):
        return children[0] if children else None
    if name.endswith(_LEAF):
        return "its input is a parameter"
    return (
        f"its input comes from {name.removesuffix('0').removesuffix('Backward')}, not from a weight"
    )
