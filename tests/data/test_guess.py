"""The loss of an answer that ignores the input."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from bnaudit.data.labels import guess


def test_even_odds_on_the_classes_that_occur() -> None:
    labels = torch.tensor([3, 5, 5, 9, -100])
    even = torch.full((4, 3), 0.7)
    expected = F.cross_entropy(even, torch.tensor([0, 1, 1, 2]))
    assert guess("cross_entropy", [labels, labels]) == pytest.approx(float(expected))


def test_the_mean_of_the_labels_place_by_place() -> None:
    labels = torch.randn(40, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = F.mse_loss(labels.mean(0).expand_as(labels), labels)
    assert guess("mse", [labels[:20], labels[20:]]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        ("cross_entropy", None),
        ("cross_entropy", torch.tensor([4, 4, 4])),
        ("cross_entropy", torch.rand(4, 3)),
        ("mse", torch.ones(5)),
        ("bce", torch.tensor([1.0, 1.0])),
        ("mine", torch.tensor([0, 1])),
    ],
)
def test_other_losses_have_none(loss: str, labels: torch.Tensor | None) -> None:
    assert guess(loss, [labels]) is None


def test_binary_labels_cost_their_entropy() -> None:
    rows = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    wanted = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75) + math.log(0.5)) / 2
    assert guess("bce", [rows[:3], rows[3:]]) == pytest.approx(wanted)


def test_two_classes_cost_a_bit() -> None:
    assert guess("cross_entropy", [torch.tensor([0, 1])]) == pytest.approx(math.log(2))
