"""The BatchNorm layers of a graph, with what feeds and what completes them."""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.inspection.onnx.net import WEIGHTED, is_default, metadata_scopes
from bnaudit.inspection.onnx.scale import absorbed
from bnaudit.inspection.onnx.values import DTYPES
from bnaudit.load.onnx.names import layer_names, layers_by_use
from bnaudit.load.onnx.origin import Origin
from bnaudit.records.inspection import BatchNormStatics, Feeder

if TYPE_CHECKING:
    from collections.abc import Hashable

    from bnaudit.inspection.onnx.messages import Node
    from bnaudit.inspection.onnx.net import Net

OP = "BatchNormalization"

_PARAMETERS = ("gamma", "beta", "running_mean", "running_var")
_PASSED_THROUGH = frozenset({"Cast", "Identity"})
_EPS, _MOMENTUM = 1e-5, 0.9
"""Defaults of the operator."""

_TRAINING_MODE_SINCE, _IS_TEST_UNTIL = 14, 7


def batchnorm_layers(net: Net) -> tuple[list[BatchNormStatics], dict[str, int]]:
    """One entry a layer, in the file's order, and how many calls the layers with several have.

    Raises:
        InputError: the parameters of a layer do not fit each other.
    """
    nodes = [node for node in net.reading.nodes if node.op == OP]
    origins = [origin_of(node) for node in nodes]
    first = layers_by_use(origins, partial(_content, net))
    own = [(n, o) for n, o, f in zip(nodes, origins, first, strict=True) if o is f]
    names = layer_names([origin for _, origin in own])
    layers = [_layer(net, node, name) for (node, _), name in zip(own, names, strict=True)]
    by_origin = {id(o): name for (_, o), name in zip(own, names, strict=True)}
    calls: dict[str, int] = {}
    for origin in first:
        name = by_origin[id(origin)]
        calls[name] = calls.get(name, 0) + 1
    return layers, {name: count for name, count in calls.items() if count > 1}


def origin_of(node: Node) -> Origin:
    """What the layer's name is derived from."""
    eps = node.attributes().get("epsilon")
    found = None if eps is None else eps.real
    return Origin(node.op, node.name, tuple(node.inputs), metadata_scopes(node), found)


def _content(net: Net, name: str) -> Hashable:
    """See `layers_by_use`."""
    node = net.producer(name)
    if node is None or node.op == "Identity":
        return name
    return str(net.values(name)) if node.op == "Constant" else None  # NaN is equal to itself


def _layer(net: Net, node: Node, name: str) -> BatchNormStatics:
    if len(node.inputs) < 5:
        raise InputError(
            f"{net.reading.path}: {name}: BatchNormalization has {len(node.inputs)} of its 5 inputs",
            hint="the file is damaged, or was edited by hand: export it again",
        )
    gamma, beta, mean, variance = _parameters(net, node, name)
    scale = absorbed(net, node, gamma, beta)
    if scale is not None:
        gamma, beta = scale
    known = next((p for p in (gamma, mean, variance, beta) if p is not None), None)
    attributes = node.attributes()
    eps, momentum = attributes.get("epsilon"), attributes.get("momentum")
    stored = net.stored(node.inputs[4]) or net.stored(node.inputs[1])
    return BatchNormStatics(
        name=name,
        origin=f"node {node.name!r} ({OP})",
        channels=None if known is None else len(known),
        eps=_EPS if eps is None or eps.real is None else shortest(eps.real),
        momentum=_of_the_new(_MOMENTUM if momentum is None else momentum.real or 0.0),
        training=_training(net, node),
        batches_tracked=_counter(net, node),
        dtype=None if stored is None else DTYPES.get(stored.kind),
        gamma=gamma,
        beta=beta,
        running_mean=mean,
        running_var=variance,
        scale_absorbed=scale is not None,
        feeder=_feeder(net, node),
        preceded_by=_before(net, node),
        of_weights=node.inputs[0] not in net.fed,
    )


def _of_the_new(kept: float) -> float:
    """PyTorch's momentum is the weight of the new batch, ONNX's that of the old statistics."""
    return round(1 - shortest(kept), 9)


