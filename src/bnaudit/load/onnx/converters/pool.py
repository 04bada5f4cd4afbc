"""Pooling."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from bnaudit.load.onnx.converters.base import Converted, apply, options
from bnaudit.load.onnx.converters.padding import explicit_pads, pad_zeros, split_pads

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

_MAX: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
_AVERAGE: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


def max_pool(node: NodeProto, _: Draft) -> Converted:
    """Padding never wins a maximum, so it is -inf."""
    values = options(node)
    kernel = tuple(values["kernel_shape"])
    rank = len(kernel)
    if len([name for name in node.output if name]) > 1:
        raise NotImplementedError("its second output (indices) is not supported")
    strides = tuple(values.get("strides", (1,) * rank))
    dilations = tuple(values.get("dilations", (1,) * rank))
    ceil = bool(values.get("ceil_mode", 0))
    symmetric, pads = split_pads(values, rank)
    # torch refuses padding of more than half the window
    fits = symmetric is not None and all(2 * p <= k for p, k in zip(symmetric, kernel, strict=True))

    def run(x: torch.Tensor) -> torch.Tensor:
        pool = _MAX[rank]
        if fits:
            return pool(x, kernel, strides, symmetric, dilations, ceil_mode=ceil)
        sides = pads or explicit_pads(values["auto_pad"], x.shape[2:], kernel, strides, dilations)
        padded = pad_zeros(x, sides, float("-inf"))
        return pool(padded, kernel, strides, 0, dilations, ceil_mode=ceil)

    return apply(node, run)


def average_pool(node: NodeProto, _: Draft) -> Converted:
    """Whether padding counts in the mean is an attribute; if not, divide by what was covered."""
    values = options(node)
    kernel = tuple(values["kernel_shape"])
    rank = len(kernel)
    strides = tuple(values.get("strides", (1,) * rank))
    dilations = tuple(values.get("dilations", (1,) * rank))
    if any(d != 1 for d in dilations):
        raise NotImplementedError("dilated average pooling is not supported")
    ceil, counted = bool(values.get("ceil_mode", 0)), bool(values.get("count_include_pad", 0))
    symmetric, pads = split_pads(values, rank)
    fits = symmetric is not None and all(2 * p <= k for p, k in zip(symmetric, kernel, strict=True))

    def run(x: torch.Tensor) -> torch.Tensor:
        pool = _AVERAGE[rank]
        if fits:
            return pool(x, kernel, strides, symmetric, ceil, counted)
        sides = pads or explicit_pads(values["auto_pad"], x.shape[2:], kernel, strides, dilations)
        total = pool(pad_zeros(x, sides), kernel, strides, 0, ceil)
        if counted:
            return total
        inside = x.new_ones((1, 1, *x.shape[2:]))
        return total / pool(pad_zeros(inside, sides), kernel, strides, 0, ceil)

    return apply(node, run)


def lp_pool(node: NodeProto, _: Draft) -> Converted:
    """The p-norm of what each window covers; padding is 0."""
    values = options(node)
    kernel, p = tuple(values["kernel_shape"]), int(values.get("p", 2))
    rank = len(kernel)
    strides = tuple(values.get("strides", (1,) * rank))
    if any(d != 1 for d in values.get("dilations", ())) or values.get("ceil_mode", 0):
        raise NotImplementedError("dilations and ceil_mode are not supported")
    pads = split_pads(values, rank)[1]
    count = math.prod(kernel)

    def run(x: torch.Tensor) -> torch.Tensor:
        sides = pads or explicit_pads(values["auto_pad"], x.shape[2:], kernel, strides, (1,) * rank)
        powers = pad_zeros(x.abs() ** p, sides)
        total = count * _AVERAGE[rank](powers, kernel, strides)
        root: torch.Tensor = total ** (1 / p)
        return root

    return apply(node, run)


def global_lp_pool(node: NodeProto, _: Draft) -> Converted:
    """The p-norm over all axes after the channels."""
    p = int(options(node).get("p", 2))
    return apply(
        node, lambda x: torch.linalg.vector_norm(x, p, tuple(range(2, x.dim())), keepdim=True)
    )


def global_average_pool(node: NodeProto, _: Draft) -> Converted:
    """The mean over all axes after the channels, whatever their number."""
    return apply(node, lambda x: x.mean(dim=tuple(range(2, x.dim())), keepdim=True))


def global_max_pool(node: NodeProto, _: Draft) -> Converted:
    """The maximum over all axes after the channels."""
    return apply(node, lambda x: x.amax(dim=tuple(range(2, x.dim())), keepdim=True))
