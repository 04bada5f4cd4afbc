"""Shares of right decisions and distances of outputs, by hand."""

from __future__ import annotations

from math import isnan, nan, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.data.decisions import decided, distance, right
from bnaudit.data.loss import Loss
from bnaudit.data.outputs import primary
from bnaudit.records.deployment import Deployment
from bnaudit.records.values import Estimate, Skipped

pytestmark = pytest.mark.usefixtures("in_order")


def loss_of(labels_are: Any, **settings: Any) -> Loss:
    return Loss("any", "", False, lambda y, labels, index: y.sum(), labels_are, settings)


SCORES = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0], [1.0, 0.0, 2.0]])


@pytest.mark.parametrize(
    ("labels", "share"),
    [([0, 1, 2], 1.0), ([0, 0, 0], 1 / 3), ([0, 0, -100], 0.5), ([[0], [1], [0]], 2 / 3)],
)
def test_classes(labels: list[int], share: float) -> None:
    assert right(SCORES, torch.tensor(labels), loss_of("classes")) == pytest.approx(share)


def test_pixels_and_binary_scores() -> None:
    pixels = torch.stack([torch.zeros(2, 2), torch.tensor([[1.0, -1.0], [1.0, -1.0]])])[None]
    assert right(pixels, torch.tensor([[[1, 0], [0, 0]]]), loss_of("classes")) == 0.75
    assert right(torch.tensor([2.0, -1.0]), torch.tensor([1.0, 1.0]), loss_of("binary")) == 0.5
    assert decided(torch.tensor([2.0, -1.0]), "binary").tolist() == [1, 0]


def test_what_is_no_decision() -> None:
    assert right(SCORES, torch.tensor([0.5, 1.0, 2.0]), loss_of("values")) is None
    assert right(SCORES, torch.tensor([0, 1]), loss_of("classes")) is None
    assert right(torch.tensor([1.0, 2.0]), torch.tensor([0, 1]), loss_of(None)) is None
    for y, labels in ((SCORES * nan, [0, 1, 2]), (SCORES, [-100] * 3)):
        share = right(y, torch.tensor(labels), loss_of("classes"))
        assert share is not None
        assert isnan(share)


def test_distance() -> None:
    reference = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    assert distance(reference + 1, reference) == pytest.approx(2 / sqrt(2))
    assert isnan(distance(reference[:1] + 1, reference[:1]))
    assert isnan(distance(reference[:1], reference))


def test_labels_are_for_scores_and_not_for_a_loss_beside_them() -> None:
    loss = torch.tensor(0.5)
    assert primary({"output[0]": loss, "output[1]": SCORES})[0] == "output[1]"
    assert primary({"output": loss})[0] == "output"


class Boxes(nn.Module):
    """As many outputs as rows are above a limit, which depends on the statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.bn(x)
        return z[z[:, 0] > 0.2]


def test_outputs_of_another_size_in_each_mode_are_not_compared() -> None:
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0)) + 1
    report = bnaudit.audit(
        Boxes().eval(), data=x, batch_size=16, metrics=("first_order", "deployment")
    )
    assert isinstance(report.deployment, Deployment)
    assert isinstance(report.deployment.distance, Skipped)
    assert isinstance(report.deployment.changed, Skipped)


def test_a_batch_without_any_label_leaves_no_accuracy() -> None:
    x, labels = torch.randn(64, 3), torch.arange(64) % 3
    labels[:16] = -100
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3)).eval()

    def loss(y: Tensor, t: Tensor) -> Tensor:
        return nn.functional.cross_entropy(y, t, ignore_index=-100, reduction="sum") / 16

    report = bnaudit.audit(
        net, data=x, labels=labels, loss=loss, batch_size=16, metrics=("first_order", "deployment")
    )
    assert isinstance(report.deployment, Deployment)
    assert isinstance(report.deployment.running.loss, Estimate)
    assert isinstance(report.deployment.running.accuracy, Skipped)
