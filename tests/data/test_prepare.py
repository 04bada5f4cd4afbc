"""Data given from Python: arrays, mappings, loaders, generators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from bnaudit.data.prepare import prepare
from bnaudit.errors import DataError, UsageError
from bnaudit.load.model import InputSpec
from bnaudit.options import AuditOptions
from tests.data.models import IDS, X, model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bnaudit.data.batch import Batches

pytestmark = pytest.mark.usefixtures("in_order")

ROWS = torch.arange(30, dtype=torch.float32).reshape(10, 3)
LABELS = torch.arange(10)
PAIRS = [(ROWS[i : i + 4], LABELS[i : i + 4]) for i in (0, 4, 8)]


def made(data: Any, *inputs: Any, static: int | None = None, **options: Any) -> Batches:
    return prepare(AuditOptions(data=data, **options), model(*inputs), static)[0]


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        ROWS.numpy(),
        ROWS.numpy()[::-1][::-1],
        (ROWS,),
        [ROWS.numpy()],
        {"x": ROWS},
        {"x": ROWS.tolist()},
        ROWS.clone().requires_grad_(),
        np.asfortranarray(ROWS.numpy()),
    ],
)
def test_arrays_in_any_form_are_the_same_rows(data: Any) -> None:
    batches = made(data, batch_size=5)
    assert torch.cat([b.inputs[0] for b in batches.items]).tolist() == ROWS.tolist()
    assert (batches.info.source, batches.info.available, batches.labels_from) == (
        "tensor",
        10,
        None,
    )
    assert not any(b.inputs[0].requires_grad for b in batches.items)


def test_several_inputs_come_in_order_or_by_name() -> None:
    ids = torch.zeros(10, 4, dtype=torch.int32)
    for data in ((ROWS, ids), {"ids": ids, "x": ROWS}):
        batch = made(data, X, IDS).items[0]
        assert [t.dtype for t in batch.inputs] == [torch.float32, torch.int64]
    with pytest.raises(DataError, match=r"1 array\(s\) for 2 inputs"):
        made(ROWS, X, IDS)


def test_labels_beside_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", LABELS.numpy())
    path = tmp_path / "y.npy"
    cases: list[tuple[Any, Any, str]] = [
        (ROWS, LABELS, "given array"),
        (ROWS, LABELS.tolist(), "given array"),
        ({"x": ROWS, "labels": LABELS}, None, "labels"),
        ({"x": ROWS, "y": LABELS}, "y", "y"),
        (ROWS, path, str(path)),
        (ROWS, str(path), str(path)),
    ]
    for data, labels, source in cases:
        batches = made(data, labels=labels)
        assert batches.labels_from == source
        assert batches.items[0].labels is not None
        assert batches.items[0].labels.tolist() == LABELS.tolist()
    with pytest.raises(DataError, match="neither a key of the data"):
        made(ROWS, labels="nosuch")


def test_labels_beside_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", x=ROWS.numpy())
    batches = made(tmp_path / "b.npz", labels=LABELS)
    assert batches.labels_from == "given array"
    assert batches.info.paths == (str(tmp_path / "b.npz"),)


def generator() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    yield from PAIRS


@pytest.mark.parametrize(
    "data",
    [
        PAIRS,
        tuple(PAIRS),
        generator(),
        DataLoader(TensorDataset(ROWS, LABELS), batch_size=4),
        [{"x": x, "labels": y} for x, y in PAIRS],
        [(x.numpy(), y.numpy()) for x, y in PAIRS],
        [[x, y] for x, y in PAIRS],
    ],
)
def test_iterables_give_their_own_batches(data: Any) -> None:
    batches, notes = prepare(AuditOptions(data=data), model(), None)
    # The last batch has 2 rows: its statistics are those of another batch size.
    assert notes == ("1 of 3 batches left out: they have 2 rows, the first has 4",)
    assert len(batches.items) == batches.info.batches == 2
    assert (batches.info.batch_size, batches.info.available) == (4, 8)
    for batch, (x, y) in zip(batches.items, PAIRS[:2], strict=True):
        assert batch.labels is not None
        assert batch.inputs[0].tolist() == x.tolist()
        assert batch.labels.tolist() == y.tolist()
    assert batches.labels_from == "the data loader"


def test_iterables_without_labels() -> None:
    for data in ([{"x": x} for x, _ in PAIRS], (x for x, _ in PAIRS), [(x,) for x, _ in PAIRS]):
        batches = made(data)
        assert batches.labels_from is None
        assert all(b.labels is None for b in batches.items)


def test_no_more_is_read_than_asked_for() -> None:
    seen = 0

    def endless() -> Iterator[torch.Tensor]:
        nonlocal seen
        while True:
            seen += 1
            yield ROWS

    assert len(made(endless(), batches=3).items) == seen == 3
    seen = 0
    assert len(made(endless()).items) == seen == 8


def test_labels_by_key_of_an_iterable_of_mappings() -> None:
    data = [{"x": x, "y": y} for x, y in PAIRS[:2]]
    assert made(data, labels="y").labels_from == "y"
    assert made(data).labels_from == "the data loader"
    unknown = [{"x": x, "answer": y} for x, y in PAIRS[:2]]
    with pytest.raises(DataError, match="array 'answer' is not an input"):
        made(unknown)
    with pytest.raises(DataError, match="no such key in every batch"):
        made([{"x": x} for x, _ in PAIRS], labels="y")


def test_mappings_with_names_of_the_datasets_own() -> None:
    for names in (("image", "label"), ("pixel_values", "labels"), ("features", "target")):
        batches, notes = prepare(
            AuditOptions(data=[dict(zip(names, pair, strict=True)) for pair in PAIRS[:2]]),
            model(),
            None,
        )
        assert notes == (f"the array {names[0]!r} was taken for 'x', the model's only input",)
        assert batches.names == ("x",)
        assert batches.items[0].inputs[0].tolist() == PAIRS[0][0].tolist()
        assert batches.items[1].labels is not None
        assert batches.items[1].labels.tolist() == PAIRS[1][1].tolist()
        assert made({names[0]: ROWS}).items[0].inputs[0].tolist() == ROWS.tolist()


def broken() -> Iterator[torch.Tensor]:
    yield ROWS
    raise ZeroDivisionError("in the user's code")


@pytest.mark.parametrize(
    ("data", "options", "fact"),
    [
        ([], {}, "gives no batch"),
        (iter(()), {}, "gives no batch"),
        (broken(), {}, r"failed after 1 batches \(ZeroDivisionError: in the user's code\)"),
        (PAIRS, {"labels": LABELS}, "labels beside an iterable"),
        (PAIRS, {"batch_size": 5}, "gives batches of 4, not 5"),
        (PAIRS, {"static": 3}, "at batch size 3 only, not 4"),
        ([(ROWS, 3)], {}, "labels of a batch are a single number"),
        ([("a", "b")], {}, "not real numbers"),
        ([{"x": ROWS, "extra": ROWS}], {}, "'extra' is not an input"),
        ([(ROWS, LABELS, LABELS)], {}, r"3 array\(s\) for 1 inputs"),
        ({"x": "text"}, {}, "x: holds <U4, not real numbers"),
        ({"x": np.array([None])}, {}, "x: holds object, not real numbers"),
        ({"x": ROWS.to("meta")}, {}, "meta tensor"),
        (ROWS.to_sparse(), {}, "sparse"),
        (7.0, {}, "has 0 dimensions"),
        ("", {}, "a folder without images"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(
    data: Any, options: dict[str, Any], fact: str
) -> None:
    with pytest.raises((DataError, UsageError), match=fact):
        made(data, **options)


def test_the_users_array_stays_as_it_is() -> None:
    rows = ROWS.numpy().copy()
    made(rows)
    assert rows.tolist() == ROWS.tolist()


STREAM = (
    InputSpec("frame", (1, 3, 8), "float32"),
    InputSpec("caches", (2, 1, 3), "float32"),
    InputSpec("state", (4, 1), "float32"),
)
"""One frame and what is carried from call to call, with the batch on the second axis."""


def stream(**changed: tuple[int, ...]) -> dict[str, torch.Tensor]:
    shapes = {spec.name: spec.shape for spec in STREAM} | changed
    return {name: torch.rand(shape) for name, shape in shapes.items()}  # type: ignore[arg-type]


def test_arrays_of_the_declared_shapes_are_one_batch() -> None:
    data = stream()
    batches = made(data, *STREAM, static=1, labels=torch.tensor([1]))
    (batch,) = batches.items
    assert [t.tolist() for t in batch.inputs] == [t.tolist() for t in data.values()]
    assert batch.labels is not None
    assert batch.labels.tolist() == [1]
    assert (batches.info.batches, batches.info.batch_size, batches.info.available) == (1, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 2}, "at batch size 1 only, not 2"),
        ({"batches": 3}, "the data has 1 rows, fewer than 3 x 1"),
    ],
)
def test_one_batch_is_not_more(options: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, DataError), match=message):
        made(stream(), *STREAM, static=1, **options)


def test_a_state_given_once_serves_all_rows() -> None:
    data = stream(frame=(5, 3, 8))
    batches = made(data, *STREAM, static=1)
    assert batches.info.batches == 5
    for row, batch in enumerate(batches.items):
        expected = [data["frame"][row : row + 1], data["caches"], data["state"]]
        assert all(map(torch.equal, batch.inputs, expected))


def test_other_shapes_are_no_batch() -> None:
    with pytest.raises(DataError):
        made(stream(caches=(3, 1, 3)), *STREAM, static=1)


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_feature_that_is_stuck_is_noted(value: float) -> None:
    rows = torch.randn(64, 12)
    spec = InputSpec("x", ("batch", 12), "float32")
    assert prepare(AuditOptions(data=rows), model(spec), None)[1] == ()
    rows[:, 3] = value
    (note,) = prepare(AuditOptions(data=rows), model(spec), None)[1]
    assert note.startswith(f"x: 1 of 12 columns are the same in all 64 rows: 3 ({value:.3g});")


def test_features_that_are_rare_by_nature_are_not() -> None:
    """A one-hot code of 40 values in 64 rows: some never occur."""
    spec = InputSpec("x", ("batch", 40), "float32")
    rows = torch.eye(40)[torch.arange(64) % 30]
    assert prepare(AuditOptions(data=rows), model(spec), None)[1] == ()
    few = torch.randn(8, 12)
    few[:, 3] = 0.0
    assert prepare(AuditOptions(data=few), model(InputSpec("x", ("batch", 12))), None)[1] == ()
