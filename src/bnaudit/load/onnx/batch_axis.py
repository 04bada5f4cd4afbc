"""Following the batch axis from the inputs through the graph."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from bnaudit.load.onnx.draft import attributes

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

    Shape = tuple[int | str | None, ...]
    Rule = Callable[[Draft, NodeProto, str, int], int | None]


class Place(NamedTuple):
    """Where the batch is in a value.

    Attributes:
        axis: the axis that grows with the batch size.
        outer: how many blocks of that axis precede it: an axis of length*batch has outer = length.
    """

    axis: int
    outer: int


_SECOND, _THIRD = Place(1, 1), Place(2, 1)
RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
"""From (length, batch, size) to (length, directions, batch, hidden), and states without the length."""


def batch_places(draft: Draft, batch: int) -> dict[str, Place]:
    """Value name -> place of the batch; values without one, or where it is lost, are absent.

    Args:
        draft: with `types` inferred at that batch size.
        batch: the batch size the file was exported with.
    """
    inputs = (value for value in draft.inputs if len(value.type.tensor_type.shape.dim) > 0)
    places = {value.name: Place(0, 1) for value in inputs}
    readers = draft.consumers()
    for node in draft.nodes:
        source = next((name for name in node.input if name in places), None)
        if source is None:
            continue
        if node.op_type in RECURRENT:
            if places[source] == _SECOND and source == node.input[0]:
                states = dict.fromkeys((name for name in node.output[1:] if name), _SECOND)
                places.update(states | {node.output[0]: _THIRD})
            continue
        found: Place | None = None
        if node.op_type == "Reshape":
            dropped = _dropped(draft, readers[node.output[0]])
            found = _reshape(draft, node, places[source], batch, dropped)
        else:
            rule = _RULES.get(node.op_type, _aligned)
            axis = rule(draft, node, source, places[source].axis)
            found = None if axis is None else Place(axis, places[source].outer)
        if found is not None:
            places.update(dict.fromkeys((name for name in node.output if name), found))
    return places


def _dropped(draft: Draft, readers: list[NodeProto]) -> set[int]:
    """Axes of one entry that are taken away again: none of them is the batch."""
    gone: set[int] = set()
    for node in readers:
        rank = _rank(draft, node.input[0])
        if node.op_type == "Squeeze":
            gone.update(_axes(draft, node, rank) or ())
        elif node.op_type == "Gather" and rank is not None and node.input[1] in draft.constants:
            gone.add(next((a.i for a in node.attribute if a.name == "axis"), 0) % rank)
    return gone


def _reshape(
    draft: Draft, node: NodeProto, place: Place, batch: int, dropped: set[int]
) -> Place | None:
    """Row-major order keeps the number of elements' blocks in front of the batch.

    With P blocks in front, output axis j may hold the batch if the axes before it make up a divisor
    of P, and together with it a multiple of P*batch. For batch size 1 several may, see `_preference`.
    """
    before, after = draft.shape(node.input[0]), draft.shape(node.output[0])
    front = None if before is None else _product(before[: place.axis])
    if before is None or front is None or not after or not isinstance(after[0], int):
        return place if place == Place(0, 1) else None
    blocks = front * place.outer
    candidates: list[tuple[bool, int, Place]] = []
    for axis, size in enumerate(after):
        ahead = _product(after[:axis])
        if ahead is None or blocks % ahead or not isinstance(size, int):
            break
        if ahead * size % (blocks * batch) == 0:
            rank = _preference(
                before, after, place.axis, axis, exact=size == batch, starts=ahead == blocks
            )
            candidates.append((axis in dropped, rank, Place(axis, blocks // ahead)))
    return min(candidates)[2] if candidates else None


def _preference(
    before: Shape, after: Shape, was: int, axis: int, *, exact: bool, starts: bool
) -> int:
    """How likely an axis holds the batch, the likeliest first.

    An axis that stays where it was among as many, or the one in front where it alone is gone; one that
    is the batch size exactly; one that starts with the batch; one that ends with it; and the last axis,
    which features are contracted over.
    """
    gone = before[:was] + before[was + 1 :] == after
    if (starts and axis == was and len(before) == len(after)) or (gone and axis == was - 1):
        return 0
    if starts:
        return 1 if exact else 4 if axis == len(after) - 1 else 2
    return 3


def _product(sizes: Shape) -> int | None:
    known = [size for size in sizes if isinstance(size, int)]
    return math.prod(known) if len(known) == len(sizes) else None


def _rank(draft: Draft, name: str) -> int | None:
    shape = draft.shape(name)
    return None if shape is None else len(shape)


def _aligned(draft: Draft, node: NodeProto, source: str, axis: int) -> int | None:
    """Elementwise operators align shapes at their last axis; most others keep the rank."""
    own, result = _rank(draft, source), _rank(draft, node.output[0])
    moved = axis if own is None or result is None else axis + result - own
    return moved if moved >= 0 else None


def _first(rule: Callable[[Draft, NodeProto, int], int | None]) -> Rule:
    """The rule of an operator whose other inputs are settings and weights."""
    return lambda draft, node, source, axis: (
        rule(draft, node, axis) if source == node.input[0] else None
    )


def _same(_: Draft, __: NodeProto, axis: int) -> int | None:
    return axis


def _none(_: Draft, __: NodeProto, ___: int) -> int | None:
    return None


def _matmul(draft: Draft, node: NodeProto, source: str, axis: int) -> int | None:
    """Rows of the first, columns of the second; what is summed over is gone."""
    own, result = _rank(draft, source), _rank(draft, node.output[0])
    other = _rank(draft, node.input[source == node.input[0]])
    if own is None or result is None or other is None:
        return None
    summed = own - 1 if source == node.input[0] else max(own - 2, 0)
    if axis == summed:
        return None
    return axis if other == 1 else axis + result - own


def _einsum(_: Draft, node: NodeProto, source: str, axis: int) -> int | None:
    """The letter of the axis, where the equation names all letters."""
    equation = str(attributes(node).get("equation", "")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    term = terms.split(",")[list(node.input).index(source)]
    if not arrow or "." in equation or axis >= len(term):
        return None
    found = result.find(term[axis])
    return found if found >= 0 else None


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


def _gather(draft: Draft, node: NodeProto, source: str, axis: int) -> int | None:
    """The axes of the indices stand where the axis stood that they pick from."""
    rank, picked = _rank(draft, node.input[0]), _rank(draft, node.input[1])
    if rank is None or picked is None:
        return None
    along = next((a.i for a in node.attribute if a.name == "axis"), 0) % rank
    if source != node.input[0]:
        return along + axis
    if axis == along:
        return None
    return axis if axis < along else axis - 1 + picked


_RULES: dict[str, Rule] = {
    "ArgMax": _first(_reduce),
    "ArgMin": _first(_reduce),
    "CastLike": _first(_same),
    "Conv": _first(_same),
    "ConvTranspose": _first(_same),
    "Einsum": _einsum,
    "Flatten": _first(_same),
    "Gather": _gather,
    "Gemm": _first(_same),
    "MatMul": _matmul,
    "ReduceL1": _first(_reduce),
    "ReduceL2": _first(_reduce),
    "ReduceMax": _first(_reduce),
    "ReduceMean": _first(_reduce),
    "ReduceMin": _first(_reduce),
    "ReduceProd": _first(_reduce),
    "ReduceSum": _first(_reduce),
    "ReduceSumSquare": _first(_reduce),
    "Shape": _first(_none),
    "Size": _first(_none),
    "Squeeze": _first(_squeeze),
    "Transpose": _first(_transpose),
    "Unsqueeze": _first(_unsqueeze),
}
"""Every operator not listed keeps the position, counted from the last axis."""
