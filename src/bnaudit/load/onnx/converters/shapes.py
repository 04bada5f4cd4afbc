"""Moving elements around: no arithmetic, only order and extent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from bnaudit.load.onnx.converters.base import Converted, apply, constant, options

if TYPE_CHECKING:
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft


def reshape(node: NodeProto, draft: Draft) -> Converted:
    """A 0 copies the input's size, unless the node says it means zero."""
    keep_zeros = bool(options(node).get("allowzero", 0))
    fixed = constant(draft, node, 1)
    known = None if fixed is None else [int(size) for size in fixed]

    def run(x: torch.Tensor, shape: torch.Tensor | None = None) -> torch.Tensor:
        sizes = known if known is not None else shape.tolist()  # type: ignore[union-attr]
        if not keep_zeros:
            sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
        return x.reshape(sizes)

    return apply(node, run)


def flatten(node: NodeProto, _: Draft) -> Converted:
    """Always two axes: everything before `axis`, and the rest."""
    axis = int(options(node).get("axis", 1))

    def run(x: torch.Tensor) -> torch.Tensor:
        position = axis % x.dim() if axis < 0 else axis
        # -1 would be ambiguous for an empty batch
        return x.reshape(math.prod(x.shape[:position]), math.prod(x.shape[position:]))

    return apply(node, run)


def expand(node: NodeProto, draft: Draft) -> Converted:
    """Broadcasts both ways: a 1 in the wanted shape keeps the input's size."""
    fixed = constant(draft, node, 1)
    known = None if fixed is None else [int(size) for size in fixed]

    def run(x: torch.Tensor, shape: torch.Tensor | None = None) -> torch.Tensor:
        sizes = known if known is not None else shape.tolist()  # type: ignore[union-attr]
        return x.expand(torch.broadcast_shapes(x.shape, sizes))

    return apply(node, run)


def slice_(node: NodeProto, _: Draft) -> Converted:
    """ONNX clamps starts and ends as Python's slices do; torch lacks the negative steps."""

    def run(
        x: torch.Tensor,
        starts: torch.Tensor,
        ends: torch.Tensor,
        axes: torch.Tensor | None = None,
        steps: torch.Tensor | None = None,
    ) -> torch.Tensor:
        begins, stops = starts.tolist(), ends.tolist()
        chosen = list(range(len(begins))) if axes is None else axes.tolist()
        strides = [1] * len(begins) if steps is None else steps.tolist()
        for begin, end, axis, step in zip(begins, stops, chosen, strides, strict=True):
            x = _slice_axis(x, axis % x.dim(), slice(begin, end, step))
        return x

    return apply(node, run)


def _slice_axis(x: torch.Tensor, axis: int, part: slice) -> torch.Tensor:
    begin, end, step = part.indices(x.shape[axis])
    if step > 0:
        return x[(slice(None),) * axis + (slice(begin, end, step),)]
    return x.index_select(axis, torch.arange(begin, end, step, device=x.device))


def split(node: NodeProto, _: Draft) -> Converted:
    """Sizes as an input, or equal parts of which the last may be smaller."""
    values = options(node)
    axis, parts = int(values.get("axis", 0)), len(node.output)

    def run(x: torch.Tensor, sizes: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        extent = -(-x.shape[axis] // parts) if sizes is None else sizes.tolist()
        pieces: tuple[torch.Tensor, ...] = x.split(extent, axis)
        return pieces

    def run_single(x: torch.Tensor, sizes: torch.Tensor | None = None) -> torch.Tensor:
        return run(x, sizes)[0]

    return apply(node, run if parts > 1 else run_single)


def depth_to_space(node: NodeProto, _: Draft) -> Converted:
    """Blocks of channels into the plane; the two modes order them differently."""
    values = options(node)
    block, by_column = int(values["blocksize"]), values.get("mode", "DCR") == "CRD"

    def run(x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        depth = c // (block * block)
        if by_column:
            split = x.reshape(n, depth, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
        else:
            split = x.reshape(n, block, block, depth, h, w).permute(0, 3, 4, 1, 5, 2)
        return split.reshape(n, depth, h * block, w * block)

    return apply(node, run)


def space_to_depth(node: NodeProto, _: Draft) -> Converted:
    """The inverse of DepthToSpace in its DCR order."""
    block = int(options(node)["blocksize"])

    def run(x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        split = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
        return split.reshape(n, c * block * block, h // block, w // block)

    return apply(node, run)
