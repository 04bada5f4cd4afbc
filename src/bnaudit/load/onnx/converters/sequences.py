"""Lists of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.load.onnx.converters.base import Converted, apply, options

if TYPE_CHECKING:
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft


def split_to_sequence(node: NodeProto, _: Draft) -> Converted:
    """A list of tensors; without sizes each has extent 1, and may lose the axis."""
    values = options(node)
    axis, keep = int(values.get("axis", 0)), bool(values.get("keepdims", 1))

    def run(x: torch.Tensor, sizes: torch.Tensor | None = None) -> list[torch.Tensor]:
        if sizes is None:
            return list(x.split(1, axis) if keep else x.unbind(axis))
        return list(x.split(sizes.tolist() if sizes.dim() else int(sizes), axis))

    return apply(node, run)


def at(node: NodeProto, _: Draft) -> Converted:
    """One tensor of a list."""
    return apply(node, lambda sequence, index: sequence[int(index)])


def construct(node: NodeProto, _: Draft) -> Converted:
    """A list of the inputs; without any, the empty one."""
    return apply(node, lambda *tensors: list(tensors))


def length(node: NodeProto, _: Draft) -> Converted:
    """How many tensors a list has."""
    return apply(node, lambda sequence: torch.tensor(len(sequence)))


def insert(node: NodeProto, _: Draft) -> Converted:
    """A longer list; at the end without a position."""

    def run(
        sequence: list[torch.Tensor], x: torch.Tensor, position: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        index = len(sequence) if position is None else int(position) % (len(sequence) + 1)
        return [*sequence[:index], x, *sequence[index:]]

    return apply(node, run)


def concat(node: NodeProto, _: Draft) -> Converted:
    """One tensor of a list, along an axis or along a new one."""
    values = options(node)
    axis = int(values["axis"])
    join = torch.stack if values.get("new_axis", 0) else torch.cat
    return apply(node, lambda sequence: join(sequence, axis))
