"""What is left of a BatchNorm that was taken apart: per-channel a*x + b behind a layer with weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.inspection.onnx.net import is_default, metadata_scopes
from bnaudit.inspection.onnx.scale import over_channels, used_shape
from bnaudit.load.onnx.names import keras_layers, layer_names
from bnaudit.load.onnx.origin import Origin
from bnaudit.records.inspection import DecomposedNorm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnaudit.inspection.onnx.messages import Node
    from bnaudit.inspection.onnx.net import Net

_FACTORS = frozenset({"Mul", "Div"})
_AFFINE = _FACTORS | {"Add", "Sub"}
_MOST_LOOKED_AT = 64


def decomposed_norms(net: Net) -> list[DecomposedNorm]:
    """Stored per-channel factors, then summands, behind a layer with weights; and x - m, times a, plus b.

    Factors without a summand are no affine map, and a summand in front of them is the layer's bias. Three
    stored vectors in a row are a BatchNorm wherever they stand and whatever axis the channels are, and so
    are two that TensorFlow named as one, and a factor that is one over a root of stored numbers.
    """
    found = [
        (chain, _channels(net, layer), _weight_name(net, layer))
        for layer in net.weight_layers
        if (chain := _chain(net, layer))
    ]
    taken = {id(node) for chain, _, _ in found for node in chain}
    for node in net.ordered:
        steps = ("Mul", "Add") if keras_layers(node.name) else ("Sub", "Mul", "Add")
        chain, channels = _stored_chain(net, node, steps)
        if not chain:
            chain, channels = _computed_chain(net, node)
        if chain and not taken & {id(step) for step in chain}:
            before = net.producer(node.inputs[0])
            found.append((chain, channels, "" if before is None else before.name or before.op))
    origins = [
        Origin(chain[0].op, chain[0].name, _operands(net, chain), metadata_scopes(chain[0]))
        for chain, _, _ in found
    ]
    return [
        DecomposedNorm(
            name=next(iter(keras_layers(chain[0].name)), name),
            origin=f"node {chain[0].name!r} ({', then '.join(node.op for node in chain)})",
            channels=channels,
            after=after,
        )
        for name, (chain, channels, after) in zip(layer_names(origins), found, strict=True)
    ]


def _stored_chain(net: Net, node: Node, operators: Sequence[str]) -> tuple[list[Node], int]:
    """A Sub, Mul, Add of stored vectors of one length, each the only reader, and that length."""
    chain: list[Node] = []
    shapes: list[tuple[int, ...]] = []
    step: Node | None = node
    for op in operators:
        if step is None or not is_default(step, op) or len(step.inputs) != 2:
            return [], 0
        fed = [name for name in step.inputs if name in net.fed]
        others = [name for name in step.inputs if name not in net.fed]
        shape = used_shape(net, others[0]) if len(fed) == len(others) == 1 else None
        if shape is None or (op == "Sub" and step.inputs[0] != fed[0]):
            return [], 0
        chain.append(step)
        shapes.append(shape)
        step = net.sole_reader(step.outputs[0])
        while step is not None and step.op == "Cast":
            step = net.sole_reader(step.outputs[0])
    sizes = [[size for size in shape if size != 1] for shape in shapes]
    places = {len(shape) - shape.index(max(shape)) for shape in shapes if shape}
    vectors = all(len(size) == 1 for size in sizes) and all(size == sizes[0] for size in sizes)
    return (chain, sizes[0][0]) if vectors and len(places) == 1 else ([], 0)


def _computed_chain(net: Net, node: Node) -> tuple[list[Node], int]:
    """Input times gamma/sqrt(var + eps), plus a vector, both computed from stored ones at each run."""
    if not is_default(node, "Mul") or len(node.inputs) != 2:
        return [], 0
    others = [name for name in node.inputs if name not in net.fed]
    adding = net.sole_reader(node.outputs[0])
    if len(others) != 1 or net.stored(others[0]) is not None:
        return [], 0
    if adding is None or not is_default(adding, "Add") or len(adding.inputs) != 2:
        return [], 0
    if all(name in net.fed for name in adding.inputs):
        return [], 0
    operators, sizes = _behind(net, others[0])
    rooted = "Sqrt" in operators and {"Div", "Reciprocal"} & operators
    norms = operators & {"ReduceSum", "ReduceL2", "ReduceMean"}  # of a weight: weight normalisation
    return ([node, adding], max(sizes, default=0)) if rooted and not norms else ([], 0)


def _chain(net: Net, layer: Node) -> list[Node]:
    chain: list[Node] = []
    value, channels = layer.outputs[0], _channels(net, layer)
    while True:
        node = net.sole_reader(value)
        if node is None or not _is_affine_step(net, node, value, channels):
            break
        chain.append(node)
        value = node.outputs[0]
    factors = [place for place, node in enumerate(chain) if node.op in _FACTORS]
    if not factors or all(node.op in _FACTORS for node in chain[factors[0] :]):
        return []
    return chain


def _is_affine_step(net: Net, node: Node, value: str, channels: int) -> bool:
    """Whether it combines the value with per-channel numbers that no input of the model changes."""
    if node.op not in _AFFINE or node.domain or len(node.inputs) != 2:
        return False
    others = [name for name in node.inputs if name != value]
    if len(others) != 1 or others[0] in net.fed:
        return False
    tensor = net.stored(others[0])
    if tensor is None:  # computed from stored ones each time
        return any(size == channels > 1 for size in _behind(net, others[0])[1])
    shape = used_shape(net, others[0])
    if tensor.size != channels or channels < 2 or not over_channels(net, node, value, shape):
        return False
    values = net.values(others[0])
    return values is not None and len(set(values)) > 1


def _behind(net: Net, name: str) -> tuple[set[str], list[int]]:
    """The operators that compute a value, and the sizes of the stored tensors that they read."""
    operators: set[str] = set()
    sizes: list[int] = []
    open_names, seen = [name], {name}
    while open_names and len(seen) < _MOST_LOOKED_AT:
        current = open_names.pop()
        tensor = net.stored(current)
        if tensor is not None:
            sizes.append(tensor.size)
            continue
        node = net.producer(current)
        operators.update([node.op] if node else [])
        fresh = [n for n in (node.inputs if node else []) if n and n not in seen]
        seen.update(fresh)
        open_names += fresh
    return operators, sizes


def _channels(net: Net, layer: Node) -> int:
    """Output channels of a layer with weights, 0 where they are not known."""
    weight = net.weight(layer)
    if weight is None or len(weight.shape) < 2:
        return 0
    if "MatMul" in layer.op:
        return weight.shape[-1]
    attributes = layer.attributes()
    if layer.op == "ConvTranspose":
        group = attributes.get("group")
        return weight.shape[1] * ((group.integer if group else 1) or 1)
    flipped = attributes.get("transB")
    turned = "Gemm" in layer.op and not (flipped and flipped.integer)
    return weight.shape[1 if turned else 0]


def _weight_name(net: Net, layer: Node) -> str:
    weight = net.weight(layer)
    return (weight.name if weight else "") or layer.name or layer.outputs[0]


def _operands(net: Net, chain: list[Node]) -> tuple[str, ...]:
    """The parameters' names in the places where a BatchNorm has its own: factor, then summand."""
    names = {"factor": "", "summand": ""}
    for node in chain:
        kind = "factor" if node.op in _FACTORS else "summand"
        for name in node.inputs:
            tensor = net.stored(name)
            if tensor is not None and not names[kind]:
                names[kind] = tensor.name
    return ("", names["factor"], names["summand"])
