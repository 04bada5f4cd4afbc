"""Half precision, which is run in float32: that holds every value of float16 and bfloat16 exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, ValueInfoProto, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

_HALVES: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
_NAMES = frozenset(_HALVES.values())
_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_dtype", "stash_type"})


def widen(draft: Draft) -> None:
    """Makes float32 of every half-precision type in the graph, and says so.

    An audit runs such models in float32 anyway, because gradients under- and overflow in float16.
    Doing it here, in the graph, also covers casts inside it and BatchNorm whose parameters are
    float32 while its input is float16 (from opset 15 on).
    """
    found = {_name(array) for array in draft.constants.values()} & _NAMES
    for name, array in draft.constants.items():
        if _name(array) in _NAMES:
            draft.constants[name] = array.astype(np.float32)
    draft.inputs = [_widened(value, found) for value in draft.inputs]
    draft.outputs = [_widened(value, found) for value in draft.outputs]
    _widen_nodes(draft.nodes, found)
    if found:
        draft.notes.append(f"its {' and '.join(sorted(found))} values are run in float32")


def _name(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
    return array.dtype.name


def _widened(value: ValueInfoProto, found: set[str]) -> ValueInfoProto:
    kind = value.type.tensor_type.elem_type
    if kind not in _HALVES:
        return value
    found.add(_HALVES[kind])
    copy = ValueInfoProto()
    copy.CopyFrom(value)
    copy.type.tensor_type.elem_type = TensorProto.FLOAT
    return copy


def _widen_nodes(nodes: Iterable[NodeProto], found: set[str]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _HALVES:
                found.add(_HALVES[attribute.i])
                attribute.i = TensorProto.FLOAT
            if attribute.HasField("t"):
                _widen_tensor(attribute.t, found)
            for graph in (attribute.g, *attribute.graphs):
                for tensor in graph.initializer:
                    _widen_tensor(tensor, found)
                for value in (*graph.input, *graph.output, *graph.value_info):
                    value.CopyFrom(_widened(value, found))
                _widen_nodes(graph.node, found)


def _widen_tensor(tensor: TensorProto, found: set[str]) -> None:
    if tensor.data_type in _HALVES:
        found.add(_HALVES[tensor.data_type])
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
