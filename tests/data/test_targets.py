"""Labels that are no array reach the user's own loss as they were given; a loss may take the whole batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import bnaudit
from bnaudit.data.targets import is_structured, moved, targets
from bnaudit.errors import DataError, RunError, UsageError
from bnaudit.records.values import Spread

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("in_order")

BOXES = [{"boxes": torch.rand(n, 4), "name": "a"} for n in (1, 3, 0, 2)]
SEEN: list[Any] = []


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.bn, self.head = nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.bn(self.fc(x))))


def batches(target: Any) -> Iterator[Any]:
    for seed in range(2):
        yield torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)), target


def boxes_loss(output: Tensor, labels: Any) -> Tensor:
    SEEN.append(labels)
    rows = [output[i].expand_as(t["boxes"]) - t["boxes"] for i, t in enumerate(labels)]
    return torch.cat(rows).square().mean()


def audited(data: Any, loss: Any, **options: Any) -> Any:
    SEEN.clear()
    report = bnaudit.audit(Net().eval(), data=data, loss=loss, metrics=("first_order",), **options)
    assert report.run is not None
    assert report.layers[0].measured
    return report.run


@pytest.mark.parametrize("target", [BOXES, tuple(BOXES)])
def test_boxes_a_row_pass_untouched(target: Any) -> None:
    run = audited(list(batches(target)), boxes_loss)
    assert (run.loss.name, run.loss.label_free, run.loss.labels) == (
        "boxes_loss",
        False,
        "the data loader",
    )
    assert all(seen is target for seen in SEEN)


def test_a_mapping_of_targets_and_a_mapping_that_holds_one() -> None:
    target = {"classes": torch.arange(4), "boxes": [t["boxes"] for t in BOXES]}

    def loss(output: Tensor, labels: Any) -> Tensor:
        SEEN.append(labels)
        return nn.functional.cross_entropy(output, labels["classes"])

    audited(list(batches(target)), loss)
    assert all(seen is target for seen in SEEN)
    audited([{"x": x, "target": t} for x, t in batches(target)], loss)
    assert all(seen is target for seen in SEEN)
    audited([{"x": x, "mine": t} for x, t in batches(target)], loss, labels="mine")
    assert all(seen is target for seen in SEEN)


def test_a_list_beside_arrays_is_cut_by_rows() -> None:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    run = audited(x, boxes_loss, labels=[*BOXES, *BOXES], batch_size=4)
    assert run.data.batches == 2
    assert SEEN[0] == BOXES
    assert SEEN[0][1]["boxes"] is BOXES[1]["boxes"]
    with pytest.raises(DataError, match="4 labels"):
        audited(x, boxes_loss, labels=BOXES)


def test_numbers_are_an_array_as_they_were() -> None:
    assert not any(
        map(is_structured, ([1, 2], [[1.0], [2.0]], torch.ones(2), 3, [torch.tensor(1)]))
    )
    assert all(map(is_structured, (BOXES, {"a": 1}, [torch.ones(2), torch.ones(2)], None)))
    assert targets([0, 1], "labels").tolist() == [0, 1]
    assert moved(BOXES, torch.device("cpu")) is BOXES
    away = moved({"a": [torch.ones(2), "b"]}, torch.device("meta"))
    assert away["a"][0].is_meta
    assert away["a"][1] == "b"


def test_a_named_loss_says_what_takes_them() -> None:
    for name, message in (("auto", "no named loss takes them"), ("mse", "a list")):
        with pytest.raises((UsageError, DataError), match=message) as caught:
            audited(list(batches(BOXES)), name)
        assert "--loss file.py:function" in str(caught.value.hint)


def test_a_loss_of_the_batch_gets_what_the_loader_gave() -> None:
    def loss(output: Tensor, batch: Any) -> Tensor:
        SEEN.append(batch)
        return (batch["weight"][:, None] * (output - batch["aim"])).square().mean()

    items = [
        {"x": x, "weight": torch.arange(4.0), "aim": torch.ones(4, 4), "id": ["a", "b", "c", "d"]}
        for x, _ in batches(None)
    ]
    run = audited(items, loss)
    assert (run.loss.name, run.loss.label_free) == ("loss", False)
    assert {id(seen) for seen in SEEN} == {id(item) for item in items}
    with pytest.raises(DataError, match="is not an input of the model"):
        audited(items, lambda output, labels: output.sum())


def test_a_loss_of_the_batch_gets_a_tuple_as_it_was_and_rows_of_arrays_by_name() -> None:
    def of_three(output: Tensor, batch: Any) -> Tensor:
        _, labels, weights = batch
        return (weights * nn.functional.cross_entropy(output, labels, reduction="none")).sum()

    audited([(x, torch.arange(4), torch.ones(4)) for x, _ in batches(None)], of_three)

    def of_rows(output: Tensor, batch: Any) -> Tensor:
        assert set(batch) == {"x", "labels"}
        return nn.functional.mse_loss(output, batch["x"].new_ones(4, 4) * batch["labels"][:, None])

    audited(torch.randn(8, 3), of_rows, labels=torch.arange(8.0), batch_size=4)


def test_ctc_takes_the_four_parts_that_loaders_give() -> None:
    class Sequences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.bn, self.fc = nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.relu(self.bn(self.conv(x))).transpose(1, 2))

    x = torch.randn(4, 3, 12, generator=torch.Generator().manual_seed(0))
    flat, times = torch.tensor([1, 2, 3, 4, 1, 2]), torch.full((4,), 10)
    items = [(x, flat, times, torch.tensor([2, 2, 1, 1]))] * 2
    report = bnaudit.audit(Sequences().eval(), data=items)
    assert report.run is not None
    assert report.run.loss.name == "ctc"
    assert report.run.loss.labels_are == "sequences"
    assert report.layers[0].measured
    assert "cannot be differentiated" in report.to_json()  # torch has no second derivative of it
    padded = torch.tensor([[1, 2], [3, 4], [1, 0], [2, 0]])
    rows = bnaudit.audit(
        Sequences().eval(), data=x, labels=padded, loss="ctc", metrics=("first_order",)
    )
    assert rows.run is not None
    assert isinstance(rows.run.loss.value, Spread)
    assert isinstance(report.run.loss.value, Spread)
    assert rows.run.loss.value.median == report.run.loss.value.median


def test_a_constant_loss_is_told() -> None:
    x = torch.randn(8, 3)
    for constant in (
        lambda output, labels: torch.tensor(1.0),
        lambda output, labels: output.detach().square().mean(),
    ):
        with pytest.raises(UsageError, match="is constant: no gradient leads from it") as caught:
            audited(x, constant)
        assert "without detach" in str(caught.value.hint)
    with pytest.raises(RunError, match="the loss <lambda> is constant: its gradient is 0"):
        audited(x, lambda output, labels: 0 * output.sum() + 3)
    with torch.no_grad():
        met = Net().train()(x).argmax(1)
    with pytest.raises(RunError, match="the loss hinge is constant"):
        audited(x, "hinge", labels=met, loss_options={"margin": 1e-30})


def test_a_loss_that_is_not_finite_names_itself() -> None:
    x = torch.randn(8, 3)
    with pytest.raises(RunError, match="nan") as caught:
        audited(x, lambda output, labels: (output - 1e9).sqrt().sum())
    assert "the model's output is finite, the loss <lambda> is not" in caught.value.message
