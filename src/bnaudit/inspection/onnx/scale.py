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
    if not over_channels(net, node, value, used_shape(net, others[0], tensor.shape)):
        return None
    values = net.values(others[0])
    return None if values is None else (node, values)


def used_shape(net: Net, name: str, stored: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape in which an operand is used: a stored vector may be reshaped on its way."""
    node = net.producer(name)
    if node is None or node.op in {"Constant", "Identity", "Cast"}:
        return stored
    target = net.values(node.inputs[1]) if node.op == "Reshape" and len(node.inputs) > 1 else None
    if target is None:
        return None
    sizes = [int(length) for length in target]
    known = prod(size for size in sizes if size > 0)
    return tuple(size if size > 0 else prod(stored) // known for size in sizes)


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
