"""Small networks that together use what torchvision's classification and segmentation networks use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


def conv(
    inputs: int, outputs: int, size: int = 3, activation: type[nn.Module] = nn.ReLU, **options: Any
) -> nn.Sequential:
    """Convolution, BatchNorm, activation."""
    padding = options.pop("padding", size // 2)
    layer = nn.Conv2d(inputs, outputs, size, padding=padding, bias=False, **options)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs, eps=1e-3), activation())


class SqueezeExcite(nn.Module):
    """MobileNetV3, EfficientNet, RegNetY: channels weighed by a gate."""

    def __init__(self, channels: int, gate: nn.Module) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))


class Mobile(nn.Module):
    """Inverted residuals, depthwise and grouped convolutions, shuffled channels, gates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8, stride=2, activation=nn.Hardswish)
        self.expand = conv(8, 16, 1, activation=nn.SiLU)
        self.depthwise = conv(16, 16, 3, groups=16, activation=nn.ReLU6)
        self.gates = nn.Sequential(
            SqueezeExcite(16, nn.Hardsigmoid()), SqueezeExcite(16, nn.Sigmoid())
        )
        self.project = nn.Sequential(nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.grouped = conv(4, 4, groups=2)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 12), nn.Hardswish())
        self.norm = nn.BatchNorm1d(12)
        self.classify = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.project(self.gates(self.depthwise(self.expand(x))))
        kept, changed = x.chunk(2, dim=1)
        x = torch.cat((kept, self.grouped(changed)), dim=1)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return self.classify(self.norm(self.head(x.mean([2, 3]))))


class Branches(nn.Module):
    """Dense concatenation, Inception's branches and factorised convolutions, a residual bottleneck."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 8, 7, stride=2), nn.MaxPool2d(3, 2, padding=1))
        self.norm, self.grow = nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3, padding=1)
        self.tall, self.wide = conv(12, 4, 1), nn.Conv2d(4, 4, (1, 7), padding=(0, 3))
        self.pooled = conv(12, 4, 1)
        self.bottleneck = nn.Sequential(conv(8, 4, 1), conv(4, 4, stride=2), conv(4, 16, 1))
        self.shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2), nn.BatchNorm2d(16))
        self.shrink = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.classify = nn.Sequential(
            nn.Linear(16 * 4, 10), nn.ReLU(inplace=True), nn.Linear(10, 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.grow(F.relu(self.norm(x), inplace=True))], 1)
        pooled = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        x = torch.cat([self.wide(self.tall(x)), self.pooled(pooled)], 1)
        x = F.relu(self.bottleneck(x) + self.shortcut(x), inplace=True)
        x = F.adaptive_avg_pool2d(self.shrink(x), (2, 2))
        return self.classify(torch.flatten(x, 1))


class Windows(nn.Module):
    """Window attention with relative positions behind BatchNorm, as in MaxViT."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window, self.heads = window, 2
        self.norm = nn.LayerNorm(channels)
        self.to_qkv, self.merge = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.randn(1, 1, 2, window**2, window**2))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        p = self.window
        x = x.reshape(n, c, h // p, p, w // p, p).permute(0, 2, 4, 3, 5, 1)
        x = x.reshape(n, (h // p) * (w // p), p * p, c)
        size = c // self.heads
        q, k, v = self.to_qkv(self.norm(x)).chunk(3, dim=-1)
        q, k, v = (
            t.reshape(n, -1, p * p, self.heads, size).permute(0, 1, 3, 2, 4) for t in (q, k, v)
        )
        scores = F.softmax(q @ k.transpose(-2, -1) * size**-0.5 + self.bias, dim=-1)
        y = (scores @ v).permute(0, 1, 3, 2, 4).reshape(n, -1, p * p, c)
        x = x + self.merge(y)
        x = x.reshape(n, h // p, w // p, p, p, c).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(n, c, h, w)


class Segmenter(nn.Module):
    """Dilated convolutions, a pooled branch that is enlarged again, attention, two named outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv(3, 8, stride=2), Windows(8, 4), conv(8, 8, activation=nn.GELU)
        )
        self.atrous = nn.ModuleList(
            [conv(8, 4, 1), conv(8, 4, padding=2, dilation=2), conv(8, 4, padding=4, dilation=4)]
        )
        self.image = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(8, 4, 1))
        self.project = conv(16, 8, 1)
        self.classify, self.auxiliary = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        size = x.shape[-2:]
        features = self.stem(x)
        parts = [branch(features) for branch in self.atrous]
        whole = self.image(features)
        parts.append(
            F.interpolate(whole, features.shape[-2:], mode="bilinear", align_corners=False)
        )
        y = self.classify(self.project(torch.cat(parts, dim=1)))
        return {
            "out": F.interpolate(y, size, mode="bilinear", align_corners=False),
            "aux": F.interpolate(self.auxiliary(features), scale_factor=2.0, mode="nearest"),
        }


def seeded(kind: type[nn.Module]) -> tuple[nn.Module, Tensor]:
    """A network whose layers have nothing at its initial value, and an input of one image."""
    torch.manual_seed(0)
    net = kind().train()
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(8, 3, 32, 32))
    return net.eval(), torch.randn(1, 3, 32, 32)
