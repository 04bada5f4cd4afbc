"""Conversions of type that follow the precision in which the model is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from onnx import helper
from torch import nn

from bnaudit.load.onnx.converters.base import Converted, apply, options

if TYPE_CHECKING:
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft


class CastToFloat(nn.Module):
    """To the file's precision, or to what the whole module was converted to since.

    A model that is run in another precision than it was written in must not fall back in between.
    """

    precision: torch.Tensor

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("precision", torch.zeros((), dtype=dtype), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same values in that precision."""
        return x.to(self.precision.dtype)


def cast(node: NodeProto, _: Draft) -> Converted:
    """To the type that an attribute names."""
    kind = helper.tensor_dtype_to_np_dtype(int(options(node)["to"]))
    dtype = getattr(torch, kind.name, None)
    if not isinstance(dtype, torch.dtype):
        raise NotImplementedError(f"PyTorch has no type {kind.name}")
    if dtype.is_floating_point:
        return Converted(CastToFloat(dtype), (node.input[0],))
    return apply(node, lambda x: x.to(dtype))


def cast_like(node: NodeProto, _: Draft) -> Converted:
    """To the type of another value."""
    return apply(node, lambda x, like: x.to(like.dtype))
