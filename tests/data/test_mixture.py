"""Rows in the order of their labels are told from mixed ones, whatever the size of the batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bnaudit.data.labels import sorted_by_label


def classes(count: int = 10) -> Tensor:
    return torch.randint(0, count, (512,), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [2, 4, 8, 32, 128])
@pytest.mark.parametrize("count", [2, 10, 100])
def test_mixed_classes(size: int, count: int) -> None:
    assert not sorted_by_label(classes(count).split(size))


@pytest.mark.parametrize("size", [2, 4, 8, 32])
def test_sorted_classes(size: int) -> None:
    assert sorted_by_label(classes().sort().values.split(size))


@pytest.mark.parametrize("size", [4, 32])
def test_numbers(size: int) -> None:
    values = torch.randn(512, 1, generator=torch.Generator().manual_seed(0))
    assert not sorted_by_label(values.split(size))
    assert sorted_by_label(values.sort(0).values.split(size))


def test_nothing_to_tell() -> None:
    assert not sorted_by_label([None, None])
    assert not sorted_by_label([torch.arange(8)])
    assert not sorted_by_label(torch.zeros(64, dtype=torch.long).split(8))
    assert not sorted_by_label(torch.full((64, 1), 3.0).split(8))
    assert not sorted_by_label(torch.full((64, 1), float("nan")).split(8))
