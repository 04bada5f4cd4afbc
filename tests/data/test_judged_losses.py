"""BN205 and BN208 on every way to give labels: silent on right ones, loud on swapped ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.judge.obstacles import one_class

pytestmark = pytest.mark.usefixtures("in_order")

G = torch.Generator().manual_seed(0)
CLASSES = torch.randint(0, 3, (128,), generator=G)
X = (3 * torch.randn(3, 6, generator=G))[CLASSES] + 0.7 * torch.randn(128, 6, generator=G)
BITS = (CLASSES > 0).float()
SEVERAL = torch.stack([CLASSES == 0, CLASSES > 0, CLASSES == 2], 1).float()
NUMBERS = X @ torch.randn(6, 3, generator=G)


def trained(outputs: int, loss: Any, target: Tensor) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, outputs)
    ).train()
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(150):
        optimiser.zero_grad()
        loss(net(X), target).backward()
        optimiser.step()
    return net.eval()


CLASSIFIER = trained(3, nn.functional.cross_entropy, CLASSES)
BINARY = trained(1, nn.functional.binary_cross_entropy_with_logits, BITS[:, None])
TAGGER = trained(3, nn.functional.binary_cross_entropy_with_logits, SEVERAL)
REGRESSION = trained(3, nn.functional.mse_loss, NUMBERS)
MARKED = torch.where(torch.arange(128) % 5 == 1, 255, CLASSES)


@pytest.mark.parametrize(
    ("net", "labels", "swapped", "options"),
    [
        (CLASSIFIER, CLASSES, (CLASSES + 1) % 3, {}),
        (CLASSIFIER, CLASSES.float(), (CLASSES.float() + 1) % 3, {}),
        (
            CLASSIFIER,
            MARKED,
            torch.where(MARKED == 255, 255, (CLASSES + 1) % 3),
            {"ignore_index": 255},
        ),
        (
            CLASSIFIER,
            CLASSES,
            (CLASSES + 1) % 3,
            {"label_smoothing": 0.1, "class_weights": [1, 2, 3]},
        ),
        (
            CLASSIFIER,
            nn.functional.one_hot(CLASSES).float(),
            nn.functional.one_hot((CLASSES + 1) % 3),
            {},
        ),
        (BINARY, BITS, 1 - BITS, {}),
        (BINARY, BITS[:, None], 1 - BITS[:, None], {"pos_weight": 3}),
        (BINARY, BITS.bool(), ~BITS.bool(), {}),
        (TAGGER, SEVERAL, 1 - SEVERAL, {}),
        (REGRESSION, NUMBERS, NUMBERS.flip(0), {}),
        (REGRESSION, NUMBERS, NUMBERS.flip(0), {"loss": "huber"}),
        (REGRESSION, NUMBERS, NUMBERS.flip(0), {"loss": "l1"}),
        (CLASSIFIER, CLASSES, (CLASSES + 1) % 3, {"loss": "focal"}),
        (BINARY, BITS, 1 - BITS, {"loss": "hinge"}),
    ],
)
def test_a_rule_about_labels_judges_the_loss_that_was_used(
    net: nn.Module, labels: Tensor, swapped: Tensor, options: dict[str, Any]
) -> None:
    settings = {k: v for k, v in options.items() if k != "loss"}
    given = {
        "loss": options.get("loss", "auto"),
        "loss_options": settings,
        "metrics": ("first_order", "statistics"),
    }

    def found(labels: Tensor) -> set[str]:
        report = bnaudit.audit(net, data=X, labels=labels, **given)
        assert report.run is not None
        assert report.run.loss.guess is not None
        return {finding.rule for finding in report.findings}

    assert not found(labels) & {"BN205", "BN208"}
    assert "BN208" in found(swapped)


def test_rows_of_one_class_under_any_name_of_the_loss() -> None:
    for loss in ("auto", "cross_entropy", "focal"):
        report = bnaudit.audit(
            CLASSIFIER, data=X[CLASSES == 1], labels=CLASSES[CLASSES == 1], loss=loss, batch_size=16
        )
        assert report.run is not None
        assert report.run.loss.labels_are == "classes"
        assert one_class(report) is not None, loss
    assert one_class(bnaudit.audit(CLASSIFIER, data=X, labels=CLASSES)) is None
    assert one_class(bnaudit.audit(CLASSIFIER, data=X, loss="cross_entropy")) is None  # drawn
