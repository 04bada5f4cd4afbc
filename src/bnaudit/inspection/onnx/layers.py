"""The BatchNorm layers of a graph, with what feeds and what completes them."""

from __future__ import annotations

import struct
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bnaudit.errors import InputError
from bnaudit.inspection.layers import Layer, statics
from bnaudit.inspection.named import groups, members
from bnaudit.inspection.onnx.net import WEIGHTED, is_default, metadata_scopes
from bnaudit.inspection.onnx.scale import absorbed
from bnaudit.inspection.onnx.values import DTYPES
from bnaudit.inspection.operators import common_name, keeps_channels
from bnaudit.load.onnx.names import layer_names, layers_by_use
from bnaudit.load.onnx.origin import Origin
from bnaudit.load.pickles.objects import StoredTensor
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
    by_origin = {id(o): name for (_, o), name in zip(own, names, strict=True)}
    calls: dict[str, int] = {}
    places: dict[str, list[str]] = {}
    for node, origin, used in zip(nodes, origins, first, strict=True):
        name = by_origin[id(used)]
        calls[name] = calls.get(name, 0) + 1
        if origin is not used:
            places.setdefault(name, []).append(f"node {node.name or node.outputs[0]!r}")
    layers = [
        replace(_layer(net, node, name), places=tuple(places.get(name, ())))
        for (node, _), name in zip(own, names, strict=True)
    ]
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
    old = _MOMENTUM if momentum is None else momentum.real or 0.0
    stored = net.stored(node.inputs[4]) or net.stored(node.inputs[1])
    # Older exporters store the counter beside the statistics, although no node reads it.
    counter = f"{node.inputs[4].rpartition('.')[0]}.num_batches_tracked"
    counted = net.values(counter) if counter in net.reading.initializers else None
    return BatchNormStatics(
        name=name,
        origin=f"node {node.name!r} ({OP})",
        channels=None if known is None else len(known),
        eps=_EPS if eps is None or eps.real is None else shortest(eps.real),
        # PyTorch's is the weight of the new batch, ONNX's that of the old statistics.
        momentum=round(1 - shortest(old), 9),
        training=_training(net, node),
        batches_tracked=int(counted[0]) if counted else None,
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


def shortest(value: float) -> float:
    """The number that was meant by a float32: 1e-05, not 9.99999974e-06."""
    exact = struct.unpack("<f", struct.pack("<f", value))[0]
    for digits in range(6, 10):
        written = float(f"{exact:.{digits}g}")
        if struct.unpack("<f", struct.pack("<f", written))[0] == exact:
            return written
    return float(exact)


Vector = tuple[float, ...]


def _parameters(net: Net, node: Node, layer: str) -> tuple[Vector | None, ...]:
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
    """Whether the file asks for batch statistics; each operator version says it in its own way.

    An inference node whose mean and variance are computed from the model's input asks for them as well.
    """
    opsets = net.reading.model.opsets
    version = opsets.get("", 0) or opsets.get("ai.onnx", 0)
    attributes = node.attributes()
    if any(name in net.fed for name in node.inputs[3:5]):
        return True
    if version >= _TRAINING_MODE_SINCE:
        flag = attributes.get("training_mode")
        return bool(flag and flag.integer)
    if version < _IS_TEST_UNTIL:
        flag = attributes.get("is_test")
        return not (flag and flag.integer)
    return any(net.readers.get(name) for name in node.outputs[1:]) or len(node.outputs) > 1


def own_layers(net: Net) -> list[BatchNormStatics]:
    """Stored tensors that are a BatchNorm's by their names, and that plain arithmetic reads, in its order."""
    in_calls = {name for node in net.reading.nodes if node.op == OP for name in node.inputs[1:5]}
    tensors = {
        name: StoredTensor(None, DTYPES.get(t.kind, "other"), t.shape)
        for name, t in net.reading.initializers.items()
    }
    place = {id(node): index for index, node in enumerate(net.ordered)}
    found: list[tuple[int, BatchNormStatics]] = []
    for group in groups(tensors).values():
        names = set(group.roles.values())
        layer = Layer(group.prefix, "BatchNorm", "", members(tensors, group))
        statistics = [group.roles.get(role, "") for role in ("mean", "var")]
        readers = [place[id(node)] for name in statistics for node in net.readers.get(name, [])]
        if not layer.is_own_batchnorm or names & in_calls or not readers:
            continue
        of = {id(tensors[name]): name for name in names}

        def read(tensor: StoredTensor, of: dict[int, str] = of) -> Vector:
            return net.values(of[id(tensor)]) or ()

        where = f"initializers {group.prefix}.*, read by arithmetic"
        found.append((min(readers), statics(layer, group.prefix or "BatchNorm", where, read)))
    return [layer for _, layer in sorted(found, key=lambda entry: entry[0])]


def _before(net: Net, node: Node) -> str:
    """The operator whose output the layer reads, those in between skipped that change nothing."""
    producer = net.producer(node.inputs[0])
    while producer is not None and producer.op in _PASSED_THROUGH and producer.inputs:
        producer = net.producer(producer.inputs[0])
    if producer is None:
        return "input"
    return _activation(net, producer) or common_name(producer.op)


def _feeder(net: Net, batchnorm: Node) -> Feeder | None:
    """The layer whose output the BatchNorm normalises, whole or a crop of its positions."""
    value, alone = batchnorm.inputs[0], True
    cut: list[int] = []
    node = net.producer(value)
    while node is not None and node.inputs:
        axes = [] if node.op in _PASSED_THROUGH | {"Dropout"} else _cropped_axes(net, node)
        if axes is None:
            break
        cut += axes
        alone &= net.sole_reader(value) is not None
        value = node.inputs[0]
        node = net.producer(value)
    bias: bool | None = None
    if node is not None and is_default(node, "Add"):
        matrix = _biased_matmul(net, node)
        if matrix is not None:
            alone &= net.sole_reader(value) is not None
            node, value, bias = matrix, matrix.outputs[0], True
    if node is None or node.op not in WEIGHTED or node.inputs[WEIGHTED[node.op]] in net.fed:
        return None
    weight = net.weight(node)
    rank = len(weight.shape) if weight is not None and "Conv" in node.op else None
    if not keeps_channels(cut, rank):
        return None
    return Feeder(
        weight=weight.name if weight is not None and weight.name else node.inputs[1],
        operator=node.op,
        bias=bias if bias is not None else has_bias(net, node),
        sole_reader=alone and net.sole_reader(value) is not None,
    )


_ELEMENTWISE = frozenset({"Add", "Div", "Erf", "Mul", "Pow", "Sub", "Tanh"})
_GELU_NODES = 12


def _activation(net: Net, node: Node) -> str | None:
    """The activation that a last Mul belongs to, where older operator sets have no node for it.

    x*sigmoid(x), x*hardsigmoid(x), x*tanh(softplus(x)); and GELU, a handful of elementwise nodes on
    one value with erf or, approximately, tanh of a cubic among them.
    """
    if node.op != "Mul" or len(node.inputs) != 2:
        return None
    for name, other in (node.inputs, node.inputs[::-1]):
        gate = net.producer(name)
        inner = net.producer(gate.inputs[0]) if gate is not None and gate.op == "Tanh" else None
        if gate is not None and gate.inputs[:1] == [other] and gate.op in _GATED:
            return _GATED[gate.op]
        if inner is not None and inner.op == "Softplus" and inner.inputs == [other]:
            return "Mish"
    ops, ends, waiting = [node.op], set(), list(node.inputs)
    while waiting and len(ops) <= _GELU_NODES:
        name = waiting.pop()
        maker = net.producer(name)
        if maker is not None and maker.op in _ELEMENTWISE and name in net.fed:
            ops.append(maker.op)
            waiting += [n for n in maker.inputs if n not in waiting]
        elif name in net.fed:
            ends.add(name)
    cubic = "Tanh" in ops and ("Pow" in ops or ops.count("Mul") > 3)
    return "Gelu" if not waiting and len(ends) == 1 and ("Erf" in ops or cubic) else None


_GATED = {"Sigmoid": "Silu", "HardSigmoid": "HardSwish"}
_NO_END = 2**62


def _cropped_axes(net: Net, node: Node) -> list[int] | None:
    """The axes along which a node leaves positions out; None for one that does anything else."""
    attributes = node.attributes()

    def numbers(place: int, attribute: str) -> list[int] | None:
        """An input, or the attribute that it was in older operator sets; [] where it is left out."""
        if len(node.inputs) > place and node.inputs[place]:
            found = net.values(node.inputs[place])
            return None if found is None else [int(value) for value in found]
        return attributes[attribute].integers if attribute in attributes else []

    if node.op == "Slice":
        starts, ends = numbers(1, "starts"), numbers(2, "ends")
        axes, steps = numbers(3, "axes"), numbers(4, "steps")
        axes = list(range(len(starts))) if starts and axes == [] else axes
        if not starts or not ends or not axes:  # computed while the model runs
            return axes or None
        cuts = zip(axes, starts, ends, steps or [1] * len(axes), strict=False)
        return [axis for axis, *cut in cuts if cut[0] or cut[1] < _NO_END or cut[2] != 1]
    sizes = numbers(1, "pads") if node.op == "Pad" else None
    if not sizes or max(sizes) > 0:
        return None
    rank = len(sizes) // 2
    return [axis for axis in range(rank) if sizes[axis] or sizes[axis + rank]]


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
