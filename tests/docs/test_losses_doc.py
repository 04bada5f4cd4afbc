"""docs/losses.md: each row of what users have is run, and its table of losses is the one in the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.data.loss import choose_loss
from bnaudit.losses import LOSSES

TEXT = (Path(__file__).parents[2] / "docs" / "losses.md").read_text(encoding="utf-8")
N = 6
CLASSES, BITS = torch.arange(N) % 3, torch.arange(N) % 2
ONE_HOT = nn.functional.one_hot(CLASSES, 3)
SEVERAL = torch.tensor([[0, 1, 1]] * N)
MASK = torch.arange(N * 9).reshape(N, 3, 3) % 2
SHARES = torch.tensor([[0.5, 0.25, 0.25]] * N)
NUMBERS = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))


def scores(*shape: int) -> Tensor:
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(1)).requires_grad_() * 2


HAVE: dict[tuple[str, str], list[tuple[Any, Tensor]]] = {
    ("class indices (N,), integers", "(N, K)"): [(CLASSES, scores(3))],
    ("class indices (N, 1)", "(N, K)"): [(CLASSES[:, None], scores(3))],
    ("class indices (N,), whole floats", "(N, K)"): [(CLASSES.float(), scores(3))],
    ("0 and 1 (N,)", "(N, 2)"): [(BITS, scores(2)), (BITS.float(), scores(2))],
    ("one-hot (N, K), floats or integers", "(N, K)"): [
        (ONE_HOT, scores(3)),
        (ONE_HOT.float(), scores(3)),
    ],
    ("probabilities (N, K), rows sum to 1", "(N, K)"): [(SHARES, scores(3))],
    ("one-hot (N, D)", "(N, D), ends in a sigmoid"): [(ONE_HOT.float(), scores(3).sigmoid())],
    ("0 and 1 (N, D), several a row", "(N, D)"): [
        (SEVERAL, scores(3)),
        (SEVERAL.float(), scores(3)),
    ],
    ("0 and 1 (N,), any type", "(N,) or (N, 1)"): [
        (t, y) for t in (BITS, BITS.bool(), BITS.float()) for y in (scores(), scores(1))
    ],
    ("0.0 and 1.0 (N, 1)", "(N, 1)"): [(BITS.float()[:, None], scores(1))],
    ("-1 and 1 (N,), integers", "(N, 1)"): [(2 * BITS - 1, scores(1))],
    ("numbers (N, D)", "(N, D)"): [(NUMBERS, scores(3))],
    ("numbers (N,)", "(N, 1)"): [(NUMBERS[:, 0], scores(1))],
    ("class masks (N, H, W) or (N, 1, H, W)", "(N, K, H, W)"): [
        (MASK, scores(3, 3, 3)),
        (MASK[:, None], scores(3, 3, 3)),
    ],
    ("masks of 0 and 1 (N, H, W)", "(N, 1, H, W)"): [(MASK, scores(1, 3, 3))],
    ("masks of 0 and 1 (N, D, H, W)", "(N, D, H, W)"): [
        (torch.stack([MASK, MASK], 1), scores(2, 3, 3))
    ],
    ("classes of tokens (N, L)", "(N, L, K) or (N, K, L)"): [
        (MASK[:, 0], scores(3, 5)),
        (MASK[:, 0], scores(5, 3)),
    ],
    ("targets with target lengths", "(N, T, K) or (T, N, K)"): [
        ({"targets": torch.ones(N, 1), "target_lengths": [1] * N}, scores(5, 3)),
        ({"targets": torch.ones(N, 1), "target_lengths": [1] * N}, scores(5, 3).transpose(0, 1)),
    ],
    ("shares (N, K), rows sum to 1", "(N, K), sums to 1 without a softmax"): [
        (SHARES, SHARES.flip(0).clone().requires_grad_() * 1)
    ],
}


def table(after: str) -> list[list[str]]:
    """Cells of the first table behind some words."""
    rest = TEXT[TEXT.index(after) :]
    block = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
    assert block is not None
    lines = block.group().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


ROWS = {(labels, output): loss.strip("`| ") for labels, output, loss in table("## Which loss")}


@pytest.mark.parametrize(
    ("labels", "output"), [row for row in ROWS if not row[0].startswith("none")]
)
def test_a_row_of_what_users_have(labels: str, output: str) -> None:
    for given, y in HAVE[labels, output]:
        loss = choose_loss("auto", given, 0, None, y)
        assert loss.name == ROWS[labels, output]
        assert torch.isfinite(loss.compute(y, given, 0))


class Net(nn.Module):
    def __init__(self, form: str = "logits") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.bn, self.head = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.form = form

    def forward(self, x: Tensor) -> Any:
        y = self.head(torch.relu(self.bn(self.fc(x))))
        forms = {
            "mapping": {"loss": y.square().mean(), "logits": y},
            "first": (y.square().mean(), y),
            "softmax": y.softmax(1),
        }
        return forms.get(self.form, y)


def chosen(form: str, **options: Any) -> str:
    report = bnaudit.audit(Net(form).eval(), metrics=("first_order",), **options)
    assert report.run is not None
    return report.run.loss.name


def test_rows_without_labels() -> None:
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(2))
    assert {row[0] for row in ROWS} - {row[0] for row in HAVE} == {
        "none, and the network returns a loss",
        "none, real data",
        "none, made-up inputs",
    }
    assert chosen("mapping", data=x) == chosen("first", data=x) == "returned"
    assert chosen("softmax", data=x) == "cross_entropy"
    assert chosen("softmax", input_shapes={"x": (8, 4)}) == "noise_mse"


def test_the_table_of_losses_is_that_of_the_code() -> None:
    found = {name: (words, options) for name, words, options in table("## Named losses")}
    assert found == {
        f"`{name}`": (entry.summary, ", ".join(f"`{o}`" for o in entry.options))
        for name, entry in LOSSES.items()
    }
