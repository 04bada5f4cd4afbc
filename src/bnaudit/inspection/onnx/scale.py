"""Caffe's Scale layers, and which stored operands work per channel."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from bnaudit.inspection.onnx.net import WEIGHTED, is_default

if TYPE_CHECKING:
    from bnaudit.inspection.onnx.messages import Node
    from bnaudit.inspection.onnx.net import Net

Vector = tuple[float, ...]

_KEEP_RANK = frozenset(
    {
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Clip",
        "Concat",
        "Conv",
        "ConvTranspose",
        "Dropout",
        "Elu",
        "GlobalAveragePool",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "InstanceNormalization",
        "LeakyRelu",
        "LRN",
        "MaxPool",
        "Mul",
        "PRelu",
        "Pad",
        "Relu",
        "Sigmoid",
        "Slice",
        "Softplus",
        "Sub",
        "Sum",
        "Tanh",
        "Upsample",
        "Resize",
    }
)
_LAYOUTS = frozenset({"Cast", "Identity", "Reshape", "Unsqueeze"})
LITERALS = frozenset({"Constant", "ConstantOfShape"})
_MOST_LAYOUTS = 16
_LONGEST_CHAIN = 64


def absorbed(
    net: Net, batchnorm: Node, gamma: Vector | None, beta: Vector | None
) -> tuple[Vector, Vector] | None:
    """gamma*s and beta*s + t of BN -> Mul(s) [-> Add(t)], or None where no such pair follows.

    Caffe splits BatchNorm in two layers; the network that was trained had their product. Only where
    nothing else reads the values in between.
    """
    if gamma is None or beta is None or len(gamma) != len(beta):
        return None
    step = _step(net, batchnorm.outputs[0], "Mul", len(gamma))
    if step is None:
        return None
    node, scale = step
    gamma = tuple(g * s for g, s in zip(gamma, scale, strict=True))
    beta = tuple(b * s for b, s in zip(beta, scale, strict=True))
    step = _step(net, node.outputs[0], "Add", len(beta))
    if step is not None:
        beta = tuple(b + t for b, t in zip(beta, step[1], strict=True))
    return gamma, beta


def _step(net: Net, value: str, op: str, channels: int) -> tuple[Node, Vector] | None:
    """The one node that reads a value, and its stored operand as a vector over channels."""
    node = net.sole_reader(value)
    if node is None or not is_default(node, op) or len(node.inputs) != 2:
        return None
    others = [name for name in node.inputs if name != value]
    tensor = net.stored(others[0]) if len(others) == 1 else None
    if tensor is None or tensor.size != channels:
        return None
    if not over_channels(net, node, value, used_shape(net, others[0])):
        return None
    values = net.values(others[0])
    return None if values is None else (node, values)


def used_shape(net: Net, name: str, steps: int = _MOST_LAYOUTS) -> tuple[int, ...] | None:
    """The shape of a stored operand where it is used: a vector may be laid out anew on its way."""
    tensor = net.reading.initializers.get(name)
    node = net.producer(name)
    if tensor is not None or node is None or node.op in LITERALS:
        tensor = tensor or net.stored(name)
        return None if tensor is None else tensor.shape
    if node.op not in _LAYOUTS or not node.inputs or not steps:
        return None
    before = used_shape(net, node.inputs[0], steps - 1)
    if before is None or node.op in {"Cast", "Identity"}:
        return before
    sizes = _integers(net, node, "axes" if node.op == "Unsqueeze" else "shape")
    if node.op == "Reshape":
        known = prod(size for size in sizes if size > 0)
        return tuple(size if size > 0 else prod(before) // known for size in sizes) or None
    rank, rest = len(before) + len(sizes), iter(before)
    added = {axis % rank for axis in sizes}
    return tuple(1 if axis in added else next(rest, 1) for axis in range(rank))


def _integers(net: Net, node: Node, attribute: str) -> list[int]:
    """What newer operators take as an input and older ones as an attribute."""
    if len(node.inputs) > 1:
        return [int(value) for value in net.values(node.inputs[1]) or ()]
    found = node.attributes().get(attribute)
    return [] if found is None else found.integers


def over_channels(net: Net, node: Node, value: str, shape: tuple[int, ...] | None) -> bool:
    """Whether an operand of this shape is broadcast along axis 1 of the value."""
    if shape is None:
        return False
    attributes = node.attributes()
    if "broadcast" in attributes:  # before opset 7
        axis = attributes.get("axis")
        return axis is not None and axis.integer == 1 and len(shape) == 1
    rank = _rank(net, value)
    if rank is None:  # [C, 1, 1] is written for images, and a vector alone tells nothing
        rank = max(len(shape), 4) if len(shape) > 2 else 0
    aligned = (1,) * (rank - len(shape)) + shape
    return (
        rank >= 2
        and len(aligned) == rank
        and all(n == 1 for axis, n in enumerate(aligned) if axis != 1)
    )


def _rank(net: Net, value: str) -> int | None:
    """How many dimensions a value has, from declared shapes and the weights in front of it."""
    declared = net.declared
    for _ in range(_LONGEST_CHAIN):
        if value in declared:
            return declared[value]
        node = net.producer(value)
        if node is None or not node.inputs:
            return None
        if node.op in {"Gemm", "FusedGemm", "Flatten"}:
            return 2
        weight = net.weight(node) if "Conv" in node.op and node.op in WEIGHTED else None
        if weight is not None:
            return len(weight.shape)
        if node.op not in _KEEP_RANK:
            return None
        fed = [name for name in node.inputs if name in net.fed]
        value = fed[0] if fed else node.inputs[0]
    return None
