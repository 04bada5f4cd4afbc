"""Normalisation layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from bnaudit.load.onnx.converters.base import Converted, apply, constant, options, shared, tensor

if TYPE_CHECKING:
    from onnx import NodeProto

    from bnaudit.load.onnx.draft import Draft

_EPSILON = 1e-5
_MVN_EPSILON = 1e-9


class BatchNorm(_BatchNorm):
    """BatchNorm over axis 1 of any rank: the file need not tell the rank, the input does."""

    def _check_input_dim(self, input: torch.Tensor) -> None:  # noqa: A002 - the base class's name
        if input.dim() < 2:
            raise ValueError(f"BatchNorm needs a batch and a channel axis, got {input.dim()}D")


class FunctionalBatchNorm(nn.Module):
    """BatchNorm some of whose inputs are computed while the model runs, such as the statistics."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)

    def forward(
        self,
        x: torch.Tensor,
        gamma: torch.Tensor | None,
        beta: torch.Tensor | None,
        mean: torch.Tensor,
        var: torch.Tensor,
    ) -> torch.Tensor:
        """ONNX's order of inputs; gamma and beta are None where they are held here, or missing."""
        gamma = self.weight if gamma is None else gamma
        beta = self.bias if beta is None else beta
        return functional.batch_norm(x, mean, var, gamma, beta, training=False, eps=self.epsilon)


def _decimal(value: float) -> float:
    """ONNX stores attributes as float32: 1e-5 comes back as 9.99999975e-06.

    The shortest decimal that float32 rounds to the stored value is what the author wrote, and what
    the same layer has in every other format; in float32 nothing changes.
    """
    return float(str(np.float32(value)))


def batch_normalization(node: NodeProto, draft: Draft) -> Converted:
    """Keeps gamma and beta as parameters, the running statistics as buffers."""
    values = options(node)
    epsilon = _decimal(values.get("epsilon", _EPSILON))
    gamma, beta, mean, var = (constant(draft, node, index) for index in range(1, 5))
    if gamma is None or beta is None or mean is None or var is None:
        return _functional(node, draft, epsilon)
    # ONNX's momentum weighs the old value, PyTorch's the new one.
    momentum = 1 - float(values.get("momentum", 0.9))
    affine = not _is_filled_in(node, draft)
    layer = BatchNorm(gamma.size, eps=epsilon, momentum=momentum, affine=affine)
    if affine:
        layer.weight = shared(node, draft, 1, gamma)
        layer.bias = shared(node, draft, 2, beta)
    # Not shared between calls: they tell which call of a layer this is.
    layer.running_mean, layer.running_var = tensor(mean), tensor(var)
    return Converted(layer, (node.input[0],))


def _functional(node: NodeProto, draft: Draft, epsilon: float) -> Converted:
    module, fed = FunctionalBatchNorm(epsilon), list(node.input)
    filled_in = _is_filled_in(node, draft)
    for index, name in ((1, "weight"), (2, "bias")):
        value = constant(draft, node, index)
        if value is not None:
            fed[index] = ""
            if not filled_in:
                setattr(module, name, shared(node, draft, index, value))
    return Converted(module, tuple(fed))


def _is_filled_in(node: NodeProto, draft: Draft) -> bool:
    """Ones and zeros that are no initializers: ONNX wants them where the layer has affine=False."""
    gamma, beta = constant(draft, node, 1), constant(draft, node, 2)
    if gamma is None or beta is None or any(map(draft.is_authored, node.input[1:3])):
        return False
    return bool((gamma == 1).all()) and not beta.any()


def instance_normalization(node: NodeProto, _: Draft) -> Converted:
    """Each sample and channel by its own statistics."""
    epsilon = float(options(node).get("epsilon", _EPSILON))
    return apply(
        node,
        lambda x, scale, bias: functional.instance_norm(x, weight=scale, bias=bias, eps=epsilon),
    )


def layer_normalization(node: NodeProto, _: Draft) -> Converted:
    """Over all axes from `axis` on."""
    values = options(node)
    axis, epsilon = int(values.get("axis", -1)), float(values.get("epsilon", _EPSILON))
    return apply(
        node,
        lambda x, scale, bias=None: functional.layer_norm(x, x.shape[axis:], scale, bias, epsilon),
    )


def rms_normalization(node: NodeProto, _: Draft) -> Converted:
    """Divides by the root mean square over all axes from `axis` on."""
    values = options(node)
    axis, epsilon = int(values.get("axis", -1)), float(values.get("epsilon", _EPSILON))
    return apply(node, lambda x, scale: functional.rms_norm(x, x.shape[axis:], eps=epsilon) * scale)


def mean_variance_normalization(node: NodeProto, _: Draft) -> Converted:
    """Zero mean and unit variance over some axes, by default all but the channels."""
    axes = [int(axis) for axis in options(node).get("axes", (0, 2, 3))]

    def run(x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(axes, keepdim=True)
        deviation = centred.square().mean(axes, keepdim=True).sqrt()
        return centred / (deviation + _MVN_EPSILON)

    return apply(node, run)


def group_normalization(node: NodeProto, draft: Draft) -> Converted:
    """Opset 18 has scale and bias a group, opset 21 a channel."""
    values = options(node)
    groups, epsilon = int(values["num_groups"]), float(values.get("epsilon", _EPSILON))
    per_channel = draft.opset >= 21

    def run(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        if not per_channel:
            repeats = x.shape[1] // groups
            scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
        return functional.group_norm(x, groups, scale, bias, epsilon)

    return apply(node, run)


def lp_normalization(node: NodeProto, _: Draft) -> Converted:
    """Divides by the p-norm along one axis."""
    values = options(node)
    p, axis = int(values.get("p", 2)), int(values.get("axis", -1))
    return apply(node, lambda x: x / torch.linalg.vector_norm(x, p, dim=axis, keepdim=True))