def shortest(value: float) -> float:
    """The number that was meant by a float32: 1e-05, not 9.99999974e-06."""
    exact = struct.unpack("<f", struct.pack("<f", value))[0]
    for digits in range(6, 10):
        written = float(f"{exact:.{digits}g}")
        if struct.unpack("<f", struct.pack("<f", written))[0] == exact:
            return written
    return float(exact)


def _counter(net: Net, node: Node) -> int | None:
    """The counter that older exporters store beside the statistics, although no node reads it."""
    name = f"{node.inputs[4].rpartition('.')[0]}.num_batches_tracked"
    values = net.values(name) if name in net.reading.initializers else None
    return int(values[0]) if values else None


Vector = tuple[float, ...] | None


def _parameters(net: Net, node: Node, layer: str) -> tuple[Vector, Vector, Vector, Vector]:
    found = [net.values(name) for name in node.inputs[1:5]]
    sizes = [len(values) for values in found if values is not None]
    for parameter, values in zip(_PARAMETERS, found, strict=True):
        if values is not None and len(values) != sizes[0]:
            raise InputError(
                f"{net.reading.path}: {layer}: {parameter} has shape [{len(values)}], "
                f"but there are {sizes[0]} channels",
                hint="the file is damaged, or was edited by hand: export it again",
            )
    return found[0], found[1], found[2], found[3]


def _training(net: Net, node: Node) -> bool:
    """Whether the file asks for batch statistics; each operator version says it in its own way."""
    opsets = net.reading.model.opsets
    version = opsets.get("", 0) or opsets.get("ai.onnx", 0)
    attributes = node.attributes()
    if version >= _TRAINING_MODE_SINCE:
        flag = attributes.get("training_mode")
        return bool(flag and flag.integer)
    if version < _IS_TEST_UNTIL:
        flag = attributes.get("is_test")
        return not (flag and flag.integer)
    return any(net.readers.get(name) for name in node.outputs[1:]) or len(node.outputs) > 1


def _behind(net: Net, node: Node, through: frozenset[str]) -> Node | None:
    """The node whose output another reads, those in between skipped that change nothing."""
    producer = net.producer(node.inputs[0])
    while producer is not None and producer.op in through and producer.inputs:
        producer = net.producer(producer.inputs[0])
    return producer


def _before(net: Net, node: Node) -> str:
    producer = _behind(net, node, _PASSED_THROUGH)
    return "input" if producer is None else producer.op


def _feeder(net: Net, batchnorm: Node) -> Feeder | None:
    value, alone = batchnorm.inputs[0], True
    node = net.producer(value)
    while node is not None and node.op in _PASSED_THROUGH | {"Dropout"} and node.inputs:
        alone &= net.sole_reader(value) is not None
        value = node.inputs[0]
        node = net.producer(value)
    bias: bool | None = None
    if node is not None and is_default(node, "Add"):
        matrix = _biased_matmul(net, node)
        if matrix is not None:
            alone &= net.sole_reader(value) is not None
            node, value, bias = matrix, matrix.outputs[0], True
    if node is None or node.op not in WEIGHTED or not node.outputs:
        return None
    weight = net.weight(node)
    return Feeder(
        weight=weight.name if weight is not None and weight.name else node.inputs[1],
        operator=node.op,
        bias=bias if bias is not None else has_bias(net, node),
        sole_reader=alone and net.sole_reader(value) is not None,
    )


def _biased_matmul(net: Net, node: Node) -> Node | None:
    """The product in front of an Add of a stored vector: a linear layer in two nodes."""
    for name, other in (node.inputs[:2], node.inputs[1::-1]):
        matrix = net.producer(name)
        if matrix is not None and matrix.op in {"MatMul", "FusedMatMul"} and net.stored(other):
            return matrix
    return None


def has_bias(net: Net, node: Node) -> bool:
    """Whether a layer adds a stored bias; the zeros that an exporter computes are none."""
    bias = net.stored(node.inputs[2]) if len(node.inputs) > 2 else None
    return bias is not None and bias.fill != 0
