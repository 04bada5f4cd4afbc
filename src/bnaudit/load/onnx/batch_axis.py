"""Following the batch axis from the inputs through the graph."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from bnaudit.load.onnx.draft import attributes

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

    Rule = Callable[[Draft, NodeProto, int], int | None]


class Place(NamedTuple):
    """Where the batch is in a value.

    Attributes:
        axis: the axis that grows with the batch size.
        outer: how many blocks of that axis precede it: an axis of length*batch has outer = length.
    """

    axis: int
    outer: int


_SECOND, _THIRD = Place(1, 1), Place(2, 1)
_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
"""From (length, batch, size) to (length, directions, batch, hidden), and states without the length."""


def batch_places(draft: Draft, batch: int) -> dict[str, Place]:
    """Value name -> place of the batch; values without one, or where it is lost, are absent.

    Args:
        draft: with `types` inferred at that batch size.
        batch: the batch size the file was exported with.
    """
    inputs = (value for value in draft.inputs if len(value.type.tensor_type.shape.dim) > 0)
    places = {value.name: Place(0, 1) for value in inputs}
    for node in draft.nodes:
        source = next((name for name in node.input if name in places), None)
        if source is None:
            continue
        if node.op_type in _RECURRENT:
            if places[source] == _SECOND and source == node.input[0]:
                states = dict.fromkeys((name for name in node.output[1:] if name), _SECOND)
                places.update(states | {node.output[0]: _THIRD})
            continue
        place = _place(draft, node, source, places[source], batch)
        if place is not None:
            places.update(dict.fromkeys((name for name in node.output if name), place))
    return places


def _place(draft: Draft, node: NodeProto, source: str, place: Place, batch: int) -> Place | None:
    if node.op_type == "Reshape":
        return _reshape(draft, node, place, batch)
    if node.op_type in _RULES:
        axis = _RULES[node.op_type](draft, node, place.axis) if source == node.input[0] else None
    else:
        axis = _aligned(draft, node, source, place.axis)
    return None if axis is None else Place(axis, place.outer)


def _reshape(draft: Draft, node: NodeProto, place: Place, batch: int) -> Place | None:
    """Row-major order keeps the number of elements' blocks in front of the batch.

    With P blocks in front, output axis j may hold the batch if the axes before it make up a divisor
    of P, and together with it a multiple of P*batch. For batch size 1 several may: an axis that is
    the batch size exactly comes first, then one that starts with the batch, then one that merges the
    batch with an axis before it; the last axis, which features are contracted over, comes last.
    """
    before, after = draft.shape(node.input[0]), draft.shape(node.output[0])
    first = after[0] if after else None
    if place == Place(0, 1) and (not isinstance(first, int) or first % batch == 0):
        return place
    front = None if before is None else _product(before[: place.axis])
    if front is None or after is None:
        return None
    blocks = front * place.outer
    candidates: list[tuple[int, Place]] = []
    for axis, size in enumerate(after):
        ahead = _product(after[:axis])
        if ahead is None or blocks % ahead or not isinstance(size, int):
            break
        if ahead * size % (blocks * batch) == 0:
            rank = _preference(size == batch, ahead == blocks, axis == len(after) - 1)
            candidates.append((rank, Place(axis, blocks // ahead)))
    return min(candidates)[1] if candidates else None


def _preference(exact: bool, starts: bool, last: bool) -> int:
    if starts:
        return 0 if exact else 3 if last else 1
    return 2


def _product(sizes: tuple[int | str | None, ...]) -> int | None:
    known = [size for size in sizes if isinstance(size, int)]
    return math.prod(known) if len(known) == len(sizes) else None


def _rank(draft: Draft, name: str) -> int | None:
    shape = draft.shape(name)
    return None if shape is None else len(shape)


def _aligned(draft: Draft, node: NodeProto, source: str, axis: int) -> int:
    """Elementwise operators align shapes at their last axis; most others keep the rank."""
    own, result = _rank(draft, source), _rank(draft, node.output[0])
    return axis if own is None or result is None else axis + result - own


def _same(_: Draft, __: NodeProto, axis: int) -> int | None:
    return axis


def _none(_: Draft, __: NodeProto, ___: int) -> int | None:
    return None


def _transpose(draft: Draft, node: NodeProto, axis: int) -> int | None:
    for attribute in node.attribute:
        if attribute.name == "perm":
            return list(attribute.ints).index(axis)
    rank = _rank(draft, node.input[0])
    return None if rank is None else rank - 1 - axis


def _axes(draft: Draft, node: NodeProto, rank: int | None) -> list[int] | None:
    """The axes of Squeeze and its kind: an attribute until opset 12, then an input."""
    if rank is None:
        return None
    for attribute in node.attribute:
        if attribute.name == "axes":
            return [axis % rank for axis in attribute.ints]
    values = draft.constants.get(node.input[1]) if len(node.input) > 1 else None
    return None if values is None else [int(axis) % rank for axis in values]


def _squeeze(draft: Draft, node: NodeProto, axis: int) -> int | None:
    gone = _axes(draft, node, _rank(draft, node.input[0]))
    if gone is None or axis in gone:
        return None
    return axis - sum(other < axis for other in gone)


def _unsqueeze(draft: Draft, node: NodeProto, axis: int) -> int | None:
    added = _axes(draft, node, _rank(draft, node.output[0]))
    if added is None:
        return None
    for position in sorted(added):
        axis += position <= axis
    return axis


def _reduce(draft: Draft, node: NodeProto, axis: int) -> int | None:
    return axis if attributes(node).get("keepdims", 1) else _squeeze(draft, node, axis)


def _gather(draft: Draft, node: NodeProto, axis: int) -> int | None:
    rank, picked = _rank(draft, node.input[0]), _rank(draft, node.input[1])
    if rank is None or picked is None:
        return None
    along = next((a.i for a in node.attribute if a.name == "axis"), 0) % rank
    if axis == along:
        return None
    return axis if axis < along else axis - 1 + picked


_RULES: dict[str, Rule] = {
    "ArgMax": _reduce,
    "ArgMin": _reduce,
    "Conv": _same,
    "ConvTranspose": _same,
    "Flatten": _same,
    "Gather": _gather,
    "Gemm": _same,
    "ReduceL1": _reduce,
    "ReduceL2": _reduce,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceMin": _reduce,
    "ReduceProd": _reduce,
    "ReduceSum": _reduce,
    "ReduceSumSquare": _reduce,
    "Shape": _none,
    "Size": _none,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Every operator not listed keeps the position, counted from the last axis."""
