"""Networks with what an inspection can get wrong: shared layers, order, wrappers, every flavour."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(
            channels, eps=1e-3, momentum=0.25
        )  # registered before what feeds it
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.bn(self.conv(x)))


class Deep(nn.Module):
    """Feeders of every kind, and BatchNorms that nothing with weights feeds."""

    def __init__(self) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(1)
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.ReLU())
        self.blocks = nn.ModuleList([Block(4), Block(4)])
        self.up = nn.ConvTranspose2d(4, 6, 2, groups=2)
        self.bn_up = nn.BatchNorm2d(6, affine=False)
        self.drop = nn.Dropout(0.3)
        self.bn_drop = nn.BatchNorm2d(6)
        self.fork = nn.Conv2d(6, 6, 1)
        self.bn_fork = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5, bias=False)
        self.bn_fc = nn.BatchNorm1d(5, track_running_stats=False)
        self.bn_last = nn.BatchNorm1d(5, affine=False, track_running_stats=False)
        self.unused = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.bn0(x))
        for block in self.blocks:
            x = block(x)
        x = self.bn_up(self.up(x))
        x = self.bn_drop(self.drop(F.relu(x)))
        y = self.fork(x)
        x = self.bn_fork(y) * y
        return self.bn_last(self.bn_fc(self.fc(x.mean((2, 3)))))


class Twice(nn.Module):
    """One layer under two names, one used twice, one gamma of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.bn = nn.BatchNorm1d(8)
        self.same = self.bn
        self.tied = nn.BatchNorm1d(8)
        self.tied.weight = self.bn.weight
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.a(x))
        return self.fc(self.tied(torch.tanh(self.same(x))))


class InPlaceBefore(nn.Module):
    """The convolution's result is changed in place before the BatchNorm reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y.view(-1).relu_()
        return self.bn(y).mean((2, 3))


class Functional(nn.Module):
    """No BatchNorm module at all."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)
        self.gamma = nn.Parameter(torch.rand(4))
        self.register_buffer("mean", torch.rand(4))
        self.register_buffer("var", torch.rand(4) + 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.batch_norm(self.fc(x), self.mean, self.var, self.gamma, eps=0.5)  # type: ignore[arg-type]
        for _ in range(2):
            y = F.batch_norm(torch.tanh(y), self.mean, self.var)  # type: ignore[arg-type]
        return y


class ByMode(nn.Module):
    """One branch in training, another in inference, and the same layers in both."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.side = nn.Conv2d(4, 4, 1)
        self.bn_side = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.training:  # noqa: SIM108  # the branch is the point
            y = self.bn(y) + self.bn_side(self.side(y))
        else:
            y = self.bn(y)
        return y.mean((2, 3))


class Classifier(nn.Module):
    """Freezing folds the convolutions' BatchNorm and leaves the last, which tracks nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
            *(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        )
        self.bn = nn.BatchNorm1d(4, affine=False, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.body(x).mean((2, 3)))


class NoNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


class OtherNorms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm1 = nn.GroupNorm(2, 4)
        self.norm2 = nn.InstanceNorm2d(4, affine=True)
        self.norm3 = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm3(self.norm2(self.norm1(self.conv(x))).mean((2, 3)))


def train_a_little(net: nn.Module, x: Tensor) -> nn.Module:
    """Statistics and counters that are not those of a fresh layer."""
    net.train()
    with torch.no_grad():
        for i in range(3):
            net(x + i)
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return net.eval()
