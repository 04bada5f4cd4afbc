"""Reductions, with axes as an attribute (until opset 17) or as an input (from 18 on)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.load.onnx.converters.base import Converted, apply, constant, options

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

    Reduction = Callable[[torch.Tensor, list[int], bool], torch.Tensor]


def _product(x: torch.Tensor, dims: list[int], keep: bool) -> torch.Tensor:
    for dim in sorted(dims, reverse=True):
        x = x.prod(dim=dim, keepdim=keep)
    return x


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceL1": lambda x, dims, keep: x.abs().sum(dims, keep),
    "ReduceL2": lambda x, dims, keep: torch.linalg.vector_norm(x, 2, dims, keep),
    "ReduceLogSum": lambda x, dims, keep: x.sum(dims, keep).log(),
    "ReduceLogSumExp": lambda x, dims, keep: x.logsumexp(dims, keep),
    "ReduceMax": lambda x, dims, keep: x.amax(dims, keep),
    "ReduceMean": lambda x, dims, keep: x.mean(dims, keep),
    "ReduceMin": lambda x, dims, keep: x.amin(dims, keep),
    "ReduceProd": _product,
    "ReduceSum": lambda x, dims, keep: x.sum(dims, keep),
    "ReduceSumSquare": lambda x, dims, keep: x.square().sum(dims, keep),
}

OPERATORS = tuple(_REDUCTIONS)


def reduce(node: NodeProto, draft: Draft) -> Converted:
    """No axes means all of them, unless the node says it means none."""
    values = options(node)
    reduction, keep = _REDUCTIONS[node.op_type], bool(values.get("keepdims", 1))
    fixed = values.get("axes")
    if fixed is None:
        fixed = constant(draft, node, 1)
    known = None if fixed is None else [int(axis) for axis in fixed]
    idle = bool(values.get("noop_with_empty_axes", 0))

    def run(x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
        chosen = known if known is not None else [] if axes is None else axes.tolist()
        if not chosen and idle:
            return x
        dims = [axis % x.dim() for axis in chosen] or list(range(x.dim()))
        return reduction(x, dims, keep)

    return apply(node, run)
