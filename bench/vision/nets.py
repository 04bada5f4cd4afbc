"""The BatchNorm-bearing networks of torchvision, seeded, with running statistics of some batches."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

SIDE = 64
"""Pixels. Nothing that is measured here depends on it."""

_SIDES = {"inception_v3": 96, "maxvit_t": 224, "vgg": 224}
"""By the beginning of the name: where the network does not work, or not be exported, at `SIDE`.
VGG's 7x7 pooling is exported only where it divides the plane."""

_TRAINING_SIDES = {"inception_v3": 299}
"""Its auxiliary head, which runs in training only, needs the plane it was made for."""

_KEPT: list[Any] = []


@cache
def torchvision() -> Any:
    """The package; without its compiled operators where those were built for another torch.

    No network below calls them, but importing the package registers kernels for two of them, which
    fails unless their schemas are there.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torchvision as package
        except RuntimeError:
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _KEPT.append(library)  # it takes the schemas with it
            import torchvision as package
    return package


def names() -> dict[str, int]:
    """Classification and segmentation networks with BatchNorm: name -> parameters, small ones first."""
    models = torchvision().models
    found = {}
    for name in models.list_models(models) + models.list_models(models.segmentation):
        net = _without_values(name)
        if any(isinstance(module, _BatchNorm) for module in net.modules()):
            found[name] = sum(parameter.numel() for parameter in net.parameters())
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _without_values(name: str) -> nn.Module:
    """The network on the meta device, as far as its constructor allows."""
    try:
        with torch.device("meta"):
            return build(name)
    except NotImplementedError:  # RegNets compute their widths with tensors
        return build(name)


def build(name: str) -> nn.Module:
    """The network as its constructor leaves it, in training mode."""
    options: dict[str, Any] = {"weights": None}
    models = torchvision().models
    if name in models.list_models(models.segmentation):
        options["weights_backbone"] = None
    if name in {"googlenet", "inception_v3"}:
        options["init_weights"] = False  # minutes of truncated normal draws
    net: nn.Module = models.get_model(name, **options)
    return net


def side(name: str) -> int:
    """Pixels of the square input."""
    return next((s for prefix, s in _SIDES.items() if name.startswith(prefix)), SIDE)


def network(name: str) -> tuple[nn.Module, Tensor]:
    """The network in eval mode and an input of one image.

    gamma and beta are drawn around 1 and 0, and the running statistics follow three random batches:
    at their initial values, mixing layers up would change nothing.
    """
    torch.manual_seed(0)
    net = build(name).train()
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.weight, 1, 0.1)
            nn.init.normal_(module.bias, 0, 0.1)
    training_side = _TRAINING_SIDES.get(name, side(name))
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(4, 3, training_side, training_side))
    return net.eval(), torch.randn(1, 3, side(name), side(name))


def executed(net: nn.Module, x: Tensor) -> int:
    """BatchNorm calls of one forward pass."""
    calls: list[None] = []
    handles = [
        module.register_forward_hook(lambda *_: calls.append(None))
        for module in net.modules()
        if isinstance(module, _BatchNorm)
    ]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return len(calls)
