"""Reading the graph that autograd records: the same for live modules, TorchScript and ONNX graphs."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Node = Any
"""A node of autograd's graph; torch gives its C++ nodes no common Python type."""

IDENTITY = frozenset({"Alias", "Clone", "ToCopy", "Contiguous"})
"""Operations that leave every value where it is."""

SHAPE = frozenset(
    {"View", "UnsafeView", "ReshapeAlias", "Transpose", "Permute", "T", "Unsqueeze", "Squeeze"}
)
"""Operations that keep every value and only arrange them differently."""

_SUFFIX = re.compile(r"Backward\d*$")
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")
_LEAF = "torch::autograd::AccumulateGrad"

# A weight that is computed (normalised, masked) takes a handful of operations; activations take
# more, or come through a layer of their own.
_SMALL = 64
_LAYERS = frozenset({"Convolution", "Addmm", "NativeBatchNorm", "Embedding"})


def operation(node: Node) -> str:
    """'Convolution' for a ConvolutionBackward0."""
    return _SUFFIX.sub("", str(node.name()))


def is_crop(node: Node) -> bool:
    """Whether an operation leaves values out and keeps the others as they are."""
    # autograd hands a negative padding out as an unsigned number
    adds = operation(node) == "ConstantPadNd" and any(0 < p < 2**63 for p in node._saved_pad)
    return operation(node) in {"Slice", "ConstantPadNd"} and not adds


def leaf(node: Node) -> Any | None:
    """The tensor whose gradient accumulates at this node, if it is such a node."""
    return node.variable if node.name() == _LEAF else None


def parents(node: Node) -> list[Node]:
    """The nodes that made its differentiable inputs."""
    return [parent for parent, _ in node.next_functions if parent is not None]


def direct_leaf(node: Node | None, *, expanded: bool = False) -> Any | None:
    """The parameter that an operand is, but for casts and changes of its shape.

    Args:
        node: that made the operand.
        expanded: also where its values are repeated.
    """
    while node is not None and leaf(node) is None:
        if operation(node) not in IDENTITY | SHAPE and not (
            expanded and operation(node) == "Expand"
        ):
            return None
        node = node.next_functions[0][0]
    return None if node is None else leaf(node)


def computed_from(node: Node | None) -> list[Any]:
    """The parameters that an operand is a small function of; empty for activations."""
    if node is None:
        return []
    leaves: list[Any] = []
    for count, each in enumerate(_ancestors(node)):
        if count >= _SMALL or operation(each) in _LAYERS:
            return []
        if leaf(each) is not None:
            leaves.append(leaf(each))
    return leaves


def readers(root: Node) -> Counter[Node]:
    """How many operations on the way to the loss read the output of each node.

    The keys keep the nodes alive: torch makes new Python objects for a node whose last one is gone.
    """
    return Counter(parent for node in list(_ancestors(root)) for parent in parents(node))


def describe(node: Node) -> str:
    """What feeds a layer, in words ("a concatenation")."""
    name = operation(node)
    for part, words in _WORDS.items():
        if part in name:
            return words
    return f"the operation {_WORD.sub('_', name.rpartition('::')[2]).lower()}"


_WORDS = {
    "Cat": "a concatenation",
    "Stack": "a concatenation",
    "Pool": "a pooling layer",
    "BatchNorm": "another BatchNorm",
    "Embedding": "an embedding",
    "Bmm": "a batched matrix product",
    "Baddbmm": "a batched matrix product",
    "Relu": "an activation",
    "Elu": "an activation",
    "Gelu": "an activation",
    "Silu": "an activation",
    "Sigmoid": "an activation",
    "Tanh": "an activation",
    "Hardtanh": "an activation",
    "Hardswish": "an activation",
    "Slice": "a part of a tensor",
    "Select": "a part of a tensor",
    "Split": "a part of a tensor",
    "Pad": "a padding",
    "Mean": "a mean",
    "Mul": "a multiplication",
    "Div": "a division",
}


def _ancestors(root: Node) -> Iterator[Node]:
    seen, waiting = {root}, [root]
    while waiting:
        node = waiting.pop()
        yield node
        for parent in parents(node):
            if parent not in seen:
                seen.add(parent)
                waiting.append(parent)
