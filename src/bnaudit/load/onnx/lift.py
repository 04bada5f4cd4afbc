"""Letting a model that was exported for one batch size run at any.

Exporters write the batch size into the shapes of Reshape and Expand, and repeat what is the same for
all rows (a class token, a first state) as often as there were. Which entry of a shape is the batch size
cannot be read off the number (1 is everywhere), so the position of the batch axis is followed through
the graph, from the inputs on. That is a guess where several axes have one entry: whether the result is
right is proved later by running it beside the graph as it was (`bnaudit.data.row_check`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import ValueInfoProto, helper

from bnaudit.load.onnx.batch_axis import RECURRENT, Place, batch_places
from bnaudit.load.onnx.draft import attributes, dimension, set_attributes
from bnaudit.load.onnx.infer import infer

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

_SYMBOL = "bnaudit_batch"

_BROADCASTING = frozenset(
    {
        "Add",
        "And",
        "Div",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "MatMul",
        "Max",
    }
    | {"Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor"}
)

_STATES = (5, 6)
"""Inputs of a recurrent layer: (directions, batch, hidden)."""

_EXPAND_SINCE = 8


def static_batch(draft: Draft) -> tuple[int | None, bool]:
    """The batch size that the file was exported with, or None where it leaves it open.

    Returns:
        The size, and whether all inputs share it, so that it can be lifted.
    """
    shapes = [value.type.tensor_type.shape.dim for value in draft.inputs]
    sizes = [dimension(dims[0]) for dims in shapes if len(dims) > 0]
    if not sizes or not isinstance(sizes[0], int):
        return None, False
    return sizes[0], len(set(sizes)) == 1


def lift(draft: Draft, batch: int) -> bool:
    """Lets constant shapes and repeated constants follow the batch size, and frees the inputs' first axis.

    `draft.types` are those of the exported batch size afterwards, until the next inference.

    Args:
        draft: the graph, whose inputs may have been freed by an earlier call.
        batch: the batch size the file was exported with.

    Returns:
        Whether a node had to be changed.
    """
    pin(draft, batch)
    before = [list(node.input) for node in draft.nodes]
    places = batch_places(draft, batch)
    nodes: list[NodeProto] = []
    for node in draft.nodes:
        if node.op_type == "Reshape":
            _lift_reshape(draft, node, places)
        elif node.op_type == "Expand":
            _lift_expand(draft, node, places, batch)
        else:
            _lift_constants(draft, node, places, batch, nodes)
        nodes.append(node)
    draft.inputs = [_with_batch(value, _SYMBOL) for value in draft.inputs]
    changed = before != [list(node.input) for node in nodes]
    draft.nodes = nodes
    return changed


def pin(draft: Draft, batch: int) -> None:
    """Declares the exported batch size again, and infers what follows from it."""
    draft.inputs = [_with_batch(value, batch) for value in draft.inputs]
    infer(draft)


def _with_batch(value: ValueInfoProto, batch: int | str) -> ValueInfoProto:
    copy = ValueInfoProto()
    copy.CopyFrom(value)
    dims = copy.type.tensor_type.shape.dim
    if len(dims) > 0:
        dims[0].Clear()
        if isinstance(batch, int):
            dims[0].dim_value = batch
        else:
            dims[0].dim_param = batch
    return copy


def _lift_reshape(draft: Draft, node: NodeProto, places: dict[str, Place]) -> None:
    target = draft.constants.get(node.input[1])
    source, place = places.get(node.input[0]), places.get(node.output[0])
    if target is None or source is None or place is None:
        return
    shape, axis = [int(size) for size in target], place.axis
    if axis >= len(shape) or shape[axis] <= 0:
        return
    before, after = draft.shape(node.input[0]), draft.shape(node.output[0])
    if -1 not in shape:
        shape[axis] = -1
    elif source == place and before is not None and before[axis] == shape[axis]:
        shape[axis] = 0  # copies what the input has there: right only where that is the same axis
    else:
        wildcard = shape.index(-1)
        known = after[wildcard] if after is not None and len(after) == len(shape) else None
        if not isinstance(known, int):
            return
        shape[wildcard], shape[axis] = known, -1
    set_attributes(node, allowzero=None)
    _replace_input(draft, node, 1, np.array(shape, dtype=np.int64))


def _lift_expand(draft: Draft, node: NodeProto, places: dict[str, Place], batch: int) -> None:
    """Expand broadcasts both ways: a 1 keeps whatever batch size the other side has."""
    target, place = draft.constants.get(node.input[1]), places.get(node.input[0])
    array = draft.constants.get(node.input[0])
    if target is not None and place is not None:
        data = draft.shape(node.input[0]) or (None,) * target.size
        position = place.axis - (len(data) - target.size)
        known = data[place.axis] if isinstance(data[place.axis], int) else batch
        if 0 <= position < target.size and target[position] == known:
            shape = target.astype(np.int64)
            shape[position] = 1
            _replace_input(draft, node, 1, shape)
    elif target is None and array is not None:  # to a computed shape: that has the batch
        for axis, size in enumerate(array.shape):
            once = array.take([0], axis)
            if size == batch > 1 and _is_repeated(array, once):
                array = once
                _replace_input(draft, node, 0, array)


def _is_repeated(array: NDArray[np.generic], once: NDArray[np.generic]) -> bool:
    whole = np.broadcast_to(once, array.shape)
    return np.array_equal(array, whole, equal_nan=array.dtype.kind == "f")


def _lift_constants(
    draft: Draft, node: NodeProto, places: dict[str, Place], batch: int, nodes: list[NodeProto]
) -> None:
    """What is repeated for each row, once, and repeated when the batch size is known.

    Args:
        draft: the graph.
        node: one that may combine a constant with a value that has a batch.
        places: of the batch.
        batch: the exported size.
        nodes: those in front of it, to which those are added that repeat.
    """
    place, shape = places.get(node.output[0] if node.output else ""), draft.shape(node.output[0])
    for index, name in enumerate(node.input):
        array = draft.constants.get(name)
        if array is None or place is None or shape is None:
            continue
        found: tuple[int, int] | None = None  # axis and blocks in front
        if node.op_type in RECURRENT and index in _STATES:
            found = 1, 1
        elif node.op_type == "Concat" and attributes(node).get("axis") not in {
            place.axis,
            place.axis - len(shape),
        }:
            found = place
        elif node.op_type in _BROADCASTING:
            axis = place.axis - (len(shape) - array.ndim)
            outside = axis >= array.ndim - 2 and node.op_type == "MatMul"
            if axis >= 0 and not outside and array.shape[axis] == shape[place.axis] != 1:
                found = axis, place.outer
        if found is not None:
            _repeat(draft, node, index, Place(*found), batch, nodes)


def _repeat(
    draft: Draft, node: NodeProto, index: int, place: Place, batch: int, nodes: list[NodeProto]
) -> None:
    """Replaces a constant whose axis is (blocks, batch, rest) and the same for all of the batch."""
    array, (axis, outer) = draft.constants[node.input[index]], place
    inner, rest = divmod(array.shape[axis], outer * batch)
    if rest or draft.opset < _EXPAND_SINCE:
        return
    split = array.reshape((*array.shape[:axis], outer, batch, inner, *array.shape[axis + 1 :]))
    once = split.take([0], axis + 1)
    if not _is_repeated(split, once):
        return
    if outer == inner == 1 and node.op_type in _BROADCASTING:
        _replace_input(
            draft, node, index, once.reshape((*array.shape[:axis], 1, *array.shape[axis + 1 :]))
        )
        return
    stem = f"{node.name}/{index}"
    source = next(v.name for v in draft.inputs if len(v.type.tensor_type.shape.dim) > 0)
    ahead = np.array([*array.shape[:axis], outer], np.int64)
    behind = np.array([inner, *array.shape[axis + 1 :]], np.int64)
    whole = np.array([*array.shape[:axis], -1, *array.shape[axis + 1 :]], np.int64)
    for name, value in (("once", once), ("ahead", ahead), ("behind", behind), ("whole", whole)):
        draft.constants[f"{stem}/{name}"] = value
    if batch == 1 and node.input[index] in draft.sources:  # still the author's parameter
        source_of = draft.sources[node.input[index]]
        draft.sources[f"{stem}/once"] = source_of._replace(layout=f"{stem}/once")
    draft.constants[f"{stem}/first"] = np.zeros(1, np.int64)
    parts = [f"{stem}/{name}" for name in ("ahead", "rows", "behind")]
    nodes += [
        helper.make_node("Shape", [source], [f"{stem}/shape"]),
        helper.make_node("Gather", [f"{stem}/shape", f"{stem}/first"], [parts[1]], axis=0),
        helper.make_node("Concat", parts, [f"{stem}/sizes"], axis=0),
        helper.make_node("Expand", [f"{stem}/once", f"{stem}/sizes"], [f"{stem}/each"]),
        helper.make_node("Reshape", [f"{stem}/each", f"{stem}/whole"], [f"{stem}/lifted"]),
    ]
    node.input[index] = f"{stem}/lifted"


def _replace_input(draft: Draft, node: NodeProto, index: int, value: NDArray[np.generic]) -> None:
    name = f"{node.name or node.output[0]}/lifted_{index}"
    draft.constants[name] = value
    node.input[index] = name
