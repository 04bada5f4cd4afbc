"""Small networks with the operator families of those that people audit, one family each."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SqueezeExcite(nn.Module):
    """MobileNet v3: hardswish in place, a gate of hardsigmoid over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.bn3 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def gate(self, x: Tensor) -> Tensor:
        s = F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))
        # Hardsigmoid itself has no second derivative in PyTorch, and double backward refuses it.
        return x * (F.relu6(self.up(s) + 3) / 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.bn1(self.stem(x)), inplace=True)
        x = x + self.gate(F.hardswish(self.bn2(self.depthwise(x))))
        return self.fc(self.bn3(x).mean((2, 3)))


class Swish(nn.Module):
    """EfficientNet: SiLU, a sigmoid gate, a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 6, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.b = nn.Conv2d(6, 6, 3, 1, 1, groups=6, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.gate = nn.Conv2d(6, 6, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.bn1(self.a(x)))
        y = F.silu(self.bn2(self.b(x)))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        return self.fc(F.dropout(x + y, 0.2, False).flatten(2).mean(-1))


class Dense(nn.Module):
    """DenseNet: every layer reads the concatenation of all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4 + 3 * i) for i in range(3))
        self.convs = nn.ModuleList(
            nn.Conv2d(4 + 3 * i, 3, 3, padding=1, bias=False) for i in range(3)
        )
        self.fc = nn.Linear(13, 5)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)))))
        return self.fc(F.avg_pool2d(torch.cat(features, 1), 2).mean((2, 3)))


class Shuffle(nn.Module):
    """ShuffleNet: the channels are split, one half processed, and shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.bn2 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.stem(x))), 3, 2, 1)
        a, b = x.chunk(2, dim=1)
        x = torch.cat((a, F.relu(self.bn2(self.conv(b)))), 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return self.fc(x.mean((2, 3)))


class UNet(nn.Module):
    """Down, up again by a transposed convolution and by interpolation, with skips."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.deep = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.up = nn.ConvTranspose2d(6, 4, 2, 2)
        self.bn3 = nn.BatchNorm2d(8)
        self.out = nn.Conv2d(8 + 6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.down(x)))
        y = F.leaky_relu(self.bn2(self.deep(F.max_pool2d(x, 2))), 0.1)
        z = self.bn3(torch.cat((self.up(y), x), 1))
        wide = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.out(torch.cat((F.elu(z), wide), 1))


class Attention(nn.Module):
    """Attention over positions, LayerNorm and GELU between BatchNorms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(2, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm1d(8)
        self.qkv = nn.Linear(8, 24)
        self.norm = nn.LayerNorm(8)
        self.bn2 = nn.BatchNorm1d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.bn1(self.stem(x))).transpose(1, 2)
        q, k, v = self.qkv(x).view(*x.shape[:2], 2, 12).transpose(1, 2).chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        y = self.norm(x + y) / (1 + y.abs().amax(-1, keepdim=True))
        return self.fc(torch.tanh(self.bn2(y.transpose(1, 2))).mean(-1))


class Branches(nn.Module):
    """Inception: parallel branches, one of them pooled, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 3, 1, bias=False)
        self.bn_a = nn.BatchNorm2d(3)
        self.b = nn.Conv2d(2, 3, (1, 3), padding=(0, 1), bias=False)
        self.bn_b = nn.BatchNorm2d(3)
        self.b2 = nn.Conv2d(3, 3, (3, 1), padding=(1, 0), bias=False)
        self.bn_b2 = nn.BatchNorm2d(3)
        self.pool = nn.Conv2d(2, 2, 1, bias=False)
        self.bn_pool = nn.BatchNorm2d(2)
        self.bn_end = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.bn_a(self.a(x)))
        b = F.relu(self.bn_b2(self.b2(F.relu(self.bn_b(self.b(x))))))
        c = F.relu(self.bn_pool(self.pool(F.avg_pool2d(x, 3, 1, 1))))
        y = self.bn_end(torch.cat((a, b, c), 1))
        return self.fc((y * F.softplus(y)).sum((2, 3)) / 36)


class Statistics(nn.Module):
    """Operators without a rule of their own: standard deviation, logsumexp, gated linear unit, sort."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv1d(2, 8, 3)
        self.bn = nn.BatchNorm1d(8)
        self.bn2 = nn.BatchNorm1d(4)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.glu(self.bn(self.a(x)), 1)
        x = self.bn2(x) * x.std(-1, keepdim=True)
        return self.fc(torch.cat((x.logsumexp(-1), x.amax(-1), x.sort(-1)[0][..., 0]), 1))


IMAGES = (SqueezeExcite, Swish, Dense, Shuffle, UNet, Branches)
SEQUENCES = (Attention, Statistics)


def inputs_for(cls: type[nn.Module], rows: int = 6) -> Tensor:
    """A batch that fits."""
    shape = (2, 7) if cls in SEQUENCES else (2, 6, 6)
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(7))
