"""Operator sets before 7, which onnx's own converter refuses or gets silently wrong.

Until opset 6 the second operand was aligned at an axis named by an attribute: a vector of channels
had `broadcast=1, axis=1`, as in Caffe2's scale layers. The converter drops the attribute, and the
vector lands on the last axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from bnaudit.load.onnx.draft import attributes, set_attributes

if TYPE_CHECKING:
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

_BROADCASTING = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"}
)
NUMPY_BROADCASTING = 7
"""The opset that aligns shapes at their last axis, as numpy does."""

_SIXTH = 6


def raise_to_six(draft: Draft) -> None:
    """Rewrites opsets 1 to 5 as 6: what was an attribute has become an input or changed its name.

    onnx's shape inference knows nothing of the older BatchNormalization, and its converter gives up
    without shapes.
    """
    if not 0 < draft.opset < _SIXTH:
        return
    for node in draft.nodes:
        values = attributes(node)
        set_attributes(node, consumed_inputs=None)  # a hint for memory reuse
        if node.op_type == "Reshape" and "shape" in values:
            name = f"{node.name}/shape"
            draft.constants[name] = np.array(values["shape"], dtype=np.int64)
            node.input.append(name)
            set_attributes(node, shape=None)
        elif node.op_type == "Concat":
            set_attributes(node, axis=values.get("axis", 1))
        elif node.op_type == "Pad" and "paddings" in values:
            set_attributes(node, pads=values["paddings"], paddings=None)
        elif node.op_type == "Cast" and isinstance(values.get("to"), str):
            set_attributes(node, to=int(TensorProto.DataType.Value(str(values["to"]).upper())))
    draft.opset = _SIXTH


def flatten_positions(draft: Draft) -> None:
    """BatchNormalization with spatial=0, which opset 9 did away with.

    Every position of a channel has parameters and statistics of its own, (C, H, W): one channel each, once
    the rest is flattened. MXNet wrote spatial=0 also where there is one value a channel; ONNX Runtime
    runs that as spatial=1 where a convolution is in front, and behind a fully connected layer both
    are the same.
    """
    nodes: list[NodeProto] = []
    for node in draft.nodes:
        nodes.append(node)
        if node.op_type != "BatchNormalization" or attributes(node).get("spatial", 1) != 0:
            continue
        set_attributes(node, spatial=None)
        vectors = [draft.constants.get(name) for name in node.input[1:5]]
        shape = next((v.shape for v in vectors if v is not None), ())
        if len(shape) < 2:
            continue
        for index, (name, vector) in enumerate(
            zip(node.input[1:5], vectors, strict=False), start=1
        ):
            if vector is not None:
                flat = node.input[index] = f"{node.name}/flat_{index}"
                draft.constants[flat] = vector.reshape(-1)
                if name in draft.sources:
                    draft.sources[flat] = draft.sources[name]._replace(layout=flat)
        target, result = f"{node.name}/positions", node.output[0]
        draft.constants[target] = np.array([0, *shape], dtype=np.int64)
        flat, normal = f"{node.name}/flat", f"{node.name}/normal"
        nodes.insert(-1, helper.make_node("Flatten", [node.input[0]], [flat], axis=1))
        node.input[0], node.output[0] = flat, normal
        nodes.append(helper.make_node("Reshape", [normal, target], [result]))
    draft.nodes = nodes


def align_operands(draft: Draft) -> None:
    """Gives second operands the trailing axes that make the old alignment numpy's."""
    nodes: list[NodeProto] = []
    for node in draft.nodes:
        values = attributes(node)
        if node.op_type in _BROADCASTING and values.get("broadcast"):
            axis = values.get("axis")
            _align(draft, node, nodes, axis if isinstance(axis, int) else None)
            set_attributes(node, broadcast=None, axis=None)
        elif node.op_type == "PRelu":
            _align(draft, node, nodes, 1)
        nodes.append(node)
    draft.nodes = nodes


def _align(draft: Draft, node: NodeProto, nodes: list[NodeProto], axis: int | None) -> None:
    first, second = draft.shape(node.input[0]), draft.shape(node.input[1])
    if axis is None or first is None or second is None or second in {(), (1,)}:
        return
    trailing = len(first) - axis % len(first) - len(second)
    if trailing <= 0:
        return
    name = f"{node.name}/aligned"
    axes = list(range(len(second), len(second) + trailing))
    if node.input[1] in draft.constants:
        array = draft.constants[node.input[1]]
        draft.constants[name] = array.reshape(array.shape + (1,) * trailing)
    else:
        nodes.append(helper.make_node("Unsqueeze", [node.input[1]], [name], axes=axes))
    node.input[1] = name
