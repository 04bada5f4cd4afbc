"""Small networks, each with another way to place BatchNorm, and what each is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


class Conv(nn.Module):
    """Convolution, BatchNorm, ReLU, four times: every layer reads only the one before."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 12, 16, 24, 24)
        strides = (1, 1, 2, 1)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, s, 1, bias=False)
            for a, b, s in zip(widths, widths[1:], strides, strict=False)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(c) for c in widths[1:])
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 8, 8) -> (N, 10)."""
        for conv, bn in zip(self.convs, self.bns, strict=True):
            x = torch.relu(bn(conv(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class Tabular(nn.Module):
    """A perceptron whose linear layers have biases and whose last activation is tanh."""

    def __init__(self, features: int = 30, outputs: int = 2) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, 32)
        self.bn1 = nn.BatchNorm1d(32)
        self.fc2 = nn.Linear(32, 32)
        self.bn2 = nn.BatchNorm1d(32)
        self.fc3 = nn.Linear(32, 16)
        self.bn3 = nn.BatchNorm1d(16)
        self.head = nn.Linear(16, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, outputs)."""
        x = torch.relu(self.bn1(self.fc1(x)))
        x = torch.relu(self.bn2(self.fc2(x)))
        out: Tensor = self.head(torch.tanh(self.bn3(self.fc3(x))))
        return out


class RawFeatures(nn.Module):
    """BatchNorm first, on features as they were measured, in place of a scaler; heavy tails."""

    def __init__(self) -> None:
        super().__init__()
        self.scaler = nn.BatchNorm1d(30, affine=False)
        self.body = nn.Sequential(
            nn.Linear(30, 32),
            nn.BatchNorm1d(32),
            nn.GELU(),
            nn.Linear(32, 24),
            nn.BatchNorm1d(24),
            nn.GELU(),
            nn.Linear(24, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 30) -> (N, 2)."""
        out: Tensor = self.body(self.scaler(x))
        return out


class Sequence(nn.Module):
    """Convolutions along time: the rows of a digit are eight steps of eight channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(8, 24, 3, padding=1)
        self.bn1 = nn.BatchNorm1d(24)
        self.conv2 = nn.Conv1d(24, 24, 3, padding=2, dilation=2)
        self.bn2 = nn.BatchNorm1d(24)
        self.conv3 = nn.Conv1d(24, 32, 3, stride=2, padding=1)
        self.bn3 = nn.BatchNorm1d(32)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 8, 8) -> (N, 10)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = x + torch.relu(self.bn2(self.conv2(x)))
        x = torch.relu(self.bn3(self.conv3(x)))
        logits: Tensor = self.fc(x.amax(2))
        return logits


class Inverted(nn.Module):
    """MobileNet's block: expand, depthwise, project; the last BatchNorm has no activation."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = 3 * inputs
        self.expand = nn.Conv2d(inputs, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.act = nn.Hardswish()
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y = self.act(self.bn1(self.expand(x)))
        y = self.bn3(self.project(self.act(self.bn2(self.depthwise(y)))))
        out: Tensor = x + y if self.residual else y
        return out


class Depthwise(nn.Module):
    """Inverted residuals with depthwise convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(12)
        self.blocks = nn.Sequential(Inverted(12, 12, 1), Inverted(12, 20, 2), Inverted(20, 20, 1))
        self.fc = nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 8, 8) -> (N, 10)."""
        x = torch.nn.functional.hardswish(self.bn(self.stem(x)))
        logits: Tensor = self.fc(self.blocks(x).mean((2, 3)))
        return logits


class PreBlock(nn.Module):
    """He et al. (2016): BatchNorm and ReLU before each convolution, nothing after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        y = self.conv1(torch.relu(self.bn1(x)))
        out: Tensor = x + self.conv2(torch.relu(self.bn2(y)))
        return out


class PreActivation(nn.Module):
    """A residual network whose skip path no BatchNorm normalises."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.block1 = PreBlock(16)
        self.block2 = PreBlock(16)
        self.down = nn.Conv2d(16, 24, 1, stride=2, bias=False)
        self.block3 = PreBlock(24)
        self.bn = nn.BatchNorm2d(24)
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 8, 8) -> (N, 10)."""
        x = self.block2(self.block1(self.stem(x)))
        x = torch.relu(self.bn(self.block3(self.down(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class Concat(nn.Module):
    """DenseNet's way: each layer normalises the concatenation of all earlier outputs."""

    def __init__(self) -> None:
        super().__init__()
        grown = [12 + 8 * i for i in range(5)]
        self.stem = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.bns = nn.ModuleList(nn.BatchNorm2d(c) for c in grown[:-1])
        self.convs = nn.ModuleList(nn.Conv2d(c, 8, 3, padding=1, bias=False) for c in grown[:-1])
        self.last = nn.BatchNorm2d(grown[-1])
        self.fc = nn.Linear(grown[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 8, 8) -> (N, 10)."""
        x = self.stem(x)
        for bn, conv in zip(self.bns, self.convs, strict=True):
            x = torch.cat([x, conv(torch.relu(bn(x)))], 1)
        logits: Tensor = self.fc(torch.relu(self.last(x)).mean((2, 3)))
        return logits


class Autoencoder(nn.Module):
    """Strided and transposed convolutions, trained to return its input."""

    def __init__(self) -> None:
        super().__init__()
        self.enc1 = nn.Conv2d(1, 12, 3, 2, 1)
        self.bn1 = nn.BatchNorm2d(12)
        self.enc2 = nn.Conv2d(12, 20, 3, 2, 1)
        self.bn2 = nn.BatchNorm2d(20)
        self.dec1 = nn.ConvTranspose2d(20, 12, 2, 2)
        self.bn3 = nn.BatchNorm2d(12)
        self.dec2 = nn.ConvTranspose2d(12, 1, 2, 2)
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 8, 8) -> the same."""
        x = self.act(self.bn1(self.enc1(x)))
        x = self.act(self.bn2(self.enc2(x)))
        out: Tensor = torch.sigmoid(self.dec2(self.act(self.bn3(self.dec1(x)))))
        return out


@dataclass(frozen=True, slots=True)
class NetInfo:
    """A network and what it is trained on.

    Attributes:
        make: an untrained instance.
        data: name of the data ("digits", "rows", "cells", "cells-raw").
        image: whether random shifts leave an input's label as it is.
        target: "class", or "input" for the autoencoder.
    """

    make: Callable[[], nn.Module]
    data: str
    image: bool
    target: str = "class"


NETS: dict[str, NetInfo] = {
    "conv": NetInfo(Conv, "digits", image=True),
    "tabular": NetInfo(Tabular, "cells", image=False),
    "raw_features": NetInfo(RawFeatures, "cells-raw", image=False),
    "sequence": NetInfo(Sequence, "rows", image=False),
    "depthwise": NetInfo(Depthwise, "digits", image=True),
    "preactivation": NetInfo(PreActivation, "digits", image=True),
    "concat": NetInfo(Concat, "digits", image=True),
    "autoencoder": NetInfo(Autoencoder, "digits", image=True, target="input"),
}
