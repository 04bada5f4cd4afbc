"""The second order where models do what few do: in every detail, against double backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests import nets
from tests.theory.test_second_order_sweep import (
    DETAILS,
    agree,
    audited,
    by_double_backward,
    in_every_detail,
)


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small nets would go to double backward."""
    monkeypatch.setattr("bnaudit.measure.second_order_sweep.sweep_pays", lambda *_: True)


class Rows(nn.Module):
    """Rows of features through a BatchNorm, something that the test is about, and another one."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm1d(6), nn.BatchNorm1d(6)
        self.a, self.fc = nn.Linear(6, 6), nn.Linear(6, 5)

    def between(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.bn2(self.a(self.between(torch.tanh(self.bn1(x)))))))


class Halves(Rows):
    """Every second BatchNorm reads a slice of what another made."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.BatchNorm1d(3), nn.BatchNorm1d(3)

    def between(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        return torch.cat((self.left(left), torch.tanh(self.right(right))), 1)


class Copies(Rows):
    """Copies over tensors: of what has a tangent, and over what has one."""

    def between(self, x: Tensor) -> Tensor:
        kept, lost = torch.empty_like(x), x.clone()
        kept.copy_(x)
        lost.copy_(torch.arange(6.0))
        return kept * lost


class Lengths(Rows):
    """Divides by integers."""

    def between(self, x: Tensor) -> Tensor:
        return x / torch.tensor([3, 7, 11, 13, 17, 19])


class Zeroed(Rows):
    """Divides by nothing, in a branch that the loss does not use."""

    def between(self, x: Tensor) -> Tensor:
        self.unused = x * 2 / 0
        return x


@in_every_detail
@pytest.mark.parametrize("cls", [Halves, Copies, Lengths, Zeroed])
def test_agrees(cls: type[nn.Module], detail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = nets.make(cls).double(), inputs()
    agree(audited(net, x, **DETAILS[detail]), by_double_backward(monkeypatch, net, x))


def inputs() -> Tensor:
    return torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
