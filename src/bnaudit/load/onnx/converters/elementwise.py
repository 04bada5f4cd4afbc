"""Activations and other functions of single elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from bnaudit.load.onnx.converters.base import Converted, apply, input_name, options

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft


def clip(node: NodeProto, draft: Draft) -> Converted:
    """Bounds are optional inputs; where they are known they are plain numbers."""
    names = [input_name(node, 1), input_name(node, 2)]
    known = [draft.constants.get(name) for name in names]
    low, high = (None if bound is None else bound.item() for bound in known)
    if all(name == "" or bound is not None for name, bound in zip(names, known, strict=True)):
        module = apply(node, lambda x: _clamp(x, low, high)).module
        return Converted(module, (node.input[0],))
    return apply(node, _clamp)


def _clamp(x: torch.Tensor, low: object = None, high: object = None) -> torch.Tensor:
    if low is None and high is None:
        return x
    return torch.clamp(x, low, high)  # type: ignore[call-overload,no-any-return]


def prelu(node: NodeProto, _: Draft) -> Converted:
    """The slope broadcasts from the right, as everywhere in ONNX."""
    return apply(node, lambda x, slope: torch.where(x >= 0, x, slope * x))


def gelu(node: NodeProto, _: Draft) -> Converted:
    """Exact or by tanh."""
    approximate = options(node).get("approximate", "none")
    return apply(node, lambda x: functional.gelu(x, approximate=approximate))


def swish(node: NodeProto, _: Draft) -> Converted:
    """Swish: x * sigmoid(alpha x)."""
    alpha = float(options(node).get("alpha", 1.0))
    return apply(node, lambda x: x * torch.sigmoid(alpha * x))


def thresholded_relu(node: NodeProto, _: Draft) -> Converted:
    """Keeps x above alpha, else 0."""
    alpha = float(options(node).get("alpha", 1.0))
    return apply(node, lambda x: torch.where(x > alpha, x, torch.zeros_like(x)))


def shrink(node: NodeProto, _: Draft) -> Converted:
    """Pulls towards 0 by `bias` what is further away than `lambd`; the rest is 0."""
    values = options(node)
    bias, limit = float(values.get("bias", 0.0)), float(values.get("lambd", 0.5))
    return apply(
        node, lambda x: torch.where(x.abs() > limit, x - bias * x.sign(), torch.zeros_like(x))
    )


def random_normal_like(node: NodeProto, _: Draft) -> Converted:
    """Noise from the caller's random state: a seed of the file would be the same in every call."""
    mean, scale = (float(options(node).get(key, d)) for key, d in (("mean", 0.0), ("scale", 1.0)))
    return apply(node, lambda x: torch.randn_like(_floating(x)) * scale + mean)


def random_uniform_like(node: NodeProto, _: Draft) -> Converted:
    """Noise from the caller's random state: a seed of the file would be the same in every call."""
    low, high = (float(options(node).get(key, d)) for key, d in (("low", 0.0), ("high", 1.0)))
    return apply(node, lambda x: torch.rand_like(_floating(x)) * (high - low) + low)


def _floating(x: torch.Tensor) -> torch.Tensor:
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def one_hot(node: NodeProto, _: Draft) -> Converted:
    """A new axis that holds the second value at the index, and the first elsewhere."""
    axis = int(options(node).get("axis", -1))

    def run(index: torch.Tensor, depth: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        classes = int(depth)
        hot = functional.one_hot(index.long() % classes, classes).movedim(-1, axis)
        return torch.where(hot.bool(), values[1], values[0])

    return apply(node, run)


def trilu(node: NodeProto, _: Draft) -> Converted:
    """One triangle of the last two axes."""
    cut = torch.triu if options(node).get("upper", 1) else torch.tril
    return apply(node, lambda x, k=None: cut(x, 0 if k is None else int(k)))


def function(call: Callable[..., torch.Tensor]) -> Callable[[NodeProto, Draft], Converted]:
    """A converter for an operator without attributes."""
    return lambda node, _: apply(node, call)
