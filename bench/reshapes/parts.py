"""What the networks are made of: named parts and a forward pass over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Forward = Callable[["Net", Tensor], Any]

IMAGE = (3, 8, 8)
SEQUENCE = (4, 8)
"""Channels and length."""
CLIP = (3, 2, 8, 8)
"""Frames, channels, height and width."""
TABLE = (12,)

EPS = 2.0**-10
"""The dynamo exporter rounds constants to float32: those here are powers of two."""


class Net(nn.Module):
    """Named parts and a forward pass over them."""

    def __init__(self, forward: Forward, **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_parameter(name, nn.Parameter(part))

    def forward(self, x: Tensor) -> Any:
        """One floating tensor, the batch in front."""
        return self.run(self, x)

    def __getattr__(self, name: str) -> Any:
        """Parts by their name; the static type of a module's members is Tensor or Module."""
        return super().__getattr__(name)


def conv(inputs: int, outputs: int, **options: Any) -> nn.Conv2d:
    """Three by three, without a bias."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, **options)


def image_parts(channels: int = 8) -> dict[str, nn.Module | Tensor]:
    """Conv and BN for what comes first and last."""
    return {
        "stem": conv(3, channels),
        "bn1": nn.BatchNorm2d(channels),
        "last": conv(channels, channels),
        "bn2": nn.BatchNorm2d(channels),
    }


def imaged(middle: Forward, channels: int = 8, **parts: nn.Module | Tensor) -> Net:
    """Conv, BN, what is tried, Conv, BN, ReLU, mean over the image."""

    def forward(net: Net, x: Tensor) -> Any:
        y = middle(net, functional.relu(net.bn1(net.stem(x))))
        return functional.relu(net.bn2(net.last(y))).mean((2, 3))

    return Net(forward, **image_parts(channels), **parts)


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention over the last axis but one, scaled by a power of two."""
    return torch.softmax(q @ k.transpose(-2, -1) / 2, -1) @ v
