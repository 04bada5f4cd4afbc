"""Twenty families of networks, small: each with the operators that its family is written with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from bench.agreement.nets import Attention, UNet
from bench.nets import Bottleneck

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 4
_IMAGE, _SERIES, _TABLE, _VOLUME = (3, 32, 32), (4, 32), (16,), (2, 8, 16, 16)


def conv(inputs: int, outputs: int, size: int = 3, act: Any = nn.ReLU, **kw: Any) -> nn.Sequential:
    """Convolution, BatchNorm, activation."""
    kw.setdefault("padding", size // 2)
    layer = nn.Conv2d(inputs, outputs, size, bias=False, **kw)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), act())


def _head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> the same."""
        found: Tensor = x + self.body(x)
        return found


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self, channels: int, act: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)
        self.act, self.gate = act, gate

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        y = self.act(self.down(functional.adaptive_avg_pool2d(x, 1)))
        found: Tensor = x * self.gate(self.up(y))
        return found


def _inverted(channels: int, act: Any, *gate: nn.Module) -> Residual:
    wide = 2 * channels
    return Residual(
        conv(channels, wide, 1, act),
        conv(wide, wide, 3, act, groups=wide),
        *gate,
        nn.Conv2d(wide, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


class Parallel(nn.Module):
    """Concatenates what its branches make of the same input."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, sum of the branches' channels, H, W)."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class Shuffle(nn.Module):
    """One half of the channels processed, and the two shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(conv(half, half, 1), conv(half, half, 3, groups=half))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        a, b = x.chunk(2, 1)
        x = torch.cat((a, self.body(b)), 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Upsampled(nn.Module):
    """Dilated branches beside the image's mean, and a bilinear way back to the input's size (DeepLab)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8, stride=2)
        self.branches = nn.ModuleList(conv(8, 8, 3, padding=r, dilation=r) for r in (1, 2, 4))
        self.mean = conv(8, 8, 1)
        self.join, self.out = conv(32, 8, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 5, H, W)."""
        y = self.stem(x)
        parts = [branch(y) for branch in self.branches]
        mean = self.mean(functional.adaptive_avg_pool2d(y, 4))
        parts.append(functional.interpolate(mean, [16, 16], mode="bilinear", align_corners=False))
        y = self.out(self.join(torch.cat(parts, 1)))
        return functional.interpolate(y, [32, 32], mode="bilinear", align_corners=False)


class Spatial(nn.Module):
    """Gates from the mean and the largest channel of each position (CBAM)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        both = torch.cat((x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]), 1)
        found: Tensor = x * torch.sigmoid(self.gate(both))
        return found


class Points(nn.Module):
    """PointNet: points one by one, the largest of each feature."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(4, 16, 1), nn.Conv1d(16, 32, 1)
        self.bn_a, self.bn_b, self.bn_c = nn.BatchNorm1d(16), nn.BatchNorm1d(32), nn.BatchNorm1d(16)
        self.c, self.d = nn.Linear(32, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 4, L) -> (N, 10)."""
        x = functional.relu(self.bn_a(self.a(x)))
        x = torch.max(self.bn_b(self.b(x)), 2, keepdim=True)[0].view(-1, 32)
        return functional.log_softmax(self.d(functional.relu(self.bn_c(self.c(x)))), 1)


class Speaker(nn.Module):
    """Mean and standard deviation over time, weighed by an attention (ECAPA)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(4, 16, 5, padding=2), nn.Conv1d(16, 16, 3, padding=2, dilation=2)
        self.bn_a, self.bn_b, self.bn_c = nn.BatchNorm1d(16), nn.BatchNorm1d(16), nn.BatchNorm1d(32)
        self.weigh, self.out = nn.Conv1d(16, 16, 1), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 4, L) -> (N, 10)."""
        x = self.bn_a(functional.relu(self.a(x)))
        x = x + self.bn_b(functional.relu(self.b(x)))
        w = torch.softmax(torch.tanh(self.weigh(x)), 2)
        mean = (x * w).sum(2)
        std = ((x - mean.unsqueeze(2)).pow(2) * w).sum(2).clamp(min=1e-4).sqrt()
        return functional.normalize(self.out(self.bn_c(torch.cat((mean, std), 1))))


class Gated(nn.Module):
    """Conformer's convolution: gated linear units, depthwise, BatchNorm, Swish, LayerNorm around."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv1d(4, 8, 3, padding=1), nn.LayerNorm(8)
        self.wide, self.deep = nn.Conv1d(8, 16, 1), nn.Conv1d(8, 8, 5, padding=2, groups=8)
        self.bn0, self.bn = nn.BatchNorm1d(8), nn.BatchNorm1d(8)
        self.back, self.out = nn.Conv1d(8, 8, 1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 4, L) -> (N, 10)."""
        x = self.bn0(self.stem(x))
        y = functional.glu(self.wide(self.norm(x.transpose(1, 2)).transpose(1, 2)), 1)
        y = self.back(functional.silu(self.bn(self.deep(y))))
        found: Tensor = self.out((x + y).mean(2))
        return found


class Recurrent(nn.Module):
    """Convolutions in front of an LSTM (CRNN)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv1d(4, 8, 3, padding=1), nn.BatchNorm1d(8)
        self.cell, self.bn2 = nn.LSTM(8, 8, batch_first=True), nn.BatchNorm1d(8)
        self.out = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 4, L) -> (N, 10)."""
        x = functional.relu(self.bn(self.stem(x)))[:, :, ::4].transpose(1, 2)
        x = self.cell(x)[0][:, -1]
        found: Tensor = self.out(self.bn2(x))
        return found


def _resnet() -> nn.Module:
    blocks = [Bottleneck(8, 8, 1), Bottleneck(32, 8, 1), Bottleneck(32, 16, 2)]
    return nn.Sequential(conv(3, 8), nn.MaxPool2d(3, 2, 1), *blocks, *_head(64))


def _mobile_v3() -> nn.Module:
    gate = Gate(16, nn.ReLU(), nn.Hardsigmoid())
    blocks = [_inverted(8, nn.Hardswish, gate), _inverted(8, nn.ReLU)]
    return nn.Sequential(conv(3, 8, act=nn.Hardswish, stride=2), *blocks, *_head(8))


def _efficient() -> nn.Module:
    blocks = [_inverted(8, nn.SiLU, Gate(16, nn.SiLU(), nn.Sigmoid())) for _ in range(2)]
    return nn.Sequential(conv(3, 8, act=nn.SiLU, stride=2), *blocks, *_head(8))


def _inception() -> nn.Module:
    pool = nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(8, 4, 1))
    tall = nn.Sequential(
        conv(8, 4, 1), nn.Conv2d(4, 4, (1, 7), padding=(0, 3)), nn.BatchNorm2d(4), nn.ReLU()
    )
    return nn.Sequential(conv(3, 8, stride=2), Parallel(conv(8, 4, 1), tall, pool), *_head(12))


def _dense() -> nn.Module:
    def grown(channels: int) -> Parallel:
        body = [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 4, 3, padding=1)]
        return Parallel(nn.Identity(), nn.Sequential(*body))

    body = [conv(3, 8, stride=2), grown(8), grown(12), nn.AvgPool2d(2), grown(16)]
    return nn.Sequential(*body, nn.BatchNorm2d(20), nn.ReLU(), *_head(20))


def _detector() -> nn.Module:
    pools = [nn.MaxPool2d(size, 1, size // 2) for size in (3, 5)]
    pyramid = Parallel(nn.Identity(), *pools)
    up = nn.Sequential(nn.Upsample(scale_factor=2), conv(24, 8, 1, nn.LeakyReLU))
    cross = Parallel(conv(8, 4, 1, nn.Mish), nn.Sequential(conv(8, 4, 1, nn.Mish)))
    body = [conv(3, 8, act=nn.Mish, stride=2), cross, nn.MaxPool2d(2), pyramid, up]
    return nn.Sequential(*body, nn.Conv2d(8, 6, 1))


def _generator() -> nn.Module:
    up = [
        layer
        for inputs, outputs in ((8, 8), (8, 8))
        for layer in (
            nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )
    ]
    return nn.Sequential(
        nn.Linear(16, 128),
        nn.Unflatten(1, (8, 4, 4)),
        nn.BatchNorm2d(8),
        *up,
        nn.Conv2d(8, 3, 3),
        nn.Tanh(),
    )


def _super_resolution() -> nn.Module:
    bodies = [
        Residual(
            nn.Conv2d(8, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.PReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.BatchNorm2d(8),
        )
        for _ in range(2)
    ]
    return nn.Sequential(
        nn.ReflectionPad2d(1),
        nn.Conv2d(3, 8, 3),
        *bodies,
        nn.Conv2d(8, 12, 3, padding=1),
        nn.PixelShuffle(2),
    )


def _volume() -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            nn.Conv3d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm3d(outputs),
            nn.ELU(),
            nn.MaxPool3d(2),
        ]

    return nn.Sequential(
        *block(2, 4), *block(4, 8), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 5)
    )


def _tabular() -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.SELU(), nn.Dropout(0.2)]

    return nn.Sequential(
        nn.BatchNorm1d(16), *block(16, 32), *block(32, 16), nn.Linear(16, 4), nn.Softmax(1)
    )


def _patches() -> nn.Module:
    body = [
        layer
        for _ in range(2)
        for layer in (
            Residual(nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.GELU(), nn.BatchNorm2d(8)),
            nn.Conv2d(8, 8, 1),
            nn.GELU(),
            nn.BatchNorm2d(8),
            nn.GroupNorm(2, 8),
        )
    ]
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.GELU(), nn.BatchNorm2d(8), *body, *_head(8))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ResNet": (_resnet, _IMAGE),
    "VGG": (
        lambda: nn.Sequential(conv(3, 8), conv(8, 8), nn.MaxPool2d(2), conv(8, 16), *_head(16)),
        _IMAGE,
    ),
    "MobileNet v2": (
        lambda: nn.Sequential(
            conv(3, 8, act=nn.ReLU6, stride=2),
            *(_inverted(8, nn.ReLU6) for _ in range(2)),
            *_head(8),
        ),
        _IMAGE,
    ),
    "MobileNet v3": (_mobile_v3, _IMAGE),
    "EfficientNet": (_efficient, _IMAGE),
    "DenseNet": (_dense, _IMAGE),
    "Inception": (_inception, _IMAGE),
    "ShuffleNet": (
        lambda: nn.Sequential(conv(3, 8, stride=2), Shuffle(8), Shuffle(8), *_head(8)),
        _IMAGE,
    ),
    "ConvMixer": (_patches, _IMAGE),
    "attention": (Attention, _IMAGE),
    "CBAM": (lambda: nn.Sequential(conv(3, 8, stride=2), Spatial(), conv(8, 8), *_head(8)), _IMAGE),
    "detector": (_detector, _IMAGE),
    "U-Net": (UNet, _IMAGE),
    "DeepLab": (Upsampled, _IMAGE),
    "super-resolution": (_super_resolution, _IMAGE),
    "generator": (_generator, _TABLE),
    "volumes": (_volume, _VOLUME),
    "PointNet": (Points, _SERIES),
    "speaker": (Speaker, _SERIES),
    "Conformer": (Gated, _SERIES),
    "CRNN": (Recurrent, _SERIES),
    "table": (_tabular, _TABLE),
}


def made(name: str) -> tuple[nn.Module, Tensor]:
    """A network in eval mode, seeded, gamma and beta around 1 and 0, and a batch."""
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    net = build()
    for layer in net.modules():
        if isinstance(layer, _BatchNorm):
            nn.init.normal_(layer.weight, 1, 0.3)
            nn.init.normal_(layer.bias, 0, 0.3)
    return net.eval(), torch.randn(ROWS, *shape)
