"""Letting a model that was exported for one batch size run at any.

Exporters write the batch size into Reshape and Expand constants. Which entry of a shape is the
batch size cannot be read off the number (1 is everywhere), so the position of the batch axis is
followed through the graph, from the inputs on. Whether the result is right is checked later by
running it: row 0 of a batch must equal the run of that row alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import ValueInfoProto

from bnaudit.load.onnx.batch_axis import Place, batch_places
from bnaudit.load.onnx.draft import dimension, set_attributes
from bnaudit.load.onnx.infer import infer

if TYPE_CHECKING:
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

_SYMBOL = "bnaudit_batch"


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


def lift(draft: Draft, batch: int) -> None:
    """Lets constant shapes follow the batch size, and frees the inputs' first axis.

    `draft.types` are those of the exported batch size afterwards, until the next inference.

    Args:
        draft: the graph, whose inputs may have been freed by an earlier call.
        batch: the batch size the file was exported with.
    """
    pin(draft, batch)
    places = batch_places(draft, batch)
    for node in draft.nodes:
        if node.op_type == "Reshape":
            _lift_reshape(draft, node, places, batch)
        elif node.op_type == "Expand":
            _lift_expand(draft, node, places, batch)
    draft.inputs = [_with_batch(value, _SYMBOL) for value in draft.inputs]


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


def _lift_reshape(draft: Draft, node: NodeProto, places: dict[str, Place], batch: int) -> None:
    target = draft.constants.get(node.input[1])
    source, place = places.get(node.input[0]), places.get(node.output[0])
    if target is None or source is None or place is None:
        return
    shape = [int(size) for size in target]
    if place.axis >= len(shape) or shape[place.axis] <= 0:
        return
    if -1 not in shape:
        shape[place.axis] = -1
    elif source == place and place.outer == 1 and shape[place.axis] == batch:
        shape[place.axis] = 0
    elif not _swap_wildcard(draft, node, shape, place.axis):
        return
    set_attributes(node, allowzero=None)
    _replace_input(draft, node, shape)


def _swap_wildcard(draft: Draft, node: NodeProto, shape: list[int], axis: int) -> bool:
    """Moves the -1 to the batch axis, where the size it stood for is known."""
    wildcard = shape.index(-1)
    static = draft.shape(node.output[0])
    size = static[wildcard] if static is not None and len(static) == len(shape) else None
    if not isinstance(size, int):
        return False
    shape[wildcard], shape[axis] = size, -1
    return True


def _lift_expand(draft: Draft, node: NodeProto, places: dict[str, Place], batch: int) -> None:
    """Expand broadcasts both ways: a 1 keeps whatever batch size the data has."""
    target = draft.constants.get(node.input[1])
    place, data = places.get(node.output[0]), draft.shape(node.input[0])
    if target is None or place is None or data is None or node.input[0] not in places:
        return
    position = place.axis - (max(len(data), target.size) - target.size)
    if 0 <= position < target.size and int(target[position]) == batch:
        shape = [int(size) for size in target]
        shape[position] = 1
        _replace_input(draft, node, shape)


def _replace_input(draft: Draft, node: NodeProto, shape: list[int]) -> None:
    name = f"{node.name or node.output[0]}/lifted"
    draft.constants[name] = np.array(shape, dtype=np.int64)
    node.input[1] = name
