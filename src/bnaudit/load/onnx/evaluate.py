"""Evaluating one node on constants, with a bound on what a hostile file can make us allocate."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bnaudit.load.onnx.draft import attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from numpy.typing import NDArray
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

    Arrays = list[NDArray[np.generic]]

_LIMIT = 2**22
"""Elements that folding may create beyond those it was given."""

FOLDABLE = frozenset(
    {
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Clip",
        "Concat",
        "ConstantOfShape",
        "DequantizeLinear",
        "Div",
        "Equal",
        "Erf",
        "Exp",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Log",
        "MatMul",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pow",
        "Range",
        "Reciprocal",
        "ReduceL2",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Reshape",
        "Round",
        "Sigmoid",
        "Sign",
        "Size",
        "Slice",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)
"""Operators of shape arithmetic and of weight reparametrisation. BatchNormalization must not join."""

_IMPLEMENTED_SINCE = {"DequantizeLinear": 19}
"""Where the reference lacks older versions that mean the same."""


def evaluate(draft: Draft, node: NodeProto) -> Arrays | None:
    """The outputs of a node whose inputs are all constant; None where it is not worth or safe it."""
    arrays = [draft.constants[name] for name in node.input if name]
    if any(array.dtype == object for array in arrays):
        return None
    try:
        if _size(node, arrays) > _LIMIT + sum(array.size for array in arrays):
            return None
        if node.op_type == "ConstantOfShape":
            shape = arrays[0]
            value = attributes(node).get("value")
            fill = np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)  # type: ignore[arg-type]
            filled = np.full([int(size) for size in shape], fill.ravel()[0], dtype=fill.dtype)
            return [filled]
        feeds = {name: draft.constants[name] for name in node.input if name}
        return _run(draft, node, feeds)
    except Exception:  # the reference raises whatever numpy does; the node then stays
        return None


def _run(draft: Draft, node: NodeProto, feeds: dict[str, NDArray[np.generic]]) -> Arrays:
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in feeds.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], "fold", inputs, outputs)
    opset = max(draft.opset, _IMPLEMENTED_SINCE.get(node.op_type, 0))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        results = ReferenceEvaluator(model).run(None, feeds)
    # asarray, not ascontiguousarray: the latter turns 0-d into 1-d, and scalar inputs break.
    return [np.asarray(result) for result in results]


def _size(node: NodeProto, arrays: Arrays) -> int:
    """An upper bound on the elements of the result."""
    measure = _GROWTH.get(node.op_type)
    if measure is not None:
        return measure(arrays)
    if node.op_type in _SHRINKING:
        return 0
    return _product(np.broadcast_shapes(*(array.shape for array in arrays)))


def _product(values: tuple[int, ...] | NDArray[np.generic]) -> int:
    size = 1
    for value in values:
        size *= max(int(value), 1)
    return size


def _range(arrays: Arrays) -> int:
    start, limit, delta = (float(np.ravel(array)[0]) for array in arrays)
    return int(abs((limit - start) / delta)) + 1


_SHRINKING = frozenset(
    {
        "Cast",
        "Clip",
        "Concat",
        "DequantizeLinear",
        "Flatten",
        "ReduceL2",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Reshape",
        "Size",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)

_GROWTH: dict[str, Callable[[Arrays], int]] = {
    "ConstantOfShape": lambda a: _product(a[0]),
    "Expand": lambda a: _product(a[1]) * a[0].size,
    "Tile": lambda a: _product(a[1]) * a[0].size,
    "Range": _range,
    "Gather": lambda a: a[1].size * max(a[0].size, 1) // max(min(a[0].shape or (1,)), 1),
    "MatMul": lambda a: _product(a[0].shape[:-1]) * _product(a[1].shape[-1:]),
}


def content_of(makers: Mapping[str, NodeProto], name: str) -> Hashable:
    """The content of a gamma or beta, see `bnaudit.load.onnx.names.layers_by_use`.

    Args:
        makers: value -> the node that makes it.
        name: of the value.
    """
    node = makers.get(name)
    if node is None or node.op_type == "Identity":
        return name
    value = next((a.t for a in node.attribute if a.name == "value"), None)
    if node.op_type != "Constant" or value is None:
        return None
    return bytes(numpy_helper.to_array(value).tobytes())
