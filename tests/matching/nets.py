"""Small networks whose running statistics are those of data that nobody has any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


def settled(net: nn.Module, data: Callable[[torch.Generator], tuple[Tensor, ...]]) -> nn.Module:
    """The network with the statistics of many batches of some data, in eval mode."""
    generator = torch.Generator().manual_seed(5)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the plain average
    with torch.no_grad():
        for _ in range(30):
            net.train()(*data(generator))
    return net.eval().requires_grad_(False)


def normal(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Callable[..., tuple[Tensor]]:
    """Batches of 64 rows."""
    return lambda g: (shift + scale * torch.randn(64, *shape, generator=g),)


def volumes() -> nn.Module:
    """BatchNorm3d behind a convolution, on volumes in 0 to 255."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.Conv3d(4, 6, 3, padding=1),
        nn.BatchNorm3d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    return settled(net, normal(1, 4, 4, 4, scale=60.0, shift=120.0))


def sequences() -> nn.Module:
    """BatchNorm1d behind convolutions along time."""
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Conv1d(3, 6, 3, padding=1),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.Conv1d(6, 6, 3, padding=1),
        nn.BatchNorm1d(6),
        nn.Flatten(),
        nn.Linear(6 * 10, 3),
    )
    return settled(net, normal(3, 10, scale=3.0, shift=-1.0))


def features() -> nn.Module:
    """BatchNorm first, on features of sizes from a thousandth to ten thousand."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.BatchNorm1d(5), nn.Linear(5, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 3)
    )
    size = torch.tensor([1e-1, 1.0, 30.0, 1e3, 1e4])
    return settled(net, lambda g: (size * (2 + torch.randn(64, 5, generator=g)),))


class Words(nn.Module):
    """An embedding in front, as in a classifier of texts."""

    def __init__(self, column: bool = False) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.column = column
        self.table = nn.Embedding(50, 8)
        self.other = nn.Embedding(20, 8)
        self.conv = nn.Conv1d(8, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm1d(6)
        self.bn2 = nn.BatchNorm1d(6)
        self.fc = nn.Linear(6, 3)

    def forward(self, ids: Tensor) -> Tensor:
        """(N, 12) -> (N, 3)."""
        if self.column:
            x = torch.stack([self.table(ids[:, 0]), self.other(ids[:, 1])], 2)
        else:
            x = self.table(ids).transpose(1, 2)
        x = torch.relu(self.bn1(self.conv(x)))
        out: Tensor = self.fc(self.bn2(x.mean(2)))
        return out


def words(*, column: bool = False) -> nn.Module:
    """Ids that are drawn from the first rows far more often than from the others."""
    shape = (64, 2) if column else (64, 12)
    return settled(
        Words(column),
        lambda g: ((torch.rand(shape, generator=g) ** 3 * (20 if column else 50)).long(),),
    )


class Pixels(nn.Module):
    """Whole numbers in, scaled inside."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.conv = nn.Conv2d(3, 6, 3)
        self.bn = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, 6, 6), uint8 -> (N, 3)."""
        x = image.float() / 255
        out: Tensor = self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))
        return out


def pixels() -> nn.Module:
    """Statistics of dark images."""

    def dark(generator: torch.Generator) -> tuple[Tensor]:
        return ((90 * torch.rand(64, 3, 6, 6, generator=generator)).to(torch.uint8),)

    return settled(Pixels(), dark)


class Two(nn.Module):
    """Two inputs, joined behind a BatchNorm each; a mask of true and false beside them."""

    def __init__(self, masked: bool = False) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.masked = masked
        self.a, self.b = nn.Linear(4, 6), nn.Linear(3, 6)
        self.bn_a, self.bn_b, self.bn = nn.BatchNorm1d(6), nn.BatchNorm1d(6), nn.BatchNorm1d(6)
        self.fc = nn.Linear(6, 3)

    def forward(self, left: Tensor, right: Tensor, mask: Any = None) -> Tensor:
        """(N, 4) and (N, 3) -> (N, 3)."""
        x = torch.relu(self.bn_a(self.a(left))) + torch.relu(self.bn_b(self.b(right)))
        if self.masked:
            x = x.masked_fill(mask, 0.0)
        out: Tensor = self.fc(self.bn(x))
        return out


def two(*, masked: bool = False) -> nn.Module:
    """Inputs of unlike sizes."""

    def pair(g: torch.Generator) -> tuple[Tensor, ...]:
        both = (2 * torch.randn(64, 4, generator=g), 9 + torch.randn(64, 3, generator=g))
        return (*both, torch.rand(64, 6, generator=g) < 0.2) if masked else both

    return settled(Two(masked), pair)


def twins() -> nn.Module:
    """Two channels with the same weights, of which one has another running mean: no input has both."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.LazyLinear(3),
    )
    torch.manual_seed(8)
    net(torch.zeros(2, 1, 8, 8))
    conv: Any = net[0]
    with torch.no_grad():
        conv.weight[1], conv.bias[1] = conv.weight[0], conv.bias[0]
    settled(net, normal(1, 8, 8))
    bn: Any = net[1]
    bn.running_mean[1] += 3 * bn.running_var[1].sqrt()
    return net
