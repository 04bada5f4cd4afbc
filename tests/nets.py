"""Small networks that the tests audit, each with one thing that a naive measurement gets wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PreActivation(nn.Module):
    """x feeds both a BatchNorm and a skip connection: dL/dx of the tensor includes the skip."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv1(F.relu(self.bn1(x)))
        return self.fc(F.relu(self.bn2(x)).mean((2, 3)))


class InPlace(nn.Module):
    """ReLU overwrites the BatchNorm's output: the stored tensor is no longer z."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 6, 3),
            nn.BatchNorm2d(6),
            nn.LeakyReLU(inplace=True),
        )
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean((2, 3)))


class Shared(nn.Module):
    """One BatchNorm, used twice in a forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 8)
        self.bn = nn.BatchNorm1d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.bn(self.a(x)))
        return self.fc(torch.tanh(self.bn(self.b(x))))


class Branching(nn.Module):
    """BatchNorm behind control flow that scripting keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.bn_even = nn.BatchNorm1d(8)
        self.bn_odd = nn.BatchNorm1d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if x.shape[0] % 2 == 0:  # noqa: SIM108  # the control flow is the point
            y = self.bn_even(y)
        else:
            y = self.bn_odd(y)
        for _ in range(2):
            y = torch.tanh(y)
        return self.fc(y)


class Plain(nn.Module):
    """Every flavour of layer: affine or not, with and without statistics, 1d to 3d."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3 = nn.Conv3d(1, 4, 3, padding=1)
        self.bn3 = nn.BatchNorm3d(4, affine=False)
        self.conv2 = nn.Conv2d(4, 4, 3)
        self.bn2 = nn.BatchNorm2d(4, track_running_stats=False)
        self.conv1 = nn.Conv1d(4, 6, 2)
        self.bn1 = nn.BatchNorm1d(6, affine=False, track_running_stats=False)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn3(self.conv3(x))).mean(2)
        x = F.relu(self.bn2(self.conv2(x))).mean(2)
        return self.fc(F.relu(self.bn1(self.conv1(x))).mean(2))


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Random gamma (of both signs), beta and statistics: fresh layers hide mistakes behind 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                if module.weight is not None:
                    module.weight.copy_(torch.randn(module.num_features, generator=generator))
                    module.bias.copy_(torch.randn(module.num_features, generator=generator))
                if module.running_mean is not None and module.running_var is not None:
                    module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
                    noise = torch.rand(module.num_features, generator=generator)
                    module.running_var.copy_(noise + 0.5)
    return net


def make(cls: type[nn.Module], seed: int = 0) -> nn.Module:
    """An instance in eval mode with seeded weights."""
    torch.manual_seed(seed)
    return randomise(cls(), seed).eval()


def inputs_for(cls: type[nn.Module], rows: int = 24, seed: int = 0) -> Tensor:
    """A batch that fits."""
    generator = torch.Generator().manual_seed(seed + 100)
    shape = {PreActivation: (1, 7, 7), InPlace: (1, 8, 8), Plain: (1, 5, 6, 6)}.get(cls, (6,))
    return torch.randn(rows, *shape, generator=generator)
