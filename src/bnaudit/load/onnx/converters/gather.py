"""Writing at computed places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnaudit.load.onnx.converters.base import Converted, apply, options

if TYPE_CHECKING:
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def scatter_elements(node: NodeProto, _: Draft) -> Converted:
    """Replaces single elements, or combines them with what was there."""
    values = options(node)
    axis, reduction = int(values.get("axis", 0)), values.get("reduction", "none")

    def run(x: torch.Tensor, index: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
        places = torch.where(index < 0, index + x.shape[axis], index)
        if reduction == "none":
            return x.scatter(axis, places, updates)
        return x.scatter_reduce(axis, places, updates, _REDUCTIONS[reduction])

    return apply(node, run)


def reverse_sequence(node: NodeProto, _: Draft) -> Converted:
    """Turns the beginning of each sequence around, as far as its length says."""
    values = options(node)
    time, batch = int(values.get("time_axis", 0)), int(values.get("batch_axis", 1))

    def run(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        step = torch.arange(x.shape[time], device=x.device)[:, None]
        source = torch.where(step < lengths, lengths - 1 - step, step)
        if batch < time:
            source = source.T
        shape = [1] * x.dim()
        shape[time], shape[batch] = x.shape[time], x.shape[batch]
        return x.gather(time, source.reshape(shape).expand(x.shape))

    return apply(node, run)
