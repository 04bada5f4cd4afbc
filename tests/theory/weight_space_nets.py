"""Nets in which something other than one plain layer feeds a BatchNorm."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Base(nn.Module):
    """Two convolutions, one BatchNorm and a head over the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3, padding=1)
        self.b = nn.Conv2d(2, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.bn(self.feed(x)))

    def feed(self, x: Tensor) -> Tensor:
        return self.a(x)

    def finish(self, z: Tensor) -> Tensor:
        return self.head(torch.tanh(z).mean(tuple(range(2, z.dim()))))


class Residual(Base):
    def feed(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x)


class Concatenation(Base):
    def feed(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x)[:, :2], self.b(x)[:, 2:]], 1)


class Pooled(Base):
    def feed(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.a(x), 2)


class Activated(Base):
    def feed(self, x: Tensor) -> Tensor:
        return F.relu(self.a(x))


class Scaled(Base):
    def feed(self, x: Tensor) -> Tensor:
        return self.a(x) * 2


class Subtracted(Base):
    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(4, 1, 1))

    def feed(self, x: Tensor) -> Tensor:
        return self.shift - self.a(x)


class Frozen(Base):
    def feed(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.a.weight.detach(), self.a.bias)


class Detached(Base):
    def feed(self, x: Tensor) -> Tensor:
        return self.a(x).detach()


class Second(Base):
    """A second BatchNorm, through which the loss can be differentiated."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.BatchNorm2d(4)


class NoGrad(Second):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            z = self.bn(self.a(x))
        return self.finish(z + self.other(self.b(x)))


class Cut(Base):
    """Of the convolution's channels a BatchNorm reads some only."""

    def feed(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), self.a(x)], 1).chunk(2, 1)[0]


class Attention(Base):
    """A product of two computed tensors."""

    def feed(self, x: Tensor) -> Tensor:
        a, b = self.a(x).flatten(2), self.b(x).flatten(2)
        return ((a @ b.mT).relu() @ b).unsqueeze(3)


class Reshaped(Base):
    """A generator's first layer: output features of one Linear become channels and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 16)  # type: ignore[assignment]

    def feed(self, x: Tensor) -> Tensor:
        return self.a(x.mean((2, 3))).view(-1, 4, 2, 2)


class Broadcast(Base):
    """A positional addend enlarges the convolution's output."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(1, 4, 5, 5))

    def feed(self, x: Tensor) -> Tensor:
        return self.b(x.mean((2, 3), keepdim=True)) + self.place


class AlsoRead(Base):
    """A skip connection leaves between the convolution and the BatchNorm."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.finish(self.bn(x)) + self.finish(x)


class Unused(Second):
    def forward(self, x: Tensor) -> Tensor:
        self.bn(self.a(x))
        return self.finish(self.other(self.b(x)))


class Checkpointed(Base):
    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = checkpoint(lambda t: self.bn(self.a(t)), x, use_reentrant=False)
        return self.finish(z)


class AddedConstant(Base):
    """A bias of its own and a buffer: x_j = U w_j + const all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(4))
        self.register_buffer("mean", torch.randn(4, 1, 1))

    def feed(self, x: Tensor) -> Tensor:
        return self.a(x) + self.shift.view(1, -1, 1, 1) - self.mean


class Standardised(Base):
    """The effective weight is a function of the parameter."""

    def feed(self, x: Tensor) -> Tensor:
        w = self.a.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, w, None, padding=1)


class Tied(nn.Module):
    """One weight in two layers, each with a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 2, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(2)
        self.bn2 = nn.BatchNorm2d(2)
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.bn1(self.a(x)))
        return self.head(torch.tanh(self.bn2(self.a(x))).mean((2, 3)))


class Masked(nn.Module):
    mask: Tensor

    """A pruned Linear behind an embedding: integer inputs, and a weight that is a product."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 6)
        self.fc = nn.Linear(6, 4)
        self.register_buffer("mask", (torch.rand(4, 6) > 0.3).float())
        self.bn = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(self.table(x).mean(1), self.fc.weight * self.mask, self.fc.bias)
        return self.head(torch.tanh(self.bn(x)))
