"""The networks that are timed, with random weights."""

from __future__ import annotations

import importlib.util

import torch
from torch import nn

from bench.nets import DEPTHS, resnet

MODELS = ("resnet50", "resnet18", "mobilenet_v2", "efficientnet_b0", "densenet121")
BOTTLENECKS = tuple(f"resnet{depth}" for depth in DEPTHS)


def build(name: str) -> nn.Module | None:
    """A network in inference mode, or None where it would need torchvision."""
    torch.manual_seed(0)
    if name in BOTTLENECKS:
        return resnet(int(name.removeprefix("resnet"))).eval()
    if importlib.util.find_spec("torchvision") is None:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for op in ("nms", "qnms"):  # a build without its C++ part does not import otherwise
        library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import models

    net: nn.Module = getattr(models, name)(weights=None)
    return net.eval()
