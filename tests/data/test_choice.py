"""What --loss auto takes for which labels and output: the rows of docs/losses.md, and where they end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnaudit.data.loss import choose_loss
from bnaudit.errors import UsageError

N = 6
ONE_HOT = nn.functional.one_hot(torch.arange(N) % 4, 4)
SOFT = torch.full((N, 4), 0.25)
SEVERAL = torch.tensor([[0, 1, 1, 0]] * N)
CLASSES = torch.arange(N) % 4
BITS = torch.arange(N) % 2
NUMBERS = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
MASK = torch.arange(N * 9).reshape(N, 3, 3) % 2


def output(*shape: int, end: Any = None) -> Tensor:
    """Scores of a network whose last operator is `end`."""
    x = torch.randn(N, *shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    return 2 * x if end is None else end(2 * x)


ROWS: list[tuple[str, Any, Tensor, str, str]] = [
    ("class indices", CLASSES, output(4), "cross_entropy", "class indices"),
    ("class indices in a column", CLASSES[:, None], output(4), "cross_entropy", "class indices"),
    ("class indices as floats", CLASSES.float(), output(4), "cross_entropy", "whole numbers"),
    ("0 and 1 for two outputs", BITS, output(2), "cross_entropy", "class indices"),
    ("one-hot floats", ONE_HOT.float(), output(4), "cross_entropy", "one-hot"),
    ("one-hot integers", ONE_HOT, output(4), "cross_entropy", "one-hot"),
    ("class probabilities", SOFT, output(4), "cross_entropy", "sum to 1"),
    ("one-hot, sigmoid", ONE_HOT.float(), output(4, end=torch.sigmoid), "bce", "several labels"),
    ("several labels", SEVERAL.float(), output(4), "bce", "several labels a row"),
    ("several labels, integers", SEVERAL, output(4), "bce", "several labels a row"),
    ("0 and 1, one score", BITS, output(), "bce", "one score each"),
    ("0 and 1, one column", BITS.float(), output(1), "bce", "one score each"),
    ("0.0 and 1.0, columns", BITS.float()[:, None], output(1), "bce", "one score each"),
    ("booleans", BITS.bool(), output(1), "bce", "one score each"),
    ("-1 and 1", 2 * BITS - 1, output(1), "hinge", "-1 and 1"),
    ("numbers", NUMBERS, output(4), "mse", "floating-point"),
    ("one number", NUMBERS[:, 0], output(1), "mse", "floating-point"),
    ("counts", 3 * SEVERAL, output(4), "mse", "numbers, one an output"),
    ("a mask of classes", MASK, output(4, 3, 3), "cross_entropy", "class indices"),
    ("a mask of classes with an axis", MASK[:, None], output(4, 3, 3), "cross_entropy", "class"),
    ("a mask of 0 and 1", MASK, output(1, 3, 3), "bce", "one score each"),
    ("masks of 0 and 1", torch.stack([MASK, MASK], 1), output(2, 3, 3), "bce", "several"),
    ("classes of tokens, classes last", MASK[:, 0], output(3, 5), "cross_entropy", "class"),
    ("shares, of shares", SOFT, SOFT.clone().requires_grad_() * 1, "mse", "floating-point"),
]


@pytest.mark.parametrize(
    ("labels", "y", "name", "why"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS]
)
def test_what_is_chosen(labels: Tensor, y: Tensor, name: str, why: str) -> None:
    loss = choose_loss("auto", labels, 0, None, y)
    assert (loss.name, loss.label_free) == (name, False)
    assert why in loss.why
    assert torch.isfinite(loss.compute(y, labels, 0))


def test_what_is_left_out_says_nothing_of_the_labels() -> None:
    marked = torch.where(MASK == 0, 255, 1)
    assert choose_loss("auto", marked, 0, {"ignore_index": 255}, output(1, 3, 3)).name == "bce"


def test_more_batches_than_the_one_that_was_run() -> None:
    labels = torch.cat([BITS.float(), torch.tensor([0.5])])
    assert choose_loss("auto", labels, 0, None, output(1)).name == "mse"
    assert choose_loss("auto", torch.cat([BITS, BITS]), 0, None, output(1)).name == "bce"


@pytest.mark.parametrize("labels", [{"boxes": [NUMBERS]}, [{"boxes": NUMBERS}] * N])
def test_labels_that_are_no_array_need_a_loss_that_takes_them(labels: Any) -> None:
    with pytest.raises(UsageError, match="the labels are no array") as caught:
        choose_loss("auto", labels, 0, None, output(4))
    assert "file.py:function" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("crossentropy", "cross_entropy"),
        ("CrossEntropyLoss", "cross_entropy"),
        ("hubber", "huber"),
        ("mae", "l1"),
        ("smooth_l1", "huber"),
        ("focal_loss", "focal"),
    ],
)
def test_unknown_names_get_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(UsageError, match="unknown loss") as caught:
        choose_loss(name, CLASSES, 0)
    assert f"did you mean {meant!r}?" in caught.value.message
    assert "cross_entropy, nll, focal" in str(caught.value.hint)
