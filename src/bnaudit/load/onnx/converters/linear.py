"""Layers with weights: convolutions and matrix products.

Built without `nn.Conv2d` and friends: their constructors draw random weights, which costs more than
reading the real ones and would change the caller's random state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from bnaudit.load.onnx.converters.base import (
    Converted,
    apply,
    constant,
    input_name,
    options,
    shared,
)
from bnaudit.load.onnx.converters.padding import explicit_pads, pad_zeros, split_pads

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

_CONV: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
_CONV_TRANSPOSE: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


class Weighted(nn.Module):
    """A function of an input, a weight and a bias that are either held here or fed."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, function: Callable[..., torch.Tensor], label: str) -> None:
        super().__init__()
        self.function = function
        self.label = label
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)

    def forward(
        self, x: torch.Tensor, weight: Any = None, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Runs with the parameters held here, except those that are fed."""
        return self.function(
            x,
            self.weight if weight is None else weight,
            self.bias if bias is None else bias,
        )

    def extra_repr(self) -> str:
        """The operator."""
        return self.label


def _weighted(
    node: NodeProto,
    draft: Draft,
    function: Callable[..., torch.Tensor],
    *,
    flipped: bool = False,
) -> Converted:
    module = Weighted(function, node.op_type)
    fed = [node.input[0], input_name(node, 1), input_name(node, 2)]
    for index, name in ((1, "weight"), (2, "bias")):
        value = constant(draft, node, index)
        if value is None:
            continue
        fed[index] = ""
        if index == 1 and flipped:
            value = value.T
        if index == 1 or not _is_stray_bias(draft, node, value):
            setattr(module, name, shared(node, draft, index, value))
    return Converted(module, tuple(fed))


def _is_stray_bias(draft: Draft, node: NodeProto, bias: NDArray[Any]) -> bool:
    """Zeros that are no initializer of the file: the author's layer has no bias.

    PyTorch's dynamo exporter gives one to every convolution, and that of PyTorch 2.13 gives a
    Conv3d zeros of shape (channels, 2).
    """
    if bias.any():
        return False
    return not draft.is_authored(node.input[2]) or (node.op_type == "Conv" and bias.ndim > 1)


def _spatial(draft: Draft, node: NodeProto) -> int:
    shape = draft.shape(node.input[1])
    if shape is not None:
        return len(shape) - 2
    kernel = options(node).get("kernel_shape")
    if kernel is None:
        raise NotImplementedError("the rank of its weight is not known")
    return len(kernel)


def conv(node: NodeProto, draft: Draft) -> Converted:
    """Conv of any rank, padding mode and, if it must be, with computed weights."""
    values = options(node)
    rank = _spatial(draft, node)
    function = _CONV[rank]
    strides = tuple(values.get("strides", (1,) * rank))
    dilations = tuple(values.get("dilations", (1,) * rank))
    settings = {"stride": strides, "dilation": dilations, "groups": values.get("group", 1)}
    symmetric, pads = split_pads(values, rank)

    def run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if symmetric is not None:
            return function(x, weight, bias, padding=symmetric, **settings)
        sides = pads or explicit_pads(
            values["auto_pad"], x.shape[2:], weight.shape[2:], strides, dilations
        )
        return function(pad_zeros(x, sides), weight, bias, **settings)

    return _weighted(node, draft, run)


def conv_transpose(node: NodeProto, draft: Draft) -> Converted:
    """ConvTranspose; where its padding is not symmetric, the full result is cropped."""
    values = options(node)
    rank = _spatial(draft, node)
    function = _CONV_TRANSPOSE[rank]
    strides = tuple(values.get("strides", (1,) * rank))
    extra = tuple(values.get("output_padding", (0,) * rank))
    settings = {
        "stride": strides,
        "dilation": tuple(values.get("dilations", (1,) * rank)),
        "groups": values.get("group", 1),
    }
    if "output_shape" in values:
        raise NotImplementedError("its attribute output_shape is not supported")
    symmetric, pads = split_pads(values, rank)

    def run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if symmetric is not None:
            return function(x, weight, bias, padding=symmetric, output_padding=extra, **settings)
        full = function(x, weight, bias, output_padding=extra, **settings)
        wanted = [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
        return _crop(full, values.get("auto_pad"), pads, wanted)

    return _weighted(node, draft, run)


def _crop(
    full: torch.Tensor, mode: str | None, pads: list[tuple[int, int]] | None, wanted: list[int]
) -> torch.Tensor:
    for axis, size in enumerate(full.shape[2:]):
        if pads is not None:
            begin, end = pads[axis]
        else:
            total = max(size - wanted[axis], 0)
            begin = total // 2 if mode == "SAME_UPPER" else total - total // 2
            end = total - begin
        full = full.narrow(axis + 2, begin, size - begin - end)
    return full


def gemm(node: NodeProto, draft: Draft) -> Converted:
    """The product alpha A'B' + beta C; a fully connected layer keeps its weight as a parameter."""
    values = options(node)
    alpha, beta = values.get("alpha", 1.0), values.get("beta", 1.0)
    flip_a, flip_b = bool(values.get("transA", 0)), bool(values.get("transB", 0))

    def run(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
        product = (a.mT if flip_a else a) @ (b.mT if flip_b else b)
        product = product if alpha == 1.0 else product * alpha
        if c is None:
            return product
        return product + (c if beta == 1.0 else c * beta)

    return _weighted(node, draft, run)


def matmul(node: NodeProto, draft: Draft) -> Converted:
    """A product with a constant on the right is a layer with a weight."""
    if constant(draft, node, 1) is not None:
        source = draft.sources.get(node.input[1])
        if source is not None and source.layout == "T":  # a Linear: keep its weight as it was
            return _weighted(node, draft, lambda x, weight, _: x @ weight.mT, flipped=True)
        return _weighted(node, draft, lambda x, weight, _: x @ weight)
    return apply(node, torch.matmul)
