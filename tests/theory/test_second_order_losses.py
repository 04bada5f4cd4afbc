"""Every named loss behind the second-order sweep, against float64 Hessians of it, entry by entry.

The reference shares nothing with the sweep but the formula of the loss, which tests/data/test_named_losses.py
holds against plain numbers.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.data.losses.definition import definition
from bnaudit.losses import LOSSES, settings_for
from bnaudit.records.curvature import SecondOrder
from bnaudit.records.values import Skipped, Spread
from tests import nets, reference

ROWS = 10
X = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
CLASSES = torch.arange(ROWS) % 3
BITS = (torch.arange(3 * ROWS).reshape(ROWS, 3) * 7 // 3) % 2
NUMBERS = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
MARKED = torch.where(torch.arange(ROWS) % 4 == 1, 255, CLASSES)

CASES: list[tuple[str, Tensor, dict[str, Any]]] = [
    ("cross_entropy", CLASSES, {"class_weights": [1.0, 2.0, 0.5], "label_smoothing": 0.1}),
    ("cross_entropy", MARKED, {"ignore_index": 255}),
    ("cross_entropy", NUMBERS.softmax(1), {}),
    ("nll", CLASSES, {"class_weights": [1.0, 2.0, 0.5]}),
    ("focal", CLASSES, {"gamma": 1.5, "class_weights": [1.0, 2.0, 0.5]}),
    ("focal", BITS, {"alpha": 0.25}),
    ("bce", BITS, {"pos_weight": [3.0, 1.0, 2.0]}),
    (
        "bce",
        torch.where(torch.arange(3 * ROWS).reshape(ROWS, 3) % 5 == 2, 255, BITS),
        {"ignore_index": 255},
    ),
    ("hinge", CLASSES, {}),
    ("hinge", BITS, {"margin": 0.7}),
    ("mse", NUMBERS, {"reduction": "sum"}),
    ("l1", NUMBERS, {}),
    ("huber", NUMBERS, {"delta": 0.4}),
]


class Net(nn.Module):
    """One BatchNorm in front of something curved."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.fc = nn.BatchNorm1d(3, eps=0.05), nn.Linear(3, 3)

    def after(self, z: Tensor) -> Tensor:
        return self.fc(torch.tanh(z))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.bn(x))


def value(metric: object) -> float:
    assert isinstance(metric, Spread), metric
    return metric.median


@pytest.mark.parametrize(
    ("name", "labels", "given"), CASES, ids=[f"{c[0]}-{list(c[2])}" for c in CASES]
)
def test_curvature_is_that_of_the_definition(
    name: str, labels: Tensor, given: dict[str, Any]
) -> None:
    torch.manual_seed(3)
    net = nets.randomise(Net().double(), 3)
    assert isinstance(net, Net)
    gamma, beta = net.bn.weight.detach(), net.bn.bias.detach()
    settings = settings_for(name, given)

    def loss_of(x: Tensor) -> Tensor:
        y = net.after(reference.batch_norm(x, gamma, beta, 0.05))
        return definition(name).compute(y, labels, settings)

    x = X.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss_of(x), x)
    hessian = torch.autograd.functional.hessian(loss_of, X).reshape(X.numel(), X.numel())
    g = g.reshape(-1)
    expected = float(g @ hessian @ g / (g @ g))
    report = bnaudit.audit(
        net,
        data=X,
        labels=labels,
        loss=name,
        loss_options=given,
        metrics=("first_order", "second_order"),
        verify_second_order="all",
    )
    found = report.layers[0].second_order
    assert isinstance(found, SecondOrder)
    assert value(found.rayleigh) == pytest.approx(expected, rel=1e-8)
    assert {c[0] for c in CASES} == set(LOSSES) - {"ctc"}


def test_a_loss_without_a_second_derivative_is_skipped_with_the_reason() -> None:
    class Sequences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.bn, self.fc = nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.relu(self.bn(self.conv(x))).transpose(1, 2))

    x = torch.randn(4, 3, 12, generator=torch.Generator().manual_seed(0))
    padded = torch.tensor([[1, 2], [3, 4], [1, 0], [2, 0]])
    report = bnaudit.audit(Sequences().eval(), data=x, labels=padded, loss="ctc")
    assert report.layers[0].measured
    found = report.layers[0].second_order
    assert isinstance(found, Skipped)
    assert "ctc" in found.reason
