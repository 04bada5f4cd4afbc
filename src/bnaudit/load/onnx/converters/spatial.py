"""Sampling a plane at computed places, and putting patches back together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from bnaudit.load.onnx.converters.base import Converted, apply, options

if TYPE_CHECKING:
    import torch
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

_MODES = {"bilinear": "bilinear", "linear": "bilinear", "cubic": "bicubic", "bicubic": "bicubic"}


def grid_sample(node: NodeProto, _: Draft) -> Converted:
    """Spatial transformers; opset 20 renamed the modes."""
    values = options(node)
    mode = _MODES.get(values.get("mode", "linear"), "nearest")
    padding, aligned = values.get("padding_mode", "zeros"), bool(values.get("align_corners", 0))
    return apply(
        node, lambda x, grid: functional.grid_sample(x, grid, mode, padding, align_corners=aligned)
    )


def affine_grid(node: NodeProto, _: Draft) -> Converted:
    """The places that an affine map looks at, for a wanted shape."""
    aligned = bool(options(node).get("align_corners", 0))
    return apply(
        node,
        lambda theta, size: functional.affine_grid(theta, size.tolist(), align_corners=aligned),
    )


def column_to_image(node: NodeProto, _: Draft) -> Converted:
    """Col2Im of two spatial axes: overlapping blocks are added up."""
    values = options(node)
    strides, dilations = (tuple(values.get(key, (1, 1))) for key in ("strides", "dilations"))
    pads = list(values.get("pads", [0, 0, 0, 0]))
    if len(pads) != 4 or pads[:2] != pads[2:]:
        raise NotImplementedError("it is supported for planes with the same padding at both sides")

    def run(x: torch.Tensor, image: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        sizes = tuple(image.tolist()), tuple(block.tolist())
        return functional.fold(x, *sizes, dilations, tuple(pads[:2]), strides)

    return apply(node, run)
