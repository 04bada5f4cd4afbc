"""Healthy networks on rare, sparse and heavy-tailed features: what a sample happens to lack is no drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.records.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    Draw = Callable[[int, Tensor, torch.Generator], Tensor]

pytestmark = pytest.mark.usefixtures("in_order")


def flags(n: int, label: Tensor, g: torch.Generator) -> Tensor:
    """24 features that are nearly always 0."""
    often = torch.logspace(-3, -0.7, 24) * (1 + 0.5 * (label[:, None] == torch.arange(24) % 3))
    return (torch.rand(n, 24, generator=g) < often).float()


def categories(n: int, label: Tensor, g: torch.Generator) -> Tensor:
    """60 columns of which one is 1, by Zipf's law, beside four numbers."""
    often = 1 / torch.arange(1, 61).float() ** 1.2
    chosen = torch.multinomial(often.expand(n, -1), 1, generator=g)[:, 0]
    numbers = torch.randn(n, 4, generator=g) + label[:, None]
    return torch.cat([nn.functional.one_hot(chosen, 60).float(), numbers], 1)


def counts(n: int, label: Tensor, g: torch.Generator) -> Tensor:
    """Poisson variables of means 0.001 to 3."""
    return torch.poisson(torch.logspace(-3, 0.5, 24).expand(n, -1) * (1 + 0.5 * label[:, None]), g)


def amounts(n: int, label: Tensor, g: torch.Generator) -> Tensor:
    """Log-normal variables, some of which have hardly a variance."""
    spread = torch.linspace(0.5, 2.5, 16)
    return (spread * torch.randn(n, 16, generator=g) + 0.3 * label[:, None]).exp()


@pytest.mark.parametrize("first", [True, False], ids=["as it is", "behind a linear layer"])
@pytest.mark.parametrize("draw", [flags, categories, counts, amounts])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_healthy_network_gives_no_warning(draw: Draw, first: bool, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    y = torch.randint(0, 3, (3000,), generator=g)
    x = draw(len(y), y, g)
    norm: list[nn.Module] = [nn.BatchNorm1d(x.shape[1])] if first else []
    net = nn.Sequential(
        *norm, nn.Linear(x.shape[1], 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3)
    ).train()
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(4):
        for rows in torch.randperm(2000, generator=g)[:1984].split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()
    for batches in (8, 31):
        found = bnaudit.audit(
            net.eval(), data=x[2000:], labels=y[2000:], batches=batches, metrics=("statistics",)
        ).findings
        drift = [f for f in found if f.rule in {"BN201", "BN202"}]
        assert [f.message for f in drift if f.severity > Severity.INFO] == []
