"""The loss of an answer that ignores the input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bnaudit.data.labels import guess
from bnaudit.data.loss import choose_loss


def guessed(name: Any, labels: list[Tensor], *outputs: int, **settings: Any) -> float | None:
    """Of labels in batches, for a network with outputs of this shape a row."""
    loss = choose_loss(name, torch.cat(labels), 0, settings, torch.zeros(len(labels[0]), *outputs))
    return guess(loss, labels, (len(labels[0]), *outputs))


def test_even_odds_on_the_classes_that_occur() -> None:
    labels = torch.tensor([3, 5, 5, 9, -100])
    even = torch.full((4, 3), 0.7)
    expected = float(F.cross_entropy(even, torch.tensor([0, 1, 1, 2])))
    for name in ("cross_entropy", "nll"):
        assert guessed(name, [labels, labels], 12) == pytest.approx(expected)
        weighted = guessed(name, [labels], 12, class_weights=[0.5 + k for k in range(12)])
        assert weighted == pytest.approx(expected)
    marked = torch.where(labels < 0, 255, labels)
    assert guessed("cross_entropy", [marked], 12, ignore_index=255) == pytest.approx(expected)
    assert guessed("focal", [labels], 12) == pytest.approx((2 / 3) ** 2 * math.log(3))


def test_classes_of_pixels_of_tokens_and_one_hot() -> None:
    labels = torch.tensor([[0, 2], [2, 3], [0, 0]])
    assert guessed("cross_entropy", [labels], 5, 2) == pytest.approx(math.log(3))
    assert guessed("cross_entropy", [labels], 2, 5) == pytest.approx(math.log(3))
    rows = F.one_hot(labels[:, 1], 4).double()
    assert guessed("cross_entropy", [rows], 4) == pytest.approx(math.log(3))


def test_smoothed_labels_cost_the_entropy_of_their_mean() -> None:
    mean = torch.tensor(
        [0.45, 0.45, 0.05, 0.05], dtype=torch.float64
    )  # 0.2 over four, two that occur
    wanted = float(-(mean * mean.log()).sum())
    labels = torch.tensor([0, 1, 1, 0])
    assert guessed("cross_entropy", [labels], 4, label_smoothing=0.2) == pytest.approx(wanted)


def test_the_mean_or_median_of_the_labels_place_by_place() -> None:
    labels = torch.randn(41, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = F.mse_loss(labels.mean(0).expand_as(labels), labels)
    assert guessed("mse", [labels], 2, 3) == pytest.approx(float(expected))
    middle = labels.median(0).values.expand_as(labels)
    assert guessed("l1", [labels], 2, 3) == pytest.approx(float(F.l1_loss(middle, labels)))
    huber = F.huber_loss(middle, labels, delta=0.3)
    assert guessed("huber", [labels], 2, 3, delta=0.3) == pytest.approx(float(huber))


@pytest.mark.parametrize(
    ("loss", "labels", "outputs"),
    [
        ("cross_entropy", torch.tensor([4, 4, 4]), (5,)),
        ("mse", torch.ones(5), ()),
        ("bce", torch.tensor([1.0, 1.0]), ()),
        ("hinge", torch.tensor([4, 4]), (5,)),
        (torch.sub, torch.tensor([0, 1]), (2,)),
    ],
)
def test_other_losses_and_labels_that_are_all_alike_have_none(
    loss: Any, labels: Tensor, outputs: tuple[int, ...]
) -> None:
    assert guessed(loss, [labels], *outputs) is None


def test_nothing_is_guessed_of_labels_that_the_model_itself_gave() -> None:
    from dataclasses import replace

    labels = torch.tensor([0, 1])
    loss = replace(choose_loss("cross_entropy", labels, 0), label_free=True)
    assert guess(loss, [labels], (2, 2)) is None
    assert guess(loss, [None], (2, 2)) is None


def test_binary_labels_cost_their_entropy() -> None:
    rows = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    wanted = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75) + math.log(0.5)) / 2
    assert guessed("bce", [rows], 2) == pytest.approx(wanted)
    masked = torch.cat([rows, torch.full((4, 2), 255.0)])
    assert guessed("bce", [masked], 2, ignore_index=255) == pytest.approx(wanted)


def test_the_best_constant_under_a_weight_of_ones() -> None:
    labels = torch.tensor([0.0, 0.0, 0.0, 1.0])
    costs = [
        float(
            F.binary_cross_entropy_with_logits(
                torch.full((4,), float(y)), labels, pos_weight=torch.tensor(5.0)
            )
        )
        for y in torch.linspace(-3, 3, 2001)
    ]
    assert guessed("bce", [labels], pos_weight=5.0) == pytest.approx(min(costs), rel=1e-5)


def test_the_side_that_has_more() -> None:
    for labels in (torch.tensor([0, 0, 0, 1]), torch.tensor([-1, -1, -1, 1])):
        assert guessed("hinge", [labels]) == pytest.approx(2 * 0.25)
    assert guessed("hinge", [torch.tensor([0, 1, 1])], 4) == pytest.approx(3 / 4)
