"""Cutting batches out of rows: how many, how large, and in which order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnaudit.data.batch import DEFAULT_BATCH_SIZE, DEFAULT_BATCHES, Samples, cut, places
from bnaudit.data.rows import Held, Listed
from bnaudit.errors import DataError, UsageError


def samples(rows: int, labels: bool = True) -> Samples:
    x = torch.arange(rows, dtype=torch.float32).unsqueeze(1)
    return Samples({"x": Held(x)}, Held(torch.arange(rows)) if labels else None, None, "tensor")


@given(
    rows=st.integers(1, 300),
    size=st.none() | st.integers(1, 40),
    batches=st.none() | st.integers(1, 12),
    static=st.none() | st.integers(1, 4),
)
def test_batches_are_whole_apart_and_as_many_as_asked(
    rows: int, size: int | None, batches: int | None, static: int | None
) -> None:
    if static is not None and size not in (None, static):
        with pytest.raises(UsageError, match=f"at batch size {static} only, not {size}"):
            cut(samples(rows), size, batches, static)
        return
    expected = size or static or min(DEFAULT_BATCH_SIZE, rows)
    count = batches or min(DEFAULT_BATCHES, rows // expected)
    if count == 0 or count * expected > rows:
        with pytest.raises(DataError, match=f"the data has {rows} rows, fewer than"):
            cut(samples(rows), size, batches, static)
        return
    made = cut(samples(rows), size, batches, static)
    assert len(made.items) == made.info.batches == count
    assert (made.info.batch_size, made.info.available) == (expected, rows)
    order: list[int] = []
    for batch in made.items:
        (x,) = batch.inputs
        assert batch.labels is not None
        assert x.shape == (expected, 1)
        assert x[:, 0].tolist() == batch.labels.tolist()
        order += [int(v) for v in batch.labels]
    assert len(set(order)) == count * expected
    assert set(order) <= set(range(rows))


@given(
    rows=st.integers(1, 500),
    size=st.integers(1, 20),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_rows_come_from_all_parts_of_the_data_alike(
    rows: int, size: int, share: float, seed: int
) -> None:
    count = int(share * (rows // size))
    made = places(rows, size, count, seed)
    assert [len(place) for place in made] == [size] * count
    assert all(torch.equal(place, place.sort().values) for place in made)
    taken = torch.cat(made).sort().values if made else torch.zeros(0)
    n = size * count
    for i, row in enumerate(taken.tolist()):  # one from each of n equal stretches
        assert i * rows // n <= row < (i + 1) * rows // n
    again = places(rows, size, count, seed)
    assert all(torch.equal(a, b) for a, b in zip(made, again, strict=True))


def test_sorted_rows_give_mixed_batches_and_the_first_are_a_sample_of_all() -> None:
    made = places(10_000, 32, 100, 0)
    for place in made[:8]:
        assert 3_000 < float(place.double().mean()) < 7_000  # 5000 +- 4 * 2887 / sqrt(32)
    assert not torch.equal(made[0], places(10_000, 32, 100, 1)[0])


def test_scalars_are_shared_by_all_batches() -> None:
    rows = Samples(
        {"x": Held(torch.zeros(4, 2)), "scale": Held(torch.tensor(3.0))}, None, None, "tensor"
    )
    made = cut(rows, 2, None, None)
    assert [b.inputs[1].item() for b in made.items] == [3.0, 3.0]
    assert all(b.labels is None for b in made.items)


def test_arrays_of_different_length_are_refused() -> None:
    rows = Samples(
        {"a": Held(torch.zeros(4, 2)), "b": Held(torch.zeros(5))},
        Held(torch.zeros(4)),
        None,
        "tensor",
    )
    with pytest.raises(DataError, match=r"different numbers of rows \(a 4, b 5, labels 4\)"):
        cut(rows, None, None, None)


@pytest.mark.usefixtures("in_order")
def test_labels_that_are_no_array_go_with_their_rows() -> None:
    boxes = [{"boxes": n} for n in range(6)]
    made = cut(Samples({"x": Held(torch.zeros(6, 2))}, Listed(boxes), None, "tensor"), 2, 3, None)
    assert [b.labels for b in made.items] == [boxes[0:2], boxes[2:4], boxes[4:6]]


def test_nothing_to_cut_is_told() -> None:
    with pytest.raises(DataError, match="the data has no rows"):
        cut(samples(0), None, None, None)
    with pytest.raises(DataError, match="a single number"):
        cut(
            Samples({"x": Held(torch.zeros(4, 2))}, Held(torch.tensor(1)), None, "tensor"),
            None,
            None,
            None,
        )
